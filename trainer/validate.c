/*
 * validate.c
 *		Validation on ready chips; see validate.h.
 */
#include "validate.h"

#include "../src/face/attributes.h"
#include "../src/nn/fold.h"
#include "loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

fa_status
fa_attribute_net(fa_net *net, int hidden, bool training, float dropout, fa_error *error)
{
	return fa_net_mobilenet_v1(net, fa_heads, FA_HEADS, hidden, training, training ? dropout : 0,
							   error);
}

void
fa_logits_free(fa_logits *logits)
{
	for (int h = 0; h < FA_HEADS; h++)
	{
		free(logits->logits[h]);
		free(logits->targets[h]);
	}
	memset(logits, 0, sizeof(*logits));
}

static fa_status
allocate(fa_logits *l, int count, fa_error *error)
{
	for (int h = 0; h < FA_HEADS; h++)
	{
		l->logits[h] = malloc((size_t) count * fa_heads[h].classes * sizeof(float));
		l->targets[h] = malloc((size_t) count * sizeof(float));
		if (l->logits[h] == NULL || l->targets[h] == NULL)
			return fa_no_memory(error, (size_t) count * sizeof(float));
	}
	return FA_OK;
}

static fa_status
run_all(const fa_engine_interface *interface, fa_model *model, fa_loader *loader, fa_logits *l,
		fa_error *error)
{
	const fa_loaded *loaded;
	int size = 0;

	for (;;)
	{
		float *outputs[1 + FA_HEADS] = {NULL};
		fa_batch batch;

		FA_TRY(fa_loader_next(loader, &loaded, error));
		if (loaded == NULL)
			return FA_OK;
		size = loaded->size;
		batch = (fa_batch){loaded->count, size, size, loaded->pixels};
		for (int h = 0; h < FA_HEADS; h++)
		{
			outputs[1 + h] = l->logits[h] + (size_t) l->count * fa_heads[h].classes;
			memcpy(l->targets[h] + l->count, loaded->targets[h], loaded->count * sizeof(float));
		}
		FA_TRY(interface->run(model, &batch, outputs, NULL, error));
		l->count += loaded->count;
	}
}

fa_status
fa_logits_collect(const fa_engine_interface *interface, fa_engine *engine, const fa_weights *folded,
				  int hidden, fa_precision precision, const fa_loader_options *options,
				  fa_logits *logits, fa_error *error)
{
	fa_loader_options o = *options;
	fa_net net;
	fa_model *model = NULL;
	fa_loader *loader = NULL;
	fa_status status;

	memset(logits, 0, sizeof(*logits));
	o.shuffle = false;
	o.batch = 16;
	o.augment = fa_augment_none;
	FA_TRY(fa_attribute_net(&net, hidden, false, 0, error));
	status =
		allocate(logits, o.faces->count + (o.negatives == NULL ? 0 : o.negatives->count), error);
	if (status == FA_OK)
		status = interface->load(engine, &net, folded, precision, &model, error);
	if (status == FA_OK)
		status = fa_loader_open(&o, 0, &loader, error);
	if (status == FA_OK)
		status = run_all(interface, model, loader, logits, error);
	fa_loader_close(loader);
	if (model != NULL)
		interface->unload(model);
	fa_net_free(&net);
	if (status != FA_OK)
		fa_logits_free(logits);
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

/* Per cent of the samples labelled `only` (-1: labelled at all) whose best class is their label. */
static double
accuracy(const fa_logits *l, int head, int only)
{
	int n = fa_heads[head].classes, right = 0, labelled = 0;

	for (int i = 0; i < l->count; i++)
	{
		int label = (int) l->targets[head][i];

		if (label < 0 || (only >= 0 && label != only))
			continue;
		labelled++;
		right += best_class(l->logits[head] + (size_t) i * n, n) == label;
	}
	return labelled > 0 ? 100.0 * right / labelled : NAN;
}

static double
age_error(const fa_logits *l)
{
	double sum = 0;
	int labelled = 0;

	for (int i = 0; i < l->count; i++)
	{
		float p[FA_AGE_CLASSES];

		if (l->targets[FA_HEAD_AGE][i] < 0)
			continue;
		fa_calibrated(l->logits[FA_HEAD_AGE] + (size_t) i * FA_AGE_CLASSES, FA_AGE_CLASSES, 1, p);
		sum += fabs(fa_expected_class(p, FA_AGE_CLASSES) - l->targets[FA_HEAD_AGE][i]);
		labelled++;
	}
	return labelled > 0 ? sum / labelled : NAN;
}

fa_status
fa_validate(const fa_engine_interface *interface, fa_engine *engine, const fa_weights *weights,
			int hidden, fa_precision precision, const fa_loader_options *options, fa_scores *scores,
			fa_error *error)
{
	fa_net training, use = {0};
	fa_weights folded = {0};
	fa_logits logits = {0};
	fa_status status;

	memset(scores, 0, sizeof(*scores));
	FA_TRY(fa_attribute_net(&training, hidden, true, 0, error));
	status = fa_attribute_net(&use, hidden, false, 0, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, weights, &use, &folded, error);
	if (status == FA_OK)
		status = fa_logits_collect(interface, engine, &folded, hidden, precision, options, &logits,
								   error);
	if (status == FA_OK)
	{
		scores->faces = options->faces->count;
		scores->negatives = logits.count - options->faces->count;
		scores->age_error = age_error(&logits);
		scores->gender = accuracy(&logits, FA_HEAD_GENDER, -1);
		scores->race = accuracy(&logits, FA_HEAD_RACE, -1);
		scores->face = accuracy(&logits, FA_HEAD_FACE, 1);
		scores->reject = accuracy(&logits, FA_HEAD_FACE, 0);
		/* a year, five points of gender and ten of race weigh the same */
		scores->total = scores->age_error + (100 - scores->gender) / 5 + (100 - scores->race) / 10;
	}
	fa_logits_free(&logits);
	fa_weights_free(&folded);
	fa_net_free(&training);
	fa_net_free(&use);
	return status;
}
