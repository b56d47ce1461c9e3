/*
 * yunet_n.c
 *		YuNet "n" (Wu, Peng, Yu 2023), the face detector; see net.h. Operations are
 *		named as the published weights name them.
 */
#include "net.h"

#include <stdio.h>

/* A pointwise convolution, then a depthwise one: YuNet's only building block. */
static int
unit(fa_net *net, const char *name, int op, int channels, bool relu)
{
	char full[FA_NAME_LENGTH];

	snprintf(full, sizeof(full), "%.50s.conv1", name);
	op = fa_net_convolution(net, full, op, channels, 1, 1, 0, 0, true);
	snprintf(full, sizeof(full), "%.50s.conv2", name);
	op = fa_net_depthwise(net, full, op, 3, 1, 1, 1, true);
	if (!relu)
		return op;
	snprintf(full, sizeof(full), "%.50s.relu", name);
	return fa_net_unary(net, FA_OP_RELU, full, op);
}

/* Two units, the second of which sets the width. */
static int
stage(fa_net *net, int number, int op, int middle, int channels)
{
	char name[FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "backbone.model%d.conv1", number);
	op = unit(net, name, op, middle, true);
	snprintf(name, sizeof(name), "backbone.model%d.conv2", number);
	return unit(net, name, op, channels, true);
}

static int
lateral(fa_net *net, int number, int op)
{
	char name[FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "neck.lateral_convs.%d", number);
	return unit(net, name, op, 64, true);
}

static void
head(fa_net *net, int level, int op, const char *kind, int channels, bool probability)
{
	char name[FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "bbox_head.multi_level_%s.%d", kind, level);
	op = unit(net, name, op, channels, false);
	if (probability)
	{
		snprintf(name, sizeof(name), "%s.%d.sigmoid", kind, level);
		op = fa_net_unary(net, FA_OP_SIGMOID, name, op);
	}
	snprintf(name, sizeof(name), "%s_%d", kind, 8 << level);
	fa_net_output(net, name, op);
}

fa_status
fa_net_yunet_n(fa_net *net, fa_error *error)
{
	static const float mean[3] = {0, 0, 0}, scale[3] = {1, 1, 1};
	char name[FA_NAME_LENGTH];
	int op, level[3];

	fa_net_begin(net, "yunet_n");
	op = fa_net_input(net, true, mean, scale);
	op = fa_net_convolution(net, "backbone.model0.conv1", op, 16, 3, 2, 1, 1, true);
	op = fa_net_unary(net, FA_OP_RELU, "backbone.model0.relu", op);
	op = unit(net, "backbone.model0.conv2", op, 16, true);
	op = fa_net_max_pool(net, "pool0", op, 2, 2, 0, 0); /* stride 4 */
	op = stage(net, 1, op, 16, 64);
	op = stage(net, 2, op, 64, 64);
	op = fa_net_max_pool(net, "pool2", op, 2, 2, 0, 0);
	op = level[0] = stage(net, 3, op, 64, 64); /* stride 8 */
	op = fa_net_max_pool(net, "pool3", op, 2, 2, 0, 0);
	op = level[1] = stage(net, 4, op, 64, 64); /* stride 16 */
	op = fa_net_max_pool(net, "pool4", op, 2, 2, 0, 0);
	level[2] = stage(net, 5, op, 64, 64); /* stride 32 */

	/* a feature pyramid from the coarsest level down (Lin et al. 2017) */
	level[2] = lateral(net, 2, level[2]);
	for (int i = 1; i >= 0; i--)
	{
		snprintf(name, sizeof(name), "neck.upsample.%d", i);
		op = fa_net_unary(net, FA_OP_UPSAMPLE, name, level[i + 1]);
		snprintf(name, sizeof(name), "neck.sum.%d", i);
		level[i] = lateral(net, i, fa_net_sum(net, name, level[i], op));
	}
	for (int i = 0; i < 3; i++)
	{
		snprintf(name, sizeof(name), "bbox_head.multi_level_share_convs.%d.0", i);
		op = unit(net, name, level[i], 64, true);
		head(net, i, op, "cls", 1, true);
		head(net, i, op, "obj", 1, true);
		head(net, i, op, "bbox", 4, false);
		head(net, i, op, "kps", 10, false);
	}
	return fa_net_finish(net, error);
}
