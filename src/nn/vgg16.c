/*
 * vgg16.c
 *		VGG-16 as keras-vggface builds it, up to its last pooling; see networks.h.
 */
#include "networks.h"

#include <stdio.h>

/* Convolutions and channels of the blocks between two poolings. */
static const struct
{
	int convolutions, channels;
} blocks[5] = {{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}};

fa_status
fa_net_vgg16(fa_net *net, const fa_head *heads, int head_count, int hidden, bool batch_norm,
			 float dropout, fa_error *error)
{
	static const float mean[3] = {93.5940f, 104.7624f, 129.1863f}, scale[3] = {1, 1, 1};
	char name[FA_NAME_LENGTH];
	int op;

	(void) batch_norm; /* it has none */
	fa_net_begin(net, "vgg16");
	op = fa_net_input(net, true, mean, scale);
	for (int i = 0; i < 5; i++)
	{
		for (int k = 0; k < blocks[i].convolutions; k++)
		{
			snprintf(name, sizeof(name), "conv%d_%d", i + 1, k + 1);
			op = fa_net_convolution(net, name, op, blocks[i].channels, 3, 1, 1, 1, true);
			snprintf(name, sizeof(name), "conv%d_%d/relu", i + 1, k + 1);
			op = fa_net_unary(net, FA_OP_RELU, name, op);
		}
		snprintf(name, sizeof(name), "pool%d", i + 1);
		op = fa_net_max_pool(net, name, op, 2, 2, 0, 0);
	}
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "avg_pool", op);
	return fa_net_heads(net, op, heads, head_count, hidden, dropout, error);
}
