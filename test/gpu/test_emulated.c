/*
 * test_emulated.c
 *		The CUDA engine on an emulated device (emulation.h): the same answers as the
 *		reference and the CPU engine give, whatever cuDNN can plan, and a clean error
 *		whichever call fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../gpu/cuda_engine.h"
#include "../../gpu/plan.h"
#include "../../src/nn/networks.h"
#include "../unit/random_net.h"
#include "../unit/reference.h"
#include "emulation.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

static const fa_engine_interface *interface;
static fa_engine *engine;

static int
open_engine(void **state)
{
	fa_error error;

	(void) state;
	emulated_device(90);
	emulated_plans(EMULATED_ALL);
	emulated_spoil_plans(0);
	emulated_fail(0);
	interface = fa_cuda_engine(sizeof(fa_engine_interface));
	assert_non_null(interface);
	assert_int_equal(interface->open(NULL, &engine, &error), FA_OK);
	return 0;
}

static int
close_engine(void **state)
{
	(void) state;
	interface->close(engine);
	assert_int_equal(emulated_alive(), 0);
	return 0;
}

static fa_model *
load(const fa_net *net, const fa_weights *weights, fa_precision precision)
{
	fa_model *model;
	fa_error error;

	if (interface->load(engine, net, weights, precision, &model, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return model;
}

static size_t
output_size(const fa_net *net, int output, int count, int height, int width)
{
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape)), *s;
	fa_error error;
	size_t size;

	assert_int_equal(fa_net_shapes(net, height, width, shapes, &error), FA_OK);
	s = &shapes[net->outputs[output].op];
	size = (size_t) count * s->height * s->width * s->channels;
	free(shapes);
	return size;
}

static void
allocate_outputs(const fa_net *net, int count, int height, int width, float **outputs)
{
	for (int i = 0; i < net->output_count; i++)
		outputs[i] = calloc(output_size(net, i, count, height, width), sizeof(float));
}

static void
free_outputs(const fa_net *net, float **outputs)
{
	for (int i = 0; i < net->output_count; i++)
		free(outputs[i]);
}

static void
run(fa_model *model, int count, int height, int width, const uint8_t *pixels, float **outputs)
{
	fa_batch batch = {count, height, width, pixels};
	fa_error error;

	if (interface->run(model, &batch, outputs, NULL, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
}

/* --- Against the reference ------------------------------------------------------------ */

/* Three runs: step by step, captured and launched, launched. */
static void
random_networks(int plans, fa_precision precision, double tolerance, int tries)
{
	emulated_plans(plans);
	for (uint64_t seed = 1; seed <= (uint64_t) tries; seed++)
	{
		uint64_t state = seed * 1000 + plans;
		int height = 4 + random_below(&state, 14), width = 4 + random_below(&state, 14);
		int count = 1 + random_below(&state, 3);
		float *outputs[FA_MAX_OUTPUTS];
		fa_net net;
		fa_weights weights;
		uint8_t *pixels = random_pixels(count, height, width, seed);
		reference *r;
		fa_model *model;

		random_net(&net, &state, height, width);
		weights = random_weights(&net, seed);
		r = reference_open(&net, &weights, count, height, width);
		reference_forward(r, pixels);
		emulated_spoil_plans(seed % 2);
		model = load(&net, &weights, precision);
		allocate_outputs(&net, count, height, width, outputs);
		for (int turn = 0; turn < 3; turn++)
		{
			run(model, count, height, width, pixels, outputs);
			for (int i = 0; i < net.output_count; i++)
			{
				size_t size = output_size(&net, i, count, height, width);
				const double *expected = r->tensors[net.outputs[i].op];
				double largest = 1;

				for (size_t k = 0; k < size; k++)
					largest = fmax(largest, fabs(expected[k]));
				for (size_t k = 0; k < size; k++)
					if (!(fabs(outputs[i][k] - expected[k]) <= tolerance * largest))
						fail_msg("network %d, turn %d, output %d: value %zu is %g, not %g",
								 (int) seed, turn, i, k, outputs[i][k], expected[k]);
			}
			memset(outputs[0], 0xff, sizeof(float)); /* written again */
		}
		free_outputs(&net, outputs);
		interface->unload(model);
		reference_close(r);
		fa_net_free(&net);
		fa_weights_free(&weights);
		free(pixels);
	}
}

