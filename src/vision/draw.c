/*
 * draw.c
 *		Drawing on an image: frames, discs, text. Everything is blended by how much
 *		of a pixel it covers, and clipped to the image. Text is left to right, one
 *		glyph per code point (FreeType; no shaping).
 */
#include "draw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H

#define MAX_TEXT_BYTES 4096
#define MAX_TEXT_SIZE 1000.0
#define REPLACEMENT 0xfffd

struct fa_font
{
	FT_Library library;
	FT_Face face;
};

/* Where Debian, Fedora, Arch, Alpine, openSUSE and FreeBSD put DejaVu Sans Bold. */
static const char *const font_paths[] = {
	"/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
	"/usr/share/fonts/dejavu-sans-fonts/DejaVuSans-Bold.ttf",
	"/usr/share/fonts/TTF/DejaVuSans-Bold.ttf",
	"/usr/share/fonts/dejavu/DejaVuSans-Bold.ttf",
	"/usr/share/fonts/truetype/DejaVuSans-Bold.ttf",
	"/usr/local/share/fonts/dejavu/DejaVuSans-Bold.ttf",
};

fa_status
fa_font_open(const char *path, fa_font **font, fa_error *error)
{
	const char *const *paths = path != NULL ? &path : font_paths;
	size_t count = path != NULL ? 1 : sizeof(font_paths) / sizeof(font_paths[0]);
	fa_font *opened = calloc(1, sizeof(*opened));
	FT_Error code = FT_Err_Cannot_Open_Resource;

	*font = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(*opened));
	if (FT_Init_FreeType(&opened->library) != 0)
	{
		free(opened);
		return fa_fail(error, FA_NO_MEMORY, "could not start FreeType");
	}
	for (size_t i = 0; i < count && code == FT_Err_Cannot_Open_Resource; i++)
		code = FT_New_Face(opened->library, paths[i], 0, &opened->face);
	if (code == 0 && FT_IS_SCALABLE(opened->face))
	{
		*font = opened;
		return FA_OK;
	}
	fa_font_close(opened);
	if (code == FT_Err_Cannot_Open_Resource)
	{
		fa_fail(error, FA_NOT_FOUND, "font not found");
		return fa_detail(error, "Looked for %s.", paths[0]);
	}
	fa_fail(error, FA_UNSUPPORTED, "font cannot be used");
	return fa_detail(error, "FreeType reads no scalable font from %s (error %d).", paths[0], code);
}

void
fa_font_close(fa_font *font)
{
	if (font == NULL)
		return;
	FT_Done_FreeType(font->library); /* and its face */
	free(font);
}

static uint8_t
mix(uint8_t under, uint8_t over, double coverage)
{
	return (uint8_t) (under + (over - under) * coverage + 0.5);
}

/* (x, y) lies within the image; coverage 0..1. */
static void
blend(fa_image *image, int x, int y, fa_colour colour, double coverage)
{
	uint8_t *pixel = image->pixels + (size_t) y * image->stride + 3 * (size_t) x;

	pixel[0] = mix(pixel[0], colour.r, coverage);
	pixel[1] = mix(pixel[1], colour.g, coverage);
	pixel[2] = mix(pixel[2], colour.b, coverage);
}

/* How much of [i, i + 1) lies within [low, high). */
static double
overlap(double low, double high, int i)
{
	return fmax(fmin(high, i + 1.0) - fmax(low, i), 0);
}

/* A coordinate as a pixel index, clipped to 0..limit; 0 for what is not a number. */
static int
clip(double value, int limit)
{
	return value > 0 ? (value < limit ? (int) value : limit) : 0;
}

void
fa_draw_box(fa_image *image, fa_rect rect, double thickness, fa_colour colour)
{
	double half = thickness / 2;
	fa_rect outer = {rect.x1 - half, rect.y1 - half, rect.x2 + half, rect.y2 + half};
	fa_rect inner = {rect.x1 + half, rect.y1 + half, rect.x2 - half, rect.y2 - half};
	int left = clip(outer.x1, image->width), right = clip(ceil(outer.x2), image->width);
	int bottom = clip(ceil(outer.y2), image->height);
	/* the columns that are all hole in a row that is */
	int hole_left = clip(ceil(inner.x1), image->width), hole_right = clip(inner.x2, image->width);

	if (!(thickness > 0))
		return;
	for (int y = clip(outer.y1, image->height); y < bottom; y++)
	{
		double outer_y = overlap(outer.y1, outer.y2, y), inner_y = overlap(inner.y1, inner.y2, y);

		for (int x = left; x < right; x++)
		{
			if (inner_y == 1 && x == hole_left && hole_left < hole_right)
				x = hole_right;
			if (x < right)
				blend(image, x, y, colour,
					  overlap(outer.x1, outer.x2, x) * outer_y -
						  overlap(inner.x1, inner.x2, x) * inner_y);
		}
	}
}

