/*
 * augment.c
 *		Augmentation of face chips; see augment.h. One warp does all the geometry,
 *		tables of 256 values all that acts on single channels.
 */
#include "augment.h"

#include "../src/vision/photo.h"
#include "../src/vision/warp.h"

#include <stdlib.h>
#include <string.h>

#define DEGREE 0.017453292519943295

/* The map from the crop's pixels to the chip's: shift, scale, rotation, mirror. */
static fa_affine
random_pose(const fa_image *chip, int size, double strength, fa_random *random)
{
	bool large = fa_random_chance(random, 0.1); /* a bad detection now and then */
	double angle = fa_random_normal(random, large ? 12 : 4) * strength * DEGREE;
	double scale = exp(fa_random_normal(random, large ? 0.12 : 0.05) * strength);
	double dx = fa_random_normal(random, large ? 0.06 : 0.025) * strength;
	double dy = fa_random_normal(random, large ? 0.06 : 0.025) * strength;
	double mirror = fa_random_chance(random, strength > 0 ? 0.5 : 0) ? -1 : 1;
	double sx = chip->width * scale / size, sy = chip->height * scale / size;
	double c = cos(angle), s = sin(angle);
	fa_affine to_centre = {1, 0, -size / 2.0, 0, 1, -size / 2.0};
	fa_affine turn = {c * sx * mirror, -s * sx, 0, s * sy * mirror, c * sy, 0};
	fa_affine from_centre = {1, 0, chip->width * (0.5 + dx), 0, 1, chip->height * (0.5 + dy)};

	return fa_affine_compose(from_centre, fa_affine_compose(turn, to_centre));
}

static void
random_colour(fa_random *random, double *colour)
{
	static const double usual[4][3] = {
		{235, 238, 240}, {120, 170, 210}, {30, 30, 35}, {200, 200, 205}};
	const double *base = usual[fa_random_below(random, 4)];

	for (int c = 0; c < 3; c++)
		colour[c] = fa_random_chance(random, 0.3) ? fa_random_between(random, 0, 255)
												  : base[c] + fa_random_normal(random, 12);
}

static uint8_t
to_byte(double value)
{
	return value < 0 ? 0 : value > 255 ? 255 : (uint8_t) (value + 0.5);
}

/*
 * A surgical mask: from the bridge of the nose down to below the chin, rounded at
 * the bottom, folds across, light from above. Fractions of UTKFace's frame, where
 * the eyes are at 0.29 and the mouth at 0.68 of the height.
 */
static void
draw_mask(fa_image *image, fa_random *random)
{
	double top = fa_random_between(random, 0.42, 0.58),
		   bottom = fa_random_between(random, 0.88, 1.1);
	double half = fa_random_between(random, 0.30, 0.42), centre = 0.495;
	double folds = fa_random_between(random, 0, 60), tilt = fa_random_normal(random, 0.03);
	double colour[3];

	random_colour(random, colour);
	for (int y = 0; y < image->height; y++)
		for (int x = 0; x < image->width; x++)
		{
			double u = (x + 0.5) / image->width - centre;
			double v = (y + 0.5) / image->height - tilt * u * 4;
			/* the upper edge rises towards the nose, the lower one towards the ears */
			double edge = top + 0.25 * u * u * 4 - 0.02;
			double chin = bottom - 1.3 * u * u;
			uint8_t *pixel = image->pixels + y * image->stride + 3 * (size_t) x;

			if (fabs(u) > half || v < edge || v > chin)
				continue;
			for (int c = 0; c < 3; c++)
				pixel[c] = to_byte(colour[c] * (1.05 - 0.35 * (v - top) - 0.5 * u * u) +
								   6 * sin(v * folds));
		}
}

/* Sunglasses: two dark ovals and a bridge. */
static void
draw_glasses(fa_image *image, fa_random *random)
{
	double shade = fa_random_between(random, 0, 70), width = fa_random_between(random, 0.13, 0.19);
	double height = fa_random_between(random, 0.07, 0.13),
		   y0 = fa_random_between(random, 0.28, 0.33);

	for (int y = 0; y < image->height; y++)
		for (int x = 0; x < image->width; x++)
		{
			double u = (x + 0.5) / image->width, v = (y + 0.5) / image->height - y0;
			double left = (u - 0.3) / width, right = (u - 0.685) / width, down = v / height;
			bool inside = left * left * left * left + down * down < 1 ||
						  right * right * right * right + down * down < 1;
			bool bridge = fabs(v + height * 0.3) < 0.015 && u > 0.3 && u < 0.68;
			uint8_t *pixel = image->pixels + y * image->stride + 3 * (size_t) x;

			if (inside || bridge)
				for (int c = 0; c < 3; c++)
					pixel[c] = to_byte(shade + 0.15 * pixel[c]);
		}
}

