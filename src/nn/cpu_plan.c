/*
 * cpu_plan.c
 *		From a list of operations to the steps that the CPU engine takes: which
 *		activations join the operation before them, who reads what, in which type.
 */
#include "cpu.h"

#include <stdlib.h>
#include <string.h>

bool
fa_is_convolution(const fa_op *op)
{
	return op->kind == FA_OP_CONVOLUTION || op->kind == FA_OP_DEPTHWISE || op->kind == FA_OP_DENSE;
}

static fa_activation
activation_of(const fa_op *op)
{
	switch (op->kind)
	{
		case FA_OP_RELU:
			return FA_ACTIVATION_RELU;
		case FA_OP_RELU6:
			return FA_ACTIVATION_RELU6;
		case FA_OP_SIGMOID:
			return FA_ACTIVATION_SIGMOID;
		default:
			return FA_ACTIVATION_NONE;
	}
}

/* The activation that can join operation index: the only reader of its result. */
static int
joining(const fa_net *net, const fa_plan *plan, int index)
{
	const fa_op *op = &net->ops[index];

	if (plan->readers[index] != 1 || !(fa_is_convolution(op) || op->kind == FA_OP_BATCH_NORM))
		return -1;
	for (int i = index + 1; i < net->op_count; i++)
		if (net->ops[i].input[0] == index)
		{
			fa_activation activation = activation_of(&net->ops[i]);

			if (activation == FA_ACTIVATION_NONE ||
				(activation == FA_ACTIVATION_SIGMOID && op->kind == FA_OP_BATCH_NORM))
				return -1;
			return i;
		}
	return -1;
}

static bool
is_output(const fa_net *net, int index)
{
	for (int i = 0; i < net->output_count; i++)
		if (net->outputs[i].op == index)
			return true;
	return false;
}

fa_status
fa_plan_make(fa_plan *plan, const fa_net *net, fa_precision precision, bool training,
			 fa_error *error)
{
	int n = net->op_count;

	memset(plan, 0, sizeof(*plan));
	plan->steps = calloc(n + 1, sizeof(fa_step));
	plan->holder = calloc(n + 1, sizeof(int));
	plan->readers = calloc(n + 1, sizeof(int));
	plan->types = calloc(n + 1, sizeof(fa_act_type));
	if (plan->steps == NULL || plan->holder == NULL || plan->readers == NULL || plan->types == NULL)
	{
		fa_plan_free(plan);
		return fa_no_memory(error, n * sizeof(fa_step));
	}
	for (int i = 0; i < n; i++)
	{
		plan->holder[i] = -1;
		for (int k = 0; k < 2; k++)
			if (net->ops[i].input[k] >= 0)
				plan->readers[net->ops[i].input[k]]++;
	}
	for (int i = 0; i < net->output_count; i++)
		plan->readers[net->outputs[i].op]++;

	for (int i = 0; i < n; i++)
	{
		const fa_op *op = &net->ops[i];
		fa_act_type type = op->input[0] >= 0 ? plan->types[plan->holder[op->input[0]]]
						   : precision == FA_PRECISION_BF16 ? FA_ACT_BF16
															: FA_ACT_F32;
		int result;

		if (plan->holder[i] >= 0) /* joined already */
			continue;
		if (op->kind == FA_OP_DROPOUT && !training)
		{
			plan->holder[i] = plan->holder[op->input[0]];
			plan->readers[plan->holder[i]] += plan->readers[i];
			continue;
		}
		result = joining(net, plan, i);
		if (result < 0)
			result = i;
		if (op->kind == FA_OP_GLOBAL_AVERAGE_POOL)
			type = FA_ACT_F32; /* a few hundred numbers: precision is free */
		if (op->kind == FA_OP_ADD && plan->types[plan->holder[op->input[1]]] != type)
			type = FA_ACT_F32;
		if (fa_is_convolution(op) && is_output(net, result) && !training)
			type = FA_ACT_F32;
		plan->holder[i] = plan->holder[result] = result;
		plan->types[result] = type;
		plan->steps[plan->step_count++] = (fa_step){
			.op = i,
			.result = result,
			.activation = activation_of(&net->ops[result]),
		};
	}
	return FA_OK;
}

void
fa_plan_free(fa_plan *plan)
{
	free(plan->steps);
	free(plan->holder);
	free(plan->readers);
	free(plan->types);
	memset(plan, 0, sizeof(*plan));
}

fa_conv_spec
fa_step_spec(const fa_net *net, const fa_plan *plan, const fa_step *step, const fa_shape *shapes,
			 int count)
{
	const fa_op *op = &net->ops[step->op];
	const fa_shape *in = &shapes[op->input[0]], *out = &shapes[step->op];
	fa_act_type source = plan->types[plan->holder[op->input[0]]];

	return (fa_conv_spec){
		.n = count,
		.in_h = in->height,
		.in_w = in->width,
		.in_c = in->channels,
		.out_h = out->height,
		.out_w = out->width,
		.out_c = out->channels,
		.kernel = op->kernel,
		.stride = op->stride,
		.pad_begin = op->pad_begin,
		.depthwise = op->kind == FA_OP_DEPTHWISE,
		.bias = op->bias,
		.source = source,
		.weights = source,
		.destination = plan->types[step->result],
		.activation = step->activation,
	};
}

fa_pool_window
fa_step_window(const fa_net *net, const fa_step *step, const fa_shape *shapes, int count)
{
	const fa_op *op = &net->ops[step->op];
	const fa_shape *in = &shapes[op->input[0]], *out = &shapes[step->op];

	return (fa_pool_window){
		.n = count,
		.in_h = in->height,
		.in_w = in->width,
		.out_h = out->height,
		.out_w = out->width,
		.channels = out->channels,
		.kernel = op->kernel,
		.stride = op->stride,
		.pad_begin = op->pad_begin,
	};
}
