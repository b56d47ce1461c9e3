/*
 * parts.h
 *		Parts of a network by name, stage or count, and a learning rate for each: what
 *		--freeze and --rates say. A layer is an operation with weights, together with
 *		the batch norm that follows it. The backbone is what leads to the embedding,
 *		the heads are the rest.
 *
 * A part is written
 *		all			the backbone
 *		none		nothing
 *		heads		hidden layer and heads
 *		all-but:N	the backbone without its last N layers
 *		stage:N		the backbone from its beginning to the end of stage N, where the
 *					maps have been halved N times (ResNet's conv2_x is stage 2)
 *		a layer's name, or a pattern of * ? [] (fnmatch) that fits at least one
 */
#ifndef FA_PARTS_H
#define FA_PARTS_H

#include "../src/nn/net.h"

/*
 * Sets the rate of each operation, rates[net->op_count]: 1; then what `rates` says,
 * PART=X,...; then 0 for the parts of `freeze`, PART,... Both may be NULL. FA_INVALID
 * for a part that the network lacks.
 */
extern fa_status fa_parts_rates(const fa_net *net, const char *rates_text, const char *freeze,
								float *rates, fa_error *error);

/* How many layers there are, and how many of them have a rate above 0. */
extern void fa_parts_count(const fa_net *net, const float *rates, int *layers, int *training);

#endif
