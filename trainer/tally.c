/*
 * tally.c
 *		Sums and means of losses and scores; see tally.h.
 */
#include "tally.h"

#include "../src/face/attributes.h"

#include <math.h>

const char *
fa_tally_name(int tally)
{
	return tally == FA_PERSON ? "person" : fa_heads[tally].name;
}

double
fa_head_loss(int head, const fa_loss_options *options, const float *logits, const float *targets,
			 int count, float *gradients)
{
	return (head == FA_HEAD_AGE ? fa_loss_ordinal : fa_loss_categories)(
		options, logits, fa_heads[head].classes, targets, count, gradients);
}

int
fa_best_class(const float *logits, int classes)
{
	int best = 0;

	for (int i = 1; i < classes; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

float
fa_expected_age(const float *logits)
{
	float p[FA_AGE_CLASSES];

	fa_calibrated(logits, FA_AGE_CLASSES, 1, p);
	return fa_expected_class(p, FA_AGE_CLASSES);
}

void
fa_tally_add(fa_tally *tally, int head, double loss, const float *logits, const float *targets,
			 int count)
{
	int classes = fa_heads[head].classes;

	tally->loss[head] += loss * count;
	for (int i = 0; i < count; i++, logits += classes)
	{
		if (targets[i] < 0)
			continue;
		tally->labels[head]++;
		tally->score[head] += head == FA_HEAD_AGE
								  ? fabs(fa_expected_age(logits) - targets[i])
								  : fa_best_class(logits, classes) == (int) targets[i];
	}
}

fa_means
fa_tally_means(const fa_tally *tally, const fa_loss_options losses[FA_HEADS])
{
	fa_means means = {.total = 0};
	bool any = false;

	for (int h = 0; h < FA_TALLIES; h++)
	{
		double labels = (double) tally->labels[h];

		means.loss[h] = labels > 0 ? tally->loss[h] / labels : NAN;
		means.score[h] = labels > 0 ? tally->score[h] / labels * (h == FA_HEAD_AGE ? 1 : 100) : NAN;
		if (labels > 0)
			means.total += (h == FA_PERSON ? 1 : losses[h].weight) * means.loss[h];
		any |= labels > 0;
	}
	if (!any)
		means.total = NAN;
	return means;
}
