/*
 * test_loader.c
 *		Batches: the same whatever the number of threads and wherever one begins, every
 *		face once an epoch, negatives in their share, labels that are missing, ranges of
 *		ages, images that are damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/vision/photo.h"
#include "../../trainer/loader.h"
#include "pictures.h"

#define FACES 23
#define SIZE 24

static fa_sample faces_samples[FACES];
static char names[FACES][16];
static fa_dataset faces = {.samples = faces_samples, .count = FACES};
static fa_image negative_crops[10];
static fa_negatives negatives = {.crops = negative_crops, .count = 10, .finds = 4};

static const fa_loader_options plain = {
	.faces = &faces,
	.shuffle = true,
	.batch = 5,
	.size = SIZE,
	.workers = 2,
	.landmark_template = {{0.3, 0.3}, {0.7, 0.3}, {0.5, 0.5}, {0.3, 0.7}, {0.7, 0.7}},
	.seed = 3,
};

/* Faces of different shades, by age; crops of negatives: finds are black, backgrounds white. */
static int
make_data(void **state)
{
	fa_error error;

	(void) state;
	for (int i = 0; i < FACES; i++)
	{
		fa_image image;

		if (fa_image_alloc(&image, SIZE, SIZE, &error) != FA_OK)
			return -1;
		memset(image.pixels, 5 + 10 * i, image.stride * SIZE);
		snprintf(names[i], sizeof(names[i]), "face %d", i);
		faces_samples[i] = (fa_sample){
			.file = names[i],
			.label = {(float) i, (float) i, i % 2, i % 5, FA_NO_LABEL},
			.zoom = 1,
		};
		if (fa_photo_encode(&image, FA_FORMAT_PNG, 0, &faces_samples[i].bytes,
							&faces_samples[i].length, NULL, &error) != FA_OK)
			return -1;
		fa_image_free(&image);
	}
	for (int i = 0; i < negatives.count; i++)
	{
		if (fa_image_alloc(&negative_crops[i], SIZE, SIZE, &error) != FA_OK)
			return -1;
		memset(negative_crops[i].pixels, i < negatives.finds ? 0 : 255,
			   negative_crops[i].stride * SIZE);
	}
	return 0;
}

static int
free_data(void **state)
{
	(void) state;
	for (int i = 0; i < FACES; i++)
		free(faces_samples[i].bytes);
	for (int i = 0; i < negatives.count; i++)
		fa_image_free(&negative_crops[i]);
	return 0;
}

static fa_loader *
open_loader(const fa_loader_options *options, int64_t first)
{
	fa_loader *loader;
	fa_error error;

	assert_int_equal(fa_loader_open(options, first, &loader, &error), FA_OK);
	return loader;
}

static const fa_loaded *
next(fa_loader *loader)
{
	const fa_loaded *loaded;
	fa_error error;

	assert_int_equal(fa_loader_next(loader, &loaded, &error), FA_OK);
	return loaded;
}

/* A digest of a batch's pixels and targets. */
static uint64_t
digest(const fa_loaded *loaded)
{
	uint64_t h = 0;

	for (size_t i = 0; i < (size_t) loaded->count * SIZE * SIZE * 3; i++)
		h = fa_mix(h + loaded->pixels[i]);
	for (int head = 0; head < FA_HEADS; head++)
		for (int i = 0; i < loaded->count; i++)
			h = fa_mix(h + (uint64_t) (loaded->targets[head][i] * 16));
	return h;
}

