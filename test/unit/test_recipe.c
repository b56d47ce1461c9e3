/*
 * test_recipe.c
 *		What a training is told: schedules, parts of a network and their rates, class
 *		weights, mixtures, kinds of augmentation, options and their record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../trainer/balance.h"
#include "../../trainer/mixup.h"
#include "../../trainer/parts.h"
#include "../../trainer/train_options.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* ---- Schedules ------------------------------------------------------------------------- */

static void
cosine(void **state)
{
	fa_schedule s = {FA_SCHEDULE_COSINE, .rate = 0.2, .warm_up = 0.2};

	(void) state;
	assert_float_equal(fa_schedule_rate(&s, 0), 0.02, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.1), 0.11, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.2), 0.2, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.6), 0.1, 1e-12); /* half way down */
	assert_float_equal(fa_schedule_rate(&s, 0.4), 0.2 * (2 + sqrt(2)) / 4, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 1), 0, 1e-12);
	s.warm_up = 0;
	assert_float_equal(fa_schedule_rate(&s, 0), 0.2, 1e-12);
	s.warm_up = 1; /* nothing but the warm-up */
	assert_float_equal(fa_schedule_rate(&s, 0.5), 0.11, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 1), 0.2, 1e-12);
}

static void
steps_and_constant(void **state)
{
	fa_schedule s = {FA_SCHEDULE_STEP, 1, 0.1, {0.75, 0.5}, 2, 0.1};

	(void) state;
	assert_float_equal(fa_schedule_rate(&s, 0.05), 0.55, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.1), 1, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.499), 1, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.5), 0.1, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.75), 0.01, 1e-12);
	s.kind = FA_SCHEDULE_CONSTANT;
	assert_float_equal(fa_schedule_rate(&s, 0), 0.1, 1e-12);
	assert_float_equal(fa_schedule_rate(&s, 0.9), 1, 1e-12);
}

/* ---- Parts of a network ------------------------------------------------------------------ */

static fa_net
mobilenet(void)
{
	fa_net net;
	fa_error error;

	assert_int_equal(fa_net_mobilenet_v1(&net, fa_heads, FA_HEADS, 8, true, 0.1f, &error), FA_OK);
	return net;
}

static float
rate_of(const fa_net *net, const float *rates, const char *name)
{
	for (int i = 0; i < net->op_count; i++)
		if (strcmp(net->ops[i].name, name) == 0)
			return rates[i];
	fail_msg("no %s", name);
	return NAN;
}

/* How many of the 27 layers of the backbone and of the 5 after it train. */
static void
check_freeze(const char *freeze, int backbone, int heads)
{
	fa_net net = mobilenet();
	float *rates = malloc((size_t) net.op_count * sizeof(float));
	int layers, training, frozen = 0;
	fa_error error;

	assert_int_equal(fa_parts_rates(&net, NULL, freeze, rates, &error), FA_OK);
	fa_parts_count(&net, rates, &layers, &training);
	assert_int_equal(layers, 32);
	assert_int_equal(training, backbone + heads);
	for (int i = 0; i < net.op_count; i++)
		if (net.ops[i].kind == FA_OP_DENSE)
			frozen += rates[i] == 0;
		else if (net.ops[i].kind == FA_OP_BATCH_NORM) /* goes with its layer */
			assert_true(rates[i] == rates[net.ops[i].input[0]]);
	assert_int_equal(5 - frozen, heads);
	free(rates);
	fa_net_free(&net);
}

static void
freezing(void **state)
{
	(void) state;
	check_freeze(NULL, 27, 5);
	check_freeze("none", 27, 5);
	check_freeze("all", 0, 5);
	check_freeze("all-but:0", 0, 5);
	check_freeze("all-but:10", 10, 5);
	check_freeze("all-but:27", 27, 5);
	check_freeze("all-but:1000", 27, 5);
	check_freeze("stage:0", 27, 5);
	check_freeze("stage:1", 24, 5); /* conv1, block 1: half the size */
	check_freeze("stage:2", 20, 5); /* blocks 2 and 3 */
	check_freeze("stage:4", 4, 5);  /* blocks 4 ... 11; 12 and 13 train */
	check_freeze("stage:5", 0, 5);
	check_freeze("conv1", 26, 5);
	check_freeze("conv_dw_*", 14, 5);
	check_freeze("conv_?w_1,conv1,age", 24, 4);
	check_freeze("all,hidden", 0, 4);
	check_freeze("heads", 27, 0);
}

