/*
 * random_net.h
 *		Networks, weights and images at random, the same for the same seed: what
 *		engines and the reference must agree on.
 */
#ifndef RANDOM_NET_H
#define RANDOM_NET_H

#include "../../src/nn/net.h"
#include "../../src/nn/weights.h"

/* Uniform in [low, high). */
extern double random_between(uint64_t *seed, double low, double high);
/* 0 ... n - 1 */
extern int random_below(uint64_t *seed, int n);

/* Starts a network whose input lies within about -2 ... 2; returns its input. */
extern int begin_net(fa_net *net);

/*
 * A dozen operations of all kinds in any order that shapes allow, read once, often or
 * never, with one to four outputs. Dropout has rate 0.
 */
extern void random_net(fa_net *net, uint64_t *seed, int height, int width);

/* Weights that keep values near 1; batch norm's near its usual ones. */
extern fa_weights random_weights(const fa_net *net, uint64_t seed);

/* [count, height, width, 3]; the caller frees it. */
extern uint8_t *random_pixels(int count, int height, int width, uint64_t seed);

#endif
