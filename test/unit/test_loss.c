/*
 * test_loss.c
 *		The trainer's losses against finite differences and by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>

#include "../../src/face/attributes.h"
#include "../../trainer/loss.h"
#include "pictures.h"

#define CLASSES 21
#define COUNT 5

typedef double (*loss_function)(const fa_loss_options *options, const float *logits, int classes,
								const float *targets, int count, float *gradients);

static void
check_gradient(loss_function loss, const fa_loss_options *options, const float *targets)
{
	float logits[COUNT * CLASSES], gradients[COUNT * CLASSES], scratch[COUNT * CLASSES];
	uint64_t seed = 7;

	for (int i = 0; i < COUNT * CLASSES; i++)
		logits[i] = (float) (random_u32(&seed) % 2000) / 500 - 2;
	loss(options, logits, CLASSES, targets, COUNT, gradients);
	for (int i = 0; i < COUNT * CLASSES; i++)
	{
		const float h = 1e-2f;
		float kept = logits[i];
		double up, down;

		logits[i] = kept + h;
		up = loss(options, logits, CLASSES, targets, COUNT, scratch);
		logits[i] = kept - h;
		down = loss(options, logits, CLASSES, targets, COUNT, scratch);
		logits[i] = kept;
		assert_float_equal(gradients[i], options->weight * (up - down) / (2 * h), 2e-4);
	}
}

static void
categories_by_finite_differences(void **state)
{
	const float targets[COUNT] = {0, 20, -1, 7, 3};

	(void) state;
	check_gradient(fa_loss_categories, &(fa_loss_options){.weight = 1}, targets);
	check_gradient(fa_loss_categories, &(fa_loss_options){.weight = 0.5f, .smoothing = 0.1f},
				   targets);
}

static void
ages_by_finite_differences(void **state)
{
	const float targets[COUNT] = {0, 20, -1, 7.5f, 33};

	(void) state;
	check_gradient(fa_loss_ordinal, &(fa_loss_options){.weight = 1, .sigma = 2.5f}, targets);
	check_gradient(fa_loss_ordinal,
				   &(fa_loss_options){.weight = 2, .sigma = 2.5f, .expectation = 0.3f}, targets);
}

/* A class's weight multiplies what its samples cost. */
static void
weighted_by_finite_differences(void **state)
{
	const float targets[COUNT] = {0, 20, -1, 7.5f, 3};
	float weights[CLASSES], logits[CLASSES] = {0}, gradients[CLASSES];
	fa_loss_options options = {.weight = 1, .sigma = 2.5f, .expectation = 0.3f, .smoothing = 0.1f};
	const float third = 3;
	double plain;

	(void) state;
	for (int i = 0; i < CLASSES; i++)
		weights[i] = 0.25f * (float) (i + 1);
	plain = fa_loss_categories(&options, logits, CLASSES, &third, 1, gradients);
	options.class_weights = weights;
	assert_float_equal(fa_loss_categories(&options, logits, CLASSES, &third, 1, gradients), plain,
					   1e-6);
	weights[3] = 3;
	assert_float_equal(fa_loss_categories(&options, logits, CLASSES, &third, 1, gradients),
					   3 * plain, 1e-5);
	check_gradient(fa_loss_categories, &options, targets);
	check_gradient(fa_loss_ordinal, &options, targets);
}

static void
missing_labels_do_not_pull(void **state)
{
	const float targets[2] = {-1, -1};
	float logits[2 * 3] = {1, 2, 3, 4, 5, 6}, gradients[2 * 3];

	(void) state;
	assert_float_equal(
		fa_loss_categories(&(fa_loss_options){.weight = 1}, logits, 3, targets, 2, gradients), 0,
		0);
	for (int i = 0; i < 6; i++)
		assert_float_equal(gradients[i], 0, 0);
}

static void
a_certain_right_answer_costs_nothing(void **state)
{
	const float targets[1] = {1};
	float logits[3] = {-40, 40, -40}, gradients[3];

	(void) state;
	assert_float_equal(
		fa_loss_categories(&(fa_loss_options){.weight = 1}, logits, 3, targets, 1, gradients), 0,
		1e-6);
	/* and equal logits cost log 3 */
	memset(logits, 0, sizeof(logits));
	assert_float_equal(
		fa_loss_categories(&(fa_loss_options){.weight = 1}, logits, 3, targets, 1, gradients),
		log(3), 1e-6);
}

static void
expected_class(void **state)
{
	float logits[4] = {0, 0, 0, 0}, p[4];

	(void) state;
	fa_calibrated(logits, 4, 1, p);
	assert_float_equal(fa_expected_class(p, 4), 1.5, 1e-6);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(categories_by_finite_differences),
		cmocka_unit_test(ages_by_finite_differences),
		cmocka_unit_test(weighted_by_finite_differences),
		cmocka_unit_test(missing_labels_do_not_pull),
		cmocka_unit_test(a_certain_right_answer_costs_nothing),
		cmocka_unit_test(expected_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
