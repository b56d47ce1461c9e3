/*
 * cpu_model.c
 *		Inference on the CPU: a model compiles itself to a program for every batch
 *		and image size that it meets, and keeps the latest few.
 *
 * Weights are packed once, in the layout that oneDNN prefers for the first size,
 * and all programs share them; a program whose convolution cannot use that
 * layout repacks a copy for itself. Tensors live in the engine's arena, at
 * offsets that let them share memory when their lifetimes do not meet.
 */
#include "cpu_model.h"
#include "fold.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_ARENA ((size_t) 64 << 20) /* a larger arena is given back after the run */

struct fa_program
{
	int count, height, width;
	uint64_t last_use;
	int threads; /* it was compiled for */
	fa_shape *shapes;
	fa_conv *convs;    /* per step */
	void **repacked;   /* per step: own weights, mostly NULL */
	size_t *offsets;   /* per operation that holds a tensor: place in the arena */
	size_t scratchpad; /* place in the arena */
	size_t arena_size;
	const char *bound; /* arena that the convolutions are bound to */
};

static void
program_free(const fa_model *model, fa_program *p)
{
	if (p == NULL)
		return;
	for (int i = 0; i < model->plan.step_count; i++)
	{
		if (p->convs != NULL)
			fa_conv_destroy(&p->convs[i]);
		if (p->repacked != NULL)
			free(p->repacked[i]);
	}
	free(p->convs);
	free(p->repacked);
	free(p->shapes);
	free(p->offsets);
	free(p);
}

void
fa_cpu_unload(fa_model *model)
{
	if (model == NULL)
		return;
	for (int i = 0; i < FA_MAX_PROGRAMS; i++)
		program_free(model, model->programs[i]);
	for (int i = 0; i < model->net.op_count; i++)
	{
		if (model->weights != NULL && !model->borrowed)
		{
			free(model->weights[i].data);
			free(model->weights[i].bias);
		}
		if (model->weights != NULL)
			fa_layout_free(&model->weights[i].layout);
		if (model->norms != NULL && !model->borrowed)
			free(model->norms[i]);
	}
	free(model->weights);
	free(model->norms);
	fa_weights_free(&model->plain);
	fa_plan_free(&model->plan);
	fa_net_free(&model->net);
	free(model);
}

static const float *
parameter(const fa_weights *weights, const fa_op *op, const char *suffix)
{
	char name[2 * FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "%s.%s", op->name, suffix);
	return fa_weights_find(weights, name)->values; /* fa_weights_match has seen it */
}

/* A batch norm's gains, then its shifts. */
static fa_status
take_norm(fa_model *model, const fa_weights *weights, int index, fa_error *error)
{
	const fa_op *op = &model->net.ops[index];
	size_t bytes = 2 * (size_t) op->channels * sizeof(float);
	const float *const parameters[4] = {
		parameter(weights, op, "weight"), parameter(weights, op, "bias"),
		parameter(weights, op, "running_mean"), parameter(weights, op, "running_var")};

	model->norms[index] = fa_aligned(bytes);
	if (model->norms[index] == NULL)
		return fa_no_memory(error, bytes);
	fa_norm_affine(parameters, op->epsilon, op->channels, model->norms[index],
				   model->norms[index] + op->channels);
	return FA_OK;
}

/* A filter and its bias, the step's batch norm folded in. */
static fa_status
take_filter(fa_model *model, const fa_weights *weights, const fa_step *step, fa_error *error)
{
	const fa_op *op = &model->net.ops[step->op];
	const float *norm = step->norm < 0 ? NULL : model->norms[step->norm];
	const float *given = op->bias ? parameter(weights, op, "bias") : NULL;
	size_t bytes = op->channels * sizeof(float), per_channel;
	char name[2 * FA_NAME_LENGTH];
	const fa_tensor *tensor;
	fa_tensor *copy;
	float *bias;

	snprintf(name, sizeof(name), "%s.weight", op->name);
	tensor = fa_weights_find(weights, name);
	FA_TRY(fa_weights_add(&model->plain, op->name, tensor->rank, tensor->shape, &copy, error));
	memcpy(copy->values, tensor->values, tensor->count * sizeof(float));
	per_channel = tensor->count / op->channels;
	for (size_t k = 0; k < tensor->count && norm != NULL; k++)
		copy->values[k] *= norm[k / per_channel];
	if (!op->bias && norm == NULL)
		return FA_OK;
	bias = model->weights[step->op].bias = fa_aligned(bytes);
	if (bias == NULL)
		return fa_no_memory(error, bytes);
	for (int c = 0; c < op->channels; c++)
	{
		bias[c] = given == NULL ? 0 : given[c];
		if (norm != NULL)
			bias[c] = bias[c] * norm[c] + norm[op->channels + c];
	}
	return FA_OK;
}

