/*
 * fuzz_safetensors.c
 *		Weights files from strangers: reading one touches no memory but its own,
 *		and what is accepted holds together: every value there, finite, findable.
 */
#include "../../src/nn/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	fa_weights weights = {0};
	fa_error error = {0};

	if (fa_weights_parse(&weights, bytes, length, &error) != FA_OK)
	{
		if (error.message[0] == '\0' || memchr(error.message, '\0', sizeof(error.message)) == NULL)
			abort();
		return 0;
	}
	for (int i = 0; i < weights.tensor_count; i++)
	{
		const fa_tensor *tensor = &weights.tensors[i];
		size_t count = 1;

		for (int k = 0; k < tensor->rank; k++)
			count *= (size_t) tensor->shape[k];
		if (count != tensor->count || fa_weights_find(&weights, tensor->name) != tensor)
			abort();
		for (size_t k = 0; k < count; k++)
			if (!isfinite(tensor->values[k]))
				abort();
	}
	for (int i = 0; i < weights.metadata_count; i++)
		if (fa_weights_get(&weights, weights.metadata[i].key) != weights.metadata[i].value)
			abort();
	fa_weights_free(&weights);
	return 0;
}
