/*
 * validate.h
 *		How well weights do on ready chips, in the form in which they will be used:
 *		batch norm folded, no augmentation. Training watches it, calibration fits on it.
 */
#ifndef FA_VALIDATE_H
#define FA_VALIDATE_H

#include "../src/nn/engine.h"
#include "heads.h"

typedef struct fa_scores
{
	int count;
	double age_error;          /* years, mean absolute */
	double gender, race, face; /* per cent right; face: of chips and negatives, balanced */
	double total;              /* one figure to choose by, lower is better */
} fa_scores;

/*
 * Logits of every image: logits[h] is malloc'ed, count x classes, the caller's.
 * zoom: the images show that many times the network's frame.
 */
extern fa_status fa_all_logits(const fa_engine_interface *interface, fa_engine *engine,
							   const fa_net *net, const fa_weights *folded, fa_precision precision,
							   const fa_dataset *images, double zoom, int size, float **logits,
							   fa_error *error);

/* negatives NULL: none. weights: of the training form. */
extern fa_status fa_validate(const fa_engine_interface *interface, fa_engine *engine,
							 const fa_weights *weights, int hidden, fa_precision precision,
							 const fa_dataset *images, const fa_dataset *negatives,
							 double negative_zoom, int size, fa_scores *scores, fa_error *error);

#endif