/* Copies what inference needs of the weights. */
static fa_status
take_weights(fa_model *model, const fa_weights *weights, fa_error *error)
{
	for (int i = 0; i < model->net.op_count; i++)
		if (model->net.ops[i].kind == FA_OP_BATCH_NORM)
			FA_TRY(take_norm(model, weights, i, error));
	for (int i = 0; i < model->plan.step_count; i++)
		if (fa_is_convolution(&model->net.ops[model->plan.steps[i].op]))
			FA_TRY(take_filter(model, weights, &model->plan.steps[i], error));
	return FA_OK;
}

fa_status
fa_cpu_model_new(fa_engine *engine, const fa_net *net, fa_precision precision, fa_model **model,
				 fa_error *error)
{
	fa_model *made = calloc(1, sizeof(fa_model));
	fa_status status;

	*model = NULL;
	if (made == NULL)
		return fa_no_memory(error, sizeof(fa_model));
	made->engine = engine;
	made->precision = precision;
	status = fa_net_copy(&made->net, net, error);
	if (status == FA_OK)
		status = fa_plan_make(&made->plan, net, precision, NULL, error);
	if (status == FA_OK)
	{
		made->weights = calloc(net->op_count + 1, sizeof(fa_packed_weights));
		made->norms = calloc(net->op_count + 1, sizeof(float *));
		if (made->weights == NULL || made->norms == NULL)
			status = fa_no_memory(error, net->op_count * sizeof(fa_packed_weights));
	}
	if (status != FA_OK)
	{
		fa_cpu_unload(made);
		return status;
	}
	*model = made;
	return FA_OK;
}

fa_status
fa_cpu_load(fa_engine *engine, const fa_net *net, const fa_weights *weights, fa_precision precision,
			fa_model **model, fa_error *error)
{
	fa_status status;

	*model = NULL;
	FA_TRY(fa_cpu_engine.resolve_precision(engine, precision, &precision, error));
	FA_TRY(fa_weights_match(weights, net, true, error));
	FA_TRY(fa_cpu_model_new(engine, net, precision, model, error));
	status = take_weights(*model, weights, error);
	if (status != FA_OK)
	{
		fa_cpu_unload(*model);
		*model = NULL;
	}
	return status;
}

static fa_status
repack(const fa_model *model, const fa_layout *from, const void *data, const fa_layout *to,
	   size_t bytes, void **packed_data, fa_error *error)
{
	fa_reorder reorder;
	fa_status status;

	*packed_data = fa_aligned(bytes);
	if (*packed_data == NULL)
		return fa_no_memory(error, bytes);
	status = fa_reorder_create(&reorder, model->engine->dnnl, from, to, error);
	if (status != FA_OK)
		return status;
	status = fa_reorder_execute(&reorder, model->engine->stream, data, *packed_data, error);
	fa_reorder_destroy(&reorder);
	return status;
}

/* The convolution of a step, with the shared weights where it can use them. */
static fa_status
compile_convolution(fa_model *model, fa_program *p, int index, fa_error *error)
{
	const fa_step *step = &model->plan.steps[index];
	fa_packed_weights *weights = &model->weights[step->op];
	fa_conv *conv = &p->convs[index];
	fa_conv_spec spec = fa_step_spec(&model->net, &model->plan, step, p->shapes, p->count);
	fa_layout plain;
	fa_status status;

	if (weights->data != NULL)
	{
		if (fa_conv_create(conv, model->engine->dnnl, FA_PASS_INFERENCE, &spec, &weights->layout,
						   error) == FA_OK &&
			!conv->reference)
			return FA_OK;
		fa_conv_destroy(conv);
		FA_TRY(fa_conv_create(conv, model->engine->dnnl, FA_PASS_INFERENCE, &spec, NULL, error));
		return repack(model, &weights->layout, weights->data, &conv->layout, conv->weights_size,
					  &p->repacked[index], error);
	}
	FA_TRY(fa_conv_create(conv, model->engine->dnnl, FA_PASS_INFERENCE, &spec, NULL, error));
	FA_TRY(fa_layout_plain(&plain, &spec, error));
	status =
		repack(model, &plain, fa_weights_find(&model->plain, model->net.ops[step->op].name)->values,
			   &conv->layout, conv->weights_size, &weights->data, error);
	if (status == FA_OK)
		status = fa_layout_copy(&weights->layout, &conv->layout, error);
	fa_layout_free(&plain);
	return status;
}

