/*
 * margin.c
 *		Cosines to all persons, the margin, and gradients of both sides; see margin.h.
 *
 * Sums over the layer are in fp32 and in a fixed order, whatever runs beside them: a training
 * that is resumed must not differ in the last bit.
 */
#include "margin.h"

#include "../src/nn/optimizer.h"
#include "../src/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where the angle's sine vanishes, so does what it is a slope of: kept from dividing by 0. */
#define COSINE_LIMIT (1 - 1e-7)

fa_status
fa_margin_open(fa_margin *m, int classes, int size, int count, double radians, double scale,
			   uint64_t seed, fa_error *error)
{
	size_t values = (size_t) classes * size;
	fa_random random = fa_random_seed(seed, 9, 0);

	*m = (fa_margin){
		.classes = classes, .size = size, .margin = radians, .scale = scale, .count = count};
	m->weights = malloc(values * sizeof(float));
	m->gradients = malloc(values * sizeof(float));
	m->moment1 = calloc(values, sizeof(float));
	m->moment2 = calloc(values, sizeof(float));
	m->units = malloc(values * sizeof(float));
	m->cosines = malloc((size_t) count * classes * sizeof(float));
	m->lengths = malloc((size_t) classes * sizeof(float));
	if (m->weights == NULL || m->gradients == NULL || m->moment1 == NULL || m->moment2 == NULL ||
		m->units == NULL || m->cosines == NULL || m->lengths == NULL)
		return fa_no_memory(error, values * sizeof(float));
	for (size_t i = 0; i < values; i++)
		m->weights[i] = (float) (fa_random_normal(&random) / sqrt(size));
	return FA_OK;
}

void
fa_margin_close(fa_margin *m)
{
	free(m->weights);
	free(m->gradients);
	free(m->moment1);
	free(m->moment2);
	free(m->units);
	free(m->cosines);
	free(m->lengths);
	memset(m, 0, sizeof(*m));
}

/* ---- Rows of unit length -------------------------------------------------------------- */

/* units[i] = rows[i] / lengths[i]; both [count, size] */
static void
normalise(const float *rows, int count, int size, float *units, float *lengths)
{
	for (int i = 0; i < count; i++)
	{
		const float *row = rows + (size_t) i * size;
		double squares = 1e-12;

		for (int k = 0; k < size; k++)
			squares += (double) row[k] * row[k];
		lengths[i] = (float) sqrt(squares);
		for (int k = 0; k < size; k++)
			units[(size_t) i * size + k] = (float) (row[k] / sqrt(squares));
	}
}

/* Gradients of unit rows become those of the rows: what is along a row goes. In place. */
static void
through_length(float *gradients, const float *units, const float *lengths, int count, int size)
{
	for (int i = 0; i < count; i++)
	{
		float *gradient = gradients + (size_t) i * size;
		const float *unit = units + (size_t) i * size;
		double along = 0;

		for (int k = 0; k < size; k++)
			along += (double) gradient[k] * unit[k];
		for (int k = 0; k < size; k++)
			gradient[k] = (float) ((gradient[k] - along * unit[k]) / lengths[i]);
	}
}

/* ---- The layer ------------------------------------------------------------------------- */

/* cosines[i, j] = of image i and class j; images [size, count]: a column each */
__attribute__((optimize("O3"))) static void
layer_forward(const fa_margin *m, const float *images, int count)
{
	for (int j = 0; j < m->classes; j++)
	{
		const float *unit = m->units + (size_t) j * m->size;
		float sums[count];

		memset(sums, 0, sizeof(sums));
		for (int k = 0; k < m->size; k++)
			for (int i = 0; i < count; i++)
				sums[i] += unit[k] * images[(size_t) k * count + i];
		for (int i = 0; i < count; i++)
			m->cosines[(size_t) i * m->classes + j] = sums[i];
	}
}

/* From slopes [count, classes] of the cosines to those of unit images and of unit classes. */
__attribute__((optimize("O3"))) static void
layer_backward(const fa_margin *m, const float *slopes, const float *images, int count,
			   float *of_images)
{
	memset(of_images, 0, (size_t) count * m->size * sizeof(float));
	memset(m->gradients, 0, (size_t) m->classes * m->size * sizeof(float));
	for (int j = 0; j < m->classes; j++)
	{
		const float *unit = m->units + (size_t) j * m->size;
		float *of_class = m->gradients + (size_t) j * m->size;

		for (int i = 0; i < count; i++)
		{
			const float *image = images + (size_t) i * m->size;
			float slope = slopes[(size_t) i * m->classes + j],
				  *of_image = of_images + (size_t) i * m->size;

			for (int k = 0; k < m->size; k++)
			{
				of_image[k] += slope * unit[k];
				of_class[k] += slope * image[k];
			}
		}
	}
}

/* ---- The margin ------------------------------------------------------------------------ */

