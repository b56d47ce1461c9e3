/*
 * client.c
 *		The engine `service`: a batch goes to faceattr-service, and what comes back is checked
 *		as if a stranger had written it; see client.h.
 *
 * A model here is a network, to know the shapes of its outputs, and the key by which the service
 * finds its own. "Packed weights" are that reference.
 */
#include "client.h"

#include "../face/pipeline.h"
#include "exchange.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reference
{
	char magic[8];
	uint8_t key[FA_SERVICE_KEY];
	uint32_t part;
} reference;

static const char magic[8] = "fa-at-it";

struct fa_engine
{
	int unused;
};

struct fa_model
{
	reference at;
	fa_precision precision;
	fa_net net;
	fa_shape *shapes; /* per operation, of the latest size */
	int height, width;
};

static fa_status
service_open(const fa_engine_options *options, fa_engine **engine, fa_error *error)
{
	(void) options; /* the service has its own */
	*engine = calloc(1, sizeof(fa_engine));
	return *engine == NULL ? fa_no_memory(error, sizeof(fa_engine)) : FA_OK;
}

static void
service_close(fa_engine *engine)
{
	free(engine);
}

static void
service_set_threads(fa_engine *engine, int threads)
{
	(void) engine;
	(void) threads;
}

/* A packed pipeline's precision is resolved already, by the service (fa_service_model). */
static fa_status
service_resolve_precision(fa_engine *engine, fa_precision wanted, fa_precision *precision,
						  fa_error *error)
{
	(void) engine;
	*precision = wanted;
	if (wanted == FA_PRECISION_AUTO)
		return fa_fail(error, FA_INVALID, "a precision must be named to the service");
	return FA_OK;
}

static fa_status
service_load(fa_engine *engine, const fa_net *net, const fa_weights *weights,
			 fa_precision precision, fa_model **model, fa_error *error)
{
	(void) engine;
	(void) net;
	(void) weights;
	(void) precision;
	*model = NULL;
	return fa_fail(error, FA_UNSUPPORTED, "the service takes whole models only");
}

static void
service_unload(fa_model *model)
{
	if (model == NULL)
		return;
	fa_net_free(&model->net);
	free(model->shapes);
	free(model);
}

/* The device's memory is the service's, and its view tells of it. */
static size_t
service_memory(const fa_model *model)
{
	(void) model;
	return 0;
}

static fa_status
service_load_packed(fa_engine *engine, const fa_net *net, fa_precision precision, const void *block,
					size_t length, fa_model **model, fa_error *error)
{
	fa_model *loaded;

	(void) engine;
	*model = NULL;
	if (length != sizeof(reference) || memcmp(block, magic, sizeof(magic)) != 0)
		return fa_fail(error, FA_UNSUPPORTED, "these weights are not a reference to the service's");
	loaded = calloc(1, sizeof(fa_model));
	if (loaded == NULL)
		return fa_no_memory(error, sizeof(fa_model));
	memcpy(&loaded->at, block, sizeof(reference));
	loaded->precision = precision;
	if (fa_net_copy(&loaded->net, net, error) != FA_OK)
	{
		service_unload(loaded);
		return error->status;
	}
	loaded->shapes = malloc(net->op_count * sizeof(fa_shape));
	if (loaded->shapes == NULL)
	{
		service_unload(loaded);
		return fa_no_memory(error, net->op_count * sizeof(fa_shape));
	}
	*model = loaded;
	return FA_OK;
}

/* The floats that output i has of every image. */
static size_t
output_count(const fa_model *model, int i)
{
	const fa_shape *shape = &model->shapes[model->net.outputs[i].op];

	return (size_t) shape->height * shape->width * shape->channels;
}

/* What a network can say: finite numbers, and of a sigmoid probabilities. */
static bool
can_be(const fa_model *model, int i, const float *values, size_t n)
{
	bool good = true;

	if (model->net.ops[model->net.outputs[i].op].kind != FA_OP_SIGMOID)
		return fa_all_finite(values, n);
	for (size_t k = 0; k < n; k++)
		good &= values[k] >= 0 && values[k] <= 1;
	return good;
}

static fa_status
take_outputs(fa_exchange *x, const fa_model *model, int count, float *const *outputs,
			 const fa_interrupt *interrupt, fa_error *error)
{
	size_t expected = 0;

	for (int i = 0; i < model->net.output_count; i++)
		if (outputs[i] != NULL)
			expected += (size_t) count * output_count(model, i) * sizeof(float);
	if (x->reply.length != expected)
		return fa_exchange_nonsense(x, "Outputs are of another size.", error);
	for (int i = 0; i < model->net.output_count; i++)
		if (outputs[i] != NULL)
		{
			size_t n = (size_t) count * output_count(model, i);

			FA_TRY(fa_exchange_read(x, outputs[i], n * sizeof(float), interrupt, error));
			if (!can_be(model, i, outputs[i], n))
				return fa_exchange_nonsense(x, "Outputs are out of range.", error);
		}
	return fa_exchange_end(x, error);
}

