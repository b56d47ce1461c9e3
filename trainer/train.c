/*
 * train.c
 *		`faceattr train`: fine-tunes the attribute network on ready chips, or its
 *		embedding alone on persons.
 *
 * The main thread steps the engine; the loader's threads make batches ahead. The
 * schedule runs over a number of epochs, or over a time: then its progress is the
 * time spent training, which a checkpoint keeps. All else follows from the seed and
 * the step's number alone, so that a training that was killed ends, resumed, with the same
 * weights as one that was not (with as many threads). A signal ends the loop after the
 * step it falls in, a checkpoint is written, and --resume goes on from there.
 */
#include "trainer.h"

#include "common.h"
#include "device.h"
#include "finish.h"
#include "initial.h"
#include "parts.h"
#include "training.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *
fa_output_path(const fa_training *t, const char *name, char *path)
{
	snprintf(path, FA_PATH_LENGTH, "%s/%s", t->o.output, name);
	return path;
}

/* ---- The schedule ------------------------------------------------------------------ */

static int64_t
head_steps(const fa_training *t)
{
	return t->o.head_epochs * fa_loader_steps(&t->loading);
}

/* How much of the schedule is over, 0 ... 1; the heads' epochs come before it. */
static double
schedule_position(const fa_training *t)
{
	double steps = (double) fa_loader_steps(&t->loading) * t->o.epochs;
	double position = t->o.minutes > 0 ? t->progress.seconds / (60 * t->o.minutes)
									   : (double) (t->progress.step - head_steps(t)) / steps;

	return position < 0 ? 0 : position > 1 ? 1 : position;
}

static double
learning_rate(const fa_training *t)
{
	return t->heads_only ? t->o.rate : fa_schedule_rate(&t->schedule, schedule_position(t));
}

static double
epochs_done(const fa_training *t)
{
	return (double) t->progress.step / (double) fa_loader_steps(&t->loading);
}

static bool
out_of_patience(const fa_training *t)
{
	return t->o.patience > 0 && t->progress.stale >= t->o.patience;
}

static bool
finished(const fa_training *t)
{
	return t->progress.step >= head_steps(t) && (schedule_position(t) >= 1 || out_of_patience(t));
}

/* ---- The trainer ------------------------------------------------------------------- */

/* One for the heads alone on a frozen backbone, or for all that is to train. */
static fa_status
open_trainer(fa_training *t, const fa_weights *weights, fa_error *error)
{
	float *rates = calloc((size_t) t->net.op_count, sizeof(float));
	fa_trainer_options options = {
		.count = t->o.batch,
		.height = t->o.size,
		.width = t->o.size,
		.precision = (fa_precision) t->o.precision,
		.batch_norm = FA_BATCH_NORM_TRAINING,
		.momentum = (float) t->o.momentum,
		.rates = rates,
		.seed = (uint64_t) t->o.seed,
		.first_pass = (uint64_t) t->progress.step,
	};
	int layers, learning;
	fa_status status;

	if (rates == NULL)
		return fa_no_memory(error, (size_t) t->net.op_count * sizeof(float));
	t->heads_only = t->progress.step < head_steps(t);
	status = fa_parts_rates(&t->net, t->o.rates, t->o.freeze, rates, error);
	for (int i = 0; i < t->net.op_count && status == FA_OK && t->heads_only; i++)
		if (t->net.ops[i].kind != FA_OP_DENSE)
			rates[i] = 0;
	fa_parts_count(&t->net, rates, &layers, &learning);
	if (status == FA_OK && learning == 0)
		status = fa_fail(error, FA_INVALID, "--freeze leaves nothing to train");
	if (status == FA_OK)
		status =
			t->interface->trainer_open(t->engine, &t->net, weights, &options, &t->trainer, error);
	free(rates);
	if (status == FA_OK)
		fa_watch_say(&t->watch, "step %lld: %d of %d layers train", (long long) t->progress.step,
					 learning, layers);
	return status;
}

/*
 * After the heads, everything: a new trainer with the weights of the old one and their
 * moving average. The optimiser starts afresh.
 */
