/*
 * trainer.c
 *		The CUDA engine's trainer: opening it, and its state; see trainer.h.
 */
#include "trainer.h"

#include "tune.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SCALE 4096.0f

void
fa_cuda_trainer_close(fa_trainer *t)
{
	if (t == NULL)
		return;
	cudaStreamSynchronize(t->engine->stream); /* nothing may be at work where memory goes */
	for (int i = 0; i < t->net.op_count && t->layers != NULL; i++)
	{
		fa_gpu_graph_destroy(t->layers[i].forward);
		fa_gpu_graph_destroy(t->layers[i].backward_data);
		fa_gpu_graph_destroy(t->layers[i].backward_filter);
	}
	if (t->whole != NULL)
		cudaGraphExecDestroy(t->whole);
	fa_gpu_give(&t->engine->memory, &t->sources);
	fa_gpu_give(&t->engine->memory, &t->studio);
	if (t->pinned_sources != NULL)
		cudaFreeHost(t->pinned_sources);
	fa_gpu_give(&t->engine->memory, &t->arena);
	fa_gpu_give(&t->engine->memory, &t->state_block);
	if (t->pinned != NULL)
		cudaFreeHost(t->pinned);
	free(t->layers);
	free(t->rates);
	free(t->shapes);
	free(t->parameters);
	free(t->offsets);
	free(t->first);
	fa_net_free(&t->net);
	free(t);
}

/* --- Parameters ------------------------------------------------------------------------ */

static fa_status
upload(fa_trainer *t, void *to, const void *from, size_t bytes, fa_error *error)
{
	FA_TRY(
		fa_gpu_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, t->engine->stream),
					  "to take a training's state", error));
	return fa_gpu_status(cudaStreamSynchronize(t->engine->stream), "to take a training's state",
						 error);
}

/* Which values learn, how fast, and whether they decay. */
static fa_status
make_rules(fa_trainer *t, fa_error *error)
{
	size_t groups = t->block_count / FA_GPU_GROUP;
	fa_gpu_rule *rules = calloc(groups + 1, sizeof(fa_gpu_rule));
	fa_status status;

	if (rules == NULL)
		return fa_no_memory(error, groups * sizeof(fa_gpu_rule));
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];
		size_t first = t->offsets[i] / FA_GPU_GROUP;

		for (size_t k = 0; k * FA_GPU_GROUP < p->count; k++)
			rules[first + k] = (fa_gpu_rule){p->trainable ? t->rates[p->op] : 0, p->decay,
											 t->layers[p->op].trains};
	}
	status = upload(t, t->rules, rules, groups * sizeof(fa_gpu_rule), error);
	free(rules);
	return status;
}

static fa_status
make_states(fa_trainer *t, fa_error *error)
{
	size_t bytes;

	FA_TRY(fa_net_parameters(&t->net, &t->parameters, &t->parameter_count, error));
	t->offsets = calloc(t->parameter_count + 1, sizeof(size_t));
	t->first = calloc(t->net.op_count + 1, sizeof(int));
	if (t->offsets == NULL || t->first == NULL)
		return fa_no_memory(error, t->parameter_count * sizeof(size_t));
	for (int i = 0; i < t->net.op_count; i++)
		t->first[i] = -1;
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];

		t->offsets[i] = t->block_count;
		t->block_count += (p->count + FA_GPU_GROUP - 1) / FA_GPU_GROUP * FA_GPU_GROUP;
		if (t->first[p->op] < 0)
			t->first[p->op] = i;
		t->layers[p->op].trains = t->rates[p->op] > 0;
	}
	bytes = t->block_count * sizeof(float);
	FA_TRY(fa_gpu_take(&t->engine->memory,
					   (FA_STATE_GRADIENTS + 1) * bytes +
						   t->block_count / FA_GPU_GROUP * sizeof(fa_gpu_rule) + 1,
					   "for training", &t->state_block, error));
	for (int i = 0; i <= FA_STATE_GRADIENTS; i++)
		t->states[i] = (void *) (t->state_block.address + i * bytes);
	t->rules = (fa_gpu_rule *) (t->state_block.address + (FA_STATE_GRADIENTS + 1) * bytes);
	FA_TRY(fa_gpu_status(
		cudaMemsetAsync(t->state_block.address, 0, t->state_block.size, t->engine->stream),
		"to write zeros", error));
	return make_rules(t, error);
}

