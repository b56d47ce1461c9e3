/*
 * test_training.c
 *		An engine's passes in training against the reference: results and gradients of
 *		every operation and of networks at random, batch norm's statistics, dropout.
 *		Knows the engine by its table alone; test_gradients.c judges the same by
 *		differences, test_updates.c what comes after the gradients.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine_test.h"
#include "random_net.h"
#include "reference.h"

/* Per output of net an array of count images' values; random, or undefined. */
static void
make_outputs(const fa_net *net, int count, int height, int width, uint64_t *seed,
			 float *outputs[FA_MAX_OUTPUTS])
{
	fa_shape *shapes = malloc((size_t) net->op_count * sizeof(fa_shape));
	fa_error error;

	assert_int_equal(fa_net_shapes(net, height, width, shapes, &error), FA_OK);
	for (int i = 0; i < net->output_count; i++)
	{
		const fa_shape *s = &shapes[net->outputs[i].op];
		size_t n = (size_t) count * s->height * s->width * s->channels;

		outputs[i] = malloc(n * sizeof(float));
		for (size_t k = 0; k < n && seed != NULL; k++)
			outputs[i][k] = (float) random_between(seed, -1, 1);
	}
	free(shapes);
}

static void
free_outputs(const fa_net *net, float *outputs[FA_MAX_OUTPUTS])
{
	for (int i = 0; i < net->output_count; i++)
		free(outputs[i]);
}

/* ---- Forward and backward against the reference ---------------------------------------- */

typedef struct trial
{
	int count, height, width;
	fa_batch_norm_mode mode;
	fa_precision precision;
	const float *rates; /* per operation, or NULL */
	uint64_t seed;
	double tolerance;    /* of outputs; fp32's gradients sum more, and get ten times as much */
	double least_cosine; /* of bf16's gradients: a rounding may move a maximum to another pixel */
} trial;

/* Frozen operations and running statistics have no gradient. */
static bool
learns(const fa_parameter *p, const trial *t)
{
	return p->trainable && (t->rates == NULL || t->rates[p->op] > 0);
}

/* Of all gradients together: how far bf16's roundings turn them. */
static double
cosine(const fa_weights *gradients, const reference *r, const trial *t)
{
	double dot = 0, a = 0, b = 0;

	for (int i = 0; i < r->parameter_count; i++)
		for (size_t k = 0; k < r->parameters[i].count && learns(&r->parameters[i], t); k++)
		{
			dot += gradients->tensors[i].values[k] * r->slopes[i][k];
			a += gradients->tensors[i].values[k] * (double) gradients->tensors[i].values[k];
			b += r->slopes[i][k] * r->slopes[i][k];
		}
	return a == 0 && b == 0 ? 1 : dot / sqrt(a * b);
}

static void
check_gradients(const reference *r, const fa_weights *gradients, const trial *t)
{
	double largest = 1e-3;

	for (int i = 0; i < r->parameter_count; i++)
		for (size_t k = 0; k < r->parameters[i].count; k++)
			largest = fmax(largest, fabs(r->slopes[i][k]));
	for (int i = 0; i < r->parameter_count; i++)
	{
		const fa_parameter *p = &r->parameters[i];
		const fa_tensor *tensor = fa_weights_find(gradients, p->name);

		assert_non_null(tensor);
		if (!learns(p, t))
			for (size_t k = 0; k < p->count; k++)
				assert_float_equal(tensor->values[k], 0, 0);
		else /* 0.1: sums that cancel, such as that of a bias before batch norm */
			check_values(p->name, tensor->values, r->slopes[i], p->count, 10 * t->tolerance,
						 0.1 * largest);
	}
}

/*
 * One forward and backward pass of both; false where a kink is so near that they may
 * fall on different sides of it. The net must be finished.
 */
