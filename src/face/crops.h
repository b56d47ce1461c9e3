/*
 * crops.h
 *		The attribute network on crops, for those who make them: crops.c of ready ones, find.c of
 *		the faces in photos.
 */
#ifndef FA_CROPS_H
#define FA_CROPS_H

#include "pipeline.h"

/* Writes crop number index, height x width of the model, R G B. */
typedef fa_status (*fa_make_crop)(void *argument, int index, uint8_t *pixels, fa_error *error);
/*
 * Or tells where it lies, for an engine that cuts it out by itself: a picture that lasts
 * longer than the batch, or that is handed over in *own.
 */
typedef fa_status (*fa_locate_crop)(void *argument, int index, fa_warped *crop, fa_image *own,
									fa_error *error);
/* Takes its outputs: per head its logits, and last the embedding. */
typedef void (*fa_take_outputs)(void *argument, int index, float *const *outputs);

/*
 * Makes crops 0 ... count - 1, one after the other, or where make is NULL, locates them, and
 * runs the network on them in batches.
 */
extern fa_status fa_run_crops(fa_pipeline *pipeline, int count, fa_make_crop make,
							  fa_locate_crop locate, fa_take_outputs take, void *argument,
							  const fa_interrupt *interrupt, fa_error *error);
/* to = from / |from|; zero where that is zero. */
extern void fa_unit_length(const float *from, float *to, int n);
/* Adds the time since *since to *total; from there on, the next part is timed. */
extern void fa_add_time(double *total, double *since);

#endif
