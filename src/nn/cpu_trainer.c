/*
 * cpu_trainer.c
 *		Training on the CPU: one batch size, every tensor kept for the way back.
 *
 * Master weights, gradients, moments and moving average are fp32, each one block
 * in the order of the network's parameters. Before a forward pass the weights
 * are packed, in the precision of the activations, for the convolutions' forward
 * and backward-data passes. An activation is part of the step before it, so its
 * gradient, and batch norm's, is taken in place.
 */
#include "cpu.h"
#include "optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A convolution's three passes and what they need. */
typedef struct layer
{
	fa_conv forward, backward_data, backward_weights;
	fa_reorder pack_forward, pack_backward, unpack_gradient;
	void *packed_forward, *packed_backward, *packed_gradient;
} layer;

typedef struct norm
{
	float *mean, *inv_std, *scale, *shift; /* of the last forward pass; one allocation */
} norm;

struct fa_trainer
{
	fa_engine *engine;
	fa_net net;
	fa_plan plan;
	fa_trainer_options options; /* rates: see the trainer's own */
	float *rates;               /* per operation */
	fa_shape *shapes;

	fa_parameter *parameters;
	int parameter_count;
	size_t *offsets;    /* of each parameter in the blocks */
	int *first;         /* per operation: its first parameter, or -1 */
	size_t block_count; /* values in a block */
	float *states[FA_STATE_GRADIENTS + 1];

	layer *layers;            /* per step */
	norm *norms;              /* per step */
	void **tensors;           /* per operation that holds one */
	void **gradients;         /* the same; NULL where none is needed; some are shared */
	bool *owned;              /* gradient is not another's */
	bool *trains;             /* per operation: it has parameters that learn */
	bool *needs;              /* per operation: its tensor's gradient is needed */
	bool *written;            /* per operation: in this backward pass */
	void *scratchpad, *spare; /* spare: as large as the largest tensor */
	bool packed;              /* weights are packed as they are now */
	bool ran_forward;
	uint64_t passes; /* forward ones: dropout differs in each */
};

static float *
parameter(const fa_trainer *t, fa_trainer_state state, int op, int which)
{
	return t->states[state] + t->offsets[t->first[op] + which];
}

static void
layer_free(layer *l)
{
	fa_conv_destroy(&l->forward);
	fa_conv_destroy(&l->backward_data);
	fa_conv_destroy(&l->backward_weights);
	fa_reorder_destroy(&l->pack_forward);
	fa_reorder_destroy(&l->pack_backward);
	fa_reorder_destroy(&l->unpack_gradient);
	free(l->packed_forward);
	free(l->packed_backward);
	free(l->packed_gradient);
}

void
fa_cpu_trainer_close(fa_trainer *t)
{
	if (t == NULL)
		return;
	for (int i = 0; i < t->net.op_count; i++)
	{
		if (t->layers != NULL)
			layer_free(&t->layers[i]);
		if (t->norms != NULL)
			free(t->norms[i].mean);
		if (t->tensors != NULL)
			free(t->tensors[i]);
		if (t->gradients != NULL && t->owned[i])
			free(t->gradients[i]);
	}
	for (int i = 0; i <= FA_STATE_GRADIENTS; i++)
		free(t->states[i]);
	free(t->layers);
	free(t->norms);
	free(t->tensors);
	free(t->gradients);
	free(t->owned);
	free(t->trains);
	free(t->needs);
	free(t->written);
	free(t->scratchpad);
	free(t->spare);
	free(t->rates);
	free(t->shapes);
	free(t->parameters);
	free(t->offsets);
	free(t->first);
	fa_plan_free(&t->plan);
	fa_net_free(&t->net);
	free(t);
}

/* ---- Opening ------------------------------------------------------------------- */

static fa_status
make_blocks(fa_trainer *t, fa_error *error)
{
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
		t->block_count += (p->count + 15) / 16 * 16;
		if (t->first[p->op] < 0)
			t->first[p->op] = i;
		t->trains[p->op] = t->rates[p->op] > 0;
	}
	for (int i = 0; i <= FA_STATE_GRADIENTS; i++)
	{
		size_t bytes = t->block_count * sizeof(float);

		t->states[i] = fa_aligned(bytes);
		if (t->states[i] == NULL)
			return fa_no_memory(error, bytes);
		memset(t->states[i], 0, bytes);
	}
	return FA_OK;
}

