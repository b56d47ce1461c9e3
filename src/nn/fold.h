/*
 * fold.h
 *		Batch norm in and out of weights (Ioffe, Szegedy 2015, section 3.1).
 */
#ifndef FA_FOLD_H
#define FA_FOLD_H

#include "weights.h"

/*
 * From the weights of `from` (convolutions followed by batch norm) those of the
 * same network without it: w' = w g / sqrt(v + eps), b' = b - m g / sqrt(v + eps).
 * Metadata are copied.
 */
extern fa_status fa_fold_batch_norm(const fa_net *from, const fa_weights *weights, const fa_net *to,
									fa_weights *folded, fa_error *error);

#endif