static void
rates_of_parts(void **state)
{
	fa_net net = mobilenet();
	float *rates = malloc((size_t) net.op_count * sizeof(float));
	fa_error error;

	(void) state;
	assert_int_equal(
		fa_parts_rates(&net, "heads=2,stage:4=0.5,stage:1=0.25,age=3", "conv1", rates, &error),
		FA_OK);
	assert_float_equal(rate_of(&net, rates, "conv1"), 0, 0);
	assert_float_equal(rate_of(&net, rates, "conv1.bn"), 0, 0);
	assert_float_equal(rate_of(&net, rates, "conv_pw_1"), 0.25, 0);
	assert_float_equal(rate_of(&net, rates, "conv_dw_2"), 0.5, 0);
	assert_float_equal(rate_of(&net, rates, "conv_dw_2.bn"), 0.5, 0);
	assert_float_equal(rate_of(&net, rates, "conv_dw_12"), 1, 0);
	assert_float_equal(rate_of(&net, rates, "hidden"), 2, 0);
	assert_float_equal(rate_of(&net, rates, "race"), 2, 0);
	assert_float_equal(rate_of(&net, rates, "age"), 3, 0);
	free(rates);
	fa_net_free(&net);
}

static void
parts_that_are_none(void **state)
{
	static const char *const freezes[] = {"conv99",      "stage:",   "stage:x", "all-but:-1",
										  "all-but:1.5", "conv1.bn", "input*",  "all=1"};
	static const char *const texts[] = {"heads",    "heads=",    "heads=x",
										"heads=-1", "heads=1e9", "no=1"};
	fa_net net = mobilenet();
	float *rates = malloc((size_t) net.op_count * sizeof(float));
	fa_error error;

	(void) state;
	for (int i = 0; i < LENGTH(freezes); i++)
		if (fa_parts_rates(&net, NULL, freezes[i], rates, &error) != FA_INVALID)
			fail_msg("--freeze %s", freezes[i]);
	for (int i = 0; i < LENGTH(texts); i++)
		if (fa_parts_rates(&net, texts[i], NULL, rates, &error) != FA_INVALID)
			fail_msg("--rates %s", texts[i]);
	free(rates);
	fa_net_free(&net);
}

/* ---- Class weights ------------------------------------------------------------------------ */

static void
class_weights(void **state)
{
	const double counts[3] = {60, 30, 10};
	double sum = 0;
	float weights[3];
	fa_error error;

	(void) state;
	assert_int_equal(fa_balance(counts, 3, 0, 0, weights, &error), FA_OK);
	for (int i = 0; i < 3; i++)
		assert_float_equal(weights[i], 1, 1e-6);
	assert_int_equal(fa_balance(counts, 3, 1, 0, weights, &error), FA_OK);
	for (int i = 0; i < 3; i++) /* each class a third of all */
		assert_float_equal(counts[i] * weights[i], 100.0 / 3, 1e-4);
	assert_int_equal(fa_balance(counts, 3, 0.5, 0, weights, &error), FA_OK);
	assert_float_equal(weights[2] / weights[0], sqrt(6), 1e-5);
	for (int i = 0; i < 3; i++)
		sum += counts[i] * weights[i];
	assert_float_equal(sum, 100, 1e-4);
}

static void
classes_without_labels(void **state)
{
	const double some[4] = {8, 0, 2, 0}, none[2] = {0, 0};
	float weights[4];
	fa_error error;

	(void) state;
	assert_int_equal(fa_balance(some, 4, 1, 0, weights, &error), FA_OK);
	assert_float_equal(weights[1], weights[2], 1e-6);
	assert_float_equal(weights[2], 4 * weights[0], 1e-5);
	assert_int_equal(fa_balance(none, 2, 1, 0, weights, &error), FA_OK);
	assert_float_equal(weights[0], 1, 0);
	assert_float_equal(weights[1], 1, 0);
}

