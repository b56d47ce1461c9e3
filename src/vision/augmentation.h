/*
 * augmentation.h
 *		What is done to a training image after things have been painted on it, as plain
 *		numbers, so that a device can do it as well as the host: the face is framed, light and
 *		sensor change its colours, a small face is blurred, noisy and compressed at its own
 *		size, and enlarged last.
 *
 * trainer/augment.c draws the numbers. fa_augmentation_apply is the judge of what a GPU makes of
 * them (gpu/augment.cu).
 */
#ifndef FA_AUGMENTATION_H
#define FA_AUGMENTATION_H

#include "warp.h"

#include <math.h>

typedef struct fa_augmentation
{
	int pixels;      /* of the face's side, at most those of the result */
	fa_affine frame; /* from the square of so many pixels to the source's */
	bool recolours;
	int32_t colours[3][3], offset; /* out = (colours in + offset) >> 16, clamped ... */
	uint8_t tones[256];            /* ... and looked up */
	double blur;                   /* deviation of a Gaussian in pixels; 0: none */
	double noise;                  /* deviation in levels; 0: none */
	uint64_t noise_key;
	int quality; /* of a JPEG, 1 ... 89, so that chroma is halved; 0: none */
} fa_augmentation;

/* An image to be augmented. */
typedef struct fa_augmented
{
	fa_image source;
	fa_augmentation how;
} fa_augmented;

/*
 * How a batch's images are blended, image i with image (i + shift) % count: `part` of 256 of
 * the image itself, the rest of the other. part 256: not at all.
 */
typedef struct fa_blend
{
	int part, shift;
} fa_blend;

#define FA_NOISE_DEVIATION 147.8 /* of the sum of four random bytes: sqrt(4 (256^2 - 1) / 12) */

/* Of a blur: pixels to each side that count. */
static inline int
fa_blur_radius(double deviation)
{
	return (int) ceil(2.5 * deviation);
}

/* Fills out, size x size x 3 bytes. FA_INVALID where the frame leads too far. */
extern fa_status fa_augmentation_apply(const fa_augmented *image, int size, uint8_t *out,
									   fa_error *error);
/* [count, bytes] -> out, of the same size, another block */
extern void fa_blend_images(const uint8_t *pixels, int count, size_t bytes, fa_blend blend,
							uint8_t *out);

#endif
