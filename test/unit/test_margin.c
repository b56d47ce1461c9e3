/*
 * test_margin.c
 *		The margin softmax against its definition in plain double precision, its gradients of
 *		embeddings and of directions against finite differences of that, by hand where angles
 *		are known, and its state through a checkpoint's tensors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../trainer/margin.h"
#include "../../src/random.h"

enum
{
	COUNT = 6,
	CLASSES = 5,
	SIZE = 7
};

static double
angle(const double *a, const double *b, int size)
{
	double dot = 0, aa = 0, bb = 0;

	for (int k = 0; k < size; k++)
	{
		dot += a[k] * b[k];
		aa += a[k] * a[k];
		bb += b[k] * b[k];
	}
	return acos(fmin(1, fmax(-1, dot / sqrt(aa * bb))));
}

/* By angles, as the paper has it. */
static double
definition(const double *embeddings, const double *directions, const int *persons, double margin,
		   double scale)
{
	double loss = 0;

	for (int i = 0; i < COUNT; i++)
	{
		double sum = 0, own = 0;

		for (int j = 0; j < CLASSES; j++)
		{
			double theta = angle(embeddings + i * SIZE, directions + j * SIZE, SIZE), logit;

			if (j != persons[i])
				logit = cos(theta);
			else if (theta + margin < M_PI)
				logit = cos(theta + margin);
			else
				logit = cos(theta) - margin * sin(margin);
			own = j == persons[i] ? scale * logit : own;
			sum += exp(scale * logit);
		}
		loss += (log(sum) - own) / COUNT;
	}
	return loss;
}

static void
to_doubles(const float *from, double *to, int count)
{
	for (int i = 0; i < count; i++)
		to[i] = from[i];
}

static void
check_gradients(const fa_margin *m, double *embeddings, double *directions, const int *persons,
				const float *gradients)
{
	const double h = 1e-5;
	double *const of[2] = {embeddings, directions};
	const float *const slopes[2] = {gradients, m->gradients};
	const int counts[2] = {COUNT * SIZE, CLASSES * SIZE};

	for (int side = 0; side < 2; side++)
	{
		double largest = 0;

		for (int i = 0; i < counts[side]; i++)
			largest = fmax(largest, fabs(slopes[side][i]));
		for (int i = 0; i < counts[side]; i++)
		{
			double kept = of[side][i], up, down;

			of[side][i] = kept + h;
			up = definition(embeddings, directions, persons, m->margin, m->scale);
			of[side][i] = kept - h;
			down = definition(embeddings, directions, persons, m->margin, m->scale);
			of[side][i] = kept;
			assert_float_equal(slopes[side][i], (up - down) / (2 * h), 2e-5 * largest + 1e-6);
		}
	}
}

/* turned: the first image looks away from its person, beyond pi - margin. */
static void
compare(uint64_t trial, double margin, double scale, bool turned)
{
	static const int persons[COUNT] = {0, 0, 3, 4, 1, 3};
	float embeddings[COUNT * SIZE], gradients[COUNT * SIZE];
	double images[COUNT * SIZE], directions[CLASSES * SIZE], loss;
	fa_random random = fa_random_seed(3, trial, 0);
	fa_margin m;
	int right, nearest = 0;
	fa_error error;

	assert_int_equal(fa_margin_open(&m, CLASSES, SIZE, COUNT, margin, scale, trial, &error), FA_OK);
	for (int i = 0; i < CLASSES * SIZE; i++)
		m.weights[i] *= (float) (1 + trial % 3);
	for (int i = 0; i < COUNT * SIZE; i++)
		embeddings[i] = (float) (fa_random_normal(&random) * (1 + i % 2));
	for (int k = 0; k < SIZE && turned; k++)
		embeddings[k] = -3 * m.weights[k] + (float) (0.05 * fa_random_normal(&random));
	to_doubles(embeddings, images, COUNT * SIZE);
	to_doubles(m.weights, directions, CLASSES * SIZE);
	assert_int_equal(
		fa_margin_loss(&m, embeddings, persons, COUNT, &loss, gradients, &right, &error), FA_OK);
	assert_float_equal(loss, definition(images, directions, persons, margin, scale), 1e-5 * scale);
	for (int i = 0; i < COUNT; i++)
	{
		bool first = true;

		for (int j = 0; j < CLASSES; j++)
			first &= j == persons[i] ||
					 angle(images + i * SIZE, directions + j * SIZE, SIZE) >
						 angle(images + i * SIZE, directions + persons[i] * SIZE, SIZE);
		nearest += first;
	}
	assert_int_equal(right, nearest);
	check_gradients(&m, images, directions, persons, gradients);
	fa_margin_close(&m);
}

static void
as_defined_and_by_differences(void **state)
{
	(void) state;
	for (uint64_t trial = 0; trial < 10; trial++)
	{
		compare(trial, 0.5, 16, false);
		compare(trial, 0.5, 4, true);
		compare(trial, 0, 8, false);
		compare(trial, 0.2, 64, false);
	}
}

