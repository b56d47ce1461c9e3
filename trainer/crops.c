/*
 * crops.c
 *		Making crops in threads; see crops.h. A crop shows more than the template's frame,
 *		so that a shifted or turned one still shows the photo, and so many pixels more
 *		that its middle is just what the network would see: nothing is resampled twice.
 */
#include "crops.h"

#include "../src/face/judge.h"
#include "../src/face/align.h"
#include "../src/face/nms.h"
#include "common.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MARGIN 0.15     /* of the frame's side, on each side */
#define JPEG_QUALITY 95 /* of crops: no chroma subsampling either */
#define COMPLAINTS 20   /* on standard error; the others are just counted */

struct fa_crop_maker
{
	fa_crop_options options;
	fa_crop_cache *caches[FA_CROP_TARGETS];
	fa_pool *pool;
	pthread_mutex_t lock; /* of what follows */
	fa_crop_counts counts;
	int complaints;
};

int
fa_crop_side(int size, double *zoom)
{
	int side = size + 2 * (int) lround(MARGIN * size);

	*zoom = (double) side / size;
	return side;
}

static void
skip(fa_crop_maker *maker, const fa_sample *sample, int64_t *count, const fa_error *reason)
{
	pthread_mutex_lock(&maker->lock);
	(*count)++;
	if (++maker->complaints <= COMPLAINTS)
		fprintf(stderr, "faceattr: %s skipped: %s%s%s\n", sample->file, reason->message,
				reason->detail[0] != '\0' ? ": " : "", reason->detail);
	if (maker->complaints == COMPLAINTS + 1)
		fprintf(stderr, "faceattr: more are skipped; at the end they are counted\n");
	pthread_mutex_unlock(&maker->lock);
}

/* FA_NOT_FOUND for a photo without a usable face, and which count that belongs to. */
static fa_status
choose_face(fa_crop_maker *maker, const fa_faces *faces, const fa_rect *box, int *chosen,
			int64_t **count, fa_error *error)
{
	*count = &maker->counts.no_face;
	*chosen = 0;
	if (faces->count == 0)
		return fa_fail(error, FA_NOT_FOUND, "no face is found");
	if (fa_area(box) > 0)
	{
		*chosen = fa_face_in_box(faces, box);
		if (*chosen < 0)
			return fa_fail(error, FA_NOT_FOUND, "no face is found where its box is");
	}
	else if (faces->count > 1)
	{
		*count = &maker->counts.several;
		return fa_fail(error, FA_NOT_FOUND, "there are %d faces, and no box says which is meant",
					   faces->count);
	}
	return FA_OK;
}

/* The face as a JPEG; pixels are decoded as large as the crop needs them. */
static fa_status
cut(const fa_crop_options *options, const fa_sample *photo_sample, const fa_face *face,
	fa_sample *crop, fa_error *error)
{
	const double(*landmark_template)[2] = (const double(*)[2]) options->landmark_template;
	double zoom;
	int side = fa_crop_side(options->size, &zoom), eighths;
	fa_affine map = fa_crop_to_photo(face, landmark_template, zoom, side);
	fa_photo photo;
	fa_view view = {0};
	fa_image image;
	fa_status status;

	FA_TRY(fa_photo_open(&photo, photo_sample->bytes, photo_sample->length,
						 fa_default_options().max_pixels, error));
	eighths = (int) fmin(8, fmax(1, ceil(8 / fa_affine_scale(map))));
	FA_TRY(fa_photo_decode_region(&photo, fa_crop_bounds(map, side), eighths, &view, NULL, error));
	status = fa_align_crop(&view, face, landmark_template, zoom, side, &image, error);
	fa_image_free(&view.image);
	FA_TRY(status);
	status = fa_photo_encode(&image, FA_FORMAT_JPEG, JPEG_QUALITY, &crop->bytes, &crop->length,
							 NULL, error);
	fa_image_free(&image);
	crop->zoom = (float) zoom;
	return status;
}