/* --- Layers ------------------------------------------------------------------------------ */

static fa_gpu_activation
activation_of(fa_op_kind kind)
{
	return kind == FA_OP_RELU      ? FA_GPU_RELU
		   : kind == FA_OP_RELU6   ? FA_GPU_RELU6
		   : kind == FA_OP_SIGMOID ? FA_GPU_SIGMOID
								   : FA_GPU_NONE;
}

static bool
can_join(fa_op_kind before, fa_op_kind activation)
{
	switch (before)
	{
		case FA_OP_CONVOLUTION:
		case FA_OP_DENSE:
		case FA_OP_DEPTHWISE:
		case FA_OP_ADD:
			return true;
		case FA_OP_BATCH_NORM:
			return activation != FA_OP_SIGMOID;
		default:
			return false;
	}
}

/* Who holds what, what learns, and in which order gradients are written. */
static fa_status
arrange(fa_trainer *t, fa_error *error)
{
	const fa_net *net = &t->net;
	int *readers = calloc(net->op_count + 1, sizeof(int));
	bool *written = calloc(net->op_count + 1, sizeof(bool));

	if (readers == NULL || written == NULL)
	{
		free(readers);
		free(written);
		return fa_no_memory(error, net->op_count * sizeof(int));
	}
	for (int i = 0; i < net->op_count; i++)
		for (int k = 0; k < 2; k++)
			if (net->ops[i].input[k] >= 0)
				readers[net->ops[i].input[k]]++;
	for (int i = 0; i < net->output_count; i++)
		readers[net->outputs[i].op]++;
	for (int i = 0; i < net->op_count; i++)
	{
		const fa_op *op = &net->ops[i];
		fa_gpu_layer *l = &t->layers[i];
		int before = op->input[0];

		l->holder = i;
		l->learns = l->trains;
		for (int k = 0; k < 2; k++)
			if (op->input[k] >= 0 && t->layers[op->input[k]].learns)
				l->learns = true;
		if (activation_of(op->kind) == FA_GPU_NONE || readers[before] != 1 ||
			!can_join(net->ops[before].kind, op->kind))
			continue;
		l->joined = true;
		l->holder = before;
		t->layers[before].activation = activation_of(op->kind);
	}
	for (int i = 0; i < net->output_count; i++)
		written[t->layers[net->outputs[i].op].holder] = true;
	for (int i = net->op_count - 1; i >= 0; i--)
	{
		fa_gpu_layer *l = &t->layers[i];

		l->reached = !l->joined && l->learns && written[i];
		for (int k = 0; k < 2 && l->reached; k++)
		{
			int to = net->ops[i].input[k] < 0 ? -1 : t->layers[net->ops[i].input[k]].holder;

			if (to < 0 || !t->layers[to].learns)
				continue;
			l->adds[k] = written[to];
			written[to] = true;
		}
	}
	free(readers);
	free(written);
	return FA_OK;
}

fa_gpu_window
fa_gpu_layer_window(const fa_trainer *t, int op)
{
	const fa_op *o = &t->net.ops[op];
	const fa_shape *in = &t->shapes[o->input[0]], *out = &t->shapes[op];
	bool windowed = o->kind != FA_OP_DENSE;

	return (fa_gpu_window){
		.n = t->options.count,
		.in_h = in->height,
		.in_w = in->width,
		.out_h = out->height,
		.out_w = out->width,
		.channels = fa_gpu_padded(out->channels),
		.kernel = windowed ? o->kernel : 1,
		.stride = windowed ? o->stride : 1,
		.pad_top = windowed ? fa_op_padding(o, in->height) : 0,
		.pad_left = windowed ? fa_op_padding(o, in->width) : 0,
	};
}

fa_gpu_conv_spec
fa_gpu_layer_spec(const fa_trainer *t, int op, fa_gpu_direction direction)
{
	fa_gpu_window w = fa_gpu_layer_window(t, op);

	return (fa_gpu_conv_spec){
		.direction = direction,
		.n = w.n,
		.in_h = w.in_h,
		.in_w = w.in_w,
		.in_c = fa_gpu_channels(t, t->net.ops[op].input[0]),
		.out_h = w.out_h,
		.out_w = w.out_w,
		.out_c = w.channels,
		.kernel = w.kernel,
		.stride = w.stride,
		.pad_top = w.pad_top,
		.pad_left = w.pad_left,
		.type = t->type,
		.tf32 = t->precision == FA_PRECISION_TF32,
		.activation = t->layers[op].activation,
	};
}

