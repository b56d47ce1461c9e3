/*
 * watch.h
 *		How a training is watched: a bar on a terminal, lines in DIR/log.tsv, event
 *		files in DIR/tensorboard. Main thread only.
 */
#ifndef FA_WATCH_H
#define FA_WATCH_H

#include "../src/nn/weights.h"
#include "history.h"
#include "tensorboard.h"

#include <stdio.h>

typedef struct fa_watch
{
	FILE *log;
	fa_board *training, *validation;  /* two runs, so that TensorBoard draws both in one chart */
	double losses[FA_TALLIES], speed; /* running means; 0 before the first step */
} fa_watch;

/* What a step is shown with. */
typedef struct fa_step_news
{
	int64_t step;    /* from 1 */
	double position; /* in the schedule, 0 ... 1 */
	double epoch;    /* epochs done, with fractions */
	double seconds;  /* spent training */
	double left;     /* seconds, or NAN */
	double rate;     /* learning rate */
	double losses[FA_TALLIES];
	double total; /* weighted */
	double norm;  /* of the gradient */
	double took;  /* seconds of the step */
	int images;   /* in it */
} fa_step_news;

/* step: what is done already, in a training that goes on. */
extern fa_status fa_watch_open(fa_watch *watch, const char *folder, bool resume, int64_t step,
							   fa_error *error);
extern void fa_watch_close(fa_watch *watch);

/* A line for people, to the terminal and the log. */
extern void fa_watch_say(fa_watch *watch, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern fa_status fa_watch_step(fa_watch *watch, const fa_step_news *news, fa_error *error);
/* Scalars of both runs, and a histogram of every tensor of the weights. */
extern fa_status fa_watch_validation(fa_watch *watch, const fa_epoch *epoch,
									 const fa_weights *weights, fa_error *error);
/* A few images of a batch as the network gets them; pixels [count, size, size, 3]. */
extern fa_status fa_watch_crops(fa_watch *watch, int64_t step, uint8_t *pixels, int count, int size,
								fa_error *error);

#endif
