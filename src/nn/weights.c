/*
 * weights.c
 *		Named tensors and metadata in memory. Files are safetensors.c's.
 */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

void
fa_weights_free(fa_weights *weights)
{
	for (int i = 0; i < weights->tensor_count; i++)
	{
		free(weights->tensors[i].name);
		free(weights->tensors[i].values);
	}
	for (int i = 0; i < weights->metadata_count; i++)
	{
		free(weights->metadata[i].key);
		free(weights->metadata[i].value);
	}
	free(weights->tensors);
	free(weights->metadata);
	memset(weights, 0, sizeof(*weights));
}

const fa_tensor *
fa_weights_find(const fa_weights *weights, const char *name)
{
	for (int i = 0; i < weights->tensor_count; i++)
		if (strcmp(weights->tensors[i].name, name) == 0)
			return &weights->tensors[i];
	return NULL;
}

static fa_metadata *
find_metadata(const fa_weights *weights, const char *key)
{
	for (int i = 0; i < weights->metadata_count; i++)
		if (strcmp(weights->metadata[i].key, key) == 0)
			return &weights->metadata[i];
	return NULL;
}

const char *
fa_weights_get(const fa_weights *weights, const char *key)
{
	const fa_metadata *found = find_metadata(weights, key);

	return found == NULL ? NULL : found->value;
}

/* Makes room for one more element, doubling at powers of two. */
static bool
grow(void **array, int count, size_t element)
{
	void *larger;

	if ((count & (count - 1)) != 0)
		return true;
	larger = realloc(*array, (count == 0 ? 1 : 2 * (size_t) count) * element);
	if (larger == NULL)
		return false;
	*array = larger;
	return true;
}

fa_status
fa_weights_add(fa_weights *weights, const char *name, int rank, const int *shape,
			   fa_tensor **tensor, fa_error *error)
{
	fa_tensor added = {.rank = rank, .count = 1};
	size_t bytes;

	*tensor = NULL;
	if (rank < 0 || rank > FA_MAX_RANK)
		return fa_fail(error, FA_INVALID, "tensor \"%s\" has rank %d", name, rank);
	if (fa_weights_find(weights, name) != NULL)
		return fa_fail(error, FA_INVALID, "tensor \"%s\" is there twice", name);
	for (int i = 0; i < rank; i++)
	{
		if (shape[i] < 1 || !fa_multiply(added.count, shape[i], &added.count))
			return fa_fail(error, FA_INVALID, "tensor \"%s\" has an impossible shape", name);
		added.shape[i] = shape[i];
	}
	if (!fa_multiply(added.count, sizeof(float), &bytes))
		return fa_fail(error, FA_INVALID, "tensor \"%s\" has an impossible shape", name);
	added.name = strdup(name);
	added.values = malloc(bytes);
	if (added.name == NULL || added.values == NULL ||
		!grow((void **) &weights->tensors, weights->tensor_count, sizeof(fa_tensor)))
	{
		free(added.name);
		free(added.values);
		return fa_no_memory(error, bytes);
	}
	weights->tensors[weights->tensor_count] = added;
	*tensor = &weights->tensors[weights->tensor_count++];
	return FA_OK;
}

fa_status
fa_weights_set(fa_weights *weights, const char *key, const char *value, fa_error *error)
{
	fa_metadata *found = find_metadata(weights, key);
	fa_metadata added = {.value = strdup(value)};

	if (found != NULL && added.value != NULL)
	{
		free(found->value);
		found->value = added.value;
		return FA_OK;
	}
	added.key = strdup(key);
	if (added.key == NULL || added.value == NULL ||
		!grow((void **) &weights->metadata, weights->metadata_count, sizeof(fa_metadata)))
	{
		free(added.key);
		free(added.value);
		return fa_no_memory(error, strlen(value));
	}
	weights->metadata[weights->metadata_count++] = added;
	return FA_OK;
}

/* A dense layer's [out, in] is as good as the convolution's [out, in, 1, 1], and the other way
 * round. */
static bool
same_shape(const fa_tensor *tensor, const fa_parameter *parameter)
{
	for (int i = 0; i < FA_MAX_RANK; i++)
		if ((i < tensor->rank ? tensor->shape[i] : 1) !=
			(i < parameter->rank ? parameter->shape[i] : 1))
			return false;
	return true;
}

fa_status
fa_weights_match(const fa_weights *weights, const fa_net *net, bool extra, fa_error *error)
{
	fa_parameter *parameters;
	int count;
	fa_status status = FA_OK;

	FA_TRY(fa_net_parameters(net, &parameters, &count, error));
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		const fa_parameter *p = &parameters[i];
		const fa_tensor *tensor = fa_weights_find(weights, p->name);

		if (tensor == NULL)
			status = fa_fail(error, FA_INVALID, "the weights lack tensor \"%s\" of network \"%s\"",
							 p->name, net->name);
		else if (!same_shape(tensor, p))
		{
			fa_fail(error, FA_INVALID, "tensor \"%s\" does not fit network \"%s\"", p->name,
					net->name);
			status = fa_detail(error,
							   "It has %zu values; the network's has %d output channels and "
							   "%zu values.",
							   tensor->count, p->shape[0], p->count);
		}
	}
	for (int i = 0; i < weights->tensor_count && status == FA_OK && !extra; i++)
	{
		bool known = false;

		for (int j = 0; j < count && !known; j++)
			known = strcmp(weights->tensors[i].name, parameters[j].name) == 0;
		if (!known)
			status = fa_fail(error, FA_INVALID, "network \"%s\" has no tensor \"%s\"", net->name,
							 weights->tensors[i].name);
	}
	free(parameters);
	return status;
}
