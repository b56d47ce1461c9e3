/*
 * crops.c
 *		The attribute network on crops, batch by batch, and crops that come ready; see crops.h
 *		and face.h.
 */
#include "crops.h"

#include "../vision/warp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void
fa_add_time(double *total, double *since)
{
	double now = fa_seconds();

	*total += now - *since;
	*since = now;
}

/* A batch that is being made. */
typedef struct crop_batch
{
	int count;
	uint8_t *pixels;     /* crop by crop, unless the engine cuts them out */
	fa_warped *crops;    /* located ones */
	fa_image *own;       /* what has been handed over with them */
	float *values;       /* all outputs */
	size_t values_count; /* of a crop */
} crop_batch;

static void
batch_free(crop_batch *b)
{
	free(b->pixels);
	free(b->crops);
	free(b->own);
	free(b->values);
}

static fa_status
batch_init(crop_batch *b, const fa_attribute_model *m, int most, fa_error *error)
{
	size_t n = (size_t) most + 1, bytes = (size_t) m->height * m->width * 3;

	memset(b, 0, sizeof(*b));
	b->values_count = (size_t) m->embedding_size;
	for (int h = 0; h < m->head_count; h++)
		b->values_count += (size_t) m->heads[h].classes;
	b->pixels = malloc(n * bytes);
	b->crops = calloc(n, sizeof(fa_warped));
	b->own = calloc(n, sizeof(fa_image));
	b->values = malloc(n * b->values_count * sizeof(float) + 1);
	if (b->pixels != NULL && b->crops != NULL && b->own != NULL && b->values != NULL)
		return FA_OK;
	batch_free(b);
	return fa_no_memory(error, n * (bytes + b->values_count * sizeof(float)));
}

/* Where each output of a batch goes. */
static void
place_outputs(const crop_batch *b, const fa_attribute_model *m, float **outputs)
{
	float *next = b->values;

	outputs[m->embedding] = next;
	next += (size_t) b->count * m->embedding_size;
	for (int h = 0; h < m->head_count; h++)
	{
		outputs[m->outputs[h]] = next;
		next += (size_t) b->count * m->heads[h].classes;
	}
}

/* The crops from number first on: pixels, or for an engine that cuts them out, where they lie. */
static fa_status
make_batch(crop_batch *b, const fa_pipeline *pipeline, int first, fa_make_crop make,
		   fa_locate_crop locate, void *argument, fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	size_t bytes = (size_t) m->height * m->width * 3;

	for (int i = 0; i < b->count; i++)
	{
		fa_image crop = {m->width, m->height, 3 * (size_t) m->width, b->pixels + i * bytes};

		if (make != NULL)
		{
			FA_TRY(make(argument, first + i, crop.pixels, error));
			continue;
		}
		FA_TRY(locate(argument, first + i, &b->crops[i], &b->own[i], error));
		if (pipeline->interface->run_warped != NULL)
			continue;
		FA_TRY(fa_warp(b->crops[i].source, b->crops[i].map, &crop, error));
		fa_image_free(&b->own[i]);
	}
	return FA_OK;
}

static fa_status
run_batch(const crop_batch *b, fa_pipeline *pipeline, bool located, float *const *outputs,
		  const fa_interrupt *interrupt, fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	fa_batch batch = {b->count, m->height, m->width, b->pixels};

	if (located && pipeline->interface->run_warped != NULL)
		return pipeline->interface->run_warped(m->model, b->crops, b->count, m->height, m->width,
											   outputs, interrupt, error);
	return pipeline->interface->run(m->model, &batch, outputs, interrupt, error);
}

static void
take_batch(const crop_batch *b, const fa_attribute_model *m, int first, float *const *outputs,
		   fa_take_outputs take, void *argument)
{
	for (int i = 0; i < b->count; i++)
	{
		float *mine[FA_MAX_HEADS + 1];

		for (int h = 0; h < m->head_count; h++)
			mine[h] = outputs[m->outputs[h]] + (size_t) i * m->heads[h].classes;
		mine[m->head_count] = outputs[m->embedding] + (size_t) i * m->embedding_size;
		take(argument, first + i, mine);
	}
}

