/*
 * loss.h
 *		Losses of the heads and their gradients with respect to the logits. Missing
 *		labels (negative targets) add nothing. Sums are divided by the whole batch,
 *		labelled or not, so that every label weighs the same.
 */
#ifndef FA_LOSS_H
#define FA_LOSS_H

typedef struct fa_loss_options
{
	float weight;
	float smoothing; /* categories: share of the target spread over all classes */
	/*
	 * Ordinals: the target is a normal distribution of this standard deviation (above 0; less near
	 * the ends of the scale) around the value, and `expectation` times the smooth L1 distance
	 * (Girshick 2015) of the expected class is added.
	 */
	float sigma, expectation;
	/* What a sample's label makes it weigh: [classes], or NULL: 1. */
	const float *class_weights;
} fa_loss_options;

extern float fa_expected_class(const float *probabilities, int classes);

/*
 * Both: logits and gradients are [count, classes]; gradients receive
 * weight * dLoss / dlogits. Returns the loss without the weight.
 */
extern double fa_loss_categories(const fa_loss_options *options, const float *logits, int classes,
								 const float *targets, int count, float *gradients);
/* Targets beyond the last class are taken for it. */
extern double fa_loss_ordinal(const fa_loss_options *options, const float *logits, int classes,
							  const float *targets, int count, float *gradients);

#endif
