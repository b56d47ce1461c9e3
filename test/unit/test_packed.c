/*
 * test_packed.c
 *		Weights in a block that processes share: a model that runs from a read-only copy
 *		of it says the same to the last bit, and a block that is cut short, of another
 *		make or of another network is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../../src/face/face.h"
#include "../../src/nn/networks.h"
#include "../../src/nn/onednn.h"
#include "../../trainer/common.h"
#include "engine_test.h"
#include "random_net.h"

/* A copy that ends where memory that cannot be read begins; itself it cannot be written. */
typedef struct copy
{
	char *map, *bytes;
	size_t map_length;
} copy;

static copy
read_only_copy(const void *bytes, size_t length)
{
	size_t pages = (length + 4095) / 4096 * 4096;
	copy c = {.map_length = pages + 4096};

	c.map = mmap(NULL, c.map_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(c.map != MAP_FAILED);
	c.bytes = c.map + pages - (length + 63) / 64 * 64;
	memcpy(c.bytes, bytes, length);
	assert_int_equal(mprotect(c.map, pages, PROT_READ), 0);
	assert_int_equal(mprotect(c.map + pages, 4096, PROT_NONE), 0);
	return c;
}

static void
run(fa_model *model, const fa_batch *batch, float *features)
{
	fa_error error;

	if (interface->run(model, batch, (float *[]){features}, NULL, &error) != FA_OK)
		fail_msg("%s", error.message);
}

static void
check_network(const char *name, bool batch_norm, fa_precision precision)
{
	/* the size that it is packed for, and others, which may want another layout */
	static const int sizes[][2] = {{1, 64}, {3, 64}, {1, 96}};
	fa_net net;
	fa_weights weights;
	fa_model *own, *shared;
	void *block;
	size_t length;
	copy c;
	fa_error error;

	if (precision == FA_PRECISION_BF16 && !fa_onednn_has_bf16())
		return;
	assert_int_equal(fa_net_by_name(name, &net, NULL, 0, 0, batch_norm, 0, &error), FA_OK);
	weights = random_weights(&net, 3);
	own = load(&net, &weights, precision);
	assert_int_equal(interface->pack(own, 64, 64, &block, &length, &error), FA_OK);
	c = read_only_copy(block, length);
	free(block);
	assert_int_equal(
		interface->load_packed(engine, &net, precision, c.bytes, length, &shared, &error), FA_OK);
	for (int i = 0; i < LENGTH(sizes); i++)
	{
		int count = sizes[i][0], side = sizes[i][1];
		uint8_t *pixels = random_pixels(count, side, side, 7);
		float expected[3 * 2048], features[3 * 2048];
		fa_batch batch = {count, side, side, pixels};
		size_t values = (size_t) count * net.ops[net.outputs[0].op].channels;

		run(own, &batch, expected);
		run(shared, &batch, features);
		assert_memory_equal(features, expected, values * sizeof(float));
		free(pixels);
	}
	interface->unload(shared);
	interface->unload(own);
	munmap(c.map, c.map_length);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static void
same_to_the_bit(void **state)
{
	static const char *const names[] = {"mobilenet_v1", "resnet50", "senet50"};

	(void) state;
	for (int i = 0; i < LENGTH(names); i++)
	{
		check_network(names[i], false, FA_PRECISION_FP32);
		check_network(names[i], true, FA_PRECISION_FP32);
		check_network(names[i], false, FA_PRECISION_BF16);
	}
}

static fa_status
open_part(const fa_net *net, const char *bytes, size_t length)
{
	copy c = read_only_copy(bytes, length);
	fa_model *model;
	fa_error error;
	fa_status status =
		interface->load_packed(engine, net, FA_PRECISION_FP32, c.bytes, length, &model, &error);

	if (status == FA_OK)
		interface->unload(model);
	munmap(c.map, c.map_length);
	return status;
}

static void
refuses_what_does_not_fit(void **state)
{
	static const fa_head head[] = {{"age", 101}};
	fa_net net, other;
	fa_weights weights;
	fa_model *own;
	void *block;
	char *bytes;
	size_t length;
	fa_error error;

	(void) state;
	assert_int_equal(fa_net_by_name("mobilenet_v1", &net, head, 1, 8, false, 0, &error), FA_OK);
	assert_int_equal(fa_net_by_name("vgg16", &other, head, 1, 8, false, 0, &error), FA_OK);
	weights = random_weights(&net, 3);
	own = load(&net, &weights, FA_PRECISION_FP32);
	assert_int_equal(interface->pack(own, 32, 32, &block, &length, &error), FA_OK);
	bytes = block;
	assert_int_equal(open_part(&net, bytes, length), FA_OK);
	assert_int_equal(open_part(&other, bytes, length), FA_DAMAGED);
	for (size_t cut = 64; cut < length; cut += length / 37)
		assert_int_not_equal(open_part(&net, bytes, length - cut), FA_OK);
	assert_int_equal(open_part(&net, bytes, 0), FA_UNSUPPORTED);
	bytes[8] ^= 1; /* another oneDNN */
	assert_int_equal(open_part(&net, bytes, length), FA_UNSUPPORTED);
	bytes[8] ^= 1;
	/* every word of the entries, made to point elsewhere: never beyond the block */
	for (size_t at = 64; at < 64 + 40 * (size_t) net.op_count; at += 8)
	{
		uint64_t word;

		memcpy(&word, bytes + at, sizeof(word));
		memset(bytes + at, 0xff, sizeof(word));
		if (word != 0)
			assert_int_not_equal(open_part(&net, bytes, length), FA_OK);
		memcpy(bytes + at, &word, sizeof(word));
	}
	free(block);
	interface->unload(own);
	fa_weights_free(&weights);
	fa_net_free(&net);
	fa_net_free(&other);
}

static void
whole_pipeline(void **state)
{
	fa_pipeline *own, *shared;
	fa_face_options options;
	fa_faces expected, faces;
	uint8_t *photo;
	size_t photo_length, length;
	void *block;
	copy c;
	fa_error error;

	(void) state;
	assert_int_equal(fa_read_file("demo/photos/portrait.jpg", &photo, &photo_length, &error),
					 FA_OK);
	assert_int_equal(fa_pipeline_open(interface, NULL, FA_PRECISION_FP32, "weights",
									  "weights/default.safetensors", &own, &error),
					 FA_OK);
	assert_int_equal(fa_pipeline_pack(own, &block, &length, &error), FA_OK);
	c = read_only_copy(block, length);
	assert_int_equal(fa_pipeline_open_packed(interface, NULL, FA_PRECISION_FP32, c.bytes, length,
											 &shared, &error),
					 FA_OK);
	options = fa_pipeline_options(shared);
	assert_string_equal(fa_pipeline_network(shared), "mobilenet_v1");
	assert_int_equal(
		fa_find_faces(own, photo, photo_length, &options, true, &expected, NULL, &error), FA_OK);
	assert_int_equal(
		fa_find_faces(shared, photo, photo_length, &options, true, &faces, NULL, &error), FA_OK);
	assert_int_equal(expected.count, 1);
	assert_int_equal(faces.count, 1);
	assert_memory_equal(&faces.faces[0], &expected.faces[0], sizeof(fa_face));
	assert_string_equal(fa_gender_label(shared, faces.faces), fa_gender_label(own, expected.faces));
	fa_faces_free(&expected);
	fa_faces_free(&faces);
	fa_pipeline_close(shared);
	munmap(c.map, c.map_length);

	for (size_t cut = 64; cut < length; cut += length / 11)
	{
		c = read_only_copy(block, length - cut);
		assert_int_not_equal(fa_pipeline_open_packed(interface, NULL, FA_PRECISION_FP32, c.bytes,
													 length - cut, &shared, &error),
							 FA_OK);
		munmap(c.map, c.map_length);
	}
	free(block);
	free(photo);
	fa_pipeline_close(own);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_to_the_bit),
		cmocka_unit_test(refuses_what_does_not_fit),
		cmocka_unit_test(whole_pipeline),
	};

	return cmocka_run_group_tests(tests, open_engine, close_engine);
}
