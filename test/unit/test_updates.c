/*
 * test_updates.c
 *		What an engine's trainer does with gradients: AdamW step by step against the
 *		paper in double precision, states that are saved and taken up again, and calls
 *		out of turn. Knows the engine by its table alone.
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

/* ---- Updates -----------------------------------------------------------------------------------
 */

/* Convolution, batch norm, dense: parameters with and without decay, and statistics. */
static void
begin_small(fa_net *net)
{
	int op = fa_net_convolution(net, "conv", begin_net(net), 4, 3, 2, 0, 1, true);
	fa_error error;

	op = fa_net_batch_norm(net, "bn", op, 1e-3f);
	op = fa_net_unary(net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(net, "dw", op, 3, 1, 1, 1, false);
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(net, "out", fa_net_dense(net, "dense", op, 3));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

#define SMALL_OPS 7
static const fa_trainer_options small = {
	4, 8, 8, FA_PRECISION_FP32, FA_BATCH_NORM_TRAINING, 0.1f, NULL, 1, 0};

/* A forward and a backward pass of images and gradients that follow from step. */
static void
small_passes(fa_trainer *trainer, int64_t step, float size)
{
	uint8_t *pixels = random_pixels(4, 8, 8, (uint64_t) step);
	fa_batch batch = {4, 8, 8, pixels};
	uint64_t seed = (uint64_t) step;
	float out[4 * 3];
	fa_error error;

	assert_int_equal(interface->forward(trainer, &batch, (float *[]){out}, &error), FA_OK);
	for (int i = 0; i < 12; i++)
		out[i] = size * (float) random_between(&seed, -1, 1);
	assert_int_equal(interface->backward(trainer, (const float *[]){out}, &error), FA_OK);
	free(pixels);
}

/* What AdamW keeps, in double precision. */
typedef struct adam
{
	double *weights, *moment1, *moment2, *average;
} adam;

/*
 * Algorithm 2 of Loshchilov, Hutter 2019, with the rate of the operation in place of
 * the schedule's factor; the decay, as everywhere since, times the rate. Adam and SGD
 * with PyTorch's reading of decay and momentum: the decay joins the gradient.
 */
static void
adam_step(adam *a, const fa_parameter *p, const float *gradient, double scale, double rate,
		  const fa_update *u)
{
	for (size_t i = 0; i < p->count && p->trainable && rate > 0; i++)
	{
		double g = gradient[i] * scale, decay = p->decay ? u->weight_decay : 0, m, v;

		if (u->optimizer != FA_OPTIMIZER_ADAMW)
		{
			g += decay * a->weights[i];
			decay = 0;
		}
		if (u->optimizer == FA_OPTIMIZER_SGD)
		{
			a->moment1[i] = u->beta1 * a->moment1[i] + g;
			a->weights[i] -= rate * u->learning_rate * a->moment1[i];
			continue;
		}
		a->moment1[i] = u->beta1 * a->moment1[i] + (1 - (double) u->beta1) * g;
		a->moment2[i] = u->beta2 * a->moment2[i] + (1 - (double) u->beta2) * g * g;
		m = a->moment1[i] / (1 - pow(u->beta1, (double) u->step));
		v = a->moment2[i] / (1 - pow(u->beta2, (double) u->step));
		a->weights[i] -=
			rate * u->learning_rate * (m / (sqrt(v) + u->epsilon) + decay * a->weights[i]);
	}
	for (size_t i = 0; i < p->count && u->ema_decay > 0; i++)
		a->average[i] = u->ema_decay * a->average[i] + (1 - (double) u->ema_decay) * a->weights[i];
}

static void
check_updates(const fa_update *settings, const float *rates)
{
	static const fa_trainer_state kept[] = {FA_STATE_WEIGHTS, FA_STATE_MOMENT1, FA_STATE_MOMENT2,
											FA_STATE_AVERAGE};
	fa_trainer_options options = small;
	fa_net net;
	fa_weights weights, states[LENGTH(kept)], gradients;
	fa_trainer *trainer;
	fa_parameter *parameters;
	int count, clipped = 0;
	adam *adams;
	fa_error error;

	begin_small(&net);
	assert_int_equal(net.op_count, SMALL_OPS);
	assert_int_equal(fa_net_parameters(&net, &parameters, &count, &error), FA_OK);
	weights = random_weights(&net, 1);
	options.rates = rates;
	trainer = open_trainer(&net, &weights, &options);
	adams = calloc((size_t) count, sizeof(adam));
	for (int i = 0; i < count; i++)
	{
		size_t n = parameters[i].count;

		adams[i] = (adam){calloc(n, sizeof(double)), calloc(n, sizeof(double)),
						  calloc(n, sizeof(double)), calloc(n, sizeof(double))};
		for (size_t k = 0; k < n; k++)
			adams[i].weights[k] = adams[i].average[k] = weights.tensors[i].values[k];
	}
	for (int step = 1; step <= 6; step++)
	{
		fa_update update = *settings;
		double squares = 0, norm, scale;
		float reported;

		update.step = step;
		small_passes(trainer, step, (float) step); /* larger and larger */
		gradients = state_of(trainer, FA_STATE_GRADIENTS);
		states[0] = state_of(trainer, FA_STATE_WEIGHTS); /* the statistics are the engine's */
		for (int i = 0; i < count; i++)
			for (size_t k = 0; k < parameters[i].count; k++)
			{
				squares += pow(gradients.tensors[i].values[k], 2);
				if (!parameters[i].trainable)
					adams[i].weights[k] = states[0].tensors[i].values[k];
			}
		fa_weights_free(&states[0]);
		norm = sqrt(squares);
		scale = update.clip_norm > 0 && norm > update.clip_norm ? update.clip_norm / norm : 1;
		clipped += scale < 1;
		assert_int_equal(interface->update(trainer, &update, &reported, &error), FA_OK);
		assert_float_equal(reported, norm, 1e-5 * norm);
		for (int i = 0; i < count; i++)
			adam_step(&adams[i], &parameters[i], gradients.tensors[i].values, scale,
					  rates == NULL ? 1 : rates[parameters[i].op], &update);
		for (int s = 0; s < LENGTH(kept); s++)
			states[s] = state_of(trainer, kept[s]);
		for (int i = 0; i < count; i++)
		{
			const double *expected[] = {adams[i].weights, adams[i].moment1, adams[i].moment2,
										adams[i].average};

			for (int s = 0; s < LENGTH(kept); s++)
				check_values(parameters[i].name, states[s].tensors[i].values, expected[s],
							 parameters[i].count, 2e-6, 1e-6);
		}
		for (int s = 0; s < LENGTH(kept); s++)
			fa_weights_free(&states[s]);
		fa_weights_free(&gradients);
	}
	/* a limit in the middle: it must have been met and missed */
	assert_true(settings->clip_norm == 0 ? clipped == 0 : clipped > 0 && clipped < 6);
	interface->trainer_close(trainer);
	for (int i = 0; i < count; i++)
	{
		free(adams[i].weights);
		free(adams[i].moment1);
		free(adams[i].moment2);
		free(adams[i].average);
	}
	free(adams);
	free(parameters);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static void
updates_by_the_paper(void **state)
{
	const float rates[SMALL_OPS] = {1, 0.5f, 0, 1, 2, 1, 1};

	(void) state;
	check_updates(&(fa_update){0.01f, 0.9f, 0.999f, 1e-8f, 0, 0, 0, 0, FA_OPTIMIZER_ADAMW}, NULL);
	check_updates(&(fa_update){0.01f, 0.9f, 0.95f, 1e-8f, 0.3f, 0, 0.9f, 0, FA_OPTIMIZER_ADAMW},
				  NULL);
	check_updates(&(fa_update){0.01f, 0, 0.999f, 1e-3f, 0.1f, 15, 0.99f, 0, FA_OPTIMIZER_ADAMW},
				  NULL);
	check_updates(&(fa_update){0.02f, 0.8f, 0.99f, 1e-8f, 0.1f, 15, 0.5f, 0, FA_OPTIMIZER_ADAMW},
				  rates);
	check_updates(&(fa_update){0.02f, 0.8f, 0.99f, 1e-8f, 0.1f, 15, 0.5f, 0, FA_OPTIMIZER_ADAM},
				  rates);
	check_updates(&(fa_update){0.02f, 0.9f, 0, 0, 0.1f, 15, 0.5f, 0, FA_OPTIMIZER_SGD}, rates);
	check_updates(&(fa_update){0.02f, 0, 0, 0, 0, 0, 0, 0, FA_OPTIMIZER_SGD}, NULL);
}

/* Gradients that overflow leave everything as it was, and say so. */
static void
bad_gradients_change_nothing(void **state)
{
	fa_update update = {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, 1, 0.9f, 1, FA_OPTIMIZER_ADAMW};
	fa_net net;
	fa_weights weights, before, after;
	fa_trainer *trainer;
	float norm;
	fa_error error;

	(void) state;
	begin_small(&net);
	weights = random_weights(&net, 1);
	trainer = open_trainer(&net, &weights, &small);
	for (int i = 0; i < 2; i++)
	{
		small_passes(trainer, 1, i == 0 ? NAN : 1e38f);
		before = state_of(trainer, FA_STATE_WEIGHTS);
		assert_int_equal(interface->update(trainer, &update, &norm, &error), FA_OK);
		assert_false(isfinite(norm));
		after = state_of(trainer, FA_STATE_WEIGHTS);
		for (int k = 0; k < before.tensor_count; k++)
			assert_memory_equal(before.tensors[k].values, after.tensors[k].values,
								before.tensors[k].count * sizeof(float));
		fa_weights_free(&before);
		fa_weights_free(&after);
	}
	interface->trainer_close(trainer);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* ---- States
 * -------------------------------------------------------------------------------------- */

static void
train_small(fa_trainer *trainer, int64_t from, int64_t to)
{
	fa_update update = {0.01f, 0.9f, 0.999f, 1e-8f, 0.1f, 1, 0.9f, 0, FA_OPTIMIZER_ADAMW};
	float norm;
	fa_error error;

	for (update.step = from; update.step <= to; update.step++)
	{
		small_passes(trainer, update.step, 1);
		assert_int_equal(interface->update(trainer, &update, &norm, &error), FA_OK);
	}
}

/* A trainer that takes up another's states goes on exactly as that one. */
static void
states_taken_up_again(void **state)
{
	static const fa_trainer_state kept[] = {FA_STATE_WEIGHTS, FA_STATE_AVERAGE, FA_STATE_MOMENT1,
											FA_STATE_MOMENT2};
	fa_net net;
	fa_weights weights, other;
	fa_trainer *first, *second;
	fa_error error;

	(void) state;
	begin_small(&net);
	weights = random_weights(&net, 1);
	other = random_weights(&net, 2);
	first = open_trainer(&net, &weights, &small);
	train_small(first, 1, 3);
	second = open_trainer(&net, &other, &small);
	train_small(second, 1, 2);
	for (int s = 0; s < LENGTH(kept); s++)
	{
		fa_weights saved = state_of(first, kept[s]);

		assert_int_equal(interface->write_state(second, kept[s], &saved, &error), FA_OK);
		fa_weights_free(&saved);
	}
	train_small(first, 4, 6);
	train_small(second, 4, 6);
	for (int s = 0; s < LENGTH(kept); s++)
	{
		fa_weights a = state_of(first, kept[s]), b = state_of(second, kept[s]);

		for (int i = 0; i < a.tensor_count; i++)
			assert_memory_equal(a.tensors[i].values, b.tensors[i].values,
								a.tensors[i].count * sizeof(float));
		fa_weights_free(&a);
		fa_weights_free(&b);
	}
	interface->trainer_close(first);
	interface->trainer_close(second);
	fa_weights_free(&weights);
	fa_weights_free(&other);
	fa_net_free(&net);
}

/* What was learned is what inference then uses. */
static void
trained_weights_run_the_same(void **state)
{
	fa_trainer_options options = small;
	uint8_t *pixels = random_pixels(4, 8, 8, 9);
	fa_batch batch = {4, 8, 8, pixels};
	float trained[12], used[12];
	fa_net net;
	fa_weights weights, learned;
	fa_trainer *trainer;
	fa_model *model;
	fa_error error;

	(void) state;
	begin_small(&net);
	weights = random_weights(&net, 1);
	options.batch_norm = FA_BATCH_NORM_FROZEN;
	trainer = open_trainer(&net, &weights, &options);
	train_small(trainer, 1, 5);
	learned = state_of(trainer, FA_STATE_WEIGHTS);
	assert_int_equal(interface->forward(trainer, &batch, (float *[]){trained}, &error), FA_OK);
	assert_int_equal(interface->load(engine, &net, &learned, FA_PRECISION_FP32, &model, &error),
					 FA_OK);
	assert_int_equal(interface->run(model, &batch, (float *[]){used}, NULL, &error), FA_OK);
	for (int i = 0; i < 12; i++)
		assert_float_equal(used[i], trained[i], 1e-5);
	interface->unload(model);
	interface->trainer_close(trainer);
	fa_weights_free(&weights);
	fa_weights_free(&learned);
	fa_net_free(&net);
	free(pixels);
}

static void
calls_that_make_no_sense(void **state)
{
	fa_update update = {0.01f, 0.9f, 0.999f, 1e-8f, 0, 0, 0, 0, FA_OPTIMIZER_ADAMW};
	fa_trainer_options none = small;
	uint8_t *pixels = random_pixels(4, 9, 8, 1);
	float out[12] = {0}, norm;
	float *outputs[1] = {out};
	const float *gradients[1] = {out};
	fa_net net;
	fa_weights weights, empty = {0};
	fa_trainer *trainer;
	fa_error error;

	(void) state;
	begin_small(&net);
	weights = random_weights(&net, 1);
	assert_int_equal(interface->trainer_open(engine, &net, &empty, &small, &trainer, &error),
					 FA_INVALID);
	assert_null(trainer);
	none.count = 0;
	assert_int_equal(interface->trainer_open(engine, &net, &weights, &none, &trainer, &error),
					 FA_INVALID);
	assert_null(trainer);
	trainer = open_trainer(&net, &weights, &small);
	assert_int_equal(interface->backward(trainer, gradients, &error), FA_INVALID);
	assert_int_equal(interface->forward(trainer, &(fa_batch){3, 8, 8, pixels}, outputs, &error),
					 FA_INVALID);
	assert_int_equal(interface->forward(trainer, &(fa_batch){4, 9, 8, pixels}, outputs, &error),
					 FA_INVALID);
	assert_int_equal(interface->forward(trainer, &(fa_batch){4, 8, 8, pixels}, outputs, &error),
					 FA_OK);
	assert_int_equal(interface->backward(trainer, gradients, &error), FA_OK);
	assert_int_equal(interface->backward(trainer, gradients, &error), FA_INVALID);    /* once */
	assert_int_equal(interface->update(trainer, &update, &norm, &error), FA_INVALID); /* step 0 */
	assert_int_equal(interface->write_state(trainer, FA_STATE_WEIGHTS, &empty, &error), FA_INVALID);
	interface->trainer_close(trainer);
	interface->trainer_close(NULL);
	if (!has_bf16)
	{
		none = small;
		none.precision = FA_PRECISION_BF16;
		assert_int_equal(interface->trainer_open(engine, &net, &weights, &none, &trainer, &error),
						 FA_UNSUPPORTED);
	}
	fa_weights_free(&weights);
	fa_net_free(&net);
	free(pixels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(updates_by_the_paper),     cmocka_unit_test(bad_gradients_change_nothing),
		cmocka_unit_test(states_taken_up_again),    cmocka_unit_test(trained_weights_run_the_same),
		cmocka_unit_test(calls_that_make_no_sense), cmocka_unit_test(older_processors),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
