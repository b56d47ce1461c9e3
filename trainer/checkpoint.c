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
set_number(fa_weights *weights, const char *key, double value, fa_error *error)
{
	char text[64];

	snprintf(text, sizeof(text), "%.17g", value);
	return fa_weights_set(weights, key, text, error);
}

fa_status
fa_checkpoint_write(const fa_engine_interface *interface, fa_trainer *trainer,
					const fa_progress *progress, const char *path, fa_error *error)
{
	fa_weights all = {0};
	fa_status status = FA_OK;

	for (size_t i = 0; i < STATES && status == FA_OK; i++)
	{
		fa_weights some = {0};

		status = interface->read_state(trainer, states[i].state, &some, error);
		if (status == FA_OK)
			status = add_prefixed(&all, &some, states[i].prefix, error);
		fa_weights_free(&some);
	}
	if (status == FA_OK)
		status = set_number(&all, "step", (double) progress->step, error);
	if (status == FA_OK)
		status = set_number(&all, "seconds", progress->seconds, error);
	if (status == FA_OK)
		status = set_number(&all, "best", progress->best, error);
	if (status == FA_OK)
		status = fa_weights_write(&all, path, FA_F32, error);
	fa_weights_free(&all);
	return status;
}

static double
get_number(const fa_weights *weights, const char *key)
{
	const char *text = fa_weights_get(weights, key);

	return text == NULL ? NAN : strtod(text, NULL);
}

fa_status
fa_checkpoint_read(const fa_engine_interface *interface, fa_trainer *trainer, fa_progress *progress,
				   const char *path, fa_error *error)
{
	fa_weights all;
	fa_status status;

	FA_TRY(fa_weights_read(&all, path, error));
	status = FA_OK;
	for (size_t i = 0; i < STATES && status == FA_OK; i++)
	{
		size_t length = strlen(states[i].prefix);
		fa_weights some = {0};

		for (int k = 0; k < all.tensor_count && status == FA_OK; k++)
		{
			const fa_tensor *from = &all.tensors[k];
			fa_tensor *to;

			if (strncmp(from->name, states[i].prefix, length) != 0)
				continue;
			status =
				fa_weights_add(&some, from->name + length, from->rank, from->shape, &to, error);
			if (status == FA_OK)
				memcpy(to->values, from->values, from->count * sizeof(float));
		}
		if (status == FA_OK)
			status = interface->write_state(trainer, states[i].state, &some, error);
		fa_weights_free(&some);
	}
	progress->step = (int64_t) get_number(&all, "step");
	progress->seconds = get_number(&all, "seconds");
	progress->best = get_number(&all, "best");
	if (status == FA_OK &&
		(progress->step < 0 || isnan(progress->seconds) || isnan(progress->best)))
		status = fa_fail(error, FA_DAMAGED, "%s: no checkpoint of a training", path);
	fa_weights_free(&all);
	return status;
}
