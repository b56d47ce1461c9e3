/*
 * mobilenet_v1.c
 *		MobileNet v1 (Howard et al. 2017) with heads; see networks.h.
 */
#include "networks.h"

#include <stdio.h>

#define EPSILON 1e-3f /* Keras' default */

/* Blocks of a depthwise and a pointwise convolution: output channels and stride. */
static const struct
{
	int channels, stride;
} blocks[13] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
				{512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};

/* Batch norm where wanted, and ReLU6. */
static int
activated(fa_net *net, const char *name, int op, bool batch_norm)
{
	char full[FA_NAME_LENGTH];

	if (batch_norm)
	{
		snprintf(full, sizeof(full), "%.50s.bn", name);
		op = fa_net_batch_norm(net, full, op, EPSILON);
	}
	snprintf(full, sizeof(full), "%.50s.relu", name);
	return fa_net_unary(net, FA_OP_RELU6, full, op);
}

fa_status
fa_net_mobilenet_v1(fa_net *net, const fa_head *heads, int head_count, int hidden, bool batch_norm,
					float dropout, fa_error *error)
{
	static const float mean[3] = {103.939f, 116.779f, 123.68f}, scale[3] = {1, 1, 1};
	char name[FA_NAME_LENGTH];
	int op;

	fa_net_begin(net, "mobilenet_v1");
	op = fa_net_input(net, true, mean, scale);
	op = fa_net_convolution(net, "conv1", op, 32, 3, 2, FA_PAD_SAME, 0, !batch_norm);
	op = activated(net, "conv1", op, batch_norm);
	for (int i = 0; i < 13; i++)
	{
		snprintf(name, sizeof(name), "conv_dw_%d", i + 1);
		op = fa_net_depthwise(net, name, op, 3, blocks[i].stride, FA_PAD_SAME, 0, !batch_norm);
		op = activated(net, name, op, batch_norm);
		snprintf(name, sizeof(name), "conv_pw_%d", i + 1);
		op = fa_net_convolution(net, name, op, blocks[i].channels, 1, 1, 0, 0, !batch_norm);
		op = activated(net, name, op, batch_norm);
	}
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	return fa_net_heads(net, op, heads, head_count, hidden, dropout, error);
}
