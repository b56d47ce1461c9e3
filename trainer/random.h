/*
 * random.h
 *		Random numbers that depend on a seed and a position alone, so that a batch
 *		is the same whichever thread makes it and after whichever resume.
 *		SplitMix64 (Steele, Lea, Flood 2014).
 */
#ifndef FA_RANDOM_H
#define FA_RANDOM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct fa_random
{
	uint64_t state;
} fa_random;

static inline uint64_t
fa_random_next(fa_random *random)
{
	uint64_t x = random->state += 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline fa_random
fa_random_at(uint64_t seed, uint64_t position)
{
	fa_random random = {seed};

	random.state = fa_random_next(&random) ^ (position * 0xd1b54a32d192ed03u);
	fa_random_next(&random);
	return random;
}

/* Uniform in [0, 1). */
static inline double
fa_random_uniform(fa_random *random)
{
	return (double) (fa_random_next(random) >> 11) * 0x1p-53;
}

static inline double
fa_random_between(fa_random *random, double low, double high)
{
	return low + (high - low) * fa_random_uniform(random);
}

static inline bool
fa_random_chance(fa_random *random, double probability)
{
	return fa_random_uniform(random) < probability;
}

/* Below n, n > 0. */
static inline int
fa_random_below(fa_random *random, int n)
{
	return (int) (fa_random_uniform(random) * n);
}

/* Normal with mean 0 and the deviation given (Box, Muller 1958). */
static inline double
fa_random_normal(fa_random *random, double deviation)
{
	double u = 1.0 - fa_random_uniform(random), v = fa_random_uniform(random);

	return deviation * sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
