/*
 * cpu_trainer.h
 *		The CPU engine's trainer from the inside: cpu_trainer.c opens it, steps and
 *		keeps its state, cpu_forward.c and cpu_backward.c make its passes.
 *
 * One batch size, every tensor kept for the way back. Master weights, gradients, moments
 * and moving average are fp32, each one block in the order of the network's parameters.
 * Before a forward pass the weights that have changed are packed, in the precision of the
 * activations, for the convolutions' forward and backward-data passes. An activation is
 * part of the step before it, so its gradient, and batch norm's, is taken in place. What
 * lies before everything that learns runs as in inference: batch norm folded, sums in
 * place.
 */
#ifndef FA_CPU_TRAINER_H
#define FA_CPU_TRAINER_H

#include "cpu.h"

/* A convolution's three passes and what they need. */
typedef struct fa_layer
{
	fa_conv forward, backward_data, backward_weights;
	fa_reorder pack_forward, pack_backward, unpack_gradient;
	void *packed_forward, *packed_backward, *packed_gradient;
	float *folded_bias; /* where the batch norm after it is folded in */
	bool packed;        /* the packed weights are those of now */
} fa_layer;

typedef struct fa_norm
{
	float *mean, *inv_std, *scale, *shift; /* of the last forward pass; one allocation */
} fa_norm;

struct fa_trainer
{
	fa_engine *engine;
	fa_net net;
	fa_plan plan;
	fa_trainer_options options; /* rates: see the trainer's own */
	float *rates;               /* per operation */
	fa_shape *shapes;

	fa_parameter *parameters;
	int parameter_count;
	size_t *offsets;    /* of each parameter in the blocks */
	int *first;         /* per operation: its first parameter, or -1 */
	size_t block_count; /* values in a block */
	float *states[FA_STATE_GRADIENTS + 1];

	fa_layer *layers;         /* per step */
	fa_norm *norms;           /* per step */
	void **tensors;           /* per operation that holds one */
	void **gradients;         /* the same; NULL where none is needed; some are shared */
	bool *owns_tensor;        /* per operation: it is not another's, taken over by a sum */
	bool *owns_gradient;      /* the same of gradients */
	bool *trains;             /* per operation: it has parameters that learn */
	bool *written;            /* per operation: in this backward pass */
	void *scratchpad, *spare; /* spare: as large as the largest tensor */
	bool ran_forward;
	uint64_t passes; /* forward ones: dropout differs in each */
};

/* The values of an operation's parameter: 0 weight, 1 bias, 2 running mean, 3 running variance. */
static inline float *
fa_parameter_values(const fa_trainer *t, fa_trainer_state state, int op, int which)
{
	return t->states[state] + t->offsets[t->first[op] + which];
}

/* A tensor by the operation that computes it. */
static inline void *
fa_trainer_tensor(const fa_trainer *t, int op)
{
	return t->tensors[t->plan.holder[op]];
}

static inline fa_act_type
fa_trainer_type(const fa_trainer *t, int op)
{
	return t->plan.types[t->plan.holder[op]];
}

static inline size_t
fa_trainer_count(const fa_trainer *t, int op)
{
	return fa_shape_count(&t->shapes[op]) * t->options.count;
}

/* Batch norm with its running statistics: a frozen one keeps them even where others train theirs.
 */
static inline bool
fa_norm_is_frozen(const fa_trainer *t, int op)
{
	return t->options.batch_norm == FA_BATCH_NORM_FROZEN || !t->trains[op];
}

/* The factors of a dropout follow from this key; the same on the way back. */
static inline uint64_t
fa_dropout_key(const fa_trainer *t, int op)
{
	return t->options.seed + t->passes * 0x9e3779b97f4a7c15u + (uint64_t) op * 0xd1b54a32d192ed03u;
}

#endif