/* Of weights alone: the arena is the engine's, and mostly small. */
size_t
fa_cpu_memory(const fa_model *model)
{
	size_t bytes = 0;

	for (int i = 0; i < model->net.op_count && !model->borrowed; i++)
		if (model->weights[i].data != NULL)
			bytes += fa_layout_size(&model->weights[i].layout);
	return bytes;
}

/* A tensor's time and place in the arena. */
typedef struct lifetime
{
	int root;         /* the tensor whose memory it is in: its own, or that of a sum in place */
	int birth, death; /* the first and the last step that need a root */
	size_t size, place;
} lifetime;

/*
 * A tensor lives from the step that writes it to the last that reads it, outputs to the
 * end; so does what a sum in place takes over.
 */
static void
find_lifetimes(const fa_model *model, const fa_program *p, lifetime *tensors)
{
	const fa_net *net = &model->net;
	const fa_plan *plan = &model->plan;

	for (int i = 0; i < plan->step_count; i++)
	{
		const fa_step *step = &plan->steps[i];
		const fa_op *op = &net->ops[step->op];
		const int read[3] = {op->input[0], op->input[1], step->sum};
		lifetime *t = &tensors[step->result];

		t->root = fa_adds_in_place(net, step) ? tensors[step->sum].root : step->result;
		if (t->root == step->result)
			t->birth = i;
		tensors[t->root].death = i;
		for (int k = 0; k < 3; k++)
			if (read[k] >= 0)
				tensors[tensors[plan->holder[read[k]]].root].death = i;
		/* 64 bytes beyond: vector code may read, never write, past the end */
		t->size = (fa_shape_count(&p->shapes[step->result]) * p->count *
					   fa_act_size(plan->types[step->result]) +
				   127) /
				  64 * 64;
	}
	for (int i = 0; i < net->output_count; i++)
		tensors[tensors[plan->holder[net->outputs[i].op]].root].death = plan->step_count;
}

/* The first place from `start` on that no tensor takes which lives at the same time. */
static size_t
free_place(const lifetime *tensors, const int *placed, int count, const lifetime *t, size_t start)
{
	size_t place = start;
	bool moved = true;

	while (moved)
	{
		moved = false;
		for (int k = 0; k < count; k++)
		{
			const lifetime *other = &tensors[placed[k]];

			if (other->death >= t->birth && place < other->place + other->size &&
				other->place < place + t->size)
			{
				place = other->place + other->size;
				moved = true;
			}
		}
	}
	return place;
}

/* Gives every tensor a place behind the scratchpad. */
static fa_status
place_tensors(const fa_model *model, fa_program *p, fa_error *error)
{
	const fa_plan *plan = &model->plan;
	size_t n = (size_t) model->net.op_count, scratchpad = 0;
	lifetime *tensors = calloc(n + 1, sizeof(lifetime));
	int *placed = calloc(n + 1, sizeof(int)), placed_count = 0;

	if (tensors == NULL || placed == NULL)
	{
		free(tensors);
		free(placed);
		return fa_no_memory(error, n * sizeof(lifetime));
	}
	find_lifetimes(model, p, tensors);
	for (int i = 0; i < plan->step_count; i++)
		if (p->convs[i].scratchpad_size > scratchpad)
			scratchpad = p->convs[i].scratchpad_size;
	scratchpad = (scratchpad + 63) / 64 * 64;
	p->scratchpad = 0;
	p->arena_size = scratchpad;
	for (int i = 0; i < plan->step_count; i++)
	{
		int result = plan->steps[i].result;
		lifetime *t = &tensors[result];

		if (t->root == result)
		{
			t->place = free_place(tensors, placed, placed_count, t, scratchpad);
			placed[placed_count++] = result;
			if (t->place + t->size > p->arena_size)
				p->arena_size = t->place + t->size;
		}
		p->offsets[result] = tensors[t->root].place;
	}
	free(tensors);
	free(placed);
	return FA_OK;
}

