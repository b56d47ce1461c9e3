/*
 * test_pool.c
 *		Photos through a bounded queue to several threads: every one once, no more in
 *		memory than is meant, failures that reach the reader, and an end at any time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../trainer/pool.h"

#define JOBS 500
#define THREADS 3
#define MOST_BYTES ((size_t) 256 << 20) /* pool.h promises a bound; this is it */

typedef struct account
{
	pthread_mutex_t lock;
	int seen[JOBS], done, opened, closed;
	int fail_at; /* job number, or -1 */
	bool fail_open;
	bool hold; /* under the lock: nobody works */
} account;

static fa_status
open_state(void *argument, void **state, fa_error *error)
{
	account *a = argument;

	pthread_mutex_lock(&a->lock);
	a->opened++;
	pthread_mutex_unlock(&a->lock);
	*state = a;
	return a->fail_open ? fa_fail(error, FA_NOT_FOUND, "no weights") : FA_OK;
}

static void
close_state(void *state)
{
	account *a = state;

	pthread_mutex_lock(&a->lock);
	a->closed++;
	pthread_mutex_unlock(&a->lock);
}

static fa_status
work(void *argument, void *state, const fa_job *job, fa_error *error)
{
	account *a = argument;

	assert_ptr_equal(state, a);
	pthread_mutex_lock(&a->lock);
	while (a->hold)
	{
		pthread_mutex_unlock(&a->lock);
		usleep(1000);
		pthread_mutex_lock(&a->lock);
	}
	a->seen[job->number]++;
	a->done++;
	pthread_mutex_unlock(&a->lock);
	return job->number == a->fail_at ? fa_fail(error, FA_TOO_LARGE, "full") : FA_OK;
}

static fa_pool *
open_pool(account *a)
{
	const fa_pool_work what = {open_state, work, close_state, a};
	fa_pool *pool;
	fa_error error;

	assert_int_equal(fa_pool_open(&what, THREADS, &pool, &error), FA_OK);
	return pool;
}

/* A job with memory of its own; length is what it says to have. */
static fa_job
make_job(int number, size_t length)
{
	return (fa_job){
		.sample = {.file = strdup("name"), .bytes = malloc(16), .length = length},
		.number = number,
		.owned = true,
	};
}

static void
every_job_is_done_once(void **state)
{
	account a = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = -1};
	fa_pool *pool = open_pool(&a);
	fa_error error;

	(void) state;
	for (int i = 0; i < JOBS; i++)
	{
		fa_job job = make_job(i, 16);

		assert_int_equal(fa_pool_put(pool, &job, &error), FA_OK);
	}
	assert_int_equal(fa_pool_close(pool, false, &error), FA_OK);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(a.seen[i], 1);
	assert_int_equal(a.opened, THREADS);
	assert_int_equal(a.closed, THREADS);
}

typedef struct reader
{
	fa_pool *pool;
	size_t length;
	int put; /* how many jobs went in */
} reader;

static void *
put_all(void *argument)
{
	reader *r = argument;
	fa_error error;

	for (int i = 0; i < 100; i++)
	{
		fa_job job = make_job(i, r->length);

		if (fa_pool_put(r->pool, &job, &error) != FA_OK)
			break;
		__atomic_add_fetch(&r->put, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* While nobody works, a reader gets in so many jobs: those in work, and those that may wait. */
static void
check_room(size_t length, int most)
{
	account a = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = -1, .hold = true};
	reader r = {.pool = open_pool(&a), .length = length};
	pthread_t thread;
	int before = -1;
	fa_error error;

	assert_int_equal(pthread_create(&thread, NULL, put_all, &r), 0);
	while (__atomic_load_n(&r.put, __ATOMIC_SEQ_CST) != before)
	{
		before = __atomic_load_n(&r.put, __ATOMIC_SEQ_CST);
		usleep(200000);
	}
	assert_in_range(before, 1, most);
	pthread_mutex_lock(&a.lock);
	a.hold = false;
	pthread_mutex_unlock(&a.lock);
	pthread_join(thread, NULL);
	assert_int_equal(fa_pool_close(r.pool, false, &error), FA_OK);
	assert_int_equal(a.done, 100);
}

static void
the_queue_is_bounded(void **state)
{
	(void) state;
	check_room(16, THREADS + 4 * THREADS);
	/* of photos that fill the bound one waits, or two of half of it */
	check_room(MOST_BYTES, THREADS + 1);
	check_room(MOST_BYTES / 2, THREADS + 2);
}

static void
a_failure_reaches_the_reader(void **state)
{
	account a = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = 20};
	fa_pool *pool = open_pool(&a);
	fa_status status = FA_OK;
	fa_error error;

	(void) state;
	for (int i = 0; i < JOBS && status == FA_OK; i++)
	{
		fa_job job = make_job(i, 16);

		status = fa_pool_put(pool, &job, &error);
	}
	assert_int_equal(status, FA_TOO_LARGE);
	assert_string_equal(error.message, "full");
	assert_int_equal(fa_pool_close(pool, true, &error), FA_TOO_LARGE);
	assert_true(a.done < JOBS);
}

static void
no_thread_begins(void **state)
{
	account a = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = -1, .fail_open = true};
	fa_pool *pool = open_pool(&a);
	fa_error error;

	(void) state;
	assert_int_equal(fa_pool_close(pool, false, &error), FA_NOT_FOUND);
	assert_int_equal(a.done, 0);
}

static void
what_waits_can_be_dropped(void **state)
{
	account a = {.lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = -1, .hold = true};
	fa_pool *pool = open_pool(&a);
	fa_error error;

	(void) state;
	for (int i = 0; i < THREADS + 5; i++)
	{
		fa_job job = make_job(i, 16);

		assert_int_equal(fa_pool_put(pool, &job, &error), FA_OK);
	}
	pthread_mutex_lock(&a.lock);
	a.hold = false;
	pthread_mutex_unlock(&a.lock);
	assert_int_equal(fa_pool_close(pool, true, &error), FA_OK);
	assert_true(a.done <= THREADS + 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_job_is_done_once),       cmocka_unit_test(the_queue_is_bounded),
		cmocka_unit_test(a_failure_reaches_the_reader), cmocka_unit_test(no_thread_begins),
		cmocka_unit_test(what_waits_can_be_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
