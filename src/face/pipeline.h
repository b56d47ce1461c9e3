/*
 * pipeline.h
 *		What pipeline.c shares with the rest of its room.
 */
#ifndef FA_PIPELINE_H
#define FA_PIPELINE_H

#include "attributes.h"
#include "detector.h"
#include "face.h"

struct fa_pipeline
{
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_precision precision;
	fa_detector *detector;
	fa_attribute_model attributes; /* model NULL: detector only */
	fa_work work;
};

/* FA_INVALID names the option that is out of range. */
extern fa_status fa_face_options_check(const fa_face_options *options, fa_error *error);

/* An engine, and nothing on it yet. */
extern fa_status fa_pipeline_new(const fa_engine_interface *interface,
								 const fa_engine_options *engine_options, fa_precision precision,
								 fa_pipeline **pipeline, fa_error *error);

#endif
