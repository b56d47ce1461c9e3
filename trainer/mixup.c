/*
 * mixup.c
 *		Blending of images; see mixup.h.
 */
#include "mixup.h"

#include <stdlib.h>

fa_status
fa_mixup_open(fa_mixup *mixup, int count, fa_error *error)
{
	size_t bytes = (size_t) count * FA_HEADS * sizeof(float);

	mixup->partners[0] = malloc(bytes);
	if (mixup->partners[0] == NULL)
		return fa_no_memory(error, bytes);
	for (int h = 1; h < FA_HEADS; h++)
		mixup->partners[h] = mixup->partners[0] + (size_t) h * count;
	return FA_OK;
}

void
fa_mixup_close(fa_mixup *mixup)
{
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
fa_mixup_draw(fa_mixup *mixup, const fa_loaded *loaded, double alpha, uint64_t seed, int64_t batch)
{
	fa_random random = fa_random_seed(seed, (uint64_t) batch, UINT64_MAX - 1);
	int shift = loaded->count > 1 ? 1 + fa_random_below(&random, loaded->count - 1) : 0;
	double share = fa_mixup_beta(alpha, &random);

	if (share < 0.5) /* the same mixtures, but an image keeps its own name */
		share = 1 - share;
	mixup->blend = (fa_blend){.part = (int) lround(256 * share), .shift = shift};
	mixup->share = mixup->blend.part / 256.0;
	for (int i = 0; i < loaded->count; i++)
		for (int h = 0; h < FA_HEADS; h++)
			mixup->partners[h][i] = loaded->targets[h][(i + shift) % loaded->count];
}
