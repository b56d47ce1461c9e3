/*
 * head_labels.h
 *		Which heads a training's data have something to say to: the labels of a dataset
 *		by head, counted and weighed. Main thread, before the loader's threads start.
 */
#ifndef FA_HEAD_LABELS_H
#define FA_HEAD_LABELS_H

#include "dataset.h"
#include "heads.h"

/* Does a sample have a label for the head? None has for FA_HEAD_FACE. */
extern bool fa_has_labels(const fa_dataset *dataset, int head);
/* From here on none has. */
extern void fa_forget_labels(fa_dataset *dataset, int head);
/*
 * What a sample of each class is to weigh (balance.h) by how many of them there are:
 * (*weights)[classes], malloc'ed; ages are smoothed over two years.
 */
extern fa_status fa_weigh_labels(const fa_dataset *dataset, int head, double exponent,
								 float **weights, fa_error *error);

#endif
