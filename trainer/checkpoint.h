/*
 * checkpoint.h
 *		A training's whole state in one file, so that it can be killed at any moment
 *		and go on as if it had not been: weights, moving average, both moments, what the
 *		loss itself has learnt, how far it had come, and the options that it was started with.
 */
#ifndef FA_CHECKPOINT_H
#define FA_CHECKPOINT_H

#include "../src/nn/engine.h"
#include "tally.h"

#include <jansson.h>

typedef struct fa_progress
{
	int64_t step;   /* batches trained on */
	double seconds; /* spent training */
	double best;    /* metric of the best validation so far; infinite before the first */
	int64_t stale;  /* validations since then */
	fa_tally tally; /* of the batches since the last validation */
} fa_progress;

typedef struct fa_checkpoint
{
	fa_weights states; /* of all kinds, names prefixed */
	fa_progress progress;
	json_t *options;
} fa_checkpoint;

/*
 * Written to a temporary name and renamed: the path always holds a whole checkpoint. loss: the
 * tensors of a loss that has some.
 */
extern fa_status fa_checkpoint_write(const fa_engine_interface *interface, fa_trainer *trainer,
									 const fa_weights *loss, const fa_progress *progress,
									 const json_t *options, const char *path, fa_error *error);
extern fa_status fa_checkpoint_read(fa_checkpoint *checkpoint, const char *path, fa_error *error);
extern void fa_checkpoint_free(fa_checkpoint *checkpoint);

/* The tensors of one state, to open a trainer with; added to `weights`. */
extern fa_status fa_checkpoint_state(const fa_checkpoint *checkpoint, fa_trainer_state state,
									 fa_weights *weights, fa_error *error);
/* The tensors of the loss; added to `weights`. */
extern fa_status fa_checkpoint_loss(const fa_checkpoint *checkpoint, fa_weights *weights,
									fa_error *error);
/* Writes the trainer's states; without `moments` the optimiser starts afresh. */
extern fa_status fa_checkpoint_restore(const fa_checkpoint *checkpoint,
									   const fa_engine_interface *interface, fa_trainer *trainer,
									   bool moments, fa_error *error);

#endif
