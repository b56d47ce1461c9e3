/*
 * training_validation.c
 *		How well a training does: validation, the best weights so far, and the report; see
 *		training.h.
 */
#include "training.h"

#include "finish.h"
#include "report.h"

#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Removes the files of earlier bests, all but `kept`. */
static void
remove_bests(const fa_training *t, const char *kept)
{
	DIR *folder = opendir(t->o.output);
	char path[FA_PATH_LENGTH];

	for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
		if (fnmatch("best-step*.safetensors", entry->d_name, 0) == 0 &&
			strcmp(entry->d_name, kept) != 0)
			unlink(fa_output_path(t, entry->d_name, path));
	if (folder != NULL)
		closedir(folder);
}

/* Writes best.safetensors, and the same by a name that says how good it is. */
static fa_status
keep_best(const fa_training *t, const fa_epoch *e, fa_weights *weights, fa_error *error)
{
	static const char *const formats[FA_TALLIES] = {"-age%.2f", "-gender%.1f", "-race%.1f", NULL,
													"-person%.2f"};
	const double *score = e->validation.means.score;
	char path[FA_PATH_LENGTH], name[128];
	size_t length;

	FA_TRY(fa_describe_training(&t->o, t->inherited, t->trained, weights, error));
	length = (size_t) snprintf(name, sizeof(name), "best-step%06lld", (long long) e->step);
	for (int h = 0; h < FA_TALLIES; h++)
		if (formats[h] != NULL && isfinite(score[h]))
			length += (size_t) snprintf(name + length, sizeof(name) - length, formats[h], score[h]);
	snprintf(name + length, sizeof(name) - length, ".safetensors");
	FA_TRY(fa_weights_write(weights, fa_output_path(t, name, path), FA_F32, error));
	remove_bests(t, name);
	return fa_weights_write(weights, fa_output_path(t, "best.safetensors", path), FA_F32, error);
}

static fa_status
write_report(fa_training *t, const char *what, const fa_scores *scores, const fa_logits *logits,
			 fa_error *error)
{
	char path[FA_PATH_LENGTH];
	fa_report report = {
		.what = what,
		.options = t->record,
		.history = &t->history,
		.scores = scores,
		.logits = t->o.task == FA_TASK_EMBED ? NULL : logits,
		.faces = &t->validation,
	};

	return fa_report_write(&report, fa_output_path(t, "report.html", path), error);
}

static fa_status
run_validation(fa_training *t, const fa_weights *weights, fa_scores *scores, fa_logits *logits,
			   fa_error *error)
{
	if (t->o.task == FA_TASK_EMBED)
		return fa_validate_embedding(t->interface, t->engine, weights, t->o.network,
									 (fa_precision) t->o.precision, &t->validating, scores, error);
	return fa_validate(t->interface, t->engine, weights, t->o.network, t->o.hidden,
					   (fa_precision) t->o.precision, &t->validating, t->judging, scores, logits,
					   error);
}

/* A line of the scores that there are. */
static void
say_scores(fa_training *t, const fa_epoch *e)
{
	const double *score = e->validation.means.score;
	bool negatives = t->trained[FA_HEAD_FACE];
	const struct
	{
		const char *format;
		double value;
	} parts[] = {{" age %.3f years,", score[FA_HEAD_AGE]},
				 {" gender %.2f %%,", score[FA_HEAD_GENDER]},
				 {" race %.2f %%,", score[FA_HEAD_RACE]},
				 {" faces kept %.2f %%,", negatives ? e->validation.face : NAN},
				 {" others rejected %.2f %%,", negatives ? e->validation.reject : NAN},
				 {" %.3f %% of pairs told apart,", score[FA_PERSON]},
				 {" loss %.3f,", e->validation.means.total}};
	char text[256] = "";

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (isfinite(parts[i].value))
			snprintf(text + strlen(text), sizeof(text) - strlen(text), parts[i].format,
					 parts[i].value);
	fa_watch_say(&t->watch, "step %lld, %.0f s: validation%s %.3f%s", (long long) e->step,
				 e->seconds, text, e->metric, e->best ? " (best)" : "");
}

/* All that follows from a validation's figures. */
static fa_status
take_in(fa_training *t, fa_epoch *e, fa_weights *weights, const fa_logits *logits, fa_error *error)
{
	char path[FA_PATH_LENGTH], what[64];

	e->metric = fa_metric_value(&e->validation, (fa_metric) t->o.metric);
	if (isnan(e->metric))
		return fa_fail(error, FA_INVALID, "nothing could be validated");
	e->best = e->metric < t->progress.best;
	say_scores(t, e);
	FA_TRY(fa_watch_validation(&t->watch, e, weights, error));
	if (e->best)
		FA_TRY(keep_best(t, e, weights, error));
	FA_TRY(fa_history_add(&t->history, fa_output_path(t, "history.jsonl", path), e, error));
	snprintf(what, sizeof(what), "the weights of step %lld", (long long) e->step);
	FA_TRY(write_report(t, what, &e->validation, logits, error));
	t->progress.best = e->best ? e->metric : t->progress.best;
	t->progress.stale = e->best ? 0 : t->progress.stale + 1;
	t->progress.tally = (fa_tally){.labels = {0}};
	return FA_OK;
}

fa_status
fa_training_validate(fa_training *t, fa_epoch *e, fa_error *error)
{
	fa_weights weights = {0};
	fa_logits logits = {0};
	fa_status status;

	e->training = fa_tally_means(&t->progress.tally, t->losses);
	status = t->interface->read_state(
		t->trainer, t->o.ema > 0 ? FA_STATE_AVERAGE : FA_STATE_WEIGHTS, &weights, error);

	if (status == FA_OK)
		status = run_validation(t, &weights, &e->validation, &logits, error);
	if (status == FA_OK)
		status = take_in(t, e, &weights, &logits, error);
	fa_logits_free(&logits);
	fa_weights_free(&weights);
	return status;
}

fa_status
fa_training_report_best(fa_training *t, fa_scores *scores, fa_error *error)
{
	char path[FA_PATH_LENGTH];
	fa_weights weights = {0};
	fa_logits logits = {0};
	fa_status status;

	FA_TRY(fa_weights_read(&weights, fa_output_path(t, "best.safetensors", path), error));
	status = run_validation(t, &weights, scores, &logits, error);
	if (status == FA_OK)
		status = write_report(t, "the best weights", scores, &logits, error);
	fa_logits_free(&logits);
	fa_weights_free(&weights);
	return status;
}
