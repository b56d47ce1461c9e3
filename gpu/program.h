/*
 * program.h
 *		A network compiled for a class of batches (plan.h) and a size of images: a list of
 *		steps with their addresses, cuDNN's graphs, bound, and own kernels, in one arena
 *		that also holds the pixels, the outputs and cuDNN's workspace.
 *
 * It runs step by step the first time, when libraries load their code; then it is captured
 * once as a CUDA graph and started as a whole. The first step, which reads the pixels, is
 * always started by itself: once it is done, the next pixels may come. A model keeps the
 * latest few programs (model.c); run.c feeds them.
 */
#ifndef FA_GPU_PROGRAM_H
#define FA_GPU_PROGRAM_H

#include "cuda_engine.h"
#include "plan.h"
#include "weights.h"

#define FA_GPU_MAX_PROGRAMS 16

typedef struct fa_gpu_program
{
	int count, height, width;
	uint64_t last_use;
	fa_shape *shapes;
	/* Per step, of convolutions: NULL where cuDNN has no plan; what it leaves undone follows. */
	fa_gpu_graph **graphs;
	bool *fused;
	size_t *offsets;                   /* per operation that holds a tensor: place in the arena */
	size_t workspace, pixels, outputs; /* places in the arena */
	size_t pixels_size, outputs_size;
	fa_gpu_block arena;
	bool ran;
	cudaGraphExec_t whole; /* all but the first step; NULL before the second run */
} fa_gpu_program;

struct fa_model
{
	fa_engine *engine;
	fa_model *next; /* of the engine's */
	fa_net net;
	fa_gpu_plan plan;
	fa_precision precision;
	fa_gpu_type type;
	fa_gpu_weights weights;
	fa_gpu_program *programs[FA_GPU_MAX_PROGRAMS];
};

/* With weights, or with `size` bytes that are packed (weights.h); a precision that the GPU has. */
extern fa_status fa_gpu_model_make(fa_engine *engine, const fa_net *net, const fa_weights *weights,
								   const void *packed, size_t size, fa_precision precision,
								   fa_model **model, fa_error *error);

/* Compiles; may take away other programs of the engine's for want of memory. */
extern fa_status fa_gpu_program_make(fa_model *model, int count, int height, int width,
									 const fa_interrupt *interrupt, fa_gpu_program **program,
									 fa_error *error);
extern void fa_gpu_program_free(fa_model *model, fa_gpu_program *program);
/* Floats of an output, for a whole batch. */
extern size_t fa_gpu_output_values(const fa_model *model, const fa_gpu_program *program,
								   int output);
/* Where it lies in the arena: fp32, [count, height, width, channels]. */
extern const float *fa_gpu_output_of(const fa_model *model, const fa_gpu_program *program,
									 int output);
/* The step that reads the pixels, onto the engine's stream. */
extern fa_status fa_gpu_program_input(const fa_model *model, const fa_gpu_program *program,
									  fa_error *error);
/* Everything after it, up to the outputs in the arena. */
extern fa_status fa_gpu_program_start(const fa_model *model, fa_gpu_program *program,
									  const fa_interrupt *interrupt, fa_error *error);

/* The program for a batch, NULL if it has to be made; and making it, nothing being at work. */
extern fa_gpu_program *fa_gpu_find_program(fa_model *model, int count, int height, int width);
extern fa_status fa_gpu_add_program(fa_model *model, int count, int height, int width,
									const fa_interrupt *interrupt, fa_gpu_program **program,
									fa_error *error);
/* Takes away the engine's program that has been unused for longest; false: there is none. */
extern bool fa_gpu_make_room(void *engine);

#endif
