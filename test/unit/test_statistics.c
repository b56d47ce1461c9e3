/*
 * test_statistics.c
 *		An evaluation's figures by hand, and on 400 judgements at random against
 *		scipy 1.x and numpy: scipy.stats.binomtest(...).proportion_ci(method='wilson'),
 *		scipy.stats.bootstrap(method='percentile'), the calibration error from
 *		its definition.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>

#include "../../src/face/statistics.h"
#include "pictures.h"

#define COUNT 400

static const fa_group everybody = {-1, -1, -1};

static fa_figures
figures_of(const fa_judgement *judgements, int count, fa_group group, uint64_t seed)
{
	fa_figures figures;
	fa_error error;

	assert_int_equal(fa_figures_compute(judgements, count, group, seed, &figures, NULL, &error),
					 FA_OK);
	return figures;
}

static void
check_estimate(fa_estimate estimate, double value, double low, double high, double tolerance)
{
	assert_float_equal(estimate.value, value, 1e-8);
	assert_float_equal(estimate.low, low, tolerance);
	assert_float_equal(estimate.high, high, tolerance);
}

/* --- Against scipy --- */

static int
draw(uint64_t *state, int n)
{
	*state = (*state * 1103515245 + 12345) % (1u << 31);
	return (int) ((*state >> 8) % (unsigned) n);
}

static void
make_judgements(fa_judgement *judgements)
{
	uint64_t state = 42;

	for (int i = 0; i < COUNT; i++)
	{
		fa_judgement *j = &judgements[i];
		int age, width, right;

		j->gender = draw(&state, 3) - 1;
		j->race = draw(&state, 4) - 1;
		age = draw(&state, 120) - 5;
		j->found = draw(&state, 10) > 0;
		j->has_age = draw(&state, 20) > 0;
		j->predicted_age = (float) (age + draw(&state, 41) - 18);
		width = draw(&state, 20);
		j->age_low = j->predicted_age - (float) width;
		j->age_high = j->predicted_age + (float) width;
		j->age = j->age_most = (float) (age < 0 ? -1 : age);
		right = draw(&state, 5) > 0;
		j->gender_right = j->gender >= 0 ? right : -1;
		right = draw(&state, 3) > 0;
		j->race_right = j->race >= 0 ? right : -1;
		j->gender_confidence = (float) (500 + draw(&state, 501)) / 1000;
		j->race_confidence = (float) (200 + draw(&state, 801)) / 1000;
	}
}

static void
all_as_scipy_has_them(void **state)
{
	fa_judgement judgements[COUNT];
	fa_figures f;

	(void) state;
	make_judgements(judgements);
	f = figures_of(judgements, COUNT, everybody, 1);
	assert_int_equal(f.count, 400);
	assert_int_equal(f.found, 359);
	assert_int_equal(f.ages, 325);
	check_estimate(f.age_error, 10.378461538, 9.7230, 11.0400, 0.06);
	assert_float_equal(f.age_bias, 1.56, 1e-9);
	assert_float_equal(f.age_coverage, 0.489230769, 1e-9);
	assert_int_equal(f.genders, 251);
	check_estimate(f.gender, 0.816733068, 0.764219146, 0.859698174, 1e-8);
	assert_float_equal(f.gender_calibration, 0.156354582, 1e-6);
	assert_int_equal(f.races, 272);
	check_estimate(f.race, 0.658088235, 0.599865366, 0.711907927, 1e-8);
	assert_float_equal(f.race_calibration, 0.194352942, 1e-6);
	assert_int_equal(f.minors_18, 44);
	check_estimate(f.false_adult_18, 0.363636364, 0.237835297, 0.511336231, 1e-8);
	assert_int_equal(f.minors_21, 57);
	check_estimate(f.false_adult_21, 0.298245614, 0.195325501, 0.426642801, 1e-8);
}

static void
groups_as_scipy_has_them(void **state)
{
	fa_judgement judgements[COUNT];
	fa_figures f;

	(void) state;
	make_judgements(judgements);
	f = figures_of(judgements, COUNT, (fa_group){.race = 1, .gender = 0, .decade = -1}, 1);
	assert_int_equal(f.count, 37);
	assert_int_equal(f.found, 33);
	check_estimate(f.age_error, 10.354838710, 8.0968, 12.5806, 0.3);
	check_estimate(f.gender, 0.909090909, 0.764273944, 0.968596058, 1e-8);
	assert_float_equal(f.race_calibration, 0.418121213, 1e-6);
	check_estimate(f.false_adult_18, 0, 0, 0.434482465, 1e-8);
	f = figures_of(judgements, COUNT, (fa_group){.race = -1, .gender = -1, .decade = 1}, 1);
	assert_int_equal(f.count, 34);
	check_estimate(f.age_error, 9, 6.6667, 11.4444, 0.3);
	assert_float_equal(f.age_bias, 3.296296296, 1e-8);
	check_estimate(f.false_adult_18, 0.526315789, 0.317078092, 0.726701948, 1e-8);
	check_estimate(f.false_adult_21, 0.407407407, 0.245147571, 0.592732990, 1e-8);
}

