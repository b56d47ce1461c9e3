/*
 * resnet50.c
 *		ResNet-50 and SE-ResNet-50 as keras-vggface builds them; see networks.h. The two
 *		differ in the squeeze-and-excitation of each block and in batch norm's epsilon.
 *
 * A block's shortcut comes before its main path, so that the last convolution may add its
 * result to it in place.
 */
#include "networks.h"

#include <stdio.h>

/* The stages, numbered as their layers' names are: blocks, and channels within them. */
static const struct
{
	int number, blocks, channels;
} stages[4] = {{2, 3, 64}, {3, 4, 128}, {4, 6, 256}, {5, 3, 512}};

#define EXPANSION 4      /* a block's channels outside over those within */
#define COMPRESSION 16   /* an excitation's channels outside over those within */
#define PREFIX_LENGTH 32 /* of "conv2_1" */

typedef struct style
{
	fa_net *net;
	bool batch_norm, excitation;
	float epsilon;
} style;

static int
relu(const style *s, const char *prefix, const char *name, int op)
{
	char full[FA_NAME_LENGTH];

	snprintf(full, sizeof(full), "%s%s/relu", prefix, name);
	return fa_net_unary(s->net, FA_OP_RELU, full, op);
}

/* A convolution and its batch norm. */
static int
normalised(const style *s, const char *prefix, const char *name, int op, int channels, int kernel,
		   int stride)
{
	char full[FA_NAME_LENGTH];

	snprintf(full, sizeof(full), "%s%s", prefix, name);
	op = fa_net_convolution(s->net, full, op, channels, kernel, stride, FA_PAD_SAME, 0,
							!s->batch_norm);
	if (!s->batch_norm)
		return op;
	snprintf(full, sizeof(full), "%s%s/bn", prefix, name);
	return fa_net_batch_norm(s->net, full, op, s->epsilon);
}

/* Channels weighted by what their averages say of all of them (Hu et al. 2018, section 3). */
static int
excited(const style *s, const char *prefix, int op)
{
	int channels = EXPANSION * COMPRESSION, factors;
	char full[FA_NAME_LENGTH];

	if (op >= 0)
		channels = s->net->ops[op].channels;
	snprintf(full, sizeof(full), "%s_pool", prefix);
	factors = fa_net_unary(s->net, FA_OP_GLOBAL_AVERAGE_POOL, full, op);
	snprintf(full, sizeof(full), "%s_1x1_down", prefix);
	factors = fa_net_convolution(s->net, full, factors, channels / COMPRESSION, 1, 1, 0, 0, true);
	factors = relu(s, prefix, "_1x1_down", factors);
	snprintf(full, sizeof(full), "%s_1x1_up", prefix);
	factors = fa_net_convolution(s->net, full, factors, channels, 1, 1, 0, 0, true);
	snprintf(full, sizeof(full), "%s_1x1_up/sigmoid", prefix);
	factors = fa_net_unary(s->net, FA_OP_SIGMOID, full, factors);
	snprintf(full, sizeof(full), "%s_scale", prefix);
	return fa_net_scale(s->net, full, op, factors);
}

static int
block(const style *s, int stage, int number, int op, int channels)
{
	int stride = number == 1 && stage > 2 ? 2 : 1, shortcut = op;
	char prefix[PREFIX_LENGTH], full[FA_NAME_LENGTH];

	snprintf(prefix, sizeof(prefix), "conv%d_%d", stage, number);
	if (number == 1)
		shortcut = normalised(s, prefix, "_1x1_proj", op, EXPANSION * channels, 1, stride);
	op = normalised(s, prefix, "_1x1_reduce", op, channels, 1, stride);
	op = relu(s, prefix, "_1x1_reduce", op);
	op = normalised(s, prefix, "_3x3", op, channels, 3, 1);
	op = relu(s, prefix, "_3x3", op);
	op = normalised(s, prefix, "_1x1_increase", op, EXPANSION * channels, 1, 1);
	if (s->excitation)
		op = excited(s, prefix, op);
	snprintf(full, sizeof(full), "%s_add", prefix);
	return relu(s, prefix, "", fa_net_sum(s->net, full, op, shortcut));
}

static int
backbone(const style *s, const char *name)
{
	static const float mean[3] = {91.4953f, 103.8827f, 131.0912f}, scale[3] = {1, 1, 1};
	int op;

	fa_net_begin(s->net, name);
	op = fa_net_input(s->net, true, mean, scale);
	op = relu(s, "conv1", "/7x7_s2", normalised(s, "conv1", "/7x7_s2", op, 64, 7, 2));
	op = fa_net_max_pool(s->net, "pool1", op, 3, 2, 0, 0);
	for (int i = 0; i < 4; i++)
		for (int k = 1; k <= stages[i].blocks; k++)
			op = block(s, stages[i].number, k, op, stages[i].channels);
	return fa_net_unary(s->net, FA_OP_GLOBAL_AVERAGE_POOL, "avg_pool", op);
}

fa_status
fa_net_resnet50(fa_net *net, const fa_head *heads, int head_count, int hidden, bool batch_norm,
				float dropout, fa_error *error)
{
	style s = {net, batch_norm, false, 1e-3f};

	return fa_net_heads(net, backbone(&s, "resnet50"), heads, head_count, hidden, dropout, error);
}

fa_status
fa_net_senet50(fa_net *net, const fa_head *heads, int head_count, int hidden, bool batch_norm,
			   float dropout, fa_error *error)
{
	style s = {net, batch_norm, true, 1e-4f};

	return fa_net_heads(net, backbone(&s, "senet50"), heads, head_count, hidden, dropout, error);
}