static fa_status
train_everything(fa_training *t, fa_error *error)
{
	fa_weights weights = {0}, average = {0};
	fa_status status = t->interface->read_state(t->trainer, FA_STATE_WEIGHTS, &weights, error);

	if (status == FA_OK)
		status = t->interface->read_state(t->trainer, FA_STATE_AVERAGE, &average, error);
	if (status == FA_OK)
	{
		t->interface->trainer_close(t->trainer);
		t->trainer = NULL;
		status = open_trainer(t, &weights, error);
	}
	if (status == FA_OK)
		status = t->interface->write_state(t->trainer, FA_STATE_AVERAGE, &average, error);
	fa_weights_free(&weights);
	fa_weights_free(&average);
	return status;
}

/* ---- A step ------------------------------------------------------------------------ */

/* Of one head; where images are blended, of both labels in the same proportion. */
static double
head_loss(fa_training *t, int head, const fa_loaded *made)
{
	const float *logits = t->outputs[1 + head];
	float *gradients = t->gradients[1 + head];
	fa_loss_options mine = t->losses[head], other = mine;
	double loss, share = t->mixup.share;

	if (t->o.mixup == 0)
		return fa_head_loss(head, &mine, logits, made->targets[head], t->o.batch, gradients);
	mine.weight *= (float) share;
	other.weight *= (float) (1 - share);
	loss = share * fa_head_loss(head, &mine, logits, made->targets[head], t->o.batch, gradients);
	loss += (1 - share) *
			fa_head_loss(head, &other, logits, t->mixup.partners[head], t->o.batch, t->spare);
	for (int i = 0; i < t->o.batch * fa_heads[head].classes; i++)
		gradients[i] += t->spare[i];
	return loss;
}

static void
attribute_losses(fa_training *t, const fa_loaded *made, fa_step_news *news)
{
	for (int h = 0; h < FA_HEADS; h++)
	{
		news->losses[h] = head_loss(t, h, made);
		news->total += t->losses[h].weight * news->losses[h];
		fa_tally_add(&t->progress.tally, h, news->losses[h], t->outputs[1 + h], made->targets[h],
					 t->o.batch);
	}
}

static fa_status
person_loss(fa_training *t, fa_step_news *news, fa_error *error)
{
	int right;

	for (int i = 0; i < t->o.batch; i++)
		t->batch_persons[i] = fa_persons_at(&t->persons, t->progress.step, i);
	if (t->o.embed_loss == FA_EMBED_MARGIN)
		FA_TRY(fa_margin_loss(&t->margin, t->outputs[0], t->batch_persons, t->o.batch, &news->total,
							  t->gradients[0], &right, error));
	else
		FA_TRY(fa_triplet_loss(t->outputs[0], t->batch_persons, t->o.batch, t->embedding_size,
							   t->o.margin, &news->total, t->gradients[0], &right, error));
	news->losses[FA_PERSON] = news->total;
	t->progress.tally.loss[FA_PERSON] += news->total * t->o.batch;
	t->progress.tally.score[FA_PERSON] += right;
	t->progress.tally.labels[FA_PERSON] += t->o.batch;
	return FA_OK;
}

/*
 * The batch's pixels, augmented by the loader's threads and blended here; or all of that done by
 * the device, which keeps them for itself unless they are to be `seen`.
 */
static fa_status
make_pixels(fa_training *t, const fa_loaded *made, bool seen, uint8_t **pixels, fa_error *error)
{
	fa_blend blend = {.part = 256};

	if (t->o.mixup > 0)
	{
		fa_mixup_draw(&t->mixup, made, t->o.mixup, (uint64_t) t->o.seed, t->progress.step);
		blend = t->mixup.blend;
	}
	*pixels = made->images == NULL && blend.part == 256 ? made->pixels : t->pixels;
	if (made->images != NULL)
		return t->interface->augment(t->trainer, made->images, blend, seen ? t->pixels : NULL,
									 error);
	if (blend.part < 256)
		fa_blend_images(made->pixels, made->count, (size_t) 3 * made->size * made->size, blend,
						t->pixels);
	return FA_OK;
}

/* What a step's loss goes by. */
typedef struct losing
{
	fa_training *t;
	const fa_loaded *made;
	fa_step_news *news;
} losing;

static fa_status
make_loss(void *argument, fa_error *error)
{
	losing *l = argument;

	if (l->t->o.task == FA_TASK_EMBED)
		return person_loss(l->t, l->news, error);
	attribute_losses(l->t, l->made, l->news);
	return FA_OK;
}

