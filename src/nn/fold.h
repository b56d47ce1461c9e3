/*
 * fold.h
 *		Batch norm in and out of weights (Ioffe, Szegedy 2015, section 3.1).
 */
#ifndef FA_FOLD_H
#define FA_FOLD_H

#include "weights.h"

/*
 * What a batch norm with its running statistics does to channels: x * gain + shift, with
 * gain = w / sqrt(v + eps) and shift = b - m * gain. parameters: weight, bias, mean, variance.
 */
extern void fa_norm_affine(const float *const parameters[4], float epsilon, int channels,
						   float *gain, float *shift);

/*
 * From the weights of `from` (convolutions followed by batch norm) those of the
 * same network without it: w' = w g / sqrt(v + eps), b' = b - m g / sqrt(v + eps).
 * Metadata are copied.
 */
extern fa_status fa_fold_batch_norm(const fa_net *from, const fa_weights *weights, const fa_net *to,
									fa_weights *folded, fa_error *error);

#endif
