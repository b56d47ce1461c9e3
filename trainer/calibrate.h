/*
 * calibrate.h
 *		From a training's best weights to a model: batch norm folded in, values rounded to
 *		fp16, a temperature per head and the quantile of the age interval fitted on
 *		validation data, and the metadata that say so (docs/weights-format.md). For
 *		`faceattr calibrate`, and for the end of `faceattr train`.
 *
 * A training's file says in its metadata what it was trained with ("template", "trained")
 * and what it has from the weights that it started from ("verification", "licence"), so that nobody
 * has to say it again.
 */
#ifndef FA_CALIBRATE_H
#define FA_CALIBRATE_H

#include "validate.h"

#include <jansson.h>

typedef struct fa_folded
{
	fa_weights weights; /* folded and rounded, heads that were not trained among them; owned */
	const char *network;
	int hidden, size;
	bool trained[FA_HEADS]; /* these heads become the model's; none: an embedding alone */
	double landmark_template[FA_LANDMARKS][2];
} fa_folded;

/* What the metadata are to say instead of what the training's file says. */
typedef struct fa_model_facts
{
	const char *landmark_template; /* ten numbers, or NULL */
	double pivot, power;           /* of verification (src/face/verify.h), or 0 */
	const char *licence, *note;    /* or NULL */
} fa_model_facts;

/*
 * Reads best.safetensors of a training and sets the heads (heads.h) to its label sets. Free
 * with fa_weights_free(&folded->weights), also after a failure.
 */
extern fa_status fa_fold_training(const char *path, const fa_model_facts *facts, fa_folded *folded,
								  fa_error *error);

/*
 * Fits on validation data (options: as for fa_logits_collect) what is fitted, and writes the model.
 * A head without labels there keeps temperature 1. *metrics, NULL before, unless metrics is: the
 * model's figures on these data, as `faceattr evaluate --json` calls them, for the caller to free.
 * An embedding without heads has nothing to fit and no such figures.
 */
extern fa_status fa_calibrate(fa_folded *folded, const fa_model_facts *facts, fa_engine *engine,
							  const fa_loader_options *validation, const char *output,
							  json_t **metrics, fa_error *error);

/* The temperature, 0.1 ... 10, of the least negative log likelihood (Guo et al. 2017). */
extern double fa_fit_temperature(const fa_logits *logits, int head);
/* The share of labelled ages between the quantiles q and 1 - q of their distributions. */
extern double fa_age_coverage(const fa_logits *logits, double temperature, double q);
/* The q, 0.0005 ... 0.49, at which coverage comes to 80 %. */
extern double fa_fit_age_quantile(const fa_logits *logits, double temperature);

#endif
