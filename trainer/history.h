/*
 * history.h
 *		What every validation of a training found: the curves of its report. Kept as a
 *		line of JSON each (DIR/history.jsonl), so that a resumed training has what came
 *		before, and other programs can read it.
 */
#ifndef FA_HISTORY_H
#define FA_HISTORY_H

#include "validate.h"

typedef struct fa_epoch
{
	int64_t step;
	double epoch, seconds, rate; /* epochs done, time spent training, learning rate */
	fa_means training;           /* of the batches since the validation before */
	fa_scores validation;
	double metric; /* by which the best is chosen; lower is better */
	bool best;     /* so far */
} fa_epoch;

typedef struct fa_history
{
	fa_epoch *epochs; /* owned */
	int count;
} fa_history;

/*
 * Reads a file and cuts off what comes after `last_step`, which a training that was killed did
 * not keep, from the file too; all of it below 0. No file is an empty history; FA_DAMAGED for one
 * of anything else.
 */
extern fa_status fa_history_open(fa_history *history, const char *path, int64_t last_step,
								 fa_error *error);
/* Adds a line to the file as well. */
extern fa_status fa_history_add(fa_history *history, const char *path, const fa_epoch *epoch,
								fa_error *error);
extern void fa_history_free(fa_history *history);

#endif
