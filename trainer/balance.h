/*
 * balance.h
 *		Weights that let rare labels count for more in the loss. Weights and not a
 *		weighted choice of samples: each head has its own distribution, which one
 *		choice cannot even out, labels may be missing in one head and not in
 *		another, and every image still comes once an epoch.
 */
#ifndef FA_BALANCE_H
#define FA_BALANCE_H

#include "../src/fa.h"

/*
 * weights[classes] from the labels' counts: proportional to count^-power (0: all alike, 1: each
 * class weighs the same in sum), with a mean of 1 over the labels. Counts of ordered classes
 * are first smoothed by a normal distribution of `sigma` classes (Yang et al. 2021; 0: not at
 * all). Classes without a label get the weight of the rarest.
 */
extern fa_status fa_balance(const double *counts, int classes, double power, double sigma,
							float *weights, fa_error *error);

#endif
