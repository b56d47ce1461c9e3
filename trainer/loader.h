/*
 * loader.h
 *		Batches for training, made ahead by threads. Batch number k is a function
 *		of the seed and k alone: epochs are permutations of the faces, negatives are
 *		drawn at random, every sample has random numbers of its own.
 */
#ifndef FA_LOADER_H
#define FA_LOADER_H

#include "../src/vision/image.h"
#include "loss.h"

typedef struct fa_loader fa_loader;

typedef struct fa_loader_options
{
	const fa_dataset *faces;     /* ready chips */
	const fa_dataset *negatives; /* crops without a human face; NULL: none */
	int batch, negatives_per_batch;
	int size; /* pixels, of the square crops */
	double strength;
	uint64_t seed;
	int workers;
} fa_loader_options;

typedef struct fa_training_batch
{
	uint8_t *pixels;   /* batch x size x size x 3 */
	fa_labels *labels; /* batch */
	int bad;           /* images that could not be decoded; they have no labels */
} fa_training_batch;

/* Batches from one permutation of the faces; the last, partial one is left out. */
extern int64_t fa_loader_epoch(const fa_loader_options *options);
/* Starts the threads; the first batch will be number `first`. Datasets must outlive the loader. */
extern fa_status fa_loader_open(const fa_loader_options *options, int64_t first, fa_loader **loader,
								fa_error *error);
/* The next batch; it is the caller's until fa_loader_done, which must follow. */
extern fa_status fa_loader_next(fa_loader *loader, const fa_training_batch **batch,
								fa_error *error);
extern void fa_loader_done(fa_loader *loader);
extern void fa_loader_close(fa_loader *loader);

/* A whole image decoded; image->pixels are the caller's. */
extern fa_status fa_decode_sample(const fa_sample *sample, fa_image *image, fa_error *error);

#endif
