/*
 * margin.h
 *		The margin softmax: an embedding learns to tell all persons of the training apart at
 *		once, each by a direction that is learnt with it. A dense layer without bias on unit
 *		embeddings, its rows of unit length, so that logits are cosines; of the right person's
 *		angle a margin is asked (additive angular margin: Deng et al. 2019, ArcFace).
 *
 * The layer belongs to the loss, not to the network: it goes into checkpoints and never into a
 * model. The training's thread.
 */
#ifndef FA_MARGIN_H
#define FA_MARGIN_H

#include "../src/nn/engine.h"

typedef struct fa_margin
{
	int classes, size;
	double margin;            /* radians, 0 ... pi / 2 */
	double scale;             /* of the cosines, before the softmax */
	float *weights;           /* [classes, size], of any length */
	float *gradients;         /* of these, by the last loss */
	float *moment1, *moment2; /* the optimiser's */
	float *units;             /* [classes, size]: the weights at unit length */
	float *cosines, *lengths; /* [count, classes]; [classes] */
	int count;                /* images that there is room for */
} fa_margin;

/* Directions at random, which follow from the seed; count: images of a batch. */
extern fa_status fa_margin_open(fa_margin *margin, int classes, int size, int count, double radians,
								double scale, uint64_t seed, fa_error *error);
extern void fa_margin_close(fa_margin *margin);

/*
 * With theta the angle between an embedding and its person's direction, the mean over `count`
 * images of the cross entropy of the logits scale * cos(theta + margin) of that person and scale *
 * cosine of the others. Beyond theta = pi - margin, where cos(theta + margin) would rise again, the
 * logit is that of cos theta - margin sin margin, which goes on falling. gradients [count, size]:
 * of the embeddings as given, of any length. *right: images nearest to their own person.
 */
extern fa_status fa_margin_loss(fa_margin *margin, const float *embeddings, const int *persons,
								int count, double *loss, float *gradients, int *right,
								fa_error *error);
/* The optimiser's step on the directions; clip_norm is of their gradient alone. */
extern void fa_margin_update(fa_margin *margin, const fa_update *update);

/* Directions and moments as tensors, and from there; FA_INVALID where these do not fit. */
extern fa_status fa_margin_write(const fa_margin *margin, fa_weights *weights, fa_error *error);
extern fa_status fa_margin_read(fa_margin *margin, const fa_weights *weights, fa_error *error);

#endif