static bool
check_passes(const fa_net *net, const trial *t)
{
	fa_trainer_options options = {t->count, t->height, t->width, t->precision, t->mode, 0.1f,
								  t->rates, 1,         0};
	uint8_t *pixels = random_pixels(t->count, t->height, t->width, t->seed);
	fa_batch batch = {t->count, t->height, t->width, pixels};
	fa_weights weights = random_weights(net, t->seed), gradients, after;
	reference *r = reference_open(net, &weights, t->count, t->height, t->width);
	float *outputs[FA_MAX_OUTPUTS], *slopes[FA_MAX_OUTPUTS];
	uint64_t seed = t->seed;
	fa_trainer *trainer;
	fa_error error;
	bool judged;

	make_outputs(net, t->count, t->height, t->width, NULL, outputs);
	make_outputs(net, t->count, t->height, t->width, &seed, slopes);
	for (int i = 0; i < net->op_count; i++)
		r->batch_statistics[i] =
			t->mode == FA_BATCH_NORM_TRAINING && (t->rates == NULL || t->rates[i] > 0);
	r->momentum = 0.1f;
	reference_forward(r, pixels);
	judged = r->closest_kink > 1e-5 || t->precision == FA_PRECISION_BF16;
	if (judged)
	{
		trainer = open_trainer(net, &weights, &options);
		fa_weights_free(&weights);
		assert_int_equal(interface->forward(trainer, &batch, outputs, &error), FA_OK);
		for (int i = 0; i < net->output_count; i++)
			check_values(net->outputs[i].name, outputs[i], r->tensors[net->outputs[i].op],
						 reference_size(r, net->outputs[i].op), t->tolerance, 0.1);
		after = state_of(trainer, FA_STATE_WEIGHTS); /* the running statistics have moved */
		for (int i = 0; i < r->parameter_count; i++)
			check_values(r->parameters[i].name, after.tensors[i].values, r->values[i],
						 r->parameters[i].count, t->tolerance, 0.1);
		fa_weights_free(&after);

		assert_int_equal(interface->backward(trainer, (const float *const *) slopes, &error),
						 FA_OK);
		reference_backward(r, (const float *const *) slopes);
		gradients = state_of(trainer, FA_STATE_GRADIENTS);
		if (t->precision == FA_PRECISION_FP32)
			check_gradients(r, &gradients, t);
		else if (!(cosine(&gradients, r, t) > t->least_cosine))
			fail_msg("cosine of all gradients with the reference's: %g", cosine(&gradients, r, t));
		fa_weights_free(&gradients);
		interface->trainer_close(trainer);
	}
	fa_weights_free(&weights);
	free_outputs(net, outputs);
	free_outputs(net, slopes);
	reference_close(r);
	free(pixels);
	return judged;
}

/* A convolution to learn through, then the operation, then one more to weigh its result. */
static int
begin_operation(fa_net *net, int channels)
{
	return fa_net_convolution(net, "first", begin_net(net), channels, 1, 1, 0, 0, true);
}

/* Images at random until none has a kink too near. */
static void
check_operation(fa_net *net, int op, int count, int height, int width, fa_batch_norm_mode mode)
{
	trial t = {count, height, width, mode, FA_PRECISION_FP32, NULL, 1, 1e-5, 0};
	bool maxima = net->ops[net->op_count - 1].kind == FA_OP_MAX_POOL;
	fa_error error;

	fa_net_output(net, "result", op);
	fa_net_output(net, "last", fa_net_convolution(net, "last", op, 4, 1, 1, 0, 0, true));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
	while (!check_passes(net, &t))
		assert_true(++t.seed < 1000);
	if (has_bf16)
	{
		t.precision = FA_PRECISION_BF16;
		t.tolerance = 2e-2;
		t.least_cosine = maxima ? 0.9 : 0.98;
		check_passes(net, &t);
	}
	fa_net_free(net);
}

