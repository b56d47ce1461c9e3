/*
 * test_trainer.c
 *		Training by the CUDA engine on an emulated device (emulation.h) beside the CPU engine's,
 *		whose gradients have been checked against finite differences: the same outputs, gradients,
 *		steps and states, whatever cuDNN can plan, and a clean error whichever call fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../gpu/trainer.h"
#include "../../src/nn/networks.h"
#include "../unit/random_net.h"
#include "emulation.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* The same training on both: [0] CPU, [1] CUDA. */
typedef struct both
{
	const fa_engine_interface *interface[2];
	fa_engine *engine[2];
	fa_trainer *trainer[2];
	fa_net *net;
	int count, height, width;
	size_t sizes[FA_MAX_OUTPUTS];
	float *outputs[2][FA_MAX_OUTPUTS], *gradients[FA_MAX_OUTPUTS];
} both;

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
	emulated_device(90);
	emulated_plans(EMULATED_ALL);
	emulated_spoil_plans(0);
	emulated_fail(0);
	return 0;
}

static void
open_both(both *b, fa_net *net, const fa_weights *weights, fa_trainer_options options)
{
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));

	memset(b, 0, sizeof(*b));
	b->net = net;
	b->interface[0] = &fa_cpu_engine;
	b->interface[1] = fa_cuda_engine(sizeof(fa_engine_interface));
	b->count = options.count;
	b->height = options.height;
	b->width = options.width;
	for (int i = 0; i < 2; i++)
	{
		fa_trainer_options own = options;

		if (i == 0)
			own.precision = FA_PRECISION_FP32;
		must(b->interface[i]->open(NULL, &b->engine[i], &error));
		must(b->interface[i]->trainer_open(b->engine[i], net, weights, &own, &b->trainer[i],
										   &error));
	}
	must(fa_net_shapes(net, b->height, b->width, shapes, &error));
	for (int i = 0; i < net->output_count; i++)
	{
		const fa_shape *s = &shapes[net->outputs[i].op];

		b->sizes[i] = (size_t) b->count * s->height * s->width * s->channels;
		for (int k = 0; k < 2; k++)
			b->outputs[k][i] = calloc(b->sizes[i], sizeof(float));
		b->gradients[i] = calloc(b->sizes[i], sizeof(float));
	}
	free(shapes);
}

static void
close_both(both *b)
{
	for (int i = 0; i < 2; i++)
	{
		b->interface[i]->trainer_close(b->trainer[i]);
		b->interface[i]->close(b->engine[i]);
	}
	for (int i = 0; i < b->net->output_count; i++)
	{
		free(b->outputs[0][i]);
		free(b->outputs[1][i]);
		free(b->gradients[i]);
	}
	assert_int_equal(emulated_alive(), 0);
}

/* L2 norm of the difference over that of what is expected, or of `least` where that is less. */
static double
distance(const float *values, const float *expected, size_t count, double least)
{
	double difference = 0, norm = 0;

	for (size_t i = 0; i < count; i++)
	{
		difference += pow((double) values[i] - expected[i], 2);
		norm += (double) expected[i] * expected[i];
	}
	return sqrt(difference) / fmax(sqrt(norm), least);
}

/* Random gradients of all outputs but one (skip, or -1). */
static void
output_gradients(both *b, uint64_t seed, int skip, const float **given)
{
	uint64_t random = seed;

	for (int i = 0; i < b->net->output_count; i++)
	{
		for (size_t j = 0; j < b->sizes[i]; j++)
			b->gradients[i][j] =
				(float) random_between(&random, -1, 1) / (float) sqrt((double) b->sizes[i]);
		given[i] = i == skip ? NULL : b->gradients[i];
	}
}

