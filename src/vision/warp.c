/*
 * warp.c
 *		Affine maps, and images seen through them: the aligned crops of faces, at
 *		use and in training.
 */
#include "warp.h"

#include <math.h>
#include <string.h>

typedef float pixel4 __attribute__((vector_size(16)));
typedef int32_t pixel4i __attribute__((vector_size(16)));
typedef uint8_t bytes4 __attribute__((vector_size(4)));

#define FAST __attribute__((target_clones("avx2", "default")))

#define FRACTION_BITS 32
#define MAX_COORDINATE 1e9 /* of a sample: fits the fixed point with room to add */
#define MAX_SAMPLES 64     /* to a side of an output pixel */

fa_affine
fa_affine_compose(fa_affine outer, fa_affine inner)
{
	return (fa_affine){
		.a = outer.a * inner.a + outer.b * inner.d,
		.b = outer.a * inner.b + outer.b * inner.e,
		.c = outer.a * inner.c + outer.b * inner.f + outer.c,
		.d = outer.d * inner.a + outer.e * inner.d,
		.e = outer.d * inner.b + outer.e * inner.e,
		.f = outer.d * inner.c + outer.e * inner.f + outer.f,
	};
}

void
fa_affine_apply(fa_affine map, double x, double y, double *out_x, double *out_y)
{
	*out_x = map.a * x + map.b * y + map.c;
	*out_y = map.d * x + map.e * y + map.f;
}

/*
 * With both sets of points centred, the best a = s cos t and b = s sin t of
 * Umeyama's problem, reflections excluded, are the projections of `to` on
 * `from` and on `from` turned by 90 degrees (two dimensions need no SVD).
 */
bool
fa_similarity_transform(const double (*from)[2], const double (*to)[2], int n, fa_affine *map)
{
	double from_x = 0, from_y = 0, to_x = 0, to_y = 0, spread = 0, along = 0, turned = 0;
	double a, b;

	for (int i = 0; i < n; i++)
	{
		from_x += from[i][0] / n;
		from_y += from[i][1] / n;
		to_x += to[i][0] / n;
		to_y += to[i][1] / n;
	}
	for (int i = 0; i < n; i++)
	{
		double x = from[i][0] - from_x, y = from[i][1] - from_y;
		double u = to[i][0] - to_x, v = to[i][1] - to_y;

		spread += x * x + y * y;
		along += x * u + y * v;
		turned += x * v - y * u;
	}
	a = along / spread;
	b = turned / spread;
	if (n < 2 || !isfinite(a) || !isfinite(b) || (a == 0 && b == 0))
		return false;
	*map = (fa_affine){
		.a = a,
		.b = -b,
		.c = to_x - a * from_x + b * from_y,
		.d = b,
		.e = a,
		.f = to_y - b * from_x - a * from_y,
	};
	return isfinite(map->c) && isfinite(map->f);
}

static inline pixel4
load_pixel(const uint8_t *at)
{
	bytes4 bytes;

	memcpy(&bytes, at, sizeof(bytes));
	return __builtin_convertvector(bytes, pixel4);
}

/* A pixel with the edges repeated. */
static inline pixel4
edge_pixel(const fa_image *image, int64_t x, int64_t y)
{
	const uint8_t *at;

	x = x < 0 ? 0 : x < image->width ? x : image->width - 1;
	y = y < 0 ? 0 : y < image->height ? y : image->height - 1;
	at = image->pixels + (size_t) y * image->stride + 3 * (size_t) x;
	return (pixel4){at[0], at[1], at[2], 0};
}

/*
 * The bilinear value at (x, y), fixed point, counted from the centre of the
 * first pixel. `safe_*`: below these whole pixels all four can be loaded as four
 * bytes each.
 */