static void
windows(void **state)
{
	static const struct
	{
		int kernel, stride, begin, end;
	} windows[] = {{1, 1, 0, 0}, {2, 2, 0, 0}, {3, 1, 1, 1}, {3, 2, 0, 1},
				   {3, 2, 1, 1}, {5, 1, 2, 2}, {7, 2, 3, 3}, {7, 2, FA_PAD_SAME, 0}};
	static const int channels[] = {1, 3, 4, 10, 16, 17, 64}, counts[] = {1, 2, 5};
	int n = 0;

	(void) state;
	for (int kind = 0; kind < 3; kind++)
		for (int w = 0; w < LENGTH(windows); w++)
			for (int c = 0; c < LENGTH(channels); c++)
			{
				int kernel = windows[w].kernel, stride = windows[w].stride;
				int begin = windows[w].begin, end = windows[w].end;
				fa_net net;
				int op = begin_operation(&net, channels[c]);

				if (kind == 0)
					op = fa_net_convolution(&net, "op", op, channels[(c + w) % LENGTH(channels)],
											kernel, stride, begin, end, n % 4 != 0);
				else if (kind == 1)
					op = fa_net_depthwise(&net, "op", op, kernel, stride, begin, end, n % 4 != 0);
				else
					op = fa_net_max_pool(&net, "op", op, kernel, stride, begin, end);
				check_operation(&net, op, counts[n % LENGTH(counts)], 6 + n % 3, 5 + n % 4,
								FA_BATCH_NORM_TRAINING);
				n++;
			}
}

static void
other_operations(void **state)
{
	static const fa_op_kind kinds[] = {FA_OP_BATCH_NORM, FA_OP_RELU,     FA_OP_RELU6,
									   FA_OP_SIGMOID,    FA_OP_DENSE,    FA_OP_GLOBAL_AVERAGE_POOL,
									   FA_OP_ADD,        FA_OP_UPSAMPLE, FA_OP_SCALE};
	static const int channels[] = {1, 3, 4, 10, 16, 17, 64}, counts[] = {1, 2, 5};
	int n = 0;

	(void) state;
	for (int k = 0; k < LENGTH(kinds); k++)
		for (int c = 0; c < LENGTH(channels); c++)
			for (int mode = 0; mode < (kinds[k] == FA_OP_BATCH_NORM ? 2 : 1); mode++)
			{
				fa_net net;
				int op = begin_operation(&net, channels[c]);

				if (kinds[k] == FA_OP_BATCH_NORM)
					op = fa_net_batch_norm(&net, "op", op, 1e-3f);
				else if (kinds[k] == FA_OP_DENSE)
					op = fa_net_dense(
						&net, "op", fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op), 17);
				else if (kinds[k] == FA_OP_ADD)
					op = fa_net_sum(&net, "op", op, fa_net_unary(&net, FA_OP_SIGMOID, "other", op));
				else if (kinds[k] == FA_OP_SCALE)
					op = fa_net_scale(&net, "op", op,
									  fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op));
				else
					op = fa_net_unary(&net, kinds[k], "op", op);
				check_operation(&net, op, counts[n % LENGTH(counts)], 5 + n % 3, 4 + n % 4,
								mode == 0 ? FA_BATCH_NORM_TRAINING : FA_BATCH_NORM_FROZEN);
				n++;
			}
}

/*
 * A residual block, its last parts there or not, with everything learning, nothing before
 * the block, and nothing but what follows it: three ways in which steps are made up.
 */