/* By hand: with sigma 1 the neighbours of a class count exp(-1/2) each. */
static void
smoothed_counts(void **state)
{
	const double counts[3] = {4, 1, 4}, e = exp(-0.5), f = exp(-2);
	double edge = (4 + e + 4 * f) / (1 + e + f), middle = (1 + 8 * e) / (1 + 2 * e);
	float weights[3];
	fa_error error;

	(void) state;
	assert_int_equal(fa_balance(counts, 3, 1, 1, weights, &error), FA_OK);
	assert_float_equal(weights[1] / weights[0], edge / middle, 1e-5);
	assert_float_equal(weights[2], weights[0], 1e-6);
}

/* ---- Mixtures ----------------------------------------------------------------------------- */

/* Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)). */
static void
beta_distribution(void **state)
{
	static const double alphas[] = {0.1, 0.4, 1, 2};

	(void) state;
	for (int k = 0; k < LENGTH(alphas); k++)
	{
		fa_random random = fa_random_seed(3, (uint64_t) k, 0);
		double sum = 0, squares = 0;
		const int n = 40000;

		for (int i = 0; i < n; i++)
		{
			double x = fa_mixup_beta(alphas[k], &random);

			assert_true(x >= 0 && x <= 1);
			sum += x;
			squares += x * x;
		}
		assert_float_equal(sum / n, 0.5, 0.01);
		assert_float_equal(squares / n - sum / n * (sum / n), 1 / (4 * (2 * alphas[k] + 1)), 0.005);
	}
}

static void
mixtures(void **state)
{
	enum
	{
		COUNT = 5,
		SIZE = 4
	};
	uint8_t pixels[COUNT][SIZE * SIZE * 3];
	float targets[FA_HEADS][COUNT];
	uint8_t blended[COUNT][SIZE * SIZE * 3];
	fa_loaded loaded = {
		COUNT, SIZE, pixels[0], NULL, {targets[0], targets[1], targets[2], targets[3]}};
	fa_mixup mixup;
	fa_error error;
	double first;

	(void) state;
	for (int i = 0; i < COUNT; i++)
	{
		memset(pixels[i], 50 * i, sizeof(pixels[i]));
		for (int h = 0; h < FA_HEADS; h++)
			targets[h][i] = (float) (i == 2 ? FA_NO_LABEL : 10 * h + i);
	}
	assert_int_equal(fa_mixup_open(&mixup, COUNT, &error), FA_OK);
	for (int batch = 0; batch < 50; batch++)
	{
		fa_mixup_draw(&mixup, &loaded, 1, 9, batch);
		fa_blend_images(pixels[0], COUNT, sizeof(pixels[0]), mixup.blend, blended[0]);
		assert_true(mixup.share >= 0.5 && mixup.share <= 1);
		for (int i = 0; i < COUNT; i++)
		{
			float partner = mixup.partners[1][i];
			int other = partner == FA_NO_LABEL ? 2 : (int) partner - 10;

			assert_int_not_equal(other, i);
			assert_float_equal(mixup.partners[3][i], targets[3][other], 0);
			for (int k = 0; k < SIZE * SIZE * 3; k++)
				assert_float_equal(blended[i][k],
								   mixup.share * 50 * i + (1 - mixup.share) * 50 * other, 0.51);
		}
	}
	first = mixup.share; /* the number of the batch is all that counts */
	fa_mixup_draw(&mixup, &loaded, 1, 9, 3);
	assert_true(mixup.share != first);
	fa_mixup_draw(&mixup, &loaded, 1, 9, 49);
	assert_float_equal(mixup.share, first, 0);
	fa_mixup_close(&mixup);
}

/* ---- Options ------------------------------------------------------------------------------ */

