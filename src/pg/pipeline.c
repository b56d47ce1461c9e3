/*
 * pipeline.c
 *		From a model's name to a loaded pipeline, and to the options that a
 *		call runs with.
 *
 * A backend keeps one pipeline per model. It is opened by the first call that
 * needs it, never by the postmaster, and lives as long as the backend; another
 * precision replaces it. Nobody keeps a pipeline from one SQL call to the next.
 */
#include "faceattr.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Where "make install" puts the weights, below the server's share directory. */
#define WEIGHTS_DIRECTORY "extension/faceattr"

typedef struct CachedPipeline
{
	struct CachedPipeline *next;
	char *model;
	char *path;             /* of the model's weights */
	fa_pipeline *pipeline;  /* NULL: not open */
	fa_precision precision; /* that was asked for */
	int threads;
} CachedPipeline;

static CachedPipeline *cache;

static char *
weights_directory(void)
{
	char share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	return psprintf("%s/%s", share, WEIGHTS_DIRECTORY);
}

/* The one place where a name becomes weights. Shipped ones are files of that name. */
static char *
weights_path(const char *model)
{
	static const char *const shipped[] = {"default"};

	for (size_t i = 0; i < lengthof(shipped); i++)
		if (strcmp(model, shipped[i]) == 0)
			return psprintf("%s/%s.safetensors", weights_directory(), model);

	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", model),
					errhint("The extension comes with the model \"%s\".", shipped[0])));
}

static CachedPipeline *
cache_entry(const char *model)
{
	CachedPipeline *entry = cache;

	while (entry != NULL && strcmp(entry->model, model) != 0)
		entry = entry->next;
	if (entry == NULL)
	{
		char *path = weights_path(model);

		entry = MemoryContextAllocZero(TopMemoryContext, sizeof(*entry));
		entry->model = MemoryContextStrdup(TopMemoryContext, model);
		entry->path = MemoryContextStrdup(TopMemoryContext, path);
		entry->next = cache;
		cache = entry;
	}
	return entry;
}

/* The model's pipeline as the session's settings want it, opened if need be. */
static fa_pipeline *
get_pipeline(const char *model)
{
	CachedPipeline *entry = cache_entry(model);
	char *directory = weights_directory();
	fa_status status = FA_OK;
	CoreCall call;

	core_enter(&call);
	if (entry->pipeline != NULL && entry->precision != (fa_precision) faceattr_precision)
	{
		fa_pipeline_close(entry->pipeline);
		entry->pipeline = NULL;
	}
	if (entry->pipeline == NULL)
	{
		status = fa_pipeline_open(&fa_cpu_engine, faceattr_threads, faceattr_precision, directory,
								  entry->path, &entry->pipeline, &call.error);
		entry->precision = faceattr_precision;
	}
	else if (entry->threads != faceattr_threads)
		fa_pipeline_set_threads(entry->pipeline, faceattr_threads);
	entry->threads = faceattr_threads;
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
	return entry->pipeline;
}

Run
faceattr_run(const text *model)
{
	Run run;

	run.pipeline = get_pipeline(model != NULL ? text_to_cstring(model) : faceattr_model);
	run.options = fa_pipeline_options(run.pipeline);
	run.on_bad_image = BAD_IMAGE_ERROR;
	if (model == NULL)
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
