/*
 * model.c
 *		Inference on the device. A model compiles itself to a program for every class of
 *		batch (plan.h) and image size that it meets, and keeps the latest few.
 *
 * A program is a list of steps with their addresses: cuDNN's graphs, bound, and own
 * kernels, in one arena that also holds the pixels, the outputs and cuDNN's workspace. It
 * runs step by step the first time, when libraries load their code; then it is captured
 * once as a CUDA graph and started as a whole.
 */
#include "cuda_engine.h"
#include "kernels.h"
#include "plan.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PROGRAMS 16

typedef struct program
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
	size_t arena_size;
	char *arena;
	char *pinned; /* on the host: pixels, then outputs */
	size_t pinned_outputs;
	bool ran;
	cudaGraphExec_t whole; /* all of it; NULL before the second run, or if it cannot be had */
} program;

struct fa_model
{
	fa_engine *engine;
	fa_net net;
	fa_gpu_plan plan;
	fa_precision precision;
	fa_gpu_type type;
	fa_gpu_weights weights;
	program *programs[MAX_PROGRAMS];
	uint64_t clock;
};

static void
program_free(const fa_model *model, program *p)
{
	if (p == NULL)
		return;
	if (p->whole != NULL)
		cudaGraphExecDestroy(p->whole);
	for (int i = 0; i < model->plan.step_count && p->graphs != NULL; i++)
		fa_gpu_graph_destroy(p->graphs[i]);
	cudaFree(p->arena);
	if (p->pinned != NULL)
		cudaFreeHost(p->pinned);
	free(p->graphs);
	free(p->fused);
	free(p->shapes);
	free(p->offsets);
	free(p);
}

void
fa_cuda_unload(fa_model *model)
{
	if (model == NULL)
		return;
	for (int i = 0; i < MAX_PROGRAMS; i++)
		program_free(model, model->programs[i]);
	fa_gpu_weights_free(&model->weights);
	fa_gpu_plan_free(&model->plan);
	fa_net_free(&model->net);
	free(model);
}

size_t
fa_cuda_memory(const fa_model *model)
{
	size_t bytes = model->weights.size;

	for (int i = 0; i < MAX_PROGRAMS; i++)
		if (model->programs[i] != NULL)
			bytes += model->programs[i]->arena_size;
	return bytes;
}

fa_status
fa_cuda_load_model(fa_engine *engine, const fa_net *net, const fa_weights *weights,
				   fa_precision precision, fa_model **model, fa_error *error)
{
	fa_model *loaded;
	fa_status status;

	*model = NULL;
	FA_TRY(fa_cuda_resolve_precision(engine, precision, &precision, error));
	FA_TRY(fa_weights_match(weights, net, true, error));
	loaded = calloc(1, sizeof(fa_model));
	if (loaded == NULL)
		return fa_no_memory(error, sizeof(fa_model));
	loaded->engine = engine;
	loaded->precision = precision;
	loaded->type = fa_gpu_type_of(precision);
	status = fa_net_copy(&loaded->net, net, error);
	if (status == FA_OK)
		status = fa_gpu_plan_make(&loaded->plan, net, error);
	if (status == FA_OK)
		status = fa_gpu_upload(&loaded->weights, net, &loaded->plan, weights, loaded->type,
							   engine->stream, error);
	if (status != FA_OK)
	{
		fa_cuda_unload(loaded);
		return status;
	}
	*model = loaded;
	return FA_OK;
}

/* --- Compiling ---------------------------------------------------------------------- */

static size_t
rounded(size_t size)
{
	return (size + 255) / 256 * 256;
}