/* A batch norm or dropout passes its gradient on in the buffer it came in, where nobody else reads.
 */
static bool
shares_gradient(const fa_trainer *t, const fa_step *step)
{
	const fa_op *op = &t->net.ops[step->op];

	return (op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_DROPOUT) &&
		   t->plan.readers[t->plan.holder[op->input[0]]] == 1;
}

static fa_status
make_tensors(fa_trainer *t, fa_error *error)
{
	size_t largest = 1;

	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		const fa_op *op = &t->net.ops[step->op];
		size_t bytes = fa_shape_count(&t->shapes[step->result]) * t->options.count *
					   fa_act_size(t->plan.types[step->result]);

		t->tensors[step->result] = fa_aligned(bytes + 64);
		if (t->tensors[step->result] == NULL)
			return fa_no_memory(error, bytes);
		if (bytes > largest)
			largest = bytes;
		t->needs[step->result] = t->trains[step->op];
		for (int k = 0; k < 2; k++)
			if (op->input[k] >= 0 && t->needs[t->plan.holder[op->input[k]]])
				t->needs[step->result] = true;
	}
	t->spare = fa_aligned(largest + 64);
	if (t->spare == NULL)
		return fa_no_memory(error, largest);
	for (int i = t->plan.step_count - 1; i >= 0; i--)
	{
		const fa_step *step = &t->plan.steps[i];
		int result = step->result;
		size_t bytes = fa_shape_count(&t->shapes[result]) * t->options.count *
					   fa_act_size(t->plan.types[result]);

		if (!t->needs[result])
			continue;
		if (t->gradients[result] == NULL)
		{
			t->gradients[result] = fa_aligned(bytes + 64);
			t->owned[result] = true;
			if (t->gradients[result] == NULL)
				return fa_no_memory(error, bytes);
		}
		if (shares_gradient(t, step))
			t->gradients[t->plan.holder[t->net.ops[step->op].input[0]]] = t->gradients[result];
	}
	return FA_OK;
}

static fa_status
make_layer(fa_trainer *t, int index, size_t *scratchpad, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	int in = t->plan.holder[op->input[0]];
	layer *l = &t->layers[index];
	fa_conv_spec spec = fa_step_spec(&t->net, &t->plan, step, t->shapes, t->options.count);
	dnnl_engine_t dnnl = t->engine->dnnl;
	fa_layout plain;
	fa_status status;

	FA_TRY(fa_layout_plain(&plain, &spec, error));
	status = fa_conv_create(&l->forward, dnnl, FA_PASS_FORWARD, &spec, NULL, error);
	if (status == FA_OK)
		status = fa_reorder_create(&l->pack_forward, dnnl, &plain, &l->forward.layout, error);
	l->packed_forward = fa_aligned(l->forward.weights_size);
	if (status == FA_OK && t->needs[in])
	{
		status = fa_conv_create(&l->backward_data, dnnl, FA_PASS_BACKWARD_DATA, &spec, NULL, error);
		if (status == FA_OK)
			status =
				fa_reorder_create(&l->pack_backward, dnnl, &plain, &l->backward_data.layout, error);
		l->packed_backward = fa_aligned(l->backward_data.weights_size);
	}
	if (status == FA_OK && t->trains[step->op])
	{
		status = fa_conv_create(&l->backward_weights, dnnl, FA_PASS_BACKWARD_WEIGHTS, &spec, NULL,
								error);
		if (status == FA_OK)
			status = fa_reorder_create(&l->unpack_gradient, dnnl, &l->backward_weights.layout,
									   &plain, error);
		l->packed_gradient = fa_aligned(l->backward_weights.weights_size);
	}
	fa_layout_free(&plain);
	if (status == FA_OK &&
		(l->packed_forward == NULL || (t->needs[in] && l->packed_backward == NULL) ||
		 (t->trains[step->op] && l->packed_gradient == NULL)))
		status = fa_no_memory(error, l->forward.weights_size);
	if (l->forward.scratchpad_size > *scratchpad)
		*scratchpad = l->forward.scratchpad_size;
	if (l->backward_data.scratchpad_size > *scratchpad)
		*scratchpad = l->backward_data.scratchpad_size;
	if (l->backward_weights.scratchpad_size > *scratchpad)
		*scratchpad = l->backward_weights.scratchpad_size;
	return status;
}

