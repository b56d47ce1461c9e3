/*
 * engine_test.c
 *		The engine under test; see engine_test.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine_test.h"

const fa_engine_interface *const interface = &fa_cpu_engine;
fa_engine *engine;
bool has_bf16;

int
open_engine(void **state)
{
	fa_precision precision;
	fa_error error;

	(void) state;
	if (interface->open(NULL, &engine, &error) != FA_OK)
	{
		fprintf(stderr, "%s\n", error.message);
		return -1;
	}
	has_bf16 = interface->resolve_precision(engine, FA_PRECISION_BF16, &precision, &error) == FA_OK;
	return 0;
}

int
close_engine(void **state)
{
	(void) state;
	interface->close(engine);
	return 0;
}

void
older_processors(void **state)
{
	static const char *const limits[] = {"AVX512_CORE", "AVX2", "SSE41"};
	char program[4096], command[5000];
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);

	(void) state;
	if (getenv("ONEDNN_MAX_CPU_ISA") != NULL)
		skip();
	assert_true(length > 0);
	program[length] = '\0';
	for (int i = 0; i < LENGTH(limits); i++)
	{
		snprintf(command, sizeof(command), "ONEDNN_MAX_CPU_ISA=%s '%s' >/dev/null", limits[i],
				 program);
		if (system(command) != 0)
			fail_msg("failed: %s", command);
	}
}

void
check_values(const char *what, const float *values, const double *expected, size_t count,
			 double tolerance, double floor)
{
	double largest = floor;

	for (size_t k = 0; k < count; k++)
		largest = fmax(largest, fabs(expected[k]));
	for (size_t k = 0; k < count; k++)
		if (!(fabs(values[k] - expected[k]) <= tolerance * largest))
			fail_msg("%s: value %zu is %g, not %g; the largest is %g", what, k, values[k],
					 expected[k], largest);
}

fa_model *
load(const fa_net *net, const fa_weights *weights, fa_precision precision)
{
	fa_model *model;
	fa_error error;

	if (interface->load(engine, net, weights, precision, &model, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return model;
}

fa_trainer *
open_trainer(const fa_net *net, const fa_weights *weights, const fa_trainer_options *options)
{
	fa_trainer *trainer;
	fa_error error;

	if (interface->trainer_open(engine, net, weights, options, &trainer, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return trainer;
}

fa_weights
state_of(fa_trainer *trainer, fa_trainer_state which)
{
	fa_weights weights = {0};
	fa_error error;

	assert_int_equal(interface->read_state(trainer, which, &weights, &error), FA_OK);
	return weights;
}
