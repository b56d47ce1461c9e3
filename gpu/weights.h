/*
 * weights.h
 *		A model's parameters on the device, in one block: filters padded, in the type of
 *		activations, with the batch norm after them folded in; vectors in fp32.
 */
#ifndef FA_GPU_WEIGHTS_H
#define FA_GPU_WEIGHTS_H

#include "memory.h"
#include "plan.h"

/*
 * Of a step, on the device. Convolution: filter [out, k, k, in] and bias; depthwise: fp32
 * filter [k, k, channels] and bias; batch norm that joined nothing: gain and shift (bias).
 */
typedef struct fa_gpu_parameters
{
	const void *filter;
	const float *gain, *bias;
} fa_gpu_parameters;

typedef struct fa_gpu_weights
{
	fa_gpu_block block;
	fa_gpu_parameters *steps; /* per step of the plan */
} fa_gpu_weights;

/*
 * Each waits until everything is there. Zero-initialise *to before; free it after a failure, too.
 * The first from parameters as they were trained; the second from `size` bytes that are what
 * another's block of the same network, plan and type held: FA_DAMAGED where that is not as much.
 */
extern fa_status fa_gpu_upload(fa_gpu_weights *to, const fa_net *net, const fa_gpu_plan *plan,
							   const fa_weights *weights, fa_gpu_type type, fa_gpu_memory *memory,
							   cudaStream_t stream, fa_error *error);
extern fa_status fa_gpu_upload_packed(fa_gpu_weights *to, const fa_net *net,
									  const fa_gpu_plan *plan, const void *packed, size_t size,
									  fa_gpu_type type, fa_gpu_memory *memory, cudaStream_t stream,
									  fa_error *error);
extern void fa_gpu_weights_free(fa_gpu_weights *weights, fa_gpu_memory *memory);

#endif