static void
at_least(size_t *size, size_t wanted)
{
	if (*size < wanted)
		*size = wanted;
}

static fa_status
plan_one(fa_trainer *t, const fa_gpu_conv_spec *spec, fa_gpu_graph **graph, fa_error *error)
{
	fa_engine *engine = t->engine;
	fa_gpu_tuner tuner = {&engine->target, engine->stream, &engine->memory, engine->plans};
	size_t workspace = 0;

	FA_TRY(fa_gpu_tuned_graph(&tuner, spec, graph, &workspace, error));
	at_least(&t->workspace_size, workspace);
	return FA_OK;
}

/* A convolution's graphs: forward with what joins it, if cuDNN can, and back. */
static fa_status
plan_convolution(fa_trainer *t, int op, fa_error *error)
{
	fa_gpu_layer *l = &t->layers[op];
	fa_gpu_conv_spec spec = fa_gpu_layer_spec(t, op, FA_GPU_FORWARD);

	l->fused = spec.fused = t->net.ops[op].bias || l->activation != FA_GPU_NONE;
	FA_TRY(plan_one(t, &spec, &l->forward, error));
	if (l->forward == NULL && spec.fused)
	{
		l->fused = spec.fused = false;
		FA_TRY(plan_one(t, &spec, &l->forward, error));
	}
	if (l->reached && t->layers[t->net.ops[op].input[0]].learns)
	{
		spec = fa_gpu_layer_spec(t, op, FA_GPU_BACKWARD_DATA);
		FA_TRY(plan_one(t, &spec, &l->backward_data, error));
	}
	if (l->reached && l->trains)
	{
		spec = fa_gpu_layer_spec(t, op, FA_GPU_BACKWARD_FILTER);
		FA_TRY(plan_one(t, &spec, &l->backward_filter, error));
	}
	return FA_OK;
}

/* --- The arena --------------------------------------------------------------------------- */

/* A place in it; NULL while it is only measured. */
static void *
reserve(fa_trainer *t, size_t bytes)
{
	char *place = t->arena.address == NULL ? NULL : t->arena.address + t->arena_used;

	t->arena_used += (bytes + 255) / 256 * 256;
	return place;
}

static size_t
filter_bytes(const fa_trainer *t, int op)
{
	const fa_op *o = &t->net.ops[op];
	size_t area = o->kind == FA_OP_DENSE ? 1 : (size_t) o->kernel * o->kernel;

	if (o->kind == FA_OP_DEPTHWISE)
		return area * fa_gpu_channels(t, op) * sizeof(float);
	return area * fa_gpu_channels(t, op) * fa_gpu_channels(t, o->input[0]) * fa_gpu_size(t->type);
}

static void
lay_out_layer(fa_trainer *t, int op)
{
	const fa_op *o = &t->net.ops[op];
	fa_gpu_layer *l = &t->layers[op];
	size_t channels = fa_gpu_channels(t, op), area = (size_t) o->kernel * o->kernel;
	bool filters = o->kind == FA_OP_CONVOLUTION || o->kind == FA_OP_DENSE;

	if (l->joined)
		return;
	l->tensor = reserve(t, fa_gpu_tensor_bytes(t, op));
	if (l->learns)
		l->gradient = reserve(t, fa_gpu_tensor_bytes(t, op));
	if (filters || o->kind == FA_OP_DEPTHWISE)
		l->filter = reserve(t, filter_bytes(t, op));
	if (o->kind == FA_OP_BATCH_NORM)
		l->saved = reserve(t, 4 * channels * sizeof(float));
	at_least(&t->spare_size, fa_gpu_tensor_bytes(t, op));
	at_least(&t->mean_count, 2 * channels);
	if (filters)
		at_least(&t->d_filter_size, filter_bytes(t, op));
	at_least(&t->partial_count,
			 2 * channels * (size_t) fa_gpu_sum_blocks(fa_gpu_pixels(t, op), (int) channels));
	if (o->kind == FA_OP_DEPTHWISE)
		at_least(&t->partial_count,
				 area * channels *
					 (size_t) fa_gpu_sum_blocks(fa_gpu_pixels(t, op), (int) (area * channels)));
}

