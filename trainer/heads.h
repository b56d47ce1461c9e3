/*
 * heads.h
 *		The heads that the trainer knows, in the order of a network's outputs. The
 *		last is trained only where there are negatives. How many classes gender and
 *		race have follows from the data: UTKFace's, until fa_heads_set.
 *
 * One training, one set of heads: they are set by the main thread before any other
 * starts, and only read from then on.
 */
#ifndef FA_HEADS_H
#define FA_HEADS_H

#include "../src/nn/networks.h"
#include "../src/nn/weights.h"
#include "../src/face/label_reader.h"

enum
{
	FA_HEAD_AGE, /* classes are years */
	FA_HEAD_GENDER,
	FA_HEAD_RACE,
	FA_HEAD_FACE, /* no, yes */
	FA_HEADS
};

#define FA_AGE_CLASSES 101

extern fa_head fa_heads[FA_HEADS];
/* Names of the classes; NULL where they are the numbers from 0. */
extern const char *const *fa_head_labels[FA_HEADS];

/* The classes of gender and race; the names are copied. */
extern fa_status fa_heads_set(const fa_label_sets *sets, fa_error *error);
/* The sets that are set. */
extern const fa_label_sets *fa_heads_sets(void);
/* The sets to and from a training's weights (metadata "labels"); weights without: UTKFace's. */
extern fa_status fa_heads_write(fa_weights *weights, fa_error *error);
extern fa_status fa_heads_read(const fa_weights *weights, fa_error *error);
/* Do a model's or a training's weights say the same of a head's classes as the sets do? */
extern bool fa_heads_agree(const fa_weights *weights, int head);

#endif