/* Sums that could overflow are refused long before: 2^31 values in any tensor. */
static fa_status
check_sizes(const fa_net *net, const fa_shape *shapes, int count, fa_error *error)
{
	for (int i = 0; i < net->op_count; i++)
		if ((double) shapes[i].height * shapes[i].width * shapes[i].channels * count > 0x1p31)
			return fa_fail(error, FA_TOO_LARGE, "a batch of %d images of this size is too large",
						   count);
	return FA_OK;
}

static fa_status
compile(fa_model *model, fa_program *p, const fa_batch *batch, const fa_interrupt *interrupt,
		fa_error *error)
{
	int steps = model->plan.step_count, ops = model->net.op_count;

	p->count = batch->count;
	p->height = batch->height;
	p->width = batch->width;
	p->threads = model->engine->threads;
	p->shapes = calloc(ops + 1, sizeof(fa_shape));
	p->convs = calloc(steps + 1, sizeof(fa_conv));
	p->repacked = calloc(steps + 1, sizeof(void *));
	p->offsets = calloc(ops + 1, sizeof(size_t));
	if (p->shapes == NULL || p->convs == NULL || p->repacked == NULL || p->offsets == NULL)
		return fa_no_memory(error, steps * sizeof(fa_conv));
	FA_TRY(fa_net_shapes(&model->net, p->height, p->width, p->shapes, error));
	FA_TRY(check_sizes(&model->net, p->shapes, p->count, error));
	for (int i = 0; i < steps; i++)
	{
		FA_TRY(fa_check_interrupt(interrupt, error));
		if (fa_is_convolution(&model->net.ops[model->plan.steps[i].op]))
			FA_TRY(compile_convolution(model, p, i, error));
	}
	return place_tensors(model, p, error);
}

/* The program for a batch, compiled if need be in place of the one unused for longest. */
static fa_status
find_program(fa_model *model, const fa_batch *batch, const fa_interrupt *interrupt,
			 fa_program **found, fa_error *error)
{
	fa_program **slot = &model->programs[0], *p;
	fa_status status;

	for (int i = 0; i < FA_MAX_PROGRAMS; i++)
	{
		p = model->programs[i];
		if (p != NULL && p->count == batch->count && p->height == batch->height &&
			p->width == batch->width && p->threads == model->engine->threads)
		{
			p->last_use = ++model->clock;
			*found = p;
			return FA_OK;
		}
		if (*slot != NULL && (p == NULL || p->last_use < (*slot)->last_use))
			slot = &model->programs[i];
	}
	p = calloc(1, sizeof(fa_program));
	if (p == NULL)
		return fa_no_memory(error, sizeof(fa_program));
	status = compile(model, p, batch, interrupt, error);
	if (status != FA_OK)
	{
		program_free(model, p);
		return status;
	}
	fa_weights_free(&model->plain); /* all are packed now */
	program_free(model, *slot);
	p->last_use = ++model->clock;
	*found = *slot = p;
	return FA_OK;
}

fa_status
fa_cpu_compile(fa_model *model, const fa_batch *batch, fa_error *error)
{
	fa_program *p;

	fa_cpu_use_threads(model->engine);
	return find_program(model, batch, NULL, &p, error);
}

static void *
tensor_of(const fa_model *model, const fa_program *p, int op)
{
	return model->engine->arena + p->offsets[model->plan.holder[op]];
}

static fa_status
bind(fa_model *model, fa_program *p, fa_error *error)
{
	fa_engine *engine = model->engine;

	if (engine->arena_size < p->arena_size)
	{
		free(engine->arena);
		engine->arena_size = 0;
		engine->arena = fa_aligned(p->arena_size);
		if (engine->arena == NULL)
			return fa_no_memory(error, p->arena_size);
		engine->arena_size = p->arena_size;
	}
	if (p->bound == engine->arena)
		return FA_OK;
	for (int i = 0; i < model->plan.step_count; i++)
	{
		const fa_step *step = &model->plan.steps[i];
		const fa_op *op = &model->net.ops[step->op];
		const fa_packed_weights *weights = &model->weights[step->op];

		if (fa_is_convolution(op))
			fa_conv_bind(&p->convs[i], tensor_of(model, p, op->input[0]),
						 p->repacked[i] != NULL ? p->repacked[i] : weights->data, weights->bias,
						 tensor_of(model, p, step->result), engine->arena + p->scratchpad);
	}
	p->bound = engine->arena;
	return FA_OK;
}

