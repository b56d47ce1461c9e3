/*
 * initial.c
 *		Starting weights; see initial.h.
 */
#include "initial.h"

#include "restore.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Normal values of the deviation that suits a layer's inputs (He et al. 2015); biases 0. */
static void
init_parameter(fa_tensor *tensor, const fa_parameter *p, double gain, uint64_t seed)
{
	fa_random random = fa_random_seed(seed, 4, (uint64_t) p->op);
	double fan_in = (double) p->count / p->shape[0];

	for (size_t i = 0; i < p->count; i++)
		tensor->values[i] =
			p->rank > 1 ? (float) (gain / sqrt(fan_in) * fa_random_normal(&random)) : 0.0f;
}

/* The folded backbone of a file with its batch norm put back; or a file that has it. */
static fa_status
backbone(const fa_engine_interface *interface, fa_engine *engine, const fa_net *net,
		 const char *path, const fa_loader_options *images, fa_weights *weights, fa_error *error)
{
	fa_weights given = {0};
	fa_net folded;
	fa_status status;

	FA_TRY(fa_weights_read(&given, path, error));
	if (fa_weights_find(&given, "conv1.bn.weight") != NULL)
	{
		*weights = given;
		return FA_OK;
	}
	status = fa_net_mobilenet_v1(&folded, NULL, 0, 0, false, 0, error);
	if (status == FA_OK)
	{
		status = fa_weights_match(&given, &folded, true, error);
		if (status == FA_OK)
			status = fa_restore_batch_norm(interface, engine, &folded, &given, net, images, 256,
										   weights, error);
		fa_net_free(&folded);
	}
	fa_weights_free(&given);
	return status;
}

fa_status
fa_initial_weights(const fa_engine_interface *interface, fa_engine *engine, const fa_net *net,
				   const char *path, const fa_loader_options *images, uint64_t seed,
				   fa_weights *weights, fa_error *error)
{
	fa_parameter *parameters;
	int count;
	fa_status status;

	FA_TRY(backbone(interface, engine, net, path, images, weights, error));
	FA_TRY(fa_net_parameters(net, &parameters, &count, error));
	status = FA_OK;
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		fa_tensor *tensor;

		if (net->ops[parameters[i].op].kind != FA_OP_DENSE ||
			fa_weights_find(weights, parameters[i].name) != NULL)
			continue;
		status = fa_weights_add(weights, parameters[i].name, parameters[i].rank,
								parameters[i].shape, &tensor, error);
		if (status == FA_OK)
			init_parameter(tensor, &parameters[i],
						   strncmp(parameters[i].name, "hidden.", 7) == 0 ? sqrt(2.0) : 0.3, seed);
	}
	free(parameters);
	return status;
}
