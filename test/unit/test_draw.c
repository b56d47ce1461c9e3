/*
 * test_draw.c
 *		Drawing: how much colour lands where, never outside the image, and text in
 *		any bytes. Coverage is judged by counting: black ink on white is as much
 *		missing light as the shape has area.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../src/vision/draw.h"
#include "pictures.h"

static const fa_colour black = {0, 0, 0}, white = {255, 255, 255}, red = {255, 0, 0};

static fa_image
blank(int width, int height)
{
	fa_image image;
	fa_error error;

	assert_int_equal(fa_image_alloc(&image, width, height, &error), FA_OK);
	memset(image.pixels, 255, (size_t) height * image.stride);
	return image;
}

/* The area of black, in pixels, and the box around what isn't white. */
static double
darkness(const fa_image *image, int box[4])
{
	double sum = 0;

	box[0] = image->width;
	box[1] = image->height;
	box[2] = box[3] = -1;
	for (int y = 0; y < image->height; y++)
		for (int x = 0; x < image->width; x++)
		{
			const uint8_t *pixel = image->pixels + (size_t) y * image->stride + 3 * (size_t) x;

			sum += 1 - pixel[0] / 255.0;
			if (pixel[0] != 255 || pixel[1] != 255 || pixel[2] != 255)
			{
				box[0] = x < box[0] ? x : box[0];
				box[1] = y < box[1] ? y : box[1];
				box[2] = x > box[2] ? x : box[2];
				box[3] = y > box[3] ? y : box[3];
			}
		}
	return sum;
}

static void
boxes(void **state)
{
	fa_image image = blank(100, 80);
	int box[4];

	(void) state;
	/* whole pixels: exactly the two rows and columns around the edge */
	fa_draw_box(&image, (fa_rect){10, 20, 50, 60}, 2, black);
	for (int y = 0; y < 80; y++)
		for (int x = 0; x < 100; x++)
		{
			bool frame =
				x >= 9 && x < 51 && y >= 19 && y < 61 && !(x >= 11 && x < 49 && y >= 21 && y < 59);

			assert_int_equal(image.pixels[(size_t) y * image.stride + 3 * (size_t) x],
							 frame ? 0 : 255);
		}
	fa_image_free(&image);

	/* parts of pixels: the area is right */
	for (int i = 0; i < 20; i++)
	{
		double thickness = 0.3 + i * 0.37;
		fa_rect rect = {20.3 + i * 0.11, 18.7, 70.9, 61.1 - i * 0.3};
		double w = rect.x2 - rect.x1, h = rect.y2 - rect.y1;

		image = blank(100, 80);
		fa_draw_box(&image, rect, thickness, black);
		assert_true(fabs(darkness(&image, box) - 2 * thickness * (w + h)) < 1.5);
		assert_int_equal(box[0], (int) floor(rect.x1 - thickness / 2));
		assert_int_equal(box[3], (int) ceil(rect.y2 + thickness / 2) - 1);
		fa_image_free(&image);
	}
	/* thicker than the box is wide: all black, once */
	image = blank(100, 80);
	fa_draw_box(&image, (fa_rect){40, 40, 43, 43}, 10, black);
	assert_true(fabs(darkness(&image, box) - 13 * 13) < 1e-6);
	fa_image_free(&image);
}

/* Nothing is written outside, whatever the numbers: the sanitizers watch. */
static void
wild_shapes(void **state)
{
	static const double wild[] = {-1e300, -1e9, -50, -0.5, 0, 3.3, 19.9, 20, 70, 1e9, 1e300};
	fa_image image = blank(20, 20);
	fa_font *font;
	fa_error error;
	int n = sizeof(wild) / sizeof(wild[0]), box[4];

	(void) state;
	fa_draw_box(&image, (fa_rect){NAN, NAN, NAN, NAN}, 2, black);
	fa_draw_box(&image, (fa_rect){1, 1, 5, 5}, NAN, black);
	fa_draw_box(&image, (fa_rect){1, 1, 5, 5}, 0, black);
	fa_draw_box(&image, (fa_rect){-100, -100, 200, 200}, 5, black);
	assert_true(darkness(&image, box) == 0);
	assert_int_equal(fa_font_open(NULL, &font, &error), FA_OK);
	for (int i = 0; i < n; i++)
		for (int j = i; j < n; j++)
			for (int k = 0; k < n; k++)
			{
				fa_rect rect = {wild[i], wild[k], wild[j], wild[n - 1]};

				fa_draw_box(&image, rect, wild[n - 1 - k], red);
				assert_int_equal(fa_draw_label(&image, font, "24 \xe2\x99\x80\nx", 9, rect, black,
											   white, &error),
								 isfinite(rect.x1 + rect.y1 + rect.x2 + rect.y2) ? FA_OK
																				 : FA_INVALID);
			}
	fa_font_close(font);
	fa_image_free(&image);
}

