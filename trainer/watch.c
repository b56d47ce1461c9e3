/*
 * watch.c
 *		The bar, the log and the event files; see watch.h.
 */
#include "watch.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVERY 50 /* steps from line to line */
#define CROPS 8
#define BAR 30 /* characters */

static const char *const score_tags[FA_TALLIES] = {"metric/age_mae", "metric/gender_accuracy",
												   "metric/race_accuracy", "metric/face_accuracy",
												   "metric/person_accuracy"};

fa_status
fa_watch_open(fa_watch *watch, const char *folder, bool resume, int64_t step, fa_error *error)
{
	char path[4096];

	memset(watch, 0, sizeof(*watch));
	if (snprintf(path, sizeof(path), "%s/tensorboard/validation", folder) >= (int) sizeof(path))
		return fa_fail(error, FA_INVALID, "the output folder's path is too long");
	snprintf(path, sizeof(path), "%s/log.tsv", folder);
	watch->log = fopen(path, resume ? "ae" : "we");
	if (watch->log == NULL)
		return fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	if (!resume)
		fputs("step\tseconds\tepoch\trate\tage\tgender\trace\tface\tperson\tgradient\tspeed\n",
			  watch->log);
	snprintf(path, sizeof(path), "%s/tensorboard", folder);
	if (mkdir(path, 0777) != 0 && errno != EEXIST)
		return fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	snprintf(path, sizeof(path), "%s/tensorboard/training", folder);
	FA_TRY(fa_board_open(&watch->training, path, step + 1, error));
	snprintf(path, sizeof(path), "%s/tensorboard/validation", folder);
	return fa_board_open(&watch->validation, path, step + 1, error);
}

void
fa_watch_close(fa_watch *watch)
{
	fa_board_close(watch->training);
	fa_board_close(watch->validation);
	if (watch->log != NULL)
		fclose(watch->log);
	memset(watch, 0, sizeof(*watch));
}

void
fa_watch_say(fa_watch *watch, const char *format, ...)
{
	va_list arguments;
	char line[512];

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s%s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", line);
	if (watch->log != NULL)
	{
		fprintf(watch->log, "# %s\n", line);
		fflush(watch->log);
	}
}

static void
draw_bar(const fa_watch *watch, const fa_step_news *news)
{
	char bar[BAR + 1], left[32] = "?";

	for (int i = 0; i < BAR; i++)
		bar[i] = i < BAR * news->position ? '#' : '.';
	bar[BAR] = '\0';
	if (isfinite(news->left))
		snprintf(left, sizeof(left), "%d:%02d:%02d", (int) (news->left / 3600),
				 (int) (news->left / 60) % 60, (int) fmod(news->left, 60));
	fprintf(stderr, "\r\033[K[%s] epoch %.2f ", bar, news->epoch);
	for (int h = 0; h < FA_TALLIES; h++)
		if (watch->losses[h] > 0)
			fprintf(stderr, " %s %.3f", fa_tally_name(h), watch->losses[h]);
	fprintf(stderr, "  rate %.2g  %.0f img/s  %s left", news->rate, watch->speed, left);
}

static double
follow(double mean, double value)
{
	return mean == 0 ? value : 0.98 * mean + 0.02 * value;
}

fa_status
fa_watch_step(fa_watch *watch, const fa_step_news *news, fa_error *error)
{
	watch->speed = follow(watch->speed, news->images / news->took);
	for (int h = 0; h < FA_TALLIES; h++)
		watch->losses[h] = follow(watch->losses[h], news->losses[h]);
	if (isatty(STDERR_FILENO))
		draw_bar(watch, news);
	if (news->step % EVERY != 0)
		return FA_OK;
	fprintf(watch->log, "%lld\t%.1f\t%.3f\t%.3g", (long long) news->step, news->seconds,
			news->epoch, news->rate);
	for (int h = 0; h < FA_TALLIES; h++)
		fprintf(watch->log, "\t%.4f", watch->losses[h]);
	fprintf(watch->log, "\t%.3f\t%.1f\n", news->norm, watch->speed);
	fflush(watch->log);
	FA_TRY(fa_board_scalar(watch->training, "step/learning_rate", news->step, news->rate, error));
	FA_TRY(fa_board_scalar(watch->training, "step/gradient_norm", news->step, news->norm, error));
	FA_TRY(fa_board_scalar(watch->training, "step/images_per_second", news->step, watch->speed,
						   error));
	return fa_board_scalar(watch->training, "step/loss", news->step, news->total, error);
}

static fa_status
write_means(fa_board *board, int64_t step, const fa_means *means, fa_error *error)
{
	char tag[FA_NAME_LENGTH + 8];

	FA_TRY(fa_board_scalar(board, "loss/total", step, means->total, error));
	for (int h = 0; h < FA_TALLIES; h++)
	{
		snprintf(tag, sizeof(tag), "loss/%.63s", fa_tally_name(h));
		FA_TRY(fa_board_scalar(board, tag, step, means->loss[h], error));
		FA_TRY(fa_board_scalar(board, score_tags[h], step, means->score[h], error));
	}
	return FA_OK;
}

fa_status
fa_watch_validation(fa_watch *watch, const fa_epoch *e, const fa_weights *weights, fa_error *error)
{
	FA_TRY(write_means(watch->training, e->step, &e->training, error));
	FA_TRY(fa_board_scalar(watch->training, "learning_rate", e->step, e->rate, error));
	FA_TRY(write_means(watch->validation, e->step, &e->validation.means, error));
	FA_TRY(fa_board_scalar(watch->validation, "metric/faces_kept", e->step, e->validation.face,
						   error));
	FA_TRY(fa_board_scalar(watch->validation, "metric/others_rejected", e->step,
						   e->validation.reject, error));
	FA_TRY(fa_board_scalar(watch->validation, "metric/chosen_by", e->step, e->metric, error));
	for (int i = 0; i < weights->tensor_count; i++)
		FA_TRY(fa_board_histogram(watch->training, weights->tensors[i].name, e->step,
								  weights->tensors[i].values, weights->tensors[i].count, error));
	return FA_OK;
}

fa_status
fa_watch_crops(fa_watch *watch, int64_t step, uint8_t *pixels, int count, int size, fa_error *error)
{
	for (int i = 0; i < count && i < CROPS; i++)
	{
		fa_image image = {size, size, (size_t) size * 3, pixels + (size_t) i * size * size * 3};
		char tag[16];

		snprintf(tag, sizeof(tag), "crops/%d", i);
		FA_TRY(fa_board_image(watch->training, tag, step, &image, error));
	}
	return FA_OK;
}
