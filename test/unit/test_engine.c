/*
 * test_engine.c
 *		An engine's inference against the reference: every operation in odd sizes,
 *		networks at random, both precisions; and what engine.h promises beyond
 *		numbers. Knows the engine by its table alone.
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

/*
 * Largest difference allowed, as a share of the tensor's largest value. fp32: sums of
 * some hundred products. bf16 keeps 8 bits, so that one operation rounds its input,
 * its weights and its result by up to 1 / 512 each; a score in a row may make four times that.
 */
#define FP32_TOLERANCE 1e-5
#define BF16_TOLERANCE 1e-2
#define BF16_NETWORK_TOLERANCE 4e-2

/* ---- Running and comparing ---------------------------------------------------------- */

/* Runs images first ... first + count - 1 and compares them with the reference's. */
static void
check_outputs(fa_model *model, const reference *r, const fa_batch *batch, int first,
			  double tolerance, const char *what)
{
	const fa_net *net = r->net;
	float *outputs[FA_MAX_OUTPUTS];
	fa_error error;

	for (int i = 0; i < net->output_count; i++)
		outputs[i] = malloc(reference_size(r, net->outputs[i].op) * sizeof(float));
	if (interface->run(model, batch, outputs, NULL, &error) != FA_OK)
		fail_msg("%s: %s %s", what, error.message, error.detail);
	for (int i = 0; i < net->output_count; i++)
	{
		size_t image = reference_size(r, net->outputs[i].op) / (size_t) r->count;

		const double *expected = r->tensors[net->outputs[i].op];
		/* values are near 1: where all nearly cancel, what counts is what they are sums of */
		double largest = 0.1;

		for (size_t k = 0; k < image * (size_t) r->count; k++)
			largest = fmax(largest, fabs(expected[k]));
		check_values(what, outputs[i], expected + (size_t) first * image,
					 image * (size_t) batch->count, tolerance, largest);
		free(outputs[i]);
	}
}

/*
 * Finishes net and judges it: all images at once, then each alone. Net and weights are
 * gone when the model runs, as they may be.
 */
static void
check_net(fa_net *net, int count, int height, int width, fa_precision precision, double tolerance,
		  const char *what)
{
	uint8_t *pixels = random_pixels(count, height, width, 7);
	fa_batch batch = {count, height, width, pixels};
	fa_net copy = *net;
	fa_weights weights;
	fa_model *model;
	reference *r;
	fa_error error;

	assert_int_equal(fa_net_finish(net, &error), FA_OK);
	weights = random_weights(net, 3);
	r = reference_open(net, &weights, count, height, width);
	reference_forward(r, pixels);
	copy.ops = malloc((size_t) net->op_count * sizeof(fa_op));
	memcpy(copy.ops, net->ops, (size_t) net->op_count * sizeof(fa_op));
	model = load(&copy, &weights, precision);
	free(copy.ops);
	fa_weights_free(&weights);

	check_outputs(model, r, &batch, 0, tolerance, what);
	batch.count = 1;
	for (int i = 0; i < count && count > 1; i++)
	{
		batch.pixels = pixels + (size_t) i * height * width * 3;
		check_outputs(model, r, &batch, i, tolerance, what);
	}
	interface->unload(model);
	reference_close(r);
	fa_net_free(net);
	free(pixels);
}

/* In fp32, and in bf16 where the engine has it. */
static void
check_op(const fa_net *net, int count, int height, int width, const char *what)
{
	for (int bf16 = 0; bf16 <= (has_bf16 ? 1 : 0); bf16++)
	{
		fa_net copy = *net;

		copy.ops = malloc((size_t) net->op_capacity * sizeof(fa_op));
		memcpy(copy.ops, net->ops, (size_t) net->op_count * sizeof(fa_op));
		check_net(&copy, count, height, width, bf16 ? FA_PRECISION_BF16 : FA_PRECISION_FP32,
				  bf16 ? BF16_TOLERANCE : FP32_TOLERANCE, what);
	}
}

