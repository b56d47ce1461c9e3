/*
 * pipeline.c
 *		From a model to a loaded pipeline, and to the options that a call runs with.
 *
 * A backend keeps a few pipelines, found by the key of their model, least
 * recently used leaving. Each is opened by the first call that needs it, never by
 * the postmaster; another engine or precision (device.c) replaces it. It runs from the copy that
 * all sessions share (shared_models.c) or, where there is none, from one of its own. Nobody keeps a
 * pipeline from one SQL call to the next, and none is opened while another is in use.
 */
#include "faceattr.h"

#include "../service/client.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PIPELINES 4

typedef struct CachedPipeline
{
	fa_pipeline *pipeline; /* NULL: an unused place */
	uint8 key[MODEL_KEY];
	char name[MODEL_NAME];
	Device device;
	SharedModel shared;   /* that it runs from; segment NULL: a copy of its own ... */
	Size size;            /* ... of so many bytes in the file, ... */
	TimestampTz last_use; /* ... which the view tells of */
	uint64 uses, last_turn;
} CachedPipeline;

static CachedPipeline cache[PIPELINES];

/* The model's place, or else the one to give it. */
static CachedPipeline *
cache_place(const Model *model)
{
	CachedPipeline *place = &cache[0];

	for (int i = 0; i < PIPELINES; i++)
	{
		if (cache[i].pipeline != NULL && memcmp(cache[i].key, model->key, sizeof(model->key)) == 0)
			return &cache[i];
		if (cache[i].last_turn < place->last_turn) /* 0: never used */
			place = &cache[i];
	}
	return place;
}

static void
close_pipeline(CachedPipeline *place)
{
	fa_pipeline_close(place->pipeline);
	shared_model_detach(&place->shared);
	memset(place, 0, sizeof(*place));
}

/* From a copy of its own, on the place's device; pipeline stays NULL where that gave way. */
static void
open_private(CachedPipeline *place, const Model *model)
{
	bytea *weights = faceattr_model_bytes(model);
	fa_bytes bytes = {VARDATA_ANY(weights), VARSIZE_ANY_EXHDR(weights)};
	char *directory = faceattr_weights_directory();
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_pipeline_open_bytes(place->device.interface, &place->device.options,
									place->device.precision, directory, &bytes, &place->pipeline,
									&call.error);
	place->size = bytes.length;
	if (core_leave(&call, status) != FA_OK && !device_gave_way())
		raise_model_error(&call.error, model);
	if ((Pointer) weights != DatumGetPointer(model->weights))
		pfree(weights);
}

/* From the shared copy that the place has claimed. */
static void
open_shared(CachedPipeline *place, const Model *model)
{
	fa_bytes block = shared_model_block(&place->shared);
	fa_pipeline *pipeline;
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_pipeline_open_packed(place->device.interface, &place->device.options,
									 place->device.precision, block.bytes, block.length, &pipeline,
									 &call.error);
	status = core_leave(&call, status);
	if (status == FA_OK)
	{
		fa_pipeline_close(place->pipeline);
		place->pipeline = pipeline;
		return;
	}
	shared_model_detach(&place->shared);
	if (device_gave_way())
		return;
	if (status != FA_UNSUPPORTED) /* else packed by a library that has been replaced since */
		raise_model_error(&call.error, model);
	if (place->pipeline == NULL)
		open_private(place, model);
}

/* Loads, packs and publishes; false: the session's own copy is all there is. */
static bool
pack_and_publish(CachedPipeline *place, const Model *model, MemoryContext statement,
				 void *volatile *block)
{
	fa_status status;
	void *packed;
	size_t length;
	CoreCall call;

	open_private(place, model);
	if (place->pipeline == NULL)
		return false;
	core_enter(&call);
	status = fa_pipeline_pack(place->pipeline, &packed, &length, &call.error);
	*block = packed;
	status = core_leave(&call, status);
	if (status == FA_UNSUPPORTED) /* by this oneDNN */
		return false;
	if (status != FA_OK)
		raise_model_error(&call.error, model);
	return shared_model_publish(model, packed, length, statement, &place->shared);
}

/* As the packer of the slot that has been claimed. */
static void
share(CachedPipeline *place, const Model *model, MemoryContext statement)
{
	void *volatile block = NULL;
	volatile bool published = false;

	PG_TRY();
	{
		published = pack_and_publish(place, model, statement, &block);
	}
	PG_CATCH();
	{
		free(block);
		shared_model_give_up();
		PG_RE_THROW();
	}
	PG_END_TRY();
	shared_model_give_up(); /* unless it has been published, or refused */
	/* cppcheck-suppress doubleFree ; the throw does not come back */
	free(block);
	if (published)
		open_shared(place, model);
}