fa_status
fa_run_crops(fa_pipeline *pipeline, int count, fa_make_crop make, fa_locate_crop locate,
			 fa_take_outputs take, void *argument, const fa_interrupt *interrupt, fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	int most = count < pipeline->interface->batch ? count : pipeline->interface->batch;
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	double since = fa_seconds();
	fa_status status = FA_OK;
	crop_batch b;

	FA_TRY(batch_init(&b, m, most, error));
	for (int first = 0; first < count && status == FA_OK; first += b.count)
	{
		b.count = count - first < most ? count - first : most;
		place_outputs(&b, m, outputs);
		status = make_batch(&b, pipeline, first, make, locate, argument, error);
		fa_add_time(&pipeline->work.decode, &since);
		if (status == FA_OK)
			status = run_batch(&b, pipeline, make == NULL, outputs, interrupt, error);
		for (int i = 0; i < b.count; i++)
			fa_image_free(&b.own[i]);
		if (status == FA_OK)
			take_batch(&b, m, first, outputs, take, argument);
		fa_add_time(&pipeline->work.classify, &since);
	}
	batch_free(&b);
	return status;
}

void
fa_unit_length(const float *from, float *to, int n)
{
	double squares = 0;

	for (int i = 0; i < n; i++)
		squares += (double) from[i] * from[i];
	for (int i = 0; i < n; i++)
		to[i] = squares > 0 ? (float) (from[i] / sqrt(squares)) : 0.0f;
}

/* ---- Ready crops ---------------------------------------------------------------------- */

typedef struct ready_crops
{
	fa_pipeline *pipeline;
	const fa_bytes *crops;
	const int *indexes; /* of those that are there */
	int64_t max_pixels;
	fa_face *faces;
	fa_error *errors;
	float *const *logits; /* or NULL: where the first crop's go, per head */
	float *embedding;     /* or NULL: where the first crop's goes */
	const fa_interrupt *interrupt;
} ready_crops;

/* Decoded no larger than needed, then scaled to the network's input. */
static fa_status
decode_crop(const fa_attribute_model *m, const fa_bytes *bytes, int64_t max_pixels, uint8_t *pixels,
			int *width, int *height, const fa_interrupt *interrupt, fa_error *error)
{
	fa_image crop = {m->width, m->height, 3 * (size_t) m->width, pixels};
	fa_photo photo;
	fa_view view;
	int shorter, eighths;
	fa_status status;

	FA_TRY(fa_photo_open(&photo, bytes->bytes, bytes->length, max_pixels, error));
	shorter = photo.width < photo.height ? photo.width : photo.height;
	eighths = (int) fmin(8, ceil(8.0 * m->width / shorter));
	FA_TRY(fa_photo_decode(&photo, eighths, &view, interrupt, error));
	status = fa_letterbox(&view.image, m->width, m->height, &crop, 0, error);
	fa_image_free(&view.image);
	*width = photo.width;
	*height = photo.height;
	return status;
}

/* A bad crop spoils its own result only. */
static fa_status
make_ready_crop(void *argument, int index, uint8_t *pixels, fa_error *error)
{
	ready_crops *r = argument;
	const fa_attribute_model *m = &r->pipeline->attributes;
	int i = r->indexes[index], width = 0, height = 0;
	fa_status status = decode_crop(m, &r->crops[i], r->max_pixels, pixels, &width, &height,
								   r->interrupt, &r->errors[i]);

	r->faces[i].box = (fa_rect){0, 0, width, height};
	for (int k = 0; k < FA_LANDMARKS; k++)
	{
		r->faces[i].landmarks[k][0] = m->landmark_template[k][0] * width;
		r->faces[i].landmarks[k][1] = m->landmark_template[k][1] * height;
	}
	if (status == FA_INTERRUPTED || status == FA_NO_MEMORY)
	{
		*error = r->errors[i];
		return status;
	}
	if (status != FA_OK)
		memset(pixels, 0, (size_t) m->height * m->width * 3);
	return FA_OK;
}

