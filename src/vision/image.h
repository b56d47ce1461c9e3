/*
 * image.h
 *		Pixels in memory: one kind of image, 8-bit RGB, interleaved, row by row.
 *		Geometry: pixel (0,0) covers [0,1) x [0,1), so its centre is (0.5, 0.5);
 *		every coordinate in this project is such a continuous one.
 */
#ifndef FA_IMAGE_H
#define FA_IMAGE_H

#include "../fa.h"

typedef struct fa_image
{
	int width, height; /* pixels, at least 1 */
	size_t stride;     /* bytes from row to row, at least 3 * width */
	uint8_t *pixels;   /* height * stride bytes, R G B; owned: fa_image_free */
} fa_image;

typedef struct fa_rect
{
	double x1, y1, x2, y2; /* x1 <= x2, y1 <= y2 */
} fa_rect;

/*
 * An image that shows a part of a photo at some scale: the photo's upright
 * point (X, Y) lies at ((X - x) * scale_x, (Y - y) * scale_y) of the image.
 */
typedef struct fa_view
{
	fa_image image;
	double x, y;             /* upright photo coordinates of the image's corner */
	double scale_x, scale_y; /* image pixels per photo pixel */
} fa_view;

/* An image of undefined pixels. On failure *image is zeroed. */
extern fa_status fa_image_alloc(fa_image *image, int width, int height, fa_error *error);
/* Frees the pixels and zeroes *image; harmless on a zeroed one. */
extern void fa_image_free(fa_image *image);

#endif
