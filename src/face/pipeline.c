/*
 * pipeline.c
 *		Photo in, faces out: decode, detect, align, classify, verify; see face.h.
 *
 * A photo is decoded once, as small as detection allows. Faces that are too small
 * in that view for the classifier, though the file has more of them, are cut out of
 * the file and decoded larger. Boxes are clipped to the photo.
 */
#include "align.h"
#include "pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 8 /* of crops; what is left over goes one by one, so that two sizes are compiled */
#define SECOND_LOOK_BELOW 0.7         /* view pixels per crop pixel */
#define SECOND_LOOK_PIXELS (24 << 20) /* at most, of the part that is decoded again */

/* Adds the time since *since to *total; from there on, the next part is timed. */
static void
add_time(double *total, double *since)
{
	double now = fa_seconds();

	*total += now - *since;
	*since = now;
}

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

/* ---- Detection --------------------------------------------------------------------- */

void
fa_faces_free(fa_faces *faces)
{
	free(faces->faces);
	memset(faces, 0, sizeof(*faces));
}

static int
by_size(const void *left, const void *right)
{
	const fa_face *a = left, *b = right;
	double difference = fa_area(&b->box) - fa_area(&a->box);

	if (difference != 0)
		return difference > 0 ? 1 : -1;
	if (a->box.x1 != b->box.x1)
		return a->box.x1 < b->box.x1 ? -1 : 1;
	return a->box.y1 < b->box.y1 ? -1 : a->box.y1 > b->box.y1;
}

static void
clip(fa_rect *box, int width, int height)
{
	box->x1 = fmin(fmax(box->x1, 0), width);
	box->y1 = fmin(fmax(box->y1, 0), height);
	box->x2 = fmin(fmax(box->x2, box->x1), width);
	box->y2 = fmin(fmax(box->y2, box->y1), height);
}

/* Detections that are large enough, as faces, largest first. */
static fa_status
take_faces(const fa_detection *detections, int count, const fa_face_options *options,
		   fa_faces *faces, fa_error *error)
{
	faces->faces = calloc((size_t) count + 1, sizeof(fa_face));
	if (faces->faces == NULL)
		return fa_no_memory(error, count * sizeof(fa_face));
	for (int i = 0; i < count; i++)
	{
		const fa_detection *d = &detections[i];
		fa_face *face = &faces->faces[faces->count];
		double w = d->box.x2 - d->box.x1, h = d->box.y2 - d->box.y1;

		if (fmin(w, h) < options->min_face)
			continue;
		face->box = d->box;
		clip(&face->box, faces->width, faces->height);
		if (fa_area(&face->box) <= 0)
			continue;
		memcpy(face->landmarks, d->landmarks, sizeof(face->landmarks));
		face->score = face->detect_score = d->score;
		faces->count++;
	}
	qsort(faces->faces, (size_t) faces->count, sizeof(fa_face), by_size);
	return FA_OK;
}

/* Decodes, as small as detection allows. The caller frees *view's image, also after a failure. */
static fa_status
open_view(const void *bytes, size_t length, const fa_face_options *options, fa_photo *photo,
		  fa_view *view, const fa_interrupt *interrupt, fa_error *error)
{
	FA_TRY(fa_face_options_check(options, error));
	FA_TRY(fa_photo_open(photo, bytes, length, options->max_pixels, error));
	return fa_photo_decode(photo, fa_detector_eighths(photo, options->detect_size), view, interrupt,
						   error);
}

static fa_status
detect(fa_pipeline *pipeline, const fa_photo *photo, const fa_view *view,
	   const fa_face_options *options, fa_faces *faces, const fa_interrupt *interrupt,
	   fa_error *error)
{
	fa_detection *detections;
	double since = fa_seconds();
	int count;
	fa_status status;

	faces->width = photo->width;
	faces->height = photo->height;
	status =
		fa_detector_run(pipeline->detector, photo, view, options->detect_size, options->min_score,
						!options->one_pass, &detections, &count, interrupt, error);
	add_time(&pipeline->work.detect, &since);
	if (status != FA_OK)
		return status;
	status = take_faces(detections, count, options, faces, error);
	free(detections);
	return status;
}

