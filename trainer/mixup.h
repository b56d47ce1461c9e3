/*
 * mixup.h
 *		Mixup (Zhang et al. 2018): every image of a batch is blended with another of
 *		it, and the loss is that of both labels in the same proportion. What is mixed
 *		follows from the seed and the batch's number alone. Who augments the images, host or
 *		device, blends them.
 */
#ifndef FA_MIXUP_H
#define FA_MIXUP_H

#include "loader.h"

typedef struct fa_mixup
{
	double share; /* of the image itself, 0.5 ... 1 */
	fa_blend blend;
	float *partners[FA_HEADS]; /* labels of the others */
} fa_mixup;

/* Room for batches of `count` images. */
extern fa_status fa_mixup_open(fa_mixup *mixup, int count, fa_error *error);
extern void fa_mixup_close(fa_mixup *mixup);

/* alpha, above 0 and at most 2: the proportion is drawn from Beta(alpha, alpha). */
extern void fa_mixup_draw(fa_mixup *mixup, const fa_loaded *loaded, double alpha, uint64_t seed,
						  int64_t batch);

/* Beta(alpha, alpha) by Joehnk's method (1964). */
extern double fa_mixup_beta(double alpha, fa_random *random);

#endif
