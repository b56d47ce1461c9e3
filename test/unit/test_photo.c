/*
 * test_photo.c
 *		Sound photos: every kind of file against pixels known by formula, every
 *		orientation against the EXIF standard's words, scaled and partial decodes
 *		against the whole one, and what the encoders write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../src/vision/photo.h"
#include "pictures.h"

#define PLENTY 100000000

static fa_photo
open_photo(picture file)
{
	fa_photo photo;
	fa_error error;

	if (fa_photo_open(&photo, file.bytes, file.length, PLENTY, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return photo;
}

static fa_view
decode(const fa_photo *photo, int eighths)
{
	fa_view view;
	fa_error error;

	if (fa_photo_decode(photo, eighths, &view, NULL, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return view;
}

static int
at(const fa_image *image, int x, int y, int c)
{
	return image->pixels[(size_t) y * image->stride + 3 * (size_t) x + c];
}

static void
jpeg_kinds(void **state)
{
	static const J_COLOR_SPACE spaces[] = {JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr, JCS_CMYK, JCS_YCCK};
	static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}};
	int kinds = 0;

	(void) state;
	for (int space = 0; space < 5; space++)
		for (int sampling = 0; sampling < 5; sampling++)
			for (int other = 0; other < 8; other++)
			{
				jpeg_kind kind = {.width = 203,
								  .height = 157,
								  .stored = spaces[space],
								  .h = samplings[sampling][0],
								  .v = samplings[sampling][1],
								  .progressive = other & 1,
								  .restart = other & 2 ? 7 : 0,
								  .plain_cmyk = other & 4};
				bool subsampled = kind.h * kind.v > 1;
				bool inks = kind.stored == JCS_CMYK || kind.stored == JCS_YCCK;
				picture file;
				fa_photo photo;
				fa_view view;

				/* YCCK without the marker is CMYK to every reader, and RGB isn't subsampled */
				if ((kind.plain_cmyk && kind.stored != JCS_CMYK) ||
					(subsampled && (spaces[space] == JCS_GRAYSCALE || spaces[space] == JCS_RGB ||
									spaces[space] == JCS_CMYK)))
					continue;
				file = make_jpeg(&kind);
				photo = open_photo(file);
				assert_int_equal(photo.format, FA_FORMAT_JPEG);
				assert_int_equal(photo.width, 203);
				assert_int_equal(photo.height, 157);
				assert_int_equal(photo.orientation, 1);
				view = decode(&photo, 8);
				assert_int_equal(view.image.width, 203);
				assert_int_equal(view.image.height, 157);
				for (int y = 0; y < 157; y++)
					for (int x = 0; x < 203; x++)
						for (int c = 0; c < 3; c++)
						{
							int off = at(&view.image, x, y, c) - jpeg_value(&kind, x, y, c);

							if (abs(off) > (inks ? 6 : 5))
								fail_msg("space %d, %dx%d, kind %d: (%d, %d) %d is off by %d",
										 spaces[space], kind.h, kind.v, other, x, y, c, off);
						}
				fa_image_free(&view.image);
				free(file.bytes);
				kinds++;
			}
	assert_true(kinds > 50);
}

static void
png_kinds(void **state)
{
	static const int kinds[][2] = {{1, 0}, {2, 0}, {4, 0}, {8, 0}, {16, 0}, {8, 2}, {16, 2}, {1, 3},
								   {2, 3}, {4, 3}, {8, 3}, {8, 4}, {16, 4}, {8, 6}, {16, 6}};

	(void) state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (int other = 0; other < 4; other++)
		{
			png_kind kind = {.width = 101,
							 .height = 67,
							 .depth = kinds[i][0],
							 .colour = kinds[i][1],
							 .interlaced = other & 1,
							 .transparent = other & 2};
			/* greys of few bits have other pixels of the transparent one's value */
			bool ambiguous = kind.transparent && kind.colour == 0;
			picture file;
			fa_photo photo;
			fa_view view;

			if (kind.transparent && kind.colour & PNG_COLOR_MASK_ALPHA)
				continue;
			file = make_png(&kind);
			photo = open_photo(file);
			assert_int_equal(photo.format, FA_FORMAT_PNG);
			assert_int_equal(photo.interlaced, kind.interlaced);
			view = decode(&photo, 8);
			assert_int_equal(view.image.width, 101);
			assert_int_equal(view.image.height, 67);
			for (int y = 0; y < 67; y++)
				for (int x = 0; x < 101; x++)
					for (int c = 0; c < 3; c++)
					{
						int expected = png_value(&kind, x, y, c);

						if (ambiguous &&
							png_value(&kind, x, y, c) ==
								png_value(
									&(png_kind){.width = 101, .height = 67, .depth = kind.depth}, 0,
									0, c))
							expected = 255;
						if (at(&view.image, x, y, c) != expected)
							fail_msg("depth %d, colour %d, kind %d: (%d, %d) %d is %d, not %d",
									 kind.depth, kind.colour, other, x, y, c,
									 at(&view.image, x, y, c), expected);
					}
			fa_image_free(&view.image);
			free(file.bytes);
		}
}