/* Random erasing (Zhong et al. 2020): a rectangle of noise or of one colour. */
static void
erase(fa_image *image, fa_random *random)
{
	double area = fa_random_between(random, 0.02, 0.2), ratio = exp(fa_random_normal(random, 0.5));
	int w = (int) (sqrt(area * ratio) * image->width) + 1;
	int h = (int) (sqrt(area / ratio) * image->height) + 1;
	int x0 = (int) (fa_random_uniform(random) * image->width) - w / 2;
	int y0 = (int) (fa_random_uniform(random) * image->height) - h / 2;
	bool noise = fa_random_chance(random, 0.3);
	double colour[3];

	random_colour(random, colour);
	for (int y = y0 < 0 ? 0 : y0; y < y0 + h && y < image->height; y++)
		for (int x = x0 < 0 ? 0 : x0; x < x0 + w && x < image->width; x++)
			for (int c = 0; c < 3; c++)
				image->pixels[y * image->stride + 3 * (size_t) x + c] =
					noise ? (uint8_t) fa_random_next(random) : to_byte(colour[c]);
}

/* Brightness, contrast, gamma and white balance as a table per channel. */
static void
change_light(fa_image *image, double strength, fa_random *random)
{
	uint8_t table[3][256];
	double contrast = exp(fa_random_normal(random, 0.2) * strength);
	double gamma = exp(fa_random_normal(random, 0.25) * strength);
	double brightness = fa_random_normal(random, 18) * strength;

	for (int c = 0; c < 3; c++)
	{
		double gain = exp(fa_random_normal(random, 0.06) * strength);

		for (int i = 0; i < 256; i++)
			table[c][i] =
				to_byte((255 * pow(i / 255.0, gamma) * gain - 128) * contrast + 128 + brightness);
	}
	for (int y = 0; y < image->height; y++)
	{
		uint8_t *p = image->pixels + y * image->stride;

		for (int x = 0; x < image->width; x++, p += 3)
		{
			p[0] = table[0][p[0]];
			p[1] = table[1][p[1]];
			p[2] = table[2][p[2]];
		}
	}
}

/* saturation 0: grey (Rec. 601 luma), 1: unchanged. */
static void
saturate(fa_image *image, double saturation)
{
	for (int y = 0; y < image->height; y++)
	{
		uint8_t *p = image->pixels + y * image->stride;

		for (int x = 0; x < image->width; x++, p += 3)
		{
			float grey = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];

			for (int c = 0; c < 3; c++)
			{
				float value = grey + (float) saturation * (p[c] - grey);

				p[c] = value < 0 ? 0 : value > 255 ? 255 : (uint8_t) (value + 0.5f);
			}
		}
	}
}

/* Three passes of a box come close to a Gaussian; here by shrinking and enlarging lines. */
static fa_status
blur(fa_image *image, int radius, fa_error *error)
{
	int longer = image->width > image->height ? image->width : image->height;
	uint8_t *line = malloc(3 * (size_t) longer);

	if (line == NULL)
		return fa_no_memory(error, 3 * (size_t) longer);
	for (int axis = 0; axis < 4; axis++) /* across, down, and both again */
	{
		int n = axis % 2 == 0 ? image->width : image->height;
		int lines = axis % 2 == 0 ? image->height : image->width;
		size_t step = axis % 2 == 0 ? 3 : image->stride;
		size_t next = axis % 2 == 0 ? image->stride : 3;

		for (int k = 0; k < lines; k++)
		{
			uint8_t *p = image->pixels + k * next;
			int window = 2 * radius + 1, sum[3];

			for (int i = 0; i < n; i++)
				memcpy(line + 3 * i, p + i * step, 3);
			for (int c = 0; c < 3; c++)
			{
				sum[c] = 0;
				for (int i = -radius; i <= radius; i++)
					sum[c] += line[3 * (i < 0 ? 0 : i >= n ? n - 1 : i) + c];
			}
			for (int i = 0; i < n; i++)
				for (int c = 0; c < 3; c++)
				{
					int in = i + radius + 1 >= n ? n - 1 : i + radius + 1;
					int out = i - radius < 0 ? 0 : i - radius;

					p[i * step + c] = (uint8_t) ((sum[c] + window / 2) / window);
					sum[c] += line[3 * in + c] - line[3 * out + c];
				}
		}
	}
	free(line);
	return FA_OK;
}