static fa_status
step(fa_training *t, fa_step_news *news, fa_error *error)
{
	losing losing = {t, NULL, news};
	bool adam = t->o.optimizer != FA_OPTIMIZER_SGD;
	fa_update update = {
		.learning_rate = (float) news->rate,
		.beta1 = adam ? 0.9f : (float) t->o.sgd_momentum,
		.beta2 = 0.999f,
		.epsilon = 1e-8f,
		.weight_decay = (float) t->o.weight_decay,
		.clip_norm = (float) t->o.clip,
		/* at first the average follows the weights closely */
		.ema_decay = (float) fmin(t->o.ema, (1.0 + (double) t->progress.step) /
												(10.0 + (double) t->progress.step)),
		.step = t->progress.step + 1 - (t->heads_only ? 0 : head_steps(t)),
		.optimizer = (fa_optimizer) t->o.optimizer,
	};
	fa_training_step whole = {
		.batch = {t->o.batch, t->o.size, t->o.size, NULL},
		.outputs = t->outputs,
		.gradients = (const float *const *) t->gradients,
		.loss = make_loss,
		.argument = &losing,
		.update = &update,
	};
	bool seen = t->progress.step % fa_loader_steps(&t->loading) == 0;
	float norm = 0;
	uint8_t *pixels;

	FA_TRY(fa_loader_next(t->loader, &losing.made, error));
	FA_TRY(make_pixels(t, losing.made, seen, &pixels, error));
	if (seen)
		FA_TRY(
			fa_watch_crops(&t->watch, t->progress.step + 1, pixels, t->o.batch, t->o.size, error));
	whole.batch.pixels = losing.made->images == NULL ? pixels : NULL;
	FA_TRY(t->interface->step(t->trainer, &whole, &norm, error));
	if (t->margin.classes > 0)
		fa_margin_update(&t->margin, &update);
	t->progress.step++;
	news->norm = norm;
	return FA_OK;
}

static void
show_progress(fa_training *t, const fa_step_news *news)
{
	char text[64], of[32] = "";

	if (t->publisher == NULL)
		return;
	if (t->o.minutes == 0)
		snprintf(of, sizeof(of), "/%d", t->o.head_epochs + t->o.epochs);
	snprintf(text, sizeof(text), "faceattr train: epoch %d%s, loss %.3f", (int) ceil(news->epoch),
			 of, news->total);
	fa_publisher_show(t->publisher, text);
}

static fa_status
timed_step(fa_training *t, fa_error *error)
{
	fa_step_news news = {.rate = learning_rate(t), .images = t->o.batch, .left = NAN};
	double began = fa_seconds();

	FA_TRY(step(t, &news, error));
	news.took = fa_seconds() - began;
	t->progress.seconds += news.took;
	news.step = t->progress.step;
	news.seconds = t->progress.seconds;
	news.position = schedule_position(t);
	news.epoch = epochs_done(t);
	if (t->o.minutes > 0)
		news.left = 60 * t->o.minutes - t->progress.seconds;
	else if (t->watch.speed > 0)
		news.left = (t->o.head_epochs + t->o.epochs - news.epoch) *
					(double) fa_loader_steps(&t->loading) * t->o.batch / t->watch.speed;
	show_progress(t, &news);
	return fa_watch_step(&t->watch, &news, error);
}

static fa_status
validate(fa_training *t, fa_error *error)
{
	fa_epoch epoch = {
		.step = t->progress.step,
		.epoch = epochs_done(t),
		.seconds = t->progress.seconds,
		.rate = learning_rate(t),
	};

	return fa_training_validate(t, &epoch, error);
}

/* ---- The loop ---------------------------------------------------------------------- */

static fa_status
save(fa_training *t, fa_error *error)
{
	char path[FA_PATH_LENGTH];
	fa_weights loss = {0};
	fa_status status = FA_OK;

	if (t->margin.classes > 0)
		status = fa_margin_write(&t->margin, &loss, error);
	if (status == FA_OK)
		status = fa_checkpoint_write(t->interface, t->trainer, &loss, &t->progress, t->record,
									 fa_output_path(t, "last.safetensors", path), error);
	fa_weights_free(&loss);
	return status;
}

/* The loader's threads are not needed any more, and a session that waits neither. */
static fa_status
finish(fa_training *t, const fa_scores *scores, fa_error *error)
{
	const fa_finish end = {.options = &t->o,
						   .record = t->record,
						   /* where the calibration runs, always on the CPU */
						   .engine = t->interface == &fa_cpu_engine ? t->engine : NULL,
						   .validation = &t->validating,
						   .scores = scores,
						   .rows = t->faces.count};

	fa_loader_close(t->loader);
	t->loader = NULL;
	fa_publisher_close(t->publisher);
	t->publisher = NULL;
	return fa_finish_training(&end, error);
}

