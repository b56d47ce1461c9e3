/*
 * augment.h
 *		What may happen to a face between the camera and the classifier: the
 *		detector's landmarks are off by some pixels, the face is far away, out of
 *		focus, dark, grey, compressed, covered. The loader's threads call it.
 */
#ifndef FA_AUGMENT_H
#define FA_AUGMENT_H

#include "../src/vision/image.h"
#include "random.h"

/*
 * Fills crop (square, allocated) from a chip in the template's frame. strength
 * scales probabilities and amounts: 0 only scales the chip to size, 1 is what the
 * shipped weights were trained with. covered: may draw masks and sunglasses where
 * UTKFace's framing has mouth and eyes; not for negatives.
 */
extern fa_status fa_augment(const fa_image *chip, double strength, bool covered, fa_random *random,
							fa_image *crop, fa_error *error);

#endif
