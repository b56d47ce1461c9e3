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

static bool
is_output(const fa_net *net, int index)
{
	for (int i = 0; i < net->output_count; i++)
		if (net->outputs[i].op == index)
			return true;
	return false;
}

static bool
reads(const fa_op *op, int index)
{
	return op->input[0] == index || op->input[1] == index;
}

/* The operation that alone reads operation index; -1 where there are others, or an output. */
static int
only_reader(const fa_net *net, const fa_plan *plan, int index)
{
	if (plan->readers[index] == 1)
		for (int i = index + 1; i < net->op_count; i++)
			if (reads(&net->ops[i], index))
				return i;
	return -1;
}

/* A tensor that step `index` may overwrite: nobody but `sum` reads it later, nor on the way back.
 */
static bool
is_done_with(const fa_net *net, const fa_plan *plan, int tensor, int index, int sum)
{
	for (int i = 0; i < net->op_count; i++)
		if (plan->holder[i] == tensor && is_output(net, i))
			return false;
	for (int i = 0; i < net->op_count; i++)
		for (int k = 0; k < 2; k++)
		{
			int input = net->ops[i].input[k];

			if (input >= 0 && i != sum && plan->holder[input] == tensor &&
				(i > index || plan->learns[i]))
				return false;
		}
	return true;
}

/* The sum that can join a step, together with the tensor that it adds. */
static int
joining_sum(const fa_net *net, const fa_plan *plan, const fa_step *step, int *added)
{
	const fa_op *op = &net->ops[step->op];
	int sum = only_reader(net, plan, step->result), other;

	if (sum < 0 || net->ops[sum].kind != FA_OP_ADD)
		return -1;
	other = net->ops[sum].input[net->ops[sum].input[0] == step->result ? 1 : 0];
	*added = plan->holder[other];
	if (*added < 0) /* not there yet */
		return -1;
	if (op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_SCALE)
		return sum;
	return op->kind == FA_OP_CONVOLUTION && !plan->learns[sum] &&
				   *added != plan->holder[op->input[0]] &&
				   is_done_with(net, plan, *added, step->op, sum)
			   ? sum
			   : -1;
}

/* The activation that can join a step. */
static int
joining_activation(const fa_net *net, const fa_plan *plan, const fa_step *step)
{
	const fa_op *op = &net->ops[step->op];
	int reader = only_reader(net, plan, step->result);
	fa_activation activation = reader < 0 ? FA_ACTIVATION_NONE : activation_of(&net->ops[reader]);

	if (activation == FA_ACTIVATION_NONE ||
		!(fa_is_convolution(op) || op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_SCALE) ||
		(activation == FA_ACTIVATION_SIGMOID && !fa_is_convolution(op)))
		return -1;
	return reader;
}

static fa_act_type
type_of(const fa_net *net, const fa_plan *plan, const fa_step *step, fa_precision precision,
		bool training)
{
	const fa_op *op = &net->ops[step->op];

	if (op->input[0] < 0)
		return precision == FA_PRECISION_BF16 ? FA_ACT_BF16 : FA_ACT_F32;
	if (op->kind == FA_OP_GLOBAL_AVERAGE_POOL) /* a few hundred numbers: precision is free */
		return FA_ACT_F32;
	if (op->kind == FA_OP_ADD && plan->types[plan->holder[op->input[1]]] == FA_ACT_F32)
		return FA_ACT_F32;
	if (fa_is_convolution(op) && is_output(net, step->result) && !training)
		return FA_ACT_F32;
	return plan->types[plan->holder[op->input[0]]];
}

