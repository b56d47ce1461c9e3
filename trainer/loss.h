/*
 * loss.h
 *		From logits and labels to a loss and its gradient. Missing labels
 *		(FA_NO_LABEL) neither count nor pull.
 */
#ifndef FA_LOSS_H
#define FA_LOSS_H

#include "dataset.h"

/* The heads of the networks that this program trains. */
enum
{
	FA_HEAD_AGE,
	FA_HEAD_GENDER,
	FA_HEAD_RACE,
	FA_HEAD_FACE,
	FA_HEADS
};

typedef struct fa_labels
{
	float age;              /* years; 100 and above are one class */
	int gender, race, face; /* face: 1 a human face, 0 not */
} fa_labels;

typedef struct fa_loss_options
{
	float weights[FA_HEADS]; /* of each head's cross-entropy */
	float age_sigma; /* years: soft age labels are a normal distribution (Gao et al. 2017) */
	float age_error; /* weight of |E[age] - age|, smooth below one year */
	float smoothing; /* of gender and race labels (Szegedy et al. 2016) */
} fa_loss_options;

/*
 * logits[h]: count x classes[h]; gradients[h] likewise receive dLoss/dlogits.
 * Each head's loss is the mean over the samples that have its label; losses[h]
 * is that mean before its weight. Returns the weighted sum.
 */
extern float fa_loss(const fa_labels *labels, int count, const float *const *logits,
					 const int *classes, const fa_loss_options *options, float *const *gradients,
					 float *losses);

#endif
