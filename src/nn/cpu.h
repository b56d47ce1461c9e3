/*
 * cpu.h
 *		What the CPU engine's files share: the engine, and the plan by which both
 *		inference and training walk a network.
 *
 * cpu_engine.c opens the engine and fills the table, cpu_plan.c turns a network
 * into steps, cpu_model.c runs them, cpu_trainer.c and its neighbours train them.
 */
#ifndef FA_CPU_H
#define FA_CPU_H

#include "engine.h"
#include "kernels.h"
#include "onednn.h"

struct fa_engine
{
	dnnl_engine_t dnnl;
	dnnl_stream_t stream;
	int threads;
	char *arena; /* of whatever model runs: nothing in it outlives a run */
	size_t arena_size;
};

/*
 * One thing to do: an operation together with what follows it where nobody else reads
 * what lies between: a convolution's batch norm, folded into its weights; a sum with
 * another tensor; an activation. Writes tensor `result`. A convolution adds in place: its
 * result takes the memory of the other tensor, which nobody reads afterwards.
 */
typedef struct fa_step
{
	int op, result;
	int norm; /* the batch norm, or -1 */
	int sum;  /* the tensor added, or -1 */
	fa_activation activation;
} fa_step;

typedef struct fa_plan
{
	fa_step *steps;
	int step_count;
	/*
	 * Per operation: the tensor that holds what it computes (the step's result where
	 * it is part of one), how many operations and outputs read it, its type, and whether
	 * a gradient reaches it: it or what it is made of learns.
	 */
	int *holder;
	int *readers;
	fa_act_type *types;
	bool *learns;
} fa_plan;

/*
 * rates: of a training, per operation, 0 where it is frozen; NULL: inference. In
 * training, dropout is a step, outputs keep the type of what precedes them, and where
 * something learns, convolutions keep their batch norm and sum apart. In inference
 * outputs are fp32.
 */
extern fa_status fa_plan_make(fa_plan *plan, const fa_net *net, fa_precision precision,
							  const float *rates, fa_error *error);
extern void fa_plan_free(fa_plan *plan);

/* A convolution, depthwise convolution or dense layer as oneDNN sees it. */
extern bool fa_is_convolution(const fa_op *op);
extern fa_conv_spec fa_step_spec(const fa_net *net, const fa_plan *plan, const fa_step *step,
								 const fa_shape *shapes, int count);
/* The step is a convolution that adds in place. */
static inline bool
fa_adds_in_place(const fa_net *net, const fa_step *step)
{
	return step->sum >= 0 && net->ops[step->op].kind == FA_OP_CONVOLUTION;
}
extern fa_pool_window fa_step_window(const fa_net *net, const fa_step *step, const fa_shape *shapes,
									 int count);
static inline size_t
fa_shape_count(const fa_shape *shape)
{
	return (size_t) shape->height * shape->width * shape->channels;
}

/* 64-byte aligned, at least one byte; freed by free(). */
extern void *fa_aligned(size_t bytes);
/* Makes the calling thread's later parallel regions as wide as the engine says. */
extern void fa_cpu_use_threads(const fa_engine *engine);

extern fa_status fa_cpu_load(fa_engine *engine, const fa_net *net, const fa_weights *weights,
							 fa_precision precision, fa_model **model, fa_error *error);
extern void fa_cpu_unload(fa_model *model);
extern size_t fa_cpu_memory(const fa_model *model);
extern fa_status fa_cpu_pack(fa_model *model, int height, int width, void **block, size_t *length,
							 fa_error *error);
extern fa_status fa_cpu_load_packed(fa_engine *engine, const fa_net *net, fa_precision precision,
									const void *block, size_t length, fa_model **model,
									fa_error *error);
extern fa_status fa_cpu_run(fa_model *model, const fa_batch *batch, float *const *outputs,
							const fa_interrupt *interrupt, fa_error *error);

extern fa_status fa_cpu_trainer_open(fa_engine *engine, const fa_net *net,
									 const fa_weights *weights, const fa_trainer_options *options,
									 fa_trainer **trainer, fa_error *error);
extern void fa_cpu_trainer_close(fa_trainer *trainer);
extern fa_status fa_cpu_forward(fa_trainer *trainer, const fa_batch *batch, float *const *outputs,
								fa_error *error);
extern fa_status fa_cpu_backward(fa_trainer *trainer, const float *const *gradients,
								 fa_error *error);
extern fa_status fa_cpu_update(fa_trainer *trainer, const fa_update *update, float *gradient_norm,
							   fa_error *error);
extern fa_status fa_cpu_step(fa_trainer *trainer, const fa_training_step *step,
							 float *gradient_norm, fa_error *error);
extern fa_status fa_cpu_read_state(fa_trainer *trainer, fa_trainer_state state, fa_weights *weights,
								   fa_error *error);
extern fa_status fa_cpu_write_state(fa_trainer *trainer, fa_trainer_state state,
									const fa_weights *weights, fa_error *error);

#endif
