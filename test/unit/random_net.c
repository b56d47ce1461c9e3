/*
 * random_net.c
 *		Random networks and what they need; see random_net.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "pictures.h"
#include "random_net.h"

#define MAX_OPS 24

double
random_between(uint64_t *seed, double low, double high)
{
	return low + (high - low) * random_u32(seed) / 4294967296.0;
}

int
random_below(uint64_t *seed, int n)
{
	return (int) random_between(seed, 0, n);
}

int
begin_net(fa_net *net)
{
	/* all different, so that a channel taken for another shows */
	static const float mean[3] = {120, 130, 110}, scale[3] = {1 / 64.0f, 1 / 60.0f, 1 / 70.0f};

	fa_net_begin(net, "test");
	return fa_net_input(net, true, mean, scale);
}

/* Factors for each channel of a tensor: some layer's of as many channels, or made of the tensor. */
static int
factors(fa_net *net, const fa_shape *shapes, int input, uint64_t *seed)
{
	int count = net->op_count, start = random_below(seed, count), op;
	char name[FA_NAME_LENGTH];

	for (int i = 0; i < count; i++)
	{
		const fa_shape *s = &shapes[(start + i) % count];

		if (s->height == 1 && s->width == 1 && s->channels == shapes[input].channels)
			return (start + i) % count;
	}
	snprintf(name, sizeof(name), "op%d", count);
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, name, input);
	snprintf(name, sizeof(name), "op%d", count + 1);
	return fa_net_unary(net, FA_OP_SIGMOID, name, op);
}

/* Another operation with a tensor of the same shape, or the same one. */
static int
mate(const fa_shape *shapes, int count, int op, uint64_t *seed)
{
	int start = random_below(seed, count);

	for (int i = 0; i < count; i++)
		if (memcmp(&shapes[(start + i) % count], &shapes[op], sizeof(fa_shape)) == 0)
			return (start + i) % count;
	return op;
}

static void
random_op(fa_net *net, const fa_shape *shapes, int input, uint64_t *seed)
{
	static const int widths[] = {1, 3, 4, 8, 10, 16, 17, 24};
	static const int kernels[] = {1, 1, 2, 3, 3, 5};
	static const fa_op_kind unary[] = {FA_OP_RELU, FA_OP_RELU6, FA_OP_SIGMOID};
	const fa_shape *s = &shapes[input];
	int smallest = s->height < s->width ? s->height : s->width;
	int kernel = kernels[random_below(seed, 6)], stride = 1 + random_below(seed, 2);
	int begin = random_below(seed, kernel), end = random_below(seed, kernel);
	bool bias = random_below(seed, 2) == 0, fits = smallest + begin + end >= kernel;
	int channels = widths[random_below(seed, 8)], op;
	char name[FA_NAME_LENGTH];

	if (random_below(seed, 4) == 0) /* SAME always fits */
	{
		begin = FA_PAD_SAME;
		fits = true;
	}
	snprintf(name, sizeof(name), "op%d", net->op_count);
	switch (random_below(seed, 15))
	{
		case 0:
		case 1:
			if (fits)
				fa_net_convolution(net, name, input, channels, kernel, stride, begin, end, bias);
			break;
		case 2:
		case 3:
			if (fits)
				fa_net_depthwise(net, name, input, kernel, stride, begin, end, bias);
			break;
		case 4:
			if (fits)
				fa_net_max_pool(net, name, input, kernel, stride, begin, end);
			break;
		case 5:
			fa_net_batch_norm(net, name, input, 1e-2f);
			break;
		case 6:
		case 7:
			fa_net_unary(net, unary[random_below(seed, 3)], name, input);
			break;
		case 8:
			fa_net_sum(net, name, input, mate(shapes, net->op_count, input, seed));
			break;
		case 9:
			if (s->height <= 12 && s->width <= 12)
				fa_net_unary(net, FA_OP_UPSAMPLE, name, input);
			break;
		case 10:
			fa_net_dropout(net, name, input, 0);
			break;
		case 11:
			op = factors(net, shapes, input, seed);
			snprintf(name, sizeof(name), "op%d", net->op_count);
			fa_net_scale(net, name, input, op);
			break;
		case 12:
		case 13: /* as in a residual block: what one step may be made of */
			op = fa_net_convolution(net, name, input, s->channels, 3, 1, 1, 1, bias);
			if (random_below(seed, 2) == 0)
			{
				snprintf(name, sizeof(name), "op%d", net->op_count);
				op = fa_net_batch_norm(net, name, op, 1e-2f);
			}
			snprintf(name, sizeof(name), "op%d", net->op_count);
			op = fa_net_sum(net, name, op, mate(shapes, input + 1, input, seed));
			snprintf(name, sizeof(name), "op%d", net->op_count);
			fa_net_unary(net, FA_OP_RELU, name, op);
			break;
		default:
			if (s->height == 1 && s->width == 1)
				fa_net_dense(net, name, input, channels);
			else if (random_below(seed, 2) == 0)
				fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, name, input);
			break;
	}
}

void
random_net(fa_net *net, uint64_t *seed, int height, int width)
{
	fa_shape shapes[MAX_OPS];
	fa_error error;
	int outputs;

	fa_net_convolution(net, "first", begin_net(net), 8, 3, 1, 1, 1, true);
	while (net->op_count < MAX_OPS - 8)
	{
		assert_int_equal(fa_net_shapes(net, height, width, shapes, &error), FA_OK);
		/* mostly on from the last one, now and then from any */
		random_op(net, shapes,
				  random_below(seed, 4) > 0 ? net->op_count - 1 : random_below(seed, net->op_count),
				  seed);
	}
	outputs = random_below(seed, 4);
	fa_net_output(net, "last", net->op_count - 1);
	for (int i = 0; i < outputs; i++)
	{
		char name[FA_NAME_LENGTH];

		snprintf(name, sizeof(name), "output%d", i);
		fa_net_output(net, name, random_below(seed, net->op_count));
	}
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

fa_weights
random_weights(const fa_net *net, uint64_t seed)
{
	fa_weights weights = {0};
	fa_parameter *parameters;
	int count;
	fa_error error;

	assert_int_equal(fa_net_parameters(net, &parameters, &count, &error), FA_OK);
	for (int i = 0; i < count; i++)
	{
		const fa_parameter *p = &parameters[i];
		double low = -0.5, high = 0.5;
		fa_tensor *tensor;

		if (p->rank > 1) /* variance 1 / fan-in */
			high = sqrt(3.0 * p->shape[0] / (double) p->count), low = -high;
		else if (net->ops[p->op].kind == FA_OP_BATCH_NORM && strstr(p->name, "bias") == NULL &&
				 strstr(p->name, "mean") == NULL)
			low = 0.5, high = 1.5;
		assert_int_equal(fa_weights_add(&weights, p->name, p->rank, p->shape, &tensor, &error),
						 FA_OK);
		for (size_t k = 0; k < p->count; k++)
			tensor->values[k] = (float) random_between(&seed, low, high);
	}
	free(parameters);
	return weights;
}

uint8_t *
random_pixels(int count, int height, int width, uint64_t seed)
{
	size_t bytes = (size_t) count * height * width * 3;
	uint8_t *pixels = malloc(bytes);

	for (size_t i = 0; i < bytes; i++)
		pixels[i] = (uint8_t) random_u32(&seed);
	return pixels;
}