/*
 * Where the EXIF standard puts the stored image's first row and first column in
 * the upright one: "the 0th row represents the visual top", and so on.
 */
static const struct
{
	char row, column; /* t, b, l or r */
} standard[9] = {{0, 0},     {'t', 'l'}, {'t', 'r'}, {'b', 'r'}, {'b', 'l'},
				 {'l', 't'}, {'r', 't'}, {'r', 'b'}, {'l', 'b'}};

static void
upright_position(int orientation, int x, int y, int width, int height, int *X, int *Y)
{
	char row = standard[orientation].row, column = standard[orientation].column;

	*X = row == 'l' ? y : row == 'r' ? height - 1 - y : column == 'l' ? x : width - 1 - x;
	*Y = row == 't' ? y : row == 'b' ? height - 1 - y : column == 't' ? x : width - 1 - x;
}

static void
orientations(void **state)
{
	(void) state;
	for (int orientation = 1; orientation <= 8; orientation++)
		for (int format = 0; format < 3; format++)
		{
			jpeg_kind jpeg = {
				.width = 91, .height = 45, .stored = JCS_YCbCr, .orientation = orientation};
			png_kind png = {.width = 91,
							.height = 45,
							.depth = 8,
							.colour = 2,
							.orientation = orientation,
							.late_exif = format == 2};
			picture file = format == 0 ? make_jpeg(&jpeg) : make_png(&png);
			fa_photo photo = open_photo(file);
			fa_view view = decode(&photo, 8);

			assert_int_equal(photo.orientation, orientation);
			assert_int_equal(photo.width, orientation >= 5 ? 45 : 91);
			assert_int_equal(photo.height, orientation >= 5 ? 91 : 45);
			assert_int_equal(view.image.width, photo.width);
			assert_int_equal(view.image.height, photo.height);
			assert_true(view.x == 0 && view.y == 0 && view.scale_x == 1 && view.scale_y == 1);
			for (int y = 0; y < 45; y++)
				for (int x = 0; x < 91; x++)
				{
					int X, Y;

					upright_position(orientation, x, y, 91, 45, &X, &Y);
					for (int c = 0; c < 3; c++)
						assert_true(abs(at(&view.image, X, Y, c) -
										picture_value(x, y, c, 91, 45)) <= (format == 0 ? 5 : 0));
				}
			fa_image_free(&view.image);
			free(file.bytes);
		}
}

/* A scaled image shows, at each pixel's centre as the view tells it, the ramps' values there. */
static void
scaled_decodes_stay_in_place(void **state)
{
	(void) state;
	for (int orientation = 1; orientation <= 8; orientation++)
		for (int eighths = 1; eighths <= 8; eighths++)
			for (int format = 0; format < 2; format++)
			{
				jpeg_kind jpeg = {
					.width = 605, .height = 467, .stored = JCS_YCbCr, .orientation = orientation};
				png_kind png = {.width = 605,
								.height = 467,
								.depth = 8,
								.colour = 2,
								.orientation = orientation};
				picture file = format == 0 ? make_jpeg(&jpeg) : make_png(&png);
				fa_photo photo = open_photo(file);
				fa_view view = decode(&photo, eighths);
				double red_bias = 0, green_bias = 0, count = 0;

				assert_true(view.scale_x == eighths / 8.0 && view.scale_y == eighths / 8.0);
				assert_int_equal(view.image.width, (photo.width * eighths + 7) / 8);
				assert_int_equal(view.image.height, (photo.height * eighths + 7) / 8);
				for (int v = 1; v < view.image.height - 1; v++)
					for (int u = 1; u < view.image.width - 1; u++)
					{
						double X = (u + 0.5) / view.scale_x + view.x;
						double Y = (v + 0.5) / view.scale_y + view.y;
						char row = standard[orientation].row, column = standard[orientation].column;
						/* the stored point, counted in pixel centres */
						double y = row == 't'   ? Y
								   : row == 'b' ? photo.height - Y
								   : row == 'l' ? X
												: photo.width - X;
						double x = column == 'l'   ? X
								   : column == 'r' ? photo.width - X
								   : column == 't' ? Y
												   : photo.height - Y;
						/* the integer ramps of picture_value lie half a step lower */
						double red = 16 + (x - 0.5) * 223 / 605 - 0.5;
						double green = 16 + (y - 0.5) * 223 / 467 - 0.5;

						double red_off = at(&view.image, u, v, 0) - red;
						double green_off = at(&view.image, u, v, 1) - green;

						if (fabs(red_off) > 6 || fabs(green_off) > 6)
							fail_msg("orientation %d, %d/8, format %d: (%d, %d) is off by %g, %g",
									 orientation, eighths, format, u, v, red_off, green_off);
						red_bias += red_off;
						green_bias += green_off;
						count++;
					}
				/* half an output pixel aside would be 1.47 / eighths */
				if (fabs(red_bias / count) > 1.2 / eighths ||
					fabs(green_bias / count) > 1.2 / eighths)
					fail_msg("orientation %d, %d/8, format %d: biased by %g, %g", orientation,
							 eighths, format, red_bias / count, green_bias / count);
				fa_image_free(&view.image);
				free(file.bytes);
			}
}