static void
augmentation_by_name(void **state)
{
	fa_augment_options options = fa_augment_defaults;
	fa_error error;

	(void) state;
	assert_int_equal(fa_augment_parse(&options, "0.5", &error), FA_OK);
	assert_float_equal(options.strength, 0.5, 0);
	assert_float_equal(options.rotate, fa_augment_defaults.rotate, 0);
	assert_int_equal(fa_augment_parse(&options, "rotate=15,jpeg=0,2,street=0.5", &error), FA_OK);
	assert_float_equal(options.rotate, 15, 0);
	assert_float_equal(options.jpeg, 0, 0);
	assert_float_equal(options.street, 0.5, 0);
	assert_float_equal(options.strength, 2, 0);
	assert_int_equal(fa_augment_parse(&options, "rot=15", &error), FA_INVALID);
	assert_int_equal(fa_augment_parse(&options, "rotate=", &error), FA_INVALID);
	assert_int_equal(fa_augment_parse(&options, "rotate=-1", &error), FA_INVALID);
	assert_int_equal(fa_augment_parse(&options, "much", &error), FA_INVALID);
}

static void
options_and_their_record(void **state)
{
	char *argv[] = {"train",
					"--data",
					"d",
					"--val",
					"v",
					"--init",
					"i",
					"--output",
					"o",
					"--rate",
					"0.01",
					"--optimizer",
					"sgd",
					"--schedule",
					"step",
					"--milestones",
					"0.3,0.6,0.9",
					"--weights",
					"1,2,3,4",
					"--metric",
					"race",
					"--resume",
					"--smoothing",
					"0.2",
					"--age-sigma",
					"3",
					"--augment",
					"flip=0",
					"--seed",
					"7",
					"--save-every",
					"2"};
	char text[256];
	fa_train_options o, other;
	fa_loss_options losses[FA_HEADS];
	fa_schedule schedule;
	json_t *record;

	(void) state;
	fa_train_options_parse(&o, LENGTH(argv), argv);
	assert_string_equal(o.data, "d");
	assert_true(o.resume);
	assert_int_equal(o.seed, 7);
	assert_int_equal(o.optimizer, FA_OPTIMIZER_SGD);
	assert_int_equal(o.metric, FA_METRIC_RACE);
	assert_float_equal(o.augment.flip, 0, 0);
	schedule = fa_train_schedule(&o);
	assert_float_equal(fa_schedule_rate(&schedule, 0.95), 1e-5, 1e-12);
	fa_train_losses(&o, losses);
	assert_float_equal(losses[FA_HEAD_RACE].weight, 3, 0);
	assert_float_equal(losses[FA_HEAD_GENDER].smoothing, 0.2, 1e-7);
	assert_float_equal(losses[FA_HEAD_AGE].sigma, 3, 0);
	assert_float_equal(losses[FA_HEAD_FACE].smoothing, 0, 0);

	record = fa_train_options_json(&o);
	assert_string_equal(json_string_value(json_object_get(record, "optimizer")), "sgd");
	assert_int_equal(json_array_size(json_object_get(record, "milestones")), 3);
	assert_null(json_object_get(record, "output")); /* has no part in the result */
	other = o;
	other.output = "elsewhere";
	other.workers = 9;
	fa_train_options_differences(&other, record, text, sizeof(text));
	assert_string_equal(text, "");
	other.rate = 0.02;
	other.weights.values[1] = 7;
	fa_train_options_differences(&other, record, text, sizeof(text));
	assert_string_equal(text, "--rate, --weights");
	json_decref(record);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cosine),
		cmocka_unit_test(steps_and_constant),
		cmocka_unit_test(freezing),
		cmocka_unit_test(rates_of_parts),
		cmocka_unit_test(parts_that_are_none),
		cmocka_unit_test(class_weights),
		cmocka_unit_test(classes_without_labels),
		cmocka_unit_test(smoothed_counts),
		cmocka_unit_test(beta_distribution),
		cmocka_unit_test(mixtures),
		cmocka_unit_test(augmentation_by_name),
		cmocka_unit_test(options_and_their_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