static fa_status
run(fa_training *t, fa_error *error)
{
	double saved = fa_seconds();
	fa_scores scores;
	const char *first_damaged;
	int damaged;

	while (!finished(t) && !fa_signalled())
	{
		if (t->heads_only && t->progress.step >= head_steps(t))
			FA_TRY(train_everything(t, error));
		FA_TRY(timed_step(t, error));
		if (t->progress.step % fa_loader_steps(&t->loading) == 0 || finished(t))
			FA_TRY(validate(t, error));
		if (fa_seconds() - saved >= 60 * t->o.save_minutes)
		{
			FA_TRY(save(t, error));
			saved = fa_seconds();
		}
	}
	FA_TRY(save(t, error));
	damaged = fa_loader_damaged(t->loader, &first_damaged);
	if (damaged > 0)
		fa_watch_say(&t->watch, "%d times an image could not be decoded, first %s", damaged,
					 first_damaged);
	if (fa_signalled())
	{
		fa_watch_say(&t->watch, "stopped at step %lld; --resume goes on",
					 (long long) t->progress.step);
		return FA_OK;
	}
	if (out_of_patience(t))
		fa_watch_say(&t->watch, "no better for %lld validations: stopped",
					 (long long) t->progress.stale);
	FA_TRY(fa_training_report_best(t, &scores, error));
	return finish(t, &scores, error);
}

/* ---- Before and after -------------------------------------------------------------- */

static fa_status
allocate(fa_training *t, fa_error *error)
{
	size_t largest = 0, pixels = (size_t) t->o.batch * t->o.size * t->o.size * 3;

	t->pixels = malloc(pixels);
	if (t->pixels == NULL)
		return fa_no_memory(error, pixels);
	if (t->o.task == FA_TASK_EMBED)
	{
		size_t values = (size_t) t->o.batch * t->embedding_size;

		t->outputs[0] = malloc(values * sizeof(float));
		t->gradients[0] = malloc(values * sizeof(float));
		t->batch_persons = malloc((size_t) t->o.batch * sizeof(int));
		return t->outputs[0] == NULL || t->gradients[0] == NULL || t->batch_persons == NULL
				   ? fa_no_memory(error, values * sizeof(float))
				   : FA_OK;
	}
	for (int i = 1; i <= FA_HEADS; i++)
	{
		size_t bytes = (size_t) t->o.batch * fa_heads[i - 1].classes * sizeof(float);

		largest = bytes > largest ? bytes : largest;
		t->outputs[i] = malloc(bytes);
		t->gradients[i] = malloc(bytes);
		if (t->outputs[i] == NULL || t->gradients[i] == NULL)
			return fa_no_memory(error, bytes);
	}
	t->spare = malloc(largest);
	if (t->spare == NULL)
		return fa_no_memory(error, largest);
	return t->o.mixup > 0 ? fa_mixup_open(&t->mixup, t->o.batch, error) : FA_OK;
}

/* The weights to start from; an embedding has no heads to tell of. */
static fa_status
begin(fa_training *t, fa_weights *weights, fa_error *error)
{
	bool kept[FA_HEADS] = {false};

	FA_TRY(fa_initial_weights(t->interface, t->engine, t->o.network, &t->net, t->o.init,
							  &t->loading, t->o.new_heads, (uint64_t) t->o.seed, weights, kept,
							  error));
	for (int h = 0; h < FA_HEADS && t->o.task != FA_TASK_EMBED; h++)
		if (t->trained[h])
			fa_watch_say(&t->watch, "head %s: %s", fa_heads[h].name,
						 kept[h] ? "goes on from there" : "begins anew");
	return FA_OK;
}

static fa_status
restore_margin(fa_training *t, const fa_checkpoint *checkpoint, fa_error *error)
{
	fa_weights loss = {0};
	fa_status status = fa_checkpoint_loss(checkpoint, &loss, error);

	if (status == FA_OK)
		status = fa_margin_read(&t->margin, &loss, error);
	fa_weights_free(&loss);
	return status;
}

