/*
 * codec.h
 *		What photo.c asks of the readers of the two formats. Everything here is
 *		about the stored image: EXIF orientation is read but not applied. Private
 *		to src/vision.
 */
#ifndef FA_CODEC_H
#define FA_CODEC_H

#include "image.h"

/*
 * No row or column is longer. One row is the longest piece of work between two
 * questions to fa_interrupt; JPEG itself ends at 65,535.
 */
#define FA_MAX_SIDE 1000000

/* What may precede the pixels: fa_photo_open cannot be interrupted, so its work has a limit. */
#define FA_MAX_HEADER_BYTES (16u << 20)

typedef struct fa_header
{
	int64_t width, height; /* as stored, at least 1; not yet checked against any limit */
	int orientation;       /* EXIF 1..8 */
	bool interlaced;
} fa_header;

/*
 * Which pixels of the stored image scaled to eighths/8 are wanted: columns
 * [x1, x2), rows [y1, y2) of the fa_scaled_size() grid. `whole`: all of them,
 * and the file is read to its end.
 */
typedef struct fa_window
{
	int eighths; /* 1..8 */
	int x1, y1, x2, y2;
	bool whole;
} fa_window;

/* How many pixels a side has at eighths/8: the last one may cover a part outside the photo. */
static inline int
fa_scaled_size(int size, int eighths)
{
	return (int) (((int64_t) size * eighths + 7) / 8);
}

extern fa_status fa_jpeg_header(const uint8_t *bytes, size_t length, fa_header *header,
								fa_error *error);
extern fa_status fa_png_header(const uint8_t *bytes, size_t length, fa_header *header,
							   fa_error *error);

/* Fill image, allocated by the caller as x2 - x1 by y2 - y1 pixels. */
extern fa_status fa_jpeg_decode(const uint8_t *bytes, size_t length, fa_window window,
								fa_image *image, const fa_interrupt *interrupt, fa_error *error);
extern fa_status fa_png_decode(const uint8_t *bytes, size_t length, fa_window window,
							   fa_image *image, const fa_interrupt *interrupt, fa_error *error);

/* *bytes is malloc'ed and the caller's; quality 1..100. */
extern fa_status fa_jpeg_encode(const fa_image *image, int quality, uint8_t **bytes, size_t *length,
								const fa_interrupt *interrupt, fa_error *error);
extern fa_status fa_png_encode(const fa_image *image, uint8_t **bytes, size_t *length,
							   const fa_interrupt *interrupt, fa_error *error);

/* The name of the format that bytes begin like, from a table of magic numbers; NULL if none. */
extern const char *fa_foreign_format(const uint8_t *bytes, size_t length);

#endif