static fa_status
service_run(fa_model *model, const fa_batch *batch, float *const *outputs,
			const fa_interrupt *interrupt, fa_error *error)
{
	size_t length = (size_t) batch->count * batch->height * batch->width * 3;
	fa_exchange x;

	if (batch->height != model->height || batch->width != model->width)
	{
		model->height = 0;
		FA_TRY(fa_net_shapes(&model->net, batch->height, batch->width, model->shapes, error));
		model->height = batch->height;
		model->width = batch->width;
	}
	FA_TRY(fa_exchange_begin(&x, FA_REQUEST_RUN, length, interrupt, error));
	memcpy(x.request.model, model->at.key, FA_SERVICE_KEY);
	x.request.precision = model->precision;
	x.request.part = model->at.part;
	x.request.count = (uint32_t) batch->count;
	x.request.height = (uint32_t) batch->height;
	x.request.width = (uint32_t) batch->width;
	for (int i = 0; i < model->net.output_count; i++)
		if (outputs[i] != NULL)
			x.request.wanted |= UINT32_C(1) << i;
	FA_TRY(fa_exchange_write(&x, batch->pixels, length, interrupt, error));
	FA_TRY(fa_exchange_call(&x, interrupt, error));
	return take_outputs(&x, model, batch->count, outputs, interrupt, error);
}

const fa_engine_interface fa_service_engine = {
	.name = "service",
	.batch = 64,
	.open = service_open,
	.close = service_close,
	.set_threads = service_set_threads,
	.resolve_precision = service_resolve_precision,
	.load = service_load,
	.unload = service_unload,
	.memory = service_memory,
	.load_packed = service_load_packed,
	.run = service_run,
};

/* The block of a model that the service has, with its metadata. */
static fa_status
make_block(const uint8_t key[FA_SERVICE_KEY], const fa_bytes *metadata, void **block,
		   size_t *length, fa_error *error)
{
	reference at[2] = {{.part = FA_PART_ATTRIBUTES}, {.part = FA_PART_DETECTOR}};
	fa_bytes parts[FA_PIPELINE_PARTS];

	for (int i = 0; i < 2; i++)
	{
		memcpy(at[i].magic, magic, sizeof(magic));
		memcpy(at[i].key, key, FA_SERVICE_KEY);
		parts[i == 0 ? FA_PIPELINE_ATTRIBUTES : FA_PIPELINE_DETECTOR] =
			(fa_bytes){&at[i], sizeof(reference)};
	}
	parts[FA_PIPELINE_METADATA] = *metadata;
	return fa_pipeline_join(parts, block, length, error);
}

/* Asks for it, or hands it over; then with its metadata, malloc'ed. */
static fa_status
load_there(const uint8_t key[FA_SERVICE_KEY], fa_precision precision, const fa_bytes *weights,
		   fa_precision *resolved, char **metadata, size_t *length, const fa_interrupt *interrupt,
		   fa_error *error)
{
	static const fa_bytes none = {"", 0};
	const fa_bytes *file = weights == NULL ? &none : weights;
	fa_exchange x;
	uint64_t sum;
	fa_status status;

	FA_TRY(fa_ring_sum(key, precision, file->bytes, file->length, &sum, interrupt, error));
	FA_TRY(fa_exchange_begin(&x, FA_REQUEST_LOAD, file->length, interrupt, error));
	memcpy(x.request.model, key, FA_SERVICE_KEY);
	x.request.precision = precision;
	x.request.sum = sum;
	FA_TRY(fa_exchange_write(&x, file->bytes, file->length, interrupt, error));
	FA_TRY(fa_exchange_call(&x, interrupt, error));
	*resolved = (fa_precision) x.reply.count;
	if (x.reply.count == FA_PRECISION_AUTO || x.reply.count > FA_PRECISION_TF32 ||
		(precision != FA_PRECISION_AUTO && *resolved != precision))
		return fa_exchange_nonsense(&x, "The precision is another one.", error);
	*length = x.reply.length;
	*metadata = malloc(*length + 1);
	if (*metadata == NULL)
	{
		fa_exchange_give_up(&x);
		return fa_no_memory(error, *length);
	}
	FA_TRY(fa_exchange_read(&x, *metadata, *length, interrupt, error));
	status = fa_ring_sum(key, *resolved, *metadata, *length, &sum, interrupt, error);
	if (status != FA_OK)
	{
		fa_exchange_give_up(&x);
		return status;
	}
	if (sum != x.reply.sum)
		return fa_exchange_nonsense(&x, "The model's metadata are others.", error);
	return fa_exchange_end(&x, error);
}

fa_status
fa_service_model(const uint8_t key[FA_SERVICE_KEY], fa_precision precision, const fa_bytes *weights,
				 fa_precision *resolved, void **block, size_t *length,
				 const fa_interrupt *interrupt, fa_error *error)
{
	char *metadata = NULL;
	size_t metadata_length;
	fa_status status = load_there(key, precision, weights, resolved, &metadata, &metadata_length,
								  interrupt, error);

	*block = NULL;
	if (status == FA_OK)
		status = make_block(key, &(fa_bytes){metadata, metadata_length}, block, length, error);
	free(metadata);
	return status;
}

void
fa_service_name_model(const fa_pipeline *pipeline, uint8_t key[FA_SERVICE_KEY])
{
	memcpy(key, pipeline->attributes.model->at.key, FA_SERVICE_KEY);
}