/* The trainer as a checkpoint has it, or with starting weights. */
static fa_status
start_trainer(fa_training *t, const fa_checkpoint *checkpoint, fa_error *error)
{
	fa_weights weights = {0};
	fa_status status;

	if (checkpoint->options != NULL)
		status = fa_checkpoint_state(checkpoint, FA_STATE_WEIGHTS, &weights, error);
	else
		status = begin(t, &weights, error);
	if (status == FA_OK)
		status = open_trainer(t, &weights, error);
	fa_weights_free(&weights);
	/* the heads' moments end with their epochs: train_everything */
	if (status == FA_OK && checkpoint->options != NULL)
		status = fa_checkpoint_restore(checkpoint, t->interface, t->trainer,
									   t->heads_only || t->progress.step > head_steps(t), error);
	if (status == FA_OK && checkpoint->options != NULL && t->margin.classes > 0)
		status = restore_margin(t, checkpoint, error);
	return status;
}

/* The network, and for an embedding the batches of persons that it learns from. */
static fa_status
make_net(fa_training *t, fa_error *error)
{
	if (t->o.task != FA_TASK_EMBED)
		return fa_attribute_net(&t->net, t->o.network, t->o.hidden, true, (float) t->o.dropout,
								error);
	FA_TRY(fa_persons_open(&t->persons, &t->faces, t->o.batch, fa_loader_steps(&t->loading),
						   (uint64_t) t->o.seed, error));
	t->loading.pick = fa_persons_pick;
	t->loading.pick_argument = &t->persons;
	FA_TRY(fa_embedding_net(&t->net, t->o.network, true, &t->embedding_size, error));
	if (t->o.embed_loss != FA_EMBED_MARGIN)
		return FA_OK;
	return fa_margin_open(&t->margin, t->persons.count, t->embedding_size, t->o.batch, t->o.margin,
						  t->o.scale, (uint64_t) t->o.seed, error);
}

/* From the weights to start from, or the training to go on with; the record is complete then. */
static fa_status
inherit(fa_training *t, const json_t *before, fa_error *error)
{
	fa_numbers *landmarks = &t->o.landmark_template;
	char differences[512];
	const char *text;

	FA_TRY(fa_inherit(t->o.init, before, &t->inherited, error));
	text = json_string_value(json_object_get(t->inherited, "template"));
	if (landmarks->count == 0 && fa_parse_numbers(text, landmarks->values, 2 * FA_LANDMARKS))
		landmarks->count = 2 * FA_LANDMARKS;
	if (landmarks->count == 0)
		*landmarks = fa_usual_template;
	t->record = fa_train_options_json(&t->o);
	if (t->record == NULL || json_object_set(t->record, "inherited", t->inherited) != 0)
		return fa_no_memory(error, 0);
	if (before == NULL)
	{
		fa_watch_say(&t->watch, "starts from %s%s",
					 t->o.init != NULL ? t->o.init : "random weights",
					 t->o.init == t->o.default_init ? ", the shipped model" : "");
		return FA_OK;
	}
	fa_train_options_differences(&t->o, before, differences, sizeof(differences));
	if (differences[0] != '\0')
		fa_watch_say(&t->watch, "warning: before, the training had other %s", differences);
	return FA_OK;
}

/* why_not: there is no GPU, where that was left open. */
static void
tell_device(fa_training *t, const fa_error *why_not)
{
	char name[256] = "";

	if (why_not->status != FA_OK)
		fa_watch_say(&t->watch, "no GPU: %s", why_not->message);
	if (t->interface->describe != NULL)
		t->interface->describe(t->engine, name, sizeof(name));
	if (t->interface != &fa_cpu_engine)
		fa_watch_say(&t->watch, "trains on the GPU%s%s", name[0] == '\0' ? "" : ": ", name);
}

/* Where the device augments, threads only decode and draw. */
static fa_status
open_loader(fa_training *t, fa_error *error)
{
	fa_loader_options options = t->loading;

	options.drawn_only = t->interface->augment != NULL;
	return fa_loader_open(&options, t->progress.step, &t->loader, error);
}

static fa_status
prepare(fa_training *t, const fa_checkpoint *checkpoint, fa_error *error)
{
	FA_TRY(inherit(t, checkpoint->options, error));
	FA_TRY(fa_training_read(t, error));
	FA_TRY(make_net(t, error));
	FA_TRY(allocate(t, error));
	FA_TRY(open_loader(t, error));
	fa_watch_say(&t->watch,
				 "%d faces, %d to validate on, %d and %d negatives; %lld steps an epoch; step %lld",
				 t->faces.count, t->validation.count, t->negatives.count,
				 t->negative_validation.count, (long long) fa_loader_steps(&t->loading),
				 (long long) t->progress.step);
	return start_trainer(t, checkpoint, error);
}

