/*
 * training.h
 *		A training, for the files that `faceattr train` consists of: train.c (the loop),
 *		training_data.c (what it trains on) and training_validation.c (how well it does). The
 *		main thread's.
 */
#ifndef FA_TRAINING_H
#define FA_TRAINING_H

#include "checkpoint.h"
#include "loader.h"
#include "margin.h"
#include "mixup.h"
#include "negatives.h"
#include "persons.h"
#include "publish.h"
#include "train_options.h"
#include "watch.h"

/* Everything that a training holds; freed in one place. */
typedef struct fa_training
{
	fa_train_options o;
	json_t *record; /* of the options, and what is inherited */
	json_t *inherited;
	bool trained[FA_HEADS];
	fa_publisher *publisher; /* NULL: the model is not to be published */
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_net net;
	fa_trainer *trainer;
	bool heads_only; /* the trainer is one for the heads alone */
	fa_loader *loader;
	fa_dataset faces, validation;
	fa_negatives negatives, negative_validation;
	fa_loader_options loading, validating;
	fa_schedule schedule;
	fa_mixup mixup;
	uint8_t *pixels;    /* of a batch that is blended here, or that a device has augmented */
	fa_persons persons; /* of an embedding's batches */
	int *batch_persons; /* [batch] */
	int embedding_size;
	fa_margin margin;                  /* of --embed-loss margin */
	fa_loss_options losses[FA_HEADS];  /* to train with */
	fa_loss_options judging[FA_HEADS]; /* to validate with: all classes weigh the same */
	float *class_weights[FA_HEADS];    /* NULL: not balanced */
	float *outputs[1 + FA_HEADS], *gradients[1 + FA_HEADS];
	float *spare; /* as large as the largest of these */
	fa_progress progress;
	fa_history history;
	fa_watch watch;
} fa_training;

/* A file of the output folder, whose name's length was checked; path has FA_PATH_LENGTH bytes. */
extern const char *fa_output_path(const fa_training *t, const char *name, char *path);

/*
 * training_data.c: faces and negatives to train and to validate on, which heads they train, and
 * what labels weigh. The options' template is set.
 */
extern fa_status fa_training_read(fa_training *t, fa_error *error);

/*
 * training_validation.c: validates the moving average, where there is one, and keeps, shows and
 * records what comes of it. epoch: where the training is; the rest is filled in.
 */
extern fa_status fa_training_validate(fa_training *t, fa_epoch *epoch, fa_error *error);
/* The last report is of the best weights, whose scores these are. */
extern fa_status fa_training_report_best(fa_training *t, fa_scores *scores, fa_error *error);

#endif
