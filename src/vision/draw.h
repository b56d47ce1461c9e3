/*
 * draw.h
 *		Boxes and labels on an image, for face_annotate and `faceattr annotate`.
 */
#ifndef FA_DRAW_H
#define FA_DRAW_H

#include "image.h"

typedef struct fa_colour
{
	uint8_t r, g, b;
} fa_colour;

typedef struct fa_font fa_font;

/* A scalable font by file path (FreeType). NULL path: DejaVu Sans Bold where the system has it. */
extern fa_status fa_font_open(const char *path, fa_font **font, fa_error *error);
extern void fa_font_close(fa_font *font);

/* The frame of rect, `thickness` pixels wide, centred on the edge, anti-aliased; clipped to the
 * image. */
extern void fa_draw_box(fa_image *image, fa_rect rect, double thickness, fa_colour colour);

/*
 * UTF-8 text (malformed bytes show as U+FFFD; '\n' starts a line) of the given
 * height in pixels on a rounded plate of colour `plate`, placed so that it
 * touches rect from above, or from below or inside where there is no room, and
 * shifted to lie within the image as far as it fits. FA_INVALID: size outside
 * 1..1000, text longer than 4,096 bytes, or a rect that isn't finite.
 */
extern fa_status fa_draw_label(fa_image *image, fa_font *font, const char *text, double size,
							   fa_rect rect, fa_colour ink, fa_colour plate, fa_error *error);

#endif
