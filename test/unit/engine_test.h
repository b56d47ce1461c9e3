/*
 * engine_test.h
 *		What the tests of engines share: the engine that they judge, named here and
 *		nowhere else, and how numbers are compared.
 */
#ifndef ENGINE_TEST_H
#define ENGINE_TEST_H

#include "../../src/nn/engine.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

extern const fa_engine_interface *const interface;
extern fa_engine *engine; /* open during the tests, one thread */
extern bool has_bf16;

/* Set-up and tear-down of a group of tests. */
extern int open_engine(void **state);
extern int close_engine(void **state);

/* A test: the whole program once more with what older processors have. */
extern void older_processors(void **state);

/* Fails unless every value is within tolerance * the largest expected one, or floor. */
extern void check_values(const char *what, const float *values, const double *expected,
						 size_t count, double tolerance, double floor);

extern fa_model *load(const fa_net *net, const fa_weights *weights, fa_precision precision);
extern fa_trainer *open_trainer(const fa_net *net, const fa_weights *weights,
								const fa_trainer_options *options);
extern fa_weights state_of(fa_trainer *trainer, fa_trainer_state which);

#endif
