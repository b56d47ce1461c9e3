/*
 * tally.h
 *		Loss and score of every head, or of the embedding's task, summed over labelled
 *		samples: of training batches on the way, and of a validation.
 */
#ifndef FA_TALLY_H
#define FA_TALLY_H

#include "heads.h"
#include "loss.h"

/* The heads, and after them the persons that an embedding tells apart. */
enum
{
	FA_PERSON = FA_HEADS,
	FA_TALLIES
};

/* A head's name, or "person". */
extern const char *fa_tally_name(int tally);

typedef struct fa_tally
{
	double loss[FA_TALLIES]; /* without the heads' weights */
	/* age: years off; other heads: 1 for the right class; person: for the right triplet */
	double score[FA_TALLIES];
	int64_t labels[FA_TALLIES];
} fa_tally;

/* Means of a tally: NAN where nothing was labelled. */
typedef struct fa_means
{
	double loss[FA_TALLIES];
	double total;             /* weighted sum of the losses of heads that have labels */
	double score[FA_TALLIES]; /* years; per cent right, of persons in validation: of pairs */
} fa_means;

/*
 * One head of `count` samples, loss as fa_head_loss returns it: logits [count, classes],
 * targets [count].
 */
extern void fa_tally_add(fa_tally *tally, int head, double loss, const float *logits,
						 const float *targets, int count);
extern fa_means fa_tally_means(const fa_tally *tally, const fa_loss_options losses[FA_HEADS]);

/* The loss that suits the head: fa_loss_ordinal or fa_loss_categories. */
extern double fa_head_loss(int head, const fa_loss_options *options, const float *logits,
						   const float *targets, int count, float *gradients);
/* The class of the largest logit, the first of equals. */
extern int fa_best_class(const float *logits, int classes);
/* Expected years of age of softmax(logits). */
extern float fa_expected_age(const float *logits);

#endif