/* ---- Crops --------------------------------------------------------------------------- */

/*
 * The second look: of faces that the view shows with too few pixels, though the file
 * has more. Each gets a part of the file of its own, or, where a file cannot be cut
 * up, all of them share a larger view.
 */
typedef struct closer_look
{
	int *eighths;         /* per face, at which to decode its part; 0: the view will do */
	fa_photo_part *parts; /* per face; no bytes: it has none */
	fa_view shared;       /* without an image: of no face */
} closer_look;

static void
look_away(closer_look *closer, const fa_faces *faces)
{
	for (int i = 0; i < faces->count && closer->parts != NULL; i++)
		fa_photo_part_free(&closer->parts[i]);
	free(closer->parts);
	free(closer->eighths);
	fa_image_free(&closer->shared.image);
}

/* 2, 4 or 8, as in fa_detector_eighths; 0 where that would be no gain */
static int
closer_eighths(const fa_view *view, double pixels)
{
	int eighths = 1;

	if (pixels >= SECOND_LOOK_BELOW)
		return 0;
	while (eighths < 8 && eighths < 8 * view->scale_x / pixels)
		eighths *= 2;
	return eighths / 8.0 <= 1.2 * view->scale_x ? 0 : eighths;
}

/* Parts of the file, unless they are more than all of it. */
static fa_status
cut_faces(const fa_photo *photo, const fa_rect *bounds, const int *indexes, int count,
		  closer_look *closer, const fa_interrupt *interrupt, fa_error *error)
{
	fa_photo_part *parts;
	double area = 0;
	fa_status status;

	for (int i = 0; i < count; i++)
		area += fa_area(&bounds[i]);
	if (area > (double) photo->width * photo->height)
		return fa_fail(error, FA_UNSUPPORTED, "the parts are larger than the photo");
	parts = calloc((size_t) count, sizeof(fa_photo_part));
	if (parts == NULL)
		return fa_no_memory(error, (size_t) count * sizeof(fa_photo_part));
	status = fa_photo_cut(photo, bounds, count, parts, interrupt, error);
	for (int i = 0; i < count && status == FA_OK; i++)
		closer->parts[indexes[i]] = parts[i];
	free(parts);
	return status;
}

/* A view that holds all of them, as long as memory should hold it. */
static fa_status
share_view(const fa_photo *photo, const fa_view *view, const fa_rect *bounds, int count,
		   int eighths, closer_look *closer, const fa_interrupt *interrupt, fa_error *error)
{
	fa_rect part = bounds[0];

	for (int i = 1; i < count; i++)
	{
		part.x1 = fmin(part.x1, bounds[i].x1);
		part.y1 = fmin(part.y1, bounds[i].y1);
		part.x2 = fmax(part.x2, bounds[i].x2);
		part.y2 = fmax(part.y2, bounds[i].y2);
	}
	while (eighths > 1 && fa_area(&part) * eighths * eighths / 64 > SECOND_LOOK_PIXELS)
		eighths /= 2;
	if (eighths / 8.0 <= 1.2 * view->scale_x)
		return FA_OK;
	return fa_photo_decode_region(photo, part, eighths, &closer->shared, interrupt, error);
}