static void
test_random_networks(void **state)
{
	int convolutions = emulated_convolutions();

	(void) state;
	random_networks(EMULATED_ALL, FA_PRECISION_FP32, 2e-5, 80);
	assert_true(emulated_convolutions() > convolutions);
}

static void
test_without_fusion(void **state)
{
	(void) state;
	random_networks(EMULATED_UNFUSED, FA_PRECISION_FP32, 2e-5, 40);
}

static void
test_without_plans(void **state)
{
	int convolutions = emulated_convolutions();

	(void) state;
	random_networks(EMULATED_NONE, FA_PRECISION_FP32, 2e-5, 40);
	assert_int_equal(emulated_convolutions(), convolutions);
}

static void
test_low_precisions(void **state)
{
	(void) state;
	random_networks(EMULATED_ALL, FA_PRECISION_TF32, 1e-2, 20);
	random_networks(EMULATED_ALL, FA_PRECISION_FP16, 1e-2, 20);
	random_networks(EMULATED_ALL, FA_PRECISION_BF16, 8e-2, 20);
	random_networks(EMULATED_NONE, FA_PRECISION_FP16, 1e-2, 10);
	random_networks(EMULATED_UNFUSED, FA_PRECISION_BF16, 8e-2, 10);
}

/* --- Against the CPU engine -------------------------------------------------------------- */

#define COUNT 3

/* L2 norm of the difference over that of what is expected. */
static double
distance(const float *values, const float *expected, size_t count)
{
	double difference = 0, norm = 1e-20;

	for (size_t i = 0; i < count; i++)
	{
		difference += pow((double) values[i] - expected[i], 2);
		norm += (double) expected[i] * expected[i];
	}
	return sqrt(difference / norm);
}

static void
compare(fa_net *net, int side)
{
	static const struct
	{
		fa_precision precision;
		double tolerance;
	} trials[] = {{FA_PRECISION_FP32, 1e-5},
				  {FA_PRECISION_TF32, 1e-2},
				  {FA_PRECISION_FP16, 1e-2},
				  {FA_PRECISION_BF16, 1e-1}};
	fa_weights weights = random_weights(net, 7);
	uint8_t *pixels = random_pixels(COUNT, side, side, 11);
	fa_batch batch = {COUNT, side, side, pixels};
	float *expected[FA_MAX_OUTPUTS], *outputs[FA_MAX_OUTPUTS];
	fa_engine *cpu;
	fa_model *model;
	fa_error error;

	allocate_outputs(net, COUNT, side, side, expected);
	allocate_outputs(net, COUNT, side, side, outputs);
	assert_int_equal(fa_cpu_engine.open(NULL, &cpu, &error), FA_OK);
	assert_int_equal(fa_cpu_engine.load(cpu, net, &weights, FA_PRECISION_FP32, &model, &error),
					 FA_OK);
	assert_int_equal(fa_cpu_engine.run(model, &batch, expected, NULL, &error), FA_OK);
	fa_cpu_engine.unload(model);
	fa_cpu_engine.close(cpu);
	for (int t = 0; t < LENGTH(trials); t++)
	{
		model = load(net, &weights, trials[t].precision);
		run(model, COUNT, side, side, pixels, outputs);
		for (int i = 0; i < net->output_count; i++)
		{
			double d = distance(outputs[i], expected[i], output_size(net, i, COUNT, side, side));

			if (!(d < trials[t].tolerance))
				fail_msg("%s, precision %d: output %s differs by %g", net->name,
						 trials[t].precision, net->outputs[i].name, d);
		}
		interface->unload(model);
	}
	free_outputs(net, expected);
	free_outputs(net, outputs);
	fa_weights_free(&weights);
	fa_net_free(net);
	free(pixels);
}

static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}};