static void
threads_and_beginning_change_nothing(void **state)
{
	fa_loader_options options = plain;
	uint64_t expected[12];
	fa_loader *loader;

	(void) state;
	options.augment = fa_augment_defaults;
	options.negatives = &negatives;
	options.negative_share = 0.4;
	options.workers = 1;
	loader = open_loader(&options, 0);
	for (int i = 0; i < 12; i++)
		expected[i] = digest(next(loader));
	fa_loader_close(loader);
	for (int workers = 2; workers < 8; workers += 3)
	{
		options.workers = workers;
		for (int first = 0; first < 12; first += 5)
		{
			loader = open_loader(&options, first);
			for (int i = first; i < 12; i++)
				assert_true(digest(next(loader)) == expected[i]);
			fa_loader_close(loader);
		}
	}
	options.seed++;
	loader = open_loader(&options, 0);
	assert_true(digest(next(loader)) != expected[0]);
	fa_loader_close(loader);
}

/* What a device is to make of images is what the loader makes of them. */
static void
drawn_images_are_those_that_are_made(void **state)
{
	fa_loader_options options = plain;
	fa_loader *made, *drawn;

	(void) state;
	options.augment = fa_augment_defaults;
	options.negatives = &negatives;
	options.negative_share = 0.4;
	options.workers = 2;
	made = open_loader(&options, 3);
	options.drawn_only = true;
	drawn = open_loader(&options, 3);
	for (int batch = 0; batch < 9; batch++) /* round the ring */
	{
		const fa_loaded *expected = next(made), *images = next(drawn);

		assert_null(expected->images);
		assert_null(images->pixels);
		for (int i = 0; i < expected->count; i++)
		{
			uint8_t out[SIZE * SIZE * 3];
			fa_error error;

			assert_int_equal(fa_augmentation_apply(&images->images[i], SIZE, out, &error), FA_OK);
			assert_memory_equal(out, expected->pixels + i * sizeof(out), sizeof(out));
			for (int head = 0; head < FA_HEADS; head++)
				assert_float_equal(images->targets[head][i], expected->targets[head][i], 0);
		}
	}
	fa_loader_close(made);
	fa_loader_close(drawn);
}

static void
every_face_comes_once_an_epoch(void **state)
{
	fa_loader_options options = plain;
	int64_t steps = fa_loader_steps(&options);
	int order[2][FACES];
	fa_loader *loader = open_loader(&options, 0);

	(void) state;
	assert_int_equal(steps, FACES / 5);
	for (int epoch = 0; epoch < 2; epoch++)
	{
		bool seen[FACES] = {false};

		for (int step = 0; step < steps; step++)
		{
			const fa_loaded *loaded = next(loader);

			assert_int_equal(loaded->count, 5);
			for (int i = 0; i < 5; i++)
			{
				int age = (int) loaded->targets[FA_HEAD_AGE][i];

				assert_false(seen[age]);
				seen[age] = true;
				order[epoch][5 * step + i] = age;
				assert_float_equal(loaded->targets[FA_HEAD_GENDER][i], (age % 2), 0);
				assert_float_equal(loaded->targets[FA_HEAD_RACE][i], (age % 5), 0);
				assert_float_equal(loaded->targets[FA_HEAD_FACE][i], 1, 0);
				/* and it is that face */
				assert_int_equal(loaded->pixels[(size_t) i * SIZE * SIZE * 3], 5 + 10 * age);
			}
		}
	}
	assert_memory_not_equal(order[0], order[1], sizeof(order[0]));
	fa_loader_close(loader);
}

static void
negatives_have_their_share(void **state)
{
	fa_loader_options options = plain;
	int finds = 0, all = 0;
	fa_loader *loader;

	(void) state;
	options.batch = 10;
	options.negatives = &negatives;
	options.negative_share = 0.3;
	assert_int_equal(fa_loader_steps(&options), FACES / 7);
	loader = open_loader(&options, 0);
	for (int step = 0; step < 300; step++)
	{
		const fa_loaded *loaded = next(loader);
		int count = 0;

		for (int i = 0; i < 10; i++)
		{
			if (loaded->targets[FA_HEAD_FACE][i] != 0)
				continue;
			count++;
			finds += loaded->pixels[(size_t) i * SIZE * SIZE * 3] == 0;
			assert_float_equal(loaded->targets[FA_HEAD_AGE][i], FA_NO_LABEL, 0);
			assert_float_equal(loaded->targets[FA_HEAD_GENDER][i], FA_NO_LABEL, 0);
			assert_float_equal(loaded->targets[FA_HEAD_RACE][i], FA_NO_LABEL, 0);
		}
		assert_int_equal(count, 3);
		all += count;
	}
	/* 0.7 of them: four standard deviations */
	assert_float_equal((double) finds / all, 0.7, 4 * sqrt(0.7 * 0.3 / 900));
	fa_loader_close(loader);
}

