/*
 * calibrate.h
 *		What `faceattr calibrate` fits on a model's logits.
 */
#ifndef FA_CALIBRATE_H
#define FA_CALIBRATE_H

#include "validate.h"

/* The temperature, 0.1 ... 10, of the least negative log likelihood (Guo et al. 2017). */
extern double fa_fit_temperature(const fa_logits *logits, int head);
/* The share of labelled ages between the quantiles q and 1 - q of their distributions. */
extern double fa_age_coverage(const fa_logits *logits, double temperature, double q);
/* The q, 0.0005 ... 0.49, at which coverage comes to 80 %. */
extern double fa_fit_age_quantile(const fa_logits *logits, double temperature);

#endif
