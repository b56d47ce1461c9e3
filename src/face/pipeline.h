/*
 * pipeline.h
 *		What pipeline.c shares with the rest of its room.
 */
#ifndef FA_PIPELINE_H
#define FA_PIPELINE_H

#include "attributes.h"
#include "detector.h"
#include "face.h"

/*
 * Where a pipeline's photos and crops are read by another process: what stands in for its own
 * functions, with their arguments.
 */
typedef struct fa_reader
{
	fa_status (*find)(fa_pipeline *pipeline, const void *bytes, size_t length,
					  const fa_face_options *options, bool classify, fa_faces *faces,
					  float **embeddings, const fa_interrupt *interrupt, fa_error *error);
	fa_status (*classify)(fa_pipeline *pipeline, const fa_bytes *crops, int count,
						  int64_t max_pixels, fa_face *faces, fa_error *errors,
						  float *const *logits, float *embedding, const fa_interrupt *interrupt,
						  fa_error *error);
	fa_status (*annotate)(fa_pipeline *pipeline, const void *bytes, size_t length,
						  const fa_face_options *options, const fa_format *format,
						  uint8_t **annotated, size_t *annotated_length,
						  const fa_interrupt *interrupt, fa_error *error);
} fa_reader;

struct fa_pipeline
{
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_precision precision;
	fa_detector *detector;
	fa_attribute_model attributes; /* model NULL: detector only */
	fa_work work;
	const fa_reader *reader; /* NULL: photos are read here */
};

/* fa_find_faces and fa_embed_faces: embeddings NULL where none are wanted. */
extern fa_status fa_find(fa_pipeline *pipeline, const void *bytes, size_t length,
						 const fa_face_options *options, bool classify, fa_faces *faces,
						 float **embeddings, const fa_interrupt *interrupt, fa_error *error);
/*
 * fa_classify_crops, and logits (per head: where the first crop's go) and embedding (where its
 * goes), where they are not NULL.
 */
extern fa_status fa_classify(fa_pipeline *pipeline, const fa_bytes *crops, int count,
							 int64_t max_pixels, fa_face *faces, fa_error *errors,
							 float *const *logits, float *embedding, const fa_interrupt *interrupt,
							 fa_error *error);

/* Of a packed pipeline. */
enum
{
	FA_PIPELINE_METADATA, /* the attribute model's */
	FA_PIPELINE_ATTRIBUTES,
	FA_PIPELINE_DETECTOR,
	FA_PIPELINE_PARTS
};

/* The block that fa_pipeline_open_packed takes apart; malloc'ed. */
extern fa_status fa_pipeline_join(const fa_bytes parts[FA_PIPELINE_PARTS], void **block,
								  size_t *length, fa_error *error);

/* FA_INVALID names the option that is out of range. */
extern fa_status fa_face_options_check(const fa_face_options *options, fa_error *error);

/* An engine, and nothing on it yet. */
extern fa_status fa_pipeline_new(const fa_engine_interface *interface,
								 const fa_engine_options *engine_options, fa_precision precision,
								 fa_pipeline **pipeline, fa_error *error);

#endif