/* What is put into the cache for a photo: *crop's bytes are to be freed. */
static fa_status
crop_photo(fa_crop_maker *maker, fa_pipeline *pipeline, const fa_sample *sample, fa_sample *crop,
		   int64_t **count, fa_error *error)
{
	fa_face_options options = fa_default_options();
	fa_faces faces;
	int chosen;
	fa_status status;

	*count = &maker->counts.damaged;
	FA_TRY(fa_find_faces_anyhow(pipeline, sample->bytes, sample->length, &options, false, &faces,
								error));
	status = choose_face(maker, &faces, &sample->box, &chosen, count, error);
	if (status == FA_OK)
	{
		*count = &maker->counts.damaged;
		status = cut(&maker->options, sample, &faces.faces[chosen], crop, error);
	}
	fa_faces_free(&faces);
	return status;
}

/* A chip is kept as it is, if it can be decoded. */
static fa_status
look_over(const fa_sample *sample, fa_error *error)
{
	fa_photo photo;
	fa_view view;

	FA_TRY(fa_photo_open(&photo, sample->bytes, sample->length, fa_default_options().max_pixels,
						 error));
	FA_TRY(fa_photo_decode(&photo, 1, &view, NULL, error));
	fa_image_free(&view.image);
	return FA_OK;
}

static fa_status
keep(fa_crop_maker *maker, const fa_job *job, const fa_sample *crop, fa_error *error)
{
	FA_TRY(fa_crop_cache_add(maker->caches[job->target], crop, job->number, error));
	pthread_mutex_lock(&maker->lock);
	maker->counts.kept[job->target]++;
	pthread_mutex_unlock(&maker->lock);
	return FA_OK;
}

static fa_status
work(void *argument, void *state, const fa_job *job, fa_error *error)
{
	fa_crop_maker *maker = argument;
	fa_sample crop = job->sample;
	int64_t *count = &maker->counts.damaged;
	fa_status status;

	if (job->sample.bytes == NULL)
		status = fa_fail(error, FA_DAMAGED, "the image is NULL");
	else if (maker->options.ready)
		status = look_over(&job->sample, error);
	else
	{
		crop.bytes = NULL;
		status = crop_photo(maker, state, &job->sample, &crop, &count, error);
	}
	if (status == FA_OK)
		status = keep(maker, job, &crop, error);
	else if (status != FA_NO_MEMORY && status != FA_INTERNAL) /* the image's fault */
	{
		skip(maker, &job->sample, count, error);
		status = FA_OK;
	}
	if (crop.bytes != job->sample.bytes)
		free(crop.bytes);
	return status;
}

static fa_status
open_state(void *argument, void **state, fa_error *error)
{
	const fa_crop_options *o = &((fa_crop_maker *) argument)->options;
	fa_pipeline *pipeline;

	if (o->ready)
		return FA_OK;
	FA_TRY(
		fa_pipeline_open(&fa_cpu_engine, NULL, o->precision, o->weights, NULL, &pipeline, error));
	*state = pipeline;
	return FA_OK;
}

static void
close_state(void *state)
{
	fa_pipeline_close(state);
}

fa_status
fa_crop_maker_open(const fa_crop_options *options, int threads,
				   fa_crop_cache *const caches[FA_CROP_TARGETS], fa_crop_maker **maker,
				   fa_error *error)
{
	fa_crop_maker *opened = calloc(1, sizeof(*opened));
	fa_pool_work pool = {open_state, work, close_state, opened};
	fa_status status;

	*maker = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(*opened));
	opened->options = *options;
	for (int i = 0; i < FA_CROP_TARGETS; i++)
		opened->caches[i] = caches[i];
	pthread_mutex_init(&opened->lock, NULL);
	status = fa_pool_open(&pool, threads, &opened->pool, error);
	if (status != FA_OK)
	{
		pthread_mutex_destroy(&opened->lock);
		free(opened);
		return status;
	}
	*maker = opened;
	return FA_OK;
}

fa_status
fa_crop_maker_put(fa_crop_maker *maker, const fa_job *job, fa_error *error)
{
	return fa_pool_put(maker->pool, job, error);
}

fa_status
fa_crop_maker_close(fa_crop_maker *maker, bool now, fa_crop_counts *counts, fa_error *error)
{
	fa_status status = fa_pool_close(maker->pool, now, error);

	*counts = maker->counts;
	pthread_mutex_destroy(&maker->lock);
	free(maker);
	return status;
}
