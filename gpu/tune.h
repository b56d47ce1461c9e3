/*
 * tune.h
 *		The plan of a convolution: the fastest of cuDNN's first few, by trying them out.
 */
#ifndef FA_GPU_TUNE_H
#define FA_GPU_TUNE_H

#include "memory.h"
#include "plan_cache.h"

/* What a choice is made with. */
typedef struct fa_gpu_tuner
{
	fa_gpu_target *target;
	cudaStream_t stream;
	fa_gpu_memory *memory; /* for the time of trying out */
	fa_gpu_plan_cache *cache;
} fa_gpu_tuner;

/*
 * The graph with its plan, from the cache or tried out; *graph is NULL where cuDNN has none for
 * the specification, which is remembered, or can make none now. *workspace: what the plan needs.
 * Waits for the stream.
 */
extern fa_status fa_gpu_tuned_graph(const fa_gpu_tuner *tuner, const fa_gpu_conv_spec *spec,
									fa_gpu_graph **graph, size_t *workspace, fa_error *error);

#endif
