/*
 * test_attributes.c
 *		Calibration by formula, and attribute models whose metadata are wrong in every
 *		way: the error must name the file and say what is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/face/attributes.h"
#include "../../src/face/pipeline.h"
#include "../../src/nn/networks.h"
#include "random_net.h"

static void
calibrated_is_softmax_of_scaled_logits(void **state)
{
	float logits[3] = {1000, 1001, 998}, p[3];
	double e[3], sum = 0;

	(void) state;
	fa_calibrated(logits, 3, 2, p);
	for (int i = 0; i < 3; i++)
		sum += e[i] = exp((logits[i] - 1001) / 2.0);
	for (int i = 0; i < 3; i++)
		assert_float_equal(p[i], e[i] / sum, 1e-6);
}

static void
quantiles_of_known_distributions(void **state)
{
	float uniform[101], single[101] = {0}, two[101] = {0};

	(void) state;
	for (int i = 0; i < 101; i++)
		uniform[i] = 1.0f / 101;
	single[30] = 1;
	two[10] = two[20] = 0.5f;
	/* uniform over [-0.5, 100.5): the quantile is 101 q - 0.5, cut at 0 */
	assert_float_equal(fa_age_quantile(uniform, 101, 0.5f), 50, 1e-3);
	assert_float_equal(fa_age_quantile(uniform, 101, 0.9f), 90.4, 1e-3);
	assert_float_equal(fa_age_quantile(uniform, 101, 0.0001f), 0, 1e-6);
	assert_float_equal(fa_age_quantile(uniform, 101, 0.9999f), 100, 1e-6);
	assert_float_equal(fa_age_quantile(single, 101, 0.5f), 30, 1e-4);
	assert_float_equal(fa_age_quantile(single, 101, 0.1f), 29.6, 1e-4);
	assert_float_equal(fa_age_quantile(two, 101, 0.25f), 10, 1e-4);
	assert_float_equal(fa_age_quantile(two, 101, 0.75f), 20, 1e-4);
}

static void
verification_spares_what_looks_like_a_face(void **state)
{
	(void) state;
	fa_verification linear = {.pivot = 0.5f, .power = 1}, root = {.pivot = 0.5f, .power = 0.5f};

	assert_float_equal(fa_verified_score(0.9f, 0.8f, linear), 0.9f, 0);
	assert_float_equal(fa_verified_score(0.9f, 0.5f, linear), 0.9f, 0);
	assert_float_equal(fa_verified_score(0.9f, 0.25f, linear), 0.45f, 1e-6);
	assert_float_equal(fa_verified_score(0.9f, 0, linear), 0, 0);
	assert_float_equal(fa_verified_score(0.9f, 0.8f, root), 0.9f, 0);
	assert_float_equal(fa_verified_score(0.8f, 0.125f, root), 0.4f, 1e-6);
	assert_float_equal(fa_verified_score(0.9f, 0, root), 0, 0);
}

static void
options_out_of_range(void **state)
{
	fa_face_options o = fa_default_options();
	fa_error error;

	(void) state;
	assert_int_equal(fa_face_options_check(&o, &error), FA_OK);
	o.detect_size = 159;
	assert_int_equal(fa_face_options_check(&o, &error), FA_INVALID);
	assert_non_null(strstr(error.message, "detect_size"));
	o = fa_default_options();
	o.min_score = NAN;
	assert_int_equal(fa_face_options_check(&o, &error), FA_INVALID);
	o = fa_default_options();
	o.min_face = -1;
	assert_int_equal(fa_face_options_check(&o, &error), FA_INVALID);
	o = fa_default_options();
	o.max_pixels = 0;
	assert_int_equal(fa_face_options_check(&o, &error), FA_INVALID);
}

/* Good metadata, of which each case below spoils one. */
static const char *const good[][2] = {
	{"network", "mobilenet_v1"},
	{"input", "64x64"},
	{"hidden", "4"},
	{"heads", "[{\"name\":\"age\",\"classes\":101,\"temperature\":1},"
			  "{\"name\":\"gender\",\"labels\":[\"male\",\"female\"],\"temperature\":1.5}]"},
	{"template", "0.3,0.3,0.7,0.3,0.5,0.5,0.33,0.68,0.67,0.68"},
	{"age_quantile", "0.1"},
};

