/*
 * mixup.c
 *		Blending of images; see mixup.h.
 */
#include "mixup.h"

#include <stdlib.h>
#include <string.h>

fa_status
fa_mixup_open(fa_mixup *mixup, int count, int size, fa_error *error)
{
	size_t bytes = (size_t) count * size * size * 3;

	memset(mixup, 0, sizeof(*mixup));
	mixup->pixels = malloc(bytes);
	mixup->partners[0] = malloc((size_t) count * FA_HEADS * sizeof(float));
	if (mixup->pixels == NULL || mixup->partners[0] == NULL)
		return fa_no_memory(error, bytes);
	for (int h = 1; h < FA_HEADS; h++)
		mixup->partners[h] = mixup->partners[0] + (size_t) h * count;
	return FA_OK;
}

void
fa_mixup_close(fa_mixup *mixup)
{
	free(mixup->pixels);
	free(mixup->partners[0]);
}

double
fa_mixup_beta(double alpha, fa_random *random)
{
	for (;;)
	{
		double x = pow(fa_random_unit(random), 1 / alpha);
		double y = pow(fa_random_unit(random), 1 / alpha);

		if (x + y > 0 && x + y <= 1)
			return x / (x + y);
	}
}

void
fa_mixup_batch(fa_mixup *mixup, const fa_loaded *loaded, double alpha, uint64_t seed, int64_t batch)
{
	fa_random random = fa_random_seed(seed, (uint64_t) batch, UINT64_MAX - 1);
	size_t bytes = (size_t) loaded->size * loaded->size * 3;
	int shift = loaded->count > 1 ? 1 + fa_random_below(&random, loaded->count - 1) : 0, part;

	mixup->share = fa_mixup_beta(alpha, &random);
	if (mixup->share < 0.5) /* the same mixtures, but an image keeps its own name */
		mixup->share = 1 - mixup->share;
	part = (int) lround(256 * mixup->share);
	mixup->share = part / 256.0;
	for (int i = 0; i < loaded->count; i++)
	{
		int other = (i + shift) % loaded->count;
		const uint8_t *a = loaded->pixels + bytes * i, *b = loaded->pixels + bytes * other;
		uint8_t *out = mixup->pixels + bytes * i;

		for (size_t k = 0; k < bytes; k++)
			out[k] = (uint8_t) ((a[k] * part + b[k] * (256 - part) + 128) >> 8);
		for (int h = 0; h < FA_HEADS; h++)
			mixup->partners[h][i] = loaded->targets[h][other];
	}
}
