/*
 * photo.h
 *		A compressed photo (JPEG or PNG) and the ways to look at it. All sizes and
 *		coordinates are of the upright photo: EXIF orientation is applied here,
 *		and nobody above this header knows of it.
 */
#ifndef FA_PHOTO_H
#define FA_PHOTO_H

#include "image.h"

typedef enum fa_format
{
	FA_FORMAT_JPEG,
	FA_FORMAT_PNG
} fa_format;

typedef struct fa_photo
{
	const uint8_t *bytes; /* not owned; must outlive the photo */
	size_t length;
	fa_format format;
	int width, height; /* upright pixels */
	int orientation;   /* EXIF 1..8; 1 where absent or nonsense */
	bool interlaced;   /* PNG Adam7: rows cannot be skipped */
} fa_photo;

/*
 * Reads the header only: no pixel is allocated. Fails with FA_DAMAGED (empty,
 * truncated, broken header), FA_UNSUPPORTED (another format, named in the
 * message: GIF, WebP, HEIC, TIFF, BMP, text ...; 12-bit or arithmetic JPEG),
 * FA_TOO_LARGE (more than max_pixels).
 */
extern fa_status fa_photo_open(fa_photo *photo, const void *bytes, size_t length,
							   int64_t max_pixels, fa_error *error);

/*
 * The whole photo at eighths/8 of its size, eighths = 1..8: scaled in the DCT
 * domain (JPEG) or averaged row by row (PNG). view->x = view->y = 0, but for a
 * mirrored or turned photo whose sides aren't multiples of 8: then the image may
 * begin a part of one of its pixels before the photo does, and they are negative.
 * Every byte of the file's image data is read, so that damage anywhere in it (a
 * truncation, a bad CRC, a bad Huffman code) is FA_DAMAGED.
 * Gamma and colour profiles are not applied. The caller frees view->image.
 */
extern fa_status fa_photo_decode(const fa_photo *photo, int eighths, fa_view *view,
								 const fa_interrupt *interrupt, fa_error *error);

/*
 * The part of the photo that covers rect (clipped to the photo; FA_INVALID if
 * nothing is left), at eighths/8: only the rows, and as far as the format
 * allows only the columns, that are needed are decoded. The view may show more
 * than rect. The caller frees view->image.
 */
extern fa_status fa_photo_decode_region(const fa_photo *photo, fa_rect rect, int eighths,
										fa_view *view, const fa_interrupt *interrupt,
										fa_error *error);

/* A part of a photo as a photo of its own. */
typedef struct fa_photo_part
{
	uint8_t *bytes; /* owned: fa_photo_part_free */
	fa_photo photo; /* of these bytes */
	double x, y;    /* its corner in the whole, in upright pixels */
} fa_photo_part;

/*
 * Several parts, each covering its rect (clipped to the photo; FA_INVALID if nothing
 * is left), found in one pass that costs a third of a decode: for few small parts of
 * a large photo. FA_UNSUPPORTED where that is impossible (PNG, progressive JPEG ...).
 * What a part shows of its rect is, pixel by pixel, what fa_photo_decode_region does.
 */
extern fa_status fa_photo_cut(const fa_photo *photo, const fa_rect *rects, int count,
							  fa_photo_part *parts, const fa_interrupt *interrupt, fa_error *error);
/* The part, as a view of the whole photo. The caller frees view->image. */
extern fa_status fa_photo_part_decode(const fa_photo_part *part, int eighths, fa_view *view,
									  const fa_interrupt *interrupt, fa_error *error);
/* Harmless on a zeroed one. */
extern void fa_photo_part_free(fa_photo_part *part);

/*
 * Fills upright, whose sides are those of stored or, for orientations 5 to 8, the
 * exchanged ones, with what EXIF orientation 1..8 makes of the stored pixels.
 */
extern fa_status fa_turn_upright(const fa_image *stored, int orientation, fa_image *upright,
								 const fa_interrupt *interrupt, fa_error *error);

/*
 * Compresses an image; quality 1..100 for JPEG (4:2:0 below 90, 4:4:4 from 90),
 * ignored for PNG. *bytes is malloc'ed and the caller's to free().
 */
extern fa_status fa_photo_encode(const fa_image *image, fa_format format, int quality,
								 uint8_t **bytes, size_t *length, const fa_interrupt *interrupt,
								 fa_error *error);

#endif