static fa_status
make_layers(fa_trainer *t, fa_error *error)
{
	size_t scratchpad = 1;

	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		const fa_op *op = &t->net.ops[step->op];

		if (fa_is_convolution(op))
			FA_TRY(make_layer(t, i, &scratchpad, error));
		else if (op->kind == FA_OP_BATCH_NORM)
		{
			norm *n = &t->norms[i];

			n->mean = fa_aligned(4 * op->channels * sizeof(float));
			if (n->mean == NULL)
				return fa_no_memory(error, 4 * op->channels * sizeof(float));
			n->inv_std = n->mean + op->channels;
			n->scale = n->inv_std + op->channels;
			n->shift = n->scale + op->channels;
		}
	}
	t->scratchpad = fa_aligned(scratchpad);
	if (t->scratchpad == NULL)
		return fa_no_memory(error, scratchpad);
	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		const fa_op *op = &t->net.ops[step->op];
		layer *l = &t->layers[i];
		const void *bias, *d_bias;

		if (!fa_is_convolution(op))
			continue;
		bias = op->bias ? parameter(t, FA_STATE_WEIGHTS, step->op, 1) : NULL;
		d_bias = op->bias ? parameter(t, FA_STATE_GRADIENTS, step->op, 1) : NULL;
		fa_conv_bind(&l->forward, t->tensors[t->plan.holder[op->input[0]]], l->packed_forward, bias,
					 t->tensors[step->result], t->scratchpad);
		if (t->trains[step->op])
			fa_conv_bind(&l->backward_weights, t->tensors[t->plan.holder[op->input[0]]],
						 l->packed_gradient, d_bias, t->gradients[step->result], t->scratchpad);
	}
	return FA_OK;
}

static fa_status
open_trainer(fa_trainer *t, const fa_net *net, const fa_weights *weights,
			 const fa_trainer_options *options, fa_error *error)
{
	fa_precision precision;
	int n = net->op_count;

	FA_TRY(fa_cpu_engine.resolve_precision(t->engine, options->precision, &precision, error));
	FA_TRY(fa_weights_match(weights, net, true, error));
	FA_TRY(fa_net_copy(&t->net, net, error));
	t->options = *options;
	FA_TRY(fa_plan_make(&t->plan, net, precision, true, error));
	t->rates = calloc(n + 1, sizeof(float));
	t->shapes = calloc(n + 1, sizeof(fa_shape));
	t->layers = calloc(n + 1, sizeof(layer));
	t->norms = calloc(n + 1, sizeof(norm));
	t->tensors = calloc(n + 1, sizeof(void *));
	t->gradients = calloc(n + 1, sizeof(void *));
	t->owned = calloc(n + 1, sizeof(bool));
	t->trains = calloc(n + 1, sizeof(bool));
	t->needs = calloc(n + 1, sizeof(bool));
	t->written = calloc(n + 1, sizeof(bool));
	if (t->rates == NULL || t->shapes == NULL || t->layers == NULL || t->norms == NULL ||
		t->tensors == NULL || t->gradients == NULL || t->owned == NULL || t->trains == NULL ||
		t->needs == NULL || t->written == NULL)
		return fa_no_memory(error, n * sizeof(layer));
	for (int i = 0; i < n; i++)
		t->rates[i] = options->rates == NULL ? 1.0f : options->rates[i];
	t->options.rates = NULL;
	t->passes = options->first_pass;
	FA_TRY(fa_net_shapes(net, options->height, options->width, t->shapes, error));
	FA_TRY(make_blocks(t, error));
	FA_TRY(make_tensors(t, error));
	FA_TRY(make_layers(t, error));
	FA_TRY(fa_cpu_write_state(t, FA_STATE_WEIGHTS, weights, error));
	return fa_cpu_write_state(t, FA_STATE_AVERAGE, weights, error);
}

