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
	fa_precision precision; /* as asked for */
	int threads;
	fa_pipeline *pipeline; /* NULL: the last attempt to open it failed */
} CachedPipeline;

static CachedPipeline *cache;

/* Names that come with the extension; each is a weights file of the same name. */
static const char *const shipped_models[] = {"default"};

/* The one place where a name becomes weights: palloc'ed path of the model's file. */
static char *
model_path(const char *model, const char *directory)
{
	for (size_t i = 0; i < lengthof(shipped_models); i++)
		if (strcmp(model, shipped_models[i]) == 0)
			return psprintf("%s/%s.safetensors", directory, model);

	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", model),
					errhint("The model that comes with the extension is \"%s\".",
							shipped_models[0])));
}

static fa_pipeline *
open_pipeline(const char *model)
{
	char share[MAXPGPATH];
	char *directory, *path;
	fa_pipeline *pipeline = NULL;
	CoreCall call;

	get_share_path(my_exec_path, share);
	directory = psprintf("%s/" WEIGHTS_DIRECTORY, share);
	path = model_path(model, directory);

	core_enter(&call);
	(void) fa_pipeline_open(&fa_cpu_engine, faceattr_threads, faceattr_precision, directory, path,
							&pipeline, &call.error);
	...
}
