/*
 * plan.h
 *		From a list of operations to the steps that the device takes: what joins the
 *		convolution before it, and where every tensor lies in the arena. model.c runs
 *		the steps; the test of cuDNN's plans walks them too.
 */
#ifndef FA_GPU_PLAN_H
#define FA_GPU_PLAN_H

#include "../src/nn/engine.h"
#include "cudnn.h"

/*
 * An operation together with what follows it where nobody else reads what lies between:
 * batch norm, folded into a filter; a sum with another tensor; an activation.
 * Writes tensor `result`.
 */
typedef struct fa_gpu_step
{
	int op, result;
	int norm; /* the batch norm, or -1 */
	int sum;  /* the tensor added, or -1 */
	fa_gpu_activation activation;
} fa_gpu_step;

typedef struct fa_gpu_plan
{
	fa_gpu_step *steps;
	int step_count;
	int *holder;  /* per operation: the tensor that holds what it computes, a step's result */
	int *readers; /* per operation: how many operations and outputs read it */
} fa_gpu_plan;

extern fa_status fa_gpu_plan_make(fa_gpu_plan *plan, const fa_net *net, fa_error *error);
extern void fa_gpu_plan_free(fa_gpu_plan *plan);

/* Convolution or dense layer: what cuDNN does. */
static inline bool
fa_gpu_is_convolution(const fa_op *op)
{
	return op->kind == FA_OP_CONVOLUTION || op->kind == FA_OP_DENSE;
}

/* The device's form of a precision; AUTO and what has none are the caller's business. */
static inline fa_gpu_type
fa_gpu_type_of(fa_precision precision)
{
	return precision == FA_PRECISION_FP16   ? FA_GPU_FP16
		   : precision == FA_PRECISION_BF16 ? FA_GPU_BF16
											: FA_GPU_FP32;
}

/* A convolution's step as cuDNN is asked for it, fused; shapes as fa_net_shapes gives them. */
extern fa_gpu_conv_spec fa_gpu_step_spec(const fa_net *net, const fa_gpu_step *step,
										 const fa_shape *shapes, int count, fa_precision precision);

/*
 * Places for the tensors, 256-byte aligned, from 0 on: offsets[i] for every step's result i.
 * Tensors whose lifetimes do not meet share memory. *size: what all of them take.
 */
extern fa_status fa_gpu_place(const fa_net *net, const fa_gpu_plan *plan, const fa_shape *shapes,
							  int count, fa_gpu_type type, size_t *offsets, size_t *size,
							  fa_error *error);

/*
 * Batches are padded to one of few sizes, powers of two, so that few have to be compiled.
 * The size of the next part of a batch of so many images: at most so much as an arena
 * of sensible size holds, and no more than keep a device busy: of large batches, the next
 * part's pixels travel meanwhile (run.c).
 */
#define FA_GPU_MAX_BATCH 64
extern int fa_gpu_batch_class(int count, int height, int width);

#endif