/* The right person's cosine with the margin, and its slope by the cosine. */
static double
with_margin(double cosine, double margin, double *slope)
{
	double sine;

	cosine = fmin(fmax(cosine, -COSINE_LIMIT), COSINE_LIMIT);
	if (cosine <= -cos(margin)) /* theta >= pi - margin */
	{
		*slope = 1;
		return cosine - margin * sin(margin);
	}
	sine = sqrt(1 - cosine * cosine);
	*slope = cos(margin) + sin(margin) * cosine / sine;
	return cosine * cos(margin) - sine * sin(margin);
}

/* One image's cross entropy; its cosines [classes] become the slopes of the mean by them. */
static double
image_loss(const fa_margin *m, float *cosines, int person, int count, bool *right)
{
	double slope, own = with_margin(cosines[person], m->margin, &slope), largest = own;
	double mine, others = 0;

	*right = true;
	for (int j = 0; j < m->classes; j++)
		if (j != person)
		{
			*right &= cosines[j] < cosines[person];
			largest = fmax(largest, cosines[j]);
		}
	mine = exp(m->scale * (own - largest));
	for (int j = 0; j < m->classes; j++)
		if (j != person)
			others += exp(m->scale * (cosines[j] - largest));
	for (int j = 0; j < m->classes; j++)
		if (j != person)
			cosines[j] = (float) (m->scale / count * exp(m->scale * (cosines[j] - largest)) /
								  (mine + others));
	cosines[person] = (float) (-m->scale / count * others / (mine + others) * slope);
	return log(mine + others) - m->scale * (own - largest);
}

fa_status
fa_margin_loss(fa_margin *m, const float *embeddings, const int *persons, int count, double *loss,
			   float *gradients, int *right, fa_error *error)
{
	size_t values = (size_t) count * m->size;
	float *units = malloc(values * sizeof(float)), *columns = malloc(values * sizeof(float));
	float *lengths = malloc((size_t) count * sizeof(float));

	*loss = 0;
	*right = 0;
	if (units == NULL || columns == NULL || lengths == NULL)
	{
		free(units);
		free(columns);
		free(lengths);
		return fa_no_memory(error, values * sizeof(float));
	}
	normalise(embeddings, count, m->size, units, lengths);
	normalise(m->weights, m->classes, m->size, m->units, m->lengths);
	for (int i = 0; i < count; i++)
		for (int k = 0; k < m->size; k++)
			columns[(size_t) k * count + i] = units[(size_t) i * m->size + k];
	layer_forward(m, columns, count);
	for (int i = 0; i < count; i++)
	{
		bool nearest;

		*loss += image_loss(m, m->cosines + (size_t) i * m->classes, persons[i], count, &nearest) /
				 count;
		*right += nearest;
	}
	layer_backward(m, m->cosines, units, count, gradients);
	through_length(gradients, units, lengths, count, m->size);
	through_length(m->gradients, m->units, m->lengths, m->classes, m->size);
	free(units);
	free(columns);
	free(lengths);
	return FA_OK;
}

void
fa_margin_update(fa_margin *m, const fa_update *update)
{
	size_t values = (size_t) m->classes * m->size;
	double norm = sqrt(fa_sum_of_squares(m->gradients, values));
	float scale =
		update->clip_norm > 0 && norm > update->clip_norm ? (float) (update->clip_norm / norm) : 1;

	fa_optimize(update, update->learning_rate, true, scale, m->weights, m->moment1, m->moment2,
				m->gradients, values);
}

/* ---- Checkpoints ------------------------------------------------------------------------ */

#define STATES 3

static const char *const names[STATES] = {"weights", "moment1", "moment2"};

fa_status
fa_margin_write(const fa_margin *m, fa_weights *weights, fa_error *error)
{
	const float *const states[STATES] = {m->weights, m->moment1, m->moment2};
	const int shape[] = {m->classes, m->size};

	for (int i = 0; i < STATES; i++)
	{
		fa_tensor *to;

		FA_TRY(fa_weights_add(weights, names[i], 2, shape, &to, error));
		memcpy(to->values, states[i], to->count * sizeof(float));
	}
	return FA_OK;
}

fa_status
fa_margin_read(fa_margin *m, const fa_weights *weights, fa_error *error)
{
	float *const states[STATES] = {m->weights, m->moment1, m->moment2};

	for (int i = 0; i < STATES; i++)
	{
		const fa_tensor *from = fa_weights_find(weights, names[i]);

		if (from == NULL || from->rank != 2 || from->shape[0] != m->classes ||
			from->shape[1] != m->size)
			return fa_fail(error, FA_INVALID,
						   "the checkpoint is not of a margin softmax over these %d persons",
						   m->classes);
		memcpy(states[i], from->values, from->count * sizeof(float));
	}
	return FA_OK;
}
