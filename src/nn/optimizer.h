/*
 * optimizer.h
 *		One step of an optimiser on one parameter, fp32, in place. Called by the CPU
 *		engine's trainer; results are the same whatever the threads do, so that a
 *		training that was interrupted ends as one that was not.
 */
#ifndef FA_OPTIMIZER_H
#define FA_OPTIMIZER_H

#include "engine.h"

/* Of `count` values; partial sums are added in their order. */
extern double fa_sum_of_squares(const float *values, size_t count);

/*
 * w -= what the optimiser makes of gradient g * scale, its moments m and v (SGD leaves
 * v alone) and update->weight_decay, which counts where `decays`. rate: of this parameter.
 */
extern void fa_optimize(const fa_update *update, float rate, bool decays, float scale, float *w,
						float *m, float *v, const float *g, size_t count);

#endif
