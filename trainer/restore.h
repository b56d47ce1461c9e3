/*
 * restore.h
 *		Putting batch norm back into weights that have it folded in, so that they
 *		can be trained: the folded scales of MobileNet's channels differ by orders
 *		of magnitude, and no one learning rate suits them.
 */
#ifndef FA_RESTORE_H
#define FA_RESTORE_H

#include "../src/nn/engine.h"
#include "loader.h"

/*
 * from: the folded network's convolutions, `to`: the same with a batch norm after
 * each. With m and s^2 the mean and variance of a folded convolution's results
 * y = w x + b on sample images, the restored one has weights w / s, running mean
 * (m - b) / s, running variance 1, weight s sqrt(1 + epsilon) and bias m: the same
 * function, with every channel's scale where an optimiser expects it. Parameters
 * of `to` that `from` lacks are left out.
 */
extern fa_status fa_restore_batch_norm(const fa_engine_interface *interface, fa_engine *engine,
									   const fa_net *from, const fa_weights *folded,
									   const fa_net *to, const fa_loader_options *images,
									   int image_count, fa_weights *restored, fa_error *error);

#endif