static inline pixel4
sample(const fa_image *image, int64_t x, int64_t y, int64_t safe_x, int64_t safe_y)
{
	int64_t left = x >> FRACTION_BITS, top = y >> FRACTION_BITS;
	float across = (float) (uint32_t) x * 0x1p-32f, down = (float) (uint32_t) y * 0x1p-32f;
	pixel4 p00, p01, p10, p11, upper, lower;

	if ((uint64_t) left < (uint64_t) safe_x && (uint64_t) top < (uint64_t) safe_y)
	{
		const uint8_t *at = image->pixels + (size_t) top * image->stride + 3 * (size_t) left;

		p00 = load_pixel(at);
		p01 = load_pixel(at + 3);
		p10 = load_pixel(at + image->stride);
		p11 = load_pixel(at + image->stride + 3);
	}
	else
	{
		p00 = edge_pixel(image, left, top);
		p01 = edge_pixel(image, left + 1, top);
		p10 = edge_pixel(image, left, top + 1);
		p11 = edge_pixel(image, left + 1, top + 1);
	}
	upper = p00 + (p01 - p00) * across;
	lower = p10 + (p11 - p10) * across;
	return upper + (lower - upper) * down;
}

static int64_t
fixed(double value)
{
	return llround(value * 0x1p32);
}

/*
 * One row of output: the mean of n x n samples, evenly spread over each pixel.
 * (x, y): the first sample of the first pixel; (dx, dy), (ex, ey): from sample to
 * sample along the row and down.
 */
FAST static void
warp_row(const fa_image *source, uint8_t *row, int width, int n, int64_t x, int64_t y, int64_t dx,
		 int64_t dy, int64_t ex, int64_t ey)
{
	int64_t safe_x = source->width - 2, safe_y = source->height - 1;
	float share = 1.0f / (float) (n * n);

	if (safe_x < 0)
		safe_x = 0;
	for (int column = 0; column < width; column++, row += 3)
	{
		pixel4 sum = {0, 0, 0, 0};
		pixel4i value;

		for (int i = 0; i < n; i++, x += dx, y += dy)
			for (int j = 0; j < n; j++)
				sum += sample(source, x + j * ex, y + j * ey, safe_x, safe_y);
		value = __builtin_convertvector(sum * share + 0.5f, pixel4i);
		row[0] = (uint8_t) value[0];
		row[1] = (uint8_t) value[1];
		row[2] = (uint8_t) value[2];
	}
}

fa_status
fa_warp_samples(fa_affine map, int width, int height, int *samples, fa_error *error)
{
	/* how long the larger side of an output pixel is in the source */
	double scale = fmax(hypot(map.a, map.d), hypot(map.b, map.e));

	for (int corner = 0; corner < 4; corner++)
	{
		double x, y;

		fa_affine_apply(map, corner & 1 ? width : 0, corner & 2 ? height : 0, &x, &y);
		if (!(fabs(x) < MAX_COORDINATE && fabs(y) < MAX_COORDINATE))
			return fa_fail(error, FA_INVALID, "an image cannot be warped that far");
	}
	/* samples no further apart than the source's pixels; the slack is rounding's */
	*samples = 1;
	if (scale > 1 + 1e-6)
		*samples = scale < MAX_SAMPLES ? (int) ceil(scale - 1e-6) : MAX_SAMPLES;
	return FA_OK;
}

fa_status
fa_warp(const fa_image *source, fa_affine map, fa_image *destination, fa_error *error)
{
	int n;

	FA_TRY(fa_warp_samples(map, destination->width, destination->height, &n, error));
	for (int row = 0; row < destination->height; row++)
	{
		double x, y;

		fa_affine_apply(map, 0.5 / n, row + 0.5 / n, &x, &y);
		warp_row(source, destination->pixels + (size_t) row * destination->stride,
				 destination->width, n, fixed(x - 0.5), fixed(y - 0.5), fixed(map.a / n),
				 fixed(map.d / n), fixed(map.b / n), fixed(map.e / n));
	}
	return FA_OK;
}