static fa_status
take_step(fa_model *model, fa_program *p, int index, const fa_batch *batch, fa_error *error)
{
	const fa_step *step = &model->plan.steps[index];
	const fa_net *net = &model->net;
	const fa_op *op = &net->ops[step->op];
	fa_act_type type = model->plan.types[step->result];
	const fa_shape *shape = &p->shapes[step->op];
	const fa_shape *in_shape = op->input[0] >= 0 ? &p->shapes[op->input[0]] : NULL;
	size_t pixels = (size_t) p->count * shape->height * shape->width;
	size_t count = pixels * shape->channels;
	const void *in = op->input[0] >= 0 ? tensor_of(model, p, op->input[0]) : NULL;
	void *out = tensor_of(model, p, step->result);
	const void *added = step->sum >= 0 ? tensor_of(model, p, step->sum) : NULL;
	fa_pool_window window;

	switch (op->kind)
	{
		case FA_OP_INPUT:
			fa_kernel_input(batch->pixels, out, pixels, net->bgr, net->mean, net->scale, type);
			return FA_OK;
		case FA_OP_CONVOLUTION:
		case FA_OP_DEPTHWISE:
		case FA_OP_DENSE:
			return fa_conv_execute(&p->convs[index], model->engine->stream, error);
		case FA_OP_BATCH_NORM:
			fa_kernel_affine(in, added, out, pixels, shape->channels, model->norms[step->op],
							 model->norms[step->op] + shape->channels, step->activation, type);
			return FA_OK;
		case FA_OP_RELU:
		case FA_OP_RELU6:
		case FA_OP_SIGMOID:
			fa_kernel_activation(in, out, count, step->activation, type);
			return FA_OK;
		case FA_OP_MAX_POOL:
			window = fa_step_window(net, step, p->shapes, p->count);
			fa_kernel_max_pool(in, out, &window, type);
			return FA_OK;
		case FA_OP_GLOBAL_AVERAGE_POOL:
			fa_kernel_average(in, out, p->count, (size_t) in_shape->height * in_shape->width,
							  shape->channels, model->plan.types[model->plan.holder[op->input[0]]]);
			return FA_OK;
		case FA_OP_ADD:
			fa_kernel_add(in, model->plan.types[model->plan.holder[op->input[0]]],
						  tensor_of(model, p, op->input[1]),
						  model->plan.types[model->plan.holder[op->input[1]]], out, count, type);
			return FA_OK;
		case FA_OP_UPSAMPLE:
			fa_kernel_upsample(in, out, p->count, in_shape->height, in_shape->width,
							   shape->channels, type);
			return FA_OK;
		case FA_OP_SCALE:
			fa_kernel_scale(in, tensor_of(model, p, op->input[1]),
							model->plan.types[model->plan.holder[op->input[1]]], added, out,
							p->count, pixels / p->count, shape->channels, step->activation, type);
			return FA_OK;
		case FA_OP_DROPOUT: /* not a step of inference */
			break;
	}
	return fa_fail(error, FA_INTERNAL, "operation \"%s\" cannot be run", op->name);
}

fa_status
fa_cpu_run(fa_model *model, const fa_batch *batch, float *const *outputs,
		   const fa_interrupt *interrupt, fa_error *error)
{
	fa_engine *engine = model->engine;
	fa_program *p = NULL;

	if (batch->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	fa_cpu_use_threads(engine);
	FA_TRY(find_program(model, batch, interrupt, &p, error));
	FA_TRY(bind(model, p, error));
	for (int i = 0; i < model->plan.step_count; i++)
	{
		FA_TRY(fa_check_interrupt(interrupt, error));
		FA_TRY(take_step(model, p, i, batch, error));
	}
	for (int i = 0; i < model->net.output_count; i++)
	{
		int op = model->net.outputs[i].op;

		if (outputs[i] != NULL)
			fa_kernel_to_float(tensor_of(model, p, op), outputs[i],
							   fa_shape_count(&p->shapes[op]) * p->count,
							   model->plan.types[model->plan.holder[op]]);
	}
	if (engine->arena_size > KEPT_ARENA)
	{
		free(engine->arena);
		engine->arena = NULL;
		engine->arena_size = 0;
		p->bound = NULL;
	}
	return FA_OK;
}