/* Forward on both, the same gradients of the outputs, and back. skip: an output without (or -1). */
static void
pass(both *b, uint64_t seed, int skip, double tolerance)
{
	uint8_t *pixels = random_pixels(b->count, b->height, b->width, seed);
	fa_batch batch = {b->count, b->height, b->width, pixels};
	const float *given[FA_MAX_OUTPUTS] = {NULL};

	for (int k = 0; k < 2; k++)
		must(b->interface[k]->forward(b->trainer[k], &batch, b->outputs[k], &error));
	for (int i = 0; i < b->net->output_count; i++)
	{
		double d = distance(b->outputs[1][i], b->outputs[0][i], b->sizes[i], 1e-3);

		if (!(d < tolerance))
			fail_msg("output %s differs by %g", b->net->outputs[i].name, d);
	}
	output_gradients(b, seed, skip, given);
	for (int k = 0; k < 2; k++)
		must(b->interface[k]->backward(b->trainer[k], given, &error));
	free(pixels);
}

/*
 * The worst distance of a parameter's values in a state; what is less than `least` of all together,
 * gradients that should be nothing, counts less.
 */
static double
state_distance(both *b, fa_trainer_state state, double least, char *worst_name)
{
	fa_weights states[2] = {{0}};
	double worst = 0, norm = 0;

	for (int k = 0; k < 2; k++)
		must(b->interface[k]->read_state(b->trainer[k], state, &states[k], &error));
	assert_int_equal(states[0].tensor_count, states[1].tensor_count);
	for (int i = 0; i < states[0].tensor_count; i++)
		for (size_t k = 0; k < states[0].tensors[i].count; k++)
			norm += pow(states[0].tensors[i].values[k], 2);
	norm = sqrt(norm);
	for (int i = 0; i < states[0].tensor_count; i++)
	{
		const fa_tensor *expected = &states[0].tensors[i], *tensor = &states[1].tensors[i];
		double d;

		assert_string_equal(tensor->name, expected->name);
		d = distance(tensor->values, expected->values, expected->count, least * norm + 1e-12);
		if (!(d <= worst))
		{
			worst = d;
			snprintf(worst_name, FA_NAME_LENGTH, "%s", expected->name);
		}
	}
	fa_weights_free(&states[0]);
	fa_weights_free(&states[1]);
	return worst;
}

static void
assert_state(both *b, fa_trainer_state state, double tolerance, const char *what)
{
	char name[FA_NAME_LENGTH] = "";
	double d = state_distance(b, state, 1e-3, name);

	if (!(d < tolerance))
		fail_msg("%s: state %d of %s differs by %g", what, state, name, d);
}

/* As assert_state; the bias before a batch norm has a gradient of nothing but roundings. */
static void
assert_rounded_gradients(both *b, double tolerance, const char *what)
{
	char name[FA_NAME_LENGTH] = "";
	double d = state_distance(b, FA_STATE_GRADIENTS, 1e-2, name);

	if (!(d < tolerance))
		fail_msg("%s: the gradient of %s differs by %g", what, name, d);
}

static fa_update
update_of(fa_optimizer optimizer, int64_t step)
{
	return (fa_update){.learning_rate = 1e-3f,
					   .beta1 = 0.9f,
					   .beta2 = 0.99f,
					   .epsilon = 1e-4f,
					   .weight_decay = 0.05f,
					   .clip_norm = 0.5f,
					   .ema_decay = 0.9f,
					   .step = step,
					   .optimizer = optimizer};
}

static void
update(both *b, const fa_update *u, double tolerance)
{
	float norms[2];

	for (int k = 0; k < 2; k++)
		must(b->interface[k]->update(b->trainer[k], u, &norms[k], &error));
	assert_true(fabs(norms[1] - norms[0]) <= tolerance * norms[0]);
}

/* A step in one go on the device, and of its parts on the CPU. */
typedef struct whole_step
{
	both *b;
	double tolerance;
	int asked;
} whole_step;

/* The loss, as CUDA asks for it: the outputs are there, and the gradients are the CPU's. */
static fa_status
given_gradients(void *argument, fa_error *e)
{
	whole_step *s = argument;
	both *b = s->b;

	s->asked++;
	for (int i = 0; i < b->net->output_count; i++)
	{
		double d = distance(b->outputs[1][i], b->outputs[0][i], b->sizes[i], 1e-3);

		if (!(d < s->tolerance))
			return fa_fail(e, FA_INTERNAL, "output %s differs by %g", b->net->outputs[i].name, d);
	}
	return FA_OK;
}