static void
take_ready_outputs(void *argument, int index, float *const *outputs)
{
	ready_crops *r = argument;
	const fa_attribute_model *m = &r->pipeline->attributes;
	int i = r->indexes[index];
	float probability;

	if (r->errors[i].status != FA_OK)
	{
		memset(&r->faces[i], 0, sizeof(fa_face));
		return;
	}
	r->pipeline->work.faces++;
	fa_set_attributes(m, outputs, &r->faces[i], &probability);
	r->faces[i].score = r->faces[i].detect_score = probability;
	if (r->logits != NULL)
		for (int h = 0; h < m->head_count; h++)
			memcpy(r->logits[h], outputs[h], m->heads[h].classes * sizeof(float));
	if (r->embedding != NULL)
		fa_unit_length(outputs[m->head_count], r->embedding, m->embedding_size);
}

fa_status
fa_classify(fa_pipeline *pipeline, const fa_bytes *crops, int count, int64_t max_pixels,
			fa_face *faces, fa_error *errors, float *const *logits, float *embedding,
			const fa_interrupt *interrupt, fa_error *error)
{
	int *indexes = malloc(((size_t) count + 1) * sizeof(int)), there = 0;
	ready_crops ready = {.pipeline = pipeline,
						 .crops = crops,
						 .indexes = indexes,
						 .max_pixels = max_pixels,
						 .faces = faces,
						 .logits = logits,
						 .embedding = embedding,
						 .interrupt = interrupt};
	fa_status status;

	memset(faces, 0, count * sizeof(fa_face));
	memset(errors, 0, count * sizeof(fa_error));
	if (pipeline->reader != NULL)
	{
		free(indexes);
		return pipeline->reader->classify(pipeline, crops, count, max_pixels, faces, errors, logits,
										  embedding, interrupt, error);
	}
	if (indexes == NULL)
		return fa_no_memory(error, count * sizeof(int));
	ready.errors = errors;
	for (int i = 0; i < count; i++)
		if (crops[i].bytes != NULL)
			indexes[there++] = i;
	pipeline->work.images += there;
	if (pipeline->attributes.model == NULL)
		status = fa_fail(error, FA_INVALID, "no attribute model is loaded");
	else
		status = fa_run_crops(pipeline, there, make_ready_crop, NULL, take_ready_outputs, &ready,
							  interrupt, error);
	free(indexes);
	return status;
}

fa_status
fa_classify_crops(fa_pipeline *pipeline, const fa_bytes *crops, int count, int64_t max_pixels,
				  fa_face *faces, fa_error *errors, const fa_interrupt *interrupt, fa_error *error)
{
	return fa_classify(pipeline, crops, count, max_pixels, faces, errors, NULL, NULL, interrupt,
					   error);
}

fa_status
fa_crop_probabilities(fa_pipeline *pipeline, const void *bytes, size_t length, int64_t max_pixels,
					  int head, float *probabilities, const fa_interrupt *interrupt,
					  fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	fa_bytes crop = {bytes, length};
	float values[FA_MAX_HEADS][FA_MAX_CLASSES], *logits[FA_MAX_HEADS];
	fa_face face;
	fa_error own;

	if (head < 0 || head >= m->head_count)
		return fa_fail(error, FA_INVALID, "the model has no such head");
	for (int h = 0; h < FA_MAX_HEADS; h++)
		logits[h] = values[h];
	FA_TRY(
		fa_classify(pipeline, &crop, 1, max_pixels, &face, &own, logits, NULL, interrupt, error));
	if (own.status != FA_OK)
	{
		*error = own;
		return own.status;
	}
	fa_calibrated(values[head], m->heads[head].classes, m->heads[head].temperature, probabilities);
	return FA_OK;
}

int
fa_pipeline_embedding_size(const fa_pipeline *pipeline)
{
	return pipeline->attributes.embedding_size;
}

fa_status
fa_embed_crop(fa_pipeline *pipeline, const void *bytes, size_t length, int64_t max_pixels,
			  fa_face *face, float *embedding, const fa_interrupt *interrupt, fa_error *error)
{
	fa_bytes crop = {bytes, length};
	fa_error own;

	FA_TRY(
		fa_classify(pipeline, &crop, 1, max_pixels, face, &own, NULL, embedding, interrupt, error));
	if (own.status != FA_OK)
		*error = own;
	return own.status;
}
