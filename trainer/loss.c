/*
 * loss.c
 *		Softmax cross-entropy for categories and for ordered classes; see loss.h.
 */
#include "loss.h"

#include <math.h>
#include <string.h>

#define MAX_CLASSES 1024

float
fa_expected_class(const float *probabilities, int classes)
{
	double sum = 0;

	for (int i = 0; i < classes; i++)
		sum += (double) i * probabilities[i];
	return (float) sum;
}

/*
 * Cross-entropy of softmax(logits) against target, from the logits so that no
 * logarithm of zero is taken; gradients become p - target, and p is left in
 * probabilities.
 */
static double
cross_entropy(const float *logits, int classes, const float *target, float *probabilities,
			  float *gradients)
{
	float maximum = logits[0];
	double sum = 0, loss = 0;

	for (int i = 1; i < classes; i++)
		maximum = fmaxf(maximum, logits[i]);
	for (int i = 0; i < classes; i++)
		sum += exp((double) logits[i] - maximum);
	for (int i = 0; i < classes; i++)
	{
		double log_p = (double) logits[i] - maximum - log(sum);

		probabilities[i] = (float) exp(log_p);
		loss -= target[i] * log_p;
		gradients[i] = probabilities[i] - target[i];
	}
	return loss;
}

static float
sample_weight(const fa_loss_options *options, float value)
{
	return options->class_weights == NULL ? 1 : options->class_weights[(int) value];
}

double
fa_loss_categories(const fa_loss_options *options, const float *logits, int classes,
				   const float *targets, int count, float *gradients)
{
	float target[MAX_CLASSES], probabilities[MAX_CLASSES];
	double sum = 0;

	memset(gradients, 0, sizeof(float) * count * classes);
	for (int n = 0; n < count; n++, logits += classes, gradients += classes)
	{
		float weight, scale;

		if (targets[n] < 0)
			continue;
		weight = sample_weight(options, targets[n]);
		scale = weight * options->weight / count;
		for (int i = 0; i < classes; i++)
			target[i] = options->smoothing / classes;
		target[(int) targets[n]] += 1 - options->smoothing;
		sum += weight * cross_entropy(logits, classes, target, probabilities, gradients);
		for (int i = 0; i < classes; i++)
			gradients[i] *= scale;
	}
	return sum / count;
}

/*
 * A normal distribution at the classes, summing to 1. It narrows towards the
 * first and the last class, which would cut it and so shift its mean.
 */
static void
soft_label(float value, float sigma, int classes, float *target)
{
	double sum = 0;

	sigma = fminf(sigma, 0.5f + fminf(value, classes - 1 - value) / 5);
	for (int i = 0; i < classes; i++)
	{
		double distance = i - value;

		target[i] = (float) exp(-distance * distance / (2 * sigma * sigma));
		sum += target[i];
	}
	for (int i = 0; i < classes; i++)
		target[i] = (float) (target[i] / sum);
}

double
fa_loss_ordinal(const fa_loss_options *options, const float *logits, int classes,
				const float *targets, int count, float *gradients)
{
	float target[MAX_CLASSES], probabilities[MAX_CLASSES];
	double sum = 0;

	memset(gradients, 0, sizeof(float) * count * classes);
	for (int n = 0; n < count; n++, logits += classes, gradients += classes)
	{
		float value = fminf(targets[n], classes - 1), expected, distance, slope, weight, scale;

		if (targets[n] < 0)
			continue;
		weight = sample_weight(options, value);
		scale = weight * options->weight / count;
		soft_label(value, options->sigma, classes, target);
		sum += weight * cross_entropy(logits, classes, target, probabilities, gradients);
		expected = fa_expected_class(probabilities, classes);
		distance = expected - value;
		slope = fmaxf(-1, fminf(1, distance));
		sum += weight * options->expectation *
			   (fabsf(distance) < 1 ? distance * distance / 2 : fabsf(distance) - 0.5);
		/* d expected / d logit i = p_i (i - expected) */
		for (int i = 0; i < classes; i++)
			gradients[i] = scale * (gradients[i] + options->expectation * slope * probabilities[i] *
													   (i - expected));
	}
	return sum / count;
}
