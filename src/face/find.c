/*
 * find.c
 *		Photo in, faces out: decode, detect, align, classify, verify; see face.h and find.h.
 *
 * A photo is decoded once, as small as detection allows. Faces that are too small
 * in that view for the classifier, though the file has more of them, are cut out of
 * the file and decoded larger. Boxes are clipped to the photo.
 */
#include "find.h"

#include "align.h"
#include "crops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_LOOK_BELOW 0.7         /* view pixels per crop pixel */
#define SECOND_LOOK_PIXELS (24 << 20) /* at most, of the part that is decoded again */

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

static fa_status
detect(fa_finding *const *findings, int count, fa_pipeline *pipeline,
	   const fa_face_options *options, const fa_interrupt *interrupt, fa_error *error)
{
	fa_detected *photos = calloc((size_t) count + 1, sizeof(fa_detected));
	double since = fa_seconds();
	int n = 0;
	fa_status status;

	if (photos == NULL)
		return fa_no_memory(error, (size_t) count * sizeof(fa_detected));
	for (int i = 0; i < count; i++)
		if (findings[i]->error.status == FA_OK)
			photos[n++] = (fa_detected){.photo = &findings[i]->photo, .view = &findings[i]->view};
	status = fa_detector_run(pipeline->detector, photos, n, options->detect_size,
							 options->min_score, !options->one_pass, interrupt, error);
	fa_add_time(&pipeline->work.detect, &since);
	n = 0;
	for (int i = 0; i < count; i++)
	{
		fa_finding *f = findings[i];

		if (f->error.status != FA_OK)
			continue;
		f->faces.width = f->photo.width;
		f->faces.height = f->photo.height;
		if (status == FA_OK)
			status = take_faces(photos[n].detections, photos[n].count, options, &f->faces, error);
		free(photos[n++].detections);
	}
	free(photos);
	return status;
}

/* ---- Crops --------------------------------------------------------------------------- */

