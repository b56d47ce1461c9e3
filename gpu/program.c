/*
 * program.c
 *		Compiling a network for a batch, and starting it; see program.h.
 */
#include "program.h"

#include "kernels.h"
#include "tune.h"

#include <stdlib.h>
#include <string.h>

void
fa_gpu_program_free(fa_model *model, fa_gpu_program *p)
{
	if (p == NULL)
		return;
	if (p->whole != NULL)
		cudaGraphExecDestroy(p->whole);
	for (int i = 0; i < model->plan.step_count && p->graphs != NULL; i++)
		fa_gpu_graph_destroy(p->graphs[i]);
	fa_gpu_give(&model->engine->memory, &p->arena);
	free(p->graphs);
	free(p->fused);
	free(p->shapes);
	free(p->offsets);
	free(p);
}

/* --- Compiling ---------------------------------------------------------------------- */

static size_t
rounded(size_t size)
{
	return (size + 255) / 256 * 256;
}

static size_t
pixels_of(const fa_gpu_program *p, int op)
{
	return (size_t) p->count * p->shapes[op].height * p->shapes[op].width;
}

size_t
fa_gpu_output_values(const fa_model *model, const fa_gpu_program *p, int output)
{
	int op = model->net.outputs[output].op;

	return pixels_of(p, op) * p->shapes[op].channels;
}

const float *
fa_gpu_output_of(const fa_model *model, const fa_gpu_program *p, int output)
{
	size_t before = 0;

	for (int i = 0; i < output; i++)
		before += fa_gpu_output_values(model, p, i);
	return (const float *) (const void *) (p->arena.address + p->outputs) + before;
}

/* Sums that could overflow are refused long before: 2^31 values in any tensor. */
static fa_status
check_sizes(const fa_net *net, const fa_shape *shapes, int count, fa_error *error)
{
	for (int i = 0; i < net->op_count; i++)
		if ((double) shapes[i].height * shapes[i].width * fa_gpu_padded(shapes[i].channels) *
				count >
			0x1p31)
			return fa_fail(error, FA_TOO_LARGE, "a batch of %d images of this size is too large",
						   count);
	return FA_OK;
}

/* cuDNN's plan for a step: with all that joined it, or the bare convolution, or none. */
static fa_status
compile_convolution(fa_model *model, fa_gpu_program *p, int index, fa_error *error)
{
	const fa_gpu_step *step = &model->plan.steps[index];
	fa_engine *engine = model->engine;
	fa_gpu_tuner tuner = {&engine->target, engine->stream, &engine->memory, engine->plans};
	fa_gpu_conv_spec spec =
		fa_gpu_step_spec(&model->net, step, p->shapes, p->count, model->precision);

	for (int fused = 1; fused >= 0 && p->graphs[index] == NULL; fused--)
	{
		size_t workspace = 0;

		spec.fused = p->fused[index] = fused;
		FA_TRY(fa_gpu_tuned_graph(&tuner, &spec, &p->graphs[index], &workspace, error));
		if (workspace > p->workspace) /* its size, until it has a place */
			p->workspace = workspace;
	}
	return FA_OK;
}

static void *
tensor_of(const fa_model *model, const fa_gpu_program *p, int op)
{
	return op < 0 ? NULL : p->arena.address + p->offsets[model->plan.holder[op]];
}

/* The arena: tensors, workspace, pixels, outputs. */
static fa_status
allocate(fa_model *model, fa_gpu_program *p, fa_error *error)
{
	size_t workspace = rounded(p->workspace);

	FA_TRY(fa_gpu_place(&model->net, &model->plan, p->shapes, p->count, model->type, p->offsets,
						&p->workspace, error));
	p->pixels = p->workspace + workspace;
	p->pixels_size = (size_t) p->count * p->height * p->width * 3;
	p->outputs = p->pixels + rounded(p->pixels_size);
	for (int i = 0; i < model->net.output_count; i++)
		p->outputs_size += fa_gpu_output_values(model, p, i) * sizeof(float);
	return fa_gpu_take(&model->engine->memory, p->outputs + p->outputs_size, "for a batch",
					   &p->arena, error);
}

