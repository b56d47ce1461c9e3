/*
 * initial.h
 *		The weights that a training starts from.
 */
#ifndef FA_INITIAL_H
#define FA_INITIAL_H

#include "../src/nn/engine.h"
#include "heads.h"
#include "loader.h"

/*
 * Weights for `net`, the network of that name in the training form. From the file at
 * `path`: those of an earlier training or an import, or of a folded backbone whose batch
 * norm is restored on `images`, such as a model's. Heads and their hidden layer are the file's
 * where it has them in the same shape and, as far as it says, with the same labels, and new_heads
 * is false. All else begins at random, the same for the same seed; everything where path is NULL.
 */
extern fa_status fa_initial_weights(const fa_engine_interface *interface, fa_engine *engine,
									const char *network, const fa_net *net, const char *path,
									const fa_loader_options *images, bool new_heads, uint64_t seed,
									fa_weights *weights, bool kept[FA_HEADS], fa_error *error);

#endif
