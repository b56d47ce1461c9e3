/*
 * plan.c
 *		Steps and places; see plan.h.
 */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS 0x1p24 /* of a batch: 256 images of 256 x 256 */

static fa_gpu_activation
activation_of(const fa_op *op)
{
	switch (op->kind)
	{
		case FA_OP_RELU:
			return FA_GPU_RELU;
		case FA_OP_RELU6:
			return FA_GPU_RELU6;
		case FA_OP_SIGMOID:
			return FA_GPU_SIGMOID;
		default:
			return FA_GPU_NONE;
	}
}

/* The operation that alone reads operation index; -1 where there are others, or an output. */
static int
only_reader(const fa_net *net, const fa_gpu_plan *plan, int index)
{
	if (plan->readers[index] == 1)
		for (int i = index + 1; i < net->op_count; i++)
			if (net->ops[i].input[0] == index || net->ops[i].input[1] == index)
				return i;
	return -1;
}

/* What can be a step's first operation, others joining it. */
static bool
takes_activation(const fa_op *op)
{
	return fa_gpu_is_convolution(op) || op->kind == FA_OP_DEPTHWISE ||
		   op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_SCALE || op->kind == FA_OP_ADD;
}

static bool
takes_sum(const fa_op *op)
{
	return fa_gpu_is_convolution(op) || op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_SCALE;
}

/* The step that begins with operation index. */
static fa_gpu_step
make_step(const fa_net *net, const fa_gpu_plan *plan, int index)
{
	const fa_op *op = &net->ops[index];
	fa_gpu_step step = {index, index, -1, -1, activation_of(op)};
	int next = only_reader(net, plan, index);

	if (next >= 0 && net->ops[next].kind == FA_OP_BATCH_NORM &&
		(fa_gpu_is_convolution(op) || op->kind == FA_OP_DEPTHWISE))
		step.norm = step.result = next;
	next = only_reader(net, plan, step.result);
	if (next >= 0 && net->ops[next].kind == FA_OP_ADD && takes_sum(op))
	{
		int other = net->ops[next].input[net->ops[next].input[0] == step.result ? 1 : 0];

		if (plan->holder[other] >= 0) /* there already */
		{
			step.sum = plan->holder[other];
			step.result = next;
		}
	}
	next = only_reader(net, plan, step.result);
	if (next >= 0 && takes_activation(op) && activation_of(&net->ops[next]) != FA_GPU_NONE)
	{
		step.activation = activation_of(&net->ops[next]);
		step.result = next;
	}
	return step;
}

fa_status
fa_gpu_plan_make(fa_gpu_plan *plan, const fa_net *net, fa_error *error)
{
	int n = net->op_count;

	plan->step_count = 0;
	plan->steps = calloc(n + 1, sizeof(fa_gpu_step));
	plan->holder = calloc(n + 1, sizeof(int));
	plan->readers = calloc(n + 1, sizeof(int));
	if (plan->steps == NULL || plan->holder == NULL || plan->readers == NULL)
	{
		fa_gpu_plan_free(plan);
		return fa_no_memory(error, n * sizeof(fa_gpu_step));
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
		fa_gpu_step step;

		if (plan->holder[i] >= 0) /* joined already */
			continue;
		if (net->ops[i].kind == FA_OP_DROPOUT) /* identity */
		{
			plan->holder[i] = plan->holder[net->ops[i].input[0]];
			continue;
		}
		plan->steps[plan->step_count++] = step = make_step(net, plan, i);
		/* what lies between is held by the step's result as well */
		for (int k = i; k >= 0 && k != step.result; k = only_reader(net, plan, k))
			plan->holder[k] = step.result;
		plan->holder[step.result] = step.result;
	}
	return FA_OK;
}

void
fa_gpu_plan_free(fa_gpu_plan *plan)
{
	free(plan->steps);
	free(plan->holder);
	free(plan->readers);
	memset(plan, 0, sizeof(*plan));
}

fa_gpu_conv_spec
fa_gpu_step_spec(const fa_net *net, const fa_gpu_step *step, const fa_shape *shapes, int count,
				 fa_precision precision)
{
	const fa_op *op = &net->ops[step->op];
	const fa_shape *in = &shapes[op->input[0]], *out = &shapes[step->op];
	bool windowed = op->kind == FA_OP_CONVOLUTION; /* a dense layer is a window of one pixel */

	return (fa_gpu_conv_spec){
		.n = count,
		.in_h = in->height,
		.in_w = in->width,
		.in_c = fa_gpu_padded(in->channels),
		.out_h = out->height,
		.out_w = out->width,
		.out_c = fa_gpu_padded(out->channels),
		.kernel = windowed ? op->kernel : 1,
		.stride = windowed ? op->stride : 1,
		.pad_top = windowed ? fa_op_padding(op, in->height) : 0,
		.pad_left = windowed ? fa_op_padding(op, in->width) : 0,
		.type = fa_gpu_type_of(precision),
		.tf32 = precision == FA_PRECISION_TF32,
		.fused = true,
		.residual = step->sum >= 0,
		.activation = step->activation,
	};
}

/* --- Places ---------------------------------------------------------------------- */

/* A tensor's time and place in the arena. */
typedef struct lifetime
{
	int birth, death; /* the first and the last step that need it */
	size_t size, place;
} lifetime;

/* The first place that no tensor takes which lives at the same time. */
static size_t
free_place(const lifetime *tensors, const fa_gpu_plan *plan, int step)
{
	const lifetime *t = &tensors[plan->steps[step].result];
	size_t place = 0;
	bool moved = true;

	while (moved)
	{
		moved = false;
		for (int i = 0; i < step; i++)
		{
			const lifetime *other = &tensors[plan->steps[i].result];

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

fa_status
fa_gpu_place(const fa_net *net, const fa_gpu_plan *plan, const fa_shape *shapes, int count,
			 fa_gpu_type type, size_t *offsets, size_t *size, fa_error *error)
{
	lifetime *tensors = calloc((size_t) net->op_count + 1, sizeof(lifetime));

	if (tensors == NULL)
		return fa_no_memory(error, net->op_count * sizeof(lifetime));
	for (int i = 0; i < plan->step_count; i++)
	{
		const fa_gpu_step *step = &plan->steps[i];
		const fa_op *op = &net->ops[step->op];
		const fa_shape *s = &shapes[step->result];
		const int read[3] = {op->input[0], op->input[1], step->sum};
		lifetime *t = &tensors[step->result];

		t->birth = t->death = i;
		t->size = ((size_t) count * s->height * s->width * fa_gpu_padded(s->channels) *
					   fa_gpu_size(type) +
				   255) /
				  256 * 256;
		for (int k = 0; k < 3; k++)
			if (read[k] >= 0)
				tensors[plan->holder[read[k]]].death = i;
	}
	for (int i = 0; i < net->output_count; i++)
		tensors[plan->holder[net->outputs[i].op]].death = plan->step_count;
	*size = 0;
	for (int i = 0; i < plan->step_count; i++)
	{
		lifetime *t = &tensors[plan->steps[i].result];

		t->place = offsets[plan->steps[i].result] = free_place(tensors, plan, i);
		if (t->place + t->size > *size)
			*size = t->place + t->size;
	}
	free(tensors);
	return FA_OK;
}

int
fa_gpu_batch_class(int count, int height, int width)
{
	int batch = 1;

	while (batch < count && batch < FA_GPU_MAX_BATCH && 2.0 * batch * height * width <= MAX_PIXELS)
		batch *= 2;
	return batch;
}
