/*
 * pipeline.c
 *		From a model to a loaded pipeline, and to the options that a call runs with.
 *
 * A backend keeps a few pipelines, found by the key of their model, least
 * recently used leaving. Each is opened by the first call that needs it, never by
 * the postmaster; another precision replaces it. Nobody keeps a pipeline from one
 * SQL call to the next, and none is opened while another is in use.
 */
#include "faceattr.h"

#include "utils/builtins.h"

#define PIPELINES 4

typedef struct CachedPipeline
{
	fa_pipeline *pipeline; /* NULL: an unused place */
	uint8 key[MODEL_KEY];
	fa_precision precision; /* that was asked for */
	int threads;
	uint64 last_use;
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
		if (cache[i].last_use < place->last_use) /* 0: never used */
			place = &cache[i];
	}
	return place;
}

static void
open_pipeline(CachedPipeline *place, const Model *model)
{
	bytea *weights = faceattr_model_bytes(model);
	fa_bytes bytes = {VARDATA_ANY(weights), VARSIZE_ANY_EXHDR(weights)};
	char *directory = faceattr_weights_directory();
	fa_status status;
	CoreCall call;

	core_enter(&call);
	fa_pipeline_close(place->pipeline);
	*place = (CachedPipeline){.precision = faceattr_precision, .threads = faceattr_threads};
	memcpy(place->key, model->key, sizeof(place->key));
	status = fa_pipeline_open_bytes(&fa_cpu_engine, faceattr_threads, faceattr_precision, directory,
									&bytes, &place->pipeline, &call.error);
	if (core_leave(&call, status) != FA_OK)
		raise_model_error(&call.error, model);
	if ((Pointer) weights != DatumGetPointer(model->weights))
		pfree(weights);
}

/* The model's pipeline as the session's settings want it. */
static fa_pipeline *
get_pipeline(const Model *model)
{
	static uint64 clock;
	CachedPipeline *place = cache_place(model);

	if (place->pipeline == NULL || place->precision != (fa_precision) faceattr_precision ||
		memcmp(place->key, model->key, sizeof(model->key)) != 0)
		open_pipeline(place, model);
	if (place->threads != faceattr_threads)
	{
		fa_pipeline_set_threads(place->pipeline, faceattr_threads);
		place->threads = faceattr_threads;
	}
	place->last_use = ++clock;
	return place->pipeline;
}

Run
faceattr_run(FunctionCallInfo fcinfo, const text *name)
{
	Model model =
		faceattr_find_model(fcinfo, name != NULL ? text_to_cstring(name) : faceattr_model);
	Run run;

	run.pipeline = get_pipeline(&model);
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