/* Two directions at right angles; an image between them, at 30 degrees to its own. */
static void
by_hand(void **state)
{
	const float image[] = {2 * 0.8660254f, 2 * 0.5f};
	const double own = cos(M_PI / 6 + 0.3), other = 0.5;
	const int person = 0;
	double loss;
	float gradients[2];
	fa_margin m;
	int right;
	fa_error error;

	(void) state;
	assert_int_equal(fa_margin_open(&m, 2, 2, 1, 0.3, 10, 1, &error), FA_OK);
	memcpy(m.weights, (const float[]){5, 0, 0, 0.1f}, 4 * sizeof(float));
	assert_int_equal(fa_margin_loss(&m, image, &person, 1, &loss, gradients, &right, &error),
					 FA_OK);
	assert_float_equal(loss, log(1 + exp(10 * (other - own))), 1e-6);
	assert_int_equal(right, 1);
	/* lengths cannot be learnt: nothing along the image, and nothing along a direction */
	assert_float_equal(gradients[0] * image[0] + gradients[1] * image[1], 0, 1e-6);
	assert_float_equal(m.gradients[0], 0, 1e-6);
	assert_float_equal(m.gradients[3], 0, 1e-5);
	/* on its direction, and opposite to it, all is finite */
	for (float sign = -1; sign <= 1; sign += 2)
	{
		assert_int_equal(fa_margin_loss(&m, (const float[]){sign, 0}, &person, 1, &loss, gradients,
										&right, &error),
						 FA_OK);
		assert_true(isfinite(loss) && isfinite(gradients[0]) && isfinite(gradients[1]));
		assert_true(isfinite(m.gradients[1]));
	}
	fa_margin_close(&m);
}

static const fa_update step = {.learning_rate = 0.05f,
							   .beta1 = 0.9f,
							   .beta2 = 0.999f,
							   .epsilon = 1e-8f,
							   .clip_norm = 5,
							   .step = 1,
							   .optimizer = FA_OPTIMIZER_ADAMW};

static void
take_steps(fa_margin *m, const float *embeddings, const int *persons, int from, int to,
		   double *loss, int *right)
{
	float gradients[COUNT * SIZE];
	fa_error error;

	for (int i = from; i < to; i++)
	{
		fa_update update = step;

		update.step = i + 1;
		assert_int_equal(
			fa_margin_loss(m, embeddings, persons, COUNT, loss, gradients, right, &error), FA_OK);
		fa_margin_update(m, &update);
	}
}

/* The directions alone learn six images by heart; and after a break they go on to the same bits. */
static void
directions_learn_and_go_on(void **state)
{
	static const int persons[COUNT] = {0, 1, 2, 3, 4, 4};
	float embeddings[COUNT * SIZE];
	fa_random random = fa_random_seed(8, 0, 0);
	fa_margin whole, broken;
	fa_weights saved = {0};
	double first, loss;
	int right;
	fa_error error;

	(void) state;
	for (int i = 0; i < COUNT * SIZE; i++)
		embeddings[i] = (float) fa_random_normal(&random);
	assert_int_equal(fa_margin_open(&whole, CLASSES, SIZE, COUNT, 0.5, 16, 2, &error), FA_OK);
	take_steps(&whole, embeddings, persons, 0, 1, &first, &right);
	take_steps(&whole, embeddings, persons, 1, 300, &loss, &right);
	assert_int_equal(right, COUNT);
	assert_true(loss < 0.1 * first);

	assert_int_equal(fa_margin_open(&broken, CLASSES, SIZE, COUNT, 0.5, 16, 2, &error), FA_OK);
	take_steps(&broken, embeddings, persons, 0, 120, &loss, &right);
	assert_int_equal(fa_margin_write(&broken, &saved, &error), FA_OK);
	fa_margin_close(&broken);
	/* others than those that were saved: another seed */
	assert_int_equal(fa_margin_open(&broken, CLASSES, SIZE, COUNT, 0.5, 16, 77, &error), FA_OK);
	assert_int_equal(fa_margin_read(&broken, &saved, &error), FA_OK);
	take_steps(&broken, embeddings, persons, 120, 300, &loss, &right);
	assert_memory_equal(broken.weights, whole.weights, sizeof(float) * CLASSES * SIZE);
	assert_memory_equal(broken.moment1, whole.moment1, sizeof(float) * CLASSES * SIZE);
	assert_memory_equal(broken.moment2, whole.moment2, sizeof(float) * CLASSES * SIZE);
	fa_margin_close(&broken);

	assert_int_equal(fa_margin_open(&broken, CLASSES + 1, SIZE, COUNT, 0.5, 16, 2, &error), FA_OK);
	assert_int_equal(fa_margin_read(&broken, &saved, &error), FA_INVALID);
	assert_int_equal(fa_margin_read(&broken, &(fa_weights){0}, &error), FA_INVALID);
	fa_margin_close(&broken);
	fa_margin_close(&whole);
	fa_weights_free(&saved);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_defined_and_by_differences),
		cmocka_unit_test(by_hand),
		cmocka_unit_test(directions_learn_and_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