static size_t
pixels_of(const program *p, int op)
{
	return (size_t) p->count * p->shapes[op].height * p->shapes[op].width;
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
compile_convolution(fa_model *model, program *p, int index, fa_error *error)
{
	const fa_gpu_step *step = &model->plan.steps[index];
	fa_gpu_conv_spec spec =
		fa_gpu_step_spec(&model->net, step, p->shapes, p->count, model->precision);

	for (int fused = 1; fused >= 0; fused--)
	{
		size_t workspace = 0;
		int count;

		spec.fused = p->fused[index] = fused;
		FA_TRY(
			fa_gpu_graph_create(&spec, &model->engine->target, &p->graphs[index], &count, error));
		if (count > 0 && fa_gpu_graph_plan(p->graphs[index], &workspace, error) == FA_OK)
		{
			if (workspace > p->workspace) /* its size, until it has a place */
				p->workspace = workspace;
			return FA_OK;
		}
		fa_gpu_graph_destroy(p->graphs[index]);
		p->graphs[index] = NULL;
	}
	return FA_OK;
}

static void *
tensor_of(const fa_model *model, const program *p, int op)
{
	return op < 0 ? NULL : p->arena + p->offsets[model->plan.holder[op]];
}

/* The arena: tensors, workspace, pixels, outputs. */
static fa_status
allocate(fa_model *model, program *p, fa_error *error)
{
	size_t workspace = rounded(p->workspace), size;

	FA_TRY(fa_gpu_place(&model->net, &model->plan, p->shapes, p->count, model->type, p->offsets,
						&p->workspace, error));
	p->pixels = p->workspace + workspace;
	p->pixels_size = (size_t) p->count * p->height * p->width * 3;
	p->outputs = p->pixels + rounded(p->pixels_size);
	for (int i = 0; i < model->net.output_count; i++)
		p->outputs_size += pixels_of(p, model->net.outputs[i].op) *
						   p->shapes[model->net.outputs[i].op].channels * sizeof(float);
	size = p->outputs + p->outputs_size;
	FA_TRY(
		fa_gpu_status(cudaMalloc((void **) &p->arena, size), "to give memory for a batch", error));
	p->arena_size = size;
	p->pinned_outputs = rounded(p->pixels_size);
	FA_TRY(fa_gpu_status(cudaMallocHost((void **) &p->pinned, p->pinned_outputs + p->outputs_size),
						 "to give memory of the host", error));
	memset(p->pinned, 0, p->pixels_size); /* images that pad a batch are black */
	return FA_OK;
}

static fa_status
compile(fa_model *model, program *p, const fa_interrupt *interrupt, fa_error *error)
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
				p->arena + p->workspace, error));
	}
	return FA_OK;
}

/* The program for a batch, compiled if need be in place of the one unused for longest. */
static fa_status
find_program(fa_model *model, int count, int height, int width, const fa_interrupt *interrupt,
			 program **found, fa_error *error)
{
	program **slot = &model->programs[0], *p;
	fa_status status;

	for (int i = 0; i < MAX_PROGRAMS; i++)
	{
		p = model->programs[i];
		if (p != NULL && p->count == count && p->height == height && p->width == width)
		{
			p->last_use = ++model->clock;
			*found = p;
			return FA_OK;
		}
		if (*slot != NULL && (p == NULL || p->last_use < (*slot)->last_use))
			slot = &model->programs[i];
	}
	/* first, so that the memory of both is never needed */
	program_free(model, *slot);
	*slot = NULL;
	p = calloc(1, sizeof(program));
	if (p == NULL)
		return fa_no_memory(error, sizeof(program));
	p->count = count;
	p->height = height;
	p->width = width;
	status = compile(model, p, interrupt, error);
	if (status != FA_OK)
	{
		program_free(model, p);
		return status;
	}
	p->last_use = ++model->clock;
	*found = *slot = p;
	return FA_OK;
}

/* --- Running ------------------------------------------------------------------------- */

static fa_gpu_window
window_of(const fa_model *model, const program *p, const fa_gpu_step *step)
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
start_convolution(const fa_model *model, const program *p, int index, fa_error *error)
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
start_step(const fa_model *model, const program *p, int index, fa_error *error)
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
			return fa_gpu_input((const uint8_t *) p->arena + p->pixels, out, pixels, &form, type,
								stream, error);
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

