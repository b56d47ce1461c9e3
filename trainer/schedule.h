/*
 * schedule.h
 *		The learning rate over a training: a warm-up, then a cosine, steps or
 *		nothing more. A function of how much of the training is over, whether that is
 *		counted in batches or in minutes.
 */
#ifndef FA_SCHEDULE_H
#define FA_SCHEDULE_H

#define FA_MAX_MILESTONES 16

typedef enum fa_schedule_kind
{
	FA_SCHEDULE_COSINE,  /* half a period, down to zero (Loshchilov, Hutter 2017) */
	FA_SCHEDULE_STEP,    /* times `factor` at every milestone */
	FA_SCHEDULE_CONSTANT /* stays */
} fa_schedule_kind;

typedef struct fa_schedule
{
	fa_schedule_kind kind;
	double rate;    /* the highest */
	double warm_up; /* share of the training in which the rate rises from a tenth of that */
	double milestones[FA_MAX_MILESTONES]; /* shares of the training, in any order */
	int milestone_count;
	double factor;
} fa_schedule;

/* position: 0 ... 1 */
extern double fa_schedule_rate(const fa_schedule *schedule, double position);

#endif
