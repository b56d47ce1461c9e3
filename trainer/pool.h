/*
 * pool.h
 *		Photos on their way from one thread that reads them to several that look at them,
 *		through a queue that is bounded by number and by bytes: reading waits for
 *		looking, so that memory holds a few photos of however many.
 */
#ifndef FA_POOL_H
#define FA_POOL_H

#include "dataset.h"

typedef struct fa_job
{
	fa_sample sample;
	int64_t number; /* from 0 */
	int target;     /* for the work to make sense of */
	bool owned;     /* the pool frees the sample's name and bytes */
} fa_job;

/* What the threads do. A failure of open or work ends the pool; it reaches the reading thread. */
typedef struct fa_pool_work
{
	fa_status (*open)(void *argument, void **state, fa_error *error); /* once per thread */
	fa_status (*work)(void *argument, void *state, const fa_job *job, fa_error *error);
	void (*close)(void *state); /* NULL is allowed */
	void *argument;
} fa_pool_work;

typedef struct fa_pool fa_pool;

extern fa_status fa_pool_open(const fa_pool_work *work, int threads, fa_pool **pool,
							  fa_error *error);
/* Waits for room. The job is the pool's, also after a failure, which is that of a thread. */
extern fa_status fa_pool_put(fa_pool *pool, const fa_job *job, fa_error *error);
/* Lets the queue be worked off, or with `now` drops it, and ends the threads. */
extern fa_status fa_pool_close(fa_pool *pool, bool now, fa_error *error);

#endif