static fa_status
compile(fa_model *model, fa_gpu_program *p, const fa_interrupt *interrupt, fa_error *error)
{
	int steps = model->plan.step_count, ops = model->net.op_count;

	p->shapes = calloc(ops + 1, sizeof(fa_shape));
	p->graphs = calloc(steps + 1, sizeof(fa_gpu_graph *));
	p->fused = calloc(steps + 1, sizeof(bool));
	p->offsets = calloc(ops + 1, sizeof(size_t));
	if (p->shapes == NULL || p->graphs == NULL || p->fused == NULL || p->offsets == NULL)
		return fa_no_memory(error, ops * sizeof(fa_shape));
	FA_TRY(fa_net_shapes(&model->net, p->height, p->width, p->shapes, error));
	FA_TRY(check_sizes(&model->net, p->shapes, p->count, error));
	for (int i = 0; i < steps; i++)
	{
		FA_TRY(fa_check_interrupt(interrupt, error));
		if (fa_gpu_is_convolution(&model->net.ops[model->plan.steps[i].op]))
			FA_TRY(compile_convolution(model, p, i, error));
	}
	FA_TRY(allocate(model, p, error));
	for (int i = 0; i < steps; i++)
	{
		const fa_gpu_step *step = &model->plan.steps[i];
		const fa_gpu_parameters *w = &model->weights.steps[i];

		if (p->graphs[i] != NULL)
			FA_TRY(fa_gpu_graph_bind(
				p->graphs[i], tensor_of(model, p, model->net.ops[step->op].input[0]), w->filter,
				w->bias, tensor_of(model, p, step->sum), tensor_of(model, p, step->result),
				p->arena.address + p->workspace, error));
	}
	return FA_OK;
}

fa_status
fa_gpu_program_make(fa_model *model, int count, int height, int width,
					const fa_interrupt *interrupt, fa_gpu_program **made, fa_error *error)
{
	fa_gpu_program *p = calloc(1, sizeof(fa_gpu_program));
	fa_status status;

	*made = NULL;
	if (p == NULL)
		return fa_no_memory(error, sizeof(fa_gpu_program));
	p->count = count;
	p->height = height;
	p->width = width;
	status = compile(model, p, interrupt, error);
	fa_gpu_plan_cache_save(model->engine->plans);
	if (status != FA_OK)
	{
		fa_gpu_program_free(model, p);
		return status;
	}
	*made = p;
	return FA_OK;
}

/* --- Running ------------------------------------------------------------------------- */

static fa_gpu_window
window_of(const fa_model *model, const fa_gpu_program *p, const fa_gpu_step *step)
{
	const fa_op *op = &model->net.ops[step->op];
	fa_gpu_conv_spec s = fa_gpu_step_spec(&model->net, step, p->shapes, p->count, model->precision);
	bool windowed = op->kind != FA_OP_DENSE;

	return (fa_gpu_window){
		.n = s.n,
		.in_h = s.in_h,
		.in_w = s.in_w,
		.out_h = s.out_h,
		.out_w = s.out_w,
		.channels = s.out_c,
		.kernel = windowed ? op->kernel : 1,
		.stride = windowed ? op->stride : 1,
		.pad_top = windowed ? fa_op_padding(op, s.in_h) : 0,
		.pad_left = windowed ? fa_op_padding(op, s.in_w) : 0,
	};
}

static fa_status
start_convolution(const fa_model *model, const fa_gpu_program *p, int index, fa_error *error)
{
	const fa_gpu_step *step = &model->plan.steps[index];
	const fa_op *op = &model->net.ops[step->op];
	const fa_gpu_parameters *w = &model->weights.steps[index];
	void *out = tensor_of(model, p, step->result);
	cudaStream_t stream = model->engine->stream;
	fa_gpu_window window = window_of(model, p, step);

	if (p->graphs[index] != NULL)
		FA_TRY(fa_gpu_graph_execute(p->graphs[index], error));
	else
		FA_TRY(fa_gpu_convolution(tensor_of(model, p, op->input[0]), w->filter, out, &window,
								  fa_gpu_padded(p->shapes[op->input[0]].channels), model->type,
								  stream, error));
	if (p->graphs[index] != NULL && p->fused[index])
		return FA_OK;
	return fa_gpu_affine(out, NULL, w->bias, tensor_of(model, p, step->sum), out,
						 pixels_of(p, step->op), window.channels, step->activation, model->type,
						 stream, error);
}

