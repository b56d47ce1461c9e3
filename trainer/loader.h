/*
 * loader.h
 *		Batches made ahead of need by threads: decode, augment, label. What a batch
 *		holds follows from the seed and its number alone, whatever the number of
 *		threads, so that a resumed training sees what an uninterrupted one would.
 *
 * The loader's calls belong to one thread. The datasets must outlive it and
 * stay unchanged.
 */
#ifndef FA_LOADER_H
#define FA_LOADER_H

#include "augment.h"
#include "heads.h"
#include "negatives.h"

typedef struct fa_loader fa_loader;

typedef struct fa_loader_options
{
	const fa_dataset *faces;
	const fa_negatives *negatives; /* may be NULL */
	/*
	 * Endless epochs, each in an order of its own, with `negative_share` of every
	 * batch negatives; an epoch's last, incomplete batch is left out. Else once through, in
	 * order, faces and then negatives, the last batch as small as it comes.
	 */
	bool shuffle;
	double negative_share;
	/* With shuffle: which sample comes at a place of a batch; NULL: as said above. */
	int (*pick)(const void *argument, int64_t batch, int place);
	const void *pick_argument;
	int batch, size; /* images, pixels of a side */
	int workers;
	fa_augment_options augment;
	bool drawn_only; /* images as they are drawn, for a device to augment, in place of pixels */
	double landmark_template[FA_LANDMARKS][2];
	uint64_t seed;
} fa_loader_options;

typedef struct fa_loaded
{
	int count, size;
	uint8_t *pixels;          /* [count, size, size, 3], or NULL: */
	fa_augmented *images;     /* [count]; else NULL */
	float *targets[FA_HEADS]; /* [count]: class or years, FA_NO_LABEL */
} fa_loaded;

/* Batches of an epoch; 0 when there are too few images for one. */
extern int64_t fa_loader_steps(const fa_loader_options *options);
/* Starts at batch number `first` (epochs have fa_loader_steps of them). */
extern fa_status fa_loader_open(const fa_loader_options *options, int64_t first, fa_loader **loader,
								fa_error *error);
/*
 * The next batch: the loader's, until the next call. *loaded is NULL after the
 * last. An image that cannot be decoded is grey and has no label.
 */
extern fa_status fa_loader_next(fa_loader *loader, const fa_loaded **loaded, fa_error *error);
/* How many images could not be decoded so far, and the name of the first. */
extern int fa_loader_damaged(fa_loader *loader, const char **first);
extern void fa_loader_close(fa_loader *loader);

#endif
