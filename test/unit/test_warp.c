/*
 * test_warp.c
 *		Resampling, judged by slow double-precision references that integrate over
 *		the source's pixels, and the algebra of affine maps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../src/vision/warp.h"
#include "pictures.h"

static fa_image
new_image(int width, int height)
{
	fa_image image;
	fa_error error;

	assert_int_equal(fa_image_alloc(&image, width, height, &error), FA_OK);
	return image;
}

/* Noise, or noise on ramps that aliasing would not show on. */
static fa_image
noise(int width, int height, uint64_t seed, bool smooth)
{
	fa_image image = new_image(width, height);

	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			for (int c = 0; c < 3; c++)
				image.pixels[(size_t) y * image.stride + 3 * (size_t) x + c] =
					(uint8_t) (smooth ? picture_value(x, y, c, width, height)
									  : (int) (random_u32(&seed) & 255));
	return image;
}

/* The pixel with edges repeated. */
static double
at(const fa_image *image, int x, int y, int c)
{
	x = x < 0 ? 0 : x >= image->width ? image->width - 1 : x;
	y = y < 0 ? 0 : y >= image->height ? image->height - 1 : y;
	return image->pixels[(size_t) y * image->stride + 3 * (size_t) x + c];
}

static double
bilinear(const fa_image *image, double x, double y, int c)
{
	int left = (int) floor(x - 0.5), top = (int) floor(y - 0.5);
	double u = x - 0.5 - left, v = y - 0.5 - top;

	return (at(image, left, top, c) * (1 - u) + at(image, left + 1, top, c) * u) * (1 - v) +
		   (at(image, left, top + 1, c) * (1 - u) + at(image, left + 1, top + 1, c) * u) * v;
}

/* What input k of an axis counts in output i: its share of the area, or of the interpolation. */
static double
axis_weight(int k, int i, int from, int to)
{
	double ratio = (double) from / to;

	if (ratio > 1)
		return fmax(fmin(k + 1, (i + 1) * ratio) - fmax(k, i * ratio), 0) / ratio;
	/* a hat over the clamped centre */
	return fmax(1 - fabs(fmin(fmax((i + 0.5) * ratio, 0.5), from - 0.5) - (k + 0.5)), 0);
}

static void
letterbox_against_the_reference(void **state)
{
	static const int sizes[][4] = {
		{64, 48, 32, 24},  {64, 48, 31, 23}, {37, 51, 36, 50}, {37, 51, 1, 1},    {5, 7, 23, 41},
		{1, 1, 9, 4},      {50, 20, 20, 50}, {1, 40, 3, 7},    {100, 3, 7, 3},    {90, 70, 89, 70},
		{300, 200, 13, 9}, {40, 30, 80, 60}, {2, 2, 3, 3},     {640, 33, 639, 32}};

	(void) state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		int from_w = sizes[i][0], from_h = sizes[i][1], to_w = sizes[i][2], to_h = sizes[i][3];
		fa_image source = noise(from_w, from_h, i + 1, false);
		fa_image scaled = new_image(to_w + 5, to_h + 3);
		fa_error error;

		assert_int_equal(fa_letterbox(&source, to_w, to_h, &scaled, 114, &error), FA_OK);
		for (int y = 0; y < scaled.height; y++)
			for (int x = 0; x < scaled.width; x++)
				for (int c = 0; c < 3; c++)
				{
					double expected = 0;

					if (x < to_w && y < to_h)
						for (int v = 0; v < from_h; v++)
						{
							double down = axis_weight(v, y, from_h, to_h);

							for (int u = 0; down > 0 && u < from_w; u++)
								expected +=
									down * axis_weight(u, x, from_w, to_w) * at(&source, u, v, c);
						}
					else
						expected = 114;
					if (fabs(at(&scaled, x, y, c) - expected) > 0.51)
						fail_msg("%dx%d to %dx%d: (%d, %d) is %g, not %g", from_w, from_h, to_w,
								 to_h, x, y, at(&scaled, x, y, c), expected);
				}
		fa_image_free(&source);
		fa_image_free(&scaled);
	}
}