fa_status
fa_cpu_trainer_open(fa_engine *engine, const fa_net *net, const fa_weights *weights,
					const fa_trainer_options *options, fa_trainer **trainer, fa_error *error)
{
	fa_trainer *t;

	*trainer = NULL;
	if (options->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	for (int i = 0; i < net->op_count; i++)
		if (net->ops[i].kind == FA_OP_BATCH_NORM && net->ops[i].channels > 4096)
			return fa_fail(error, FA_UNSUPPORTED, "batch norm \"%s\" has over 4,096 channels",
						   net->ops[i].name);
	t = calloc(1, sizeof(fa_trainer));
	if (t == NULL)
		return fa_no_memory(error, sizeof(fa_trainer));
	t->engine = engine;
	fa_cpu_use_threads(engine);
	if (open_trainer(t, net, weights, options, error) != FA_OK)
	{
		fa_cpu_trainer_close(t);
		return error->status;
	}
	*trainer = t;
	return FA_OK;
}

/* ---- Forward --------------------------------------------------------------------- */

static fa_status
pack_weights(fa_trainer *t, fa_error *error)
{
	for (int i = 0; i < t->plan.step_count; i++)
	{
		int op = t->plan.steps[i].op;
		layer *l = &t->layers[i];

		if (!fa_is_convolution(&t->net.ops[op]))
			continue;
		FA_TRY(fa_reorder_execute(&l->pack_forward, t->engine->stream,
								  parameter(t, FA_STATE_WEIGHTS, op, 0), l->packed_forward, error));
		if (l->packed_backward != NULL)
			FA_TRY(fa_reorder_execute(&l->pack_backward, t->engine->stream,
									  parameter(t, FA_STATE_WEIGHTS, op, 0), l->packed_backward,
									  error));
	}
	t->packed = true;
	return FA_OK;
}

/* A frozen operation keeps its statistics even where the others train theirs. */
static bool
is_frozen(const fa_trainer *t, int op)
{
	return t->options.batch_norm == FA_BATCH_NORM_FROZEN || !t->trains[op];
}

static void
norm_forward(fa_trainer *t, int index, size_t rows)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	norm *n = &t->norms[index];
	const float *weight = parameter(t, FA_STATE_WEIGHTS, step->op, 0);
	const float *bias = parameter(t, FA_STATE_WEIGHTS, step->op, 1);
	float *running_mean = parameter(t, FA_STATE_WEIGHTS, step->op, 2);
	float *running_var = parameter(t, FA_STATE_WEIGHTS, step->op, 3);
	fa_act_type type = t->plan.types[step->result];
	const void *in = t->tensors[t->plan.holder[op->input[0]]];

	if (is_frozen(t, step->op))
	{
		memcpy(n->mean, running_mean, op->channels * sizeof(float));
		memcpy(n->inv_std, running_var, op->channels * sizeof(float));
	}
	else
	{
		float m = t->options.momentum, unbiased = rows > 1 ? (float) rows / (rows - 1) : 1.0f;

		fa_kernel_statistics(in, rows, op->channels, n->mean, n->inv_std, type);
		for (int c = 0; c < op->channels; c++)
		{
			running_mean[c] += m * (n->mean[c] - running_mean[c]);
			running_var[c] += m * (n->inv_std[c] * unbiased - running_var[c]);
		}
	}
	for (int c = 0; c < op->channels; c++)
	{
		n->inv_std[c] = 1.0f / sqrtf(n->inv_std[c] + op->epsilon);
		n->scale[c] = weight[c] * n->inv_std[c];
		n->shift[c] = bias[c] - n->mean[c] * n->scale[c];
	}
	fa_kernel_affine(in, t->tensors[step->result], rows, op->channels, n->scale, n->shift,
					 step->activation, type);
}

static uint64_t
dropout_key(const fa_trainer *t, int op)
{
	return t->options.seed + t->passes * 0x9e3779b97f4a7c15u + (uint64_t) op * 0xd1b54a32d192ed03u;
}