/* PNG at n/8: the exact area averages, by a slow loop over everything. */
static void
png_averages(void **state)
{
	png_kind kind = {.width = 61, .height = 43, .depth = 8, .colour = 3, .transparent = true};

	(void) state;
	for (int interlaced = 0; interlaced < 2; interlaced++)
		for (int eighths = 1; eighths < 8; eighths++)
		{
			picture file;
			fa_photo photo;
			fa_view view;

			kind.interlaced = interlaced;
			file = make_png(&kind);
			photo = open_photo(file);
			view = decode(&photo, eighths);
			for (int v = 0; v < view.image.height; v++)
				for (int u = 0; u < view.image.width; u++)
					for (int c = 0; c < 3; c++)
					{
						double left = u * 8.0 / eighths, top = v * 8.0 / eighths, sum = 0, area = 0;

						for (int y = 0; y < 43; y++)
							for (int x = 0; x < 61; x++)
							{
								double w =
									fmax(fmin(x + 1, left + 8.0 / eighths) - fmax(x, left), 0) *
									fmax(fmin(y + 1, top + 8.0 / eighths) - fmax(y, top), 0);

								area += w;
								if (w > 0)
									sum += w * png_value(&kind, x, y, c);
							}
						assert_true(fabs(at(&view.image, u, v, c) - sum / area) < 0.501);
					}
			fa_image_free(&view.image);
			free(file.bytes);
		}
}

/* A region's pixels are the whole decode's, whatever the format, place, scale and orientation. */
static void
regions(void **state)
{
	uint64_t seed = 3;
	static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}};

	(void) state;
	for (int format = 0; format < 13; format++)
		for (int eighths = 1; eighths <= 8; eighths++)
		{
			int orientation = (format + eighths) % 8 + 1;
			jpeg_kind jpeg = {.width = 419,
							  .height = 301,
							  .stored = format == 10 ? JCS_YCCK : JCS_YCbCr,
							  .h = samplings[format % 5][0],
							  .v = samplings[format % 5][1],
							  .progressive = format / 5 == 1,
							  .restart = format == 3 ? 5 : 0,
							  .orientation = orientation,
							  .quality = 60};
			png_kind png = {.width = 211,
							.height = 143,
							.depth = 8,
							.colour = 6,
							.interlaced = format == 12,
							.orientation = orientation};
			picture file = format < 11 ? make_jpeg(&jpeg) : make_png(&png);
			fa_photo photo = open_photo(file);
			fa_view whole = decode(&photo, eighths);

			for (int i = 0; i < 40; i++)
			{
				double x1 = random_u32(&seed) % 5000 * 1e-4 * photo.width * 2 - 10;
				double y1 = random_u32(&seed) % 5000 * 1e-4 * photo.height * 2 - 10;
				fa_rect rect = {x1, y1, x1 + random_u32(&seed) % 200 + 0.1,
								y1 + random_u32(&seed) % 200 + 0.1};
				fa_view part;
				fa_error error;
				int u0, v0;

				if (rect.x2 <= 0 || rect.y2 <= 0)
					continue;
				if (fa_photo_decode_region(&photo, rect, eighths, &part, NULL, &error) != FA_OK)
					fail_msg("%s: %s", error.message, error.detail);
				/* it covers the rectangle, and no more than a pixel around */
				assert_true(part.x <= fmax(rect.x1, 0) + 1e-9);
				assert_true(part.y <= fmax(rect.y1, 0) + 1e-9);
				assert_true(part.x + part.image.width / part.scale_x >=
							fmin(rect.x2, photo.width) - 1e-9);
				assert_true(part.y + part.image.height / part.scale_y >=
							fmin(rect.y2, photo.height) - 1e-9);
				assert_true(part.image.width <= (rect.x2 - rect.x1) * part.scale_x + 2.001);
				assert_true(part.image.height <= (rect.y2 - rect.y1) * part.scale_y + 2.001);
				u0 = (int) lround((part.x - whole.x) * part.scale_x);
				v0 = (int) lround((part.y - whole.y) * part.scale_y);
				for (int v = 0; v < part.image.height; v++)
					assert_memory_equal(part.image.pixels + (size_t) v * part.image.stride,
										whole.image.pixels +
											(size_t) (v0 + v) * whole.image.stride +
											3 * (size_t) u0,
										3 * (size_t) part.image.width);
				fa_image_free(&part.image);
			}
			fa_image_free(&whole.image);
			free(file.bytes);
		}
}

