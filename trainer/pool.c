/*
 * pool.c
 *		A bounded queue and its threads; see pool.h. One lock guards all of the struct.
 */
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define PER_THREAD 4           /* jobs in the queue */
#define MAX_BYTES (256u << 20) /* of their images, but for the one that is there in any case */

struct fa_pool
{
	fa_pool_work work;
	fa_job *queue; /* ring */
	int capacity, first, count;
	size_t bytes;
	bool ending; /* nothing more comes */
	fa_error error;
	pthread_mutex_t lock;
	pthread_cond_t room, ready;
	pthread_t *threads;
	int thread_count;
};

static void
free_job(const fa_job *job)
{
	if (!job->owned)
		return;
	free(job->sample.file);
	free(job->sample.bytes);
}

/* The next job; false at the end. */
static bool
take(fa_pool *pool, fa_job *job)
{
	bool found;

	pthread_mutex_lock(&pool->lock);
	while (pool->count == 0 && !pool->ending && pool->error.status == FA_OK)
		pthread_cond_wait(&pool->ready, &pool->lock);
	found = pool->count > 0 && pool->error.status == FA_OK;
	if (found)
	{
		*job = pool->queue[pool->first];
		pool->first = (pool->first + 1) % pool->capacity;
		pool->count--;
		pool->bytes -= job->sample.length;
		pthread_cond_signal(&pool->room);
	}
	pthread_mutex_unlock(&pool->lock);
	return found;
}

static void
fail(fa_pool *pool, const fa_error *error)
{
	pthread_mutex_lock(&pool->lock);
	if (pool->error.status == FA_OK)
		pool->error = *error;
	pthread_cond_broadcast(&pool->room);
	pthread_cond_broadcast(&pool->ready);
	pthread_mutex_unlock(&pool->lock);
}

static void *
run(void *argument)
{
	fa_pool *pool = argument;
	void *state = NULL;
	fa_job job;
	fa_error error = {.status = FA_OK};

	if (pool->work.open(pool->work.argument, &state, &error) != FA_OK)
		fail(pool, &error);
	while (take(pool, &job))
	{
		if (pool->work.work(pool->work.argument, state, &job, &error) != FA_OK)
			fail(pool, &error);
		free_job(&job);
	}
	pool->work.close(state);
	return NULL;
}

fa_status
fa_pool_open(const fa_pool_work *work, int threads, fa_pool **pool, fa_error *error)
{
	fa_pool *opened = calloc(1, sizeof(*opened));
	sigset_t all, before;

	*pool = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(*opened));
	opened->work = *work;
	opened->capacity = threads * PER_THREAD;
	opened->queue = calloc((size_t) opened->capacity, sizeof(*opened->queue));
	opened->threads = calloc((size_t) threads, sizeof(*opened->threads));
	if (opened->queue == NULL || opened->threads == NULL)
	{
		free(opened->queue);
		free(opened->threads);
		free(opened);
		return fa_no_memory(error, (size_t) threads * PER_THREAD * sizeof(fa_job));
	}
	pthread_mutex_init(&opened->lock, NULL);
	pthread_cond_init(&opened->room, NULL);
	pthread_cond_init(&opened->ready, NULL);
	/* threads leave signals to the main thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (opened->thread_count < threads &&
		   pthread_create(&opened->threads[opened->thread_count], NULL, run, opened) == 0)
		opened->thread_count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (opened->thread_count == 0)
	{
		fa_fail(error, FA_INTERNAL, "no thread could be started");
		fa_pool_close(opened, true, &(fa_error){0});
		return error->status;
	}
	*pool = opened;
	return FA_OK;
}

fa_status
fa_pool_put(fa_pool *pool, const fa_job *job, fa_error *error)
{
	size_t bytes = job->sample.length;
	fa_status status;

	pthread_mutex_lock(&pool->lock);
	while (pool->error.status == FA_OK &&
		   (pool->count == pool->capacity || (pool->count > 0 && pool->bytes + bytes > MAX_BYTES)))
		pthread_cond_wait(&pool->room, &pool->lock);
	status = pool->error.status;
	if (status == FA_OK)
	{
		pool->queue[(pool->first + pool->count++) % pool->capacity] = *job;
		pool->bytes += bytes;
		pthread_cond_signal(&pool->ready);
	}
	else
	{
		*error = pool->error;
		free_job(job);
	}
	pthread_mutex_unlock(&pool->lock);
	return status;
}

fa_status
fa_pool_close(fa_pool *pool, bool now, fa_error *error)
{
	fa_status status;

	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	for (; now && pool->count > 0; pool->count--)
		free_job(&pool->queue[(pool->first + pool->count - 1) % pool->capacity]);
	pthread_cond_broadcast(&pool->ready);
	pthread_mutex_unlock(&pool->lock);
	for (int i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	for (; pool->count > 0; pool->count--) /* after a failure */
		free_job(&pool->queue[(pool->first + pool->count - 1) % pool->capacity]);
	status = pool->error.status;
	if (status != FA_OK)
		*error = pool->error;
	pthread_cond_destroy(&pool->ready);
	pthread_cond_destroy(&pool->room);
	pthread_mutex_destroy(&pool->lock);
	free(pool->queue);
	free(pool->threads);
	free(pool);
	return status;
}
