/*
 * heads.h
 *		The heads that the trainer knows, in the order of a network's outputs. The
 *		last is trained only where there are negatives.
 */
#ifndef FA_HEADS_H
#define FA_HEADS_H

#include "../src/nn/networks.h"
#include "dataset.h"

enum
{
	FA_HEAD_AGE, /* classes are years */
	FA_HEAD_GENDER,
	FA_HEAD_RACE,
	FA_HEAD_FACE, /* no, yes */
	FA_HEADS
};

#define FA_AGE_CLASSES 101

extern const fa_head fa_heads[FA_HEADS];
/* Names of the classes; NULL where they are the numbers from 0. */
extern const char *const *const fa_head_labels[FA_HEADS];

#endif