static fa_status
open_publisher(fa_training *t, fa_error *error)
{
	char directory[FA_PATH_LENGTH], model[FA_PATH_LENGTH + 32];

	if (t->o.publish == NULL)
		return FA_OK;
	fa_weights_directory(NULL, directory);
	snprintf(model, sizeof(model), "%s/default.safetensors", directory);
	return fa_publisher_open(t->o.source.connection != NULL ? t->o.source.connection : "",
							 t->o.publish, model, &t->publisher, error);
}

/* The output folder, and what is in it of a training to go on with. */
static fa_status
open_output(fa_training *t, fa_checkpoint *checkpoint, fa_error *error)
{
	char path[FA_PATH_LENGTH];

	if (strlen(t->o.output) > FA_PATH_LENGTH - 512)
		return fa_fail(error, FA_INVALID, "the output folder's path is too long");
	if (mkdir(t->o.output, 0777) != 0 && errno != EEXIST)
		return fa_fail(error, FA_IO, "%s: %s", t->o.output, strerror(errno));
	fa_output_path(t, "last.safetensors", path);
	t->progress.best = INFINITY;
	if (!t->o.resume && access(path, F_OK) == 0)
		return fa_fail(error, FA_INVALID,
					   "%s holds a training: --resume goes on with it, another --output begins one",
					   t->o.output);
	if (t->o.resume && access(path, F_OK) == 0)
	{
		FA_TRY(fa_checkpoint_read(checkpoint, path, error));
		t->progress = checkpoint->progress;
	}
	FA_TRY(fa_watch_open(&t->watch, t->o.output, checkpoint->options != NULL, t->progress.step,
						 error));
	return fa_history_open(&t->history, fa_output_path(t, "history.jsonl", path),
						   checkpoint->options != NULL ? t->progress.step : -1, error);
}

static void
clean_up(fa_training *t)
{
	fa_loader_close(t->loader);
	if (t->trainer != NULL)
		t->interface->trainer_close(t->trainer);
	for (int i = 0; i <= FA_HEADS; i++)
	{
		free(t->outputs[i]);
		free(t->gradients[i]);
	}
	free(t->spare);
	free(t->batch_persons);
	fa_persons_close(&t->persons);
	fa_margin_close(&t->margin);
	for (int h = 0; h < FA_HEADS; h++)
		free(t->class_weights[h]);
	fa_mixup_close(&t->mixup);
	free(t->pixels);
	fa_net_free(&t->net);
	if (t->engine != NULL)
		t->interface->close(t->engine);
	fa_dataset_free(&t->faces);
	fa_dataset_free(&t->validation);
	fa_negatives_free(&t->negatives);
	fa_negatives_free(&t->negative_validation);
	fa_history_free(&t->history);
	fa_watch_close(&t->watch);
	fa_publisher_close(t->publisher);
	json_decref(t->record);
	json_decref(t->inherited);
}

int
faceattr_train(int argc, char **argv)
{
	fa_training t = {.interface = &fa_cpu_engine};
	fa_checkpoint checkpoint = {.options = NULL};
	fa_error error = {.status = FA_OK}, no_gpu = error;
	fa_status status;

	fa_train_options_parse(&t.o, argc, argv);
	t.schedule = fa_train_schedule(&t.o);
	fa_train_losses(&t.o, t.losses);
	fa_train_losses(&t.o, t.judging);
	fa_catch_signals(false);
	/* what would be refused in the end comes before anything is read or written */
	status = fa_device_open((fa_device) t.o.device, t.o.threads, &t.interface, &t.engine, &error);
	no_gpu = error;
	if (status == FA_OK)
		status = open_publisher(&t, &error);
	if (status == FA_OK)
		status = open_output(&t, &checkpoint, &error);
	if (status == FA_OK)
	{
		tell_device(&t, &no_gpu);
		status = prepare(&t, &checkpoint, &error);
	}
	fa_checkpoint_free(&checkpoint);
	if (status == FA_OK)
		status = run(&t, &error);
	clean_up(&t);
	if (status != FA_OK)
		fa_complain(&error);
	return fa_signalled() ? 130 : status != FA_OK;
}
