/*
 * test_augment.c
 *		Augmentation: without strength it is a plain scaling, judged by one in double
 *		precision; the flip mirrors; the same seed gives the same image; no
 *		combination of options and sizes leaves its bounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../trainer/augment.h"
#include "pictures.h"

static const double landmarks[5][2] = {
	{0.3, 0.3}, {0.7, 0.3}, {0.5, 0.5}, {0.32, 0.68}, {0.67, 0.68}};

static fa_image
random_image(int width, int height, uint64_t seed)
{
	fa_image image;
	fa_error error;

	assert_int_equal(fa_image_alloc(&image, width, height, &error), FA_OK);
	for (int y = 0; y < height; y++)
		for (int i = 0; i < 3 * width; i++)
			image.pixels[(size_t) y * image.stride + (size_t) i] = (uint8_t) random_u32(&seed);
	return image;
}

/* What augmentation gives; the image stays as it is. */
static uint8_t *
augmented(const fa_image *image, double zoom, const fa_augment_options *options, uint64_t seed,
		  int size)
{
	/* exactly as large as it must be: a byte beyond is found out under sanitizers */
	uint8_t *out = malloc((size_t) size * size * 3);
	fa_random random = fa_random_seed(seed, 0, 0);
	fa_augmented copy;
	fa_error error;

	assert_int_equal(fa_image_alloc(&copy.source, image->width, image->height, &error), FA_OK);
	for (int y = 0; y < image->height; y++)
		memcpy(copy.source.pixels + (size_t) y * copy.source.stride,
			   image->pixels + (size_t) y * image->stride, 3 * (size_t) image->width);
	assert_int_equal(fa_augment(&copy, zoom, landmarks, options, &random, size, &error), FA_OK);
	assert_int_equal(fa_augmentation_apply(&copy, size, out, &error), FA_OK);
	fa_image_free(&copy.source);
	return out;
}

/* A pixel of the source with the edges repeated. */
static double
pixel(const fa_image *image, int x, int y, int c)
{
	x = x < 0 ? 0 : x >= image->width ? image->width - 1 : x;
	y = y < 0 ? 0 : y >= image->height ? image->height - 1 : y;
	return image->pixels[(size_t) y * image->stride + 3 * (size_t) x + (size_t) c];
}

static double
bilinear(const fa_image *image, double x, double y, int c)
{
	int left = (int) floor(x - 0.5), top = (int) floor(y - 0.5);
	double u = x - 0.5 - left, v = y - 0.5 - top;

	return (1 - v) * ((1 - u) * pixel(image, left, top, c) + u * pixel(image, left + 1, top, c)) +
		   v * ((1 - u) * pixel(image, left, top + 1, c) + u * pixel(image, left + 1, top + 1, c));
}

/* The middle 1 / zoom of the source, enlarged; without turning or mirroring. */
static void
check_enlarged(int width, int height, double zoom, int size)
{
	fa_image image = random_image(width, height, 7);
	uint8_t *out = augmented(&image, zoom, &fa_augment_none, 1, size);

	for (int y = 0; y < size; y++)
		for (int x = 0; x < size; x++)
			for (int c = 0; c < 3; c++)
			{
				double u = width / 2.0 + ((x + 0.5) / size - 0.5) * width / zoom;
				double v = height / 2.0 + ((y + 0.5) / size - 0.5) * height / zoom;

				assert_float_equal(out[3 * (y * size + x) + c], bilinear(&image, u, v, c), 0.51);
			}
	free(out);
	fa_image_free(&image);
}

static void
nothing_is_a_plain_scaling(void **state)
{
	(void) state;
	check_enlarged(32, 32, 1, 32);
	check_enlarged(32, 32, 1, 50);
	check_enlarged(20, 28, 1, 40);
	check_enlarged(40, 40, 1.25, 32);
	check_enlarged(40, 40, 1.3, 48);
	check_enlarged(1, 1, 1, 8);
	check_enlarged(3, 2, 1, 8);
}

/* Halved: the mean of four. */
static void
shrinking_averages(void **state)
{
	fa_image image = random_image(32, 32, 9);
	uint8_t *out = augmented(&image, 1, &fa_augment_none, 1, 16);

	(void) state;
	for (int y = 0; y < 16; y++)
		for (int x = 0; x < 16; x++)
			for (int c = 0; c < 3; c++)
				assert_float_equal(
					out[3 * (y * 16 + x) + c],
					(pixel(&image, 2 * x, 2 * y, c) + pixel(&image, 2 * x + 1, 2 * y, c) +
					 pixel(&image, 2 * x, 2 * y + 1, c) + pixel(&image, 2 * x + 1, 2 * y + 1, c)) /
						4,
					0.51);
	free(out);
	fa_image_free(&image);
}