static fa_status
look_closer(const fa_attribute_model *model, const fa_photo *photo, const fa_view *view,
			const fa_faces *faces, closer_look *closer, const fa_interrupt *interrupt,
			fa_error *error)
{
	size_t n = (size_t) faces->count + 1;
	fa_rect *bounds = calloc(n, sizeof(fa_rect));
	int *indexes = calloc(n, sizeof(int));
	int count = 0, eighths = 0;
	fa_status status = FA_OK;

	closer->eighths = calloc(n, sizeof(int));
	closer->parts = calloc(n, sizeof(fa_photo_part));
	if (bounds == NULL || indexes == NULL || closer->eighths == NULL || closer->parts == NULL)
		status = fa_no_memory(error, n * sizeof(fa_photo_part));
	for (int i = 0; i < faces->count && status == FA_OK; i++)
	{
		fa_affine map =
			fa_crop_to_photo(&faces->faces[i], model->landmark_template, 1.0, model->width);
		fa_rect part = fa_crop_bounds(map, model->width);

		clip(&part, photo->width, photo->height);
		closer->eighths[i] = closer_eighths(view, fa_affine_scale(map) * view->scale_x);
		if (closer->eighths[i] == 0 || fa_area(&part) <= 0)
			continue;
		eighths = closer->eighths[i] > eighths ? closer->eighths[i] : eighths;
		bounds[count] = part;
		indexes[count++] = i;
	}
	if (status == FA_OK && count > 0)
	{
		status = cut_faces(photo, bounds, indexes, count, closer, interrupt, error);
		if (status == FA_UNSUPPORTED || status == FA_DAMAGED)
			status = share_view(photo, view, bounds, count, eighths, closer, interrupt, error);
	}
	free(bounds);
	free(indexes);
	return status;
}

/* Does the view hold all that the crop shows of the photo? */
static bool
covers(const fa_view *view, const fa_photo *photo, fa_rect bounds)
{
	double x2 = view->x + view->image.width / view->scale_x;
	double y2 = view->y + view->image.height / view->scale_y;

	return view->image.pixels != NULL && fmax(bounds.x1, 0) >= view->x - 1 &&
		   fmax(bounds.y1, 0) >= view->y - 1 && fmin(bounds.x2, photo->width) <= x2 + 1 &&
		   fmin(bounds.y2, photo->height) <= y2 + 1;
}

/*
 * Runs the attribute network on crops, made one by one by make(argument, index,
 * pixels), and hands each one's outputs to take(argument, index, outputs).
 */
typedef fa_status (*make_crop)(void *argument, int index, uint8_t *pixels, fa_error *error);
typedef void (*take_outputs)(void *argument, int index, float *const *outputs);

static fa_status
run_crops(fa_pipeline *pipeline, int count, make_crop make, take_outputs take, void *argument,
		  const fa_interrupt *interrupt, fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	size_t crop_bytes = (size_t) m->height * m->width * 3;
	float *outputs[FA_MAX_OUTPUTS] = {NULL}, *values;
	size_t per_crop = (size_t) m->embedding_size;
	uint8_t *pixels = malloc(BATCH * crop_bytes);
	double since = fa_seconds();
	fa_status status = FA_OK;

	for (int h = 0; h < m->head_count; h++)
		per_crop += (size_t) m->heads[h].classes;
	values = malloc(BATCH * per_crop * sizeof(float));
	if (pixels == NULL || values == NULL)
		status = fa_no_memory(error, BATCH * (crop_bytes + per_crop * sizeof(float)));
	for (int first = 0; first < count && status == FA_OK;)
	{
		int n = count - first >= BATCH ? BATCH : 1;
		fa_batch batch = {n, m->height, m->width, pixels};
		float *next = values;

		outputs[m->embedding] = next;
		next += (size_t) n * m->embedding_size;
		for (int h = 0; h < m->head_count; h++)
		{
			outputs[m->outputs[h]] = next;
			next += (size_t) n * m->heads[h].classes;
		}
		for (int i = 0; i < n && status == FA_OK; i++)
			status = make(argument, first + i, pixels + i * crop_bytes, error);
		add_time(&pipeline->work.decode, &since);
		if (status == FA_OK)
			status = pipeline->interface->run(m->model, &batch, outputs, interrupt, error);
		for (int i = 0; i < n && status == FA_OK; i++)
		{
			float *mine[FA_MAX_HEADS + 1];

			for (int h = 0; h < m->head_count; h++)
				mine[h] = outputs[m->outputs[h]] + (size_t) i * m->heads[h].classes;
			mine[m->head_count] = outputs[m->embedding] + (size_t) i * m->embedding_size;
			take(argument, first + i, mine);
		}
		add_time(&pipeline->work.classify, &since);
		first += n;
	}
	free(pixels);
	free(values);
	return status;
}