static void
step(both *b, uint64_t seed, int skip, const fa_update *u, double tolerance, double norm_tolerance)
{
	uint8_t *pixels = random_pixels(b->count, b->height, b->width, seed);
	fa_batch batch = {b->count, b->height, b->width, pixels};
	const float *given[FA_MAX_OUTPUTS] = {NULL};
	whole_step whole = {b, tolerance, 0};
	fa_training_step all = {batch, b->outputs[1], given, given_gradients, &whole, u};
	float norms[2];

	output_gradients(b, seed, skip, given);
	must(b->interface[0]->forward(b->trainer[0], &batch, b->outputs[0], &error));
	must(b->interface[0]->backward(b->trainer[0], given, &error));
	must(b->interface[0]->update(b->trainer[0], u, &norms[0], &error));
	must(b->interface[1]->step(b->trainer[1], &all, &norms[1], &error));
	assert_int_equal(whole.asked, 1);
	assert_true(fabs(norms[1] - norms[0]) <= norm_tolerance * norms[0]);
	free(pixels);
}

/* --- Networks at random ------------------------------------------------------------------ */

static void
random_networks(int plans, int tries)
{
	emulated_plans(plans);
	for (uint64_t seed = 1; seed <= (uint64_t) tries; seed++)
	{
		uint64_t state = seed * 77 + (uint64_t) plans;
		int height = 6 + random_below(&state, 12), width = 6 + random_below(&state, 12);
		fa_trainer_options options = {.count = 2 + random_below(&state, 3),
									  .height = height,
									  .width = width,
									  .precision = FA_PRECISION_FP32,
									  .batch_norm = seed % 3 == 0 ? FA_BATCH_NORM_FROZEN
																  : FA_BATCH_NORM_TRAINING,
									  .momentum = 0.1f};
		const fa_update still = {.beta1 = 0.9f, .beta2 = 0.9f, .epsilon = 1, .step = 1};
		char what[64];
		float *rates;
		fa_net net;
		fa_weights weights;
		both b;

		random_net(&net, &state, height, width);
		weights = random_weights(&net, seed);
		rates = calloc(net.op_count, sizeof(float));
		for (int i = 0; i < net.op_count; i++)
			rates[i] = seed % 2 == 0 || random_below(&state, 3) > 0 ? 1 : 0;
		options.rates = rates;
		snprintf(what, sizeof(what), "network %d", (int) seed);
		emulated_spoil_plans(seed % 2);
		open_both(&b, &net, &weights, options);
		for (int turn = 0; turn < 4;
			 turn++) /* in parts; in one go: piece by piece, captured, launched */
		{
			int launches = emulated_launches();

			if (turn == 0)
				pass(&b, seed, -1, 2e-4);
			else
				step(&b, seed + (uint64_t) turn, -1, &still, 2e-4, 2e-3);
			assert_int_equal(emulated_launches() - launches, turn > 1);
			assert_state(&b, FA_STATE_GRADIENTS, 2e-3, what);
			assert_state(&b, FA_STATE_WEIGHTS, 1e-5, what); /* running statistics */
		}
		close_both(&b);
		free(rates);
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
}

static void
test_random_networks(void **state)
{
	int convolutions = emulated_convolutions();

	(void) state;
	random_networks(EMULATED_ALL, 40);
	assert_true(emulated_convolutions() > convolutions);
}

static void
test_without_fusion(void **state)
{
	(void) state;
	random_networks(EMULATED_UNFUSED, 10);
}

static void
test_without_plans(void **state)
{
	int convolutions = emulated_convolutions();

	(void) state;
	random_networks(EMULATED_NONE, 20);
	assert_int_equal(emulated_convolutions(), convolutions);
}

/* --- The networks ---------------------------------------------------------------------------- */

static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}};

/*
 * Blocks add little to what they are given, as in a network that has been trained. With random
 * weights alone, fifty layers whose statistics are a small batch's make anything at all of the
 * last digit: the CPU's gradients of weights that differ by 1e-7 have nothing in common.
 */