static void
lay_out(fa_trainer *t)
{
	size_t sums = fa_gpu_square_sums(t->block_count);

	t->arena_used = 0;
	for (int i = 0; i < t->net.op_count; i++)
		lay_out_layer(t, i);
	at_least(&t->partial_count, sums * 256);
	t->pixels = reserve(t, (size_t) t->options.count * t->options.height * t->options.width * 3);
	t->outputs = reserve(t, t->output_values * sizeof(float));
	t->output_gradients = reserve(t, t->output_values * sizeof(float));
	t->key = reserve(t, sizeof(uint64_t));
	t->partials = reserve(t, t->partial_count * sizeof(float));
	t->means = reserve(t, t->mean_count * sizeof(float));
	t->squares = reserve(t, sums * sizeof(double));
	t->step_size = reserve(t, sizeof(fa_gpu_step_size));
	t->d_filter = reserve(t, t->d_filter_size);
	t->spare = reserve(t, t->spare_size);
	t->zeros = reserve(t, t->mean_count * sizeof(float));
	t->workspace = reserve(t, t->workspace_size);
}

static fa_status
make_arena(fa_trainer *t, fa_error *error)
{
	size_t pixels = (size_t) t->options.count * t->options.height * t->options.width * 3;
	size_t sums = fa_gpu_square_sums(t->block_count);

	for (int i = 0; i < t->net.output_count; i++)
		t->output_values +=
			fa_gpu_pixels(t, t->net.outputs[i].op) * t->shapes[t->net.outputs[i].op].channels;
	lay_out(t);
	FA_TRY(fa_gpu_take(&t->engine->memory, t->arena_used, "for training", &t->arena, error));
	lay_out(t);
	FA_TRY(fa_gpu_status(
		cudaMemsetAsync(t->zeros, 0, t->mean_count * sizeof(float), t->engine->stream),
		"to write zeros", error));
	t->pinned_outputs = (pixels + 15) / 16 * 16;
	t->pinned_key = t->pinned_outputs + (t->output_values * sizeof(float) + 15) / 16 * 16;
	t->pinned_step_size = t->pinned_key + 16;
	t->pinned_squares = t->pinned_step_size + (sizeof(fa_gpu_step_size) + 15) / 16 * 16;
	return fa_gpu_status(
		cudaMallocHost((void **) &t->pinned, t->pinned_squares + sums * sizeof(double)),
		"to give memory of the host", error);
}

static fa_status
bind(fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	fa_gpu_layer *l = &t->layers[op];
	const fa_gpu_layer *in = &t->layers[t->layers[o->input[0]].holder];
	const float *bias = o->bias ? fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 1) : t->zeros;

	if (l->forward != NULL)
		FA_TRY(fa_gpu_graph_bind(l->forward, in->tensor, l->filter, bias, NULL, l->tensor,
								 t->workspace, error));
	if (l->backward_data != NULL)
		FA_TRY(fa_gpu_graph_bind(l->backward_data, l->adds[0] ? t->spare : in->gradient, l->filter,
								 NULL, NULL, l->gradient, t->workspace, error));
	if (l->backward_filter != NULL)
		FA_TRY(fa_gpu_graph_bind(l->backward_filter, in->tensor, t->d_filter, NULL, NULL,
								 l->gradient, t->workspace, error));
	return FA_OK;
}

/* --- Opening ------------------------------------------------------------------------------ */

/* 2^31 values in any tensor are refused: sums that could overflow are not even begun. */
static fa_status
check_sizes(const fa_trainer *t, fa_error *error)
{
	for (int i = 0; i < t->net.op_count; i++)
		if ((double) t->options.count * t->shapes[i].height * t->shapes[i].width *
				fa_gpu_channels(t, i) >
			0x1p31)
			return fa_fail(error, FA_TOO_LARGE, "a batch of %d images of this size is too large",
						   t->options.count);
	return FA_OK;
}

