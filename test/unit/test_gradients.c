/*
 * test_gradients.c
 *		Every operation's backward pass against central differences of the engine's own
 *		forward pass, through the table of engine.h alone; and training as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/nn/engine.h"
#include "pictures.h"

#define COUNT 3
#define SIZE 12

static const fa_engine_interface *const interface = &fa_cpu_engine;
static const float mean[3] = {120, 120, 120}, scale[3] = {0.02f, 0.02f, 0.02f};

/* Weights at random; batch norm's near its usual values. */
static fa_weights
random_weights(const fa_net *net, uint64_t seed)
{
	fa_weights weights = {0};
	fa_parameter *parameters;
	int count;
	fa_error error;

	assert_int_equal(fa_net_parameters(net, &parameters, &count, &error), FA_OK);
	for (int i = 0; i < count; i++)
	{
		const fa_parameter *p = &parameters[i];
		bool positive = net->ops[p->op].kind == FA_OP_BATCH_NORM &&
						strstr(p->name, "bias") == NULL && strstr(p->name, "mean") == NULL;
		fa_tensor *tensor;

		assert_int_equal(fa_weights_add(&weights, p->name, p->rank, p->shape, &tensor, &error),
						 FA_OK);
		for (size_t k = 0; k < p->count; k++)
			tensor->values[k] =
				(float) ((random_u32(&seed) % 2001) / 1000.0 - 1) * (positive ? 0.3f : 0.5f) +
				(positive ? 1.0f : 0.0f);
	}
	free(parameters);
	return weights;
}

static fa_batch
random_batch(uint8_t *pixels, int count, int size, uint64_t seed)
{
	for (int i = 0; i < count * size * size * 3; i++)
		pixels[i] = (uint8_t) random_u32(&seed);
	return (fa_batch){count, size, size, pixels};
}

static double
loss_of(fa_trainer *trainer, const fa_batch *batch, float *output, const float *weight, int n)
{
	double sum = 0;
	fa_error error;

	assert_int_equal(interface->forward(trainer, batch, (float *[]){output}, &error), FA_OK);
	for (int i = 0; i < n; i++)
		sum += (double) output[i] * weight[i];
	return sum;
}

/*
 * The gradient of sum(weight * output) of a network with one output, every few
 * parameters, against differences. A kink of ReLU or of a maximum may lie between two
 * points now and then: a share of the parameters may disagree.
 */
static void
check_network(fa_net *net, fa_batch_norm_mode mode, double kinks)
{
	fa_trainer_options options = {COUNT, SIZE, SIZE, FA_PRECISION_FP32, mode, 0.0f, NULL, 3, 0};
	uint8_t pixels[COUNT * SIZE * SIZE * 3];
	fa_batch batch = random_batch(pixels, COUNT, SIZE, 11);
	fa_shape *shapes = calloc((size_t) net->op_count, sizeof(fa_shape));
	fa_engine *engine;
	fa_trainer *trainer;
	fa_weights weights, gradients = {0};
	fa_error error;
	uint64_t seed = 5;
	float *output, *weight;
	int n, checked = 0, wrong = 0;

	assert_int_equal(fa_net_finish(net, &error), FA_OK);
	assert_int_equal(fa_net_shapes(net, SIZE, SIZE, shapes, &error), FA_OK);
	n = COUNT * shapes[net->outputs[0].op].height * shapes[net->outputs[0].op].width *
		shapes[net->outputs[0].op].channels;
	output = malloc(n * sizeof(float));
	weight = malloc(n * sizeof(float));
	for (int i = 0; i < n; i++)
		weight[i] = (float) (random_u32(&seed) % 2001) / 1000 - 1;
	weights = random_weights(net, 1);
	assert_int_equal(interface->open(NULL, &engine, &error), FA_OK);
	assert_int_equal(interface->trainer_open(engine, net, &weights, &options, &trainer, &error),
					 FA_OK);
	loss_of(trainer, &batch, output, weight, n);
	assert_int_equal(interface->backward(trainer, (const float *[]){weight}, &error), FA_OK);
	assert_int_equal(interface->read_state(trainer, FA_STATE_GRADIENTS, &gradients, &error), FA_OK);
	for (int i = 0; i < weights.tensor_count; i++)
	{
		fa_tensor *tensor = &weights.tensors[i];
		double size = 0;

		if (strstr(tensor->name, "running") != NULL)
			continue;
		for (size_t k = 0; k < tensor->count; k++)
			size = fmax(size, fabs(gradients.tensors[i].values[k]));
		for (size_t k = 0; k < tensor->count; k += 1 + tensor->count / 12)
		{
			const float h = 4e-3f;
			float kept = tensor->values[k];
			double up, down, difference;

			tensor->values[k] = kept + h;
			interface->write_state(trainer, FA_STATE_WEIGHTS, &weights, &error);
			up = loss_of(trainer, &batch, output, weight, n);
			tensor->values[k] = kept - h;
			interface->write_state(trainer, FA_STATE_WEIGHTS, &weights, &error);
			down = loss_of(trainer, &batch, output, weight, n);
			tensor->values[k] = kept;
			difference = (up - down) / (2 * h);
			checked++;
			if (fabs(difference - gradients.tensors[i].values[k]) > 0.02 * size + 5e-3)
				wrong++;
		}
	}
	interface->trainer_close(trainer);
	interface->close(engine);
	if (wrong > kinks * checked)
		fail_msg("%d of %d gradients differ", wrong, checked);
	assert_true(checked > 10);
	fa_weights_free(&weights);
	fa_weights_free(&gradients);
	fa_net_free(net);
	free(shapes);
	free(output);
	free(weight);
}

