/*
 * optimizer.c
 *		AdamW, Adam and SGD with momentum; see optimizer.h.
 */
#include "optimizer.h"

#include <math.h>

#define SQUARES 4096 /* of them are summed in fp32, these sums in double */

__attribute__((optimize("O3", "fast-math"))) static float
block_sum_of_squares(const float *values, size_t count)
{
	float sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += values[i] * values[i];
	return sum;
}

/* The same whatever the threads do: a resumed training must not differ in the last bit. */
double
fa_sum_of_squares(const float *values, size_t count)
{
	double total = 0;

#pragma omp parallel for ordered schedule(static, 1)
	for (size_t i = 0; i < count; i += SQUARES)
	{
		float sum = block_sum_of_squares(values + i, i + SQUARES < count ? SQUARES : count - i);

#pragma omp ordered
		total += sum;
	}
	return total;
}

/*
 * Loshchilov, Hutter 2019: the decay apart from the gradient; Kingma, Ba 2015: as part of
 * it. `decay` is of the weight, `coupled` of the gradient.
 */
__attribute__((optimize("O3"))) static void
adam(float *w, float *m, float *v, const float *g, size_t count, const fa_update *u, float scale,
	 float rate, float decay, float coupled)
{
	float correction1 = (float) (1.0 - pow(u->beta1, (double) u->step));
	float correction2 = (float) (1.0 - pow(u->beta2, (double) u->step));

#pragma omp parallel for simd schedule(static)
	for (size_t i = 0; i < count; i++)
	{
		float gradient = g[i] * scale + coupled * w[i];

		m[i] = u->beta1 * m[i] + (1.0f - u->beta1) * gradient;
		v[i] = u->beta2 * v[i] + (1.0f - u->beta2) * gradient * gradient;
		w[i] -=
			decay * w[i] + rate * (m[i] / correction1) / (sqrtf(v[i] / correction2) + u->epsilon);
	}
}

/* Sutskever et al. 2013, with the velocity in units of the gradient: m = beta1 m + g, w -= rate m.
 */
__attribute__((optimize("O3"))) static void
sgd(float *w, float *m, const float *g, size_t count, float scale, float rate, float momentum,
	float coupled)
{
#pragma omp parallel for simd schedule(static)
	for (size_t i = 0; i < count; i++)
	{
		m[i] = momentum * m[i] + g[i] * scale + coupled * w[i];
		w[i] -= rate * m[i];
	}
}

void
fa_optimize(const fa_update *update, float rate, bool decays, float scale, float *w, float *m,
			float *v, const float *g, size_t count)
{
	float decay = decays ? update->weight_decay : 0;

	switch (update->optimizer)
	{
		case FA_OPTIMIZER_ADAMW:
			adam(w, m, v, g, count, update, scale, rate, rate * decay, 0);
			break;
		case FA_OPTIMIZER_ADAM:
			adam(w, m, v, g, count, update, scale, rate, 0, decay);
			break;
		case FA_OPTIMIZER_SGD:
			sgd(w, m, g, count, scale, rate, update->beta1, decay);
			break;
	}
}
