/*
 * test_detector.c
 *		Suppression by its rules, and the detector on the sample portrait: every
 *		size, every orientation, every format, each face once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/face/face.h"
#include "../../src/face/nms.h"
#include "../../src/vision/warp.h"
#include "../../trainer/common.h"

static fa_pipeline *pipeline;
static fa_image portrait; /* 512 x 512, one face some 92 pixels wide */

static int
set_up(void **state)
{
	fa_photo photo;
	fa_view view;
	uint8_t *bytes;
	size_t length;
	fa_error error;

	(void) state;
	if (fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights", NULL, &pipeline,
						 &error) != FA_OK ||
		fa_read_file("demo/photos/portrait.jpg", &bytes, &length, &error) != FA_OK ||
		fa_photo_open(&photo, bytes, length, 1 << 24, &error) != FA_OK ||
		fa_photo_decode(&photo, 8, &view, NULL, &error) != FA_OK)
	{
		fprintf(stderr, "%s\n", error.message);
		return -1;
	}
	portrait = view.image;
	free(bytes);
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	fa_image_free(&portrait);
	fa_pipeline_close(pipeline);
	return 0;
}

static void
suppression_keeps_the_best(void **state)
{
	fa_detection d[5] = {
		{.box = {0, 0, 10, 10}, .preference = 0.5f}, /* overlaps the next */
		{.box = {1, 0, 11, 10}, .preference = 0.9f},
		{.box = {130, 0, 140, 10}, .preference = 0.1f},   /* alone */
		{.box = {2, 2, 5, 5}, .preference = 0.7f},        /* within a better, larger one */
		{.box = {-90, -90, 110, 110}, .preference = 0.2f} /* around a better, smaller one */
	};
	int n = fa_non_max_suppression(d, 5, 100, 0.45, 0.85);

	(void) state;
	assert_int_equal(n, 3);
	assert_float_equal(d[0].preference, 0.9f, 0);
	assert_float_equal(d[1].preference, 0.2f, 0);
	assert_float_equal(fa_overlap(&(fa_rect){0, 0, 2, 2}, &(fa_rect){1, 1, 3, 3}), 1.0 / 7, 1e-12);
	assert_float_equal(fa_overlap(&(fa_rect){0, 0, 1, 1}, &(fa_rect){1, 0, 2, 1}), 0, 0);
}

