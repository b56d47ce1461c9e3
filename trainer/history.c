/*
 * history.c
 *		Lines of JSON to and from epochs; see history.h.
 */
#include "history.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *
number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *
numbers(const double values[FA_TALLIES])
{
	json_t *object = json_object();

	for (int h = 0; h < FA_TALLIES; h++)
		json_object_set_new(object, fa_tally_name(h), number(values[h]));
	return object;
}

static json_t *
means_to_json(const fa_means *means)
{
	return json_pack("{s:o, s:o, s:o}", "total", number(means->total), "loss", numbers(means->loss),
					 "score", numbers(means->score));
}

static json_t *
epoch_to_json(const fa_epoch *e)
{
	return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "step",
					 (json_int_t) e->step, "epoch", number(e->epoch), "seconds", number(e->seconds),
					 "rate", number(e->rate), "training", means_to_json(&e->training), "validation",
					 means_to_json(&e->validation.means), "face", number(e->validation.face),
					 "reject", number(e->validation.reject), "metric", number(e->metric), "best",
					 (int) e->best);
}

static double
get(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static void
json_to_means(const json_t *object, fa_means *means)
{
	means->total = get(object, "total");
	for (int h = 0; h < FA_TALLIES; h++)
	{
		means->loss[h] = get(json_object_get(object, "loss"), fa_tally_name(h));
		means->score[h] = get(json_object_get(object, "score"), fa_tally_name(h));
	}
}

static bool
json_to_epoch(const json_t *line, fa_epoch *e)
{
	const json_t *step = json_object_get(line, "step");

	e->step = (int64_t) json_integer_value(step);
	e->epoch = get(line, "epoch");
	e->seconds = get(line, "seconds");
	e->rate = get(line, "rate");
	json_to_means(json_object_get(line, "training"), &e->training);
	json_to_means(json_object_get(line, "validation"), &e->validation.means);
	e->validation.face = get(line, "face");
	e->validation.reject = get(line, "reject");
	e->metric = get(line, "metric");
	e->best = json_is_true(json_object_get(line, "best"));
	return json_is_integer(step) && isfinite(e->epoch);
}

static fa_status
append(fa_history *history, const fa_epoch *epoch, fa_error *error)
{
	fa_epoch *grown =
		realloc(history->epochs, ((size_t) history->count + 1) * sizeof(*history->epochs));

	if (grown == NULL)
		return fa_no_memory(error, sizeof(*grown));
	history->epochs = grown;
	history->epochs[history->count++] = *epoch;
	return FA_OK;
}

static fa_status
write_lines(const char *path, const char *mode, const fa_epoch *epochs, int count, fa_error *error)
{
	FILE *file = fopen(path, mode);
	bool written = file != NULL;

	for (int i = 0; i < count && written; i++)
	{
		json_t *line = epoch_to_json(&epochs[i]);

		written =
			line != NULL && json_dumpf(line, file, JSON_COMPACT) == 0 && fputc('\n', file) > 0;
		json_decref(line);
	}
	if (file != NULL && fclose(file) != 0)
		written = false;
	return written ? FA_OK : fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
}

/* A last line without its end is one that a kill cut short. */
static fa_status
read_lines(fa_history *history, FILE *file, const char *path, int64_t last_step, fa_error *error)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	fa_status status = FA_OK;

	for (int n = 1; status == FA_OK && (length = getline(&line, &room, file)) > 0; n++)
	{
		json_t *json;
		fa_epoch epoch;

		if (line[length - 1] != '\n')
			break;
		json = json_loadb(line, (size_t) length, 0, NULL);
		if (!json_to_epoch(json, &epoch))
			status = fa_fail(error, FA_DAMAGED, "%s: line %d is no validation", path, n);
		else if (epoch.step <= last_step)
			status = append(history, &epoch, error);
		json_decref(json);
	}
	free(line);
	return status;
}

fa_status
fa_history_open(fa_history *history, const char *path, int64_t last_step, fa_error *error)
{
	FILE *file = last_step < 0 ? NULL : fopen(path, "re");
	fa_status status = FA_OK;

	memset(history, 0, sizeof(*history));
	if (last_step >= 0 && file == NULL && errno != ENOENT)
		return fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	if (file != NULL)
	{
		status = read_lines(history, file, path, last_step, error);
		fclose(file);
	}
	return status == FA_OK ? write_lines(path, "w", history->epochs, history->count, error)
						   : status;
}

fa_status
fa_history_add(fa_history *history, const char *path, const fa_epoch *epoch, fa_error *error)
{
	FA_TRY(append(history, epoch, error));
	return write_lines(path, "a", epoch, 1, error);
}

void
fa_history_free(fa_history *history)
{
	free(history->epochs);
	memset(history, 0, sizeof(*history));
}
