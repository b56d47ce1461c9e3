/*
 * letterbox.c
 *		Scaling a whole image, for the detector's input: down the columns first,
 *		which reads the source once, row by row, then along the one row that gives.
 *		Each axis averages where it shrinks and interpolates where it grows.
 */
#include "warp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Four floats: a pixel and the first value of the next, which nobody uses. */
typedef float pixel4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t pixel4i __attribute__((vector_size(16)));

#define FAST __attribute__((target_clones("avx2", "default")))

/* One axis: output i is the sum over k < count[i] of weight[i * most + k] * input[first[i] + k]. */
typedef struct axis
{
	int most;
	int *first, *count;
	float *weight;
} axis;

static void
axis_free(axis *a)
{
	free(a->first);
	free(a->count);
	free(a->weight);
}

static fa_status
axis_init(axis *a, int from, int to, fa_error *error)
{
	double ratio = (double) from / to;

	memset(a, 0, sizeof(*a));
	a->most = from > to ? (int) ceil(ratio) + 1 : 2;
	a->first = malloc((size_t) to * sizeof(*a->first));
	a->count = malloc((size_t) to * sizeof(*a->count));
	a->weight = calloc((size_t) to * (size_t) a->most, sizeof(*a->weight));
	if (a->first == NULL || a->count == NULL || a->weight == NULL)
	{
		axis_free(a);
		return fa_no_memory(error, (size_t) to * (size_t) a->most * sizeof(*a->weight));
	}
	for (int i = 0; i < to; i++)
	{
		float *weight = a->weight + (size_t) i * (size_t) a->most;

		if (from > to)
		{
			/* the part of each input in [i, i + 1) * ratio; in integers, to be exact */
			int64_t low = (int64_t) i * from, high = low + from; /* in 1/to of an input */
			int first = (int) (low / to), last = (int) ((high - 1) / to);

			a->first[i] = first;
			a->count[i] = last - first + 1;
			for (int k = first; k <= last; k++)
			{
				int64_t begin = (int64_t) k * to, end = begin + to;

				weight[k - first] =
					(float) ((double) ((end < high ? end : high) - (begin > low ? begin : low)) /
							 from);
			}
		}
		else
		{
			/* between the two nearest centres; beyond the outer ones the edge repeats */
			double centre = (i + 0.5) * ratio - 0.5;
			int first = (int) floor(centre);
			double part = centre - first;

			if (first < 0 || first >= from - 1 || part == 0)
			{
				a->first[i] = first < 0 ? 0 : first;
				a->count[i] = 1;
				weight[0] = 1;
			}
			else
			{
				a->first[i] = first;
				a->count[i] = 2;
				weight[0] = (float) (1 - part);
				weight[1] = (float) part;
			}
		}
	}
	return FA_OK;
}

/* sums[values] = the weighted sum of `count` rows. */
FAST static void
sum_rows(float *restrict sums, const uint8_t *restrict rows, size_t stride,
		 const float *restrict weight, int count, size_t values)
{
	for (size_t i = 0; i < values; i++)
		sums[i] = weight[0] * (float) rows[i];
	for (int k = 1; k < count; k++)
	{
		const uint8_t *restrict row = rows + (size_t) k * stride;
		float w = weight[k];

		for (size_t i = 0; i < values; i++)
			sums[i] += w * (float) row[i];
	}
}

/* One row of output from the summed row, which has a value to spare at its end. */
FAST static void
scale_row(uint8_t *restrict row, const float *restrict sums, const axis *a, int width)
{
	const float *weight = a->weight;

	for (int x = 0; x < width; x++, weight += a->most, row += 3)
	{
		const float *in = sums + 3 * (size_t) a->first[x];
		int count = a->count[x];
		pixel4 sum = {0.5f, 0.5f, 0.5f, 0.5f};
		pixel4i value;

		for (int k = 0; k < count; k++)
			sum += *(const pixel4 *) (in + 3 * (size_t) k) * weight[k];
		value = __builtin_convertvector(sum, pixel4i);
		row[0] = (uint8_t) value[0]; /* weights sum to 1: at most 255.5 and rounding */
		row[1] = (uint8_t) value[1];
		row[2] = (uint8_t) value[2];
	}
}

static fa_status
scale(const fa_image *source, int width, int height, fa_image *destination, fa_error *error)
{
	axis across = {0}, down = {0};
	size_t values = 3 * (size_t) source->width;
	float *sums = malloc((values + 1) * sizeof(*sums));
	fa_status status;

	if (sums == NULL)
		return fa_no_memory(error, (values + 1) * sizeof(*sums));
	sums[values] = 0;
	status = axis_init(&across, source->width, width, error);
	if (status == FA_OK)
		status = axis_init(&down, source->height, height, error);
	if (status == FA_OK)
		for (int y = 0; y < height; y++)
		{
			sum_rows(sums, source->pixels + (size_t) down.first[y] * source->stride, source->stride,
					 down.weight + (size_t) y * (size_t) down.most, down.count[y], values);
			scale_row(destination->pixels + (size_t) y * destination->stride, sums, &across, width);
		}
	axis_free(&across);
	axis_free(&down);
	free(sums);
	return status;
}

fa_status
fa_letterbox(const fa_image *source, int width, int height, fa_image *destination, uint8_t fill,
			 fa_error *error)
{
	if (width < 1 || height < 1 || width > destination->width || height > destination->height)
		return fa_fail(error, FA_INVALID, "cannot scale an image to %d x %d within %d x %d", width,
					   height, destination->width, destination->height);
	if (width != source->width || height != source->height)
		FA_TRY(scale(source, width, height, destination, error));
	else
		for (int y = 0; y < height; y++)
			memcpy(destination->pixels + (size_t) y * destination->stride,
				   source->pixels + (size_t) y * source->stride, 3 * (size_t) width);

	for (int y = 0; y < destination->height; y++)
	{
		int x = y < height ? width : 0;

		memset(destination->pixels + (size_t) y * destination->stride + 3 * (size_t) x, fill,
			   3 * (size_t) (destination->width - x));
	}
	return FA_OK;
}