/* --- By hand --- */

static void
few_errors_have_a_known_bootstrap(void **state)
{
	fa_judgement judgements[2] = {
		{.age = 30, .age_most = 30, .found = true, .has_age = true, .predicted_age = 30},
		{.age = 30, .age_most = 30, .found = true, .has_age = true, .predicted_age = 31},
	};
	fa_figures f;

	(void) state;
	/* means 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4 */
	f = figures_of(judgements, 2, everybody, 5);
	check_estimate(f.age_error, 0.5, 0, 1, 0);
	/* nothing to vary */
	f = figures_of(judgements + 1, 1, everybody, 5);
	check_estimate(f.age_error, 1, 1, 1, 0);
}

static void
the_seed_decides(void **state)
{
	fa_judgement judgements[COUNT];
	fa_figures a, b, c;

	(void) state;
	make_judgements(judgements);
	a = figures_of(judgements, COUNT, everybody, 1);
	b = figures_of(judgements, COUNT, everybody, 1);
	c = figures_of(judgements, COUNT, everybody, 2);
	assert_memory_equal(&a.age_error, &b.age_error, sizeof(fa_estimate));
	assert_true(a.age_error.low != c.age_error.low);
}

/* Of 10-19 nobody knows who was below 18; of 0-17 all are. */
static void
a_range_counts_as_minor_when_all_of_it_is(void **state)
{
	fa_judgement judgements[2] = {
		{.age = 14.5f, .age_most = 19, .found = true, .has_age = true, .predicted_age = 25},
		{.age = 8.5f, .age_most = 17, .found = true, .has_age = true, .predicted_age = 19},
	};
	fa_figures f;

	(void) state;
	f = figures_of(judgements, 2, everybody, 1);
	assert_int_equal(f.minors_18, 1);
	assert_float_equal(f.false_adult_18.value, 1, 0);
	assert_int_equal(f.minors_21, 2);
	assert_float_equal(f.false_adult_21.value, 0.5, 0);
}

static void
nothing_has_no_figures(void **state)
{
	fa_figures f = figures_of(NULL, 0, everybody, 1);

	(void) state;
	assert_int_equal(f.count, 0);
	assert_true(isnan(f.age_error.value) && isnan(f.age_error.low) && isnan(f.age_bias));
	assert_true(isnan(f.gender.value) && isnan(f.gender.high) && isnan(f.gender_calibration));
	assert_true(isnan(f.false_adult_18.value) && isnan(f.age_coverage));
}

static void
wilson_at_the_ends(void **state)
{
	fa_estimate e = fa_wilson(0, 10);

	(void) state;
	/* scipy.stats.binomtest(0, 10).proportion_ci(method='wilson') */
	check_estimate(e, 0, 0, 0.27753280, 1e-8);
	e = fa_wilson(10, 10);
	check_estimate(e, 1, 1 - 0.27753280, 1, 1e-8);
}

static void
decades(void **state)
{
	(void) state;
	assert_int_equal(fa_decade(-1), -1);
	assert_int_equal(fa_decade(0), 0);
	assert_int_equal(fa_decade(9.5f), 0);
	assert_int_equal(fa_decade(10), 1);
	assert_int_equal(fa_decade(99), 9);
	assert_int_equal(fa_decade(116), 10);
}

static void
it_can_be_interrupted(void **state)
{
	fa_judgement judgements[COUNT];
	fa_figures f;
	fa_error error;
	patience p;
	fa_interrupt interrupt = patience_start(&p, 3);

	(void) state;
	make_judgements(judgements);
	assert_int_equal(fa_figures_compute(judgements, COUNT, everybody, 1, &f, &interrupt, &error),
					 FA_INTERRUPTED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_as_scipy_has_them),
		cmocka_unit_test(groups_as_scipy_has_them),
		cmocka_unit_test(few_errors_have_a_known_bootstrap),
		cmocka_unit_test(the_seed_decides),
		cmocka_unit_test(a_range_counts_as_minor_when_all_of_it_is),
		cmocka_unit_test(nothing_has_no_figures),
		cmocka_unit_test(wilson_at_the_ends),
		cmocka_unit_test(decades),
		cmocka_unit_test(it_can_be_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
