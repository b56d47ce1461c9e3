/*
 * cpu_forward.c
 *		The trainer's forward pass; see cpu_trainer.h. It keeps what backward needs.
 */
#include "cpu_trainer.h"
#include "fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The filter of a step with its batch norm folded in; *folded is malloc'ed. */
static fa_status
fold(const fa_trainer *t, const fa_step *step, float *bias, float **folded, fa_error *error)
{
	const fa_op *op = &t->net.ops[step->op];
	const fa_parameter *p = &t->parameters[t->first[step->op]];
	const float *weights = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 0);
	const float *norm[4];
	size_t per_channel = p->count / op->channels;
	float *gain;

	*folded = malloc((p->count + op->channels) * sizeof(float));
	if (*folded == NULL)
		return fa_no_memory(error, (p->count + op->channels) * sizeof(float));
	gain = *folded + p->count;
	for (int i = 0; i < 4; i++)
		norm[i] = fa_parameter_values(t, FA_STATE_WEIGHTS, step->norm, i);
	fa_norm_affine(norm, t->net.ops[step->norm].epsilon, op->channels, gain, bias);
	for (size_t k = 0; k < p->count; k++)
		(*folded)[k] = weights[k] * gain[k / per_channel];
	for (int c = 0; c < op->channels && op->bias; c++)
		bias[c] += gain[c] * fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 1)[c];
	return FA_OK;
}

static fa_status
pack(fa_trainer *t, int index, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	fa_layer *l = &t->layers[index];
	const float *weights = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 0);
	float *folded = NULL;
	fa_status status = FA_OK;

	if (step->norm >= 0)
	{
		FA_TRY(fold(t, step, l->folded_bias, &folded, error));
		weights = folded;
	}
	status =
		fa_reorder_execute(&l->pack_forward, t->engine->stream, weights, l->packed_forward, error);
	if (status == FA_OK && l->packed_backward != NULL)
		status = fa_reorder_execute(&l->pack_backward, t->engine->stream, weights,
									l->packed_backward, error);
	free(folded);
	l->packed = status == FA_OK;
	return status;
}

static void
norm_forward(fa_trainer *t, int index, size_t rows)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	fa_norm *n = &t->norms[index];
	const float *weight = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 0);
	const float *bias = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 1);
	float *running_mean = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 2);
	float *running_var = fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 3);
	fa_act_type type = t->plan.types[step->result];
	const void *in = fa_trainer_tensor(t, op->input[0]);

	if (fa_norm_is_frozen(t, step->op))
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
	fa_kernel_affine(in, step->sum >= 0 ? t->tensors[step->sum] : NULL, t->tensors[step->result],
					 rows, op->channels, n->scale, n->shift, step->activation, type);
}

static fa_status
step_forward(fa_trainer *t, int index, const fa_batch *batch, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	const fa_shape *shape = &t->shapes[step->op];
	const fa_shape *in_shape = op->input[0] >= 0 ? &t->shapes[op->input[0]] : NULL;
	const void *in = op->input[0] >= 0 ? fa_trainer_tensor(t, op->input[0]) : NULL;
	const void *added = step->sum >= 0 ? t->tensors[step->sum] : NULL;
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
							  shape->channels, fa_trainer_type(t, op->input[0]));
			break;
		case FA_OP_DROPOUT:
			fa_kernel_dropout(in, out, count, op->rate, fa_dropout_key(t, step->op), type);
			break;
		case FA_OP_ADD:
			fa_kernel_add(in, fa_trainer_type(t, op->input[0]), fa_trainer_tensor(t, op->input[1]),
						  fa_trainer_type(t, op->input[1]), out, count, type);
			break;
		case FA_OP_SCALE:
			fa_kernel_scale(in, fa_trainer_tensor(t, op->input[1]),
							fa_trainer_type(t, op->input[1]), added, out, n, rows / n,
							shape->channels, step->activation, type);
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
	for (int i = 0; i < t->plan.step_count; i++)
	{
		if (fa_is_convolution(&t->net.ops[t->plan.steps[i].op]) && !t->layers[i].packed)
			FA_TRY(pack(t, i, error));
		FA_TRY(step_forward(t, i, batch, error));
	}
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
