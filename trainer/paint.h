/*
 * paint.h
 *		Convex shapes painted over faces for augmentation: masks, glasses, patches.
 */
#ifndef FA_PAINT_H
#define FA_PAINT_H

#include "../src/vision/image.h"
#include "../src/random.h"

/* From frame coordinates (fractions) to pixels of an image. */
typedef struct fa_frame
{
	double left, top, width, height;
} fa_frame;

/* Landmarks are fractions of the frame, in the order of FA_LANDMARKS (face.h). */
extern void fa_paint_mask(fa_image *image, fa_frame frame, const double (*landmarks)[2],
						  fa_random *random);
extern void fa_paint_glasses(fa_image *image, fa_frame frame, const double (*landmarks)[2],
							 fa_random *random);
/* Hair, a cap or a scarf: everything above the brows, sometimes the eyes too. */
extern void fa_paint_cap(fa_image *image, fa_frame frame, const double (*landmarks)[2],
						 fa_random *random);
/* A rectangle of 2 to 20 % of the frame, plain or noise (Zhong et al. 2017). */
extern void fa_paint_patch(fa_image *image, fa_frame frame, fa_random *random);

#endif
