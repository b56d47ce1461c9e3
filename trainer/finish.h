/*
 * finish.h
 *		What a training passes on: from the weights that it starts from to its own, in
 *		metadata, and at its end a calibrated model in a file and, if so wished, in a
 *		database.
 */
#ifndef FA_FINISH_H
#define FA_FINISH_H

#include "train_options.h"

/*
 * {"template", "verification", "licence"}: what the metadata of the weights to start from say of
 * these; of random ones nothing. A training that goes on has it in its record.
 */
extern fa_status fa_inherit(const char *init, const json_t *record, json_t **inherited,
							fa_error *error);

/* A finished training. */
typedef struct fa_finish
{
	const fa_train_options *options;
	const json_t *record; /* of the options */
	fa_engine *engine;
	const fa_loader_options *validation;
	const fa_scores *scores; /* of the best weights there */
	int64_t rows;            /* trained on */
} fa_finish;

/* Into the metadata of a training's weights: all that calibrate.h looks for there. */
extern fa_status fa_describe_training(const fa_train_options *options, const json_t *inherited,
									  const bool trained[FA_HEADS], fa_weights *weights,
									  fa_error *error);

/*
 * From DIR/best.safetensors DIR/model.safetensors, metrics.json and hyper-parameters.json, which
 * are then published if options->publish says so. When that fails, standard error has the command
 * that makes up for it.
 */
extern fa_status fa_finish_training(const fa_finish *finish, fa_error *error);

#endif
