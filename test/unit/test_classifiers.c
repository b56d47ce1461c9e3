/*
 * test_classifiers.c
 *		The classifiers by name: their sizes and shapes as published, each of them on
 *		the engine against the reference, in both forms and at an odd size, and heads of
 *		any number and name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/nn/fold.h"
#include "../../src/nn/networks.h"
#include "engine_test.h"
#include "random_net.h"
#include "reference.h"

static const struct
{
	const char *name;
	int convolutions, features;
	size_t values; /* of the backbone, as Keras counts parameters */
	int map;       /* side of the last map for 224, 200 and 225 pixels */
	int map200, map225;
} networks[] = {
	{"mobilenet_v1", 27, 1024, 3228864, 7, 7, 8},
	{"resnet50", 53, 2048, 23561152, 7, 7, 7},
	{"senet50", 53 + 32, 2048, 26092144, 7, 7, 7},
	{"vgg16", 13, 512, 14714688, 7, 6, 7},
};

static void
build(fa_net *net, const char *name, bool batch_norm)
{
	fa_error error;

	if (fa_net_by_name(name, net, NULL, 0, 0, batch_norm, 0, &error) != FA_OK)
		fail_msg("%s: %s", name, error.message);
	assert_string_equal(net->name, name);
}

/* The map that the features are the average of. */
static fa_shape
last_map(const fa_net *net, int side)
{
	fa_shape shapes[300];
	fa_error error;

	assert_true(net->op_count <= LENGTH(shapes));
	assert_int_equal(fa_net_shapes(net, side, side, shapes, &error), FA_OK);
	return shapes[net->ops[net->outputs[0].op].input[0]];
}

static void
as_published(void **state)
{
	(void) state;
	for (int i = 0; i < LENGTH(networks); i++)
	{
		fa_parameter *parameters;
		size_t values = 0;
		int count, convolutions = 0;
		fa_net net;
		fa_error error;

		build(&net, networks[i].name, true);
		assert_int_equal(fa_net_parameters(&net, &parameters, &count, &error), FA_OK);
		for (int k = 0; k < count; k++)
			values += parameters[k].count;
		for (int k = 0; k < net.op_count; k++)
			convolutions +=
				net.ops[k].kind == FA_OP_CONVOLUTION || net.ops[k].kind == FA_OP_DEPTHWISE;
		assert_int_equal(convolutions, networks[i].convolutions);
		assert_int_equal(values, networks[i].values);
		assert_int_equal(last_map(&net, 224).height, networks[i].map);
		assert_int_equal(last_map(&net, 200).height, networks[i].map200);
		assert_int_equal(last_map(&net, 225).height, networks[i].map225);
		assert_int_equal(last_map(&net, 224).channels, networks[i].features);
		assert_non_null(strstr(fa_network_names, networks[i].name));
		free(parameters);
		fa_net_free(&net);
	}
}

static void
run_and_check(const fa_net *net, const fa_weights *weights, const fa_batch *batch,
			  const double *expected, const char *what)
{
	fa_model *model = load(net, weights, FA_PRECISION_FP32);
	float features[2048] = {0};
	fa_error error;

	if (interface->run(model, batch, (float *[]){features}, NULL, &error) != FA_OK)
		fail_msg("%s: %s", what, error.message);
	check_values(what, features, expected, (size_t) net->ops[net->outputs[0].op].channels, 1e-5, 0);
	interface->unload(model);
}

/* In the training form, and with batch norm folded; small, for the reference is slow. */
static void
as_the_reference(void **state)
{
	(void) state;
	for (int i = 0; i < LENGTH(networks); i++)
	{
		uint8_t *pixels = random_pixels(1, 35, 32, 5);
		fa_batch batch = {1, 35, 32, pixels};
		fa_net net, without;
		fa_weights weights, folded;
		reference *r;
		fa_error error;

		build(&net, networks[i].name, true);
		build(&without, networks[i].name, false);
		weights = random_weights(&net, 3);
		assert_int_equal(fa_fold_batch_norm(&net, &weights, &without, &folded, &error), FA_OK);
		r = reference_open(&net, &weights, 1, 35, 32);
		reference_forward(r, pixels);
		run_and_check(&net, &weights, &batch, r->tensors[net.outputs[0].op], networks[i].name);
		run_and_check(&without, &folded, &batch, r->tensors[net.outputs[0].op], networks[i].name);
		reference_close(r);
		fa_weights_free(&weights);
		fa_weights_free(&folded);
		fa_net_free(&net);
		fa_net_free(&without);
		free(pixels);
	}
}

static void
heads(void **state)
{
	static const fa_head two[] = {{"age", 101}, {"race", 7}};
	static const fa_head taken[] = {{"pool5", 2}}, hidden[] = {{"hidden", 2}};
	static const fa_head features[] = {{"embedding", 2}}, twice[] = {{"age", 2}, {"age", 3}};
	fa_net net;
	fa_error error;

	(void) state;
	assert_int_equal(fa_net_by_name("vgg16", &net, two, 2, 0, false, 0, &error), FA_OK);
	assert_int_equal(net.output_count, 3);
	assert_int_equal(net.ops[net.outputs[fa_net_find_output(&net, "race")].op].channels, 7);
	fa_net_free(&net);
	assert_int_equal(fa_net_by_name("vgg16", &net, two, 1, 16, true, 0.5f, &error), FA_OK);
	assert_int_equal(net.output_count, 2);
	fa_net_free(&net);

	assert_int_equal(fa_net_by_name("vgg16", &net, taken, 1, 0, false, 0, &error), FA_INVALID);
	assert_non_null(strstr(error.message, "pool5"));
	assert_int_equal(fa_net_by_name("vgg16", &net, hidden, 1, 8, false, 0, &error), FA_INVALID);
	assert_int_equal(fa_net_by_name("vgg16", &net, features, 1, 8, false, 0, &error), FA_INVALID);
	assert_int_equal(fa_net_by_name("vgg16", &net, twice, 2, 8, false, 0, &error), FA_INVALID);
	assert_int_equal(fa_net_by_name("vgg19", &net, two, 2, 8, false, 0, &error), FA_NOT_FOUND);
	assert_non_null(strstr(error.detail, "vgg16"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_published),
		cmocka_unit_test(as_the_reference),
		cmocka_unit_test(heads),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
