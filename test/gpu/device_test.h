/*
 * device_test.h
 *		What the tests on the emulated device share: an engine with options, a small
 *		network with random weights, and a process of its own for what must end badly.
 */
#ifndef DEVICE_TEST_H
#define DEVICE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../gpu/cuda_engine.h"
#include "../../src/nn/networks.h"
#include "../unit/random_net.h"
#include "emulation.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))
#define SMALL_SIDE 9
#define SMALL_VALUES 5 /* of an image's output */

/* The emulated device as it is at first. */
extern void reset_device(void);
extern const fa_engine_interface *cuda(void);
extern fa_engine *open_engine(const fa_engine_options *options);
/* Everything the emulation knows of has been freed. */
extern void close_engine(fa_engine *engine);
/* All kinds of steps; images of SMALL_SIDE, one output of SMALL_VALUES. */
extern void small_net(fa_net *net);
extern fa_model *load_small(fa_engine *engine, fa_precision precision);
/* Outputs of `count` random images, malloc'ed; those of the CPU engine. */
extern float *run_small(fa_model *model, int count);
extern float *expect_small(int count);
extern void assert_close(const float *values, const float *expected, int count, double tolerance);
/* Runs test(argument) in a process of its own; its words on stderr are in `words`. false: it died.
 */
extern bool survives(void (*test)(int argument), int argument, char *words, size_t size);

#endif
