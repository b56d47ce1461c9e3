/*
 * crop_cache.h
 *		Crops with their labels in one local file, which may be larger than memory: written
 *		while a query's rows come in, mapped while epochs read it in any order. It
 *		holds compressed images as they were, or as they were cut from photos.
 *
 * While it is filled the file has the name PATH.part, and only a whole one gets its own. The
 * file is of the machine that wrote it: numbers lie in it as in memory.
 */
#ifndef FA_CROP_CACHE_H
#define FA_CROP_CACHE_H

#include "dataset.h"

typedef struct fa_crop_cache fa_crop_cache; /* one that is being filled */

/* limit: bytes of the images and names together. The file is readable to its owner alone. */
extern fa_status fa_crop_cache_create(const char *path, uint64_t limit, fa_crop_cache **cache,
									  fa_error *error);
/*
 * Adds an image; its name, bytes, label (numbers of the reader's dictionaries) and zoom.
 * number: its place in the dataset, whatever the order in which threads add. Any thread may call
 * this. FA_TOO_LARGE at the limit, FA_IO when the disk is full.
 */
extern fa_status fa_crop_cache_add(fa_crop_cache *cache, const fa_sample *sample, int64_t number,
								   fa_error *error);
/*
 * Completes and closes the file; the cache is gone, also after a failure. reader: settled, its
 * sets those given; or NULL, where labels are classes already. origin: what the crops were made of,
 * as text.
 */
extern fa_status fa_crop_cache_finish(fa_crop_cache *cache, fa_label_reader *reader,
									  const fa_label_sets *sets, const char *origin,
									  fa_error *error);
/* Closes and removes what was begun; NULL is allowed. */
extern void fa_crop_cache_abandon(fa_crop_cache *cache);

/* Is the file there and a cache of crops, as far as its first bytes tell? */
extern bool fa_is_crop_cache(const char *path);
/*
 * Maps a complete file. origin: NULL, or what it must be of: else FA_INVALID. FA_NOT_FOUND,
 * FA_IO, FA_DAMAGED.
 */
extern fa_status fa_crop_cache_open(const char *path, const char *origin, fa_dataset *dataset,
									fa_error *error);

#endif