static void
letterbox_of_the_same_size_copies(void **state)
{
	fa_image source = noise(33, 21, 4, false), copy = new_image(33, 21);
	fa_error error;

	(void) state;
	assert_int_equal(fa_letterbox(&source, 33, 21, &copy, 0, &error), FA_OK);
	assert_memory_equal(source.pixels, copy.pixels, 21 * source.stride);
	assert_int_equal(fa_letterbox(&source, 34, 21, &copy, 0, &error), FA_INVALID);
	assert_int_equal(fa_letterbox(&source, 33, 22, &copy, 0, &error), FA_INVALID);
	assert_int_equal(fa_letterbox(&source, 0, 5, &copy, 0, &error), FA_INVALID);
	fa_image_free(&source);
	fa_image_free(&copy);
}

static void
white_stays_white(void **state)
{
	fa_image source = new_image(1279, 961), scaled = new_image(640, 640);
	fa_affine map = {.a = 1.9, .b = -1.3, .c = 100, .d = 1.3, .e = 1.9, .f = 3};
	fa_error error;

	(void) state;
	memset(source.pixels, 255, 961 * source.stride);
	for (int width = 1; width <= 640; width += 71)
	{
		assert_int_equal(fa_letterbox(&source, width, 640, &scaled, 255, &error), FA_OK);
		for (size_t i = 0; i < 640 * scaled.stride; i++)
			assert_int_equal(scaled.pixels[i], 255);
	}
	assert_int_equal(fa_warp(&source, map, &scaled, &error), FA_OK);
	for (size_t i = 0; i < 640 * scaled.stride; i++)
		assert_int_equal(scaled.pixels[i], 255);
	fa_image_free(&source);
	fa_image_free(&scaled);
}

static fa_affine
similarity(double scale, double angle, double x, double y)
{
	return (fa_affine){.a = scale * cos(angle),
					   .b = -scale * sin(angle),
					   .c = x,
					   .d = scale * sin(angle),
					   .e = scale * cos(angle),
					   .f = y};
}

/* Up to scale 1 a warp is the bilinear value at each centre, far outside too. */
static void
warp_interpolates(void **state)
{
	fa_image source = noise(70, 50, 9, false), seen = new_image(61, 47);
	uint64_t seed = 17;
	fa_error error;

	(void) state;
	for (int i = 0; i < 200; i++)
	{
		double scale = 0.05 + random_u32(&seed) % 951 / 1000.0;
		fa_affine map =
			similarity(scale, random_u32(&seed) % 6283 / 1000.0,
					   (int) (random_u32(&seed) % 300) - 150, random_u32(&seed) % 1000 / 10.0 - 50);

		assert_int_equal(fa_warp(&source, map, &seen, &error), FA_OK);
		for (int y = 0; y < seen.height; y++)
			for (int x = 0; x < seen.width; x++)
			{
				double u, v;

				fa_affine_apply(map, x + 0.5, y + 0.5, &u, &v);
				for (int c = 0; c < 3; c++)
					if (fabs(at(&seen, x, y, c) - bilinear(&source, u, v, c)) > 0.51)
						fail_msg("warp %d: (%d, %d) is %g, not %g", i, x, y, at(&seen, x, y, c),
								 bilinear(&source, u, v, c));
			}
	}
	fa_image_free(&source);
	fa_image_free(&seen);
}

/*
 * Beyond scale 1 it is the average of what an output pixel covers. The judge
 * integrates the bilinear surface with 32 x 32 samples. On noise, the worst of
 * pictures, n x n samples differ from that by a few grey levels; a single
 * sample would by some 30.
 */
