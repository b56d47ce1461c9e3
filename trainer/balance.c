/*
 * balance.c
 *		Class weights; see balance.h.
 */
#include "balance.h"

#include <math.h>
#include <stdlib.h>

static void
smooth(const double *counts, int classes, double sigma, double *smoothed)
{
	for (int i = 0; i < classes; i++)
	{
		double sum = 0, weight = 0;

		for (int k = 0; k < classes; k++)
		{
			double w = sigma > 0 ? exp(-0.5 * (i - k) * (i - k) / (sigma * sigma)) : i == k;

			sum += w * counts[k];
			weight += w;
		}
		smoothed[i] = sum / weight;
	}
}

fa_status
fa_balance(const double *counts, int classes, double power, double sigma, float *weights,
		   fa_error *error)
{
	double *smoothed = malloc((size_t) classes * sizeof(double));
	double rarest = INFINITY, labels = 0, sum = 0;

	if (smoothed == NULL)
		return fa_no_memory(error, (size_t) classes * sizeof(double));
	smooth(counts, classes, sigma, smoothed);
	for (int i = 0; i < classes; i++)
		if (counts[i] > 0)
			rarest = fmin(rarest, smoothed[i]);
	for (int i = 0; i < classes; i++)
	{
		double count = counts[i] > 0 ? smoothed[i] : rarest;

		smoothed[i] = isfinite(count) ? pow(count, -power) : 1;
		labels += counts[i];
		sum += counts[i] * smoothed[i];
	}
	for (int i = 0; i < classes; i++)
		weights[i] = (float) (sum > 0 ? smoothed[i] * labels / sum : 1);
	free(smoothed);
	return FA_OK;
}
