/*
 * cpu_pack.c
 *		A model's weights as one block of bytes, and a model that runs straight from such
 *		a block: for memory that processes share. See engine.h.
 *
 * The block: a header, an entry for every operation, and what the entries point to, by
 * offsets, each at a multiple of 64. Maker and reader are processes of one machine and one
 * build, which the header checks; sizes are checked too, against the reader's own network.
 */
#include "cpu_model.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

static const char magic[8] = "fa-cpu1";

typedef struct header
{
	char magic[8];
	uint64_t identity; /* of oneDNN and the processor */
	uint64_t length;   /* of the block */
	uint32_t precision, op_count;
} header;

/* Offsets from the block's beginning; 0: not there. */
typedef struct entry
{
	uint64_t layout, layout_length;
	uint64_t data;
	uint64_t bias; /* [channels] */
	uint64_t norm; /* [2, channels] */
} entry;

/* A block that is being measured (bytes NULL), then filled. */
typedef struct writer
{
	char *bytes;
	size_t length;
} writer;

/* Room of n bytes; its offset. What there is no memory for does not get this far. */
static size_t
reserve(writer *w, size_t n)
{
	size_t at = w->length;

	w->length += (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	return at;
}

static size_t
append(writer *w, const void *bytes, size_t n)
{
	size_t at = reserve(w, n);

	if (w->bytes != NULL)
		memcpy(w->bytes + at, bytes, n);
	return at;
}

static fa_status
append_op(const fa_model *model, int index, writer *w, entry *e, fa_error *error)
{
	const fa_packed_weights *weights = &model->weights[index];
	size_t channels = (size_t) model->net.ops[index].channels, length;

	*e = (entry){0};
	if (weights->data != NULL)
	{
		FA_TRY(fa_layout_write(&weights->layout, NULL, &length, error));
		e->layout = reserve(w, length);
		e->layout_length = length;
		if (w->bytes != NULL)
			FA_TRY(fa_layout_write(&weights->layout, w->bytes + e->layout, &length, error));
		e->data = append(w, weights->data, fa_layout_size(&weights->layout));
	}
	if (weights->bias != NULL)
		e->bias = append(w, weights->bias, channels * sizeof(float));
	if (model->norms[index] != NULL)
		e->norm = append(w, model->norms[index], 2 * channels * sizeof(float));
	return FA_OK;
}

static fa_status
write_block(const fa_model *model, writer *w, fa_error *error)
{
	header h = {.identity = fa_onednn_identity(),
				.precision = model->precision,
				.op_count = (uint32_t) model->net.op_count};
	size_t start = reserve(w, sizeof(header));
	size_t entries = reserve(w, h.op_count * sizeof(entry));

	memcpy(h.magic, magic, sizeof(magic));
	for (int i = 0; i < model->net.op_count; i++)
	{
		entry e;

		FA_TRY(append_op(model, i, w, &e, error));
		if (w->bytes != NULL)
			memcpy(w->bytes + entries + i * sizeof(entry), &e, sizeof(entry));
	}
	h.length = w->length;
	if (w->bytes != NULL)
		memcpy(w->bytes + start, &h, sizeof(h));
	return FA_OK;
}

fa_status
fa_cpu_pack(fa_model *model, int height, int width, void **block, size_t *length, fa_error *error)
{
	fa_batch single = {.count = 1, .height = height, .width = width};
	writer w = {NULL, 0};

	*block = NULL;
	FA_TRY(fa_cpu_compile(model, &single, error));
	FA_TRY(write_block(model, &w, error));
	w.bytes = fa_aligned(w.length);
	if (w.bytes == NULL)
		return fa_no_memory(error, w.length);
	memset(w.bytes, 0, w.length);
	w.length = 0;
	if (write_block(model, &w, error) != FA_OK)
	{
		free(w.bytes);
		return error->status;
	}
	*block = w.bytes;
	*length = w.length;
	return FA_OK;
}

/* ---- Reading -------------------------------------------------------------------------- */

typedef struct reader
{
	const char *bytes;
	size_t length;
} reader;

/* n bytes at an offset; NULL where the block does not hold them. */
static void *
find(const reader *r, uint64_t offset, size_t n)
{
	size_t end;

	if (offset < sizeof(header) || offset % ALIGNMENT != 0 || !fa_add(offset, n, &end) ||
		end > r->length)
		return NULL;
	return (void *) (r->bytes + offset);
}

static fa_status
does_not_fit(fa_error *error, const char *name)
{
	fa_fail(error, FA_DAMAGED, "packed weights do not fit the network");
	return fa_detail(error, "\"%s\".", name);
}

static fa_status
take_filter(fa_model *model, const fa_step *step, const reader *r, const entry *e, fa_error *error)
{
	const fa_op *op = &model->net.ops[step->op];
	fa_packed_weights *weights = &model->weights[step->op];
	const void *layout = find(r, e->layout, e->layout_length);

	if (layout == NULL)
		return does_not_fit(error, op->name);
	FA_TRY(fa_layout_read(&weights->layout, layout, e->layout_length, error));
	weights->data = find(r, e->data, fa_layout_size(&weights->layout));
	if (op->bias || step->norm >= 0)
		weights->bias = find(r, e->bias, op->channels * sizeof(float));
	if (weights->data == NULL || (weights->bias == NULL && (op->bias || step->norm >= 0)))
		return does_not_fit(error, op->name);
	return FA_OK;
}

static fa_status
take_block(fa_model *model, const reader *r, fa_error *error)
{
	const entry *entries = (const entry *) (r->bytes + ALIGNMENT);

	for (int i = 0; i < model->net.op_count; i++)
	{
		const fa_op *op = &model->net.ops[i];

		if (op->kind != FA_OP_BATCH_NORM)
			continue;
		model->norms[i] = find(r, entries[i].norm, 2 * (size_t) op->channels * sizeof(float));
		if (model->norms[i] == NULL)
			return does_not_fit(error, op->name);
	}
	for (int i = 0; i < model->plan.step_count; i++)
	{
		const fa_step *step = &model->plan.steps[i];

		if (fa_is_convolution(&model->net.ops[step->op]))
			FA_TRY(take_filter(model, step, r, &entries[step->op], error));
	}
	return FA_OK;
}

static fa_status
check_header(const reader *r, const fa_net *net, fa_precision precision, fa_error *error)
{
	const header *h = (const header *) r->bytes;
	size_t entries;

	if (r->length < sizeof(header) || memcmp(h->magic, magic, sizeof(magic)) != 0 ||
		h->identity != fa_onednn_identity())
		return fa_fail(error, FA_UNSUPPORTED, "packed weights are of another library or processor");
	if (h->length > r->length || h->precision != (uint32_t) precision ||
		h->op_count != (uint32_t) net->op_count ||
		!fa_multiply(h->op_count, sizeof(entry), &entries) || find(r, ALIGNMENT, entries) == NULL)
		return does_not_fit(error, net->name);
	return FA_OK;
}

fa_status
fa_cpu_load_packed(fa_engine *engine, const fa_net *net, fa_precision precision, const void *block,
				   size_t length, fa_model **model, fa_error *error)
{
	reader r = {block, length};
	fa_status status;

	*model = NULL;
	FA_TRY(fa_cpu_engine.resolve_precision(engine, precision, &precision, error));
	FA_TRY(check_header(&r, net, precision, error));
	FA_TRY(fa_cpu_model_new(engine, net, precision, model, error));
	(*model)->borrowed = true;
	status = take_block(*model, &r, error);
	if (status != FA_OK)
	{
		fa_cpu_unload(*model);
		*model = NULL;
	}
	return status;
}