/* The step that begins with operation index. */
static fa_step
make_step(const fa_net *net, const fa_plan *plan, int index, bool may_add, fa_precision precision,
		  bool training)
{
	fa_step step = {.op = index, .result = index, .norm = -1, .sum = -1};
	int next = only_reader(net, plan, index), added = -1;

	if (next >= 0 && net->ops[next].kind == FA_OP_BATCH_NORM && !plan->learns[next] &&
		fa_is_convolution(&net->ops[index]))
		step.norm = step.result = next;
	next = may_add ? joining_sum(net, plan, &step, &added) : -1;
	if (next >= 0)
	{
		step.sum = added;
		step.result = next;
	}
	next = joining_activation(net, plan, &step);
	if (next >= 0)
	{
		step.activation = activation_of(&net->ops[next]);
		step.result = next;
	}
	else if (index == step.result) /* of an activation that joined nothing */
		step.activation = activation_of(&net->ops[index]);
	if (step.sum >= 0 && plan->types[added] != type_of(net, plan, &step, precision, training))
		return make_step(net, plan, index, false, precision, training);
	return step;
}

static fa_status
check_channels(const fa_net *net, bool training, fa_error *error)
{
	for (int i = 0; i < net->op_count; i++)
		if (net->ops[i].channels > FA_MAX_CHANNELS &&
			(net->ops[i].kind == FA_OP_SCALE || (net->ops[i].kind == FA_OP_BATCH_NORM && training)))
			return fa_fail(error, FA_UNSUPPORTED, "\"%s\" has over %d channels", net->ops[i].name,
						   FA_MAX_CHANNELS);
	return FA_OK;
}

/* Who reads what, and what learns. */
static void
look_around(fa_plan *plan, const fa_net *net, const float *rates)
{
	for (int i = 0; i < net->op_count; i++)
	{
		const fa_op *op = &net->ops[i];
		bool has_parameters = fa_is_convolution(op) || op->kind == FA_OP_BATCH_NORM;

		plan->holder[i] = -1;
		plan->learns[i] = has_parameters && rates != NULL && rates[i] > 0;
		for (int k = 0; k < 2; k++)
			if (op->input[k] >= 0)
			{
				plan->readers[op->input[k]]++;
				plan->learns[i] = plan->learns[i] || plan->learns[op->input[k]];
			}
	}
	for (int i = 0; i < net->output_count; i++)
		plan->readers[net->outputs[i].op]++;
}

fa_status
fa_plan_make(fa_plan *plan, const fa_net *net, fa_precision precision, const float *rates,
			 fa_error *error)
{
	int n = net->op_count;

	memset(plan, 0, sizeof(*plan));
	FA_TRY(check_channels(net, rates != NULL, error));
	plan->steps = calloc(n + 1, sizeof(fa_step));
	plan->holder = calloc(n + 1, sizeof(int));
	plan->readers = calloc(n + 1, sizeof(int));
	plan->types = calloc(n + 1, sizeof(fa_act_type));
	plan->learns = calloc(n + 1, sizeof(bool));
	if (plan->steps == NULL || plan->holder == NULL || plan->readers == NULL ||
		plan->types == NULL || plan->learns == NULL)
	{
		fa_plan_free(plan);
		return fa_no_memory(error, n * sizeof(fa_step));
	}
	look_around(plan, net, rates);
	for (int i = 0; i < n; i++)
	{
		const fa_op *op = &net->ops[i];
		fa_step step;

		if (plan->holder[i] >= 0) /* joined already */
			continue;
		if (op->kind == FA_OP_DROPOUT && rates == NULL)
		{
			plan->holder[i] = plan->holder[op->input[0]];
			continue;
		}
		step = make_step(net, plan, i, true, precision, rates != NULL);
		plan->types[step.result] = type_of(net, plan, &step, precision, rates != NULL);
		plan->steps[plan->step_count++] = step;
		/* what lies between is held by the step's result as well */
		for (int k = i; k >= 0 && k != step.result; k = only_reader(net, plan, k))
			plan->holder[k] = step.result;
		plan->holder[step.result] = step.result;
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
	free(plan->learns);
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
		.pad_top = fa_op_padding(op, in->height),
		.pad_left = fa_op_padding(op, in->width),
		.depthwise = op->kind == FA_OP_DEPTHWISE,
		.bias = op->bias || step->norm >= 0,
		.source = source,
		.weights = source,
		.destination = plan->types[step->result],
		.sum = step->sum >= 0,
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
		.pad_top = fa_op_padding(op, in->height),
		.pad_left = fa_op_padding(op, in->width),
	};
}
