/*
 * networks.c
 *		The classifiers' names, and the heads that all of them end in; see networks.h.
 */
#include "networks.h"

#include <string.h>

static const struct
{
	const char *name;
	fa_network_builder *build;
} networks[] = {
	{"mobilenet_v1", fa_net_mobilenet_v1},
	{"resnet50", fa_net_resnet50},
	{"senet50", fa_net_senet50},
	{"vgg16", fa_net_vgg16},
};

const char *const fa_network_names = "mobilenet_v1, resnet50, senet50, vgg16";

fa_status
fa_net_by_name(const char *name, fa_net *net, const fa_head *heads, int head_count, int hidden,
			   bool batch_norm, float dropout, fa_error *error)
{
	memset(net, 0, sizeof(*net));
	for (size_t i = 0; i < sizeof(networks) / sizeof(networks[0]); i++)
		if (strcmp(networks[i].name, name) == 0)
			return networks[i].build(net, heads, head_count, hidden, batch_norm, dropout, error);
	fa_fail(error, FA_NOT_FOUND, "network \"%.60s\" is not known", name);
	return fa_detail(error, "There are %s.", fa_network_names);
}

static bool
is_taken(const fa_net *net, const char *name)
{
	for (int i = 0; i < net->op_count; i++)
		if (strcmp(net->ops[i].name, name) == 0)
			return true;
	return fa_net_find_output(net, name) >= 0;
}

fa_status
fa_net_heads(fa_net *net, int features, const fa_head *heads, int head_count, int hidden,
			 float dropout, fa_error *error)
{
	int op = features;

	fa_net_output(net, "embedding", op);
	if (head_count > 0 && dropout > 0)
		op = fa_net_dropout(net, "dropout", op, dropout);
	if (head_count > 0 && hidden > 0)
	{
		op = fa_net_dense(net, "hidden", op, hidden);
		op = fa_net_unary(net, FA_OP_RELU, "hidden.relu", op);
		if (dropout > 0)
			op = fa_net_dropout(net, "hidden.dropout", op, dropout);
	}
	for (int i = 0; i < head_count; i++)
	{
		if (is_taken(net, heads[i].name))
		{
			fa_fail(error, FA_INVALID, "head \"%s\" has the name of a layer of network \"%s\"",
					heads[i].name, net->name);
			fa_net_free(net);
			return error->status;
		}
		fa_net_output(net, heads[i].name, fa_net_dense(net, heads[i].name, op, heads[i].classes));
	}
	return fa_net_finish(net, error);
}
