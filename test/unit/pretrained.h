/*
 * pretrained.h
 *		Weights and outputs computed elsewhere, which lie beside the checkout and not
 *		in it.
 */
#ifndef PRETRAINED_H
#define PRETRAINED_H

#include "../../src/nn/weights.h"

/* ../shared/pretrained/NAME.safetensors ($FACEATTR_SHARED for ../shared), or skips the test. */
extern fa_weights pretrained(const char *name);

#endif