static void
residual_blocks(void **state)
{
	(void) state;
	for (int parts = 0; parts < 32; parts++)
		for (int frozen = 0; frozen < 3; frozen++)
		{
			trial t = {2, 6, 5, FA_BATCH_NORM_TRAINING, FA_PRECISION_FP32, NULL, 1, 1e-5, 0};
			float rates[16];
			fa_net net;
			fa_error error;
			int op = begin_operation(&net, 16), block = net.op_count, after, in;

			in = op =
				fa_net_unary(&net, FA_OP_RELU, "in", fa_net_batch_norm(&net, "in.bn", op, 1e-3f));
			if (parts & 1)
				in = fa_net_batch_norm(
					&net, "shortcut.bn",
					fa_net_convolution(&net, "shortcut", in, 16, 1, 1, 0, 0, false), 1e-3f);
			op = fa_net_convolution(&net, "main", op, 16, 3, 1, 1, 1, (parts & 2) != 0);
			if (parts & 4)
				op = fa_net_batch_norm(&net, "bn", op, 1e-3f);
			if (parts & 8)
				op = fa_net_scale(&net, "scale", op,
								  fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op));
			op = fa_net_sum(&net, "sum", op, in);
			if (parts & 16)
				op = fa_net_unary(&net, FA_OP_RELU, "relu", op);
			after = net.op_count;
			fa_net_output(&net, "last", fa_net_convolution(&net, "last", op, 4, 1, 1, 0, 0, true));
			assert_int_equal(fa_net_finish(&net, &error), FA_OK);
			assert_true(net.op_count <= LENGTH(rates));
			for (int i = 0; i < net.op_count; i++)
				rates[i] = i < (frozen == 0 ? 0 : frozen == 1 ? block : after) ? 0 : 1;
			t.rates = rates;
			while (!check_passes(&net, &t))
				assert_true(++t.seed < 1000);
			if (has_bf16)
			{
				t.precision = FA_PRECISION_BF16;
				t.tolerance = 2e-2;
				t.least_cosine = 0.98;
				check_passes(&net, &t);
			}
			fa_net_free(&net);
		}
}

/* A window wider than the image: what no pixel meets has no gradient, whatever lay in memory. */
static void
windows_wider_than_images(void **state)
{
	(void) state;
	for (int count = 2; count < 8; count++)
		for (int width = 1; width < 4; width++)
		{
			fa_net net;
			int op = begin_operation(&net, 16);

			op = fa_net_convolution(&net, "strided", op, 16, 3, 2, 1, 1, false);
			op = fa_net_convolution(&net, "wide", op, 16, 5, 1, 2, 2, false);
			check_operation(&net, op, count, width, 4 - width, FA_BATCH_NORM_TRAINING);
		}
}

/* Some operations frozen, both modes of batch norm. */
static void
random_networks(fa_precision precision, double tolerance)
{
	int judged = 0;

	for (uint64_t seed = 1; seed <= 300; seed++)
	{
		uint64_t random = seed;
		trial t = {.height = 3 + random_below(&random, 10),
				   .width = 3 + random_below(&random, 10),
				   .precision = precision,
				   .seed = seed,
				   .tolerance = tolerance,
				   .least_cosine = 0.8}; /* batch norm of a few values, and ReLU */
		float *rates;
		fa_net net;

		random_net(&net, &random, t.height, t.width);
		rates = malloc((size_t) net.op_count * sizeof(float));
		for (int i = 0; i < net.op_count; i++)
			rates[i] = i < net.op_count / 2 && seed % 4 == 0 ? 0 : random_below(&random, 4) > 0;
		t.count = 2 + random_below(&random, 3);
		t.mode = seed % 3 == 0 ? FA_BATCH_NORM_FROZEN : FA_BATCH_NORM_TRAINING;
		t.rates = seed % 2 == 0 ? rates : NULL;
		judged += check_passes(&net, &t) ? 1 : 0;
		free(rates);
		fa_net_free(&net);
	}
	if (judged < 200)
		fail_msg("only %d of 300 networks were judged", judged);
}

static void
random_networks_fp32(void **state)
{
	(void) state;
	random_networks(FA_PRECISION_FP32, 3e-5);
}

static void
random_networks_bf16(void **state)
{
	(void) state;
	if (!has_bf16)
		skip();
	random_networks(FA_PRECISION_BF16, 3e-2);
}

/* ---- Batch norm's statistics --------------------------------------------------------------- */

