/*
 * initial.h
 *		The weights that a training starts from.
 */
#ifndef FA_INITIAL_H
#define FA_INITIAL_H

#include "../src/nn/engine.h"
#include "loader.h"

/*
 * Weights for `net`, a network in the training form: those of an earlier training, or of
 * a folded backbone whose batch norm is restored on `images`. Dense layers that the file
 * lacks are new, the same for the same seed.
 */
extern fa_status fa_initial_weights(const fa_engine_interface *interface, fa_engine *engine,
									const fa_net *net, const char *path,
									const fa_loader_options *images, uint64_t seed,
									fa_weights *weights, fa_error *error);

#endif