/* Everything from the pixels in pinned memory to the outputs there, onto the stream. */
static fa_status
start(const fa_model *model, const program *p, const fa_interrupt *interrupt, fa_error *error)
{
	cudaStream_t stream = model->engine->stream;
	size_t place = p->outputs;

	FA_TRY(fa_gpu_status(cudaMemcpyAsync(p->arena + p->pixels, p->pinned, p->pixels_size,
										 cudaMemcpyHostToDevice, stream),
						 "to take pixels", error));
	for (int i = 0; i < model->plan.step_count; i++)
	{
		FA_TRY(fa_check_interrupt(interrupt, error));
		FA_TRY(start_step(model, p, i, error));
	}
	for (int i = 0; i < model->net.output_count; i++)
	{
		int op = model->net.outputs[i].op;

		FA_TRY(fa_gpu_output(tensor_of(model, p, op), (void *) (p->arena + place), pixels_of(p, op),
							 p->shapes[op].channels, model->type, stream, error));
		place += pixels_of(p, op) * p->shapes[op].channels * sizeof(float);
	}
	return fa_gpu_status(cudaMemcpyAsync(p->pinned + p->pinned_outputs, p->arena + p->outputs,
										 p->outputs_size, cudaMemcpyDeviceToHost, stream),
						 "to give outputs", error);
}

/* The same as one CUDA graph. */
static fa_status
capture(const fa_model *model, program *p, fa_error *error)
{
	cudaStream_t stream = model->engine->stream;
	cudaGraph_t graph = NULL;
	cudaError_t ended;
	fa_status status;

	FA_TRY(fa_gpu_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
						 "to capture a graph", error));
	status = start(model, p, NULL, error);
	ended = cudaStreamEndCapture(stream, &graph);
	if (status == FA_OK)
		status = fa_gpu_status(ended, "to capture a graph", error);
	if (status == FA_OK)
		status = fa_gpu_status(cudaGraphInstantiate(&p->whole, graph, 0), "to make a graph", error);
	if (graph != NULL)
		cudaGraphDestroy(graph);
	return status;
}

static fa_status
run_program(const fa_model *model, program *p, const fa_interrupt *interrupt, fa_error *error)
{
	cudaStream_t stream = model->engine->stream;
	cudaError_t ended;
	fa_status status;

	FA_TRY(fa_check_interrupt(interrupt, error));
	if (p->ran && p->whole == NULL && capture(model, p, error) != FA_OK)
	{
		p->whole = NULL;
		p->ran = false; /* step by step, and another try next time */
		cudaGetLastError();
	}
	status = p->whole != NULL
				 ? fa_gpu_status(cudaGraphLaunch(p->whole, stream), "to start a graph", error)
				 : start(model, p, interrupt, error);
	/* after a failure too: what has been started must not outlive this call */
	ended = cudaStreamSynchronize(stream);
	/* which knows better than cuDNN why something could not be started */
	FA_TRY(fa_gpu_status(ended, "to run a network", error));
	FA_TRY(status);
	p->ran = true;
	return FA_OK;
}

fa_status
fa_cuda_run(fa_model *model, const fa_batch *batch, float *const *outputs,
			const fa_interrupt *interrupt, fa_error *error)
{
	int part;

	if (batch->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	for (int done = 0; done < batch->count; done += part)
	{
		int rest = batch->count - done;
		int count = fa_gpu_batch_class(rest, batch->height, batch->width);
		size_t image = (size_t) batch->height * batch->width * 3;
		program *p = NULL;
		const float *values;

		part = rest < count ? rest : count;
		FA_TRY(find_program(model, count, batch->height, batch->width, interrupt, &p, error));
		memcpy(p->pinned, batch->pixels + done * image, part * image);
		FA_TRY(run_program(model, p, interrupt, error));
		values = (const void *) (p->pinned + p->pinned_outputs);
		for (int i = 0; i < model->net.output_count; i++)
		{
			int op = model->net.outputs[i].op;
			size_t size = pixels_of(p, op) * p->shapes[op].channels, each = size / count;

			if (outputs[i] != NULL)
				memcpy(outputs[i] + done * each, values, part * each * sizeof(float));
			values += size;
		}
	}
	return FA_OK;
}
