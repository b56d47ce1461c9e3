/*
 * train_options.h
 *		What `faceattr train` can be told: one table of options gives the command
 *		line, its help and the record of a training's hyper-parameters.
 */
#ifndef FA_TRAIN_OPTIONS_H
#define FA_TRAIN_OPTIONS_H

#include "common.h"
#include "loss.h"
#include "schedule.h"
#include "source.h"
#include "validate.h"

#include <jansson.h>

typedef enum fa_task
{
	FA_TASK_ATTRIBUTES,
	FA_TASK_EMBED
} fa_task;

typedef enum fa_embed_loss
{
	FA_EMBED_TRIPLET, /* persons.h */
	FA_EMBED_MARGIN   /* margin.h */
} fa_embed_loss;

typedef struct fa_numbers
{
	int count;
	double values[FA_MAX_MILESTONES];
} fa_numbers;

typedef struct fa_train_options
{
	const char *data, *labels, *validation, *validation_labels;
	const char *negatives, *negative_validation, *detector, *output;
	const char *init;    /* NULL: random weights */
	const char *publish; /* name of a model, or NULL */
	fa_source_options source;
	const char *network; /* networks.h */
	const char *freeze, *rates, *augmentation;
	double negative_share, save_minutes;
	int size, batch, hidden, epochs, head_epochs, threads, workers, patience, seed;
	double minutes, rate, warm_up, step_factor, sgd_momentum, weight_decay, clip, ema, dropout;
	double momentum, sigma, age_error, smoothing, balance, mixup;
	double margin, scale; /* of the embedding's loss; margin -1: what is usual for it */
	int embed_loss;
	int task, schedule, optimizer, device, precision, metric; /* of the enumerations */
	fa_numbers milestones, weights;
	fa_numbers landmark_template; /* none: that of the weights to start from */
	bool resume, new_heads;

	fa_augment_options augment; /* what `augmentation` says */
	/* what detector, init and output point to where they are not given */
	char weights_directory[FA_PATH_LENGTH], default_init[FA_PATH_LENGTH + 32], default_output[96];
} fa_train_options;

/* Exits, as argp does, where the command line makes no sense. */
extern void fa_train_options_parse(fa_train_options *options, int argc, char **argv);

/* All that shapes the result, by the options' names; NULL when memory is short. */
extern json_t *fa_train_options_json(const fa_train_options *options);

/*
 * The names of the options in which a training differs from one whose record that is, ", "
 * between them, into text.
 */
extern void fa_train_options_differences(const fa_train_options *options, const json_t *record,
										 char *text, size_t size);

/* Five landmarks as fractions of a chip, for weights that say nothing of it: the mean ones of
 * UTKFace's chips. */
extern const fa_numbers fa_usual_template;

extern fa_schedule fa_train_schedule(const fa_train_options *options);
extern void fa_train_losses(const fa_train_options *options, fa_loss_options losses[FA_HEADS]);

#endif