static void
draw_plate(fa_image *image, fa_rect rect, double radius, fa_colour colour)
{
	double middle_x = (rect.x1 + rect.x2) / 2, middle_y = (rect.y1 + rect.y2) / 2;
	int right = clip(ceil(rect.x2), image->width), bottom = clip(ceil(rect.y2), image->height);

	for (int y = clip(rect.y1, image->height); y < bottom; y++)
		for (int x = clip(rect.x1, image->width); x < right; x++)
		{
			/* the distance from the rectangle that the corners' centres span */
			double dx = fabs(x + 0.5 - middle_x) - ((rect.x2 - rect.x1) / 2 - radius);
			double dy = fabs(y + 0.5 - middle_y) - ((rect.y2 - rect.y1) / 2 - radius);
			double distance = hypot(fmax(dx, 0), fmax(dy, 0)) + fmin(fmax(dx, dy), 0);

			blend(image, x, y, colour, fmin(fmax(radius - distance + 0.5, 0), 1));
		}
}

/*
 * The code point at *text, which moves behind it. A byte that begins no
 * well-formed sequence (Unicode 15, table 3-7) counts as U+FFFD by itself.
 */
static uint32_t
next_code_point(const char **text)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	const uint8_t *p = (const uint8_t *) *text;
	int length = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t code = length == 1 ? p[0] : p[0] & (0x7fu >> length);

	(*text)++;
	if (p[0] >= 0x80 && (p[0] < 0xc2 || p[0] > 0xf4))
		return REPLACEMENT;
	for (int i = 1; i < length; i++)
	{
		if ((p[i] & 0xc0) != 0x80) /* the string's end included */
			return REPLACEMENT;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return REPLACEMENT;
	*text += length - 1;
	return code;
}

/* The width in pixels of the line that begins at *text, which moves behind it and its '\n'. */
static double
line_width(fa_font *font, const char **text)
{
	double width = 0;

	while (**text != '\0')
	{
		uint32_t code = next_code_point(text);

		if (code == '\n')
			break;
		if (FT_Load_Char(font->face, code, FT_LOAD_TARGET_LIGHT) == 0)
			width += (double) font->face->glyph->advance.x / 64;
	}
	return width;
}

static void
draw_glyph(fa_image *image, const FT_GlyphSlot glyph, double pen, double baseline, fa_colour ink)
{
	int left = (int) lround(pen) + glyph->bitmap_left;
	int top = (int) lround(baseline) - glyph->bitmap_top;

	for (int row = 0; row < (int) glyph->bitmap.rows; row++)
		for (int column = 0; column < (int) glyph->bitmap.width; column++)
		{
			int x = left + column, y = top + row;

			if (x >= 0 && x < image->width && y >= 0 && y < image->height)
				blend(image, x, y, ink,
					  glyph->bitmap.buffer[row * glyph->bitmap.pitch + column] / 255.0);
		}
}

fa_status
fa_draw_label(fa_image *image, fa_font *font, const char *text, double size, fa_rect rect,
			  fa_colour ink, fa_colour plate, fa_error *error)
{
	FT_Size_RequestRec request = {.type = FT_SIZE_REQUEST_TYPE_REAL_DIM};
	double padding = size / 4, width = 0, height, x, y, ascent;
	int lines = 0;

	if (!(size >= 1 && size <= MAX_TEXT_SIZE) || strlen(text) > MAX_TEXT_BYTES ||
		!isfinite(rect.x1 + rect.y1 + rect.x2 + rect.y2))
		return fa_fail(error, FA_INVALID, "label cannot be drawn");
	request.height = lround(size * 64);
	if (FT_Request_Size(font->face, &request) != 0)
		return fa_fail(error, FA_UNSUPPORTED, "font has no size of %g pixels", size);
	ascent = (double) font->face->size->metrics.ascender / 64;

	for (const char *rest = text; lines == 0 || *rest != '\0'; lines++)
		width = fmax(width, line_width(font, &rest));
	width = ceil(width + 2 * padding);
	height = ceil(lines * size + padding);

	x = fmax(fmin(rect.x1, image->width - width), 0);
	if (rect.y1 - height >= 0)
		y = rect.y1 - height;
	else if (rect.y2 + height <= image->height)
		y = rect.y2;
	else
		y = rect.y1;
	y = fmax(fmin(y, image->height - height), 0);
	x = round(x);
	y = round(y);

	draw_plate(image, (fa_rect){x, y, x + width, y + height}, padding, plate);
	for (int line = 0; line < lines; line++)
	{
		double pen = x + padding, baseline = y + padding / 2 + line * size + ascent;

		while (*text != '\0')
		{
			uint32_t code = next_code_point(&text);

			if (code == '\n')
				break;
			/* no more is drawn than can be seen, whatever the text's length */
			if (pen > image->width ||
				FT_Load_Char(font->face, code, FT_LOAD_RENDER | FT_LOAD_TARGET_LIGHT) != 0)
				continue;
			draw_glyph(image, font->face->glyph, pen, baseline, ink);
			pen += (double) font->face->glyph->advance.x / 64;
		}
	}
	return FA_OK;
}