static void
warp_averages(void **state)
{
	fa_image rough = noise(150, 130, 21, false), smooth = noise(150, 130, 22, true);
	fa_image seen = new_image(29, 23);
	uint64_t seed = 5;
	fa_error error;

	(void) state;
	for (int i = 0; i < 40; i++)
	{
		double scale = 1.05 + random_u32(&seed) % 1000 / 200.0;
		fa_affine map = similarity(scale, random_u32(&seed) % 6283 / 1000.0,
								   random_u32(&seed) % 150, random_u32(&seed) % 130);
		const fa_image *source = i % 2 == 0 ? &rough : &smooth;
		double squares = 0, worst = 0, count = 0;

		assert_int_equal(fa_warp(source, map, &seen, &error), FA_OK);
		for (int y = 0; y < seen.height; y++)
			for (int x = 0; x < seen.width; x++)
				for (int c = 0; c < 3; c++)
				{
					double sum = 0, off;

					for (int j = 0; j < 32; j++)
						for (int k = 0; k < 32; k++)
						{
							double u, v;

							fa_affine_apply(map, x + (k + 0.5) / 32, y + (j + 0.5) / 32, &u, &v);
							sum += bilinear(source, u, v, c);
						}
					off = at(&seen, x, y, c) - sum / 1024;
					squares += off * off;
					worst = fmax(worst, fabs(off));
					count++;
				}
		if (source == &smooth ? worst > 0.8 : sqrt(squares / count) > 7)
			fail_msg("scale %g: off by %g, at worst %g", scale, sqrt(squares / count), worst);
	}
	fa_image_free(&rough);
	fa_image_free(&smooth);
	fa_image_free(&seen);
}

/* Axis-parallel and by whole numbers, both ways of shrinking mean the same on a ramp. */
static void
warp_and_letterbox_agree(void **state)
{
	fa_image source = noise(120, 90, 1, true), warped = new_image(40, 30),
			 boxed = new_image(40, 30);
	fa_error error;

	(void) state;
	assert_int_equal(fa_warp(&source, (fa_affine){.a = 3, .e = 3}, &warped, &error), FA_OK);
	assert_int_equal(fa_letterbox(&source, 40, 30, &boxed, 0, &error), FA_OK);
	for (int y = 0; y < 30; y++)
		for (int x = 0; x < 40; x++)
			for (int c = 0; c < 3; c++)
				assert_true(fabs(at(&warped, x, y, c) - at(&boxed, x, y, c)) <= 1);
	fa_image_free(&source);
	fa_image_free(&warped);
	fa_image_free(&boxed);
}

static void
small_sources_and_wild_maps(void **state)
{
	fa_image seen = new_image(16, 16);
	fa_error error;

	(void) state;
	for (int width = 1; width <= 4; width++)
		for (int height = 1; height <= 4; height++)
		{
			fa_image source = noise(width, height, (uint64_t) width * 5 + height, false);

			for (int i = 0; i < 40; i++)
			{
				fa_affine map = similarity(0.01 + i * 0.05, i, i % 7 - 2, i % 5 - 2);

				assert_int_equal(fa_warp(&source, map, &seen, &error), FA_OK);
			}
			assert_int_equal(
				fa_warp(&source, (fa_affine){.a = 1e7, .e = 1e7, .c = -8e7}, &seen, &error), FA_OK);
			assert_int_equal(fa_warp(&source, (fa_affine){0}, &seen, &error), FA_OK);
			assert_true(at(&seen, 7, 7, 0) == at(&source, 0, 0, 0));
			assert_int_equal(fa_warp(&source, (fa_affine){.a = 1, .c = NAN}, &seen, &error),
							 FA_INVALID);
			assert_int_equal(fa_warp(&source, (fa_affine){.a = INFINITY}, &seen, &error),
							 FA_INVALID);
			assert_int_equal(
				fa_warp(&source, (fa_affine){.a = 1, .e = 1, .f = -1e10}, &seen, &error),
				FA_INVALID);
			fa_image_free(&source);
		}
	fa_image_free(&seen);
}

static void
affine_algebra(void **state)
{
	fa_affine f = {2, 0.5, -3, -1, 1.5, 7}, g = {0.3, -2, 11, 4, 0.1, -5};
	double x, y, u, v;

	(void) state;
	fa_affine_apply(g, 3, -4, &x, &y);
	assert_true(fabs(x - (0.3 * 3 + 2 * 4 + 11)) < 1e-12 && fabs(y - (12 - 0.4 - 5)) < 1e-12);
	fa_affine_apply(f, x, y, &u, &v);
	fa_affine_apply(fa_affine_compose(f, g), 3, -4, &x, &y);
	assert_true(fabs(x - u) < 1e-12 && fabs(y - v) < 1e-12);
}

