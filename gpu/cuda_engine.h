/*
 * cuda_engine.h
 *		What the CUDA engine's C files share: the engine, and the functions of its
 *		table. engine.c opens it, model.c loads networks, run.c runs them.
 *
 * As engine.h says, an engine belongs to one thread at a time.
 */
#ifndef FA_GPU_CUDA_ENGINE_H
#define FA_GPU_CUDA_ENGINE_H

#include "../src/nn/engine.h"
#include "memory.h"
#include "plan_cache.h"

/* Of two, for the parts of a batch in turn. */
typedef struct fa_gpu_slot
{
	char *pinned; /* on the host: pixels, then outputs */
	size_t size;
	cudaEvent_t done; /* the outputs are there */
} fa_gpu_slot;

struct fa_engine
{
	cudaStream_t stream, copies; /* see run.c */
	cudaEvent_t uploaded, taken;
	fa_gpu_slot slots[2];
	fa_gpu_target target; /* cuDNN's handle, on the stream */
	bool has_bf16;        /* and tf32 */
	fa_gpu_memory memory;
	fa_gpu_block photos, found; /* of photos.c */
	fa_gpu_plan_cache *plans;
	fa_model *models; /* all that are loaded */
	uint64_t clock;   /* of programs' uses */
};

extern fa_status fa_cuda_resolve_precision(fa_engine *engine, fa_precision wanted,
										   fa_precision *precision, fa_error *error);
extern fa_status fa_cuda_load_model(fa_engine *engine, const fa_net *net, const fa_weights *weights,
									fa_precision precision, fa_model **model, fa_error *error);
extern void fa_cuda_unload(fa_model *model);
extern size_t fa_cuda_memory(const fa_model *model);
extern fa_status fa_cuda_pack(fa_model *model, int height, int width, void **block, size_t *length,
							  fa_error *error);
extern fa_status fa_cuda_load_packed(fa_engine *engine, const fa_net *net, fa_precision precision,
									 const void *block, size_t length, fa_model **model,
									 fa_error *error);
extern fa_status fa_cuda_run(fa_model *model, const fa_batch *batch, float *const *outputs,
							 const fa_interrupt *interrupt, fa_error *error);

extern fa_status fa_cuda_run_stream(fa_model *model, const fa_stream *stream,
									const fa_interrupt *interrupt, fa_error *error);
extern fa_status fa_cuda_run_warped(fa_model *model, const fa_warped *crops, int count, int height,
									int width, float *const *outputs, const fa_interrupt *interrupt,
									fa_error *error);
extern fa_status fa_cuda_detect(fa_model *model, const fa_image *photo,
								const fa_detect_request *request, fa_detection **detections,
								int *count, const fa_interrupt *interrupt, fa_error *error);

/* The library's one symbol: NULL for a caller that was built with another engine.h. */
__attribute__((visibility("default"))) extern const fa_engine_interface *
fa_cuda_engine(size_t interface_size);

#endif