/* The faces of a photo as crops. */
typedef struct photo_crops
{
	fa_pipeline *pipeline;
	const fa_photo *photo;
	const fa_view *view;
	const closer_look *closer;
	fa_faces *faces;
	bool verify;
	float *embeddings; /* or NULL */
	const fa_interrupt *interrupt;
} photo_crops;

static fa_status
make_photo_crop(void *argument, int index, uint8_t *pixels, fa_error *error)
{
	photo_crops *p = argument;
	const fa_attribute_model *m = &p->pipeline->attributes;
	const fa_face *face = &p->faces->faces[index];
	const fa_photo_part *part = &p->closer->parts[index];
	const fa_view *view = p->view;
	fa_view own = {0};
	fa_image crop;
	fa_status status;

	if (part->bytes != NULL)
	{
		FA_TRY(fa_photo_part_decode(part, p->closer->eighths[index], &own, p->interrupt, error));
		view = &own;
	}
	else if (p->closer->eighths[index] > 0 &&
			 covers(&p->closer->shared, p->photo,
					fa_crop_bounds(fa_crop_to_photo(face, m->landmark_template, 1.0, m->width),
								   m->width)))
		view = &p->closer->shared;
	status = fa_align_crop(view, face, m->landmark_template, 1.0, m->width, &crop, error);
	fa_image_free(&own.image);
	if (status != FA_OK)
		return status;
	memcpy(pixels, crop.pixels, (size_t) m->height * m->width * 3);
	fa_image_free(&crop);
	return FA_OK;
}

static void
unit_length(const float *from, float *to, int n)
{
	double squares = 0;

	for (int i = 0; i < n; i++)
		squares += (double) from[i] * from[i];
	for (int i = 0; i < n; i++)
		to[i] = squares > 0 ? (float) (from[i] / sqrt(squares)) : 0.0f;
}

static void
take_photo_outputs(void *argument, int index, float *const *outputs)
{
	photo_crops *p = argument;
	const fa_attribute_model *m = &p->pipeline->attributes;
	fa_face *face = &p->faces->faces[index];
	float probability;

	fa_set_attributes(m, outputs, face, &probability);
	if (p->verify)
		face->score = fa_verified_score(face->detect_score, probability, m->verification);
	if (p->embeddings != NULL)
		unit_length(outputs[m->head_count], p->embeddings + (size_t) index * m->embedding_size,
					m->embedding_size);
}

/* Takes out the faces, and their embeddings, whose verified score is too low. */
static void
drop_unverified(fa_faces *faces, float *embeddings, int dimension, float min_score)
{
	int kept = 0;

	for (int i = 0; i < faces->count; i++)
	{
		if (faces->faces[i].score < min_score)
			continue;
		faces->faces[kept] = faces->faces[i];
		if (embeddings != NULL)
			memmove(embeddings + (size_t) kept * dimension, embeddings + (size_t) i * dimension,
					dimension * sizeof(float));
		kept++;
	}
	faces->count = kept;
}

