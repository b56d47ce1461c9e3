/*
 * test_second_look.c
 *		Small faces in a large photo: whether they are cut out of the file, or share a
 *		larger view of a file that cannot be cut, the network sees the same, and more
 *		than the view that detection had.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <jpeglib.h>

#include "../../src/face/face.h"
#include "../../src/vision/warp.h"
#include "../../trainer/common.h"

#define WEIGHTS "weights/default.safetensors"
#define FACES 3

static fa_image
blank(int width, int height)
{
	fa_image image;
	fa_error error;

	assert_int_equal(fa_image_alloc(&image, width, height, &error), FA_OK);
	memset(image.pixels, 128, image.stride * (size_t) height);
	return image;
}

/* The demo's portrait, three times, on a canvas of 2,600 x 1,900: the longer side's 2/8 is 650. */
static fa_image
make_scene(void)
{
	static const int places[FACES][3] = {{100, 1000, 512}, {1100, 200, 400}, {1700, 1100, 640}};
	fa_image scene = blank(2600, 1900);
	uint8_t *bytes;
	size_t length;
	fa_photo photo;
	fa_view portrait;
	fa_error error;

	assert_int_equal(fa_read_file("demo/photos/portrait.jpg", &bytes, &length, &error), FA_OK);
	assert_int_equal(fa_photo_open(&photo, bytes, length, 1000000, &error), FA_OK);
	assert_int_equal(fa_photo_decode(&photo, 8, &portrait, NULL, &error), FA_OK);
	for (int i = 0; i < FACES; i++)
	{
		int side = places[i][2];
		fa_image person = blank(side, side);

		assert_int_equal(fa_letterbox(&portrait.image, side, side, &person, 0, &error), FA_OK);
		for (int row = 0; row < side; row++)
			memcpy(scene.pixels + (size_t) (places[i][1] + row) * scene.stride +
					   3 * (size_t) places[i][0],
				   person.pixels + (size_t) row * person.stride, 3 * (size_t) side);
		fa_image_free(&person);
	}
	fa_image_free(&portrait.image);
	free(bytes);
	return scene;
}

static uint8_t *
encode(const fa_image *image, bool progressive, size_t *length)
{
	struct jpeg_compress_struct codec;
	struct jpeg_error_mgr errors;
	unsigned long size = 0;
	uint8_t *bytes = NULL;

	codec.err = jpeg_std_error(&errors);
	jpeg_create_compress(&codec);
	jpeg_mem_dest(&codec, &bytes, &size);
	codec.image_width = (unsigned) image->width;
	codec.image_height = (unsigned) image->height;
	codec.input_components = 3;
	codec.in_color_space = JCS_RGB;
	jpeg_set_defaults(&codec);
	jpeg_set_quality(&codec, 90, TRUE);
	if (progressive)
		jpeg_simple_progression(&codec);
	jpeg_start_compress(&codec, TRUE);
	for (int row = 0; row < image->height; row++)
	{
		JSAMPROW pixels = image->pixels + (size_t) row * image->stride;

		jpeg_write_scanlines(&codec, &pixels, 1);
	}
	jpeg_finish_compress(&codec);
	jpeg_destroy_compress(&codec);
	*length = size;
	return bytes;
}

/* Each face's embedding: unit vectors. */
static float *
embed(fa_pipeline *pipeline, const uint8_t *bytes, size_t length, int *dimension)
{
	fa_face_options options = fa_pipeline_options(pipeline);
	float *embeddings;
	fa_faces faces;
	fa_error error;

	if (fa_embed_faces(pipeline, bytes, length, &options, &faces, &embeddings, dimension, NULL,
					   &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	assert_int_equal(faces.count, FACES);
	fa_faces_free(&faces);
	return embeddings;
}

static double
cosine(const float *a, const float *b, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += (double) a[i] * b[i];
	return sum;
}

static void
the_network_sees_the_same(void **state)
{
	fa_image scene;
	fa_view small;
	fa_photo photo;
	fa_pipeline *pipeline;
	fa_error error;
	uint8_t *files[3];
	size_t lengths[3];
	float *embeddings[3];
	int n = 0;

	(void) state;
	if (access(WEIGHTS, R_OK) != 0)
		skip();
	assert_int_equal(fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights", WEIGHTS,
									  &pipeline, &error),
					 FA_OK);
	scene = make_scene();
	files[0] = encode(&scene, false, &lengths[0]); /* can be cut */
	files[1] = encode(&scene, true, &lengths[1]);  /* cannot; the same coefficients */
	/* and what detection saw of it, and no more */
	assert_int_equal(fa_photo_open(&photo, files[0], lengths[0], 10000000, &error), FA_OK);
	assert_int_equal(fa_photo_decode(&photo, 2, &small, NULL, &error), FA_OK);
	assert_int_equal(
		fa_photo_encode(&small.image, FA_FORMAT_PNG, 0, &files[2], &lengths[2], NULL, &error),
		FA_OK);
	for (int i = 0; i < 3; i++)
		embeddings[i] = embed(pipeline, files[i], lengths[i], &n);
	for (int i = 0; i < FACES; i++)
	{
		size_t face = (size_t) i * (size_t) n;

		assert_true(cosine(embeddings[0] + face, embeddings[1] + face, n) > 0.99999);
		assert_true(cosine(embeddings[0] + face, embeddings[2] + face, n) < 0.97);
	}
	for (int i = 0; i < 3; i++)
	{
		free(embeddings[i]);
		free(files[i]);
	}
	fa_image_free(&small.image);
	fa_image_free(&scene);
	fa_pipeline_close(pipeline);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_network_sees_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
