/*
 * fold.c
 *		Batch norm folded into the convolution before it; see fold.h.
 */
#include "fold.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
fa_norm_affine(const float *const parameters[4], float epsilon, int channels, float *gain,
			   float *shift)
{
	for (int c = 0; c < channels; c++)
	{
		double g = parameters[0][c] / sqrt((double) parameters[3][c] + epsilon);

		gain[c] = (float) g;
		shift[c] = (float) (parameters[1][c] - parameters[2][c] * g);
	}
}

static const float *
values(const fa_weights *weights, const char *name, const char *suffix)
{
	char full[2 * FA_NAME_LENGTH];
	const fa_tensor *tensor;

	snprintf(full, sizeof(full), "%s.%s", name, suffix);
	tensor = fa_weights_find(weights, full);
	return tensor == NULL ? NULL : tensor->values;
}

/* The batch norm that reads operation index, or NULL. */
static const fa_op *
norm_of(const fa_net *net, int index)
{
	for (int i = index + 1; i < net->op_count; i++)
		if (net->ops[i].kind == FA_OP_BATCH_NORM && net->ops[i].input[0] == index)
			return &net->ops[i];
	return NULL;
}

static const fa_op *
find_op(const fa_net *net, const char *name, int *index)
{
	for (*index = 0; *index < net->op_count; (*index)++)
		if (strcmp(net->ops[*index].name, name) == 0)
			return &net->ops[*index];
	return NULL;
}

/* A filter, or its bias; norm: the batch norm after it, or NULL. */
static fa_status
fold_parameter(const fa_weights *weights, const fa_op *filter, const fa_op *norm,
			   const fa_parameter *p, float *folded, fa_error *error)
{
	bool is_weight = p->rank > 1;
	const float *given = values(weights, filter->name, is_weight ? "weight" : "bias");
	size_t channels = (size_t) p->shape[0], per_channel = p->count / channels;
	float *gain, *shift;

	if (given == NULL && (is_weight || norm == NULL))
		return fa_fail(error, FA_INVALID, "nothing to fold into \"%s\"", p->name);
	gain = malloc(2 * channels * sizeof(float));
	if (gain == NULL)
		return fa_no_memory(error, 2 * channels * sizeof(float));
	shift = gain + channels;
	if (norm != NULL)
	{
		const float *const parameters[4] = {values(weights, norm->name, "weight"),
											values(weights, norm->name, "bias"),
											values(weights, norm->name, "running_mean"),
											values(weights, norm->name, "running_var")};

		fa_norm_affine(parameters, norm->epsilon, (int) channels, gain, shift);
	}
	for (size_t k = 0; k < p->count; k++)
	{
		size_t c = k / per_channel;

		folded[k] = given == NULL ? 0 : given[k];
		if (norm != NULL)
			folded[k] = folded[k] * gain[c] + (is_weight ? 0 : shift[c]);
	}
	free(gain);
	return FA_OK;
}

fa_status
fa_fold_batch_norm(const fa_net *from, const fa_weights *weights, const fa_net *to,
				   fa_weights *folded, fa_error *error)
{
	fa_parameter *parameters;
	int count;
	fa_status status;

	memset(folded, 0, sizeof(*folded));
	FA_TRY(fa_weights_match(weights, from, true, error));
	FA_TRY(fa_net_parameters(to, &parameters, &count, error));
	status = FA_OK;
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		const fa_parameter *p = &parameters[i];
		int index;
		const fa_op *source = find_op(from, to->ops[p->op].name, &index);
		fa_tensor *tensor;

		if (source == NULL)
			status = fa_fail(error, FA_INVALID, "nothing to fold into \"%s\"", p->name);
		else
			status = fa_weights_add(folded, p->name, p->rank, p->shape, &tensor, error);
		if (status == FA_OK)
			status =
				fold_parameter(weights, source, norm_of(from, index), p, tensor->values, error);
	}
	for (int i = 0; i < weights->metadata_count && status == FA_OK; i++)
		status =
			fa_weights_set(folded, weights->metadata[i].key, weights->metadata[i].value, error);
	free(parameters);
	if (status != FA_OK)
		fa_weights_free(folded);
	return status;
}