static fa_status
open_trainer(fa_trainer *t, const fa_net *net, const fa_weights *weights,
			 const fa_trainer_options *options, fa_error *error)
{
	int n = net->op_count;

	FA_TRY(fa_cuda_resolve_precision(t->engine, options->precision, &t->precision, error));
	t->type = fa_gpu_type_of(t->precision);
	t->loss_scale = t->type == FA_GPU_FP16 ? FIRST_SCALE : 1;
	t->gradient_scale = 1;
	FA_TRY(fa_weights_match(weights, net, true, error));
	FA_TRY(fa_net_copy(&t->net, net, error));
	t->options = *options;
	t->options.rates = NULL;
	t->passes = options->first_pass;
	t->rates = calloc(n + 1, sizeof(float));
	t->shapes = calloc(n + 1, sizeof(fa_shape));
	t->layers = calloc(n + 1, sizeof(fa_gpu_layer));
	if (t->rates == NULL || t->shapes == NULL || t->layers == NULL)
		return fa_no_memory(error, n * sizeof(fa_gpu_layer));
	for (int i = 0; i < n; i++)
		t->rates[i] = options->rates == NULL ? 1.0f : options->rates[i];
	FA_TRY(fa_net_shapes(net, options->height, options->width, t->shapes, error));
	FA_TRY(check_sizes(t, error));
	FA_TRY(make_states(t, error));
	FA_TRY(arrange(t, error));
	for (int i = 0; i < n; i++)
		if (fa_gpu_is_convolution(&net->ops[i]))
			FA_TRY(plan_convolution(t, i, error));
	fa_gpu_plan_cache_save(t->engine->plans);
	FA_TRY(make_arena(t, error));
	for (int i = 0; i < n; i++)
		if (fa_gpu_is_convolution(&net->ops[i]))
			FA_TRY(bind(t, i, error));
	FA_TRY(fa_cuda_write_state(t, FA_STATE_WEIGHTS, weights, error));
	return fa_cuda_write_state(t, FA_STATE_AVERAGE, weights, error);
}

fa_status
fa_cuda_trainer_open(fa_engine *engine, const fa_net *net, const fa_weights *weights,
					 const fa_trainer_options *options, fa_trainer **trainer, fa_error *error)
{
	fa_trainer *t;

	*trainer = NULL;
	if (options->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	t = calloc(1, sizeof(fa_trainer));
	if (t == NULL)
		return fa_no_memory(error, sizeof(fa_trainer));
	t->engine = engine;
	if (open_trainer(t, net, weights, options, error) != FA_OK)
	{
		fa_cuda_trainer_close(t);
		return error->status;
	}
	*trainer = t;
	return FA_OK;
}

/* --- State ----------------------------------------------------------------------------------- */

fa_status
fa_cuda_read_state(fa_trainer *t, fa_trainer_state state, fa_weights *weights, fa_error *error)
{
	float scale = state == FA_STATE_GRADIENTS ? 1.0f / t->gradient_scale : 1.0f;
	size_t bytes = t->block_count * sizeof(float);
	float *block = malloc(bytes + 1);
	cudaError_t ended;
	fa_status status;

	if (block == NULL)
		return fa_no_memory(error, bytes);
	status = fa_gpu_status(
		cudaMemcpyAsync(block, t->states[state], bytes, cudaMemcpyDeviceToHost, t->engine->stream),
		"to give a training's state", error);
	ended = cudaStreamSynchronize(t->engine->stream);
	if (status == FA_OK)
		status = fa_gpu_status(ended, "to give a training's state", error);
	for (int i = 0; i < t->parameter_count && status == FA_OK; i++)
	{
		const fa_parameter *p = &t->parameters[i];
		fa_tensor *tensor;

		status = fa_weights_add(weights, p->name, p->rank, p->shape, &tensor, error);
		for (size_t k = 0; k < p->count && status == FA_OK; k++)
			tensor->values[k] = block[t->offsets[i] + k] * scale;
	}
	free(block);
	return status;
}

fa_status
fa_cuda_write_state(fa_trainer *t, fa_trainer_state state, const fa_weights *weights,
					fa_error *error)
{
	float *block;
	fa_status status;

	FA_TRY(fa_weights_match(weights, &t->net, true, error));
	block = calloc(t->block_count + 1, sizeof(float));
	if (block == NULL)
		return fa_no_memory(error, t->block_count * sizeof(float));
	for (int i = 0; i < t->parameter_count; i++)
		memcpy(block + t->offsets[i], fa_weights_find(weights, t->parameters[i].name)->values,
			   t->parameters[i].count * sizeof(float));
	status = upload(t, t->states[state], block, t->block_count * sizeof(float), error);
	free(block);
	t->ran_forward = false;
	return status;
}