static fa_faces
find(const void *bytes, size_t length)
{
	fa_face_options options = fa_default_options();
	fa_faces faces;
	fa_error error;

	options.min_face = 8;
	if (fa_find_faces(pipeline, bytes, length, &options, false, &faces, NULL, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return faces;
}

/* The portrait's part around the face, scaled, on a grey canvas. */
static void
make_photo(double scale, int width, int height, int x, int y, fa_format format, uint8_t **bytes,
		   size_t *length)
{
	fa_affine map = {1 / scale, 0, -x / scale, 0, 1 / scale, -y / scale};
	fa_image photo;
	fa_error error;

	assert_int_equal(fa_image_alloc(&photo, width, height, &error), FA_OK);
	assert_int_equal(fa_warp(&portrait, map, &photo, &error), FA_OK);
	assert_int_equal(fa_photo_encode(&photo, format, 90, bytes, length, NULL, &error), FA_OK);
	fa_image_free(&photo);
}

/* The portrait's face is at (178, 65) to (270, 176), 92 wide. */
static void
faces_of_every_size_once(void **state)
{
	(void) state;
	for (double wide = 12; wide < 1400; wide *= 1.25)
	{
		double scale = wide / 92;
		uint8_t *bytes;
		size_t length;
		fa_faces faces;

		/* up to 450 pixels in a photo of 640, then filling ever larger ones */
		int side = wide <= 450 ? 640 : (int) (wide * 1.45);

		make_photo(scale, side, side, (int) (side / 2.0 - 224 * scale),
				   (int) (side / 2.0 - 121 * scale), FA_FORMAT_JPEG, &bytes, &length);
		faces = find(bytes, length);
		if (faces.count != 1)
			fail_msg("%d faces where one is %.0f pixels wide in %d", faces.count, wide, side);
		assert_in_range((int) (faces.faces[0].box.x2 - faces.faces[0].box.x1), wide * 0.7,
						wide * 1.4);
		assert_float_equal((faces.faces[0].box.x1 + faces.faces[0].box.x2) / 2, side / 2.0,
						   wide * 0.15 + 2);
		fa_faces_free(&faces);
		free(bytes);
	}
}

/* An EXIF block that says `orientation`, put behind a JPEG's first marker. */
static uint8_t *
with_orientation(const uint8_t *jpeg, size_t length, int orientation, size_t *new_length)
{
	uint8_t app1[36] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,
						'M',  'M',  0, 42, 0,   0,   0,   8,   0, 1,
						1,    0x12, 0, 3,  0,   0,   0,   1,   0, (uint8_t) orientation,
						0,    0,    0, 0,  0,   0};
	uint8_t *bytes = malloc(length + sizeof(app1));

	memcpy(bytes, jpeg, 2);
	memcpy(bytes + 2, app1, sizeof(app1));
	memcpy(bytes + 2 + sizeof(app1), jpeg + 2, length - 2);
	*new_length = length + sizeof(app1);
	return bytes;
}

/* Stores the upright picture so that `orientation` turns it upright again. */
static void
store_turned(const fa_image *upright, int orientation, fa_image *stored)
{
	int w = upright->width, h = upright->height;
	fa_error error;

	assert_int_equal(orientation >= 5 ? fa_image_alloc(stored, h, w, &error)
									  : fa_image_alloc(stored, w, h, &error),
					 FA_OK);
	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
		{
			/* where each of the eight puts the upright pixel (x, y) in storage */
			int places[8][2] = {{x, y}, {w - 1 - x, y}, {w - 1 - x, h - 1 - y}, {x, h - 1 - y},
								{y, x}, {y, w - 1 - x}, {h - 1 - y, w - 1 - x}, {h - 1 - y, x}};

			memcpy(stored->pixels + places[orientation - 1][1] * stored->stride +
					   3 * (size_t) places[orientation - 1][0],
				   upright->pixels + y * upright->stride + 3 * (size_t) x, 3);
		}
}

static void
orientations_agree(void **state)
{
	fa_faces upright = {0};
	fa_image part = portrait; /* not square, the face off the middle */

	(void) state;
	part.width = 420;
	part.height = 300;
	for (int o = 1; o <= 8; o++)
	{
		fa_image stored;
		uint8_t *jpeg, *bytes;
		size_t length, new_length;
		fa_faces faces;
		fa_error error;

		store_turned(&part, o, &stored);
		assert_int_equal(fa_photo_encode(&stored, FA_FORMAT_JPEG, 98, &jpeg, &length, NULL, &error),
						 FA_OK);
		bytes = with_orientation(jpeg, length, o, &new_length);
		faces = find(bytes, new_length);
		assert_int_equal(faces.count, 1);
		assert_int_equal(faces.width, 420);
		assert_int_equal(faces.height, 300);
		if (o == 1)
			upright = faces;
		else
		{
			assert_float_equal(faces.faces[0].box.x1, upright.faces[0].box.x1, 2.5);
			assert_float_equal(faces.faces[0].box.y1, upright.faces[0].box.y1, 2.5);
			assert_float_equal(faces.faces[0].box.x2, upright.faces[0].box.x2, 2.5);
			assert_float_equal(faces.faces[0].box.y2, upright.faces[0].box.y2, 2.5);
			/* the left eye in the image stays the first */
			assert_float_equal(faces.faces[0].landmarks[0][0], upright.faces[0].landmarks[0][0],
							   2.5);
			fa_faces_free(&faces);
		}
		fa_image_free(&stored);
		free(jpeg);
		free(bytes);
	}
	fa_faces_free(&upright);
}

static void
formats_agree(void **state)
{
	uint8_t *jpeg, *png;
	size_t jpeg_length, png_length;
	fa_faces a, b;

	(void) state;
	make_photo(3, 1500, 1400, 0, 0, FA_FORMAT_JPEG, &jpeg, &jpeg_length);
	make_photo(3, 1500, 1400, 0, 0, FA_FORMAT_PNG, &png, &png_length);
	a = find(jpeg, jpeg_length);
	b = find(png, png_length);
	assert_int_equal(a.count, 1);
	assert_int_equal(b.count, 1);
	assert_float_equal(a.faces[0].box.x1, b.faces[0].box.x1, 8);
	assert_float_equal(a.faces[0].box.y2, b.faces[0].box.y2, 8);
	fa_faces_free(&a);
	fa_faces_free(&b);
	free(jpeg);
	free(png);
}

static void
small_and_doubtful_faces_are_left_out(void **state)
{
	fa_face_options options = fa_default_options();
	uint8_t *bytes;
	size_t length;
	fa_faces faces;
	fa_error error;

	(void) state;
	make_photo(1, 512, 512, 0, 0, FA_FORMAT_JPEG, &bytes, &length);
	options.min_face = 150;
	assert_int_equal(fa_find_faces(pipeline, bytes, length, &options, false, &faces, NULL, &error),
					 FA_OK);
	assert_int_equal(faces.count, 0);
	fa_faces_free(&faces);
	options = fa_default_options();
	options.min_score = 0.999f;
	assert_int_equal(fa_find_faces(pipeline, bytes, length, &options, false, &faces, NULL, &error),
					 FA_OK);
	assert_int_equal(faces.count, 0);
	fa_faces_free(&faces);
	free(bytes);
}

static bool
after(void *argument)
{
	return (*(int *) argument)-- <= 0;
}

/* Wherever the question comes, "stop" ends the call at once and leaves nothing behind. */
static void
interrupts_end_the_call(void **state)
{
	fa_face_options options = fa_default_options();
	uint8_t *bytes;
	size_t length;
	fa_faces faces;
	fa_error error;
	int questions = 0;

	(void) state;
	make_photo(1, 512, 512, 0, 0, FA_FORMAT_JPEG, &bytes, &length);
	for (int n = 0; n < 4000; n = n * 3 / 2 + 1)
	{
		int left = n;
		fa_interrupt interrupt = {after, &left};
		fa_status status =
			fa_find_faces(pipeline, bytes, length, &options, false, &faces, &interrupt, &error);

		if (status == FA_OK)
		{
			questions = n;
			fa_faces_free(&faces);
			break;
		}
		assert_int_equal(status, FA_INTERRUPTED);
		assert_null(faces.faces);
	}
	assert_in_range(questions, 100, 4000); /* rows and layers ask */
	free(bytes);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(suppression_keeps_the_best),
		cmocka_unit_test(faces_of_every_size_once),
		cmocka_unit_test(orientations_agree),
		cmocka_unit_test(formats_agree),
		cmocka_unit_test(small_and_doubtful_faces_are_left_out),
		cmocka_unit_test(interrupts_end_the_call),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
