/*
 * random_weights.h
 *		Weights for networks whose trained ones are not at hand: time does not depend on
 *		values, as long as they stay finite.
 */
#ifndef RANDOM_WEIGHTS_H
#define RANDOM_WEIGHTS_H

#include "../src/nn/weights.h"
#include "timing.h"

#include <math.h>
#include <string.h>

/* Random filters that keep values near 1, batch norm as the identity. */
static inline fa_weights
random_weights(const fa_net *net)
{
	fa_weights weights = {0};
	fa_parameter *parameters;
	int count;
	uint32_t seed = 1;
	fa_error error;

	must(fa_net_parameters(net, &parameters, &count, &error), &error);
	for (int i = 0; i < count; i++)
	{
		const fa_parameter *p = &parameters[i];
		const char *suffix = strrchr(p->name, '.');
		float scale = 3.4f / sqrtf((float) p->count / (float) p->shape[0]);
		bool one = net->ops[p->op].kind == FA_OP_BATCH_NORM &&
				   (strcmp(suffix, ".weight") == 0 || strcmp(suffix, ".running_var") == 0);
		fa_tensor *tensor;

		must(fa_weights_add(&weights, p->name, p->rank, p->shape, &tensor, &error), &error);
		for (size_t k = 0; k < p->count; k++)
		{
			seed = seed * 1664525u + 1013904223u;
			tensor->values[k] =
				p->rank == 1 ? (float) one : scale * ((float) (seed >> 8) / 16777216.0f - 0.5f);
		}
	}
	free(parameters);
	return weights;
}

#endif