/* A convolution to learn through, so that the gradient passes back through what follows. */
static int
begin(fa_net *net)
{
	fa_net_begin(net, "test");
	return fa_net_convolution(net, "first", fa_net_input(net, true, mean, scale), 8, 3, 1, 1, 1,
							  true);
}

static void
convolutions(void **state)
{
	fa_net net;
	int op;

	(void) state;
	op = begin(&net);
	op = fa_net_convolution(&net, "strided", op, 5, 3, 2, 0, 1, true);
	op = fa_net_convolution(&net, "pointwise", op, 17, 1, 1, 0, 0, false);
	fa_net_output(&net, "out", op);
	check_network(&net, FA_BATCH_NORM_TRAINING, 0);
}

static void
depthwise(void **state)
{
	fa_net net;
	int op;

	(void) state;
	op = begin(&net);
	op = fa_net_depthwise(&net, "strided", op, 3, 2, 0, 1, true);
	op = fa_net_depthwise(&net, "plain", op, 3, 1, 1, 1, false);
	fa_net_output(&net, "out", op);
	check_network(&net, FA_BATCH_NORM_TRAINING, 0);
}

static void
batch_norm(void **state)
{
	for (int frozen = 0; frozen < 2; frozen++)
	{
		fa_net net;
		int op;

		(void) state;
		op = begin(&net);
		op = fa_net_batch_norm(&net, "bn", op, 1e-3f);
		op = fa_net_convolution(&net, "second", op, 4, 1, 1, 0, 0, true);
		fa_net_output(&net, "out", op);
		check_network(&net, frozen ? FA_BATCH_NORM_FROZEN : FA_BATCH_NORM_TRAINING, 0);
	}
}

static void
activations(void **state)
{
	static const fa_op_kind kinds[] = {FA_OP_RELU, FA_OP_RELU6, FA_OP_SIGMOID};

	(void) state;
	for (int i = 0; i < 3; i++)
		for (int norm = 0; norm < 2; norm++)
		{
			fa_net net;
			int op = begin(&net);

			if (norm)
				op = fa_net_batch_norm(&net, "bn", op, 1e-3f);
			op = fa_net_unary(&net, kinds[i], "activation", op);
			op = fa_net_convolution(&net, "second", op, 4, 1, 1, 0, 0, true);
			fa_net_output(&net, "out", op);
			check_network(&net, FA_BATCH_NORM_TRAINING, kinds[i] == FA_OP_SIGMOID ? 0 : 0.1);
		}
}

static void
pools_and_dense_layers(void **state)
{
	fa_net net;
	int op;

	(void) state;
	op = begin(&net);
	op = fa_net_max_pool(&net, "max", op, 3, 2, 0, 1);
	op = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "average", op);
	op = fa_net_dense(&net, "hidden", op, 10);
	op = fa_net_unary(&net, FA_OP_SIGMOID, "sigmoid", op);
	fa_net_output(&net, "out", fa_net_dense(&net, "dense", op, 4));
	check_network(&net, FA_BATCH_NORM_TRAINING, 0.1);
}

/* One tensor read three times: gradients add up. */
static void
sums_and_upsampling(void **state)
{
	fa_net net;
	int op, half, twice;

	(void) state;
	op = begin(&net);
	half = fa_net_convolution(&net, "half", op, 8, 2, 2, 0, 0, true);
	twice = fa_net_unary(&net, FA_OP_UPSAMPLE, "up", half);
	op = fa_net_sum(&net, "sum", op, twice);
	op = fa_net_sum(&net, "again", op, twice);
	op = fa_net_convolution(&net, "second", op, 3, 1, 1, 0, 0, true);
	fa_net_output(&net, "out", op);
	check_network(&net, FA_BATCH_NORM_TRAINING, 0);
}

/*
 * What ResNet and SE-ResNet are made of: SAME padding, pooling, a block whose shortcut is a
 * convolution, one with none, squeeze and excitation in both or not.
 */
