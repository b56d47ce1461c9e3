/*
 * random.h
 *		Random numbers for training and statistics: SplitMix64 (Steele, Lea, Flood
 *		2014), and a permutation that is computed, not stored. Every training sample
 *		draws from a generator seeded by what it is (seed, epoch, index), so that
 *		results do not depend on which thread makes it, or when.
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
fa_mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint64_t
fa_random_bits(fa_random *random)
{
	return fa_mix(random->state += 0x9e3779b97f4a7c15u);
}

static inline fa_random
fa_random_seed(uint64_t seed, uint64_t a, uint64_t b)
{
	return (fa_random){fa_mix(fa_mix(fa_mix(seed + 0x9e3779b97f4a7c15u) + a) + b)};
}

/* [0, 1) */
static inline double
fa_random_unit(fa_random *random)
{
	return (double) (fa_random_bits(random) >> 11) * 0x1p-53;
}

static inline double
fa_random_between(fa_random *random, double low, double high)
{
	return low + (high - low) * fa_random_unit(random);
}

/* Uniform in the logarithm; 0 < low <= high. */
static inline double
fa_random_log_between(fa_random *random, double low, double high)
{
	return low * pow(high / low, fa_random_unit(random));
}

static inline bool
fa_random_chance(fa_random *random, double probability)
{
	return fa_random_unit(random) < probability;
}

/* 0 ... n - 1, n > 0 */
static inline int
fa_random_below(fa_random *random, int n)
{
	return (int) (fa_random_unit(random) * n);
}

/* Standard normal (Box, Muller 1958). */
static inline double
fa_random_normal(fa_random *random)
{
	double u = 1.0 - fa_random_unit(random);

	return sqrt(-2 * log(u)) * cos(2 * M_PI * fa_random_unit(random));
}

/*
 * Where a key's permutation of 0 ... n - 1 takes index: a Feistel network of
 * four rounds over the next even power of two, walked until it falls inside.
 */
static inline uint32_t
fa_permute(uint64_t key, uint32_t n, uint32_t index)
{
	int half = 1;
	uint32_t mask;

	while (half < 16 && (1ull << (2 * half)) < n)
		half++;
	mask = (1u << half) - 1;
	do
	{
		uint32_t left = index >> half, right = index & mask;

		for (int round = 0; round < 4; round++)
		{
			uint32_t f = (uint32_t) fa_mix(key + ((uint64_t) (round + 1) << 32) + right) & mask;
			uint32_t swapped = left ^ f;

			left = right;
			right = swapped;
		}
		index = left << half | right;
	} while (index >= n);
	return index;
}

#endif
