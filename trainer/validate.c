/*
 * validate.c
 *		Validation on ready chips; see validate.h.
 */
#include "validate.h"

#include "../src/nn/fold.h"
#include "../src/vision/warp.h"
#include "loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 16

/* The centre 1 / zoom of an image, scaled to the network's input. */
static fa_status
load_crop(const fa_sample *sample, double zoom, int size, uint8_t *pixels, fa_error *error)
{
	fa_image crop = {size, size, 3 * (size_t) size, pixels}, chip;
	double scale;
	fa_status status;

	FA_TRY(fa_decode_sample(sample, &chip, error));
	scale = chip.width / (zoom * size);
	if (zoom == 1.0)
		status = fa_letterbox(&chip, size, size, &crop, 0, error);
	else
		status = fa_warp(&chip,
						 (fa_affine){scale, 0, (chip.width - scale * size) / 2, 0, scale,
									 (chip.height - scale * size) / 2},
						 &crop, error);
	fa_image_free(&chip);
	return status;
}

fa_status
fa_all_logits(const fa_engine_interface *interface, fa_engine *engine, const fa_net *net,
			  const fa_weights *folded, fa_precision precision, const fa_dataset *images,
			  double zoom, int size, float **logits, fa_error *error)
{
	fa_model *model;
	size_t crop_bytes = 3 * (size_t) size * size;
	uint8_t *pixels = malloc(BATCH * crop_bytes);
	fa_status status = interface->load(engine, net, folded, precision, &model, error);

	memset(logits, 0, FA_HEADS * sizeof(float *));
	if (status == FA_OK && pixels == NULL)
		status = fa_no_memory(error, BATCH * crop_bytes);
	for (int h = 0; h < FA_HEADS && status == FA_OK; h++)
	{
		size_t values = (size_t) (images->count + BATCH) * fa_heads[h].classes;

		logits[h] = malloc(values * sizeof(float));
		if (logits[h] == NULL)
			status = fa_no_memory(error, values * sizeof(float));
	}
	for (int first = 0; first < images->count && status == FA_OK; first += BATCH)
	{
		fa_batch batch = {BATCH, size, size, pixels};
		float *outputs[1 + FA_HEADS] = {NULL};

		for (int i = 0; i < BATCH && status == FA_OK; i++)
		{
			int k = first + i < images->count ? first + i : images->count - 1;

			status = load_crop(&images->samples[k], zoom, size, pixels + i * crop_bytes, error);
		}
		for (int h = 0; h < FA_HEADS; h++)
			outputs[1 + h] = logits[h] + (size_t) first * fa_heads[h].classes;
		if (status == FA_OK)
			status = interface->run(model, &batch, outputs, NULL, error);
	}
	if (model != NULL)
		interface->unload(model);
	free(pixels);
	if (status != FA_OK)
		for (int h = 0; h < FA_HEADS; h++)
		{
			free(logits[h]);
			logits[h] = NULL;
		}
	return status;
}

static int
best_class(const float *logits, int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static double
percent(int right, int of)
{
	return of > 0 ? 100.0 * right / of : NAN;
}

static void
score(const fa_dataset *images, float *const *logits, fa_scores *s)
{
	int ages = 0, gender = 0, genders = 0, race = 0, races = 0, face = 0;
	double error = 0;

	for (int i = 0; i < images->count; i++)
	{
		const fa_sample *sample = &images->samples[i];
		float p[256];

		if (sample->age >= 0)
		{
			fa_softmax(logits[FA_HEAD_AGE] + (size_t) i * fa_heads[FA_HEAD_AGE].classes,
					   fa_heads[FA_HEAD_AGE].classes, 1, p);
			error += fabs(fa_expected_class(p, fa_heads[FA_HEAD_AGE].classes) - sample->age);
			ages++;
		}
		if (sample->gender >= 0)
		{
			gender += best_class(logits[FA_HEAD_GENDER] + (size_t) i * FA_GENDERS, FA_GENDERS) ==
					  sample->gender;
			genders++;
		}
		if (sample->race >= 0)
		{
			race +=
				best_class(logits[FA_HEAD_RACE] + (size_t) i * FA_RACES, FA_RACES) == sample->race;
			races++;
		}
		face += best_class(logits[FA_HEAD_FACE] + 2 * (size_t) i, 2) == 1;
	}
	s->count = images->count;
	s->age_error = ages > 0 ? error / ages : NAN;
	s->gender = percent(gender, genders);
	s->race = percent(race, races);
	s->face = percent(face, images->count);
}

fa_status
fa_validate(const fa_engine_interface *interface, fa_engine *engine, const fa_weights *weights,
			int hidden, fa_precision precision, const fa_dataset *images,
			const fa_dataset *negatives, double negative_zoom, int size, fa_scores *scores,
			fa_error *error)
{
	fa_net training, use;
	fa_weights folded = {0};
	float *logits[FA_HEADS];
	fa_status status;

	memset(scores, 0, sizeof(*scores));
	FA_TRY(fa_attribute_net(&training, hidden, true, 0, error));
	status = fa_attribute_net(&use, hidden, false, 0, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, weights, &use, &folded, error);
	if (status == FA_OK)
		status = fa_all_logits(interface, engine, &use, &folded, precision, images, 1.0, size,
							   logits, error);
	if (status == FA_OK)
	{
		score(images, logits, scores);
		for (int h = 0; h < FA_HEADS; h++)
			free(logits[h]);
	}
	if (status == FA_OK && negatives != NULL)
	{
		int rejected = 0;

		status = fa_all_logits(interface, engine, &use, &folded, precision, negatives,
							   negative_zoom, size, logits, error);
		for (int i = 0; i < negatives->count && status == FA_OK; i++)
			rejected += best_class(logits[FA_HEAD_FACE] + 2 * (size_t) i, 2) == 0;
		scores->face = (scores->face + percent(rejected, negatives->count)) / 2;
		for (int h = 0; h < FA_HEADS && status == FA_OK; h++)
			free(logits[h]);
	}
	/* a year, five points of gender and ten of race weigh the same */
	scores->total = scores->age_error + (100 - scores->gender) / 5 + (100 - scores->race) / 10;
	fa_weights_free(&folded);
	fa_net_free(&training);
	fa_net_free(&use);
	return status;
}
