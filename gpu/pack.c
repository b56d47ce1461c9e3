/*
 * pack.c
 *		A model's weights as one block of bytes, and a model from such a block: for memory
 *		that processes share. See engine.h.
 *
 * The block: a header, and at a multiple of 64 the weights as they lie on the device, folded
 * and padded. Maker and reader are processes of one build, which the header checks; so it does
 * network and type, by their hash. Weights are numbers: whatever they are, nothing breaks.
 */
#include "program.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

static const char magic[8] = "fa-cuda";

typedef struct header
{
	char magic[8];
	uint64_t build;
	uint64_t length;  /* of the block */
	uint64_t network; /* hash of the network, in a type */
	uint64_t weights; /* bytes of them */
} header;

_Static_assert(sizeof(header) <= ALIGNMENT, "the header has no room");

/* Of what the order of weights could depend on. */
static uint64_t
build_identity(void)
{
	return (uint64_t) CUDART_VERSION << 32 ^ (uint64_t) CUDNN_VERSION << 8 ^ FA_GPU_CHANNELS;
}

/* FNV-1a */
static uint64_t
hash(uint64_t so_far, const void *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		so_far = (so_far ^ ((const uint8_t *) bytes)[i]) * 0x100000001b3;
	return so_far;
}

static uint64_t
network_identity(const fa_net *net, fa_gpu_type type)
{
	uint64_t all = hash(0xcbf29ce484222325, &type, sizeof(type));

	for (int i = 0; i < net->op_count; i++)
	{
		const fa_op *op = &net->ops[i];
		int numbers[] = {op->kind,   op->input[0],  op->input[1], op->channels, op->kernel,
						 op->stride, op->pad_begin, op->pad_end,  op->bias};

		all = hash(all, op->name, strlen(op->name) + 1);
		all = hash(all, numbers, sizeof(numbers));
	}
	return all;
}

fa_status
fa_cuda_pack(fa_model *model, int height, int width, void **block, size_t *length, fa_error *error)
{
	const fa_gpu_block *weights = &model->weights.block;
	header h = {.build = build_identity(),
				.length = ALIGNMENT + weights->size,
				.network = network_identity(&model->net, model->type),
				.weights = weights->size};
	cudaStream_t stream = model->engine->stream;
	cudaError_t copied = cudaSuccess, ended;
	fa_status status;
	char *bytes;

	(void) height; /* weights lie the same for every size */
	(void) width;
	*block = NULL;
	bytes = calloc(1, h.length);
	if (bytes == NULL)
		return fa_no_memory(error, h.length);
	memcpy(h.magic, magic, sizeof(magic));
	memcpy(bytes, &h, sizeof(h));
	if (weights->size > 0)
		copied = cudaMemcpyAsync(bytes + ALIGNMENT, weights->address, weights->size,
								 cudaMemcpyDeviceToHost, stream);
	ended = cudaStreamSynchronize(stream);
	status = fa_gpu_status(copied, "to give weights", error);
	if (status == FA_OK)
		status = fa_gpu_status(ended, "to give weights", error);
	if (status != FA_OK)
	{
		free(bytes);
		return status;
	}
	*block = bytes;
	*length = h.length;
	return FA_OK;
}

fa_status
fa_cuda_load_packed(fa_engine *engine, const fa_net *net, fa_precision precision, const void *block,
					size_t length, fa_model **model, fa_error *error)
{
	const header *h = block;

	*model = NULL;
	FA_TRY(fa_cuda_resolve_precision(engine, precision, &precision, error));
	if (length < ALIGNMENT || memcmp(h->magic, magic, sizeof(magic)) != 0 ||
		h->build != build_identity())
		return fa_fail(error, FA_UNSUPPORTED, "packed weights are of another build");
	if (h->length > length || h->length < ALIGNMENT || h->weights != h->length - ALIGNMENT ||
		h->network != network_identity(net, fa_gpu_type_of(precision)))
	{
		fa_fail(error, FA_DAMAGED, "packed weights do not fit the network");
		return fa_detail(error, "\"%s\".", net->name);
	}
	return fa_gpu_model_make(engine, net, NULL, (const char *) block + ALIGNMENT, h->weights,
							 precision, model, error);
}
