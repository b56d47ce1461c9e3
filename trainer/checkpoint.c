/*
 * checkpoint.c
 *		Training states as safetensors, tensor names prefixed by the state; see
 *		checkpoint.h.
 */
#include "checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct
{
	fa_trainer_state state;
	const char *prefix;
} states[] = {{FA_STATE_WEIGHTS, "w."},
			  {FA_STATE_AVERAGE, "a."},
			  {FA_STATE_MOMENT1, "m."},
			  {FA_STATE_MOMENT2, "v."}};

static const char loss_prefix[] = "l.";

#define STATES (sizeof(states) / sizeof(states[0]))

/* Moves all tensors of one set into another, their names prefixed. */
static fa_status
add_prefixed(fa_weights *all, const fa_weights *some, const char *prefix, fa_error *error)
{
	for (int i = 0; i < some->tensor_count; i++)
	{
		const fa_tensor *from = &some->tensors[i];
		char name[FA_NAME_LENGTH];
		fa_tensor *to;

		if (snprintf(name, sizeof(name), "%s%s", prefix, from->name) >= (int) sizeof(name))
			return fa_fail(error, FA_INVALID, "tensor name \"%s\" is too long", from->name);
		FA_TRY(fa_weights_add(all, name, from->rank, from->shape, &to, error));
		memcpy(to->values, from->values, from->count * sizeof(float));
	}
	return FA_OK;
}

static fa_status
set_number(fa_weights *weights, const char *key, const char *head, double value, fa_error *error)
{
	char name[2 * FA_NAME_LENGTH], text[64];

	if (snprintf(name, sizeof(name), "%s%s", key, head) >= (int) sizeof(name))
		return fa_fail(error, FA_INVALID, "head name \"%s\" is too long", head);
	snprintf(text, sizeof(text), "%.17g", value);
	return fa_weights_set(weights, name, text, error);
}

static fa_status
set_numbers(fa_weights *weights, const fa_progress *p, fa_error *error)
{
	FA_TRY(set_number(weights, "step", "", (double) p->step, error));
	FA_TRY(set_number(weights, "seconds", "", p->seconds, error));
	FA_TRY(set_number(weights, "best", "", p->best, error));
	FA_TRY(set_number(weights, "stale", "", (double) p->stale, error));
	for (int h = 0; h < FA_TALLIES; h++)
	{
		const char *head = fa_tally_name(h);

		FA_TRY(set_number(weights, "loss.", head, p->tally.loss[h], error));
		FA_TRY(set_number(weights, "score.", head, p->tally.score[h], error));
		FA_TRY(set_number(weights, "labels.", head, (double) p->tally.labels[h], error));
	}
	return FA_OK;
}

fa_status
fa_checkpoint_write(const fa_engine_interface *interface, fa_trainer *trainer,
					const fa_weights *loss, const fa_progress *progress, const json_t *options,
					const char *path, fa_error *error)
{
	char *text = json_dumps(options, JSON_COMPACT | JSON_REAL_PRECISION(17));
	fa_weights all = {0};
	fa_status status = text == NULL ? fa_no_memory(error, 0) : FA_OK;

	for (size_t i = 0; i < STATES && status == FA_OK; i++)
	{
		fa_weights some = {0};

		status = interface->read_state(trainer, states[i].state, &some, error);
		if (status == FA_OK)
			status = add_prefixed(&all, &some, states[i].prefix, error);
		fa_weights_free(&some);
	}
	if (status == FA_OK)
		status = add_prefixed(&all, loss, loss_prefix, error);
	if (status == FA_OK)
		status = set_numbers(&all, progress, error);
	if (status == FA_OK)
		status = fa_weights_set(&all, "options", text, error);
	if (status == FA_OK)
		status = fa_weights_write(&all, path, FA_F32, error);
	free(text);
	fa_weights_free(&all);
	return status;
}

/* NAN where there is none. */
static double
get_number(const fa_weights *weights, const char *key, const char *head)
{
	char name[2 * FA_NAME_LENGTH], *end;
	const char *text = NULL;
	double number;

	if (snprintf(name, sizeof(name), "%s%s", key, head) < (int) sizeof(name))
		text = fa_weights_get(weights, name);
	if (text == NULL)
		return NAN;
	number = strtod(text, &end);
	return *end == '\0' ? number : NAN;
}

