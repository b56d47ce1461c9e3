/*
 * loader.c
 *		How a model comes to the service; see loader.h.
 *
 * A file is copied before it is looked at: who shares the memory may change it meanwhile. It is
 * other sessions' model, too, as soon as it is loaded, and they go by its key alone. Of a
 * published model the key is the SHA-256 of the file, of a shipped one it is which file that is
 * (pg/models.c); the service cannot tell one from the other, and so compares neither: the
 * session sends a sum of key and bytes along, and gets one of the metadata.
 */
#include "loader.h"

#include <stdlib.h>

static fa_status
check_sum(const fa_request *r, const void *bytes, const fa_interrupt *beat, fa_error *error)
{
	uint64_t sum;

	FA_TRY(fa_ring_sum(r->model, r->precision, bytes, r->length, &sum, beat, error));
	return sum == r->sum
			   ? FA_OK
			   : fa_fail(error, FA_IO, "a model has not come to faceattr-service as it was sent");
}

static fa_status
load_file(const fa_ring *ring, fa_models *models, int slot, const fa_request *r,
		  fa_precision precision, const fa_interrupt *beat, fa_served_model **model,
		  fa_error *error)
{
	void *bytes = malloc(r->length);
	fa_status status;

	if (bytes == NULL)
		return fa_no_memory(error, r->length);
	status = fa_ring_read(ring, slot, FA_AREA_REQUEST, 0, bytes, r->length, beat, error);
	if (status == FA_OK)
		status = check_sum(r, bytes, beat, error);
	if (status == FA_OK)
		status =
			fa_models_get(models, r->model, precision, &(fa_bytes){bytes, r->length}, model, error);
	free(bytes);
	return status;
}

/* That is meant by the request, and the device can. */
static fa_status
resolve(const fa_ring *ring, const fa_request *r, fa_precision *precision, fa_error *error)
{
	const fa_ring_header *header = ring->header;

	if (r->precision > FA_PRECISION_TF32 || r->length > FA_REQUEST_AREA)
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	*precision = (fa_precision) (r->precision == FA_PRECISION_AUTO ? atomic_load(&header->fastest)
																   : r->precision);
	if (*precision == FA_PRECISION_AUTO || *precision > FA_PRECISION_TF32 ||
		(atomic_load(&header->precisions) & UINT32_C(1) << *precision) == 0)
		return fa_fail(error, FA_UNSUPPORTED,
					   "the device of faceattr-service does not compute in that precision");
	return FA_OK;
}

fa_status
fa_load(const fa_ring *ring, fa_models *models, int slot, const fa_request *r,
		const fa_interrupt *beat, fa_reply *reply, fa_served_model **fresh, fa_error *error)
{
	const fa_attribute_model *a;
	fa_precision precision = FA_PRECISION_AUTO;
	fa_served_model *model;
	fa_status status;

	FA_TRY(resolve(ring, r, &precision, error));
	if (r->length == 0)
		FA_TRY(check_sum(r, "", beat, error));
	status = fa_models_get(models, r->model, precision, NULL, &model, error);
	if (status == FA_NOT_FOUND && r->length > 0)
	{
		status = load_file(ring, models, slot, r, precision, beat, &model, error);
		if (status == FA_OK)
			*fresh = model;
	}
	if (status != FA_OK)
		return status;
	a = &model->attributes;
	reply->count = precision;
	reply->length = a->metadata_length;
	FA_TRY(fa_ring_sum(r->model, precision, a->metadata, a->metadata_length, &reply->sum, beat,
					   error));
	return fa_ring_write(ring, slot, FA_AREA_REPLY, 0, a->metadata, a->metadata_length, beat,
						 error);
}
