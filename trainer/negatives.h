/*
 * negatives.h
 *		What is no face but might be taken for one: the detector's finds in photos
 *		without people, and windows of their backgrounds, kept as small crops.
 *
 * Collected once by the main thread; read-only afterwards.
 */
#ifndef FA_NEGATIVES_H
#define FA_NEGATIVES_H

#include "../src/face/face.h"
#include "dataset.h"

#define FA_NEGATIVE_ZOOM 1.3 /* crops show this much more than the template's frame */

typedef struct fa_negatives
{
	fa_image *crops;  /* owned */
	int count, finds; /* the first `finds` are the detector's, the others background */
} fa_negatives;

/*
 * Appends the crops of a set of photos: all that the detector finds with at
 * least min_score, and `windows` places per photo that it does not.
 */
extern fa_status fa_negatives_collect(fa_negatives *negatives, fa_pipeline *pipeline,
									  const fa_dataset *photos,
									  const double (*landmark_template)[2], float min_score,
									  int windows, uint64_t seed, const fa_interrupt *interrupt,
									  fa_error *error);
/*
 * The same for the photos of an archive or directory, with a detector of its own from
 * the directory `weights`. No path: no negatives.
 */
extern fa_status fa_negatives_read(fa_negatives *negatives, const char *path, const char *weights,
								   int threads, fa_precision precision,
								   const double (*landmark_template)[2], float min_score,
								   int windows, uint64_t seed, fa_error *error);
extern void fa_negatives_free(fa_negatives *negatives);

#endif
