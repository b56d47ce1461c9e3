/*
 * loss.c
 *		Softmax cross-entropy with soft labels, and the error of the expected age;
 *		see loss.h.
 */
#include "loss.h"

#include <math.h>
#include <string.h>

#define MAX_CLASSES 256

static void
softmax(const float *logits, int n, double *probabilities)
{
	double highest = logits[0], total = 0;

	for (int i = 1; i < n; i++)
		highest = logits[i] > highest ? logits[i] : highest;
	for (int i = 0; i < n; i++)
		total += probabilities[i] = exp(logits[i] - highest);
	for (int i = 0; i < n; i++)
		probabilities[i] /= total;
}

/* A normal distribution around the age, cut at the ends of the classes. */
static void
age_target(double age, double sigma, int n, double *target)
{
	double total = 0;

	age = age > n - 1 ? n - 1 : age;
	for (int i = 0; i < n; i++)
	{
		double z = (i - age) / sigma;

		total += target[i] = exp(-0.5 * z * z);
	}
	for (int i = 0; i < n; i++)
		target[i] /= total;
}

static void
class_target(int label, double smoothing, int n, double *target)
{
	for (int i = 0; i < n; i++)
		target[i] = smoothing / n + (i == label ? 1 - smoothing : 0);
}

/* |d| from one year on, a parabola below (Huber 1964); *slope is its derivative. */
static double
smooth_error(double d, double *slope)
{
	if (fabs(d) < 1)
	{
		*slope = d;
		return 0.5 * d * d;
	}
	*slope = d > 0 ? 1 : -1;
	return fabs(d) - 0.5;
}

static bool
has_label(const fa_labels *label, int head)
{
	switch (head)
	{
		case FA_HEAD_AGE:
			return label->age >= 0;
		case FA_HEAD_GENDER:
			return label->gender >= 0;
		case FA_HEAD_RACE:
			return label->race >= 0;
		default:
			return label->face >= 0;
	}
}

/* One sample's loss of one head; gradient receives its derivative. */
static double
sample_loss(const fa_labels *label, int head, const float *logits, int n,
			const fa_loss_options *options, double *gradient)
{
	double p[MAX_CLASSES], target[MAX_CLASSES], loss = 0;

	softmax(logits, n, p);
	switch (head)
	{
		case FA_HEAD_AGE:
			age_target(label->age, options->age_sigma, n, target);
			break;
		case FA_HEAD_GENDER:
			class_target(label->gender, options->smoothing, n, target);
			break;
		case FA_HEAD_RACE:
			class_target(label->race, options->smoothing, n, target);
			break;
		default:
			class_target(label->face, 0, n, target);
	}
	for (int i = 0; i < n; i++)
	{
		loss -= target[i] * log(fmax(p[i], 1e-30));
		gradient[i] = p[i] - target[i];
	}
	if (head == FA_HEAD_AGE && options->age_error > 0)
	{
		double expected = 0, slope, age = label->age > n - 1 ? n - 1 : label->age;

		for (int i = 0; i < n; i++)
			expected += i * p[i];
		loss += options->age_error * smooth_error(expected - age, &slope);
		for (int i = 0; i < n; i++)
			gradient[i] += options->age_error * slope * p[i] * (i - expected);
	}
	return loss;
}

float
fa_loss(const fa_labels *labels, int count, const float *const *logits, const int *classes,
		const fa_loss_options *options, float *const *gradients, float *losses)
{
	double sum = 0;

	for (int h = 0; h < FA_HEADS; h++)
	{
		double total = 0, gradient[MAX_CLASSES];
		int n = classes[h], labelled = 0;

		memset(gradients[h], 0, (size_t) count * n * sizeof(float));
		for (int i = 0; i < count; i++)
			labelled += has_label(&labels[i], h);
		for (int i = 0; i < count && labelled > 0; i++)
		{
			if (!has_label(&labels[i], h))
				continue;
			total += sample_loss(&labels[i], h, logits[h] + (size_t) i * n, n, options, gradient);
			for (int c = 0; c < n; c++)
				gradients[h][(size_t) i * n + c] =
					(float) (gradient[c] * options->weights[h] / labelled);
		}
		losses[h] = labelled > 0 ? (float) (total / labelled) : 0.0f;
		sum += options->weights[h] * losses[h];
	}
	return (float) sum;
}