static void
without_shuffle_all_come_in_order(void **state)
{
	fa_loader_options options = plain;
	fa_loader *loader;
	const fa_loaded *loaded;
	int at = 0;

	(void) state;
	options.shuffle = false;
	options.negatives = &negatives;
	options.batch = 8;
	loader = open_loader(&options, 0);
	while ((loaded = next(loader)) != NULL)
		for (int i = 0; i < loaded->count; i++, at++)
		{
			assert_float_equal(loaded->targets[FA_HEAD_AGE][i], (at < FACES ? at : FA_NO_LABEL), 0);
			assert_float_equal(loaded->targets[FA_HEAD_FACE][i], (at < FACES), 0);
		}
	assert_int_equal(at, FACES + 10);
	assert_null(next(loader));
	fa_loader_close(loader);
}

/* Faces whose labels and images are what `change` makes of them. */
static fa_loader_options
changed(fa_sample samples[FACES], fa_dataset *dataset)
{
	fa_loader_options options = plain;

	memcpy(samples, faces_samples, sizeof(faces_samples));
	*dataset = (fa_dataset){.samples = samples, .count = FACES};
	options.faces = dataset;
	options.shuffle = false;
	options.batch = FACES;
	return options;
}

static void
missing_labels_stay_missing(void **state)
{
	fa_sample samples[FACES];
	fa_dataset dataset;
	fa_loader_options options = changed(samples, &dataset);
	const fa_loaded *loaded;
	fa_loader *loader;

	(void) state;
	samples[1].label.age_low = samples[1].label.age_high = FA_NO_LABEL;
	samples[2].label.gender = FA_NO_LABEL;
	samples[3].label = fa_no_label;
	loader = open_loader(&options, 0);
	loaded = next(loader);
	for (int i = 0; i < FACES; i++)
	{
		assert_float_equal(loaded->targets[FA_HEAD_AGE][i], (i == 1 || i == 3 ? -1 : i), 0);
		assert_float_equal(loaded->targets[FA_HEAD_GENDER][i], (i == 2 || i == 3 ? -1 : i % 2), 0);
		assert_float_equal(loaded->targets[FA_HEAD_RACE][i], (i == 3 ? -1 : i % 5), 0);
		assert_float_equal(loaded->targets[FA_HEAD_FACE][i], 1, 0);
	}
	fa_loader_close(loader);
}

static void
damaged_images_are_grey_and_counted(void **state)
{
	fa_sample samples[FACES];
	fa_dataset dataset;
	fa_loader_options options = changed(samples, &dataset);
	const fa_loaded *loaded;
	const char *first;
	fa_loader *loader;

	(void) state;
	samples[4].length = 0;
	samples[9].length /= 2;
	options.workers = 1;
	loader = open_loader(&options, 0);
	loaded = next(loader);
	for (int h = 0; h < FA_HEADS; h++)
	{
		assert_float_equal(loaded->targets[h][4], FA_NO_LABEL, 0);
		assert_float_equal(loaded->targets[h][9], FA_NO_LABEL, 0);
		assert_true(loaded->targets[h][5] >= 0);
	}
	for (int i = 0; i < SIZE * SIZE * 3; i++)
		assert_int_equal(loaded->pixels[(size_t) 9 * SIZE * SIZE * 3 + (size_t) i], 128);
	assert_int_equal(fa_loader_damaged(loader, &first), 2);
	assert_string_equal(first, "face 4");
	fa_loader_close(loader);
}

