/*
 * persons.h
 *		Training an embedding: faces of one person shall lie near each other, those of
 *		two far apart. Batches of a few persons with a few images each, the loss on
 *		them, and how well persons can be told apart.
 */
#ifndef FA_PERSONS_H
#define FA_PERSONS_H

#include "dataset.h"

#define FA_PERSON_IMAGES 4 /* of each person in a batch */

/* The persons of whom there are two images or more. Read-only once made: threads share it. */
typedef struct fa_persons
{
	int *samples; /* of the first person, then of the second ...; owned */
	int *first;   /* per person, and one more: where its samples begin; owned */
	int count;
	int batch;     /* images in a batch, a multiple of FA_PERSON_IMAGES */
	int64_t steps; /* batches of an epoch */
	uint64_t seed;
} fa_persons;

/* FA_INVALID where there are fewer persons than a batch has, or the batch is no multiple. */
extern fa_status fa_persons_open(fa_persons *persons, const fa_dataset *faces, int batch,
								 int64_t steps, uint64_t seed, fa_error *error);
extern void fa_persons_close(fa_persons *persons);

/*
 * The sample at a place of a batch, fa_loader_options.pick: persons in an order of their own
 * in every epoch, images of a person at random, none twice while there are others. Follows from
 * the seed and the numbers alone. argument: an fa_persons.
 */
extern int fa_persons_pick(const void *argument, int64_t batch, int place);
/* Whose image that is: 0 ... count - 1. */
extern int fa_persons_at(const fa_persons *persons, int64_t batch, int place);

/*
 * Batch-hard triplet loss (Hermans, Beyer, Leibe 2017) on embeddings [count, size] scaled to unit
 * length: the mean over the images of max(0, margin + distance to the farthest image of the person
 * - distance to the nearest of another). gradients [count, size]: of the embeddings as given.
 * *right: images whose farthest own is nearer than the nearest other. Images without the one
 * or the other add nothing.
 */
extern fa_status fa_triplet_loss(const float *embeddings, const int *persons, int count, int size,
								 double margin, double *loss, float *gradients, int *right,
								 fa_error *error);

/* Of pairs of images, of one person or of two; NAN where there is no pair. */
typedef struct fa_person_figures
{
	int same, other; /* pairs */
	double accuracy; /* per cent told apart, each tenth with the threshold that suits the rest */
	double auc;      /* that a pair of one person is more alike than one of two; 0 ... 1 */
	/* per cent of the pairs of one person that are found when of the others no more than a
	 * hundredth, a thousandth are taken for one */
	double true_accepts_100, true_accepts_1000;
} fa_person_figures;

/*
 * Verification as LFW does it (Huang et al. 2007): pairs of one person and as many of two, told
 * apart by the cosine; but its ten parts are chosen by pair, not by person. All pairs of one person
 * up to a hundred thousand, then a random choice; persons[i] < 0: not known.
 */
extern fa_status fa_verify_persons(const float *embeddings, const int *persons, int count, int size,
								   uint64_t seed, fa_person_figures *figures, fa_error *error);

#endif