/* In a photo whose view is there; *faces and *embeddings are freed after a failure. */
static fa_status
find_in_view(fa_pipeline *pipeline, const fa_photo *photo, const fa_view *view,
			 const fa_face_options *options, bool classify, fa_faces *faces, float **embeddings,
			 const fa_interrupt *interrupt, fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	closer_look closer = {0};
	fa_status status = detect(pipeline, photo, view, options, faces, interrupt, error);

	if (status == FA_OK && classify && m->model == NULL)
		status = fa_fail(error, FA_INVALID, "no attribute model is loaded");
	if (status == FA_OK && embeddings != NULL)
	{
		size_t bytes_needed = (size_t) faces->count * m->embedding_size * sizeof(float);

		*embeddings = malloc(bytes_needed + 1);
		if (*embeddings == NULL)
			status = fa_no_memory(error, bytes_needed);
	}
	if (status == FA_OK && classify)
	{
		double since = fa_seconds();

		status = look_closer(m, photo, view, faces, &closer, interrupt, error);
		add_time(&pipeline->work.decode, &since);
	}
	if (status == FA_OK && classify)
	{
		photo_crops crops = {pipeline,
							 photo,
							 view,
							 &closer,
							 faces,
							 options->verify,
							 embeddings == NULL ? NULL : *embeddings,
							 interrupt};

		status = run_crops(pipeline, faces->count, make_photo_crop, take_photo_outputs, &crops,
						   interrupt, error);
	}
	look_away(&closer, faces);
	if (status == FA_OK && classify)
		drop_unverified(faces, embeddings == NULL ? NULL : *embeddings, m->embedding_size,
						options->min_score);
	if (status == FA_OK)
		pipeline->work.faces += faces->count;
	else
	{
		fa_faces_free(faces);
		if (embeddings != NULL)
		{
			free(*embeddings);
			*embeddings = NULL;
		}
	}
	return status;
}

fa_status
fa_find(fa_pipeline *pipeline, const void *bytes, size_t length, const fa_face_options *options,
		bool classify, fa_faces *faces, float **embeddings, const fa_interrupt *interrupt,
		fa_error *error)
{
	fa_photo photo;
	fa_view view = {0};
	double since = fa_seconds();
	fa_status status;

	memset(faces, 0, sizeof(*faces));
	if (pipeline->reader != NULL)
		return pipeline->reader->find(pipeline, bytes, length, options, classify, faces, embeddings,
									  interrupt, error);
	pipeline->work.images++;
	status = open_view(bytes, length, options, &photo, &view, interrupt, error);
	add_time(&pipeline->work.decode, &since);
	if (status == FA_OK)
		status = find_in_view(pipeline, &photo, &view, options, classify, faces, embeddings,
							  interrupt, error);
	fa_image_free(&view.image);
	return status;
}

fa_status
fa_find_faces(fa_pipeline *pipeline, const void *bytes, size_t length,
			  const fa_face_options *options, bool classify, fa_faces *faces,
			  const fa_interrupt *interrupt, fa_error *error)
{
	return fa_find(pipeline, bytes, length, options, classify, faces, NULL, interrupt, error);
}

fa_status
fa_find_faces_in(fa_pipeline *pipeline, const fa_image *image, const fa_face_options *options,
				 fa_faces *faces, const fa_interrupt *interrupt, fa_error *error)
{
	fa_photo photo = {.width = image->width, .height = image->height, .orientation = 1};
	fa_view view = {.image = *image, .scale_x = 1, .scale_y = 1};

	pipeline->work.images++;
	memset(faces, 0, sizeof(*faces));
	FA_TRY(fa_face_options_check(options, error));
	return find_in_view(pipeline, &photo, &view, options, true, faces, NULL, interrupt, error);
}

fa_status
fa_embed_faces(fa_pipeline *pipeline, const void *bytes, size_t length,
			   const fa_face_options *options, fa_faces *faces, float **embeddings, int *dimension,
			   const fa_interrupt *interrupt, fa_error *error)
{
	*embeddings = NULL;
	*dimension = pipeline->attributes.embedding_size;
	return fa_find(pipeline, bytes, length, options, true, faces, embeddings, interrupt, error);
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
		unit_length(outputs[m->head_count], r->embedding, m->embedding_size);
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
		status = run_crops(pipeline, there, make_ready_crop, take_ready_outputs, &ready, interrupt,
						   error);
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
