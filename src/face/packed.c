/*
 * packed.c
 *		A pipeline as one block of bytes, and back: for memory that processes share.
 *
 * The block: a header, then the attribute model's metadata, its packed weights and the
 * detector's (cpu_pack.c), each at a multiple of 64.
 */
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

static const char magic[8] = "fa-face";

typedef struct header
{
	char magic[8];
	uint64_t offset[FA_PIPELINE_PARTS], length[FA_PIPELINE_PARTS];
} header;

fa_status
fa_pipeline_join(const fa_bytes parts[FA_PIPELINE_PARTS], void **block, size_t *length,
				 fa_error *error)
{
	header h = {.magic = {0}};
	size_t end = (sizeof(header) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	char *bytes;

	memcpy(h.magic, magic, sizeof(magic));
	for (int i = 0; i < FA_PIPELINE_PARTS; i++)
	{
		h.offset[i] = end;
		h.length[i] = parts[i].length;
		end += (parts[i].length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	}
	bytes = calloc(1, end);
	if (bytes == NULL)
		return fa_no_memory(error, end);
	memcpy(bytes, &h, sizeof(h));
	for (int i = 0; i < FA_PIPELINE_PARTS; i++)
		memcpy(bytes + h.offset[i], parts[i].bytes, parts[i].length);
	*block = bytes;
	*length = end;
	return FA_OK;
}

fa_status
fa_pipeline_pack(fa_pipeline *p, void **block, size_t *length, fa_error *error)
{
	fa_bytes parts[FA_PIPELINE_PARTS] = {{p->attributes.metadata, p->attributes.metadata_length}};
	void *attributes = NULL, *detector = NULL;
	fa_status status;

	*block = NULL;
	if (p->interface->pack == NULL)
		return fa_fail(error, FA_UNSUPPORTED, "engine \"%s\" does not pack", p->interface->name);
	status = p->interface->pack(p->attributes.model, p->attributes.height, p->attributes.width,
								&attributes, &parts[FA_PIPELINE_ATTRIBUTES].length, error);
	if (status == FA_OK)
		status =
			fa_detector_pack(p->detector, &detector, &parts[FA_PIPELINE_DETECTOR].length, error);
	parts[FA_PIPELINE_ATTRIBUTES].bytes = attributes;
	parts[FA_PIPELINE_DETECTOR].bytes = detector;
	if (status == FA_OK)
		status = fa_pipeline_join(parts, block, length, error);
	free(attributes);
	free(detector);
	return status;
}

static fa_status
split(const void *block, size_t length, fa_bytes parts[FA_PIPELINE_PARTS], fa_error *error)
{
	const header *h = block;

	if (length < sizeof(header) || memcmp(h->magic, magic, sizeof(magic)) != 0)
		return fa_fail(error, FA_UNSUPPORTED, "a packed pipeline is of another build");
	for (int i = 0; i < FA_PIPELINE_PARTS; i++)
	{
		size_t end;

		if (h->offset[i] % ALIGNMENT != 0 || !fa_add(h->offset[i], h->length[i], &end) ||
			end > length)
			return fa_fail(error, FA_DAMAGED, "a packed pipeline is damaged");
		parts[i] = (fa_bytes){(const char *) block + h->offset[i], h->length[i]};
	}
	return FA_OK;
}

fa_status
fa_pipeline_open_packed(const fa_engine_interface *interface,
						const fa_engine_options *engine_options, fa_precision precision,
						const void *block, size_t length, fa_pipeline **pipeline, fa_error *error)
{
	fa_bytes parts[FA_PIPELINE_PARTS];
	fa_pipeline *p;
	fa_status status;

	*pipeline = NULL;
	if (interface->load_packed == NULL)
		return fa_fail(error, FA_UNSUPPORTED, "engine \"%s\" does not pack", interface->name);
	FA_TRY(split(block, length, parts, error));
	FA_TRY(fa_pipeline_new(interface, engine_options, precision, &p, error));
	status = fa_detector_open_packed(interface, p->engine, p->precision,
									 parts[FA_PIPELINE_DETECTOR].bytes,
									 parts[FA_PIPELINE_DETECTOR].length, &p->detector, error);
	if (status == FA_OK)
		status = fa_attribute_model_open_packed(
			interface, p->engine, p->precision, &parts[FA_PIPELINE_METADATA],
			&parts[FA_PIPELINE_ATTRIBUTES], &p->attributes, error);
	if (status != FA_OK)
	{
		fa_pipeline_close(p);
		return status;
	}
	*pipeline = p;
	return FA_OK;
}