static double
error_of(fa_affine map, const double (*from)[2], const double (*to)[2], int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
	{
		double x, y;

		fa_affine_apply(map, from[i][0], from[i][1], &x, &y);
		sum += (x - to[i][0]) * (x - to[i][0]) + (y - to[i][1]) * (y - to[i][1]);
	}
	return sum;
}

static void
similarity_transforms(void **state)
{
	uint64_t seed = 99;

	(void) state;
	for (int i = 0; i < 200; i++)
	{
		double from[5][2], to[5][2], best;
		fa_affine truth = similarity(0.1 + i * 0.05, i * 0.7, i - 50, 3 * i), map = {0};
		double *parameters[] = {&map.a, &map.d, &map.c, &map.f};

		for (int k = 0; k < 5; k++)
		{
			from[k][0] = random_u32(&seed) % 1000 / 10.0;
			from[k][1] = random_u32(&seed) % 1000 / 10.0;
			fa_affine_apply(truth, from[k][0], from[k][1], &to[k][0], &to[k][1]);
		}
		/* exact points give the map back, from two of them on */
		for (int n = 2; n <= 5; n++)
		{
			assert_true(fa_similarity_transform((const double(*)[2]) from, (const double(*)[2]) to,
												n, &map));
			assert_true(fabs(map.a - truth.a) < 1e-6 && fabs(map.b - truth.b) < 1e-6 &&
						fabs(map.c - truth.c) < 1e-4 && fabs(map.d - truth.d) < 1e-6 &&
						fabs(map.e - truth.e) < 1e-6 && fabs(map.f - truth.f) < 1e-4);
		}
		/* disturbed ones give a similarity that no small change of it betters */
		for (int k = 0; k < 5; k++)
			to[k][0] += random_u32(&seed) % 100 / 10.0 - 5;
		assert_true(
			fa_similarity_transform((const double(*)[2]) from, (const double(*)[2]) to, 5, &map));
		assert_true(map.a == map.e && map.b == -map.d);
		best = error_of(map, (const double(*)[2]) from, (const double(*)[2]) to, 5);
		for (int p = 0; p < 4; p++)
			for (int sign = -1; sign <= 1; sign += 2)
			{
				double kept = *parameters[p];

				*parameters[p] += sign * (p < 2 ? 1e-3 : 0.05);
				map.e = map.a;
				map.b = -map.d;
				assert_true(error_of(map, (const double(*)[2]) from, (const double(*)[2]) to, 5) >
							best);
				*parameters[p] = kept;
				map.e = map.a;
				map.b = -map.d;
			}
	}
	{
		const double same[3][2] = {{4, 5}, {4, 5}, {4, 5}}, line[3][2] = {{0, 0}, {1, 0}, {2, 0}};
		const double bad[3][2] = {{0, NAN}, {1, 0}, {2, 0}};
		fa_affine map;

		assert_false(fa_similarity_transform(same, line, 3, &map));
		assert_false(fa_similarity_transform(line, same, 3, &map));
		assert_false(fa_similarity_transform(bad, line, 3, &map));
		assert_false(fa_similarity_transform(line, bad, 3, &map));
		assert_false(fa_similarity_transform(line, line, 1, &map));
		assert_false(fa_similarity_transform(line, line, 0, &map));
		assert_true(fa_similarity_transform(line, line, 3, &map));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(letterbox_against_the_reference),
		cmocka_unit_test(letterbox_of_the_same_size_copies),
		cmocka_unit_test(white_stays_white),
		cmocka_unit_test(warp_interpolates),
		cmocka_unit_test(warp_averages),
		cmocka_unit_test(warp_and_letterbox_agree),
		cmocka_unit_test(small_sources_and_wild_maps),
		cmocka_unit_test(affine_algebra),
		cmocka_unit_test(similarity_transforms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