/* A whole number from 0 on; -1 otherwise. */
static int64_t
get_count(const fa_weights *weights, const char *key, const char *head)
{
	double number = get_number(weights, key, head);

	return number >= 0 && number < 1e15 && number == floor(number) ? (int64_t) number : -1;
}

static bool
get_numbers(const fa_weights *weights, fa_progress *p)
{
	bool sound;

	p->step = get_count(weights, "step", "");
	p->seconds = get_number(weights, "seconds", "");
	p->best = get_number(weights, "best", "");
	p->stale = get_count(weights, "stale", "");
	sound = p->step >= 0 && p->seconds >= 0 && !isnan(p->best) && p->stale >= 0;
	for (int h = 0; h < FA_TALLIES; h++)
	{
		p->tally.loss[h] = get_number(weights, "loss.", fa_tally_name(h));
		p->tally.score[h] = get_number(weights, "score.", fa_tally_name(h));
		p->tally.labels[h] = get_count(weights, "labels.", fa_tally_name(h));
		sound &= !isnan(p->tally.loss[h]) && p->tally.score[h] >= 0 && p->tally.labels[h] >= 0;
	}
	return sound;
}

fa_status
fa_checkpoint_read(fa_checkpoint *checkpoint, const char *path, fa_error *error)
{
	const char *options;

	memset(checkpoint, 0, sizeof(*checkpoint));
	FA_TRY(fa_weights_read(&checkpoint->states, path, error));
	options = fa_weights_get(&checkpoint->states, "options");
	checkpoint->options = options == NULL ? NULL : json_loads(options, 0, NULL);
	if (checkpoint->options == NULL || !get_numbers(&checkpoint->states, &checkpoint->progress))
	{
		fa_checkpoint_free(checkpoint);
		return fa_fail(error, FA_DAMAGED, "%s: no checkpoint of a training", path);
	}
	return FA_OK;
}

void
fa_checkpoint_free(fa_checkpoint *checkpoint)
{
	fa_weights_free(&checkpoint->states);
	json_decref(checkpoint->options);
	checkpoint->options = NULL;
}

/* Adds the tensors of that prefix, without it. */
static fa_status
take_prefixed(const fa_checkpoint *checkpoint, const char *prefix, fa_weights *weights,
			  fa_error *error)
{
	for (int k = 0; k < checkpoint->states.tensor_count; k++)
	{
		const fa_tensor *from = &checkpoint->states.tensors[k];
		fa_tensor *to;

		if (strncmp(from->name, prefix, strlen(prefix)) != 0)
			continue;
		FA_TRY(fa_weights_add(weights, from->name + strlen(prefix), from->rank, from->shape, &to,
							  error));
		memcpy(to->values, from->values, from->count * sizeof(float));
	}
	return FA_OK;
}

fa_status
fa_checkpoint_state(const fa_checkpoint *checkpoint, fa_trainer_state state, fa_weights *weights,
					fa_error *error)
{
	for (size_t i = 0; i < STATES; i++)
		if (states[i].state == state)
			return take_prefixed(checkpoint, states[i].prefix, weights, error);
	return FA_OK;
}

fa_status
fa_checkpoint_loss(const fa_checkpoint *checkpoint, fa_weights *weights, fa_error *error)
{
	return take_prefixed(checkpoint, loss_prefix, weights, error);
}

fa_status
fa_checkpoint_restore(const fa_checkpoint *checkpoint, const fa_engine_interface *interface,
					  fa_trainer *trainer, bool moments, fa_error *error)
{
	fa_status status = FA_OK;

	for (size_t i = 0; i < STATES && status == FA_OK; i++)
	{
		fa_weights some = {0};

		if (!moments &&
			(states[i].state == FA_STATE_MOMENT1 || states[i].state == FA_STATE_MOMENT2))
			continue;
		status = fa_checkpoint_state(checkpoint, states[i].state, &some, error);
		if (status == FA_OK)
			status = interface->write_state(trainer, states[i].state, &some, error);
		fa_weights_free(&some);
	}
	return status;
}