static void
look_away(fa_closer_look *closer)
{
	for (int i = 0; i < closer->count && closer->parts != NULL; i++)
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
		  fa_closer_look *closer, const fa_interrupt *interrupt, fa_error *error)
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
		   int eighths, fa_closer_look *closer, const fa_interrupt *interrupt, fa_error *error)
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
			const fa_faces *faces, fa_closer_look *closer, const fa_interrupt *interrupt,
			fa_error *error)
{
	size_t n = (size_t) faces->count + 1;
	fa_rect *bounds = calloc(n, sizeof(fa_rect));
	int *indexes = calloc(n, sizeof(int));
	int count = 0, eighths = 0;
	fa_status status = FA_OK;

	closer->count = faces->count;
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

/* Crops of the faces of many photos, numbered through. */
typedef struct photo_crops
{
	fa_pipeline *pipeline;
	fa_finding *const *findings;
	const int *finding, *face; /* of every crop */
	bool verify;
	const fa_interrupt *interrupt;
} photo_crops;

/* In the view, or in the closer look's; *own is what has been decoded for this face alone. */
static fa_status
locate(const fa_attribute_model *m, const fa_finding *f, int index, fa_warped *crop, fa_image *own,
	   const fa_interrupt *interrupt, fa_error *error)
{
	const fa_face *face = &f->faces.faces[index];
	const fa_photo_part *part = &f->closer.parts[index];
	const fa_view *view = &f->view;
	fa_view closer;

	crop->source = &view->image;
	if (part->bytes != NULL)
	{
		FA_TRY(fa_photo_part_decode(part, f->closer.eighths[index], &closer, interrupt, error));
		*own = closer.image;
		crop->source = own;
		view = &closer;
	}
	else if (f->closer.eighths[index] > 0 &&
			 covers(&f->closer.shared, &f->photo,
					fa_crop_bounds(fa_crop_to_photo(face, m->landmark_template, 1.0, m->width),
								   m->width)))
	{
		view = &f->closer.shared;
		crop->source = &view->image;
	}
	crop->map = fa_crop_to_view(view, face, m->landmark_template, 1.0, m->width);
	return FA_OK;
}

/* A photo that cannot be read after all spoils its own faces only. */
static fa_status
locate_photo_crop(void *argument, int index, fa_warped *crop, fa_image *own, fa_error *error)
{
	static uint8_t black[3];
	static const fa_image nothing = {1, 1, 3, black};
	photo_crops *p = argument;
	const fa_attribute_model *m = &p->pipeline->attributes;
	fa_finding *f = p->findings[p->finding[index]];

	if (f->error.status == FA_OK &&
		locate(m, f, p->face[index], crop, own, p->interrupt, &f->error) == FA_OK)
		return FA_OK;
	*crop = (fa_warped){&nothing, {.a = 1, .e = 1}};
	if (fa_is_photos_own(f->error.status))
		return FA_OK;
	*error = f->error;
	return error->status;
}

static void
take_photo_outputs(void *argument, int index, float *const *outputs)
{
	photo_crops *p = argument;
	const fa_attribute_model *m = &p->pipeline->attributes;
	fa_finding *f = p->findings[p->finding[index]];
	fa_face *face = &f->faces.faces[p->face[index]];
	float probability;

	fa_set_attributes(m, outputs, face, &probability);
	if (p->verify)
		face->score = fa_verified_score(face->detect_score, probability, m->verification);
	if (f->embeddings != NULL)
		fa_unit_length(outputs[m->head_count],
					   f->embeddings + (size_t) p->face[index] * m->embedding_size,
					   m->embedding_size);
}

/* Takes out the faces, and their embeddings, whose verified score is too low. */
static void
drop_unverified(fa_finding *f, int dimension, float min_score)
{
	fa_faces *faces = &f->faces;
	int kept = 0;

	for (int i = 0; i < faces->count; i++)
	{
		if (faces->faces[i].score < min_score)
			continue;
		faces->faces[kept] = faces->faces[i];
		if (f->embeddings != NULL)
			memmove(f->embeddings + (size_t) kept * dimension,
					f->embeddings + (size_t) i * dimension, dimension * sizeof(float));
		kept++;
	}
	faces->count = kept;
}

/* ---- Steps --------------------------------------------------------------------------- */

fa_status
fa_finding_open(fa_finding *f, const void *bytes, size_t length, const fa_face_options *options,
				fa_error *error)
{
	FA_TRY(fa_face_options_check(options, error));
	return fa_photo_open(&f->photo, bytes, length, options->max_pixels, error);
}

size_t
fa_finding_size(const fa_finding *f, const fa_face_options *options)
{
	int eighths = fa_detector_eighths(&f->photo, options->detect_size);
	size_t width = ((size_t) f->photo.width * eighths + 7) / 8;
	size_t height = ((size_t) f->photo.height * eighths + 7) / 8;

	return 3 * width * height;
}

fa_status
fa_finding_decode(fa_finding *f, const fa_face_options *options, const fa_interrupt *interrupt,
				  fa_error *error)
{
	return fa_photo_decode(&f->photo, fa_detector_eighths(&f->photo, options->detect_size),
						   &f->view, interrupt, error);
}

/* What classification needs of a photo beside its faces. */
static fa_status
prepare(fa_finding *f, fa_pipeline *pipeline, bool embed, const fa_interrupt *interrupt,
		fa_error *error)
{
	const fa_attribute_model *m = &pipeline->attributes;
	double since = fa_seconds();
	fa_status status;

	if (embed)
	{
		size_t bytes = (size_t) f->faces.count * m->embedding_size * sizeof(float);

		f->embeddings = malloc(bytes + 1);
		if (f->embeddings == NULL)
			return fa_no_memory(error, bytes);
	}
	status = look_closer(m, &f->photo, &f->view, &f->faces, &f->closer, interrupt, error);
	fa_add_time(&pipeline->work.decode, &since);
	return status;
}

fa_status
fa_findings_detect(fa_finding *const *findings, int count, fa_pipeline *pipeline,
				   const fa_face_options *options, bool classify, bool embed,
				   const fa_interrupt *interrupt, fa_error *error)
{
	FA_TRY(detect(findings, count, pipeline, options, interrupt, error));
	if (classify && pipeline->attributes.model == NULL)
		return fa_fail(error, FA_INVALID, "no attribute model is loaded");
	for (int i = 0; i < count && classify; i++)
	{
		fa_finding *f = findings[i];

		if (f->error.status != FA_OK)
			continue;
		f->error.status = prepare(f, pipeline, embed, interrupt, &f->error);
		if (f->error.status != FA_OK && !fa_is_photos_own(f->error.status))
		{
			*error = f->error;
			return error->status;
		}
	}
	return FA_OK;
}

fa_status
fa_findings_classify(fa_finding *const *findings, int count, fa_pipeline *pipeline,
					 const fa_face_options *options, const fa_interrupt *interrupt, fa_error *error)
{
	int crops = 0, n = 0, *numbers;
	photo_crops of = {.pipeline = pipeline,
					  .findings = findings,
					  .verify = options->verify,
					  .interrupt = interrupt};
	fa_status status;

	for (int i = 0; i < count; i++)
		crops += findings[i]->error.status == FA_OK ? findings[i]->faces.count : 0;
	numbers = malloc(((size_t) crops + 1) * 2 * sizeof(int));
	if (numbers == NULL)
		return fa_no_memory(error, (size_t) crops * 2 * sizeof(int));
	for (int i = 0; i < count; i++)
		for (int k = 0; k < findings[i]->faces.count && findings[i]->error.status == FA_OK; k++)
		{
			numbers[n] = i;
			numbers[crops + n++] = k;
		}
	of.finding = numbers;
	of.face = numbers + crops;
	status = fa_run_crops(pipeline, crops, NULL, locate_photo_crop, take_photo_outputs, &of,
						  interrupt, error);
	free(numbers);
	for (int i = 0; i < count && status == FA_OK; i++)
		if (findings[i]->error.status == FA_OK)
			drop_unverified(findings[i], pipeline->attributes.embedding_size, options->min_score);
	return status;
}

void
fa_finding_free(fa_finding *f)
{
	look_away(&f->closer);
	fa_faces_free(&f->faces);
	fa_image_free(&f->view.image);
	free(f->embeddings);
	memset(f, 0, sizeof(*f));
}

/* ---- One photo ------------------------------------------------------------------------- */

/* From a view on: its faces and embeddings become the caller's. */
static fa_status
find_in_view(fa_pipeline *pipeline, fa_finding *f, const fa_face_options *options, bool classify,
			 fa_faces *faces, float **embeddings, const fa_interrupt *interrupt, fa_error *error)
{
	FA_TRY(fa_findings_detect(&f, 1, pipeline, options, classify, embeddings != NULL, interrupt,
							  error));
	if (classify)
		FA_TRY(fa_findings_classify(&f, 1, pipeline, options, interrupt, error));
	if (f->error.status != FA_OK)
	{
		*error = f->error;
		return error->status;
	}
	pipeline->work.faces += f->faces.count;
	*faces = f->faces;
	memset(&f->faces, 0, sizeof(f->faces));
	if (embeddings != NULL)
		*embeddings = f->embeddings;
	f->embeddings = NULL;
	return FA_OK;
}

fa_status
fa_find(fa_pipeline *pipeline, const void *bytes, size_t length, const fa_face_options *options,
		bool classify, fa_faces *faces, float **embeddings, const fa_interrupt *interrupt,
		fa_error *error)
{
	fa_finding f = {0};
	double since = fa_seconds();
	fa_status status;

	memset(faces, 0, sizeof(*faces));
	if (pipeline->reader != NULL)
		return pipeline->reader->find(pipeline, bytes, length, options, classify, faces, embeddings,
									  interrupt, error);
	pipeline->work.images++;
	status = fa_finding_open(&f, bytes, length, options, error);
	if (status == FA_OK)
		status = fa_finding_decode(&f, options, interrupt, error);
	fa_add_time(&pipeline->work.decode, &since);
	if (status == FA_OK)
		status = find_in_view(pipeline, &f, options, classify, faces, embeddings, interrupt, error);
	fa_finding_free(&f);
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
	fa_finding f = {.photo = {.width = image->width, .height = image->height, .orientation = 1},
					.view = {.image = *image, .scale_x = 1, .scale_y = 1}};
	fa_status status;

	pipeline->work.images++;
	memset(faces, 0, sizeof(*faces));
	FA_TRY(fa_face_options_check(options, error));
	status = find_in_view(pipeline, &f, options, true, faces, NULL, interrupt, error);
	memset(&f.view, 0, sizeof(f.view)); /* the caller's */
	fa_finding_free(&f);
	return status;
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
