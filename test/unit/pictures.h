/*
 * pictures.h
 *		Synthetic JPEG and PNG files whose pixels are known by formula: smooth
 *		ramps, so that a lossy format reproduces them closely. For the tests of
 *		src/vision.
 */
#ifndef PICTURES_H
#define PICTURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jpeglib.h>
#include <png.h>

#include "../../src/fa.h"

typedef struct picture
{
	uint8_t *bytes; /* owned: free() */
	size_t length;
} picture;

typedef struct jpeg_kind
{
	int width, height;
	J_COLOR_SPACE stored; /* grey, RGB, YCbCr, CMYK or YCCK */
	int h, v;             /* luma samples per chroma sample; 0: 1 */
	bool progressive;
	bool plain_cmyk; /* not Adobe's inverted one */
	bool two_scans;  /* progressive, of two scans; grey only */
	int restart;     /* blocks between restart markers */
	int orientation; /* EXIF; 0: no EXIF */
	int quality;     /* 0: 100 */
} jpeg_kind;

typedef struct png_kind
{
	int width, height, depth, colour; /* as in IHDR */
	bool interlaced, transparent;     /* transparent: tRNS */
	int orientation;                  /* eXIf; 0: none */
	bool late_exif;                   /* after the pixels */
} png_kind;

/* Channel c (0..2) of the pixel (x, y) of a picture of that size: ramps in 16..239. */
extern int picture_value(int x, int y, int c, int width, int height);
/* What a decoder must show there, over white, given what the kind can store. */
extern int jpeg_value(const jpeg_kind *kind, int x, int y, int c);
extern int png_value(const png_kind *kind, int x, int y, int c);

extern picture make_jpeg(const jpeg_kind *kind);
extern picture make_png(const png_kind *kind);

/* An EXIF block with that orientation; returns its length (at most 64). */
extern size_t make_exif(uint8_t exif[64], int orientation, bool big_endian);

/* Deterministic random numbers. */
extern uint32_t random_u32(uint64_t *state);

/* An interrupt that says stop at the n-th question and knows the longest wait between two. */
typedef struct patience
{
	int questions, limit; /* limit 0: never */
	double last, longest; /* milliseconds of this thread's processor time */
} patience;

extern fa_interrupt patience_start(patience *p, int limit);

#endif
