/*
 * net.c
 *		Building lists of operations, their shapes and parameters. The builders are
 *		called by the networks' own short files; everything else reads the list.
 */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIDE (1 << 20) /* of an input: keeps all size arithmetic far from overflow */

void
fa_net_begin(fa_net *net, const char *name)
{
	memset(net, 0, sizeof(*net));
	net->failed = snprintf(net->name, sizeof(net->name), "%s", name) >= (int) sizeof(net->name);
}

/* Appends an operation; the inputs' indexes must be of earlier ones. */
static int
append(fa_net *net, fa_op_kind kind, const char *name, int left, int right, int channels,
	   fa_op **op)
{
	fa_op *added;

	*op = NULL;
	if (net->failed)
		return -1;
	if (net->op_count == net->op_capacity)
	{
		int capacity = net->op_capacity == 0 ? 64 : 2 * net->op_capacity;
		fa_op *ops = realloc(net->ops, capacity * sizeof(fa_op));

		if (ops == NULL)
		{
			net->failed = true;
			return -1;
		}
		net->ops = ops;
		net->op_capacity = capacity;
	}
	added = &net->ops[net->op_count];
	memset(added, 0, sizeof(*added));
	added->kind = kind;
	added->input[0] = left;
	added->input[1] = right;
	added->channels = channels;
	added->kernel = added->stride = 1;
	if (snprintf(added->name, sizeof(added->name), "%s", name) >= (int) sizeof(added->name))
	{
		net->failed = true;
		return -1;
	}
	*op = added;
	return net->op_count++;
}

static int
append_to(fa_net *net, fa_op_kind kind, const char *name, int input, int channels, fa_op **op)
{
	*op = NULL;
	if (input < 0 || input >= net->op_count)
	{
		net->failed = true;
		return -1;
	}
	return append(net, kind, name, input, -1, channels > 0 ? channels : net->ops[input].channels,
				  op);
}

int
fa_net_input(fa_net *net, bool bgr, const float mean[3], const float scale[3])
{
	fa_op *op;

	net->bgr = bgr;
	memcpy(net->mean, mean, sizeof(net->mean));
	memcpy(net->scale, scale, sizeof(net->scale));
	return append(net, FA_OP_INPUT, "input", -1, -1, 3, &op);
}

static int
append_window(fa_net *net, fa_op_kind kind, const char *name, int input, int channels, int kernel,
			  int stride, int pad_begin, int pad_end, bool bias)
{
	fa_op *op;
	int index = append_to(net, kind, name, input, channels, &op);

	if (op != NULL)
	{
		op->kernel = kernel;
		op->stride = stride;
		op->pad_begin = pad_begin;
		op->pad_end = pad_end;
		op->bias = bias;
	}
	return index;
}

int
fa_net_convolution(fa_net *net, const char *name, int input, int channels, int kernel, int stride,
				   int pad_begin, int pad_end, bool bias)
{
	return append_window(net, FA_OP_CONVOLUTION, name, input, channels, kernel, stride, pad_begin,
						 pad_end, bias);
}

int
fa_net_depthwise(fa_net *net, const char *name, int input, int kernel, int stride, int pad_begin,
				 int pad_end, bool bias)
{
	return append_window(net, FA_OP_DEPTHWISE, name, input, 0, kernel, stride, pad_begin, pad_end,
						 bias);
}

int
fa_net_max_pool(fa_net *net, const char *name, int input, int kernel, int stride, int pad_begin,
				int pad_end)
{
	return append_window(net, FA_OP_MAX_POOL, name, input, 0, kernel, stride, pad_begin, pad_end,
						 false);
}

int
fa_net_batch_norm(fa_net *net, const char *name, int input, float epsilon)
{
	fa_op *op;
	int index = append_to(net, FA_OP_BATCH_NORM, name, input, 0, &op);

	if (op != NULL)
		op->epsilon = epsilon;
	return index;
}