static void
calm_blocks(fa_weights *weights)
{
	for (int i = 0; i < weights->tensor_count; i++)
		if (strstr(weights->tensors[i].name, "increase/bn.weight") != NULL)
			for (size_t k = 0; k < weights->tensors[i].count; k++)
				weights->tensors[i].values[k] *= 0.1f;
}

/*
 * A gradient of next to nothing is 1 away, whatever the precision: no tolerance may be as large.
 * They are some times what has been seen; with statistics of a batch, a ReLU that is at 0 but for
 * the last digit may pass a gradient on one side and none on the other, which moves others by some
 * hundredths.
 */
static void
test_networks(void **state)
{
	static const struct
	{
		const char *name;
		int hidden;
		bool batch_norm;
		fa_batch_norm_mode mode;
		fa_precision precision;
		double outputs, gradients;
	} trials[] = {{"mobilenet_v1", 64, true, FA_BATCH_NORM_FROZEN, FA_PRECISION_FP32, 1e-5, 1e-5},
				  {"mobilenet_v1", 64, true, FA_BATCH_NORM_FROZEN, FA_PRECISION_FP16, 4e-3, 0.15},
				  {"mobilenet_v1", 64, true, FA_BATCH_NORM_FROZEN, FA_PRECISION_BF16, 0.04, 0.3},
				  {"mobilenet_v1", 64, true, FA_BATCH_NORM_TRAINING, FA_PRECISION_FP32, 1e-4, 0.1},
				  {"resnet50", 0, true, FA_BATCH_NORM_TRAINING, FA_PRECISION_FP32, 1e-4, 0.1},
				  {"senet50", 0, false, FA_BATCH_NORM_FROZEN, FA_PRECISION_FP32, 1e-5, 1e-4},
				  {"vgg16", 0, false, FA_BATCH_NORM_FROZEN, FA_PRECISION_FP32, 1e-5, 1e-4}};

	(void) state;
	for (int i = 0; i < LENGTH(trials); i++)
	{
		fa_trainer_options options = {.count = trials[i].mode == FA_BATCH_NORM_TRAINING ? 4 : 2,
									  .height = 33,
									  .width = 33,
									  .precision = trials[i].precision,
									  .batch_norm = trials[i].mode,
									  .momentum = 0.1f,
									  .seed = 5};
		fa_weights weights;
		fa_net net;
		both b;

		must(fa_net_by_name(trials[i].name, &net, heads, 3, trials[i].hidden, trials[i].batch_norm,
							0.1f, &error));
		weights = random_weights(&net, 7);
		calm_blocks(&weights);
		open_both(&b, &net, &weights, options);
		pass(&b, 3, -1, trials[i].outputs);
		assert_state(&b, FA_STATE_GRADIENTS, trials[i].gradients, trials[i].name);
		if (trials[i].mode == FA_BATCH_NORM_TRAINING)
			assert_state(&b, FA_STATE_WEIGHTS, 1e-5, trials[i].name); /* running statistics */
		close_both(&b);
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
}

/* --- One small network, everything else --------------------------------------------------------
 */

static void
small_net(fa_net *net, float dropout)
{
	int op = begin_net(net), sum;

	op = fa_net_convolution(net, "one", op, 12, 3, 2, FA_PAD_SAME, 0, true);
	op = sum = fa_net_unary(net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(net, "two", op, 3, 1, 1, 1, true);
	op = fa_net_batch_norm(net, "norm", op, 1e-3f);
	op = fa_net_convolution(net, "three", op, 12, 1, 1, 0, 0, false);
	op = fa_net_sum(net, "sum", op, sum);
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	if (dropout > 0)
		op = fa_net_dropout(net, "drop", op, dropout);
	fa_net_output(net, "logits", fa_net_dense(net, "dense", op, 5));
	fa_net_output(net, "others", fa_net_dense(net, "other", op, 3));
	must(fa_net_finish(net, &error));
}

static fa_trainer_options
small_options(void)
{
	return (fa_trainer_options){.count = 4,
								.height = 9,
								.width = 11,
								.precision = FA_PRECISION_FP32,
								.batch_norm = FA_BATCH_NORM_TRAINING,
								.momentum = 0.1f,
								.seed = 17};
}

static void
test_optimizers(void **state)
{
	static const fa_optimizer optimizers[] = {FA_OPTIMIZER_ADAMW, FA_OPTIMIZER_ADAM,
											  FA_OPTIMIZER_SGD};

	(void) state;
	for (int i = 0; i < LENGTH(optimizers); i++)
	{
		fa_trainer_options options = small_options();
		int launches = emulated_launches();
		float rates[16];
		fa_weights weights;
		fa_net net;
		both b;

		small_net(&net, 0);
		weights = random_weights(&net, 3);
		for (int k = 0; k < net.op_count; k++)
			rates[k] = k == 1 ? 0 : k % 2 == 0 ? 1 : 0.3f; /* "one" is frozen */
		options.rates = rates;
		open_both(&b, &net, &weights, options);
		for (int n = 1; n <= 7; n++)
		{
			fa_update u = update_of(optimizers[i], n);

			if (n == 5) /* moments go on where a schedule has come to nothing */
				u.learning_rate = 0;

			/* the fourth has no use for the graph there is, the sixth makes another */
			step(&b, (uint64_t) n, n == 4 ? 1 : -1, &u, 1e-3, 1e-3);
			if (n == 3)
			{
				pass(&b, 99, 0, 1e-3); /* parts between whole steps */
				update(&b, &u, 1e-3);
			}
		}
		assert_int_equal(emulated_launches() - launches, 4);
		assert_state(&b, FA_STATE_WEIGHTS, 1e-4, "eight steps");
		assert_state(&b, FA_STATE_AVERAGE, 1e-4, "eight steps");
		assert_state(&b, FA_STATE_MOMENT1, 1e-2, "eight steps");
		assert_state(&b, FA_STATE_MOMENT2, 1e-2, "eight steps");
		close_both(&b);
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
}

static void
test_dropout(void **state)
{
	fa_trainer_options options = small_options();
	fa_weights weights;
	fa_net net;
	both b;

	(void) state;
	small_net(&net, 0.4f);
	weights = random_weights(&net, 4);
	options.first_pass = 1000;
	open_both(&b, &net, &weights, options);
	for (uint64_t turn = 0; turn < 4; turn++)
	{
		pass(&b, turn, -1, 1e-4); /* the same values are dropped, others in every pass */
		assert_state(&b, FA_STATE_GRADIENTS, 5e-3, "dropout");
	}
	close_both(&b);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* A training that one engine has begun goes on with the other. */
static void
test_checkpoints_move(void **state)
{
	fa_trainer_options options = small_options();
	fa_weights weights;
	fa_net net;
	both b;

	(void) state;
	small_net(&net, 0.2f);
	weights = random_weights(&net, 5);
	open_both(&b, &net, &weights, options);
	for (int from = 0; from < 2; from++)
	{
		for (int step = 1; step <= 3; step++)
		{
			fa_update u = update_of(FA_OPTIMIZER_ADAMW, step);

			pass(&b, (uint64_t) step, -1, 1e-3);
			update(&b, &u, 1e-3);
		}
		for (int s = FA_STATE_WEIGHTS; s <= FA_STATE_MOMENT2; s++)
		{
			fa_weights moved = {0};
			char name[FA_NAME_LENGTH];

			must(b.interface[from]->read_state(b.trainer[from], (fa_trainer_state) s, &moved,
											   &error));
			must(b.interface[1 - from]->write_state(b.trainer[1 - from], (fa_trainer_state) s,
													&moved, &error));
			fa_weights_free(&moved);
			assert_true(state_distance(&b, (fa_trainer_state) s, 1e-3, name) == 0);
		}
		pass(&b, 99, -1, 1e-4);
		assert_state(&b, FA_STATE_GRADIENTS, 5e-3, "after a move");
	}
	close_both(&b);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static void
test_low_precisions(void **state)
{
	static const struct
	{
		fa_precision precision;
		double outputs, gradients;
		const char *name;
	} trials[] = {{FA_PRECISION_TF32, 4e-3, 1e-2, "tf32"},
				  {FA_PRECISION_FP16, 4e-3, 1e-2, "fp16"},
				  {FA_PRECISION_BF16, 3e-2, 6e-2, "bf16"}};

	(void) state;
	for (int i = 0; i < LENGTH(trials); i++)
		for (int mode = FA_BATCH_NORM_TRAINING; mode <= FA_BATCH_NORM_FROZEN; mode++)
		{
			fa_trainer_options options = small_options();
			fa_weights weights;
			fa_net net;
			both b;

			small_net(&net, 0);
			weights = random_weights(&net, 6);
			options.precision = trials[i].precision;
			options.batch_norm = (fa_batch_norm_mode) mode;
			open_both(&b, &net, &weights, options);
			for (int step = 1; step <= 3; step++)
			{
				fa_update u = update_of(FA_OPTIMIZER_SGD, step);

				pass(&b, (uint64_t) step, -1, trials[i].outputs);
				assert_rounded_gradients(&b, trials[i].gradients, trials[i].name);
				update(&b, &u, trials[i].outputs);
			}
			assert_state(&b, FA_STATE_WEIGHTS, 1e-3, trials[i].name);
			close_both(&b);
			fa_weights_free(&weights);
			fa_net_free(&net);
		}
}

static fa_status
no_loss(void *argument, fa_error *e)
{
	(void) argument;
	(void) e;
	return FA_OK;
}

/* Where scaled gradients overflow, a step is left out and the scale halved; good ones double it. */
static void
test_loss_scale(void **state)
{
	fa_trainer_options options = small_options();
	fa_weights weights, before = {0}, after = {0};
	fa_update u = update_of(FA_OPTIMIZER_SGD, 1);
	uint8_t *pixels = random_pixels(4, 9, 11, 1);
	fa_batch batch = {4, 9, 11, pixels};
	const float *given[2];
	fa_training_step all = {batch, NULL, given, no_loss, NULL, &u};
	fa_trainer *t;
	fa_net net;
	float norm, scale, rates[16];
	both b;

	(void) state;
	small_net(&net, 0);
	weights = random_weights(&net, 8);
	for (int i = 0; i < net.op_count; i++) /* infinity minus infinity would look like rubbish */
		rates[i] = strcmp(net.ops[i].name, "dense") == 0;
	options.rates = rates;
	options.precision = FA_PRECISION_FP16;
	open_both(&b, &net, &weights, options);
	all.outputs = b.outputs[1];
	t = b.trainer[1];
	scale = t->loss_scale;
	given[0] = b.gradients[0];
	given[1] = NULL;
	must(fa_cuda_read_state(t, FA_STATE_WEIGHTS, &before, &error));
	for (size_t i = 0; i < b.sizes[0]; i++)
		b.gradients[0][i] = 15; /* 61,440 when scaled; four images together are more than fp16 */
	u.clip_norm = 0;
	must(fa_cuda_forward(t, &batch, b.outputs[1], &error));
	must(fa_cuda_backward(t, given, &error));
	must(fa_cuda_update(t, &u, &norm, &error));
	assert_false(norm < INFINITY);
	assert_true(t->loss_scale == scale / 2);
	must(fa_cuda_read_state(t, FA_STATE_WEIGHTS, &after, &error));
	for (int i = 0; i < before.tensor_count; i++)
		if (strstr(before.tensors[i].name, "running") == NULL)
			assert_memory_equal(before.tensors[i].values, after.tensors[i].values,
								before.tensors[i].count * sizeof(float));
	t->good_steps = 999;
	for (size_t i = 0; i < b.sizes[0]; i++)
		b.gradients[0][i] = 1e-3f;
	must(fa_cuda_step(t, &all, &norm, &error));
	assert_true(norm > 0 && norm < 1);
	assert_true(t->loss_scale == scale);
	close_both(&b);
	free(pixels);
	fa_weights_free(&weights);
	fa_weights_free(&before);
	fa_weights_free(&after);
	fa_net_free(&net);
}

/* Without a loss no step: the error is the caller's, the weights stay. */
static fa_status
failing_loss(void *argument, fa_error *e)
{
	(void) argument;
	return fa_fail(e, FA_NO_MEMORY, "no loss");
}

static void
test_failing_loss(void **state)
{
	fa_trainer_options options = small_options();
	fa_update u = update_of(FA_OPTIMIZER_ADAMW, 1);
	uint8_t *pixels = random_pixels(4, 9, 11, 1);
	const float *given[FA_MAX_OUTPUTS] = {NULL};
	fa_training_step all = {{4, 9, 11, pixels}, NULL, given, failing_loss, NULL, &u};
	fa_weights weights;
	fa_net net;
	float norm;
	both b;

	(void) state;
	small_net(&net, 0);
	weights = random_weights(&net, 3);
	options.batch_norm = FA_BATCH_NORM_FROZEN;
	open_both(&b, &net, &weights, options);
	all.outputs = b.outputs[1];
	output_gradients(&b, 1, -1, given);
	for (int n = 0; n < 3; n++) /* piece by piece, captured, launched */
	{
		error.message[0] = '\0';
		assert_int_equal(b.interface[1]->step(b.trainer[1], &all, &norm, &error), FA_NO_MEMORY);
		assert_string_equal(error.message, "no loss");
	}
	for (int s = FA_STATE_WEIGHTS; s <= FA_STATE_MOMENT2; s++)
		assert_state(&b, (fa_trainer_state) s, 1e-12, "no steps");
	close_both(&b);
	free(pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static void
test_misuse(void **state)
{
	fa_trainer_options options = small_options();
	const float *given[2] = {NULL, NULL};
	uint8_t *pixels = random_pixels(4, 9, 11, 1);
	fa_batch batch = {3, 9, 11, pixels};
	fa_update u = update_of(FA_OPTIMIZER_SGD, 0);
	fa_training_step all = {batch, NULL, given, no_loss, NULL, &u};
	fa_weights weights;
	fa_trainer *trainer;
	fa_net net;
	char words[256];
	float norm;
	both b;

	(void) state;
	small_net(&net, 0);
	weights = random_weights(&net, 8);
	open_both(&b, &net, &weights, options);
	b.interface[1]->describe(b.engine[1], words, sizeof(words));
	assert_non_null(strstr(words, "for CUDA 13.1, CUDA 13.0, cuDNN"));
	emulated_fail(1);
	b.interface[1]->describe(b.engine[1], words, sizeof(words));
	emulated_fail(0);
	assert_string_equal(words, "GPU");
	assert_int_equal(fa_cuda_backward(b.trainer[1], given, &error), FA_INVALID);
	assert_int_equal(fa_cuda_forward(b.trainer[1], &batch, b.outputs[1], &error), FA_INVALID);
	assert_int_equal(fa_cuda_update(b.trainer[1], &u, &norm, &error), FA_INVALID);
	assert_int_equal(fa_cuda_step(b.trainer[1], &all, &norm, &error), FA_INVALID);
	u.step = 1;
	assert_int_equal(fa_cuda_step(b.trainer[1], &all, &norm, &error), FA_INVALID); /* 3 images */
	options.count = 0;
	assert_int_equal(fa_cuda_trainer_open(b.engine[1], &net, &weights, &options, &trainer, &error),
					 FA_INVALID);
	options.count = 1 << 24;
	assert_int_equal(fa_cuda_trainer_open(b.engine[1], &net, &weights, &options, &trainer, &error),
					 FA_TOO_LARGE);
	assert_null(trainer);
	close_both(&b);
	free(pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* --- Whichever call fails ------------------------------------------------------------------------
 */

/*
 * A step in parts and three in one go, from opening to closing; the error, if there was one, or
 * the weights in the end.
 */
static fa_status
train(const fa_net *net, const fa_weights *weights, const fa_batch *batch, float *const *outputs,
	  const float *const *gradients, fa_weights *trained)
{
	const fa_engine_interface *interface = fa_cuda_engine(sizeof(fa_engine_interface));
	fa_trainer_options options = small_options();
	fa_trainer *trainer = NULL;
	fa_engine *engine;
	float norm;
	fa_status status = interface->open(NULL, &engine, &error);

	options.count = batch->count;
	options.height = batch->height;
	options.width = batch->width;
	memset(trained, 0, sizeof(*trained));
	if (status != FA_OK)
		return status;
	status = interface->trainer_open(engine, net, weights, &options, &trainer, &error);
	for (int n = 1; n <= 4 && status == FA_OK; n++)
	{
		fa_update u = update_of(FA_OPTIMIZER_ADAMW, n);
		fa_training_step all = {*batch, outputs, gradients, no_loss, NULL, &u};

		if (n > 1)
		{
			status = interface->step(trainer, &all, &norm, &error);
			continue;
		}
		status = interface->forward(trainer, batch, outputs, &error);
		if (status == FA_OK)
			status = interface->backward(trainer, gradients, &error);
		if (status == FA_OK)
			status = interface->update(trainer, &u, &norm, &error);
	}
	if (status == FA_OK)
		status = interface->read_state(trainer, FA_STATE_WEIGHTS, trained, &error);
	interface->trainer_close(trainer);
	interface->close(engine);
	return status;
}

/* What a failure left as it was: the last digits alone may be another plan's. */
static void
assert_same_training(const fa_weights *trained, const fa_weights *expected, int n)
{
	assert_int_equal(trained->tensor_count, expected->tensor_count);
	for (int i = 0; i < expected->tensor_count; i++)
	{
		const fa_tensor *tensor = &trained->tensors[i], *e = &expected->tensors[i];
		double d = distance(tensor->values, e->values, e->count, 1e-3);

		assert_string_equal(tensor->name, e->name);
		if (!(d < 1e-5))
			fail_msg("call %d, %s: %s differs by %g", n, emulated_failed(), e->name, d);
	}
}

/* Each call fails once, in turn: an error with words, or training as if nothing had been. */
static void
test_failures(void **state)
{
	float logits[10], others[6], ones[10];
	float *outputs[2] = {logits, others};
	const float *gradients[2] = {ones, ones};
	uint8_t *pixels = random_pixels(2, 4, 5, 1);
	fa_batch batch = {2, 4, 5, pixels}; /* small, since there are some thousand trainings */
	int failed = 0, harmless = 0;
	fa_weights weights, expected;
	fa_net net;

	(void) state;
	for (int i = 0; i < LENGTH(ones); i++)
		ones[i] = 0.01f;
	small_net(&net, 0.1f);
	weights = random_weights(&net, 8);
	must(train(&net, &weights, &batch, outputs, gradients, &expected));
	for (int n = 1;; n++)
	{
		fa_weights trained;
		fa_status status;

		memset(&error, 0, sizeof(error));
		emulated_fail(n);
		status = train(&net, &weights, &batch, outputs, gradients, &trained);
		if (status == FA_OK)
			assert_same_training(&trained, &expected, n);
		else if (status != error.status || error.message[0] == '\0')
			fail_msg("call %d, %s: status %d without an error", n, emulated_failed(), status);
		fa_weights_free(&trained);
		if (emulated_alive() != 0)
			fail_msg("call %d, %s: %d things were never freed", n, emulated_failed(),
					 emulated_alive());
		if (emulated_failed() == NULL)
		{
			assert_int_equal(status, FA_OK);
			break;
		}
		failed++;
		harmless += status == FA_OK;
	}
	emulated_fail(0);
	printf("# %d injected failures: %d clean errors, %d that did not matter\n", failed,
		   failed - harmless, harmless);
	assert_true(failed - harmless > 100);
	assert_true(harmless > 0); /* or nothing has been compared */
	free(pixels);
	fa_weights_free(&weights);
	fa_weights_free(&expected);
	fa_net_free(&net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_random_networks, setup),
		cmocka_unit_test_setup(test_without_fusion, setup),
		cmocka_unit_test_setup(test_without_plans, setup),
		cmocka_unit_test_setup(test_networks, setup),
		cmocka_unit_test_setup(test_optimizers, setup),
		cmocka_unit_test_setup(test_dropout, setup),
		cmocka_unit_test_setup(test_checkpoints_move, setup),
		cmocka_unit_test_setup(test_low_precisions, setup),
		cmocka_unit_test_setup(test_loss_scale, setup),
		cmocka_unit_test_setup(test_failing_loss, setup),
		cmocka_unit_test_setup(test_misuse, setup),
		cmocka_unit_test_setup(test_failures, setup),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
