/*
 * cuda_engine.h
 *		What the CUDA engine's C files share: the engine, and the functions of its
 *		table. engine.c opens it, model.c loads and runs networks.
 *
 * One engine is one stream on the first device that the process may see
 * (CUDA_VISIBLE_DEVICES chooses). As engine.h says, it belongs to one thread at a time.
 */
#ifndef FA_GPU_CUDA_ENGINE_H
#define FA_GPU_CUDA_ENGINE_H

#include "../src/nn/engine.h"
#include "cudnn.h"

struct fa_engine
{
	cudaStream_t stream;
	fa_gpu_target target; /* cuDNN's handle, on the stream */
	bool has_bf16;        /* and tf32 */
};

extern fa_status fa_cuda_resolve_precision(fa_engine *engine, fa_precision wanted,
										   fa_precision *precision, fa_error *error);
extern fa_status fa_cuda_load_model(fa_engine *engine, const fa_net *net, const fa_weights *weights,
									fa_precision precision, fa_model **model, fa_error *error);
extern void fa_cuda_unload(fa_model *model);
extern size_t fa_cuda_memory(const fa_model *model);
extern fa_status fa_cuda_run(fa_model *model, const fa_batch *batch, float *const *outputs,
							 const fa_interrupt *interrupt, fa_error *error);

/* The library's one symbol: NULL for a caller that was built with another engine.h. */
__attribute__((visibility("default"))) extern const fa_engine_interface *
fa_cuda_engine(size_t interface_size);

#endif