int
fa_net_unary(fa_net *net, fa_op_kind kind, const char *name, int input)
{
	fa_op *op;

	return append_to(net, kind, name, input, 0, &op);
}

int
fa_net_dropout(fa_net *net, const char *name, int input, float rate)
{
	fa_op *op;
	int index = append_to(net, FA_OP_DROPOUT, name, input, 0, &op);

	if (op != NULL)
		op->rate = rate;
	return index;
}

int
fa_net_dense(fa_net *net, const char *name, int input, int channels)
{
	fa_op *op;
	int index = append_to(net, FA_OP_DENSE, name, input, channels, &op);

	if (op != NULL)
		op->bias = true;
	return index;
}

int
fa_net_sum(fa_net *net, const char *name, int left, int right)
{
	fa_op *op;
	int index = append_to(net, FA_OP_ADD, name, left, 0, &op);

	if (right < 0 || right >= net->op_count)
	{
		net->failed = true;
		return -1;
	}
	if (op != NULL)
		op->input[1] = right;
	return index;
}

int
fa_net_scale(fa_net *net, const char *name, int input, int factors)
{
	int index = fa_net_sum(net, name, input, factors); /* two inputs, and input's channels */

	if (index >= 0)
		net->ops[index].kind = FA_OP_SCALE;
	return index;
}

void
fa_net_output(fa_net *net, const char *name, int op)
{
	if (op < 0 || net->output_count == FA_MAX_OUTPUTS ||
		snprintf(net->outputs[net->output_count].name, FA_NAME_LENGTH, "%s", name) >=
			FA_NAME_LENGTH)
	{
		net->failed = true;
		return;
	}
	net->outputs[net->output_count++].op = op;
}

fa_status
fa_net_finish(fa_net *net, fa_error *error)
{
	if (!net->failed)
		return FA_OK;
	fa_fail(error, FA_INVALID, "network \"%s\" cannot be built", net->name);
	fa_net_free(net);
	return error->status;
}

void
fa_net_free(fa_net *net)
{
	free(net->ops);
	memset(net, 0, sizeof(*net));
}

fa_status
fa_net_copy(fa_net *to, const fa_net *from, fa_error *error)
{
	size_t bytes = from->op_count * sizeof(fa_op);

	*to = *from;
	to->op_capacity = from->op_count;
	to->ops = malloc(bytes + 1);
	if (to->ops == NULL)
		return fa_no_memory(error, bytes);
	memcpy(to->ops, from->ops, bytes);
	return FA_OK;
}

int
fa_net_find_output(const fa_net *net, const char *name)
{
	for (int i = 0; i < net->output_count; i++)
		if (strcmp(net->outputs[i].name, name) == 0)
			return i;
	return -1;
}

int
fa_op_padding(const fa_op *op, int size)
{
	int total;

	if (op->pad_begin != FA_PAD_SAME)
		return op->pad_begin;
	total = (size + op->stride - 1) / op->stride * op->stride - op->stride + op->kernel - size;
	return total > 0 ? total / 2 : 0;
}

/* Rows of a window's output for so many of the input; 0 where it does not fit. */
static int
window_size(const fa_op *op, int size)
{
	if (op->pad_begin == FA_PAD_SAME)
		return (size + op->stride - 1) / op->stride;
	size += op->pad_begin + op->pad_end - op->kernel;
	return size < 0 ? 0 : size / op->stride + 1;
}