/* What parts show of their rectangles is what the whole photo does, to the last bit. */
static void
check_parts(picture file, int eighths, uint64_t *seed)
{
	fa_photo photo = open_photo(file);
	fa_view whole = decode(&photo, eighths);
	fa_rect rects[6];
	fa_photo_part parts[6];
	fa_error error;
	int count = (int) (random_u32(seed) % 6) + 1;

	for (int i = 0; i < count; i++)
	{
		double x = (double) random_u32(seed) / UINT32_MAX * photo.width - 10;
		double y = (double) random_u32(seed) / UINT32_MAX * photo.height - 10;

		rects[i] = (fa_rect){x, y, x + random_u32(seed) % 90 + 11, y + random_u32(seed) % 90 + 11};
	}
	if (fa_photo_cut(&photo, rects, count, parts, NULL, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	for (int i = 0; i < count; i++)
	{
		fa_rect r = {fmax(rects[i].x1, 0), fmax(rects[i].y1, 0), fmin(rects[i].x2, photo.width),
					 fmin(rects[i].y2, photo.height)};
		fa_view part;
		double scale = whole.scale_x;
		int x1, x2, y1, y2, x, y;

		if (fa_photo_part_decode(&parts[i], eighths, &part, NULL, &error) != FA_OK)
			fail_msg("%s: %s", error.message, error.detail);
		/* of the whole view, and where it begins in the part's */
		x1 = (int) floor((r.x1 - whole.x) * scale + 1e-9);
		y1 = (int) floor((r.y1 - whole.y) * scale + 1e-9);
		x2 = (int) ceil((r.x2 - whole.x) * scale - 1e-9);
		y2 = (int) ceil((r.y2 - whole.y) * scale - 1e-9);
		x = (int) lround((whole.x - part.x) * scale) + x1;
		y = (int) lround((whole.y - part.y) * scale) + y1;
		assert_true(x >= 0 && y >= 0);
		assert_in_range(x2 - x1, 1, part.image.width - x);
		assert_in_range(y2 - y1, 1, part.image.height - y);
		for (int v = 0; v < y2 - y1; v++)
			assert_memory_equal(
				part.image.pixels + (size_t) (y + v) * part.image.stride + 3 * (size_t) x,
				whole.image.pixels + (size_t) (y1 + v) * whole.image.stride + 3 * (size_t) x1,
				3 * (size_t) (x2 - x1));
		fa_image_free(&part.image);
		fa_photo_part_free(&parts[i]);
		fa_photo_part_free(&parts[i]);
	}
	fa_image_free(&whole.image);
}

static void
parts_of_every_kind(void **state)
{
	static const J_COLOR_SPACE spaces[] = {JCS_GRAYSCALE, JCS_RGB, JCS_YCbCr, JCS_CMYK, JCS_YCCK};
	static const int samplings[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}};
	uint64_t seed = 21;

	(void) state;
	for (int space = 0; space < 5; space++)
		for (int sampling = 0; sampling < 5; sampling++)
			for (int n = 0; n < 24; n++)
			{
				jpeg_kind kind = {.width = 419 - n,
								  .height = 301 + n,
								  .stored = spaces[space],
								  .h = samplings[sampling][0],
								  .v = samplings[sampling][1],
								  .restart = n % 3 == 0 ? 1 + 6 * n : 0,
								  .orientation = n % 8 + 1,
								  .quality = 60};
				picture file;

				if (sampling > 0 && spaces[space] != JCS_YCbCr && spaces[space] != JCS_YCCK)
					continue;
				file = make_jpeg(&kind);
				check_parts(file, n % 5 == 0 ? 8 : n / 3 + 1, &seed);
				free(file.bytes);
			}
}

/* Noise has coefficients everywhere, and codes of every length. */
static void
parts_of_noise(void **state)
{
	uint64_t seed = 22;

	(void) state;
	for (int n = 0; n < 24; n++)
	{
		fa_image image;
		fa_error error;
		picture file;

		assert_int_equal(fa_image_alloc(&image, 230 + n, 190, &error), FA_OK);
		for (size_t i = 0; i < image.stride * 190; i++)
			image.pixels[i] = (uint8_t) (random_u32(&seed) >> (24 + n % 4));
		assert_int_equal(fa_photo_encode(&image, FA_FORMAT_JPEG, 100 - 4 * n, &file.bytes,
										 &file.length, NULL, &error),
						 FA_OK);
		check_parts(file, n % 3 == 0 ? 4 : 8, &seed);
		free(file.bytes);
		fa_image_free(&image);
	}
}

static void
parts_that_cannot_be(void **state)
{
	jpeg_kind kind = {.width = 60, .height = 50, .stored = JCS_YCbCr};
	jpeg_kind progressive = {.width = 60, .height = 50, .stored = JCS_YCbCr, .progressive = true};
	png_kind png = {.width = 60, .height = 50, .depth = 8, .colour = 2};
	fa_rect rects[2] = {{10, 10, 20, 20}, {60, 10, 70, 20}};
	picture files[3] = {make_jpeg(&kind), make_jpeg(&progressive), make_png(&png)};
	fa_photo_part parts[2];
	fa_error error;

	(void) state;
	for (int i = 0; i < 3; i++)
	{
		fa_photo photo = open_photo(files[i]);

		assert_int_equal(fa_photo_cut(&photo, rects, 1, parts, NULL, &error),
						 i == 0 ? FA_OK : FA_UNSUPPORTED);
		if (i == 0)
		{
			fa_photo_part_free(&parts[0]);
			assert_int_equal(fa_photo_cut(&photo, rects, 2, parts, NULL, &error), FA_INVALID);
			assert_int_equal(fa_photo_cut(&photo, rects, 0, parts, NULL, &error), FA_OK);
		}
		free(files[i].bytes);
	}
}

/* Fewer pixels than a block, an interlacing step or a scaled pixel has. */
static void
tiny_photos(void **state)
{
	(void) state;
	for (int width = 1; width <= 18; width++)
		for (int height = 1; height <= 18; height += 1 + width % 3)
			for (int format = 0; format < 2; format++)
			{
				jpeg_kind jpeg = {
					.width = width, .height = height, .stored = JCS_YCbCr, .h = 2, .v = 2};
				png_kind png = {
					.width = width, .height = height, .depth = 8, .colour = 2, .interlaced = true};
				picture file = format == 0 ? make_jpeg(&jpeg) : make_png(&png);
				fa_photo photo = open_photo(file);

				for (int eighths = 1; eighths <= 8; eighths++)
				{
					fa_view whole = decode(&photo, eighths), corner;
					fa_rect rect = {width - 0.5, height - 0.5, width, height};
					int w = whole.image.width, h = whole.image.height;
					fa_error error;

					assert_int_equal(w, (width * eighths + 7) / 8);
					assert_int_equal(h, (height * eighths + 7) / 8);
					if (eighths == 8 && format == 1)
						for (int y = 0; y < height; y++)
							for (int x = 0; x < width; x++)
								for (int c = 0; c < 3; c++)
									assert_int_equal(at(&whole.image, x, y, c),
													 picture_value(x, y, c, width, height));
					assert_int_equal(
						fa_photo_decode_region(&photo, rect, eighths, &corner, NULL, &error),
						FA_OK);
					for (int c = 0; c < 3; c++)
						assert_int_equal(
							at(&corner.image, corner.image.width - 1, corner.image.height - 1, c),
							at(&whole.image, w - 1, h - 1, c));
					fa_image_free(&corner.image);
					fa_image_free(&whole.image);
				}
				free(file.bytes);
			}
}

static void
senseless_requests(void **state)
{
	jpeg_kind kind = {.width = 64, .height = 48, .stored = JCS_YCbCr};
	picture file = make_jpeg(&kind);
	fa_photo photo = open_photo(file);
	const fa_rect rects[] = {
		{64, 0, 70, 10}, {-5, 0, 0, 10}, {10, 10, 10, 20}, {20, 0, 10, 10}, {NAN, NAN, NAN, NAN}};
	fa_view view;
	fa_error error;

	(void) state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(fa_photo_decode_region(&photo, rects[i], 8, &view, NULL, &error),
						 FA_INVALID);
	assert_int_equal(fa_photo_decode(&photo, 0, &view, NULL, &error), FA_INVALID);
	assert_int_equal(fa_photo_decode(&photo, 9, &view, NULL, &error), FA_INVALID);
	assert_int_equal(fa_photo_decode_region(&photo, (fa_rect){0, 0, 9, 9}, 0, &view, NULL, &error),
					 FA_INVALID);
	/* a rectangle without end is the photo */
	assert_int_equal(fa_photo_decode_region(&photo,
											(fa_rect){-INFINITY, -INFINITY, INFINITY, INFINITY}, 8,
											&view, NULL, &error),
					 FA_OK);
	assert_int_equal(view.image.width, 64);
	assert_int_equal(view.image.height, 48);
	fa_image_free(&view.image);
	free(file.bytes);
}

static void
encoded_images_come_back(void **state)
{
	fa_image image;
	fa_error error;

	(void) state;
	assert_int_equal(fa_image_alloc(&image, 130, 77, &error), FA_OK);
	for (int y = 0; y < 77; y++)
		for (int x = 0; x < 130; x++)
			for (int c = 0; c < 3; c++)
				image.pixels[(size_t) y * image.stride + 3 * (size_t) x + c] =
					(uint8_t) picture_value(x, y, c, 130, 77);
	for (int quality = 0; quality <= 101; quality++)
		for (int format = 0; format < 2; format++)
		{
			picture file;
			fa_photo photo;
			fa_view view;
			int tolerance = format == 1 ? 0 : quality >= 90 ? 5 : quality >= 50 ? 10 : 255;
			fa_status status = fa_photo_encode(&image, format == 0 ? FA_FORMAT_JPEG : FA_FORMAT_PNG,
											   quality, &file.bytes, &file.length, NULL, &error);

			if (format == 0 && (quality < 1 || quality > 100))
			{
				assert_int_equal(status, FA_INVALID);
				assert_null(file.bytes);
				continue;
			}
			assert_int_equal(status, FA_OK);
			photo = open_photo(file);
			assert_int_equal(photo.width, 130);
			assert_int_equal(photo.height, 77);
			if (format == 0)
			{
				/* the luma's sampling factors are in the frame header */
				const uint8_t *sof = memmem(file.bytes, file.length, "\xff\xc0", 2);

				assert_int_equal(sof[11], quality < 90 ? 0x22 : 0x11);
			}
			view = decode(&photo, 8);
			for (int y = 0; y < 77; y++)
				for (int x = 0; x < 130; x++)
					for (int c = 0; c < 3; c++)
						assert_true(abs(at(&view.image, x, y, c) -
										picture_value(x, y, c, 130, 77)) <= tolerance);
			fa_image_free(&view.image);
			free(file.bytes);
		}
	for (int format = 0; format < 2; format++)
		for (int limit = 1; limit < 77; limit += 25)
		{
			picture file;
			patience p;
			fa_interrupt interrupt = patience_start(&p, limit);

			assert_int_equal(fa_photo_encode(&image, format == 0 ? FA_FORMAT_JPEG : FA_FORMAT_PNG,
											 90, &file.bytes, &file.length, &interrupt, &error),
							 FA_INTERRUPTED);
			assert_null(file.bytes);
			assert_int_equal(p.questions, limit);
		}
	fa_image_free(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jpeg_kinds),           cmocka_unit_test(png_kinds),
		cmocka_unit_test(orientations),         cmocka_unit_test(scaled_decodes_stay_in_place),
		cmocka_unit_test(png_averages),         cmocka_unit_test(regions),
		cmocka_unit_test(parts_of_every_kind),  cmocka_unit_test(parts_of_noise),
		cmocka_unit_test(parts_that_cannot_be), cmocka_unit_test(tiny_photos),
		cmocka_unit_test(senseless_requests),   cmocka_unit_test(encoded_images_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
