/*
 * cudnn.h
 *		All that the engine knows of cuDNN: convolutions, with what follows them
 *		fused, as graphs of cuDNN 9's backend API. A graph is made for a shape, planned
 *		on a device, bound to addresses and then executed any number of times.
 *
 * The device is a handle, or a description in JSON of one that is not there: the
 * latter answers whether a graph can be planned, and cannot execute it.
 */
#ifndef FA_GPU_CUDNN_H
#define FA_GPU_CUDNN_H

#include "gpu.h"

#include <cudnn.h>

typedef enum fa_gpu_direction
{
	FA_GPU_FORWARD,
	FA_GPU_BACKWARD_DATA,  /* the gradient of `in` from that of `out` and the filter */
	FA_GPU_BACKWARD_FILTER /* the filter's from that of `out` and `in` */
} fa_gpu_direction;

/* NHWC with channels padded (gpu.h); the filter is [out_c, kernel, kernel, in_c]. */
typedef struct fa_gpu_conv_spec
{
	fa_gpu_direction direction;
	int n, in_h, in_w, in_c, out_h, out_w, out_c;
	int kernel, stride, pad_top, pad_left;
	fa_gpu_type type; /* of everything but the bias, which is fp32 as all sums are */
	bool tf32;        /* fp32 may be multiplied in tf32 */
	/* Forward: out = activation(convolution + bias + residual), or the convolution alone. */
	bool fused, residual;
	fa_gpu_activation activation;
} fa_gpu_conv_spec;

typedef struct fa_gpu_target
{
	cudnnHandle_t handle;               /* or NULL and: */
	cudnnBackendDescriptor_t described; /* a device's properties, finalised */
} fa_gpu_target;

typedef struct fa_gpu_graph fa_gpu_graph;

/* One of cuDNN's engines and its settings: with a spec, all that makes a plan again. */
#define FA_GPU_MAX_KNOBS CUDNN_KNOB_TYPE_COUNTS
typedef struct fa_gpu_choice
{
	int64_t engine; /* its index; below 0: none can run the graph */
	int knob_count;
	int64_t knobs[FA_GPU_MAX_KNOBS][2]; /* cudnnBackendKnobType_t, value */
} fa_gpu_choice;

/* A device from cuDNN's JSON of its properties. */
/*
 * Loads NVIDIA's run-time compiler, if it is there, to stay. cuDNN looks for it in every graph
 * anew, and loads and unloads it several times, which takes twenty times as long as the answer.
 */
extern void fa_gpu_keep_compiler(void);
extern fa_status fa_gpu_describe(const char *json, fa_gpu_target *target, fa_error *error);
extern void fa_gpu_target_free(fa_gpu_target *target);

/*
 * The graph and, of the first `most` engine configurations that cuDNN offers for it, up to
 * FA_GPU_CONFIGS, best first, all but those that are not deterministic or less precise than spec
 * asks. *count may be 0: this device cannot run it so, and never will. An error, and no graph,
 * where cuDNN could not tell.
 */
#define FA_GPU_CONFIGS 8
extern fa_status fa_gpu_graph_create(const fa_gpu_conv_spec *spec, const fa_gpu_target *target,
									 int most, fa_gpu_graph **graph, int *count, fa_error *error);
/* Adds those of last resort, where none of the others becomes a plan. *count: of all. */
extern fa_status fa_gpu_graph_more(fa_gpu_graph *graph, int *count, fa_error *error);
/*
 * A plan of configuration `index`, which is executed from now on, beside those made before;
 * FA_UNSUPPORTED, or another error, where it becomes none on this device.
 */
extern fa_status fa_gpu_graph_try(fa_gpu_graph *graph, int index, size_t *workspace,
								  fa_error *error);
/* Executes the plan of that configuration from now on. */
extern void fa_gpu_graph_select(fa_gpu_graph *graph, int index);
/* The same, and destroys the others. */
extern void fa_gpu_graph_keep(fa_gpu_graph *graph, int index);
/* What the plan was made of. */
extern fa_status fa_gpu_graph_choice(fa_gpu_graph *graph, fa_gpu_choice *choice, fa_error *error);
/*
 * The graph with the plan of a choice made before, without asking the heuristics;
 * FA_UNSUPPORTED where the choice makes no plan, or not one that fa_gpu_graph_create offers.
 */
extern fa_status fa_gpu_graph_restore(const fa_gpu_conv_spec *spec, const fa_gpu_target *target,
									  const fa_gpu_choice *choice, fa_gpu_graph **graph,
									  size_t *workspace, fa_error *error);
extern const fa_gpu_conv_spec *fa_gpu_graph_spec(const fa_gpu_graph *graph);
/*
 * Device addresses, aligned to 16 bytes; residual may be NULL if spec has none. Backwards, `in`
 * or `filter` is what is written, and `out` the gradient that it is made of.
 */
extern fa_status fa_gpu_graph_bind(fa_gpu_graph *graph, const void *in, const void *filter,
								   const void *bias, const void *residual, void *out,
								   void *workspace, fa_error *error);
extern fa_status fa_gpu_graph_execute(const fa_gpu_graph *graph, fa_error *error);
extern void fa_gpu_graph_destroy(fa_gpu_graph *graph);

/*
 * cuDNN comes in parts, which it looks for when it needs them: FA_NOT_FOUND where one is missing
 * that plans need, FA_OK otherwise, whatever else may be wrong.
 */
extern fa_status fa_gpu_cudnn_check(const fa_gpu_target *target, fa_error *error);
/*
 * FA_OK, or an error that tells cuDNN's own name and words for it: FA_UNSUPPORTED where what is
 * asked cannot be done on the device, FA_NOT_FOUND where a part of cuDNN, or of what it needs, is
 * missing.
 */
extern fa_status fa_gpu_cudnn_status(cudnnStatus_t status, const char *doing, fa_error *error);

#endif
