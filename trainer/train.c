/*
 * train.c
 *		`faceattr train`: fine-tunes the attribute network on ready chips.
 *
 * The main thread steps the engine; the loader's threads make batches ahead. The
 * schedule runs over a number of epochs, or over a time: then its progress is the
 * time spent training, which a checkpoint keeps. A signal ends the loop after the
 * step it falls in, a checkpoint is written, and --resume goes on from there.
 */
#include "trainer.h"

#include "checkpoint.h"
#include "loss.h"
#include "restore.h"
#include "source.h"
#include "validate.h"

#include <argp.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct options
{
	const char *data, *labels, *validation, *validation_labels;
	const char *negatives, *negative_validation, *detector, *init, *output;
	fa_source_options source;
	double negative_share;
	int size, batch, hidden, epochs, head_epochs, threads, workers, checkpoint_minutes;
	double minutes, rate, head_rate, warm_up, weight_decay, clip, ema, dropout, momentum;
	uint64_t seed;
	bool resume;
	fa_precision precision;
	fa_augment_options augment;
	fa_loss_options losses[FA_HEADS];
	double landmark_template[FA_LANDMARKS][2];
} options;

enum
{
	OPT_VAL = 256,
	OPT_VAL_LABELS,
	OPT_NEGATIVES,
	OPT_VAL_NEGATIVES,
	OPT_DETECTOR,
	OPT_NEGATIVE_SHARE,
	OPT_INIT,
	OPT_SIZE,
	OPT_BATCH,
	OPT_HIDDEN,
	OPT_EPOCHS,
	OPT_MINUTES,
	OPT_HEAD_EPOCHS,
	OPT_RATE,
	OPT_HEAD_RATE,
	OPT_WARM_UP,
	OPT_WEIGHT_DECAY,
	OPT_CLIP,
	OPT_EMA,
	OPT_DROPOUT,
	OPT_MOMENTUM,
	OPT_SEED,
	OPT_RESUME,
	OPT_THREADS,
	OPT_WORKERS,
	OPT_PRECISION,
	OPT_AUGMENT,
	OPT_SIGMA,
	OPT_AGE_ERROR,
	OPT_SMOOTHING,
	OPT_WEIGHTS,
	OPT_TEMPLATE,
	OPT_SAVE
};

