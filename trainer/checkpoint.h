/*
 * checkpoint.h
 *		A training's whole state in one file, so that it can be killed at any moment
 *		and go on: weights, moving average, both moments, and how far it had come.
 */
#ifndef FA_CHECKPOINT_H
#define FA_CHECKPOINT_H

#include "../src/nn/engine.h"

typedef struct fa_progress
{
	int64_t step;   /* batches trained on */
	double seconds; /* spent training */
	double best;    /* total score of the best validation so far; infinite before the first */
} fa_progress;

/* Written to a temporary name and renamed: the path always holds a whole checkpoint. */
extern fa_status fa_checkpoint_write(const fa_engine_interface *interface, fa_trainer *trainer,
									 const fa_progress *progress, const char *path,
									 fa_error *error);
extern fa_status fa_checkpoint_read(const fa_engine_interface *interface, fa_trainer *trainer,
									fa_progress *progress, const char *path, fa_error *error);

#endif