static fa_status
step_forward(fa_trainer *t, int index, const fa_batch *batch, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	const fa_shape *shape = &t->shapes[step->op];
	const fa_shape *in_shape = op->input[0] >= 0 ? &t->shapes[op->input[0]] : NULL;
	const void *in = op->input[0] >= 0 ? t->tensors[t->plan.holder[op->input[0]]] : NULL;
	void *out = t->tensors[step->result];
	fa_act_type type = t->plan.types[step->result];
	int n = t->options.count;
	size_t rows = (size_t) n * shape->height * shape->width, count = rows * shape->channels;
	fa_pool_window window;

	switch (op->kind)
	{
		case FA_OP_INPUT:
			fa_kernel_input(batch->pixels, out, rows, t->net.bgr, t->net.mean, t->net.scale, type);
			break;
		case FA_OP_CONVOLUTION:
		case FA_OP_DEPTHWISE:
		case FA_OP_DENSE:
			return fa_conv_execute(&t->layers[index].forward, t->engine->stream, error);
		case FA_OP_BATCH_NORM:
			norm_forward(t, index, rows);
			break;
		case FA_OP_RELU:
		case FA_OP_RELU6:
		case FA_OP_SIGMOID:
			fa_kernel_activation(in, out, count, step->activation, type);
			break;
		case FA_OP_MAX_POOL:
			window = fa_step_window(&t->net, step, t->shapes, n);
			fa_kernel_max_pool(in, out, &window, type);
			break;
		case FA_OP_GLOBAL_AVERAGE_POOL:
			fa_kernel_average(in, out, n, (size_t) in_shape->height * in_shape->width,
							  shape->channels, t->plan.types[t->plan.holder[op->input[0]]]);
			break;
		case FA_OP_DROPOUT:
			fa_kernel_dropout(in, out, count, op->rate, dropout_key(t, step->op), type);
			break;
		case FA_OP_ADD:
			fa_kernel_add(in, t->plan.types[t->plan.holder[op->input[0]]],
						  t->tensors[t->plan.holder[op->input[1]]],
						  t->plan.types[t->plan.holder[op->input[1]]], out, count, type);
			break;
		case FA_OP_UPSAMPLE:
			fa_kernel_upsample(in, out, n, in_shape->height, in_shape->width, shape->channels,
							   type);
			break;
	}
	return FA_OK;
}

fa_status
fa_cpu_forward(fa_trainer *t, const fa_batch *batch, float *const *outputs, fa_error *error)
{
	if (batch->count != t->options.count || batch->height != t->options.height ||
		batch->width != t->options.width)
		return fa_fail(error, FA_INVALID, "the trainer was opened for batches of another size");
	fa_cpu_use_threads(t->engine);
	t->passes++;
	t->ran_forward = false;
	if (!t->packed)
		FA_TRY(pack_weights(t, error));
	for (int i = 0; i < t->plan.step_count; i++)
		FA_TRY(step_forward(t, i, batch, error));
	for (int i = 0; i < t->net.output_count; i++)
	{
		int op = t->net.outputs[i].op, holder = t->plan.holder[op];

		if (outputs[i] != NULL)
			fa_kernel_to_float(t->tensors[holder], outputs[i],
							   fa_shape_count(&t->shapes[op]) * t->options.count,
							   t->plan.types[holder]);
	}
	t->ran_forward = true;
	return FA_OK;
}

/* ---- Backward -------------------------------------------------------------------- */

/* Where a step writes the gradient of tensor `to`: beside it, when there is one to add to. */
static void *
gradient_target(const fa_trainer *t, int to)
{
	return t->written[to] ? t->spare : t->gradients[to];
}

static void
gradient_done(fa_trainer *t, int to, const void *target)
{
	if (t->written[to])
		fa_kernel_accumulate(target, t->gradients[to],
							 fa_shape_count(&t->shapes[to]) * t->options.count, t->plan.types[to]);
	t->written[to] = true;
}

/* The gradient of a tensor is that of its reader. */
static void
pass_on(fa_trainer *t, int to, const void *gradient, fa_act_type type)
{
	size_t count = fa_shape_count(&t->shapes[to]) * t->options.count;

	if (type != t->plan.types[to]) /* a sum of both types: its own is fp32 */
	{
		void *target = gradient_target(t, to);

		fa_kernel_from_float(gradient, target, count, t->plan.types[to]);
		gradient_done(t, to, target);
		return;
	}
	if (t->written[to])
		fa_kernel_accumulate(gradient, t->gradients[to], count, t->plan.types[to]);
	else if (t->gradients[to] != gradient)
		memcpy(t->gradients[to], gradient, count * fa_act_size(t->plan.types[to]));
	t->written[to] = true;
}