/* ---- Every operation ------------------------------------------------------------------ */

static const int channels[] = {1, 3, 4, 10, 16, 17, 64};
static const int counts[] = {1, 2, 5};
static const struct
{
	int height, width;
} sizes[] = {{7, 5}, {9, 12}, {16, 16}};

/* A tensor of so many channels to work on: the input itself, or made of it. */
static int
begin_with(fa_net *net, int width)
{
	int op = begin_net(net);

	return width == 3 ? op : fa_net_convolution(net, "first", op, width, 1, 1, 0, 0, true);
}

static void
windows(void **state)
{
	static const struct
	{
		int kernel, stride, begin, end;
	} windows[] = {{1, 1, 0, 0},          {1, 2, 0, 0},           {2, 2, 0, 0},
				   {3, 1, 1, 1},          {3, 1, 0, 0},           {3, 2, 0, 1},
				   {3, 2, 1, 0},          {3, 2, 1, 1},           {5, 1, 2, 2},
				   {7, 2, 3, 3},          {3, 2, FA_PAD_SAME, 0}, {7, 2, FA_PAD_SAME, 0},
				   {1, 2, FA_PAD_SAME, 0}};
	static const fa_op_kind kinds[] = {FA_OP_CONVOLUTION, FA_OP_DEPTHWISE, FA_OP_MAX_POOL};
	int n = 0;

	(void) state;
	for (int k = 0; k < LENGTH(kinds); k++)
		for (int w = 0; w < LENGTH(windows); w++)
			for (int c = 0; c < LENGTH(channels); c++)
			{
				int kernel = windows[w].kernel, stride = windows[w].stride;
				int begin = windows[w].begin, end = windows[w].end, size = n % LENGTH(sizes);
				/* every number of channels meets every other */
				int out = channels[(c + w) % LENGTH(channels)];
				bool bias = n % 4 != 0;
				char what[100];
				fa_net net;
				int op = begin_with(&net, channels[c]);

				snprintf(what, sizeof(what), "kind %d, %d to %d channels, kernel %d, stride %d",
						 kinds[k], channels[c], out, kernel, stride);
				if (kinds[k] == FA_OP_CONVOLUTION)
					op = fa_net_convolution(&net, "op", op, out, kernel, stride, begin, end, bias);
				else if (kinds[k] == FA_OP_DEPTHWISE)
					op = fa_net_depthwise(&net, "op", op, kernel, stride, begin, end, bias);
				else
					op = fa_net_max_pool(&net, "op", op, kernel, stride, begin, end);
				fa_net_output(&net, "out", op);
				check_op(&net, counts[n % LENGTH(counts)], sizes[size].height, sizes[size].width,
						 what);
				fa_net_free(&net);
				n++;
			}
}

static void
other_operations(void **state)
{
	static const fa_op_kind kinds[] = {FA_OP_BATCH_NORM, FA_OP_RELU,     FA_OP_RELU6,
									   FA_OP_SIGMOID,    FA_OP_DROPOUT,  FA_OP_GLOBAL_AVERAGE_POOL,
									   FA_OP_ADD,        FA_OP_UPSAMPLE, FA_OP_SCALE};
	int n = 0;

	(void) state;
	for (int k = 0; k < LENGTH(kinds); k++)
		for (int c = 0; c < LENGTH(channels); c++)
			for (int i = 0; i < LENGTH(counts); i++)
			{
				char what[100];
				fa_net net;
				int op = begin_with(&net, channels[c]), size = n++ % LENGTH(sizes);

				snprintf(what, sizeof(what), "kind %d, %d channels", kinds[k], channels[c]);
				if (kinds[k] == FA_OP_BATCH_NORM)
					op = fa_net_batch_norm(&net, "op", op, 1e-3f);
				else if (kinds[k] == FA_OP_DROPOUT)
					op = fa_net_dropout(&net, "op", op, 0.5f); /* nothing, in inference */
				else if (kinds[k] == FA_OP_ADD)
					op = fa_net_sum(&net, "op", op, fa_net_unary(&net, FA_OP_SIGMOID, "other", op));
				else if (kinds[k] == FA_OP_SCALE)
					op = fa_net_scale(&net, "op", op,
									  fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op));
				else
					op = fa_net_unary(&net, kinds[k], "op", op);
				fa_net_output(&net, "out", op);
				check_op(&net, counts[i], sizes[size].height, sizes[size].width, what);
				fa_net_free(&net);
			}
}

