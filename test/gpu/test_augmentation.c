/*
 * test_augmentation.c
 *		Augmentation by the CUDA engine on an emulated device beside the host's (libjpeg and all):
 *		each stage alone and all together, blended, of sources and faces of every size; then the
 *		forward pass on what it has left, and a clean error whichever call fails.
 */
#include "device_test.h"

#include "../../gpu/trainer.h"
#include "../../src/random.h"

#define COUNT 6
#define SIDE 37 /* no multiple of anything */
#define BYTES ((size_t) COUNT * SIDE * SIDE * 3)

static fa_error error;

static void
must(fa_status status)
{
	if (status != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
}

static int
setup(void **state)
{
	(void) state;
	reset_device();
	return 0;
}

static fa_trainer *
open_trainer(fa_engine *engine, int width)
{
	fa_trainer_options options = {.count = COUNT,
								  .height = SIDE,
								  .width = width,
								  .precision = FA_PRECISION_FP32,
								  .batch_norm = FA_BATCH_NORM_TRAINING,
								  .momentum = 0.1f};
	fa_trainer *trainer;
	fa_weights weights;
	fa_net net;

	small_net(&net);
	weights = random_weights(&net, 3);
	must(cuda()->trainer_open(engine, &net, &weights, &options, &trainer, &error));
	fa_weights_free(&weights);
	fa_net_free(&net);
	return trainer;
}

/* A picture with edges, ramps and grain. */
static fa_image
draw_source(int width, int height, uint64_t seed)
{
	fa_random random = {seed};
	double edge = fa_random_unit(&random) * width, slope = fa_random_between(&random, -1, 1);
	fa_image image;

	must(fa_image_alloc(&image, width, height, &error));
	for (int y = 0; y < height; y++)
		for (int x = 0; x < width; x++)
			for (int c = 0; c < 3; c++)
				image.pixels[(size_t) y * image.stride + 3 * (size_t) x + c] =
					(uint8_t) (40 + 60 * c * x / width + 40 * y / height +
							   (x + slope * y > edge ? 60 : 0) + fa_random_below(&random, 8));
	return image;
}

enum
{
	COLOURS = 1,
	BLUR = 2,
	NOISE = 4,
	JPEG = 8,
	SMALL = 16,
	ALL = 31
};

/* One that does some of this, gamma apart: of small differences it may make large ones. */
static fa_augmented
draw_image(int what, uint64_t seed)
{
	fa_random random = fa_random_seed(seed, 0, 0);
	int width = 1 + fa_random_below(&random, 120), height = 1 + fa_random_below(&random, 120);
	double angle = fa_random_between(&random, -0.3, 0.3), scale;
	fa_augmented image = {.source = draw_source(width, height, seed)};
	fa_augmentation *how = &image.how;

	how->pixels = what & SMALL ? 3 + fa_random_below(&random, SIDE - 3) : SIDE;
	scale = 0.8 * width / how->pixels;
	how->frame = (fa_affine){scale * cos(angle), -scale * sin(angle), 0.1 * width,
							 scale * sin(angle), scale * cos(angle),  -0.05 * height};
	how->recolours = (what & COLOURS) != 0;
	how->offset = (int32_t) fa_random_between(&random, -20, 20) * 65536 + 32768;
	for (int o = 0; o < 3; o++)
		for (int i = 0; i < 3; i++)
			how->colours[o][i] =
				(int32_t) (65536 * ((o == i) + fa_random_between(&random, -0.2, 0.2)));
	for (int i = 0; i < 256; i++)
		how->tones[i] = (uint8_t) (255 - i);
	how->blur = what & BLUR ? fa_random_between(&random, 0.3, 3) : 0;
	how->noise = what & NOISE ? fa_random_between(&random, 1, 20) : 0;
	how->noise_key = fa_random_bits(&random);
	how->quality = what & JPEG ? 1 + fa_random_below(&random, 89) : 0;
	return image;
}

static void
draw_images(fa_augmented *images, int what, uint64_t seed)
{
	for (int i = 0; i < COUNT; i++)
		images[i] = draw_image(what, seed + i);
}

static void
free_images(fa_augmented *images)
{
	for (int i = 0; i < COUNT; i++)
		fa_image_free(&images[i].source);
}

static void
on_host(const fa_augmented *images, fa_blend blend, uint8_t *pixels)
{
	uint8_t *apart = malloc(BYTES);

	for (int i = 0; i < COUNT; i++)
		must(fa_augmentation_apply(&images[i], SIDE, apart + BYTES / COUNT * i, &error));
	fa_blend_images(apart, COUNT, BYTES / COUNT, blend, pixels);
	free(apart);
}

/* How many of 1,000 values differ by more than `more`. */
static double
differing(const uint8_t *values, const uint8_t *expected, int more)
{
	int count = 0;

	for (size_t i = 0; i < BYTES; i++)
		count += abs(values[i] - expected[i]) > more;
	return 1000.0 * count / (double) BYTES;
}

/* Many batches of a kind: so many of 1,000 values may differ, so many by more than a level. */
static void
check(fa_trainer *trainer, int what, int part, double worse, double much_worse)
{
	uint8_t *made = malloc(BYTES), *expected = malloc(BYTES);
	double most = 0, beyond = 0;

	for (uint64_t batch = 0; batch < 8; batch++)
	{
		fa_blend blend = {part, 1 + (int) (batch % (COUNT - 1))};
		fa_augmented images[COUNT];

		draw_images(images, what, 1000 * batch + (uint64_t) what);
		memset(made, 7, BYTES);
		must(cuda()->augment(trainer, images, blend, made, &error));
		on_host(images, blend, expected);
		most = fmax(most, differing(made, expected, 0));
		beyond = fmax(beyond, differing(made, expected, 1));
		free_images(images);
	}
	printf("# stages %2d: of 1,000 values %.2f differ, %.2f by more than a level\n", what, most,
		   beyond);
	assert_true(most <= worse);
	assert_true(beyond <= much_worse);
	free(made);
	free(expected);
}

static void
test_stages(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_trainer *trainer = open_trainer(engine, SIDE);

	(void) state;
	check(trainer, 0, 256, 1, 0);
	check(trainer, COLOURS, 256, 1, 0);
	check(trainer, BLUR, 256, 1, 0);
	check(trainer, NOISE, 256, 1, 0);
	check(trainer, SMALL, 256, 1, 0);
	check(trainer, 0, 170, 1, 0);
	/* a coefficient that lies between two steps, rounded the other way, changes its whole block */
	check(trainer, JPEG, 256, 150, 60);
	check(trainer, ALL, 256, 250, 100);
	check(trainer, ALL, 140, 250, 100);
	cuda()->trainer_close(trainer);
	close_engine(engine);
}

/* That the judge would notice: each stage changes much more than may differ. */
static void
test_stages_matter(void **state)
{
	uint8_t *with = malloc(BYTES), *without = malloc(BYTES);

	(void) state;
	for (int what = 1; what < ALL; what *= 2)
	{
		fa_augmented images[COUNT];

		draw_images(images, what, 99);
		on_host(images, (fa_blend){256, 0}, with);
		for (int i = 0; i < COUNT; i++)
		{
			fa_augmentation *how = &images[i].how;
			double back = (double) how->pixels / SIDE;

			how->recolours = false;
			how->blur = how->noise = 0;
			how->quality = 0;
			how->frame = fa_affine_compose(how->frame, (fa_affine){back, 0, 0, 0, back, 0});
			how->pixels = SIDE;
		}
		on_host(images, (fa_blend){256, 0}, without);
		assert_true(differing(with, without, 1) > 100);
		free_images(images);
	}
	free(with);
	free(without);
}

/* The network sees what was augmented, at first and in the captured graph, whatever comes when. */
static void
test_forward(void **state)
{
	static const int schedules[] = {EMULATED_LAZY, EMULATED_EAGER, EMULATED_AHEAD, EMULATED_RANDOM,
									EMULATED_RANDOM + 1};
	uint8_t *pixels = malloc(BYTES);
	float given[COUNT * SMALL_VALUES], seen[COUNT * SMALL_VALUES];
	float *outputs[2] = {given, seen};

	(void) state;
	for (int s = 0; s < LENGTH(schedules); s++)
	{
		fa_engine *engine = open_engine(NULL);
		fa_trainer *trainers[2] = {open_trainer(engine, SIDE), open_trainer(engine, SIDE)};

		emulated_schedule(schedules[s]);
		for (int step = 0; step < 4; step++)
		{
			fa_batch batch = {COUNT, SIDE, SIDE, NULL};
			fa_augmented images[COUNT];

			draw_images(images, ALL, (uint64_t) (100 * s + 10 * step));
			/* the batch of a step need not be looked at, and may be made anew */
			must(cuda()->augment(trainers[1], images, (fa_blend){256, 0}, NULL, &error));
			must(cuda()->augment(trainers[0], images, (fa_blend){200, 2}, pixels, &error));
			must(cuda()->augment(trainers[1], images, (fa_blend){200, 2}, NULL, &error));
			must(cuda()->forward(trainers[1], &batch, &outputs[1], &error));
			batch.pixels = pixels;
			must(cuda()->forward(trainers[0], &batch, &outputs[0], &error));
			assert_memory_equal(seen, given, sizeof(given));
			free_images(images);
		}
		for (int i = 0; i < 2; i++)
			cuda()->trainer_close(trainers[i]);
		close_engine(engine);
		reset_device();
	}
	free(pixels);
}

static void
test_misuse(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_trainer *trainer = open_trainer(engine, SIDE), *wide = open_trainer(engine, SIDE + 1);
	fa_blend none = {256, 0};
	fa_batch batch = {COUNT, SIDE, SIDE, NULL};
	float values[COUNT * SMALL_VALUES], *outputs[1] = {values};
	fa_augmented images[COUNT];

	(void) state;
	draw_images(images, ALL, 1);
	assert_int_equal(cuda()->augment(wide, images, none, NULL, &error), FA_INVALID);
	assert_int_equal(cuda()->forward(trainer, &batch, outputs, &error), FA_INVALID);
	must(cuda()->augment(trainer, images, none, NULL, &error));
	images[2].how.pixels = SIDE + 1;
	assert_int_equal(cuda()->augment(trainer, images, none, NULL, &error), FA_INVALID);
	assert_int_equal(cuda()->forward(trainer, &batch, outputs, &error), FA_INVALID);
	images[2].how.pixels = SIDE;
	images[3].how.frame.c = 1e30;
	assert_int_equal(cuda()->augment(trainer, images, none, NULL, &error), FA_INVALID);
	images[3].how.frame.c = 0;
	must(cuda()->augment(trainer, images, none, NULL, &error));
	must(cuda()->forward(trainer, &batch, outputs, &error));
	assert_int_equal(cuda()->forward(trainer, &batch, outputs, &error), FA_INVALID);
	free_images(images);
	cuda()->trainer_close(trainer);
	cuda()->trainer_close(wide);
	close_engine(engine);
}

/* Two batches, the second larger, so that there is more room to be made. */
static void
test_failures(void **state)
{
	uint8_t *pixels = malloc(BYTES);
	int failed = 0;

	(void) state;
	for (int n = 1;; n++)
	{
		fa_engine *engine = open_engine(NULL);
		fa_trainer *trainer = open_trainer(engine, SIDE);
		fa_status status = FA_OK;
		bool over;

		memset(&error, 0, sizeof(error));
		emulated_fail(n);
		for (int batch = 0; batch < 2 && status == FA_OK; batch++)
		{
			fa_augmented images[COUNT];

			draw_images(images, ALL, 5);
			if (batch == 1)
			{
				fa_image_free(&images[0].source);
				images[0].source = draw_source(400, 300, 1);
			}
			status = cuda()->augment(trainer, images, (fa_blend){200, 1},
									 batch == 0 ? NULL : pixels, &error);
			free_images(images);
		}
		over = emulated_failed() == NULL;
		if (!over)
		{
			if (status == FA_OK || status != error.status || error.message[0] == '\0')
				fail_msg("call %d, %s: status %d without an error", n, emulated_failed(), status);
			failed++;
		}
		else
			must(status);
		emulated_fail(0);
		cuda()->trainer_close(trainer);
		close_engine(engine);
		if (over)
			break;
	}
	printf("# %d injected failures, each a clean error\n", failed);
	assert_true(failed > 15);
	free(pixels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_stages, setup),
		cmocka_unit_test_setup(test_stages_matter, setup),
		cmocka_unit_test_setup(test_forward, setup),
		cmocka_unit_test_setup(test_misuse, setup),
		cmocka_unit_test_setup(test_failures, setup),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