static void
the_flip_mirrors(void **state)
{
	fa_augment_options always = {.flip = 1}, half = {.flip = 0.5};
	fa_image image = random_image(24, 24, 3);
	uint8_t *straight = augmented(&image, 1, &fa_augment_none, 1, 24);
	uint8_t *flipped = augmented(&image, 1, &always, 1, 24);
	int mirrored = 0;

	(void) state;
	for (int y = 0; y < 24; y++)
		for (int x = 0; x < 24; x++)
			assert_memory_equal(flipped + 3 * (y * 24 + x), straight + 3 * (y * 24 + 23 - x), 3);
	for (uint64_t seed = 0; seed < 400; seed++)
	{
		uint8_t *out = augmented(&image, 1, &half, seed, 24);
		bool is = memcmp(out, flipped, 24 * 24 * 3) == 0;

		assert_true(is || memcmp(out, straight, 24 * 24 * 3) == 0);
		mirrored += is;
		free(out);
	}
	assert_in_range(mirrored, 200 - 40, 200 + 40); /* four standard deviations */
	free(straight);
	free(flipped);
	fa_image_free(&image);
}

/* Strength 0 of everything but the flip: the same as nothing at all. */
static void
without_strength_nothing_happens(void **state)
{
	fa_augment_options weak = fa_augment_defaults;
	fa_image image = random_image(24, 24, 3);
	uint8_t *plain = augmented(&image, 1, &fa_augment_none, 1, 24);

	(void) state;
	weak.strength = 0;
	weak.flip = 0;
	for (uint64_t seed = 0; seed < 50; seed++)
	{
		uint8_t *out = augmented(&image, 1, &weak, seed, 24);

		assert_memory_equal(out, plain, 24 * 24 * 3);
		free(out);
	}
	free(plain);
	fa_image_free(&image);
}

/* Shift and scale at their limits: where a single bright point goes. */
static void
shifts_stay_within_their_range(void **state)
{
	fa_augment_options options = {.strength = 1, .shift = 0.1};
	fa_image image = random_image(40, 40, 3);
	double least = 40, most = 0;

	(void) state;
	for (int y = 0; y < 40; y++)
		for (int x = 0; x < 40; x++)
			memset(image.pixels + (size_t) y * image.stride + 3 * (size_t) x,
				   x >= 19 && x <= 20 ? 255 : 0, 3);
	for (uint64_t seed = 0; seed < 300; seed++)
	{
		uint8_t *out = augmented(&image, 1, &options, seed, 40);
		double sum = 0, place = 0;

		for (int x = 0; x < 40; x++)
		{
			sum += out[3 * (20 * 40 + x)];
			place += out[3 * (20 * 40 + x)] * (x + 0.5);
		}
		least = fmin(least, place / sum);
		most = fmax(most, place / sum);
		free(out);
	}
	/* the middle is at 20, a tenth of the side is 4 */
	assert_true(least >= 16 - 0.02 && least < 16.5);
	assert_true(most <= 24 + 0.02 && most > 23.5);
	fa_image_free(&image);
}

static void
the_seed_decides(void **state)
{
	fa_image image = random_image(64, 64, 5);
	int different = 0;

	(void) state;
	for (uint64_t seed = 0; seed < 40; seed++)
	{
		uint8_t *a = augmented(&image, 1.3, &fa_augment_defaults, seed, 48);
		uint8_t *b = augmented(&image, 1.3, &fa_augment_defaults, seed, 48);
		uint8_t *c = augmented(&image, 1.3, &fa_augment_defaults, seed + 1000, 48);

		assert_memory_equal(a, b, 48 * 48 * 3);
		different += memcmp(a, c, 48 * 48 * 3) != 0;
		free(a);
		free(b);
		free(c);
	}
	assert_int_equal(different, 40);
	fa_image_free(&image);
}

/* Everything at once, at full probability and four times the strength, on images of all sizes. */
static void
no_options_leave_the_bounds(void **state)
{
	static const int sizes[][2] = {{1, 1}, {2, 1}, {1, 7}, {3, 3}, {17, 9}, {64, 48}};
	fa_augment_options all = fa_augment_defaults;

	(void) state;
	all.strength = 4;
	all.far = all.colour = all.gamma = all.blur = all.jpeg = all.noise = all.erase = 0.5;
	all.small = all.turn = all.mask = all.glasses = all.cap = 0.5;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (uint64_t seed = 0; seed < 60; seed++)
		{
			fa_image image = random_image(sizes[i][0], sizes[i][1], seed);

			all.street = seed % 3 == 0;
			free(augmented(&image, 1 + 0.3 * (double) (seed % 2), &all, seed,
						   8 + 8 * (int) (seed % 5)));
			fa_image_free(&image);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_a_plain_scaling),
		cmocka_unit_test(shrinking_averages),
		cmocka_unit_test(the_flip_mirrors),
		cmocka_unit_test(without_strength_nothing_happens),
		cmocka_unit_test(shifts_stay_within_their_range),
		cmocka_unit_test(the_seed_decides),
		cmocka_unit_test(no_options_leave_the_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