/* Five steps of the same images: the statistics approach theirs as momentum says. */
static void
running_statistics_follow(void **state)
{
	fa_trainer_options options = {3,    6, 5, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0.3f,
								  NULL, 1, 0};
	uint8_t *pixels = random_pixels(3, 6, 5, 2);
	fa_batch batch = {3, 6, 5, pixels};
	fa_weights weights, after;
	fa_trainer *trainer;
	reference *r;
	fa_net net;
	fa_error error;
	int op;

	(void) state;
	op = fa_net_convolution(&net, "conv", begin_net(&net), 10, 3, 1, 1, 1, true);
	fa_net_output(&net, "out", fa_net_batch_norm(&net, "bn", op, 1e-3f));
	assert_int_equal(fa_net_finish(&net, &error), FA_OK);
	weights = random_weights(&net, 1);
	trainer = open_trainer(&net, &weights, &options);
	r = reference_open(&net, &weights, 3, 6, 5);
	r->momentum = options.momentum;
	memset(r->batch_statistics, true, (size_t) net.op_count);
	for (int i = 0; i < 5; i++)
	{
		assert_int_equal(interface->forward(trainer, &batch, (float *[]){NULL}, &error), FA_OK);
		reference_forward(r, pixels);
	}
	after = state_of(trainer, FA_STATE_WEIGHTS);
	for (int i = 0; i < r->parameter_count; i++)
		check_values(r->parameters[i].name, after.tensors[i].values, r->values[i],
					 r->parameters[i].count, 1e-5, 0.1);
	interface->trainer_close(trainer);
	reference_close(r);
	fa_weights_free(&weights);
	fa_weights_free(&after);
	fa_net_free(&net);
	free(pixels);
}

/* Sums of squares lose digits where the mean is far from zero. */
static void
statistics_far_from_zero(void **state)
{
	fa_trainer_options options = {4,    32, 32, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 1.0f,
								  NULL, 1,  0};
	uint8_t *pixels = random_pixels(4, 32, 32, 2);
	fa_batch batch = {4, 32, 32, pixels};
	static const float mean[3] = {-3000, 0, 3000}, scale[3] = {1, 1, 1};
	float *out = malloc(4 * 32 * 32 * 3 * sizeof(float));
	fa_weights weights;
	fa_trainer *trainer;
	reference *r;
	fa_net net;
	fa_error error;

	(void) state;
	fa_net_begin(&net, "test");
	fa_net_output(&net, "out",
				  fa_net_batch_norm(&net, "bn", fa_net_input(&net, false, mean, scale), 1e-3f));
	assert_int_equal(fa_net_finish(&net, &error), FA_OK);
	weights = random_weights(&net, 1);
	trainer = open_trainer(&net, &weights, &options);
	r = reference_open(&net, &weights, 4, 32, 32);
	memset(r->batch_statistics, true, (size_t) net.op_count);
	reference_forward(r, pixels);
	assert_int_equal(interface->forward(trainer, &batch, (float *[]){out}, &error), FA_OK);
	check_values("out", out, r->tensors[1], reference_size(r, 1), 1e-4, 0);
	interface->trainer_close(trainer);
	reference_close(r);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
	free(out);
}

/* ---- Dropout --------------------------------------------------------------------------------- */

#define SIDE 32
#define DROPPED (4 * SIDE * SIDE * 8) /* values that dropout sees */

