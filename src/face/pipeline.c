/*
 * pipeline.c
 *		A pipeline: opening it, and what it says of itself and its model; see face.h. What
 *		it does is in find.c (photos), crops.c (ready crops) and scan.c (many photos).
 */
#include "pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fa_face_options
fa_default_options(void)
{
	return (fa_face_options){
		.detect_size = 640,
		.min_score = 0.5f,
		.min_face = 16,
		.verify = true,
		.max_pixels = 100000000,
	};
}

fa_status
fa_face_options_check(const fa_face_options *o, fa_error *error)
{
	if (o->detect_size < 160 || o->detect_size > 4096)
		return fa_fail(error, FA_INVALID, "detect_size must be from 160 to 4096");
	if (!(o->min_score >= 0 && o->min_score <= 1))
		return fa_fail(error, FA_INVALID, "min_score must be from 0 to 1");
	if (!(o->min_face >= 0) || !isfinite(o->min_face))
		return fa_fail(error, FA_INVALID, "min_face must not be negative");
	if (o->max_pixels < 1)
		return fa_fail(error, FA_INVALID, "max_pixels must be positive");
	return FA_OK;
}

void
fa_pipeline_close(fa_pipeline *pipeline)
{
	if (pipeline == NULL)
		return;
	fa_attribute_model_close(pipeline->interface, &pipeline->attributes);
	fa_detector_close(pipeline->detector);
	if (pipeline->engine != NULL)
		pipeline->interface->close(pipeline->engine);
	free(pipeline);
}

/* An engine, and nothing on it yet. */
fa_status
fa_pipeline_new(const fa_engine_interface *interface, const fa_engine_options *engine_options,
				fa_precision precision, fa_pipeline **pipeline, fa_error *error)
{
	fa_pipeline *p = calloc(1, sizeof(fa_pipeline));
	fa_status status;

	*pipeline = NULL;
	if (p == NULL)
		return fa_no_memory(error, sizeof(fa_pipeline));
	p->interface = interface;
	status = interface->open(engine_options, &p->engine, error);
	if (status == FA_OK)
		status = interface->resolve_precision(p->engine, precision, &p->precision, error);
	if (status != FA_OK)
	{
		fa_pipeline_close(p);
		return status;
	}
	*pipeline = p;
	return FA_OK;
}

/* With the attribute model in a file, or in memory, or neither. */
static fa_status
open_pipeline(const fa_engine_interface *interface, const fa_engine_options *engine_options,
			  fa_precision precision, const char *directory, const char *model_path,
			  const fa_bytes *model, fa_pipeline **pipeline, fa_error *error)
{
	fa_pipeline *p;
	char path[4096];
	fa_status status;

	*pipeline = NULL;
	FA_TRY(fa_pipeline_new(interface, engine_options, precision, &p, error));
	snprintf(path, sizeof(path), "%s/yunet_n.safetensors", directory);
	status = fa_detector_open(interface, p->engine, p->precision, path, &p->detector, error);
	if (status == FA_OK && model_path != NULL)
		status = fa_attribute_model_open(interface, p->engine, p->precision, model_path,
										 &p->attributes, error);
	if (status == FA_OK && model != NULL)
		status = fa_attribute_model_open_bytes(interface, p->engine, p->precision, model,
											   &p->attributes, error);
	if (status != FA_OK)
	{
		fa_pipeline_close(p);
		return status;
	}
	*pipeline = p;
	return FA_OK;
}

fa_status
fa_pipeline_open(const fa_engine_interface *interface, const fa_engine_options *engine_options,
				 fa_precision precision, const char *directory, const char *model_path,
				 fa_pipeline **pipeline, fa_error *error)
{
	return open_pipeline(interface, engine_options, precision, directory, model_path, NULL,
						 pipeline, error);
}

fa_status
fa_pipeline_open_bytes(const fa_engine_interface *interface,
					   const fa_engine_options *engine_options, fa_precision precision,
					   const char *directory, const fa_bytes *model, fa_pipeline **pipeline,
					   fa_error *error)
{
	return open_pipeline(interface, engine_options, precision, directory, NULL, model, pipeline,
						 error);
}

void
fa_pipeline_set_threads(fa_pipeline *pipeline, int threads)
{
	pipeline->interface->set_threads(pipeline->engine, threads);
}

const char *
fa_pipeline_engine(const fa_pipeline *pipeline)
{
	return pipeline->interface->name;
}

fa_precision
fa_pipeline_precision(const fa_pipeline *pipeline)
{
	return pipeline->precision;
}

const char *
fa_pipeline_network(const fa_pipeline *pipeline)
{
	return pipeline->attributes.network;
}

fa_face_options
fa_pipeline_options(const fa_pipeline *pipeline)
{
	return pipeline->attributes.model != NULL ? pipeline->attributes.options : fa_default_options();
}

fa_work
fa_pipeline_take_work(fa_pipeline *pipeline)
{
	fa_work work = pipeline->work;

	memset(&pipeline->work, 0, sizeof(pipeline->work));
	return work;
}

int
fa_pipeline_head_count(const fa_pipeline *pipeline)
{
	return pipeline->attributes.head_count;
}

const fa_head_info *
fa_pipeline_head(const fa_pipeline *pipeline, int index)
{
	return &pipeline->attributes.heads[index];
}

int
fa_pipeline_find_head(const fa_pipeline *pipeline, const char *name)
{
	for (int i = 0; i < pipeline->attributes.head_count; i++)
		if (strcmp(pipeline->attributes.heads[i].name, name) == 0)
			return i;
	return -1;
}

const char *
fa_gender_label(const fa_pipeline *pipeline, const fa_face *face)
{
	return face->has_gender
			   ? pipeline->attributes.heads[pipeline->attributes.gender].labels[face->gender]
			   : NULL;
}

const char *
fa_race_label(const fa_pipeline *pipeline, const fa_face *face)
{
	return face->has_race ? pipeline->attributes.heads[pipeline->attributes.race].labels[face->race]
						  : NULL;
}
