/*
 * trainer.h
 *		The CUDA engine's trainer from the inside: trainer.c opens it and keeps its state,
 *		trainer_passes.c makes its passes, trainer_step.c steps, augment.c makes its images.
 *
 * One batch size; every tensor is kept for the way back and has a gradient of its own where one
 * reaches it. An activation that alone reads what comes before it is part of that operation;
 * everything else is a step of its own. Master weights, moments, moving average and gradients are
 * fp32, each one block in the order of the network's parameters, every parameter at a
 * multiple of FA_GPU_GROUP values and padded with zeros, so that vectors can be read as
 * padded tensors are (gpu.h). Filters are packed from the master weights in every
 * forward pass, in the type of activations.
 *
 * The order of the backward pass is fixed when the trainer is opened, and with it who is the first
 * to write a tensor's gradient; whoever comes later writes into `spare`, which is then added. An
 * output without a gradient counts as one with zeros. Nothing depends on which thread comes first.
 *
 * A whole step is one CUDA graph from the second time on. What the host has to do in the middle,
 * the gradients of the loss and the size of the optimiser's step by the gradients' norm, are two
 * of the graph's nodes: CUDA calls them in a thread of its own, where nothing of CUDA may be
 * called.
 *
 * fp16: gradients of the loss are multiplied by a scale, a power of two, that is halved where they
 * overflow, that step being left out, and doubled after GROWTH_STEPS good ones (Micikevicius
 * et al. 2018). It is no part of the state: a training that goes on finds its own again.
 */
#ifndef FA_GPU_TRAINER_H
#define FA_GPU_TRAINER_H

#include "cuda_engine.h"
#include "plan.h"
#include "train_kernels.h"

typedef struct fa_gpu_layer
{
	bool joined;                  /* an activation that is part of the operation before it */
	fa_gpu_activation activation; /* that is part of this one */
	int holder;                   /* the operation whose tensor holds the result */
	bool trains;                  /* it has parameters that learn */
	bool learns;                  /* so has it, or what it is made of: a gradient reaches it */
	bool reached;                 /* by a gradient from the outputs */
	bool adds[2];                 /* per input: others have written its gradient before */
	void *tensor, *gradient;      /* of holders */
	/* convolutions and dense layers; a graph is NULL where cuDNN has no plan */
	fa_gpu_graph *forward, *backward_data, *backward_filter;
	bool fused;
	void *filter; /* packed; of depthwise, too */
	float *saved; /* of a batch norm: see fa_gpu_norm */
} fa_gpu_layer;

struct fa_trainer
{
	fa_engine *engine;
	fa_net net;
	fa_trainer_options options; /* rates: see the trainer's own */
	float *rates;               /* per operation */
	fa_shape *shapes;
	fa_precision precision;
	fa_gpu_type type;

	fa_parameter *parameters;
	int parameter_count;
	size_t *offsets;    /* of each parameter in the blocks */
	int *first;         /* per operation: its first parameter, or -1 */
	size_t block_count; /* values in a block */
	float *states[FA_STATE_GRADIENTS + 1];
	fa_gpu_rule *rules;
	fa_gpu_block state_block;

	fa_gpu_layer *layers; /* per operation */
	fa_gpu_block arena;
	size_t arena_used; /* while it is laid out */
	uint8_t *pixels;
	float *outputs, *output_gradients; /* without padding, one output after the other */
	size_t output_values;
	uint64_t *key; /* of this pass's dropout */
	float *partials, *means;
	double *squares;
	fa_gpu_step_size *step_size;
	void *d_filter, *spare, *workspace;
	size_t partial_count, mean_count, d_filter_size, spare_size, workspace_size;
	float *zeros; /* a bias where there is none */

	/* what augment works with, from its first call on */
	fa_gpu_block sources, studio; /* images and their recipes; what is on its way */
	char *pinned_sources;         /* as `sources` */
	bool augmented;               /* the next forward pass's pixels are there */