static void
dense_layers(void **state)
{
	(void) state;
	for (int c = 0; c < LENGTH(channels); c++)
		for (int i = 0; i < LENGTH(counts); i++)
		{
			fa_net net;
			int op = begin_with(&net, channels[c]);

			op = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
			op = fa_net_dense(&net, "hidden", op, channels[(c + 3) % LENGTH(channels)]);
			op = fa_net_unary(&net, FA_OP_RELU, "relu", op);
			fa_net_output(&net, "a", fa_net_dense(&net, "a", op, 2));
			fa_net_output(&net, "b", fa_net_dense(&net, "b", op, 101));
			check_op(&net, counts[i], 6, 5, "dense layers");
			fa_net_free(&net);
		}
}

/* An activation may run as part of what is before it, unless somebody else reads that. */
static void
activations_that_join(void **state)
{
	static const fa_op_kind kinds[] = {FA_OP_RELU, FA_OP_RELU6, FA_OP_SIGMOID};

	(void) state;
	for (int k = 0; k < LENGTH(kinds); k++)
		for (int before = 0; before < 3; before++)
			for (int read = 0; read < 3; read++)
			{
				fa_net net;
				int op = begin_with(&net, 10), activated;

				if (before == 0)
					op = fa_net_convolution(&net, "op", op, 17, 3, 1, 1, 1, true);
				else if (before == 1)
					op = fa_net_depthwise(&net, "op", op, 3, 1, 1, 1, true);
				else
					op = fa_net_batch_norm(&net, "op", op, 1e-3f);
				activated = fa_net_unary(&net, kinds[k], "activation", op);
				if (read == 1)
					fa_net_output(&net, "before", op);
				if (read == 2)
					activated = fa_net_sum(&net, "sum", activated, op);
				fa_net_output(&net, "after", activated);
				check_op(&net, 2, 7, 6, "joined activation");
				fa_net_free(&net);
			}
}

/*
 * A residual block's end: convolution, batch norm, factors, sum, activation, each there or
 * not, and the sum's other side read by nobody, by somebody later, or by the caller.
 */
static void
sums_that_join(void **state)
{
	(void) state;
	for (int parts = 0; parts < 64; parts++)
		for (int read = 0; read < 3; read++)
		{
			fa_net net;
			int op = begin_with(&net, 16), shortcut, summed;

			shortcut = fa_net_convolution(&net, "shortcut", op, 16, 1, 1, 0, 0, true);
			op = fa_net_convolution(&net, "main", parts & 32 ? shortcut : op, 16, 3, 1, 1, 1,
									(parts & 1) != 0);
			if (parts & 2)
				op = fa_net_batch_norm(&net, "norm", op, 1e-3f);
			if (parts & 4)
				op = fa_net_scale(&net, "scale", op,
								  fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op));
			summed = parts & 8 ? fa_net_sum(&net, "sum", op, shortcut)
							   : fa_net_sum(&net, "sum", shortcut, op);
			op = parts & 16 ? fa_net_unary(&net, FA_OP_RELU, "relu", summed) : summed;
			if (read == 1)
				op = fa_net_sum(&net, "again", op, shortcut);
			if (read == 2)
				fa_net_output(&net, "shortcut", shortcut);
			fa_net_output(&net, "out", fa_net_convolution(&net, "last", op, 4, 1, 1, 0, 0, true));
			check_op(&net, 2, 7, 6, "joined sum");
			fa_net_free(&net);
		}
}