static const struct argp_option argp_options[] = {
	{"data", 'd', "TAR|DIR", 0, "Chips to train on", 1},
	{"labels", 'l', "TSV", 0, "Their labels (default: beside the data)", 1},
	{"val", OPT_VAL, "TAR|DIR", 0, "Chips to validate on", 1},
	{"val-labels", OPT_VAL_LABELS, "TSV", 0, "Their labels", 1},
	{"negatives", OPT_NEGATIVES, "TAR|DIR", 0, "Photos without a human face", 1},
	{"val-negatives", OPT_VAL_NEGATIVES, "TAR|DIR", 0, "The same for validation", 1},
	{"detector", OPT_DETECTOR, "DIR", 0, "Where yunet_n.safetensors is (weights)", 1},
	{"negative-share", OPT_NEGATIVE_SHARE, "X", 0, "Share of a batch (0.1)", 1},
	{"init", OPT_INIT, "FILE", 0,
	 "Weights to start from: a folded backbone, or an earlier training's best.safetensors", 2},
	{"output", 'o', "DIR", 0, "Where checkpoints, best weights and the log go", 2},
	{"resume", OPT_RESUME, 0, 0, "Go on from DIR/last.safetensors", 2},
	{"save-every", OPT_SAVE, "MINUTES", 0, "Write a checkpoint that often (5)", 2},
	{"size", OPT_SIZE, "PIXELS", 0, "Side of the network's input (224)", 3},
	{"hidden", OPT_HIDDEN, "N", 0, "Width of the heads' hidden layer (512)", 3},
	{"dropout", OPT_DROPOUT, "X", 0, "Dropout before and after it (0.2)", 3},
	{"epochs", OPT_EPOCHS, "N", 0, "Length of the training (10)", 4},
	{"minutes", OPT_MINUTES, "M", 0, "Length as a time, instead", 4},
	{"head-epochs", OPT_HEAD_EPOCHS, "N", 0, "First train the heads alone (1)", 4},
	{"batch", OPT_BATCH, "N", 0, "Images in a step (32)", 4},
	{"rate", OPT_RATE, "X", 0, "Highest learning rate of AdamW (4e-4)", 4},
	{"head-rate", OPT_HEAD_RATE, "X", 0, "Times that for the heads (2)", 4},
	{"warm-up", OPT_WARM_UP, "X", 0, "Share of the schedule (0.05)", 4},
	{"weight-decay", OPT_WEIGHT_DECAY, "X", 0, "(0.05)", 4},
	{"clip", OPT_CLIP, "X", 0, "Largest norm of the gradient (5)", 4},
	{"ema", OPT_EMA, "X", 0, "Decay of the weights' moving average (0.999)", 4},
	{"momentum", OPT_MOMENTUM, "X", 0, "Of batch norm's running statistics (0.02)", 4},
	{"seed", OPT_SEED, "N", 0, "(1)", 4},
	{"age-sigma", OPT_SIGMA, "YEARS", 0, "Width of soft age labels (2.5)", 5},
	{"age-error", OPT_AGE_ERROR, "X", 0, "Weight of the expected age's error (0.1)", 5},
	{"smoothing", OPT_SMOOTHING, "X", 0, "Label smoothing of gender and race (0.05)", 5},
	{"weights", OPT_WEIGHTS, "A,G,R,F", 0, "Of the losses (1,1,1,0.5)", 5},
	{"augment", OPT_AUGMENT, "X", 0, "Strength of augmentation; 0: none (1)", 6},
	{"template", OPT_TEMPLATE, "X,Y,...", 0, "Five landmarks as fractions of a chip", 6},
	{"precision", OPT_PRECISION, "P", 0, "auto, fp32 or bf16", 7},
	{"threads", OPT_THREADS, "N", 0, "Of the engine (2)", 7},
	{"workers", OPT_WORKERS, "N", 0, "Threads that decode and augment (1)", 7},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;
	double number = 0, weights[FA_HEADS];
	struct
	{
		int key;
		double *real, low, high;
	} reals[] = {
		{OPT_NEGATIVE_SHARE, &o->negative_share, 0, 0.9},
		{OPT_MINUTES, &o->minutes, 0, 1e6},
		{OPT_RATE, &o->rate, 0, 10},
		{OPT_HEAD_RATE, &o->head_rate, 0, 1000},
		{OPT_WARM_UP, &o->warm_up, 0, 1},
		{OPT_WEIGHT_DECAY, &o->weight_decay, 0, 10},
		{OPT_CLIP, &o->clip, 0, 1e6},
		{OPT_EMA, &o->ema, 0, 1},
		{OPT_DROPOUT, &o->dropout, 0, 0.95},
		{OPT_MOMENTUM, &o->momentum, 0, 1},
		{OPT_AUGMENT, &o->augment.strength, 0, 4},
	};
	struct
	{
		int key;
		int *whole, low, high;
	} wholes[] = {
		{OPT_SIZE, &o->size, 32, 1024},      {OPT_HIDDEN, &o->hidden, 0, 8192},
		{OPT_EPOCHS, &o->epochs, 1, 100000}, {OPT_HEAD_EPOCHS, &o->head_epochs, 0, 100000},
		{OPT_BATCH, &o->batch, 2, 4096},     {OPT_THREADS, &o->threads, 1, 1024},
		{OPT_WORKERS, &o->workers, 1, 1024}, {OPT_SAVE, &o->checkpoint_minutes, 1, 100000},
	};

	for (size_t i = 0; i < sizeof(reals) / sizeof(reals[0]); i++)
		if (reals[i].key == key)
		{
			if (!fa_parse_numbers(text, &number, 1) || number < reals[i].low ||
				number > reals[i].high)
				argp_error(state, "%s is no number from %g to %g", text, reals[i].low,
						   reals[i].high);
			*reals[i].real = number;
			return 0;
		}
	for (size_t i = 0; i < sizeof(wholes) / sizeof(wholes[0]); i++)
		if (wholes[i].key == key)
		{
			if (!fa_parse_numbers(text, &number, 1) || number != floor(number) ||
				number < wholes[i].low || number > wholes[i].high)
				argp_error(state, "%s is no whole number from %d to %d", text, wholes[i].low,
						   wholes[i].high);
			*wholes[i].whole = (int) number;
			return 0;
		}
	switch (key)
	{
		case 'd':
			o->data = text;
			return 0;
		case 'l':
			o->labels = text;
			return 0;
		case OPT_VAL:
			o->validation = text;
			return 0;
		case OPT_VAL_LABELS:
			o->validation_labels = text;
			return 0;
		case OPT_NEGATIVES:
			o->negatives = text;
			return 0;
		case OPT_VAL_NEGATIVES:
			o->negative_validation = text;
			return 0;
		case OPT_DETECTOR:
			o->detector = text;
			return 0;
		case OPT_INIT:
			o->init = text;
			return 0;
		case 'o':
			o->output = text;
			return 0;
		case OPT_RESUME:
			o->resume = true;
			return 0;
		case OPT_SEED:
			o->seed = strtoull(text, NULL, 10);
			return 0;
		case OPT_SIGMA:
		case OPT_AGE_ERROR:
		case OPT_SMOOTHING:
			if (!fa_parse_numbers(text, &number, 1) || number < 0)
				argp_error(state, "%s is no number from 0 on", text);
			if (key == OPT_SIGMA)
				o->losses[FA_HEAD_AGE].sigma = (float) number;
			else if (key == OPT_AGE_ERROR)
				o->losses[FA_HEAD_AGE].expectation = (float) number;
			else
				o->losses[FA_HEAD_GENDER].smoothing = o->losses[FA_HEAD_RACE].smoothing =
					(float) number;
			return 0;
		case OPT_WEIGHTS:
			if (!fa_parse_numbers(text, weights, FA_HEADS))
				argp_error(state, "--weights takes four numbers");
			for (int h = 0; h < FA_HEADS; h++)
				o->losses[h].weight = (float) weights[h];
			return 0;
		case OPT_TEMPLATE:
			if (!fa_parse_numbers(text, &o->landmark_template[0][0], 10))
				argp_error(state, "--template takes ten numbers");
			return 0;
		case OPT_PRECISION:
			if (strcmp(text, "auto") == 0)
				o->precision = FA_PRECISION_AUTO;
			else if (strcmp(text, "fp32") == 0)
				o->precision = FA_PRECISION_FP32;
			else if (strcmp(text, "bf16") == 0)
				o->precision = FA_PRECISION_BF16;
			else
				argp_error(state, "--precision is auto, fp32 or bf16");
			return 0;
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->source;
			return 0;
		case ARGP_KEY_END:
			if (o->output == NULL || o->init == NULL)
				argp_error(state, "--init and --output are needed");
			if (o->source.query == NULL ? o->data == NULL || o->validation == NULL
										: o->data != NULL || o->validation != NULL)
				argp_error(state, "either --data and --val are needed, or --query");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* Everything that a training holds; freed in one place. */
typedef struct training
{
	options o;
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_net net;
	fa_trainer *trainer;
	bool heads_only; /* the trainer is one for the heads alone */
	fa_loader *loader;
	fa_dataset faces, validation;
	fa_negatives negatives, negative_validation;
	fa_loader_options loading, validating;
	fa_progress progress;
	FILE *log;
	float *outputs[1 + FA_HEADS], *gradients[1 + FA_HEADS];
} training;

static volatile sig_atomic_t signalled;

static void
on_signal(int number)
{
	(void) number;
	signalled = 1;
}

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

/* Normal values of the deviation that suits a layer's inputs (He et al. 2015); biases 0. */
static void
init_parameter(fa_tensor *tensor, const fa_parameter *p, double gain, uint64_t seed)
{
	fa_random random = fa_random_seed(seed, 4, (uint64_t) p->op);
	double fan_in = (double) p->count / p->shape[0];

	for (size_t i = 0; i < p->count; i++)
		tensor->values[i] =
			p->rank > 1 ? (float) (gain / sqrt(fan_in) * fa_random_normal(&random)) : 0.0f;
}

/* Weights of the training form: from an earlier training, or a folded backbone and new heads. */
static fa_status
initial_weights(training *t, fa_weights *weights, fa_error *error)
{
	fa_weights given = {0};
	fa_net folded;
	fa_parameter *parameters;
	int count;
	fa_status status;

	FA_TRY(fa_weights_read(&given, t->o.init, error));
	if (fa_weights_find(&given, "conv1.bn.weight") != NULL)
	{
		*weights = given;
		return FA_OK;
	}
	status = fa_net_mobilenet_v1(&folded, NULL, 0, 0, false, 0, error);
	if (status == FA_OK)
	{
		status = fa_weights_match(&given, &folded, true, error);
		if (status == FA_OK)
			status = fa_restore_batch_norm(t->interface, t->engine, &folded, &given, &t->net,
										   &t->loading, 256, weights, error);
		fa_net_free(&folded);
	}
	fa_weights_free(&given);
	if (status != FA_OK || fa_net_parameters(&t->net, &parameters, &count, error) != FA_OK)
		return error->status;
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		fa_tensor *tensor;

		if (fa_weights_find(weights, parameters[i].name) != NULL)
			continue;
		status = fa_weights_add(weights, parameters[i].name, parameters[i].rank,
								parameters[i].shape, &tensor, error);
		if (status == FA_OK)
			init_parameter(tensor, &parameters[i],
						   strncmp(parameters[i].name, "hidden.", 7) == 0 ? sqrt(2.0) : 0.3,
						   t->o.seed);
	}
	free(parameters);
	return status;
}

static bool
is_head(const fa_op *op)
{
	return op->kind == FA_OP_DENSE;
}

/* A trainer for the heads alone on a frozen backbone, or for everything. */
static fa_status
open_trainer(training *t, const fa_weights *weights, bool heads_only, fa_error *error)
{
	float *rates = calloc(t->net.op_count, sizeof(float));
	fa_trainer_options options = {
		.count = t->o.batch,
		.height = t->o.size,
		.width = t->o.size,
		.precision = t->o.precision,
		.batch_norm = FA_BATCH_NORM_TRAINING,
		.momentum = (float) t->o.momentum,
		.rates = rates,
		.seed = t->o.seed + (uint64_t) t->progress.step,
	};
	fa_status status;

	if (rates == NULL)
		return fa_no_memory(error, t->net.op_count * sizeof(float));
	for (int i = 0; i < t->net.op_count; i++)
		rates[i] = is_head(&t->net.ops[i]) ? (float) t->o.head_rate : heads_only ? 0.0f : 1.0f;
	status = t->interface->trainer_open(t->engine, &t->net, weights, &options, &t->trainer, error);
	free(rates);
	t->heads_only = heads_only;
	return status;
}

/* After the heads, everything: a new trainer with the weights of the old one. */
static fa_status
train_everything(training *t, fa_error *error)
{
	fa_weights weights = {0};
	fa_status status = t->interface->read_state(t->trainer, FA_STATE_WEIGHTS, &weights, error);

	if (status == FA_OK)
	{
		t->interface->trainer_close(t->trainer);
		t->trainer = NULL;
		status = open_trainer(t, &weights, false, error);
	}
	fa_weights_free(&weights);
	return status;
}

static const char *
output_path(const training *t, const char *name, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", t->o.output, name);
	return path;
}

static void say(training *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A line for people, to the terminal and the log. */
static void
say(training *t, const char *format, ...)
{
	va_list arguments;
	char line[512];

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	fprintf(stderr, "%s%s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "", line);
	if (t->log != NULL)
	{
		fprintf(t->log, "# %s\n", line);
		fflush(t->log);
	}
}

static int64_t
head_steps(const training *t)
{
	return t->o.head_epochs * fa_loader_steps(&t->loading);
}

/* How much of the schedule is over, 0 ... 1; the heads' epochs come before it. */
static double
schedule_position(const training *t)
{
	double steps = (double) fa_loader_steps(&t->loading) * t->o.epochs;
	double position = t->o.minutes > 0 ? t->progress.seconds / (60 * t->o.minutes)
									   : (double) (t->progress.step - head_steps(t)) / steps;

	return position < 0 ? 0 : position > 1 ? 1 : position;
}

/* Linear warm-up, then half a cosine down to zero (Loshchilov, Hutter 2017). */
static double
learning_rate(const training *t)
{
	double position = schedule_position(t);

	if (t->heads_only)
		return t->o.rate;
	if (position < t->o.warm_up)
		return t->o.rate * (position / t->o.warm_up * 0.9 + 0.1);
	return t->o.rate * 0.5 *
		   (1 + cos(M_PI * (position - t->o.warm_up) / (1 - t->o.warm_up + 1e-9)));
}

static fa_status
step(training *t, double *losses, float *norm, fa_error *error)
{
	const fa_loaded *made;
	fa_batch batch = {t->o.batch, t->o.size, t->o.size, NULL};
	fa_update update = {
		.learning_rate = (float) learning_rate(t),
		.beta1 = 0.9f,
		.beta2 = 0.999f,
		.epsilon = 1e-8f,
		.weight_decay = (float) t->o.weight_decay,
		.clip_norm = (float) t->o.clip,
		.ema_decay = (float) fmin(t->o.ema, (1.0 + (double) t->progress.step) /
												(10.0 + (double) t->progress.step)),
		.step = t->progress.step + 1,
	};
	fa_status status;

	FA_TRY(fa_loader_next(t->loader, &made, error));
	batch.pixels = made->pixels;
	status = t->interface->forward(t->trainer, &batch, t->outputs, error);
	for (int h = 0; h < FA_HEADS && status == FA_OK; h++)
		losses[h] = (h == FA_HEAD_AGE ? fa_loss_ordinal : fa_loss_categories)(
			&t->o.losses[h], t->outputs[1 + h], fa_heads[h].classes, made->targets[h], t->o.batch,
			t->gradients[1 + h]);
	if (status == FA_OK)
		status = t->interface->backward(t->trainer, (const float *const *) t->gradients, error);
	if (status == FA_OK)
		status = t->interface->update(t->trainer, &update, norm, error);
	t->progress.step++;
	return status;
}

/* Validates the moving average; the best so far is kept. */
static fa_status
validate(training *t, fa_error *error)
{
	fa_weights weights = {0};
	fa_scores s;
	char path[4096], text[64];
	fa_status status = t->interface->read_state(t->trainer, FA_STATE_AVERAGE, &weights, error);

	if (status == FA_OK)
		status = fa_validate(t->interface, t->engine, &weights, t->o.hidden, t->o.precision,
							 &t->validating, &s, error);
	if (status == FA_OK)
		say(t,
			"step %lld, %.0f s: validation age %.3f years, gender %.2f %%, race %.2f %%, "
			"faces kept %.2f %%, others rejected %.2f %%, total %.3f%s",
			(long long) t->progress.step, t->progress.seconds, s.age_error, s.gender, s.race,
			s.face, s.reject, s.total, s.total < t->progress.best ? " (best)" : "");
	if (status == FA_OK && s.total < t->progress.best)
	{
		t->progress.best = s.total;
		snprintf(text, sizeof(text), "%d", t->o.hidden);
		status = fa_weights_set(&weights, "hidden", text, error);
		snprintf(text, sizeof(text), "%dx%d", t->o.size, t->o.size);
		if (status == FA_OK)
			status = fa_weights_set(&weights, "input", text, error);
		if (status == FA_OK)
			status = fa_weights_set(&weights, "network", "mobilenet_v1", error);
		if (status == FA_OK)
			status = fa_heads_write(&weights, error);
		if (status == FA_OK)
			status = fa_weights_write(
				&weights, output_path(t, "best.safetensors", path, sizeof(path)), FA_F32, error);
	}
	fa_weights_free(&weights);
	return status;
}

/* The bar and, less often, a line of the log. */
static void
show(training *t, const double *losses, float norm, double speed)
{
	double position = schedule_position(t), left = NAN;
	int64_t per_epoch = fa_loader_steps(&t->loading);

	if (t->o.minutes > 0)
		left = 60 * t->o.minutes - t->progress.seconds;
	else if (speed > 0)
		left = (1 - position) * (double) (per_epoch * t->o.epochs * t->o.batch) / speed;
	if (isatty(STDERR_FILENO))
	{
		char bar[31];

		for (int i = 0; i < 30; i++)
			bar[i] = i < 30 * position ? '#' : '.';
		bar[30] = '\0';
		fprintf(stderr,
				"\r\033[K[%s] epoch %.2f  age %.3f gender %.3f race %.3f face %.3f  "
				"%.0f img/s  %d:%02d left",
				bar, (double) t->progress.step / (double) per_epoch, losses[0], losses[1],
				losses[2], losses[3], speed, (int) (left / 60), (int) fmod(left, 60));
	}
	if (t->progress.step % 50 == 0)
	{
		fprintf(t->log, "%lld\t%.1f\t%.3f\t%.3g\t%.4f\t%.4f\t%.4f\t%.4f\t%.3f\t%.1f\n",
				(long long) t->progress.step, t->progress.seconds,
				(double) t->progress.step / (double) per_epoch, learning_rate(t), losses[0],
				losses[1], losses[2], losses[3], norm, speed);
		fflush(t->log);
	}
}

static fa_status
save(training *t, fa_error *error)
{
	char path[4096];

	return fa_checkpoint_write(t->interface, t->trainer, &t->progress,
							   output_path(t, "last.safetensors", path, sizeof(path)), error);
}

static bool
finished(const training *t)
{
	return t->progress.step >= head_steps(t) && schedule_position(t) >= 1;
}

static fa_status
run(training *t, fa_error *error)
{
	int64_t per_epoch = fa_loader_steps(&t->loading);
	double mean[FA_HEADS] = {0}, speed = 0, saved = now();
	const char *first_damaged;
	int damaged;

	while (!finished(t) && !signalled)
	{
		double began = now(), took, losses[FA_HEADS];
		float norm = 0;
		bool validated = false;

		if (t->heads_only && t->progress.step >= head_steps(t))
			FA_TRY(train_everything(t, error));
		FA_TRY(step(t, losses, &norm, error));
		took = now() - began;
		t->progress.seconds += took;
		speed = speed == 0 ? t->o.batch / took : 0.98 * speed + 0.02 * t->o.batch / took;
		for (int h = 0; h < FA_HEADS; h++)
			mean[h] = mean[h] == 0 ? losses[h] : 0.98 * mean[h] + 0.02 * losses[h];
		show(t, mean, norm, speed);
		if (t->progress.step % per_epoch == 0)
		{
			FA_TRY(validate(t, error));
			validated = true;
		}
		if (finished(t) && !validated)
			FA_TRY(validate(t, error));
		if (now() - saved > 60 * t->o.checkpoint_minutes)
		{
			FA_TRY(save(t, error));
			saved = now();
		}
	}
	FA_TRY(save(t, error));
	damaged = fa_loader_damaged(t->loader, &first_damaged);
	if (damaged > 0)
		say(t, "%d times an image could not be decoded, first %s", damaged, first_damaged);
	if (signalled)
		say(t, "stopped at step %lld; --resume goes on", (long long) t->progress.step);
	return FA_OK;
}

static bool
is_signalled(void *argument)
{
	(void) argument;
	return signalled;
}

static fa_status
read_faces(training *t, fa_error *error)
{
	const options *o = &t->o;
	const fa_interrupt interrupt = {is_signalled, NULL};
	fa_training_source source = {
		.data = o->data,
		.labels = o->labels,
		.validation = o->validation,
		.validation_labels = o->validation_labels,
		.output = o->output,
		.crops = {.weights = o->detector, .precision = o->precision, .size = o->size},
		.threads = o->threads + o->workers,
		.seed = o->seed,
		.resume = o->resume,
		.interrupt = &interrupt,
	};

	memcpy(source.crops.landmark_template, o->landmark_template, sizeof(o->landmark_template));
	FA_TRY(fa_source_read(&o->source, &source, &t->faces, &t->validation, error));
	return fa_heads_set(&t->faces.sets, error);
}

static fa_status
prepare(training *t, fa_error *error)
{
	const options *o = &t->o;
	const double(*landmarks)[2] = (const double(*)[2]) o->landmark_template;
	fa_weights weights = {0};
	char path[4096];
	fa_status status;

	FA_TRY(read_faces(t, error));
	FA_TRY(fa_negatives_read(&t->negatives, o->negatives, o->detector, o->threads, o->precision,
							 landmarks, 0.3f, 4, o->seed, error));
	/* to validate on: just what would be reported */
	FA_TRY(fa_negatives_read(&t->negative_validation, o->negative_validation, o->detector,
							 o->threads, o->precision, landmarks, 0.5f, 0, o->seed, error));
	t->loading = (fa_loader_options){
		.faces = &t->faces,
		.negatives = &t->negatives,
		.shuffle = true,
		.negative_share = o->negative_share,
		.batch = o->batch,
		.size = o->size,
		.workers = o->workers,
		.augment = o->augment,
		.seed = o->seed,
	};
	memcpy(t->loading.landmark_template, o->landmark_template, sizeof(o->landmark_template));
	t->validating = t->loading;
	t->validating.faces = &t->validation;
	t->validating.negatives = &t->negative_validation;
	FA_TRY(t->interface->open(o->threads, &t->engine, error));
	FA_TRY(fa_attribute_net(&t->net, o->hidden, true, (float) o->dropout, error));
	for (int i = 1; i <= FA_HEADS; i++)
	{
		size_t bytes = (size_t) o->batch * fa_heads[i - 1].classes * sizeof(float);

		t->outputs[i] = malloc(bytes);
		t->gradients[i] = malloc(bytes);
		if (t->outputs[i] == NULL || t->gradients[i] == NULL)
			return fa_no_memory(error, bytes);
	}
	status = initial_weights(t, &weights, error);
	t->progress.best = INFINITY;
	output_path(t, "last.safetensors", path, sizeof(path));
	if (status == FA_OK && o->resume && access(path, R_OK) == 0)
	{
		/* which trainer the checkpoint is of follows from its step */
		status = open_trainer(t, &weights, false, error);
		if (status == FA_OK)
			status = fa_checkpoint_read(t->interface, t->trainer, &t->progress, path, error);
		if (status == FA_OK)
		{
			t->interface->trainer_close(t->trainer);
			t->trainer = NULL;
			status = open_trainer(t, &weights, t->progress.step < head_steps(t), error);
		}
		if (status == FA_OK)
			status = fa_checkpoint_read(t->interface, t->trainer, &t->progress, path, error);
	}
	else if (status == FA_OK)
		status = open_trainer(t, &weights, o->head_epochs > 0, error);
	fa_weights_free(&weights);
	if (status != FA_OK)
		return status;
	say(t, "%d faces, %d to validate on, %d and %d negatives; %lld steps an epoch; step %lld",
		t->faces.count, t->validation.count, t->negatives.count, t->negative_validation.count,
		(long long) fa_loader_steps(&t->loading), (long long) t->progress.step);
	return fa_loader_open(&t->loading, t->progress.step, &t->loader, error);
}

static void
clean_up(training *t)
{
	fa_loader_close(t->loader);
	if (t->trainer != NULL)
		t->interface->trainer_close(t->trainer);
	for (int i = 0; i <= FA_HEADS; i++)
	{
		free(t->outputs[i]);
		free(t->gradients[i]);
	}
	fa_net_free(&t->net);
	t->interface->close(t->engine);
	fa_dataset_free(&t->faces);
	fa_dataset_free(&t->validation);
	fa_negatives_free(&t->negatives);
	fa_negatives_free(&t->negative_validation);
	if (t->log != NULL)
		fclose(t->log);
}

int
faceattr_train(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_training_source_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options, parse_option, NULL, "Fine-tunes the attribute network on labelled faces.",
		children,     NULL,         NULL};
	training t = {
		.o =
			{
				.detector = "weights",
				.negative_share = 0.1,
				.size = 224,
				.batch = 32,
				.hidden = 512,
				.epochs = 10,
				.head_epochs = 1,
				.threads = 2,
				.workers = 1,
				.checkpoint_minutes = 5,
				.rate = 4e-4,
				.head_rate = 2,
				.warm_up = 0.05,
				.weight_decay = 0.05,
				.clip = 5,
				.ema = 0.999,
				.dropout = 0.2,
				.momentum = 0.02,
				.seed = 1,
				.augment = fa_augment_defaults,
				.losses = {{.weight = 1, .sigma = 2.5f, .expectation = 0.1f},
						   {.weight = 1, .smoothing = 0.05f},
						   {.weight = 1, .smoothing = 0.05f},
						   {.weight = 0.5f}},
				/* the mean landmarks of UTKFace's chips: `faceattr template` */
				.landmark_template = {{0.2985, 0.2945},
									  {0.6850, 0.2910},
									  {0.4965, 0.5125},
									  {0.3250, 0.6835},
									  {0.6685, 0.6800}},
			},
		.interface = &fa_cpu_engine,
	};
	struct sigaction action = {.sa_handler = on_signal};
	char path[4096];
	fa_error error = {0};
	fa_status status;

	argp_parse(&parser, argc, argv, 0, NULL, &t.o);
	if (mkdir(t.o.output, 0777) != 0 && errno != EEXIST)
	{
		fprintf(stderr, "faceattr: %s: %s\n", t.o.output, strerror(errno));
		return 1;
	}
	t.log = fopen(output_path(&t, "log.tsv", path, sizeof(path)), t.o.resume ? "a" : "w");
	if (t.log == NULL)
	{
		fprintf(stderr, "faceattr: %s: %s\n", path, strerror(errno));
		return 1;
	}
	if (!t.o.resume)
		fprintf(t.log, "step\tseconds\tepoch\trate\tage\tgender\trace\tface\tgradient\tspeed\n");
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	status = prepare(&t, &error);
	if (status == FA_OK)
		status = run(&t, &error);
	if (status != FA_OK)
		fprintf(stderr, "faceattr: %s%s%s\n", error.message, error.detail[0] ? ": " : "",
				error.detail);
	clean_up(&t);
	return signalled ? 130 : status != FA_OK ? 1 : 0;
}