	char *pinned; /* on the host: pixels, outputs or their gradients, key, step size, squares */
	size_t pinned_outputs, pinned_key, pinned_step_size, pinned_squares;

	unsigned given; /* outputs that the latest backward pass had gradients of */
	bool ran_forward;

	/* The whole step, captured when it runs for the second time. */
	bool stepped;
	cudaGraphExec_t whole;
	/* What the host's part of it goes by, while it lasts, and has found out. */
	const fa_training_step *at_work;
	const fa_update *update;
	fa_error loss_error; /* its status: whether there is one */
	float gradient_norm;

	uint64_t passes;                  /* forward ones: dropout differs in each */
	float loss_scale, gradient_scale; /* of the next backward pass; of the gradients there are */
	int good_steps;
};

/* The values of an operation's parameter: 0 weight, 1 bias, 2 running mean, 3 running variance. */
static inline float *
fa_gpu_parameter(const fa_trainer *t, fa_trainer_state state, int op, int which)
{
	return t->states[state] + t->offsets[t->first[op] + which];
}

static inline size_t
fa_gpu_pixels(const fa_trainer *t, int op)
{
	return (size_t) t->options.count * t->shapes[op].height * t->shapes[op].width;
}

static inline int
fa_gpu_channels(const fa_trainer *t, int op)
{
	return fa_gpu_padded(t->shapes[op].channels);
}

static inline size_t
fa_gpu_tensor_bytes(const fa_trainer *t, int op)
{
	return fa_gpu_pixels(t, op) * fa_gpu_channels(t, op) * fa_gpu_size(t->type);
}

/* A convolution's geometry, for cuDNN and for own kernels. */
extern fa_gpu_conv_spec fa_gpu_layer_spec(const fa_trainer *t, int op, fa_gpu_direction direction);
extern fa_gpu_window fa_gpu_layer_window(const fa_trainer *t, int op);

/*
 * Parts of a step, trainer_passes.c's. The start_ ones put work on the engine's stream: forward
 * from the key of dropout to outputs in pinned memory, backward from gradients there to the
 * parameters'.
 */
extern fa_status fa_gpu_take_batch(fa_trainer *t, const fa_batch *batch, fa_error *error);
extern fa_status fa_gpu_start_forward(fa_trainer *t, fa_error *error);
extern void fa_gpu_give_outputs(const fa_trainer *t, float *const *outputs);
extern void fa_gpu_take_gradients(fa_trainer *t, const float *const *gradients);
extern fa_status fa_gpu_start_backward(fa_trainer *t, fa_error *error);
/* A step's graph is for certain outputs with gradients; before others have them. */
extern void fa_gpu_expect_gradients(fa_trainer *t, const float *const *gradients);

extern fa_status fa_cuda_trainer_open(fa_engine *engine, const fa_net *net,
									  const fa_weights *weights, const fa_trainer_options *options,
									  fa_trainer **trainer, fa_error *error);
extern void fa_cuda_trainer_close(fa_trainer *trainer);
extern fa_status fa_cuda_augment(fa_trainer *trainer, const fa_augmented *images, fa_blend blend,
								 uint8_t *pixels, fa_error *error);
extern fa_status fa_cuda_forward(fa_trainer *trainer, const fa_batch *batch, float *const *outputs,
								 fa_error *error);
extern fa_status fa_cuda_backward(fa_trainer *trainer, const float *const *gradients,
								  fa_error *error);
extern fa_status fa_cuda_update(fa_trainer *trainer, const fa_update *update, float *gradient_norm,
								fa_error *error);
extern fa_status fa_cuda_step(fa_trainer *trainer, const fa_training_step *step,
							  float *gradient_norm, fa_error *error);
extern fa_status fa_cuda_read_state(fa_trainer *trainer, fa_trainer_state state,
									fa_weights *weights, fa_error *error);
extern fa_status fa_cuda_write_state(fa_trainer *trainer, fa_trainer_state state,
									 const fa_weights *weights, fa_error *error);

#endif