/* The input alone: bytes to numbers, exactly, in either order of channels. */
static void
input_as_documented(void **state)
{
	static const float mean[3] = {103.939f, 116.779f, 123.68f}, scale[3] = {1, 0.5f, 0.017f};

	(void) state;
	for (int bgr = 0; bgr < 2; bgr++)
	{
		uint8_t *pixels = random_pixels(3, 5, 7, 1); /* 105 pixels: no multiple of a vector */
		float out[3 * 5 * 7 * 3];
		fa_batch batch = {3, 5, 7, pixels};
		fa_weights none = {0};
		fa_model *model;
		fa_net net;
		fa_error error;

		fa_net_begin(&net, "input");
		fa_net_output(&net, "out", fa_net_input(&net, bgr != 0, mean, scale));
		assert_int_equal(fa_net_finish(&net, &error), FA_OK);
		model = load(&net, &none, FA_PRECISION_FP32);
		assert_int_equal(interface->run(model, &batch, (float *[]){out}, NULL, &error), FA_OK);
		for (int i = 0; i < 3 * 5 * 7; i++)
			for (int c = 0; c < 3; c++)
				assert_float_equal(out[3 * i + c],
								   (pixels[3 * i + (bgr ? 2 - c : c)] - mean[c]) * scale[c], 0);
		interface->unload(model);
		fa_net_free(&net);
		free(pixels);
	}
}

/* ---- Networks at random ------------------------------------------------------------------ */

static void
random_networks(fa_precision precision, double tolerance)
{
	for (uint64_t seed = 1; seed <= 300; seed++)
	{
		uint64_t random = seed;
		int height = 3 + random_below(&random, 14), width = 3 + random_below(&random, 14);
		char what[40];
		fa_net net;

		random_net(&net, &random, height, width);
		snprintf(what, sizeof(what), "random network %d", (int) seed);
		check_net(&net, 1 + random_below(&random, 3), height, width, precision, tolerance, what);
	}
}

static void
random_networks_fp32(void **state)
{
	(void) state;
	random_networks(FA_PRECISION_FP32, FP32_TOLERANCE);
}

static void
random_networks_bf16(void **state)
{
	(void) state;
	if (!has_bf16)
		skip();
	random_networks(FA_PRECISION_BF16, BF16_NETWORK_TOLERANCE);
}

/* ---- What a model must live through -------------------------------------------------------- */

