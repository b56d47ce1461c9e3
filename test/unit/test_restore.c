/*
 * test_restore.c
 *		Batch norm put back into folded weights: the same function as before, and the
 *		statistics that it claims, measured here; and what calibration fits on logits,
 *		against a search of all values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/nn/fold.h"
#include "../../src/vision/photo.h"
#include "../../trainer/calibrate.h"
#include "../../trainer/restore.h"
#include "engine_test.h"
#include "pictures.h"
#include "random_net.h"

/* --- Restoring --- */

#define IMAGES 16 /* two of the restorer's batches: each is seen as often */
#define SIZE 16
#define CHANNELS 6

/* Two filters, with batch norm or with it folded in. */
static void
make_net(fa_net *net, bool batch_norm)
{
	int op = fa_net_convolution(net, "conv", begin_net(net), CHANNELS, 3, 2, 0, 1, !batch_norm);
	fa_error error;

	if (batch_norm)
		op = fa_net_batch_norm(net, "conv.bn", op, 1e-3f);
	op = fa_net_unary(net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(net, "dw", op, 3, 1, 1, 1, !batch_norm);
	if (batch_norm)
		op = fa_net_batch_norm(net, "dw.bn", op, 1e-3f);
	op = fa_net_unary(net, FA_OP_RELU6, "relu2", op);
	fa_net_output(net, "out", op);
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

static fa_sample samples[IMAGES];
static const fa_dataset dataset = {.samples = samples, .count = IMAGES};

static void
make_images(uint8_t *all)
{
	fa_error error;

	for (int i = 0; i < IMAGES; i++)
	{
		uint8_t *pixels = random_pixels(1, SIZE, SIZE, (uint64_t) i + 1);
		fa_image image = {SIZE, SIZE, SIZE * 3, pixels};

		samples[i] = (fa_sample){.file = "image", .zoom = 1, .label = fa_no_label};
		assert_int_equal(fa_photo_encode(&image, FA_FORMAT_PNG, 0, &samples[i].bytes,
										 &samples[i].length, NULL, &error),
						 FA_OK);
		memcpy(all + (size_t) i * SIZE * SIZE * 3, pixels, SIZE * SIZE * 3);
		free(pixels);
	}
}

/* The values of one operation for all the images; malloc'ed. */
static float *
values_of(const fa_net *net, const fa_weights *weights, const char *op, const uint8_t *pixels,
		  size_t *count)
{
	fa_net probe = *net;
	fa_shape shapes[16];
	fa_batch batch = {IMAGES, SIZE, SIZE, pixels};
	fa_model *model;
	float *values;
	int index = 0;
	fa_error error;

	while (strcmp(net->ops[index].name, op) != 0)
		index++;
	probe.output_count = 0;
	fa_net_output(&probe, op, index);
	assert_int_equal(fa_net_shapes(net, SIZE, SIZE, shapes, &error), FA_OK);
	*count = (size_t) IMAGES * shapes[index].height * shapes[index].width * shapes[index].channels;
	values = malloc(*count * sizeof(float));
	model = load(&probe, weights, FA_PRECISION_FP32);
	assert_int_equal(interface->run(model, &batch, (float *[]){values}, NULL, &error), FA_OK);
	interface->unload(model);
	return values;
}

static const float *
tensor(const fa_weights *weights, const char *op, const char *suffix)
{
	char name[128];
	const fa_tensor *found;

	snprintf(name, sizeof(name), "%s.%s", op, suffix);
	found = fa_weights_find(weights, name);
	assert_non_null(found);
	return found->values;
}

/*
 * The folded filter's results have mean m and variance s^2: the restored one's, y / s without the
 * bias, must have the running mean (m - b) / s, the running variance 1, gain s and shift m.
 */
static void
check_statistics(const fa_net *net, const fa_weights *folded, const fa_weights *restored,
				 const char *op, const uint8_t *pixels)
{
	size_t count;
	float *values = values_of(net, folded, op, pixels, &count);

	for (int c = 0; c < CHANNELS; c++)
	{
		double sum = 0, square = 0, n = (double) count / CHANNELS, mean, deviation;
		char bn[64];

		for (size_t i = (size_t) c; i < count; i += CHANNELS)
		{
			sum += values[i];
			square += (double) values[i] * values[i];
		}
		mean = sum / n;
		deviation = sqrt(square / n - mean * mean);
		snprintf(bn, sizeof(bn), "%s.bn", op);
		assert_true(deviation > 0.05);
		assert_float_equal(tensor(restored, bn, "running_mean")[c],
						   (mean - tensor(folded, op, "bias")[c]) / deviation, 1e-3);
		assert_float_equal(tensor(restored, bn, "running_var")[c], 1, 0);
		assert_float_equal(tensor(restored, bn, "weight")[c], deviation * sqrt(1.001), 1e-3);
		assert_float_equal(tensor(restored, bn, "bias")[c], mean, 1e-3);
		assert_float_equal(tensor(restored, op, "weight")[c * 9],
						   tensor(folded, op, "weight")[c * 9] / deviation, 1e-2);
	}
	free(values);
}

static void
restored_weights_are_the_same_function(void **state)
{
	uint8_t *pixels = malloc((size_t) IMAGES * SIZE * SIZE * 3);
	fa_loader_options loading = {.faces = &dataset, .size = SIZE, .batch = 8, .workers = 1};
	fa_weights folded, restored, again;
	fa_net plain, normed;
	float *before, *after;
	size_t count;
	fa_error error;

	(void) state;
	make_images(pixels);
	make_net(&plain, false);
	make_net(&normed, true);
	folded = random_weights(&plain, 3);
	/* channels whose scales are orders of magnitude apart, as in the pretrained weights */
	for (int c = 0; c < CHANNELS; c++)
		for (int i = 0; i < 9; i++)
			fa_weights_find(&folded, "dw.weight")->values[c * 9 + i] *= powf(3, (float) c);
	assert_int_equal(fa_restore_batch_norm(interface, engine, &plain, &folded, &normed, &loading,
										   IMAGES, &restored, &error),
					 FA_OK);
	assert_int_equal(fa_fold_batch_norm(&normed, &restored, &plain, &again, &error), FA_OK);
	before = values_of(&plain, &folded, "dw", pixels, &count);
	after = values_of(&plain, &again, "dw", pixels, &count);
	for (size_t i = 0; i < count; i++)
		assert_float_equal(after[i], before[i], 1e-4 * fmax(1, fabs(before[i])));
	/* the convolution sees the images in order or out of it: the sums are the same */
	check_statistics(&plain, &folded, &restored, "dw", pixels);
	free(before);
	free(after);
	fa_weights_free(&folded);
	fa_weights_free(&restored);
	fa_weights_free(&again);
	fa_net_free(&plain);
	fa_net_free(&normed);
	for (int i = 0; i < IMAGES; i++)
		free(samples[i].bytes);
	free(pixels);
}

/* --- Calibration --- */

#define COUNT 300

/* Logits that say more, or less, than the labels bear out; a tenth has no label. */
static fa_logits
make_logits(double boldness)
{
	fa_logits l = {.count = COUNT};
	uint64_t seed = 17;

	for (int h = 0; h < FA_HEADS; h++)
	{
		int n = fa_heads[h].classes;

		l.logits[h] = malloc((size_t) COUNT * n * sizeof(float));
		l.targets[h] = malloc(COUNT * sizeof(float));
		for (int i = 0; i < COUNT; i++)
		{
			double centre = random_between(&seed, 0, n);
			double label = centre + (h == FA_HEAD_AGE ? random_between(&seed, -15, 15)
													  : random_between(&seed, -0.8, 0.8));

			for (int k = 0; k < n; k++)
				l.logits[h][i * n + k] = (float) (-boldness * fabs(k - centre));
			label = floor(fmin(n - 1, fmax(0, label)));
			l.targets[h][i] = random_u32(&seed) % 10 == 0 ? FA_NO_LABEL : (float) label;
		}
	}
	return l;
}

/* Mean -log p of the labels, in double precision. */
static double
likelihood(const fa_logits *l, int head, double temperature)
{
	int n = fa_heads[head].classes, labelled = 0;
	double sum = 0;

	for (int i = 0; i < l->count; i++)
	{
		int label = (int) l->targets[head][i];
		double total = 0;

		if (label < 0)
			continue;
		for (int k = 0; k < n; k++)
			total += exp((l->logits[head][i * n + k] - l->logits[head][i * n]) / temperature);
		sum += log(total) - (l->logits[head][i * n + label] - l->logits[head][i * n]) / temperature;
		labelled++;
	}
	return sum / labelled;
}

static void
temperatures_are_the_best_of_a_grid(void **state)
{
	static const double boldness[] = {0.3, 1, 3};

	(void) state;
	for (size_t b = 0; b < sizeof(boldness) / sizeof(boldness[0]); b++)
	{
		fa_logits l = make_logits(boldness[b]);

		for (int h = 0; h < FA_HEADS; h++)
		{
			double best = INFINITY, at = 0, fitted = fa_fit_temperature(&l, h);

			for (double t = 0.1; t <= 10; t *= 1.002)
			{
				double value = likelihood(&l, h, t);

				at = value < best ? t : at;
				best = fmin(best, value);
			}
			assert_float_equal(fitted, at, 0.01 * at);
			assert_true(likelihood(&l, h, fitted) <= best + 1e-5);
		}
		fa_logits_free(&l);
	}
}

/* The share of labels within the central 1 - 2 q of piecewise uniform distributions, plainly. */
static double
coverage(const fa_logits *l, double temperature, double q)
{
	int inside = 0, labelled = 0;

	for (int i = 0; i < l->count; i++)
	{
		const float *logits = l->logits[FA_HEAD_AGE] + (size_t) i * FA_AGE_CLASSES;
		double p[FA_AGE_CLASSES], total = 0, below = 0, label = l->targets[FA_HEAD_AGE][i];

		if (label < 0)
			continue;
		for (int k = 0; k < FA_AGE_CLASSES; k++)
			total += p[k] = exp((logits[k] - logits[0]) / temperature);
		/* the distribution function at the label, in the middle of its class */
		for (int k = 0; k < (int) label; k++)
			below += p[k] / total;
		below += p[(int) label] / total / 2;
		inside += below >= q && below <= 1 - q;
		/* an end of the interval that lies beyond the scale's is moved to it */
		if ((label == 0 && below > 1 - q) || (label == FA_AGE_CLASSES - 1 && below < q))
			inside++;
		labelled++;
	}
	return (double) inside / labelled;
}

static void
the_interval_covers_what_it_says(void **state)
{
	static const double boldness[] = {0.05, 0.2, 1};

	(void) state;
	for (size_t b = 0; b < sizeof(boldness) / sizeof(boldness[0]); b++)
	{
		fa_logits l = make_logits(boldness[b]);
		double q = fa_fit_age_quantile(&l, 1.3), best = 1, at = 0;

		for (double grid = 0.0005; grid <= 0.49; grid += 0.0005)
		{
			double distance = fabs(coverage(&l, 1.3, grid) - 0.8);

			at = distance < best ? grid : at;
			best = fmin(best, distance);
		}
		/* no further from 80 % than the grid's best and one label */
		assert_true(fabs(coverage(&l, 1.3, q) - 0.8) <= best + 1.5 / (0.85 * COUNT));
		assert_float_equal(q, at, 0.02);
		assert_float_equal(fa_age_coverage(&l, 1.3, q), coverage(&l, 1.3, q), 1.5 / (0.85 * COUNT));
		fa_logits_free(&l);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restored_weights_are_the_same_function),
		cmocka_unit_test(temperatures_are_the_best_of_a_grid),
		cmocka_unit_test(the_interval_covers_what_it_says),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