fa_status
fa_net_shapes(const fa_net *net, int height, int width, fa_shape *shapes, fa_error *error)
{
	if (height < 1 || width < 1 || height > MAX_SIDE || width > MAX_SIDE)
		return fa_fail(error, FA_INVALID, "network \"%s\" cannot take an input of %d x %d",
					   net->name, width, height);
	for (int i = 0; i < net->op_count; i++)
	{
		const fa_op *op = &net->ops[i];
		fa_shape in = {height, width, 3}, *out = &shapes[i];

		if (op->input[0] >= 0)
			in = shapes[op->input[0]];
		*out = in;
		out->channels = op->channels;
		switch (op->kind)
		{
			case FA_OP_CONVOLUTION:
			case FA_OP_DEPTHWISE:
			case FA_OP_MAX_POOL:
				out->height = window_size(op, in.height);
				out->width = window_size(op, in.width);
				if (out->height == 0 || out->width == 0)
					return fa_fail(error, FA_INVALID, "input of %d x %d is too small for \"%s\"",
								   width, height, op->name);
				break;
			case FA_OP_GLOBAL_AVERAGE_POOL:
				out->height = out->width = 1;
				break;
			case FA_OP_DENSE:
				if (in.height != 1 || in.width != 1)
					return fa_fail(error, FA_INVALID, "dense layer \"%s\" needs 1 x 1 input",
								   op->name);
				break;
			case FA_OP_UPSAMPLE:
				out->height = 2 * in.height;
				out->width = 2 * in.width;
				break;
			case FA_OP_ADD:
				if (in.height != shapes[op->input[1]].height ||
					in.width != shapes[op->input[1]].width ||
					in.channels != shapes[op->input[1]].channels)
					return fa_fail(error, FA_INVALID, "the inputs of \"%s\" differ in shape",
								   op->name);
				break;
			case FA_OP_SCALE:
				if (shapes[op->input[1]].height != 1 || shapes[op->input[1]].width != 1 ||
					in.channels != shapes[op->input[1]].channels)
					return fa_fail(error, FA_INVALID, "\"%s\" needs one factor for each channel",
								   op->name);
				break;
			default:
				break;
		}
	}
	return FA_OK;
}

static void
add_parameter(fa_parameter *parameter, const fa_op *op, int index, const char *suffix, int rank,
			  const int *shape, bool trainable)
{
	memset(parameter, 0, sizeof(*parameter));
	snprintf(parameter->name, sizeof(parameter->name), "%.*s.%s",
			 (int) (FA_NAME_LENGTH - 2 - strlen(suffix)), op->name, suffix);
	parameter->op = index;
	parameter->rank = rank;
	parameter->count = 1;
	for (int i = 0; i < rank; i++)
	{
		parameter->shape[i] = shape[i];
		parameter->count *= shape[i];
	}
	parameter->trainable = trainable;
	parameter->decay = trainable && rank > 1;
}

fa_status
fa_net_parameters(const fa_net *net, fa_parameter **parameters, int *count, fa_error *error)
{
	size_t bytes = (4 * (size_t) net->op_count + 1) * sizeof(fa_parameter);
	fa_parameter *list = malloc(bytes);
	int n = 0;

	*parameters = NULL;
	*count = 0;
	if (list == NULL)
		return fa_no_memory(error, bytes);
	for (int i = 0; i < net->op_count; i++)
	{
		const fa_op *op = &net->ops[i];
		int in = op->input[0] >= 0 ? net->ops[op->input[0]].channels : 0;
		int shape[4] = {op->channels, op->kind == FA_OP_DEPTHWISE ? 1 : in, op->kernel, op->kernel};

		if (op->kind == FA_OP_BATCH_NORM)
		{
			add_parameter(&list[n++], op, i, "weight", 1, shape, true);
			add_parameter(&list[n++], op, i, "bias", 1, shape, true);
			add_parameter(&list[n++], op, i, "running_mean", 1, shape, false);
			add_parameter(&list[n++], op, i, "running_var", 1, shape, false);
		}
		else if (op->kind == FA_OP_CONVOLUTION || op->kind == FA_OP_DEPTHWISE ||
				 op->kind == FA_OP_DENSE)
		{
			add_parameter(&list[n++], op, i, "weight", op->kind == FA_OP_DENSE ? 2 : 4, shape,
						  true);
			if (op->bias)
				add_parameter(&list[n++], op, i, "bias", 1, shape, true);
		}
	}
	*parameters = list;
	*count = n;
	return FA_OK;
}