static void
add_noise(fa_image *image, double deviation, fa_random *random)
{
	/* the sum of four bytes is close enough to a normal distribution */
	float scale = (float) (deviation / 147.8);

	for (int y = 0; y < image->height; y++)
	{
		uint8_t *p = image->pixels + y * image->stride;

		for (int i = 0; i < 3 * image->width; i += 2)
		{
			uint64_t bits = fa_random_next(random);

			for (int k = 0; k < 2 && i + k < 3 * image->width; k++)
			{
				uint32_t half = (uint32_t) (bits >> 32 * k);
				int sum =
					(int) ((half & 255) + (half >> 8 & 255) + (half >> 16 & 255) + (half >> 24)) -
					510;

				p[i + k] = to_byte(p[i + k] + scale * sum);
			}
		}
	}
}

static fa_status
compress(fa_image *image, int quality, fa_error *error)
{
	uint8_t *bytes;
	size_t length;
	fa_photo photo;
	fa_view view = {0};
	fa_status status =
		fa_photo_encode(image, FA_FORMAT_JPEG, quality, &bytes, &length, NULL, error);

	if (status != FA_OK)
		return status;
	status = fa_photo_open(&photo, bytes, length, INT64_MAX, error);
	if (status == FA_OK)
		status = fa_photo_decode(&photo, 8, &view, NULL, error);
	for (int y = 0; y < image->height && status == FA_OK; y++)
		memcpy(image->pixels + y * image->stride, view.image.pixels + y * view.image.stride,
			   3 * (size_t) image->width);
	fa_image_free(&view.image);
	free(bytes);
	return status;
}

/* The warp, by way of a small image where the face is to look far away. */
static fa_status
place(const fa_image *chip, double strength, fa_random *random, fa_image *crop, fa_error *error)
{
	fa_image small;
	bool far = fa_random_chance(random, 0.22 * strength);
	int size = far ? (int) exp(fa_random_between(random, log(14), log(96))) : crop->width;
	fa_status status;

	if (!far)
		return fa_warp(chip, random_pose(chip, size, strength, random), crop, error);
	FA_TRY(fa_image_alloc(&small, size, size, error));
	status = fa_warp(chip, random_pose(chip, size, strength, random), &small, error);
	if (status == FA_OK && fa_random_chance(random, 0.3))
		status = compress(&small, (int) fa_random_between(random, 30, 95), error);
	if (status == FA_OK)
		status = fa_letterbox(&small, crop->width, crop->height, crop, 0, error);
	fa_image_free(&small);
	return status;
}

fa_status
fa_augment(const fa_image *chip, double strength, bool covered, fa_random *random, fa_image *crop,
		   fa_error *error)
{
	fa_image drawn = {0};
	const fa_image *source = chip;
	double p = strength;

	if (covered && fa_random_chance(random, 0.08 * p))
	{
		FA_TRY(fa_image_alloc(&drawn, chip->width, chip->height, error));
		FA_TRY(fa_letterbox(chip, chip->width, chip->height, &drawn, 0, error));
		if (fa_random_chance(random, 0.75))
			draw_mask(&drawn, random);
		else
			draw_glasses(&drawn, random);
		source = &drawn;
	}
	if (place(source, strength, random, crop, error) != FA_OK)
	{
		fa_image_free(&drawn);
		return error->status;
	}
	fa_image_free(&drawn);
	if (fa_random_chance(random, 0.12 * p))
		FA_TRY(blur(crop, fa_random_below(random, 3) + 1, error));
	if (fa_random_chance(random, 0.7 * p))
		change_light(crop, strength, random);
	if (fa_random_chance(random, 0.06 * p))
		saturate(crop, 0);
	else if (fa_random_chance(random, 0.3 * p))
		saturate(crop, fa_random_between(random, 0.5, 1.5));
	if (fa_random_chance(random, 0.08 * p))
		add_noise(crop, fa_random_between(random, 2, 14), random);
	if (fa_random_chance(random, 0.12 * p))
		FA_TRY(compress(crop, (int) fa_random_between(random, 12, 80), error));
	if (fa_random_chance(random, 0.2 * p))
		erase(crop, random);
	return FA_OK;
}