/* Two layers of dropout, seen with what they drop. */
static void
begin_dropout(fa_net *net, float rate)
{
	int op = fa_net_convolution(net, "conv", begin_net(net), 8, 3, 1, 1, 1, true);
	fa_error error;

	fa_net_output(net, "before", op);
	op = fa_net_dropout(net, "dropout", op, rate);
	fa_net_output(net, "after", op);
	op = fa_net_convolution(net, "second", op, 8, 1, 1, 0, 0, true);
	fa_net_output(net, "before2", op);
	fa_net_output(net, "after2", fa_net_dropout(net, "dropout2", op, rate));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

static double
share_zero(const float *values)
{
	int zeros = 0;

	for (int i = 0; i < DROPPED; i++)
		zeros += values[i] == 0;
	return (double) zeros / DROPPED;
}

/* Share of the places where both are zero or neither is. */
static double
agreement(const float *a, const float *b)
{
	int same = 0;

	for (int i = 0; i < DROPPED; i++)
		same += (a[i] == 0) == (b[i] == 0);
	return (double) same / DROPPED;
}

static void
dropout_drops_its_share(void **state)
{
	static const float rates[] = {0, 0.1f, 0.5f, 0.9f};
	uint8_t *pixels = random_pixels(4, SIDE, SIDE, 3);
	fa_batch batch = {4, SIDE, SIDE, pixels};
	float *values[4], *again = malloc(DROPPED * sizeof(float));
	fa_error error;

	(void) state;
	for (int i = 0; i < 4; i++)
		values[i] = malloc(DROPPED * sizeof(float));
	for (int i = 0; i < LENGTH(rates); i++)
	{
		fa_trainer_options options = {
			4, SIDE, SIDE, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0, NULL, 5, 0};
		double rate = rates[i], chance = rate * rate + (1 - rate) * (1 - rate);
		fa_weights weights;
		fa_trainer *trainer;
		fa_net net;

		begin_dropout(&net, rates[i]);
		weights = random_weights(&net, 1);
		trainer = open_trainer(&net, &weights, &options);
		assert_int_equal(interface->forward(trainer, &batch, values, &error), FA_OK);
		/* 32,768 values: six standard deviations are less than 0.017 */
		assert_float_equal(share_zero(values[1]), rate, 0.017);
		assert_float_equal(share_zero(values[3]), rate, 0.017);
		for (int layer = 0; layer < 4; layer += 2)
			for (int k = 0; k < DROPPED; k++)
				if (values[layer + 1][k] != 0)
					assert_float_equal(values[layer + 1][k], values[layer][k] / (1 - rate),
									   1e-5 * fabs(values[layer + 1][k]));
		/* layers, images and steps have nothing to do with one another */
		assert_float_equal(agreement(values[1], values[3]), chance, 0.017);
		memcpy(again, values[1] + DROPPED / 4, DROPPED / 4 * 3 * sizeof(float));
		memcpy(again + DROPPED / 4 * 3, values[1], DROPPED / 4 * sizeof(float));
		assert_float_equal(agreement(values[1], again), chance, 0.017);
		assert_int_equal(
			interface->forward(trainer, &batch, (float *[]){NULL, again, NULL, NULL}, &error),
			FA_OK);
		assert_float_equal(agreement(values[1], again), chance, 0.017);
		interface->trainer_close(trainer);

		/* the seed decides */
		for (int other = 0; other < 2; other++)
		{
			options.seed = 5 + (uint64_t) other;
			trainer = open_trainer(&net, &weights, &options);
			assert_int_equal(
				interface->forward(trainer, &batch, (float *[]){NULL, again, NULL, NULL}, &error),
				FA_OK);
			interface->trainer_close(trainer);
			assert_float_equal(agreement(values[1], again), other ? chance : 1, other ? 0.017 : 0);
		}
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
	for (int i = 0; i < 4; i++)
		free(values[i]);
	free(again);
	free(pixels);
}

/* A trainer that is told of passes made before drops what the first one would now. */
static void
dropout_goes_on(void **state)
{
	fa_trainer_options options = {4,    SIDE, SIDE, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0,
								  NULL, 5,    0};
	uint8_t *pixels = random_pixels(4, SIDE, SIDE, 3);
	fa_batch batch = {4, SIDE, SIDE, pixels};
	float *first[FA_MAX_OUTPUTS], *second[FA_MAX_OUTPUTS];
	fa_weights weights;
	fa_trainer *trainer;
	fa_net net;
	fa_error error;

	(void) state;
	begin_dropout(&net, 0.4f);
	weights = random_weights(&net, 1);
	make_outputs(&net, 4, SIDE, SIDE, NULL, first);
	make_outputs(&net, 4, SIDE, SIDE, NULL, second);
	trainer = open_trainer(&net, &weights, &options);
	for (int i = 0; i < 3; i++)
		assert_int_equal(interface->forward(trainer, &batch, first, &error), FA_OK);
	interface->trainer_close(trainer);
	options.first_pass = 2;
	trainer = open_trainer(&net, &weights, &options);
	assert_int_equal(interface->forward(trainer, &batch, second, &error), FA_OK);
	assert_memory_equal(first[1], second[1], DROPPED * sizeof(float));
	assert_int_equal(interface->forward(trainer, &batch, second, &error), FA_OK);
	assert_memory_not_equal(first[1], second[1], DROPPED * sizeof(float));
	interface->trainer_close(trainer);
	free_outputs(&net, first);
	free_outputs(&net, second);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

/* The gradient passes where the values did: the reference, told which these were, agrees. */
static void
dropout_backward(void **state)
{
	fa_trainer_options options = {4,    SIDE, SIDE, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0,
								  NULL, 5,    0};
	trial t = {.count = 4, .height = SIDE, .width = SIDE, .tolerance = 1e-5};
	uint8_t *pixels = random_pixels(4, SIDE, SIDE, 3);
	fa_batch batch = {4, SIDE, SIDE, pixels};
	float *values[FA_MAX_OUTPUTS], *slopes[FA_MAX_OUTPUTS];
	double *masks[2];
	uint64_t seed = 1;
	fa_weights weights, gradients;
	fa_trainer *trainer;
	reference *r;
	fa_net net;
	fa_error error;

	(void) state;
	begin_dropout(&net, 0.4f);
	weights = random_weights(&net, 1);
	make_outputs(&net, 4, SIDE, SIDE, NULL, values);
	make_outputs(&net, 4, SIDE, SIDE, &seed, slopes);
	trainer = open_trainer(&net, &weights, &options);
	r = reference_open(&net, &weights, 4, SIDE, SIDE);
	assert_int_equal(interface->forward(trainer, &batch, values, &error), FA_OK);
	for (int layer = 0; layer < 2; layer++)
	{
		masks[layer] = malloc(DROPPED * sizeof(double));
		for (int k = 0; k < DROPPED; k++)
			masks[layer][k] = values[2 * layer + 1][k] != 0 ? 1 / (1 - 0.4) : 0;
		r->masks[net.outputs[2 * layer + 1].op] = masks[layer];
	}
	reference_forward(r, pixels);
	for (int i = 0; i < 4; i++)
		check_values(net.outputs[i].name, values[i], r->tensors[net.outputs[i].op], DROPPED, 1e-5,
					 0.1);
	assert_int_equal(interface->backward(trainer, (const float *const *) slopes, &error), FA_OK);
	reference_backward(r, (const float *const *) slopes);
	gradients = state_of(trainer, FA_STATE_GRADIENTS);
	check_gradients(r, &gradients, &t);
	interface->trainer_close(trainer);
	reference_close(r);
	fa_weights_free(&weights);
	fa_weights_free(&gradients);
	free_outputs(&net, values);
	free_outputs(&net, slopes);
	fa_net_free(&net);
	for (int layer = 0; layer < 2; layer++)
		free(masks[layer]);
	free(pixels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows),
		cmocka_unit_test(other_operations),
		cmocka_unit_test(residual_blocks),
		cmocka_unit_test(windows_wider_than_images),
		cmocka_unit_test(random_networks_fp32),
		cmocka_unit_test(random_networks_bf16),
		cmocka_unit_test(running_statistics_follow),
		cmocka_unit_test(statistics_far_from_zero),
		cmocka_unit_test(dropout_drops_its_share),
		cmocka_unit_test(dropout_goes_on),
		cmocka_unit_test(dropout_backward),
		cmocka_unit_test(older_processors),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