static const struct
{
	const char *key, *value, *reason;
} spoilt[] = {
	{"network", "resnet9000", "resnet9000"},
	{"input", "banana", "input"},
	{"input", "0x64", "input"},
	{"input", "99999x99999", "input"},
	{"hidden", "-1", "hidden"},
	{"hidden", "1e9", "hidden"},
	{"heads", "nonsense", "heads"},
	{"heads", "{}", "heads"},
	{"heads", "[{\"classes\":5,\"temperature\":1}]", "no name"},
	{"heads", "[{\"name\":\"age\",\"classes\":1,\"temperature\":1}]", "classes"},
	{"heads", "[{\"name\":\"age\",\"classes\":100000,\"temperature\":1}]", "classes"},
	{"heads", "[{\"name\":\"age\",\"classes\":101}]", "temperature"},
	{"heads", "[{\"name\":\"age\",\"classes\":101,\"temperature\":0}]", "temperature"},
	{"heads", "[{\"name\":\"age\",\"classes\":101,\"temperature\":-3}]", "temperature"},
	{"heads", "[{\"name\":\"x\",\"labels\":[\"a\",7],\"temperature\":1}]", "Label 1"},
	{"heads",
	 "[{\"name\":\"age\",\"classes\":5,\"temperature\":1},"
	 "{\"name\":\"age\",\"classes\":5,\"temperature\":1}]",
	 "twice"},
	{"heads", "[{\"name\":\"age\",\"labels\":[\"young\",\"old\"],\"temperature\":1}]", "years"},
	{"heads", "[{\"name\":\"conv1\",\"classes\":5,\"temperature\":1}]", "conv1"},
	{"heads", "[{\"name\":\"embedding\",\"classes\":5,\"temperature\":1}]", "embedding"},
	{"heads", "[{\"name\":\"face\",\"classes\":3,\"temperature\":1}]", "face"},
	{"template", "0.3,0.3", "template"},
	{"template", "0.3,0.3,0.7,0.3,0.5,nan,0.33,0.68,0.67,0.68", "template"},
	{"age_quantile", "0.5", "age_quantile"},
	{"age_quantile", "x", "age_quantile"},
	{"detection", "[]", "detection"},
	{"detection", "{\"detect_size\":5}", "detect_size"},
	{"detection", "{\"min_score\":\"high\"}", "min_score"},
	{"detection", "{\"verify\":1}", "verify"},
	{"verification", "{\"pivot\":0}", "pivot"},
	{"verification", "{\"pivot\":0.5,\"power\":0}", "power"},
	{"verification", "{\"pivot\":0.5,\"power\":2}", "power"},
};

/* A file with those metadata and, of tensors, one that fits nothing. */
static void
write_model(const char *path, const char *key, const char *value)
{
	fa_weights weights = {0};
	fa_tensor *tensor;
	fa_error error;
	int one = 1;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(fa_weights_set(&weights, good[i][0], good[i][1], &error), FA_OK);
	if (key != NULL)
		assert_int_equal(fa_weights_set(&weights, key, value, &error), FA_OK);
	assert_int_equal(fa_weights_add(&weights, "x", 1, &one, &tensor, &error), FA_OK);
	tensor->values[0] = 1;
	assert_int_equal(fa_weights_write(&weights, path, FA_F16, &error), FA_OK);
	fa_weights_free(&weights);
}

static void
bad_metadata_are_named(void **state)
{
	char path[] = "/tmp/faceattr-test-XXXXXX";
	int file = mkstemp(path);
	fa_engine *engine;
	fa_attribute_model model;
	fa_error error;

	(void) state;
	close(file);
	assert_int_equal(fa_cpu_engine.open(NULL, &engine, &error), FA_OK);
	for (size_t i = 0; i < sizeof(spoilt) / sizeof(spoilt[0]); i++)
	{
		write_model(path, spoilt[i].key, spoilt[i].value);
		if (fa_attribute_model_open(&fa_cpu_engine, engine, FA_PRECISION_FP32, path, &model,
									&error) != FA_DAMAGED ||
			strstr(error.message, path) == NULL || strstr(error.detail, spoilt[i].reason) == NULL)
			fail_msg("%s = %s: %s: %s", spoilt[i].key, spoilt[i].value, error.message,
					 error.detail);
	}
	/* with nothing spoilt, the tensors are what is wrong */
	write_model(path, NULL, NULL);
	assert_int_equal(
		fa_attribute_model_open(&fa_cpu_engine, engine, FA_PRECISION_FP32, path, &model, &error),
		FA_INVALID);
	assert_non_null(strstr(error.message, "conv1.weight"));
	unlink(path);
	assert_int_equal(
		fa_attribute_model_open(&fa_cpu_engine, engine, FA_PRECISION_FP32, path, &model, &error),
		FA_NOT_FOUND);
	assert_non_null(strstr(error.message, path));
	fa_cpu_engine.close(engine);
}

