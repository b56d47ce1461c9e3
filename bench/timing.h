/*
 * timing.h
 *		What the benchmarks share: a clock, medians, and giving up.
 *
 * Benchmarks run on one thread and measure its processor time, which on an idle
 * machine is the elapsed time and on a busy one disturbed less. What is compared
 * is measured in turns, so that both meet the same disturbances.
 */
#ifndef TIMING_H
#define TIMING_H

#include "../src/fa.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Milliseconds of this thread. */
static inline double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

static inline int
by_value(const void *left, const void *right)
{
	double a = *(const double *) left, b = *(const double *) right;

	return (a > b) - (a < b);
}

/* Sorts the values. */
static inline double
median(double *values, int count)
{
	qsort(values, count, sizeof(double), by_value);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static inline void
must(fa_status status, const fa_error *error)
{
	if (status == FA_OK)
		return;
	fprintf(stderr, "%s\n%s\n", error->message, error->detail);
	exit(1);
}

#endif