static void
test_networks(void **state)
{
	static const struct
	{
		const char *name;
		int hidden;
		bool batch_norm;
	} networks[] = {{"mobilenet_v1", 64, true},
					{"resnet50", 0, true},
					{"senet50", 0, false},
					{"vgg16", 0, false}};
	fa_error error;
	fa_net net;

	(void) state;
	for (int i = 0; i < LENGTH(networks); i++)
	{
		assert_int_equal(fa_net_by_name(networks[i].name, &net, heads, 3, networks[i].hidden,
										networks[i].batch_norm, 0.1f, &error),
						 FA_OK);
		compare(&net, 33);
	}
}

static void
test_detector(void **state)
{
	fa_error error;
	fa_net net;

	(void) state;
	assert_int_equal(fa_net_yunet_n(&net, &error), FA_OK);
	compare(&net, 64);
}

/* --- Batches, programs ---------------------------------------------------------------------- */

static void
small_net(fa_net *net)
{
	fa_error error;
	int op = begin_net(net), sum;

	op = fa_net_convolution(net, "one", op, 12, 3, 2, FA_PAD_SAME, 0, true);
	op = sum = fa_net_unary(net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(net, "two", op, 3, 1, 1, 1, false);
	op = fa_net_batch_norm(net, "norm", op, 1e-3f);
	op = fa_net_convolution(net, "three", op, 12, 1, 1, 0, 0, false);
	op = fa_net_sum(net, "sum", op, sum);
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(net, "logits", fa_net_dense(net, "dense", op, 5));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

/* More images than the largest batch, sizes that share nothing, and back again. */
static void
test_batches(void **state)
{
	static const int counts[] = {1, 2, 3, 5, 8, 300, 1};
	fa_net net;
	fa_weights weights;
	uint8_t *pixels = random_pixels(300, 9, 9, 3);
	float *all[FA_MAX_OUTPUTS], *some[FA_MAX_OUTPUTS];
	fa_model *model;

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	allocate_outputs(&net, 300, 9, 9, all);
	allocate_outputs(&net, 300, 9, 9, some);
	model = load(&net, &weights, FA_PRECISION_FP32);
	for (int i = 0; i < 300; i++)
	{
		float *one[1] = {all[0] + (size_t) i * 5};

		run(model, 1, 9, 9, pixels + (size_t) i * 9 * 9 * 3, one);
	}
	for (int t = 0; t < LENGTH(counts); t++)
	{
		memset(some[0], 0, (size_t) counts[t] * 5 * sizeof(float));
		run(model, counts[t], 9, 9, pixels, some);
		assert_true(distance(some[0], all[0], (size_t) counts[t] * 5) < 1e-6);
	}
	/* more sizes than a model keeps programs of */
	for (int side = 1; side <= 20; side++)
		run(model, 1, side, side, pixels, some);
	run(model, 1, 9, 9, pixels, some);
	assert_true(distance(some[0], all[0], 5) < 1e-6);
	interface->unload(model);
	free_outputs(&net, all);
	free_outputs(&net, some);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

static void
test_batch_classes(void **state)
{
	(void) state;
	assert_int_equal(fa_gpu_batch_class(1, 224, 224), 1);
	assert_int_equal(fa_gpu_batch_class(5, 224, 224), 8);
	assert_int_equal(fa_gpu_batch_class(64, 224, 224), 64);
	assert_int_equal(fa_gpu_batch_class(100000, 224, 224), 64);
	assert_int_equal(fa_gpu_batch_class(64, 640, 640), 32);
	assert_int_equal(fa_gpu_batch_class(64, 100000, 100000), 1);
	assert_int_equal(fa_gpu_batch_class(64, 2147483647, 2147483647), 1);
}

/* The graph is made once and launched from the second run on. */
static void
test_whole(void **state)
{
	fa_net net;
	fa_weights weights;
	uint8_t *pixels = random_pixels(1, 9, 9, 3);
	float *outputs[FA_MAX_OUTPUTS];
	int launches = emulated_launches();
	fa_model *model;

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	allocate_outputs(&net, 1, 9, 9, outputs);
	model = load(&net, &weights, FA_PRECISION_FP16);
	for (int i = 0; i < 4; i++)
	{
		run(model, 1, 9, 9, pixels, outputs);
		assert_int_equal(emulated_launches() - launches, i);
	}
	interface->unload(model);
	free_outputs(&net, outputs);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

/* What a batch of one takes, once the model is warm: graphs of cuDNN's and kernels. */
static void
count_work(const fa_net *net, const fa_weights *weights, int *graphs, int *kernels)
{
	uint8_t *pixels = random_pixels(1, 33, 33, 3);
	fa_model *model = load(net, weights, FA_PRECISION_FP32);
	float *outputs[FA_MAX_OUTPUTS];

	allocate_outputs(net, 1, 33, 33, outputs);
	run(model, 1, 33, 33, pixels, outputs);
	*graphs = emulated_convolutions();
	*kernels = emulated_kernels();
	run(model, 1, 33, 33, pixels, outputs);
	*graphs = emulated_convolutions() - *graphs;
	*kernels = emulated_kernels() - *kernels;
	interface->unload(model);
	free_outputs(net, outputs);
	free(pixels);
}

/*
 * Bias, sum and activation are done by the convolution's graph wherever cuDNN can; of 53
 * convolutions and the heads nothing is left for kernels but the pixels, the pools and the outputs.
 */
static void
test_fused(void **state)
{
	const int rest = 3;
	int graphs, kernels;
	fa_weights weights;
	fa_error error;
	fa_net net;

	(void) state;
	assert_int_equal(fa_net_by_name("resnet50", &net, heads, 3, 0, true, 0.1f, &error), FA_OK);
	weights = random_weights(&net, 7);
	count_work(&net, &weights, &graphs, &kernels);
	assert_int_equal(graphs, 53 + 3);
	assert_int_equal(kernels, rest + net.output_count);
	interface->close(engine); /* which knows the plans */
	emulated_plans(EMULATED_UNFUSED);
	assert_int_equal(interface->open(NULL, &engine, &error), FA_OK);
	count_work(&net, &weights, &graphs, &kernels);
	assert_int_equal(graphs, 53 + 3);
	assert_int_equal(kernels, rest + net.output_count + graphs);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* --- When things go wrong --------------------------------------------------------------------- */

static bool
count_down(void *left)
{
	return --*(int *) left < 0;
}

/* A statement that is cancelled anywhere leaves a model that works. */
static void
test_interrupt(void **state)
{
	fa_net net;
	fa_weights weights;
	uint8_t *pixels = random_pixels(2, 9, 9, 3);
	float *expected[FA_MAX_OUTPUTS], *outputs[FA_MAX_OUTPUTS];
	fa_batch batch = {2, 9, 9, pixels};
	fa_status status = FA_INTERRUPTED;
	fa_model *model;
	fa_error error;

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	allocate_outputs(&net, 2, 9, 9, expected);
	allocate_outputs(&net, 2, 9, 9, outputs);
	model = load(&net, &weights, FA_PRECISION_FP32);
	run(model, 2, 9, 9, pixels, expected);
	interface->unload(model);
	for (int allowed = 0; status == FA_INTERRUPTED; allowed++)
	{
		int left = allowed;
		fa_interrupt interrupt = {count_down, &left};

		model = load(&net, &weights, FA_PRECISION_FP32);
		status = interface->run(model, &batch, outputs, &interrupt, &error);
		assert_true(status == FA_OK || status == FA_INTERRUPTED);
		run(model, 2, 9, 9, pixels, outputs);
		assert_true(distance(outputs[0], expected[0], 10) < 1e-6);
		interface->unload(model);
		assert_true(allowed < 100);
	}
	free_outputs(&net, expected);
	free_outputs(&net, outputs);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

/* Devices that there is no code for do not open; nor do those that the driver cannot drive. */
static void
test_useless_devices(void **state)
{
	static const int old[] = {37, 61, 70, 72, 110}, good[] = {75, 86, 90, 103, 121};
	static const struct
	{
		const char *call;
		int code;
	} faults[] = {{"cudaGetDeviceCount", cudaErrorInsufficientDriver},
				  {"cudaGetDeviceCount", cudaErrorSystemDriverMismatch},
				  {"cudaGetDeviceCount", cudaErrorCompatNotSupportedOnDevice},
				  {"cudaFuncGetAttributes", cudaErrorUnsupportedPtxVersion},
				  {"cudaFuncGetAttributes", cudaErrorInvalidDeviceFunction}};
	fa_engine *other;
	fa_error error;
	char words[64];

	(void) state;
	for (int i = 0; i < LENGTH(old); i++)
	{
		emulated_device(old[i]);
		assert_int_equal(interface->open(NULL, &other, &error), FA_UNSUPPORTED);
		snprintf(words, sizeof(words), "compute capability %d.%d", old[i] / 10, old[i] % 10);
		assert_non_null(strstr(error.message, words));
		assert_non_null(strstr(error.detail, "7.5"));
	}
	for (int i = 0; i < LENGTH(good); i++)
	{
		emulated_device(good[i]);
		assert_int_equal(interface->open(NULL, &other, &error), FA_OK);
		interface->close(other);
	}
	emulated_device(90);
	for (int i = 0; i < LENGTH(faults); i++)
	{
		emulated_fault(faults[i].call, 1, faults[i].code);
		assert_int_equal(interface->open(NULL, &other, &error), FA_UNSUPPORTED);
		emulated_fault(NULL, 0, 0);
	}
	/* not for good: another process may give it back */
	emulated_fault("cudaSetDevice", 1, cudaErrorDevicesUnavailable);
	assert_int_equal(interface->open(NULL, &other, &error), FA_INTERNAL);
	emulated_fault(NULL, 0, 0);
}

static void
test_refusals(void **state)
{
	fa_net net;
	fa_weights weights, none = {0};
	uint8_t pixel[3] = {0};
	float values[5], *outputs[1] = {values};
	fa_batch empty = {0, 9, 9, pixel}, huge = {1, 1 << 19, 1 << 19, pixel},
			 negative = {1, -3, 9, pixel};
	fa_precision precision;
	fa_engine *other;
	fa_model *model;
	fa_error error;

	(void) state;
	assert_null(fa_cuda_engine(sizeof(fa_engine_interface) + 8));
	emulated_device(75);
	assert_int_equal(interface->open(NULL, &other, &error), FA_OK);
	assert_int_equal(interface->resolve_precision(other, FA_PRECISION_BF16, &precision, &error),
					 FA_UNSUPPORTED);
	assert_int_equal(interface->resolve_precision(other, FA_PRECISION_TF32, &precision, &error),
					 FA_UNSUPPORTED);
	assert_int_equal(interface->resolve_precision(other, FA_PRECISION_AUTO, &precision, &error),
					 FA_OK);
	assert_int_equal(precision, FA_PRECISION_FP16);
	interface->close(other);
	emulated_device(0);
	assert_int_equal(interface->open(NULL, &other, &error), FA_UNSUPPORTED);
	assert_non_null(strstr(error.message, "cudaErrorNoDevice"));
	emulated_device(90);

	small_net(&net);
	weights = random_weights(&net, 5);
	assert_int_equal(interface->load(engine, &net, &none, FA_PRECISION_FP32, &model, &error),
					 FA_INVALID);
	model = load(&net, &weights, FA_PRECISION_FP32);
	assert_int_equal(interface->run(model, &empty, outputs, NULL, &error), FA_INVALID);
	assert_int_equal(interface->run(model, &negative, outputs, NULL, &error), FA_INVALID);
	assert_int_equal(interface->run(model, &huge, outputs, NULL, &error), FA_TOO_LARGE);
	interface->unload(model);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* From opening to closing; two runs, so that a graph is captured. FA_OK: *right says more. */
static fa_status
whole_life(const fa_net *net, const fa_weights *weights, const fa_batch *batch,
		   const float *expected, bool *right, fa_error *error)
{
	float values[10], *outputs[1] = {values};
	fa_engine *other = NULL;
	fa_model *model = NULL;
	fa_status status = interface->open(NULL, &other, error);

	if (status == FA_OK)
		status = interface->load(other, net, weights, FA_PRECISION_FP32, &model, error);
	*right = true;
	for (int i = 0; i < 3 && status == FA_OK; i++)
	{
		memset(values, 0, sizeof(values));
		status = interface->run(model, batch, outputs, NULL, error);
		if (status == FA_OK && distance(values, expected, 10) >= 1e-5)
			*right = false;
	}
	interface->unload(model);
	interface->close(other);
	return status;
}

/* Each call fails once, in turn: an error with words, or an answer all the same that is right. */
static void
test_failures(void **state)
{
	fa_net net;
	fa_weights weights;
	uint8_t *pixels = random_pixels(2, 9, 9, 3);
	float *expected[FA_MAX_OUTPUTS];
	fa_batch batch = {2, 9, 9, pixels};
	int alive, failures = 0, planning = 0, errors = 0;
	fa_model *model;

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	allocate_outputs(&net, 2, 9, 9, expected);
	model = load(&net, &weights, FA_PRECISION_FP32);
	run(model, 2, 9, 9, pixels, expected);
	interface->unload(model);
	alive = emulated_alive();
	for (int plans = EMULATED_ALL; plans <= EMULATED_NONE; plans++)
	{
		emulated_plans(plans);
		for (int n = 1;; n++)
		{
			fa_error error = {0};
			fa_status status;
			bool right;

			emulated_fail(n);
			status = whole_life(&net, &weights, &batch, expected[0], &right, &error);
			if (emulated_failed() == NULL)
			{
				assert_int_equal(status, FA_OK);
				assert_true(emulated_calls() < n);
				break;
			}
			failures++;
			planning += strncmp(emulated_failed(), "cudnnBackend", 12) == 0;
			errors += status != FA_OK;
			if (status != FA_OK && (status != error.status || error.message[0] == '\0'))
				fail_msg("call %d, %s: status %d without an error", n, emulated_failed(), status);
			if (!right)
				fail_msg("call %d, %s: wrong answers", n, emulated_failed());
			if (emulated_alive() != alive)
				fail_msg("call %d, %s: %d things were never freed", n, emulated_failed(),
						 emulated_alive() - alive);
		}
	}
	emulated_fail(0);
	print_message("# %d injected failures, %d of them where cuDNN plans, %d errors\n", failures,
				  planning, errors);
	assert_true(errors > (failures - planning) / 2); /* without cuDNN's plans it goes on */
	free_outputs(&net, expected);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

/* What fails for good says so, by CUDA's name and not by what cuDNN makes of it. */
static void
test_lost(void **state)
{
	static const struct
	{
		const char *call;
		int n, code;
		fa_status status;
		const char *name;
	} faults[] = {
		{"cudnnBackendExecute", 1, cudaErrorIllegalAddress, FA_DEVICE_LOST,
		 "cudaErrorIllegalAddress"},
		/* in the midst of a graph, which without a device no kernel of ours can replace */
		{"cudnnBackendFinalize", 30, cudaErrorIllegalAddress, FA_DEVICE_LOST,
		 "cudaErrorIllegalAddress"},
		{"cudaStreamSynchronize", 1, cudaErrorLaunchFailure, FA_DEVICE_LOST, "cudaErrorEmulated"},
		{"cudaMalloc", 1, cudaErrorMemoryAllocation, FA_NO_MEMORY, "cudaErrorMemoryAllocation"},
		{"cudaMemcpyAsync", 1, cudaErrorUnknown, FA_INTERNAL, "cudaErrorEmulated"}};
	uint8_t *pixels = random_pixels(2, 9, 9, 3);
	fa_batch batch = {2, 9, 9, pixels};
	const float ignored[10] = {0};
	fa_net net;
	fa_weights weights;
	int alive = emulated_alive();

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
	{
		fa_error error;
		bool right;

		emulated_fault(faults[i].call, faults[i].n, faults[i].code);
		assert_int_equal(whole_life(&net, &weights, &batch, ignored, &right, &error),
						 faults[i].status);
		assert_non_null(strstr(error.message, faults[i].name));
		emulated_fault(NULL, 0, 0);
		assert_int_equal(emulated_alive(), alive);
	}
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random_networks, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_without_fusion, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_without_plans, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_low_precisions, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_networks, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_fused, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_detector, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_batches, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_batch_classes, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_whole, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_interrupt, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_useless_devices, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_refusals, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_failures, open_engine, close_engine),
		cmocka_unit_test_setup_teardown(test_lost, open_engine, close_engine),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