/* Whole years of the range, all of them, evenly; to validate, its middle. */
static void
ranges_of_ages(void **state)
{
	fa_sample samples[FACES];
	fa_dataset dataset;
	fa_loader_options options = changed(samples, &dataset);
	int counts[10] = {0};
	fa_loader *loader;

	(void) state;
	for (int i = 0; i < FACES; i++)
	{
		samples[i].label.age_low = 20;
		samples[i].label.age_high = 29;
	}
	loader = open_loader(&options, 0);
	assert_float_equal(next(loader)->targets[FA_HEAD_AGE][0], 24.5, 0);
	fa_loader_close(loader);
	options.shuffle = true;
	loader = open_loader(&options, 0);
	for (int step = 0; step < 100; step++)
	{
		const fa_loaded *loaded = next(loader);

		for (int i = 0; i < FACES; i++)
		{
			float age = loaded->targets[FA_HEAD_AGE][i];

			assert_true(age >= 20 && age <= 29 && age == floorf(age));
			counts[(int) age - 20]++;
		}
	}
	/* 230 expected of each: five standard deviations */
	for (int i = 0; i < 10; i++)
		assert_in_range(counts[i], 230 - 72, 230 + 72);
	fa_loader_close(loader);
}

/* A crop that shows more than the frame: only its middle is seen. */
static void
a_margin_is_left_out(void **state)
{
	fa_sample samples[FACES];
	fa_dataset dataset;
	fa_loader_options options = changed(samples, &dataset);
	fa_image image;
	fa_loader *loader;
	const fa_loaded *loaded;
	fa_error error;

	(void) state;
	/* a frame of SIZE, a margin of 4 around it */
	assert_int_equal(fa_image_alloc(&image, SIZE + 8, SIZE + 8, &error), FA_OK);
	for (int y = 0; y < image.height; y++)
		for (int x = 0; x < image.width; x++)
			memset(image.pixels + (size_t) y * image.stride + 3 * (size_t) x,
				   x < 4 || y < 4 || x >= SIZE + 4 || y >= SIZE + 4 ? 255 : 3 * x + y, 3);
	assert_int_equal(fa_photo_encode(&image, FA_FORMAT_PNG, 0, &samples[0].bytes,
									 &samples[0].length, NULL, &error),
					 FA_OK);
	samples[0].zoom = (SIZE + 8) / (float) SIZE;
	loader = open_loader(&options, 0);
	loaded = next(loader);
	for (int y = 0; y < SIZE; y++)
		for (int x = 0; x < SIZE; x++)
			assert_in_range(loaded->pixels[3 * (y * SIZE + x)] + 1, 3 * (x + 4) + y + 4,
							3 * (x + 4) + y + 4 + 2);
	fa_loader_close(loader);
	free(samples[0].bytes);
	fa_image_free(&image);
}

static void
too_few_images(void **state)
{
	fa_loader_options options = plain;
	fa_loader *loader;
	fa_error error;

	(void) state;
	options.batch = FACES + 1;
	assert_int_equal(fa_loader_steps(&options), 0);
	assert_int_equal(fa_loader_open(&options, 0, &loader, &error), FA_INVALID);
	assert_null(loader);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_and_beginning_change_nothing),
		cmocka_unit_test(drawn_images_are_those_that_are_made),
		cmocka_unit_test(every_face_comes_once_an_epoch),
		cmocka_unit_test(negatives_have_their_share),
		cmocka_unit_test(without_shuffle_all_come_in_order),
		cmocka_unit_test(missing_labels_stay_missing),
		cmocka_unit_test(damaged_images_are_grey_and_counted),
		cmocka_unit_test(ranges_of_ages),
		cmocka_unit_test(a_margin_is_left_out),
		cmocka_unit_test(too_few_images),
	};

	return cmocka_run_group_tests(tests, make_data, free_data);
}
