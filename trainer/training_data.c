/*
 * training_data.c
 *		What a training trains and validates on; see training.h. All is read, and labels are as
 *		they will stay, before the loader's threads start.
 */
#include "training.h"

#include "head_labels.h"
#include "source.h"

#include <string.h>

static fa_status
read_faces(fa_training *t, fa_error *error)
{
	const fa_train_options *o = &t->o;
	fa_training_source source = {
		.data = o->data,
		.labels = o->labels,
		.validation = o->validation,
		.validation_labels = o->validation_labels,
		.output = o->output,
		.crops = {.weights = o->detector,
				  .precision = (fa_precision) o->precision,
				  .size = o->size},
		.threads = o->threads + o->workers,
		.seed = (uint64_t) o->seed,
		.resume = o->resume,
		.interrupt = &fa_on_signal,
	};

	memcpy(source.crops.landmark_template, o->landmark_template.values,
		   sizeof(source.crops.landmark_template));
	FA_TRY(fa_source_read(&o->source, &source, &t->faces, &t->validation, error));
	return fa_heads_set(&t->faces.sets, error);
}

/*
 * What trains: the heads that weigh something and that the data have labels for. A head that weighs
 * nothing has none; without negatives there is nothing to tell faces from.
 */
static fa_status
choose_heads(fa_training *t, fa_error *error)
{
	static const int metrics[FA_HEADS] = {FA_METRIC_AGE, FA_METRIC_GENDER, FA_METRIC_RACE, -1};
	bool any = false, judged = false;
	char names[FA_HEADS * (FA_NAME_LENGTH + 2)] = "";

	for (int h = 0; h < FA_HEADS; h++)
	{
		if (t->o.weights.values[h] == 0)
			fa_forget_labels(&t->faces, h);
		t->trained[h] = h == FA_HEAD_FACE ? t->negatives.count > 0 && t->o.weights.values[h] > 0
										  : fa_has_labels(&t->faces, h);
		if (!t->trained[h])
		{
			fa_forget_labels(&t->validation, h);
			t->losses[h].weight = t->judging[h].weight = 0;
			continue;
		}
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%.63s", any ? ", " : "",
				 fa_heads[h].name);
		any = true;
		if (t->o.metric == FA_METRIC_TOTAL || t->o.metric == metrics[h])
			judged |= fa_has_labels(&t->validation, h);
	}
	if (!any)
		return fa_fail(error, FA_INVALID, "there is no label to train a head by");
	if (!judged)
		return fa_fail(error, FA_INVALID,
					   "no validation image has the label that --metric chooses by");
	fa_watch_say(&t->watch, "heads of the model: %s%s", names,
				 t->trained[FA_HEAD_FACE] ? "" : " (to tell faces from others takes --negatives)");
	return FA_OK;
}

/* What labels weigh. Faces are not balanced with negatives: --negative-share says how many of
 * these there are. */
static fa_status
balance(fa_training *t, fa_error *error)
{
	for (int h = 0; h < FA_HEADS && t->o.balance > 0; h++)
	{
		if (h == FA_HEAD_FACE)
			continue;
		FA_TRY(fa_weigh_labels(&t->faces, h, t->o.balance, &t->class_weights[h], error));
		t->losses[h].class_weights = t->class_weights[h];
	}
	return FA_OK;
}

fa_status
fa_training_read(fa_training *t, fa_error *error)
{
	const fa_train_options *o = &t->o;
	const double(*landmarks)[2] = (const double(*)[2]) t->loading.landmark_template;

	t->loading = (fa_loader_options){
		.faces = &t->faces,
		.negatives = &t->negatives,
		.shuffle = true,
		.negative_share = o->negative_share,
		.batch = o->batch,
		.size = o->size,
		.workers = o->workers,
		.augment = o->augment,
		.seed = (uint64_t) o->seed,
	};
	memcpy(t->loading.landmark_template, o->landmark_template.values,
		   sizeof(t->loading.landmark_template));
	t->validating = t->loading;
	t->validating.faces = &t->validation;
	t->validating.negatives = &t->negative_validation;
	FA_TRY(read_faces(t, error));
	FA_TRY(fa_negatives_read(&t->negatives, o->negatives, o->detector, o->threads,
							 (fa_precision) o->precision, landmarks, 0.3f, 4, (uint64_t) o->seed,
							 error));
	/* to validate on: just what would be reported */
	FA_TRY(fa_negatives_read(&t->negative_validation, o->negative_validation, o->detector,
							 o->threads, (fa_precision) o->precision, landmarks, 0.5f, 0,
							 (uint64_t) o->seed, error));
	if (o->task == FA_TASK_EMBED)
		return FA_OK;
	FA_TRY(choose_heads(t, error));
	return balance(t, error);
}