static fa_status
convolution_backward(fa_trainer *t, int index, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	layer *l = &t->layers[index];
	int in = t->plan.holder[t->net.ops[step->op].input[0]];

	if (t->trains[step->op])
	{
		FA_TRY(fa_conv_execute(&l->backward_weights, t->engine->stream, error));
		FA_TRY(fa_reorder_execute(&l->unpack_gradient, t->engine->stream, l->packed_gradient,
								  parameter(t, FA_STATE_GRADIENTS, step->op, 0), error));
	}
	if (t->needs[in])
	{
		void *target = gradient_target(t, in);

		fa_conv_bind(&l->backward_data, target, l->packed_backward, NULL,
					 t->gradients[step->result], t->scratchpad);
		FA_TRY(fa_conv_execute(&l->backward_data, t->engine->stream, error));
		gradient_done(t, in, target);
	}
	return FA_OK;
}

static void
norm_backward(fa_trainer *t, int index, size_t rows)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	const norm *n = &t->norms[index];
	int in = t->plan.holder[op->input[0]];
	float *d_weight = parameter(t, FA_STATE_GRADIENTS, step->op, 0);
	float *d_bias = parameter(t, FA_STATE_GRADIENTS, step->op, 1);

	fa_kernel_batch_norm_backward(
		t->tensors[in], t->gradients[step->result], rows, op->channels, n->mean, n->inv_std,
		parameter(t, FA_STATE_WEIGHTS, step->op, 0), parameter(t, FA_STATE_WEIGHTS, step->op, 1),
		step->activation, is_frozen(t, step->op), d_weight, d_bias, t->plan.types[step->result]);
	if (!t->trains[step->op])
	{
		memset(d_weight, 0, op->channels * sizeof(float));
		memset(d_bias, 0, op->channels * sizeof(float));
	}
	if (t->needs[in])
		pass_on(t, in, t->gradients[step->result], t->plan.types[step->result]);
}

static fa_status
step_backward(fa_trainer *t, int index, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	const fa_shape *shape = &t->shapes[step->op];
	int in = op->input[0] >= 0 ? t->plan.holder[op->input[0]] : -1;
	void *gradient = t->gradients[step->result], *target;
	fa_act_type type = t->plan.types[step->result];
	int n = t->options.count;
	size_t rows = (size_t) n * shape->height * shape->width, count = rows * shape->channels;
	fa_pool_window window;

	if (step->activation != FA_ACTIVATION_NONE && op->kind != FA_OP_BATCH_NORM)
		fa_kernel_activation_backward(t->tensors[step->result], gradient, count, step->activation,
									  type);
	if (fa_is_convolution(op))
		return convolution_backward(t, index, error);
	if (op->kind == FA_OP_BATCH_NORM)
		norm_backward(t, index, rows);
	else if (op->kind == FA_OP_ADD)
	{
		for (int k = 0; k < 2; k++)
			if (t->needs[t->plan.holder[op->input[k]]])
				pass_on(t, t->plan.holder[op->input[k]], gradient, type);
	}
	else if (in >= 0 && t->needs[in])
	{
		const fa_shape *in_shape = &t->shapes[op->input[0]];

		target = gradient_target(t, in);
		switch (op->kind)
		{
			case FA_OP_MAX_POOL:
				window = fa_step_window(&t->net, step, t->shapes, n);
				fa_kernel_max_pool_backward(t->tensors[in], t->tensors[step->result], gradient,
											target, &window, type);
				gradient_done(t, in, target);
				break;
			case FA_OP_GLOBAL_AVERAGE_POOL:
				fa_kernel_average_backward(gradient, target, n,
										   (size_t) in_shape->height * in_shape->width,
										   shape->channels, t->plan.types[in]);
				gradient_done(t, in, target);
				break;
			case FA_OP_UPSAMPLE:
				fa_kernel_upsample_backward(gradient, target, n, in_shape->height, in_shape->width,
											shape->channels, type);
				gradient_done(t, in, target);
				break;
			case FA_OP_DROPOUT:
				fa_kernel_dropout(gradient, gradient, count, op->rate, dropout_key(t, step->op),
								  type);
				pass_on(t, in, gradient, type);
				break;
			default: /* an activation that nothing could join: done above */
				pass_on(t, in, gradient, type);
				break;
		}
	}
	return FA_OK;
}