/* false: the device gave way to another. */
static bool
open_pipeline(CachedPipeline *place, const Model *model, const Device *device,
			  MemoryContext statement)
{
	SharedClaim claim = SHARED_NO_ROOM;

	close_pipeline(place);
	place->device = *device;
	memcpy(place->key, model->key, sizeof(place->key));
	strlcpy(place->name, model->name, sizeof(place->name));
	if (device->instance != 0)
	{
		place->pipeline = open_in_service(model, device);
		return place->pipeline != NULL;
	}
	if (shared_models_enabled() && faceattr_model_cache_size > 0 && device->interface->pack != NULL)
		claim = shared_model_claim(model, device, statement, &place->shared);
	else
		ereport(DEBUG1, (errmsg("this session loads model \"%s\" for itself", model->name),
						 errhint("With shared_preload_libraries = 'faceattr' all sessions share "
								 "one copy.")));
	switch (claim)
	{
		case SHARED_READY:
			open_shared(place, model);
			break;
		case SHARED_PACK:
			share(place, model, statement);
			break;
		case SHARED_NO_ROOM:
			open_private(place, model);
			break;
	}
	return place->pipeline != NULL;
}

/* The model's pipeline as the session's settings want it, pinned for the statement. */
static fa_pipeline *
get_pipeline(const Model *model, MemoryContext statement)
{
	static uint64 turn;
	CachedPipeline *place = cache_place(model);
	Device device = choose_device();

	if (place->pipeline == NULL || !same_device(&place->device, &device) ||
		memcmp(place->key, model->key, sizeof(model->key)) != 0 ||
		(place->shared.segment != NULL && !shared_model_pin(&place->shared, statement)) ||
		(device.instance != 0 && !service_has(model, &device)))
		while (!open_pipeline(place, model, &device, statement))
			device = choose_device();
	if (place->device.options.threads != device.options.threads)
	{
		fa_pipeline_set_threads(place->pipeline, device.options.threads);
		place->device.options.threads = device.options.threads;
	}
	if (device.instance != 0)
		fa_service_read_there(place->pipeline, faceattr_decode_in == DECODE_IN_SERVICE);
	place->last_turn = ++turn;
	place->last_use = GetCurrentTimestamp();
	place->uses++;
	return place->pipeline;
}

Run
faceattr_run(FunctionCallInfo fcinfo, const text *name)
{
	Model model =
		faceattr_find_model(fcinfo, name != NULL ? text_to_cstring(name) : faceattr_model);
	Run run;

	run.pipeline = get_pipeline(&model, fcinfo->flinfo->fn_mcxt);
	run.options = fa_pipeline_options(run.pipeline);
	run.on_bad_image = BAD_IMAGE_ERROR;
	if (name == NULL)
	{
		run.options.detect_size = faceattr_detect_size;
		run.options.min_score = (float) faceattr_min_score;
		run.options.min_face = (float) faceattr_min_face;
		run.options.verify = faceattr_verify;
		run.on_bad_image = faceattr_on_bad_image;
	}
	run.options.max_pixels = faceattr_max_pixels;
	return run;
}

/* --- The view faceattr_stat_models --------------------------------------------- */

void
model_row(Tuplestorestate *rows, TupleDesc desc, const ModelRow *row)
{
	static const char *const precisions[] = {"auto", "fp32", "bf16", "fp16", "tf32"};
	Datum values[9];
	bool nulls[9] = {false};
	bytea *key = palloc(VARHDRSZ + MODEL_KEY);

	SET_VARSIZE(key, VARHDRSZ + MODEL_KEY);
	memcpy(VARDATA(key), row->key, MODEL_KEY);
	values[0] = CStringGetTextDatum(row->name);
	values[1] = PointerGetDatum(key);
	values[2] = CStringGetTextDatum(row->engine);
	values[3] = CStringGetTextDatum(precisions[row->precision]);
	values[4] = CStringGetTextDatum(row->location);
	values[5] = Int64GetDatum(row->size);
	values[6] = Int32GetDatum(row->pins);
	values[7] = Int64GetDatum(row->hits);
	values[8] = TimestampTzGetDatum(row->last_use);
	nulls[8] = row->last_use == 0;
	tuplestore_putvalues(rows, desc, values, nulls);
}

/* faceattr_stat_loaded() returns setof record: the rows of the view faceattr_stat_models */
PG_FUNCTION_INFO_V1(faceattr_stat_loaded);
Datum
faceattr_stat_loaded(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;

	result = materialized_rows(fcinfo);
	shared_models_rows(result->setResult, result->setDesc);
	for (int i = 0; i < PIPELINES; i++)
		if (cache[i].pipeline != NULL && cache[i].shared.segment == NULL &&
			cache[i].device.instance == 0)
		{
			ModelRow row = {.name = cache[i].name,
							.key = cache[i].key,
							.engine = cache[i].device.interface->name,
							.precision = cache[i].device.precision,
							.location = "private",
							.size = (int64) cache[i].size,
							.hits = (int64) cache[i].uses - 1,
							.last_use = cache[i].last_use};

			model_row(result->setResult, result->setDesc, &row);
		}
	return (Datum) 0;
}