/* One head only, of FairFace's labels, on each network at a size of its own. */
static void
one_head_of_any_labels(void **state)
{
	static const char *const networks[] = {"mobilenet_v1", "resnet50", "senet50", "vgg16"};
	static const char *const races[] = {"White",  "Black",           "Indian",        "East Asian",
										"Latino", "Southeast Asian", "Middle Eastern"};
	static const fa_head head = {"race", 7};
	char path[] = "/tmp/faceattr-test-XXXXXX";
	fa_engine *engine;
	fa_error error;

	(void) state;
	close(mkstemp(path));
	assert_int_equal(fa_cpu_engine.open(NULL, &engine, &error), FA_OK);
	for (int i = 0; i < 4; i++)
	{
		float logits[7] = {0, 1, 0, 0, 0, 9, 0}, probability = 0;
		fa_attribute_model model;
		fa_weights weights;
		fa_face face = {.age = 0};
		fa_net net;

		assert_int_equal(fa_net_by_name(networks[i], &net, &head, 1, 0, false, 0, &error), FA_OK);
		weights = random_weights(&net, 1);
		for (size_t k = 0; k < sizeof(good) / sizeof(good[0]); k++)
			assert_int_equal(fa_weights_set(&weights, good[k][0], good[k][1], &error), FA_OK);
		assert_int_equal(fa_weights_set(&weights, "network", networks[i], &error), FA_OK);
		assert_int_equal(fa_weights_set(&weights, "input", "72x60", &error), FA_OK);
		assert_int_equal(fa_weights_set(&weights, "hidden", "0", &error), FA_OK);
		assert_int_equal(fa_weights_set(&weights, "heads",
										"[{\"name\":\"race\",\"labels\":[\"White\",\"Black\","
										"\"Indian\",\"East Asian\",\"Latino\",\"Southeast Asian\","
										"\"Middle Eastern\"],\"temperature\":1}]",
										&error),
						 FA_OK);
		assert_int_equal(fa_weights_write(&weights, path, FA_F16, &error), FA_OK);
		if (fa_attribute_model_open(&fa_cpu_engine, engine, FA_PRECISION_FP32, path, &model,
									&error) != FA_OK)
			fail_msg("%s: %s", error.message, error.detail);
		assert_int_equal(model.height, 72);
		assert_int_equal(model.width, 60);
		assert_int_equal(model.head_count, 1);
		assert_int_equal(model.embedding_size, net.ops[net.outputs[0].op].channels);
		for (int k = 0; k < 7; k++)
			assert_string_equal(model.heads[0].labels[k], races[k]);
		fa_set_attributes(&model, (float *[]){logits}, &face, &probability);
		assert_true(face.classified && face.has_race && !face.has_age && !face.has_gender);
		assert_string_equal(model.heads[0].labels[face.race], "Southeast Asian");
		assert_float_equal(probability, 1, 0); /* no head to say that it is no face */
		fa_attribute_model_close(&fa_cpu_engine, &model);
		fa_weights_free(&weights);
		fa_net_free(&net);
	}
	fa_cpu_engine.close(engine);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calibrated_is_softmax_of_scaled_logits),
		cmocka_unit_test(quantiles_of_known_distributions),
		cmocka_unit_test(verification_spares_what_looks_like_a_face),
		cmocka_unit_test(options_out_of_range),
		cmocka_unit_test(bad_metadata_are_named),
		cmocka_unit_test(one_head_of_any_labels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