static void
residual_blocks(void **state)
{
	(void) state;
	for (int excited = 0; excited < 2; excited++)
	{
		fa_net net;
		int op;

		fa_net_begin(&net, "test");
		op = fa_net_convolution(&net, "first", fa_net_input(&net, true, mean, scale), 16, 7, 2,
								FA_PAD_SAME, 0, false);
		op = fa_net_unary(&net, FA_OP_RELU, "first.relu",
						  fa_net_batch_norm(&net, "first.bn", op, 1e-3f));
		op = fa_net_max_pool(&net, "pool", op, 3, 2, 0, 0);
		for (int i = 0; i < 2; i++)
		{
			char name[6][FA_NAME_LENGTH];
			int shortcut = op, factors;

			for (int k = 0; k < 6; k++)
				snprintf(name[k], FA_NAME_LENGTH, "block%d.%d", i, k);
			if (i == 0)
				shortcut = fa_net_batch_norm(
					&net, "proj.bn",
					fa_net_convolution(&net, "proj", op, 16, 1, 2, FA_PAD_SAME, 0, false), 1e-3f);
			op =
				fa_net_convolution(&net, name[0], op, 16, 1, i == 0 ? 2 : 1, FA_PAD_SAME, 0, false);
			op = fa_net_batch_norm(&net, name[1], op, 1e-3f);
			if (excited)
			{
				factors = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, name[2], op);
				factors = fa_net_convolution(&net, name[3], factors, 16, 1, 1, 0, 0, true);
				factors = fa_net_unary(&net, FA_OP_SIGMOID, name[4], factors);
				op = fa_net_scale(&net, name[5], op, factors);
			}
			snprintf(name[0], FA_NAME_LENGTH, "sum%d", i);
			op = fa_net_sum(&net, name[0], op, shortcut);
			snprintf(name[0], FA_NAME_LENGTH, "relu%d", i);
			op = fa_net_unary(&net, FA_OP_RELU, name[0], op);
		}
		op = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "average", op);
		fa_net_output(&net, "out", fa_net_dense(&net, "dense", op, 3));
		check_network(&net, FA_BATCH_NORM_FROZEN, 0.15);
	}
}

/* Which of two classes is brighter: a few dozen steps must find out. */
static void
training_lowers_the_loss(void **state)
{
	fa_trainer_options options = {8,    8, 8, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0.1f,
								  NULL, 3, 0};
	fa_update update = {0.02f, 0.9f, 0.999f, 1e-8f, 0.01f, 5, 0.9f, 0, FA_OPTIMIZER_ADAMW};
	uint8_t pixels[8 * 8 * 8 * 3];
	float output[16] = {0}, gradient[16];
	fa_engine *engine;
	fa_trainer *trainer;
	fa_weights weights;
	fa_net net;
	fa_error error;
	double first = 0, last = 0;
	uint64_t seed = 9;
	int op;

	(void) state;
	op = begin(&net);
	op = fa_net_batch_norm(&net, "bn", op, 1e-3f);
	op = fa_net_unary(&net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(&net, "dw", op, 3, 1, 1, 1, true);
	op = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(&net, "out", fa_net_dense(&net, "dense", op, 2));
	assert_int_equal(fa_net_finish(&net, &error), FA_OK);
	weights = random_weights(&net, 2);
	assert_int_equal(interface->open(NULL, &engine, &error), FA_OK);
	assert_int_equal(interface->trainer_open(engine, &net, &weights, &options, &trainer, &error),
					 FA_OK);
	for (int step = 1; step <= 80; step++)
	{
		double loss = 0;
		float norm;
		fa_batch batch = {8, 8, 8, pixels};

		for (int i = 0; i < 8; i++)
			for (int k = 0; k < 8 * 8 * 3; k++)
				pixels[i * 192 + k] = (uint8_t) (random_u32(&seed) % 150 + (i % 2 ? 100 : 0));
		assert_int_equal(interface->forward(trainer, &batch, (float *[]){output}, &error), FA_OK);
		for (int i = 0; i < 8; i++)
		{
			double d = output[2 * i + 1] - output[2 * i], p = 1 / (1 + exp(-d)), y = i % 2;

			loss -= (y ? log(fmax(p, 1e-9)) : log(fmax(1 - p, 1e-9))) / 8;
			gradient[2 * i + 1] = (float) ((p - y) / 8);
			gradient[2 * i] = -gradient[2 * i + 1];
		}
		assert_int_equal(interface->backward(trainer, (const float *[]){gradient}, &error), FA_OK);
		update.step = step;
		assert_int_equal(interface->update(trainer, &update, &norm, &error), FA_OK);
		if (step <= 5)
			first += loss / 5;
		if (step > 75)
			last += loss / 5;
	}
	if (!(last < 0.3 * first))
		fail_msg("loss %g, then %g", first, last);
	interface->trainer_close(trainer);
	interface->close(engine);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(convolutions),
		cmocka_unit_test(depthwise),
		cmocka_unit_test(batch_norm),
		cmocka_unit_test(activations),
		cmocka_unit_test(pools_and_dense_layers),
		cmocka_unit_test(sums_and_upsampling),
		cmocka_unit_test(residual_blocks),
		cmocka_unit_test(training_lowers_the_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
