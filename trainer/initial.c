/*
 * initial.c
 *		Starting weights; see initial.h.
 */
#include "initial.h"

#include "../src/nn/networks.h"
#include "restore.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * Layers begin with normal values of the deviation that suits their inputs (He et al.
 * 2015) and without bias, heads with smaller ones, batch norm as the identity.
 */
static void
init_parameter(fa_tensor *tensor, const fa_net *net, const fa_parameter *p, uint64_t seed)
{
	fa_random random = fa_random_seed(seed, 4, (uint64_t) p->op);
	const fa_op *op = &net->ops[p->op];
	double gain = fa_net_find_output(net, op->name) >= 0 ? 0.3 : sqrt(2.0);
	double fan_in = (double) p->count / p->shape[0];
	const char *suffix = strrchr(p->name, '.');
	bool one = op->kind == FA_OP_BATCH_NORM &&
			   (strcmp(suffix, ".weight") == 0 || strcmp(suffix, ".running_var") == 0);

	for (size_t i = 0; i < p->count; i++)
		tensor->values[i] = p->rank > 1 ? (float) (gain / sqrt(fan_in) * fa_random_normal(&random))
							: one       ? 1.0f
										: 0.0f;
}

static bool
fits(const fa_tensor *tensor, const fa_parameter *p)
{
	if (tensor == NULL || tensor->count != p->count)
		return false;
	for (int i = 0; i < p->rank && i < tensor->rank; i++)
		if (tensor->shape[i] != p->shape[i])
			return false;
	return true;
}

/* Heads and hidden layer: what does not lead to the embedding. */
static bool
is_head(const fa_net *net, int op)
{
	return op > net->outputs[fa_net_find_output(net, "embedding")].op;
}

/* The head that the operation is the layer of, or -1. */
static int
head_of(const fa_net *net, int op)
{
	for (int h = 0; h < FA_HEADS; h++)
		if (strcmp(net->ops[op].name, fa_heads[h].name) == 0)
			return h;
	return -1;
}

/* The backbone of `backbone`, the heads of `heads`, what fits of them; the rest at random. */
static fa_status
complete(const fa_net *net, const fa_weights *backbone, const fa_weights *heads, uint64_t seed,
		 fa_weights *weights, bool kept[FA_HEADS], fa_error *error)
{
	fa_parameter *parameters;
	int count;
	fa_status status;

	FA_TRY(fa_net_parameters(net, &parameters, &count, error));
	status = FA_OK;
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		const fa_parameter *p = &parameters[i];
		const fa_tensor *from = fa_weights_find(is_head(net, p->op) ? heads : backbone, p->name);
		int head = head_of(net, p->op);
		bool fit = fits(from, p) && (head < 0 || fa_heads_agree(heads, head));
		fa_tensor *tensor;

		status = fa_weights_add(weights, p->name, p->rank, p->shape, &tensor, error);
		if (status != FA_OK)
			break;
		if (head >= 0)
			kept[head] = fit;
		if (fit)
			memcpy(tensor->values, from->values, p->count * sizeof(float));
		else
			init_parameter(tensor, net, p, seed);
	}
	free(parameters);
	return status;
}

/*
 * Puts batch norm back into a folded backbone. Where `given` is in the training form already,
 * *restored stays empty; where it is neither, the error is of the training form.
 */
static fa_status
restore(const fa_engine_interface *interface, fa_engine *engine, const char *network,
		const fa_net *net, const fa_weights *given, const fa_loader_options *images,
		fa_weights *restored, fa_error *error)
{
	fa_net training, folded;
	fa_error ignored;
	fa_status status;

	FA_TRY(fa_net_by_name(network, &training, NULL, 0, 0, true, 0, error));
	status = fa_weights_match(given, &training, true, error);
	fa_net_free(&training);
	if (status == FA_OK)
		return FA_OK;
	if (fa_net_by_name(network, &folded, NULL, 0, 0, false, 0, &ignored) != FA_OK)
		return status;
	if (fa_weights_match(given, &folded, true, &ignored) == FA_OK)
		status = fa_restore_batch_norm(interface, engine, &folded, given, net, images, 256,
									   restored, error);
	fa_net_free(&folded);
	return status;
}

fa_status
fa_initial_weights(const fa_engine_interface *interface, fa_engine *engine, const char *network,
				   const fa_net *net, const char *path, const fa_loader_options *images,
				   bool new_heads, uint64_t seed, fa_weights *weights, bool kept[FA_HEADS],
				   fa_error *error)
{
	const fa_weights none = {0};
	fa_weights given = {0}, restored = {0};
	fa_status status;

	memset(weights, 0, sizeof(*weights));
	if (path == NULL)
		return complete(net, &none, &none, seed, weights, kept, error);
	FA_TRY(fa_weights_read(&given, path, error));
	status = restore(interface, engine, network, net, &given, images, &restored, error);
	if (status == FA_OK)
		status = complete(net, restored.tensor_count > 0 ? &restored : &given,
						  new_heads ? &none : &given, seed, weights, kept, error);
	else
		fa_error_in(error, path);
	fa_weights_free(&given);
	fa_weights_free(&restored);
	if (status != FA_OK)
		fa_weights_free(weights);
	return status;
}