static fa_status
start_step(const fa_model *model, const fa_gpu_program *p, int index, fa_error *error)
{
	const fa_gpu_step *step = &model->plan.steps[index];
	const fa_op *op = &model->net.ops[step->op];
	const fa_gpu_parameters *w = &model->weights.steps[index];
	const fa_shape *shape = &p->shapes[step->op];
	const fa_shape *in_shape = op->input[0] >= 0 ? &p->shapes[op->input[0]] : shape;
	const void *in = tensor_of(model, p, op->input[0]);
	const void *added = tensor_of(model, p, step->sum);
	void *out = tensor_of(model, p, step->result);
	int channels = fa_gpu_padded(shape->channels), area = shape->height * shape->width;
	size_t pixels = pixels_of(p, step->op);
	fa_gpu_type type = model->type;
	cudaStream_t stream = model->engine->stream;
	fa_gpu_input_form form = {.bgr = model->net.bgr};
	fa_gpu_window window;

	switch (op->kind)
	{
		case FA_OP_INPUT:
			memcpy(form.mean, model->net.mean, sizeof(form.mean));
			memcpy(form.scale, model->net.scale, sizeof(form.scale));
			return fa_gpu_input((const uint8_t *) p->arena.address + p->pixels, out, pixels, &form,
								type, stream, error);
		case FA_OP_CONVOLUTION:
		case FA_OP_DENSE:
			return start_convolution(model, p, index, error);
		case FA_OP_DEPTHWISE:
			window = window_of(model, p, step);
			return fa_gpu_depthwise(in, w->filter, w->bias, out, &window, step->activation, type,
									stream, error);
		case FA_OP_MAX_POOL:
			window = window_of(model, p, step);
			return fa_gpu_max_pool(in, out, &window, type, stream, error);
		case FA_OP_BATCH_NORM:
		case FA_OP_RELU:
		case FA_OP_RELU6:
		case FA_OP_SIGMOID:
			return fa_gpu_affine(in, w->gain, w->bias, added, out, pixels, channels,
								 step->activation, type, stream, error);
		case FA_OP_ADD:
			return fa_gpu_affine(in, NULL, NULL, tensor_of(model, p, op->input[1]), out, pixels,
								 channels, step->activation, type, stream, error);
		case FA_OP_GLOBAL_AVERAGE_POOL:
			return fa_gpu_average_pool(in, out, p->count, in_shape->height * in_shape->width,
									   channels, type, stream, error);
		case FA_OP_SCALE:
			return fa_gpu_scale(in, tensor_of(model, p, op->input[1]), added, out, p->count, area,
								channels, step->activation, type, stream, error);
		case FA_OP_UPSAMPLE:
			return fa_gpu_upsample(in, out, p->count, in_shape->height, in_shape->width, channels,
								   type, stream, error);
		case FA_OP_DROPOUT: /* not a step of inference */
			break;
	}
	return fa_fail(error, FA_INTERNAL, "operation \"%s\" cannot be run", op->name);
}

fa_status
fa_gpu_program_input(const fa_model *model, const fa_gpu_program *p, fa_error *error)
{
	return start_step(model, p, 0, error);
}

/* What follows the first step, one by one, and the outputs. */
static fa_status
start(const fa_model *model, const fa_gpu_program *p, const fa_interrupt *interrupt,
	  fa_error *error)
{
	for (int i = 1; i < model->plan.step_count; i++)
	{
		FA_TRY(fa_check_interrupt(interrupt, error));
		FA_TRY(start_step(model, p, i, error));
	}
	for (int i = 0; i < model->net.output_count; i++)
	{
		int op = model->net.outputs[i].op;

		FA_TRY(fa_gpu_output(tensor_of(model, p, op), (float *) fa_gpu_output_of(model, p, i),
							 pixels_of(p, op), p->shapes[op].channels, model->type,
							 model->engine->stream, error));
	}
	return FA_OK;
}

/* The same as one CUDA graph. */
static fa_status
capture(const fa_model *model, fa_gpu_program *p, fa_error *error)
{
	cudaStream_t stream = model->engine->stream;

	FA_TRY(fa_gpu_begin_capture(stream, error));
	return fa_gpu_end_capture(stream, start(model, p, NULL, error), &p->whole, error);
}

fa_status
fa_gpu_program_start(const fa_model *model, fa_gpu_program *p, const fa_interrupt *interrupt,
					 fa_error *error)
{
	FA_TRY(fa_check_interrupt(interrupt, error));
	if (p->ran && p->whole == NULL && capture(model, p, error) != FA_OK)
		p->ran = false; /* step by step, and another try next time */
	if (p->whole != NULL)
		return fa_gpu_status(cudaGraphLaunch(p->whole, model->engine->stream), "to start a graph",
							 error);
	FA_TRY(start(model, p, interrupt, error));
	p->ran = true;
	return FA_OK;
}
