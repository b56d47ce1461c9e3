/*
 * head_labels.c
 *		Labels by head; see head_labels.h.
 */
#include "head_labels.h"

#include "../src/face/face.h"
#include "balance.h"

#include <math.h>
#include <stdlib.h>

/* A sample's class, or FA_NO_LABEL. */
static int
class_of(const fa_sample *sample, int head)
{
	switch (head)
	{
		case FA_HEAD_AGE:
			return (int) fminf(fa_label_age(&sample->label), FA_AGE_CLASSES - 1);
		case FA_HEAD_GENDER:
			return sample->label.gender;
		case FA_HEAD_RACE:
			return sample->label.race;
		default:
			return FA_NO_LABEL;
	}
}

bool
fa_has_labels(const fa_dataset *dataset, int head)
{
	for (int i = 0; i < dataset->count; i++)
		if (class_of(&dataset->samples[i], head) >= 0)
			return true;
	return false;
}

void
fa_forget_labels(fa_dataset *dataset, int head)
{
	for (int i = 0; i < dataset->count; i++)
	{
		fa_label *label = &dataset->samples[i].label;

		if (head == FA_HEAD_AGE)
			label->age_low = label->age_high = FA_NO_LABEL;
		else if (head == FA_HEAD_GENDER)
			label->gender = FA_NO_LABEL;
		else if (head == FA_HEAD_RACE)
			label->race = FA_NO_LABEL;
	}
}

fa_status
fa_weigh_labels(const fa_dataset *dataset, int head, double exponent, float **weights,
				fa_error *error)
{
	double counts[FA_MAX_CLASSES] = {0};
	size_t bytes = (size_t) fa_heads[head].classes * sizeof(float);

	for (int i = 0; i < dataset->count; i++)
		if (class_of(&dataset->samples[i], head) >= 0)
			counts[class_of(&dataset->samples[i], head)]++;
	*weights = malloc(bytes);
	if (*weights == NULL)
		return fa_no_memory(error, bytes);
	return fa_balance(counts, fa_heads[head].classes, exponent, head == FA_HEAD_AGE ? 2 : 0,
					  *weights, error);
}