/* A network of several levels, and its reference for one size. */
static void
begin_levels(fa_net *net)
{
	int op = begin_net(net), level;
	fa_error error;

	op = fa_net_convolution(net, "one", op, 16, 3, 2, 0, 1, true);
	op = level = fa_net_unary(net, FA_OP_RELU6, "one.relu", op);
	op = fa_net_depthwise(net, "two", op, 3, 2, 0, 1, true);
	op = fa_net_convolution(net, "three", op, 16, 1, 1, 0, 0, true);
	op = fa_net_unary(net, FA_OP_UPSAMPLE, "up", op);
	op = fa_net_sum(net, "sum", level, op);
	fa_net_output(net, "map", fa_net_convolution(net, "map", op, 5, 3, 1, 1, 1, true));
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(net, "label", fa_net_dense(net, "label", op, 7));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

static void
check_size(fa_model *model, const fa_net *net, const fa_weights *weights, int count, int height,
		   int width)
{
	uint8_t *pixels = random_pixels(count, height, width, (uint64_t) count + height + width);
	fa_batch batch = {count, height, width, pixels};
	reference *r = reference_open(net, weights, count, height, width);
	char what[60];

	snprintf(what, sizeof(what), "%d images of %d x %d", count, width, height);
	reference_forward(r, pixels);
	check_outputs(model, r, &batch, 0, FP32_TOLERANCE, what);
	reference_close(r);
	free(pixels);
}

/* More sizes than a model keeps, each met again; two models on one engine, in turns. */
static void
sizes_in_any_order(void **state)
{
	fa_net net;
	fa_weights weights[2];
	fa_model *models[2];
	uint64_t seed = 1;

	(void) state;
	begin_levels(&net);
	for (int i = 0; i < 2; i++)
	{
		weights[i] = random_weights(&net, (uint64_t) i + 1);
		models[i] = load(&net, &weights[i], FA_PRECISION_FP32);
	}
	for (int i = 0; i < 60; i++)
	{
		int which = random_below(&seed, 2), size = 8 + 4 * random_below(&seed, 14);

		check_size(models[which], &net, &weights[which], 1 + random_below(&seed, 3), size,
				   size % 12 + 4);
	}
	/* some 100 MB of tensors, after which memory may have moved */
	check_size(models[0], &net, &weights[0], 1, 1024, 1024);
	for (int i = 0; i < 4; i++)
		check_size(models[i % 2], &net, &weights[i % 2], 1, 16, 16);
	for (int i = 0; i < 2; i++)
	{
		interface->unload(models[i]);
		fa_weights_free(&weights[i]);
	}
	fa_net_free(&net);
}

static void
threads_change_nothing(void **state)
{
	fa_net net;
	fa_weights weights;
	fa_model *model;

	(void) state;
	begin_levels(&net);
	weights = random_weights(&net, 1);
	model = load(&net, &weights, FA_PRECISION_FP32);
	for (int threads = 1; threads <= 4; threads++)
	{
		interface->set_threads(engine, threads);
		check_size(model, &net, &weights, 3, 36, 28);
	}
	interface->set_threads(engine, 1);
	check_size(model, &net, &weights, 3, 36, 28);
	interface->unload(model);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static bool
stop_at(void *argument)
{
	return --*(int *) argument == 0;
}

/* Stopped at every question it asks, first while compiling; then it works as ever. */
static void
interrupted_anywhere(void **state)
{
	uint8_t *pixels = random_pixels(2, 20, 20, 1);
	float map[2 * 10 * 10 * 5], label[2 * 7];
	float *outputs[2] = {map, label};
	fa_batch batch = {2, 20, 20, pixels};
	fa_net net;
	fa_weights weights;
	fa_error error;

	(void) state;
	begin_levels(&net);
	weights = random_weights(&net, 1);
	for (int compiled = 0; compiled < 2; compiled++)
	{
		fa_model *model = load(&net, &weights, FA_PRECISION_FP32);
		int left = 0, stops = 0;
		fa_interrupt interrupt = {stop_at, &left};

		if (compiled)
			assert_int_equal(interface->run(model, &batch, outputs, NULL, &error), FA_OK);
		for (int stop = 1;; stop++)
		{
			fa_status status;

			left = stop;
			status = interface->run(model, &batch, outputs, &interrupt, &error);
			if (status == FA_OK)
				break;
			assert_int_equal(status, FA_INTERRUPTED);
			assert_int_equal(error.status, FA_INTERRUPTED);
			stops++;
			if (!compiled) /* begin anew: what was compiled is gone */
				assert_true(left == 0);
			if (!compiled && stop % 3 == 0)
				check_size(model, &net, &weights, 1, 12, 12);
		}
		assert_true(stops >= net.op_count - 4); /* between layers */
		check_size(model, &net, &weights, 2, 20, 20);
		interface->unload(model);
	}
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

static void
outputs_nobody_wants(void **state)
{
	uint8_t *pixels = random_pixels(1, 12, 12, 1);
	float both[2][6 * 6 * 5], one[7];
	fa_batch batch = {1, 12, 12, pixels};
	fa_net net;
	fa_weights weights;
	fa_model *model;
	fa_error error;

	(void) state;
	begin_levels(&net);
	weights = random_weights(&net, 1);
	model = load(&net, &weights, FA_PRECISION_FP32);
	assert_int_equal(interface->run(model, &batch, (float *[]){both[0], both[1]}, NULL, &error),
					 FA_OK);
	assert_int_equal(interface->run(model, &batch, (float *[]){NULL, one}, NULL, &error), FA_OK);
	assert_memory_equal(one, both[1], sizeof(one));
	assert_int_equal(interface->run(model, &batch, (float *[]){NULL, NULL}, NULL, &error), FA_OK);
	interface->unload(model);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

static void
calls_that_make_no_sense(void **state)
{
	uint8_t *pixels = random_pixels(1, 12, 12, 1);
	float map[6 * 6 * 5], label[7], *outputs[2] = {map, label};
	fa_net net, other;
	fa_weights weights, none = {0};
	fa_model *model;
	fa_error error;

	(void) state;
	begin_levels(&net);
	weights = random_weights(&net, 1);
	assert_int_equal(interface->load(engine, &net, &none, FA_PRECISION_FP32, &model, &error),
					 FA_INVALID);
	assert_null(model);
	assert_non_null(strstr(error.message, "\"one.weight\""));
	fa_net_begin(&other, "other");
	fa_net_convolution(&other, "one", begin_net(&other), 17, 3, 1, 1, 1, true);
	assert_int_equal(interface->load(engine, &other, &weights, FA_PRECISION_FP32, &model, &error),
					 FA_INVALID);
	assert_non_null(strstr(error.message, "\"one.weight\""));
	fa_net_free(&other);

	model = load(&net, &weights, FA_PRECISION_FP32);
	assert_int_equal(interface->run(model, &(fa_batch){0, 12, 12, pixels}, outputs, NULL, &error),
					 FA_INVALID);
	assert_int_equal(interface->run(model, &(fa_batch){1, 0, 12, pixels}, outputs, NULL, &error),
					 FA_INVALID);
	/* 10 rows become 5, halved and doubled again 4, which cannot be added to 5 */
	assert_int_equal(interface->run(model, &(fa_batch){1, 10, 12, pixels}, outputs, NULL, &error),
					 FA_INVALID);
	assert_int_equal(
		interface->run(model, &(fa_batch){1 << 20, 4096, 4096, pixels}, outputs, NULL, &error),
		FA_TOO_LARGE);
	check_size(model, &net, &weights, 1, 12, 12);
	interface->unload(model);
	interface->unload(NULL);
	interface->close(NULL);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

/* ---- Precisions ------------------------------------------------------------------------------ */

static void
precisions(void **state)
{
	fa_precision precision = FA_PRECISION_AUTO;
	fa_error error;

	(void) state;
	assert_int_equal(interface->resolve_precision(engine, FA_PRECISION_FP32, &precision, &error),
					 FA_OK);
	assert_int_equal(precision, FA_PRECISION_FP32);
	assert_int_equal(interface->resolve_precision(engine, FA_PRECISION_AUTO, &precision, &error),
					 FA_OK);
	assert_int_equal(precision, has_bf16 ? FA_PRECISION_BF16 : FA_PRECISION_FP32);
	if (!has_bf16)
	{
		fa_net net;
		fa_weights weights;
		fa_model *model;

		assert_int_equal(
			interface->resolve_precision(engine, FA_PRECISION_BF16, &precision, &error),
			FA_UNSUPPORTED);
		assert_true(error.message[0] != '\0');
		begin_levels(&net);
		weights = random_weights(&net, 1);
		assert_int_equal(interface->load(engine, &net, &weights, FA_PRECISION_BF16, &model, &error),
						 FA_UNSUPPORTED);
		interface->unload(load(&net, &weights, FA_PRECISION_AUTO));
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows),
		cmocka_unit_test(other_operations),
		cmocka_unit_test(dense_layers),
		cmocka_unit_test(activations_that_join),
		cmocka_unit_test(sums_that_join),
		cmocka_unit_test(input_as_documented),
		cmocka_unit_test(random_networks_fp32),
		cmocka_unit_test(random_networks_bf16),
		cmocka_unit_test(sizes_in_any_order),
		cmocka_unit_test(threads_change_nothing),
		cmocka_unit_test(interrupted_anywhere),
		cmocka_unit_test(outputs_nobody_wants),
		cmocka_unit_test(calls_that_make_no_sense),
		cmocka_unit_test(precisions),
		cmocka_unit_test(older_processors),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