fa_status
fa_cpu_backward(fa_trainer *t, const float *const *gradients, fa_error *error)
{
	if (!t->ran_forward)
		return fa_fail(error, FA_INVALID, "backward needs a forward pass before it");
	t->ran_forward = false;
	fa_cpu_use_threads(t->engine);
	memset(t->written, 0, t->net.op_count * sizeof(bool));
	memset(t->states[FA_STATE_GRADIENTS], 0, t->block_count * sizeof(float));
	for (int i = 0; i < t->net.output_count; i++)
	{
		int op = t->net.outputs[i].op, to = t->plan.holder[op];
		void *target;

		if (gradients[i] == NULL || !t->needs[to])
			continue;
		target = gradient_target(t, to);
		fa_kernel_from_float(gradients[i], target,
							 fa_shape_count(&t->shapes[op]) * t->options.count, t->plan.types[to]);
		gradient_done(t, to, target);
	}
	for (int i = t->plan.step_count - 1; i >= 0; i--)
		if (t->written[t->plan.steps[i].result])
			FA_TRY(step_backward(t, i, error));
	return FA_OK;
}

/* ---- Update ------------------------------------------------------------------------ */

fa_status
fa_cpu_update(fa_trainer *t, const fa_update *update, float *gradient_norm, fa_error *error)
{
	double squares = 0;
	float norm, scale = 1.0f;

	if (update->step < 1)
		return fa_fail(error, FA_INVALID, "steps count from 1");
	fa_cpu_use_threads(t->engine);
	squares = fa_sum_of_squares(t->states[FA_STATE_GRADIENTS], t->block_count);
	norm = *gradient_norm = (float) sqrt(squares);
	if (!(squares < INFINITY)) /* one bad batch must not end the training */
		return FA_OK;
	if (update->clip_norm > 0 && norm > update->clip_norm)
		scale = update->clip_norm / norm;
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];

		size_t at = t->offsets[i];

		if (p->trainable && t->trains[p->op])
			fa_optimize(update, update->learning_rate * t->rates[p->op], p->decay, scale,
						t->states[FA_STATE_WEIGHTS] + at, t->states[FA_STATE_MOMENT1] + at,
						t->states[FA_STATE_MOMENT2] + at, t->states[FA_STATE_GRADIENTS] + at,
						p->count);
	}
	if (update->ema_decay > 0)
	{
		float *average = t->states[FA_STATE_AVERAGE];
		const float *w = t->states[FA_STATE_WEIGHTS];
		float part = 1.0f - update->ema_decay;

#pragma omp parallel for simd schedule(static)
		for (size_t i = 0; i < t->block_count; i++)
			average[i] += part * (w[i] - average[i]);
	}
	t->packed = false;
	return FA_OK;
}

/* ---- State ------------------------------------------------------------------------- */

fa_status
fa_cpu_read_state(fa_trainer *t, fa_trainer_state state, fa_weights *weights, fa_error *error)
{
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];
		fa_tensor *tensor;

		FA_TRY(fa_weights_add(weights, p->name, p->rank, p->shape, &tensor, error));
		memcpy(tensor->values, t->states[state] + t->offsets[i], p->count * sizeof(float));
	}
	return FA_OK;
}

fa_status
fa_cpu_write_state(fa_trainer *t, fa_trainer_state state, const fa_weights *weights,
				   fa_error *error)
{
	FA_TRY(fa_weights_match(weights, &t->net, true, error));
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];

		memcpy(t->states[state] + t->offsets[i], fa_weights_find(weights, p->name)->values,
			   p->count * sizeof(float));
	}
	t->packed = false;
	t->ran_forward = false;
	return FA_OK;
}