static void
labels_are_placed(void **state)
{
	/* where the box is, and where its label must be: above, below, inside; shifted from the right
	 */
	static const struct
	{
		fa_rect rect;
		int place;
	} cases[] = {{{30, 60, 90, 120}, 0},
				 {{30, 5, 90, 60}, 1},
				 {{30, -5, 90, 210}, 2},
				 {{185, 60, 199, 120}, 0}};
	fa_font *font;
	fa_error error;

	(void) state;
	assert_int_equal(fa_font_open(NULL, &font, &error), FA_OK);
	for (int i = 0; i < 4; i++)
	{
		fa_image image = blank(200, 200);
		int box[4];

		assert_int_equal(
			fa_draw_label(&image, font, "34 F", 16, cases[i].rect, white, black, &error), FA_OK);
		darkness(&image, box);
		assert_in_range(box[3] - box[1] + 1, 16, 28);
		assert_in_range(box[2] - box[0] + 1, 30, 60);
		if (cases[i].place == 0)
			assert_int_equal(box[3] + 1, (int) cases[i].rect.y1);
		else if (cases[i].place == 1)
			assert_int_equal(box[1], (int) cases[i].rect.y2);
		else
			assert_int_equal(box[1], 0);
		assert_int_equal(box[0], i < 3 ? 30 : 200 - (box[2] - box[0] + 1));
		fa_image_free(&image);
	}
	fa_font_close(font);
}

/* The picture of a label, compared with another's. */
static bool
same_label(fa_font *font, const char *a, const char *b)
{
	fa_image left = blank(300, 80), right = blank(300, 80);
	fa_rect rect = {10, 70, 100, 90};
	fa_error error;
	bool same;

	assert_int_equal(fa_draw_label(&left, font, a, 20, rect, black, red, &error), FA_OK);
	assert_int_equal(fa_draw_label(&right, font, b, 20, rect, black, red, &error), FA_OK);
	same = memcmp(left.pixels, right.pixels, 80 * left.stride) == 0;
	fa_image_free(&left);
	fa_image_free(&right);
	return same;
}

static void
text_in_any_bytes(void **state)
{
#define R "\xef\xbf\xbd" /* U+FFFD */
	static const char *const malformed[][2] = {
		{"\xff", R},
		{"a\x80z", "a" R "z"},
		{"\xc0\xaf", R R},             /* overlong / */
		{"\xe0\x80\xaf", R R R},       /* and longer */
		{"\xed\xa0\x80", R R R},       /* a surrogate */
		{"\xf4\x90\x80\x80", R R R R}, /* above U+10FFFF */
		{"x\xe2\x82", "x" R R},        /* cut short by the end */
		{"\xe2\x82z", R R "z"},        /* and by a letter */
		{"\xf0\x9f\x98", R R R},
		{"\xf8\x88\x80\x80\x80", R R R R R},
	};
	static const char *const distinct[] = {"a",        "b",    "\xc3\xa9", R, "\xe2\x82\xac",
										   "\xce\xa9", "a\nb", "ab",       ""};
	uint64_t seed = 3;
	fa_font *font;
	fa_error error;
	char bytes[60];

	(void) state;
	assert_int_equal(fa_font_open(NULL, &font, &error), FA_OK);
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		assert_true(same_label(font, malformed[i][0], malformed[i][1]));
	for (size_t i = 0; i < sizeof(distinct) / sizeof(distinct[0]); i++)
		for (size_t k = 0; k < i; k++)
			assert_false(same_label(font, distinct[i], distinct[k]));
	for (int i = 0; i < 500; i++)
	{
		for (size_t k = 0; k + 1 < sizeof(bytes); k++)
			bytes[k] = (char) random_u32(&seed);
		bytes[sizeof(bytes) - 1] = '\0';
		assert_true(same_label(font, bytes, bytes));
	}
	fa_font_close(font);
}

static void
fonts_and_arguments(void **state)
{
	fa_image image = blank(50, 50);
	fa_rect rect = {10, 20, 30, 40};
	char *longest = malloc(5001);
	fa_font *font;
	fa_error error;

	(void) state;
	assert_int_equal(fa_font_open("/nonexistent/font.ttf", &font, &error), FA_NOT_FOUND);
	assert_null(font);
	assert_int_equal(fa_font_open("/dev/null", &font, &error), FA_UNSUPPORTED);
	assert_null(font);
	fa_font_close(NULL);
	assert_int_equal(fa_font_open(NULL, &font, &error), FA_OK);
	assert_int_equal(fa_draw_label(&image, font, "x", 0, rect, black, white, &error), FA_INVALID);
	assert_int_equal(fa_draw_label(&image, font, "x", NAN, rect, black, white, &error), FA_INVALID);
	assert_int_equal(fa_draw_label(&image, font, "x", 1e6, rect, black, white, &error), FA_INVALID);
	memset(longest, 'm', 5000);
	longest[5000] = '\0';
	assert_int_equal(fa_draw_label(&image, font, longest, 9, rect, black, white, &error),
					 FA_INVALID);
	longest[4096] = '\0';
	assert_int_equal(fa_draw_label(&image, font, longest, 9, rect, black, white, &error), FA_OK);
	fa_font_close(font);
	free(longest);
	fa_image_free(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boxes),
		cmocka_unit_test(wild_shapes),
		cmocka_unit_test(labels_are_placed),
		cmocka_unit_test(text_in_any_bytes),
		cmocka_unit_test(fonts_and_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
