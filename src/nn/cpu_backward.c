/*
 * cpu_backward.c
 *		The trainer's backward pass; see cpu_trainer.h. Steps are taken back from the
 *		last; each turns the gradient of its result into those of its parameters and of
 *		what it read, adding to what other readers have left there.
 */
#include "cpu_trainer.h"

#include <string.h>

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

/* Tap k of a window meets a row (column) of the input somewhere. */
static bool
is_used(int k, int in, int out, int stride, int pad)
{
	for (int i = 0; i < out; i++)
		if (i * stride - pad + k >= 0 && i * stride - pad + k < in)
			return true;
	return false;
}

/* oneDNN 2.6 leaves rubbish, in bf16, in the gradient of taps that meet nothing but padding. */
static void
clear_unused_taps(const fa_trainer *t, const fa_step *step)
{
	const fa_op *op = &t->net.ops[step->op];
	const fa_shape *in = &t->shapes[op->input[0]], *out = &t->shapes[step->op];
	float *gradient = fa_parameter_values(t, FA_STATE_GRADIENTS, step->op, 0);
	size_t count = t->parameters[t->first[step->op]].count;
	size_t taps = (size_t) op->kernel * op->kernel;

	for (int y = 0; y < op->kernel; y++)
		for (int x = 0; x < op->kernel; x++)
			if (!is_used(y, in->height, out->height, op->stride, fa_op_padding(op, in->height)) ||
				!is_used(x, in->width, out->width, op->stride, fa_op_padding(op, in->width)))
				for (size_t k = (size_t) y * op->kernel + x; k < count; k += taps)
					gradient[k] = 0;
}

static fa_status
convolution_backward(fa_trainer *t, int index, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	fa_layer *l = &t->layers[index];
	int in = t->plan.holder[t->net.ops[step->op].input[0]];

	if (t->trains[step->op])
	{
		FA_TRY(fa_conv_execute(&l->backward_weights, t->engine->stream, error));
		FA_TRY(fa_reorder_execute(&l->unpack_gradient, t->engine->stream, l->packed_gradient,
								  fa_parameter_values(t, FA_STATE_GRADIENTS, step->op, 0), error));
		clear_unused_taps(t, step);
	}
	if (t->plan.learns[in])
	{
		void *target = gradient_target(t, in);

		fa_conv_bind(&l->backward_data, target, l->packed_backward, NULL,
					 t->gradients[step->result], t->scratchpad);
		FA_TRY(fa_conv_execute(&l->backward_data, t->engine->stream, error));
		gradient_done(t, in, target);
	}
	return FA_OK;
}

/*
 * Undoes what has joined a batch norm or a scale: passes the gradient through the
 * activation and to the tensor that was added. Returns the gradient before both, which
 * may be in the buffer of that tensor's.
 */
static const void *
undo_sum(fa_trainer *t, const fa_step *step)
{
	void *gradient = t->gradients[step->result], *passed = gradient;
	size_t count = fa_trainer_count(t, step->result);
	fa_act_type type = t->plan.types[step->result];
	bool wanted = t->plan.learns[step->sum];

	if (wanted && !t->written[step->sum])
	{
		passed = t->gradients[step->sum];
		t->written[step->sum] = true;
		wanted = false;
	}
	if (step->activation != FA_ACTIVATION_NONE)
		fa_kernel_activation_backward(t->tensors[step->result], gradient, passed, count,
									  step->activation, type);
	else if (passed != gradient)
		memcpy(passed, gradient, count * fa_act_size(type));
	if (wanted)
		pass_on(t, step->sum, passed, type);
	return passed;
}

static void
norm_backward(fa_trainer *t, int index, size_t rows)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	const fa_norm *n = &t->norms[index];
	int in = t->plan.holder[op->input[0]];
	void *gradient = t->gradients[step->result];
	const void *dy = step->sum >= 0 ? undo_sum(t, step) : gradient;
	float *d_weight = fa_parameter_values(t, FA_STATE_GRADIENTS, step->op, 0);
	float *d_bias = fa_parameter_values(t, FA_STATE_GRADIENTS, step->op, 1);

	if (!t->trains[step->op] && !t->plan.learns[in])
		return; /* only what was added learns */
	fa_kernel_batch_norm_backward(t->tensors[in], dy, gradient, rows, op->channels, n->mean,
								  n->inv_std, fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 0),
								  fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 1),
								  step->sum >= 0 ? FA_ACTIVATION_NONE : step->activation,
								  fa_norm_is_frozen(t, step->op), d_weight, d_bias,
								  t->plan.types[step->result]);
	if (!t->trains[step->op])
	{
		memset(d_weight, 0, op->channels * sizeof(float));
		memset(d_bias, 0, op->channels * sizeof(float));
	}
	if (t->plan.learns[in])
		pass_on(t, in, gradient, t->plan.types[step->result]);
}

static void
scale_backward(fa_trainer *t, const fa_step *step)
{
	const fa_op *op = &t->net.ops[step->op];
	const fa_shape *shape = &t->shapes[step->op];
	int in = t->plan.holder[op->input[0]], factors = t->plan.holder[op->input[1]];
	size_t area = (size_t) shape->height * shape->width;
	fa_act_type type = t->plan.types[step->result];
	const void *dy = t->gradients[step->result];

	if (step->sum >= 0)
		dy = undo_sum(t, step);
	else if (step->activation != FA_ACTIVATION_NONE)
		fa_kernel_activation_backward(t->tensors[step->result], dy, t->gradients[step->result],
									  fa_trainer_count(t, step->result), step->activation, type);
	if (t->plan.learns[factors])
	{
		void *target = gradient_target(t, factors);

		fa_kernel_scale_backward(t->tensors[in], dy, target, t->plan.types[factors],
								 t->options.count, area, shape->channels, type);
		gradient_done(t, factors, target);
	}
	if (t->plan.learns[in])
	{
		void *target = gradient_target(t, in);

		fa_kernel_scale(dy, t->tensors[factors], t->plan.types[factors], NULL, target,
						t->options.count, area, shape->channels, FA_ACTIVATION_NONE, type);
		gradient_done(t, in, target);
	}
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

	if (op->kind == FA_OP_BATCH_NORM)
	{
		norm_backward(t, index, rows);
		return FA_OK;
	}
	if (op->kind == FA_OP_SCALE)
	{
		scale_backward(t, step);
		return FA_OK;
	}
	if (step->activation != FA_ACTIVATION_NONE)
		fa_kernel_activation_backward(t->tensors[step->result], gradient, gradient, count,
									  step->activation, type);
	if (fa_is_convolution(op))
		return convolution_backward(t, index, error);
	if (op->kind == FA_OP_ADD)
	{
		for (int k = 0; k < 2; k++)
			if (t->plan.learns[t->plan.holder[op->input[k]]])
				pass_on(t, t->plan.holder[op->input[k]], gradient, type);
	}
	else if (in >= 0 && t->plan.learns[in])
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
				fa_kernel_dropout(gradient, gradient, count, op->rate, fa_dropout_key(t, step->op),
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
	for (int i = 0; i < t->parameter_count; i++)
		if (t->trains[t->parameters[i].op]) /* those of the others have never been anything but 0 */
			memset(t->states[FA_STATE_GRADIENTS] + t->offsets[i], 0,
				   t->parameters[i].count * sizeof(float));
	for (int i = 0; i < t->net.output_count; i++)
	{
		int op = t->net.outputs[i].op, to = t->plan.holder[op];
		void *target;

		if (gradients[i] == NULL || !t->plan.learns[to])
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
