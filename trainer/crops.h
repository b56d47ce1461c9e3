/*
 * crops.h
 *		From photos to the crops that a network is trained on: each photo's labelled face
 *		detected, aligned as in use, and put into a cache; or ready chips, looked over and
 *		put there as they are. Several threads, each with a detector of its own; what cannot
 *		be used is told on standard error and counted.
 */
#ifndef FA_CROPS_H
#define FA_CROPS_H

#include "../src/face/face.h"
#include "crop_cache.h"
#include "pool.h"

#define FA_CROP_TARGETS 2 /* caches that crops may go to, by fa_job.target */

typedef struct fa_crop_options
{
	bool ready;          /* images are chips: no detection */
	const char *weights; /* directory of the detector's */
	fa_precision precision;
	int size; /* the network's input, pixels of a side */
	double landmark_template[FA_LANDMARKS][2];
} fa_crop_options;

typedef struct fa_crop_counts
{
	int64_t kept[FA_CROP_TARGETS];
	int64_t damaged; /* images that could not be decoded */
	int64_t no_face; /* photos without a face, or none where the box says */
	int64_t several; /* photos of several faces, no box saying which */
} fa_crop_counts;

typedef struct fa_crop_maker fa_crop_maker;

/* caches: the maker's to fill; not closed. */
extern fa_status fa_crop_maker_open(const fa_crop_options *options, int threads,
									fa_crop_cache *const caches[FA_CROP_TARGETS],
									fa_crop_maker **maker, fa_error *error);
/* As fa_pool_put. */
extern fa_status fa_crop_maker_put(fa_crop_maker *maker, const fa_job *job, fa_error *error);
/* As fa_pool_close. */
extern fa_status fa_crop_maker_close(fa_crop_maker *maker, bool now, fa_crop_counts *counts,
									 fa_error *error);

/* The crop's side in pixels, and how much more than the template's frame it shows. */
extern int fa_crop_side(int size, double *zoom);

#endif
