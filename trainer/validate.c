/*
 * validate.c
 *		Validation on ready chips; see validate.h.
 */
#include "validate.h"

#include "../src/nn/fold.h"
#include "../src/nn/networks.h"
#include "persons.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

fa_status
fa_attribute_net(fa_net *net, const char *network, int hidden, bool training, float dropout,
				 fa_error *error)
{
	return fa_net_by_name(network, net, fa_heads, FA_HEADS, hidden, training,
						  training ? dropout : 0, error);
}

fa_status
fa_embedding_net(fa_net *net, const char *network, bool training, int *size, fa_error *error)
{
	FA_TRY(fa_net_by_name(network, net, NULL, 0, 0, training, 0, error));
	*size = net->ops[net->outputs[0].op].channels;
	return FA_OK;
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
				  const char *network, int hidden, fa_precision precision,
				  const fa_loader_options *options, fa_logits *logits, fa_error *error)
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
	FA_TRY(fa_attribute_net(&net, network, hidden, false, 0, error));
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

/* Per cent of the samples labelled `only` whose best class is their label. */
static double
recall(const fa_logits *l, int head, int only)
{
	int n = fa_heads[head].classes, right = 0, labelled = 0;

	for (int i = 0; i < l->count; i++)
		if ((int) l->targets[head][i] == only)
		{
			labelled++;
			right += fa_best_class(l->logits[head] + (size_t) i * n, n) == only;
		}
	return labelled > 0 ? 100.0 * right / labelled : NAN;
}

static fa_status
judge(const fa_logits *l, const fa_loss_options losses[FA_HEADS], fa_scores *scores,
	  fa_error *error)
{
	size_t bytes = (size_t) l->count * FA_AGE_CLASSES * sizeof(float);
	float *gradients = malloc(bytes);
	fa_tally tally = {.labels = {0}};

	if (gradients == NULL)
		return fa_no_memory(error, bytes);
	for (int h = 0; h < FA_HEADS; h++)
	{
		double loss = fa_head_loss(h, &losses[h], l->logits[h], l->targets[h], l->count, gradients);

		fa_tally_add(&tally, h, loss, l->logits[h], l->targets[h], l->count);
	}
	free(gradients);
	scores->means = fa_tally_means(&tally, losses);
	scores->face = recall(l, FA_HEAD_FACE, 1);
	scores->reject = recall(l, FA_HEAD_FACE, 0);
	return FA_OK;
}

fa_status
fa_validate(const fa_engine_interface *interface, fa_engine *engine, const fa_weights *weights,
			const char *network, int hidden, fa_precision precision,
			const fa_loader_options *options, const fa_loss_options losses[FA_HEADS],
			fa_scores *scores, fa_logits *logits, fa_error *error)
{
	fa_net training, use = {0};
	fa_weights folded = {0};
	fa_logits own = {0};
	fa_status status;

	memset(scores, 0, sizeof(*scores));
	FA_TRY(fa_attribute_net(&training, network, hidden, true, 0, error));
	status = fa_attribute_net(&use, network, hidden, false, 0, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, weights, &use, &folded, error);
	if (status == FA_OK)
		status = fa_logits_collect(interface, engine, &folded, network, hidden, precision, options,
								   &own, error);
	if (status == FA_OK)
		status = judge(&own, losses, scores, error);
	if (status == FA_OK && logits != NULL)
	{
		*logits = own;
		own = (fa_logits){0};
	}
	fa_logits_free(&own);
	fa_weights_free(&folded);
	fa_net_free(&training);
	fa_net_free(&use);
	return status;
}

/* All embeddings, in the order of the faces: [count, size]. */
static fa_status
collect_embeddings(const fa_engine_interface *interface, fa_model *model, fa_loader *loader,
				   int size, float *embeddings, fa_error *error)
{
	const fa_loaded *loaded;

	for (;;)
	{
		fa_batch batch;

		FA_TRY(fa_loader_next(loader, &loaded, error));
		if (loaded == NULL)
			return FA_OK;
		batch = (fa_batch){loaded->count, loaded->size, loaded->size, loaded->pixels};
		FA_TRY(interface->run(model, &batch, (float *const[]){embeddings}, NULL, error));
		embeddings += (size_t) loaded->count * size;
	}
}

static fa_status
verify(const fa_dataset *faces, const float *embeddings, int size, uint64_t seed, fa_scores *scores,
	   fa_error *error)
{
	int *persons = malloc((size_t) faces->count * sizeof(int));
	fa_person_figures figures;
	fa_status status;

	if (persons == NULL)
		return fa_no_memory(error, (size_t) faces->count * sizeof(int));
	for (int i = 0; i < faces->count; i++)
		persons[i] = faces->samples[i].label.person;
	scores->means = fa_tally_means(&(fa_tally){.labels = {0}}, NULL);
	scores->face = scores->reject = NAN;
	status = fa_verify_persons(embeddings, persons, faces->count, size, seed, &figures, error);
	scores->means.score[FA_PERSON] = figures.accuracy;
	free(persons);
	return status;
}

fa_status
fa_validate_embedding(const fa_engine_interface *interface, fa_engine *engine,
					  const fa_weights *weights, const char *network, fa_precision precision,
					  const fa_loader_options *options, fa_scores *scores, fa_error *error)
{
	fa_loader_options o = *options;
	fa_net training, use = {0};
	fa_weights folded = {0};
	fa_model *model = NULL;
	fa_loader *loader = NULL;
	float *embeddings = NULL;
	int size;
	fa_status status;

	o.shuffle = false;
	o.batch = 16;
	o.augment = fa_augment_none;
	o.negatives = NULL;
	FA_TRY(fa_embedding_net(&training, network, true, &size, error));
	status = fa_embedding_net(&use, network, false, &size, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, weights, &use, &folded, error);
	if (status == FA_OK)
		status = interface->load(engine, &use, &folded, precision, &model, error);
	if (status == FA_OK)
		status = fa_loader_open(&o, 0, &loader, error);
	if (status == FA_OK)
	{
		embeddings = malloc((size_t) o.faces->count * size * sizeof(float));
		status = embeddings == NULL
					 ? fa_no_memory(error, (size_t) o.faces->count * size * sizeof(float))
					 : collect_embeddings(interface, model, loader, size, embeddings, error);
	}
	if (status == FA_OK)
		status = verify(o.faces, embeddings, size, o.seed, scores, error);
	free(embeddings);
	fa_loader_close(loader);
	if (model != NULL)
		interface->unload(model);
	fa_weights_free(&folded);
	fa_net_free(&training);
	fa_net_free(&use);
	return status;
}

double
fa_metric_value(const fa_scores *scores, fa_metric metric)
{
	const double *score = scores->means.score;
	double age = score[FA_HEAD_AGE];
	double gender = (100 - score[FA_HEAD_GENDER]) / 5, race = (100 - score[FA_HEAD_RACE]) / 10;

	switch (metric)
	{
		case FA_METRIC_AGE:
			return age;
		case FA_METRIC_GENDER:
			return gender;
		case FA_METRIC_RACE:
			return race;
		case FA_METRIC_PERSON:
			return 100 - score[FA_PERSON];
		case FA_METRIC_TOTAL:
			break;
	}
	if (isnan(age) && isnan(gender) && isnan(race))
		return NAN;
	return (isnan(age) ? 0 : age) + (isnan(gender) ? 0 : gender) + (isnan(race) ? 0 : race);
}
