/*
 * test_networks.c
 *		The shipped networks against outputs computed elsewhere, which lie beside the
 *		pretrained weights; skipped where those are not at hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/nn/engine.h"
#include "../../src/nn/networks.h"
#include "pretrained.h"

static uint8_t *
bytes_of(const fa_tensor *tensor)
{
	uint8_t *bytes = malloc(tensor->count);

	for (size_t i = 0; i < tensor->count; i++)
		bytes[i] = (uint8_t) tensor->values[i];
	return bytes;
}

/* L2 norm of the difference over that of what is expected. */
static double
distance(const float *values, const fa_tensor *expected)
{
	double difference = 0, norm = 0;

	for (size_t i = 0; i < expected->count; i++)
	{
		double d = values[i] - expected->values[i];

		difference += d * d;
		norm += (double) expected->values[i] * expected->values[i];
	}
	return sqrt(difference / norm);
}

/* bf16 keeps 8 bits: tolerances of 1 in 10 of the norm, after some 30 layers. */
static bool
open_engine(fa_precision precision, fa_engine **engine)
{
	fa_precision resolved;
	fa_error error;

	assert_int_equal(fa_cpu_engine.open(NULL, engine, &error), FA_OK);
	if (fa_cpu_engine.resolve_precision(*engine, precision, &resolved, &error) == FA_OK)
		return true;
	assert_int_equal(error.status, FA_UNSUPPORTED);
	fa_cpu_engine.close(*engine);
	return false;
}

static void
mobilenet(fa_precision precision, double tolerance)
{
	fa_weights weights = pretrained("mobilenet_v1_vggface2");
	fa_weights reference = pretrained("mobilenet_v1_vggface2.reference");
	const fa_tensor *embedding = fa_weights_find(&reference, "embedding");
	uint8_t *pixels = bytes_of(fa_weights_find(&reference, "rgb"));
	float values[2 * 1024], single[1024];
	fa_batch batch = {2, 224, 224, pixels};
	fa_engine *engine;
	fa_model *model;
	fa_net net;
	fa_error error;

	if (!open_engine(precision, &engine))
		skip();
	assert_int_equal(fa_net_mobilenet_v1(&net, NULL, 0, 0, false, 0, &error), FA_OK);
	assert_int_equal(fa_cpu_engine.load(engine, &net, &weights, precision, &model, &error), FA_OK);
	assert_int_equal(fa_cpu_engine.run(model, &batch, (float *[]){values}, NULL, &error), FA_OK);
	assert_true(distance(values, embedding) < tolerance);
	/* one by one it is the same, up to the order of additions */
	batch.count = 1;
	for (int i = 0; i < 2; i++)
	{
		batch.pixels = pixels + (size_t) i * 224 * 224 * 3;
		assert_int_equal(fa_cpu_engine.run(model, &batch, (float *[]){single}, NULL, &error),
						 FA_OK);
		for (int k = 0; k < 1024; k++)
			assert_float_equal(single[k], values[i * 1024 + k],
							   tolerance * (0.5 + fabs(single[k])));
	}
	fa_cpu_engine.unload(model);
	fa_cpu_engine.close(engine);
	fa_net_free(&net);
	fa_weights_free(&weights);
	fa_weights_free(&reference);
	free(pixels);
}

static void
yunet(fa_precision precision, double tolerance)
{
	fa_weights weights = pretrained("yunet_n"), reference = pretrained("yunet_n.reference");
	uint8_t *pixels = bytes_of(fa_weights_find(&reference, "rgb"));
	fa_batch batch = {1, 512, 512, pixels};
	float *outputs[12];
	fa_engine *engine;
	fa_model *model;
	fa_net net;
	fa_error error;

	if (!open_engine(precision, &engine))
		skip();
	assert_int_equal(fa_net_yunet_n(&net, &error), FA_OK);
	assert_int_equal(net.output_count, 12);
	for (int i = 0; i < 12; i++)
		outputs[i] = malloc(64 * 64 * 10 * sizeof(float));
	assert_int_equal(fa_cpu_engine.load(engine, &net, &weights, precision, &model, &error), FA_OK);
	assert_int_equal(fa_cpu_engine.run(model, &batch, outputs, NULL, &error), FA_OK);
	for (int i = 0; i < 12; i++)
	{
		const fa_tensor *expected = fa_weights_find(&reference, net.outputs[i].name);

		if (distance(outputs[i], expected) > tolerance)
			fail_msg("%s differs by %g", net.outputs[i].name, distance(outputs[i], expected));
		free(outputs[i]);
	}
	fa_cpu_engine.unload(model);
	fa_cpu_engine.close(engine);
	fa_net_free(&net);
	fa_weights_free(&weights);
	fa_weights_free(&reference);
	free(pixels);
}

static void
mobilenet_fp32(void **state)
{
	(void) state;
	mobilenet(FA_PRECISION_FP32, 1e-4);
}

static void
mobilenet_bf16(void **state)
{
	(void) state;
	mobilenet(FA_PRECISION_BF16, 0.1);
}

static void
yunet_fp32(void **state)
{
	(void) state;
	yunet(FA_PRECISION_FP32, 1e-4);
}

static void
yunet_bf16(void **state)
{
	(void) state;
	yunet(FA_PRECISION_BF16, 0.1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mobilenet_fp32),
		cmocka_unit_test(mobilenet_bf16),
		cmocka_unit_test(yunet_fp32),
		cmocka_unit_test(yunet_bf16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
