/*
 * validate.h
 *		How well weights do on ready chips, in the form in which they will be used:
 *		batch norm folded, no augmentation. Training watches it, calibration fits on it.
 */
#ifndef FA_VALIDATE_H
#define FA_VALIDATE_H

#include "../src/nn/engine.h"
#include "loader.h"
#include "tally.h"

/* Output 0 of these networks is the embedding, output 1 + h head h. */
extern fa_status fa_attribute_net(fa_net *net, const char *network, int hidden, bool training,
								  float dropout, fa_error *error);
/* The same without heads; *size: of the embedding. */
extern fa_status fa_embedding_net(fa_net *net, const char *network, bool training, int *size,
								  fa_error *error);

typedef enum fa_metric
{
	FA_METRIC_TOTAL, /* a year, five points of gender and ten of race weigh the same */
	FA_METRIC_AGE,
	FA_METRIC_GENDER,
	FA_METRIC_RACE,
	FA_METRIC_PERSON
} fa_metric;

typedef struct fa_scores
{
	fa_means means;
	double face, reject; /* per cent of faces taken for faces, of negatives not */
} fa_scores;

/* Logits and labels of a whole data set; all arrays are owned: fa_logits_free. */
typedef struct fa_logits
{
	int count;
	float *logits[FA_HEADS];  /* [count, classes] */
	float *targets[FA_HEADS]; /* [count]: class or years, FA_NO_LABEL */
} fa_logits;

/*
 * Runs folded weights over images and negatives, unaugmented. options: as for
 * training, of the validation data.
 */
extern fa_status fa_logits_collect(const fa_engine_interface *interface, fa_engine *engine,
								   const fa_weights *folded, const char *network, int hidden,
								   fa_precision precision, const fa_loader_options *options,
								   fa_logits *logits, fa_error *error);
extern void fa_logits_free(fa_logits *logits);

/*
 * weights: of the training form; losses: as in training, the heads' weights included.
 * *logits receives the outputs, in the order of the faces and then the negatives, and
 * is the caller's; NULL: not wanted.
 */
extern fa_status fa_validate(const fa_engine_interface *interface, fa_engine *engine,
							 const fa_weights *weights, const char *network, int hidden,
							 fa_precision precision, const fa_loader_options *options,
							 const fa_loss_options losses[FA_HEADS], fa_scores *scores,
							 fa_logits *logits, fa_error *error);

/*
 * The same for an embedding: scores->means.score[FA_PERSON] is the verification accuracy
 * (persons.h) over options->faces.
 */
extern fa_status fa_validate_embedding(const fa_engine_interface *interface, fa_engine *engine,
									   const fa_weights *weights, const char *network,
									   fa_precision precision, const fa_loader_options *options,
									   fa_scores *scores, fa_error *error);

/* Lower is better. NAN where no sample has the label that it takes. */
extern double fa_metric_value(const fa_scores *scores, fa_metric metric);

#endif
