/*
 * negatives.c
 *		Collecting crops without a face; see negatives.h.
 */
#include "negatives.h"

#include <math.h>
#include <stdlib.h>

#include "../src/vision/warp.h"
#include "../src/random.h"

#define MAX_CROP 256
#define MIN_CROP 48
#define MIN_WINDOW 24   /* pixels of the photo */
#define MAX_OVERLAP 0.3 /* of a window with a find, as a share of the window */

static fa_status
add_crop(fa_negatives *negatives, int *capacity, const fa_image *crop, fa_error *error)
{
	if (negatives->count == *capacity)
	{
		int grown = *capacity > 0 ? 2 * *capacity : 256;
		fa_image *crops = realloc(negatives->crops, (size_t) grown * sizeof(*crops));

		if (crops == NULL)
			return fa_no_memory(error, (size_t) grown * sizeof(*crops));
		negatives->crops = crops;
		*capacity = grown;
	}
	negatives->crops[negatives->count++] = *crop;
	return FA_OK;
}

/* As many pixels as the photo has there, within limits. */
static int
crop_size(double side)
{
	return (int) fmin(MAX_CROP, fmax(MIN_CROP, side));
}

static bool
overlaps(const fa_faces *faces, double x, double y, double side)
{
	for (int i = 0; i < faces->count; i++)
	{
		const fa_rect *box = &faces->faces[i].box;
		double wide = fmin(box->x2, x + side) - fmax(box->x1, x);
		double high = fmin(box->y2, y + side) - fmax(box->y1, y);

		if (wide > 0 && high > 0 && wide * high > MAX_OVERLAP * side * side)
			return true;
	}
	return false;
}

/* A turned square somewhere in the photo; *crop stays empty where a find is in the way. */
static fa_status
background(const fa_view *view, const fa_faces *faces, fa_random *random, fa_image *crop,
		   fa_error *error)
{
	const fa_image *image = &view->image;
	double longest = fmin(image->width, image->height);
	double side =
		longest > MIN_WINDOW ? fa_random_log_between(random, MIN_WINDOW, longest) : longest;
	double x = fa_random_between(random, 0, image->width - side);
	double y = fa_random_between(random, 0, image->height - side);
	double angle = fa_random_between(random, -M_PI, M_PI);
	int size = crop_size(side);
	double step = side / size, a = step * cos(angle), b = step * sin(angle);
	fa_affine map = {a, -b, x + side / 2 - (a - b) * size / 2.0,
					 b, a,  y + side / 2 - (a + b) * size / 2.0};

	*crop = (fa_image){0};
	if (overlaps(faces, x / view->scale_x, y / view->scale_y, side / view->scale_x))
		return FA_OK;
	FA_TRY(fa_image_alloc(crop, size, size, error));
	if (fa_warp(image, map, crop, error) != FA_OK)
	{
		fa_image_free(crop);
		return error->status;
	}
	return FA_OK;
}

static fa_status
collect_finds(fa_negatives *negatives, int *capacity, const fa_view *view, const fa_faces *faces,
			  const double (*landmark_template)[2], fa_error *error)
{
	for (int i = 0; i < faces->count; i++)
	{
		const fa_face *face = &faces->faces[i];
		double eyes = hypot(face->landmarks[1][0] - face->landmarks[0][0],
							face->landmarks[1][1] - face->landmarks[0][1]);
		double side = eyes / (landmark_template[1][0] - landmark_template[0][0]) * view->scale_x;
		fa_image crop;

		if (fa_align_crop(view, face, landmark_template, FA_NEGATIVE_ZOOM,
						  crop_size(side * FA_NEGATIVE_ZOOM), &crop, error) != FA_OK)
		{
			if (error->status == FA_INVALID) /* landmarks in one point */
				continue;
			return error->status;
		}
		if (add_crop(negatives, capacity, &crop, error) != FA_OK)
		{
			fa_image_free(&crop);
			return error->status;
		}
	}
	return FA_OK;
}

static fa_status
collect_backgrounds(fa_negatives *negatives, int *capacity, const fa_view *view,
					const fa_faces *faces, int windows, fa_random *random, fa_error *error)
{
	for (int i = 0; i < windows; i++)
	{
		fa_image crop;

		FA_TRY(background(view, faces, random, &crop, error));
		if (crop.pixels != NULL && add_crop(negatives, capacity, &crop, error) != FA_OK)
		{
			fa_image_free(&crop);
			return error->status;
		}
	}
	return FA_OK;
}

typedef struct collection
{
	fa_negatives finds, backgrounds;
	int find_capacity, background_capacity;
} collection;

static fa_status
collect_photo(collection *c, fa_pipeline *pipeline, const fa_sample *sample,
			  const double (*landmark_template)[2], const fa_face_options *options, int windows,
			  fa_random *random, const fa_interrupt *interrupt, fa_error *error)
{
	fa_faces faces;
	fa_photo photo;
	fa_view view = {0};
	fa_status status;

	FA_TRY(fa_photo_open(&photo, sample->bytes, sample->length, options->max_pixels, error));
	FA_TRY(fa_find_faces(pipeline, sample->bytes, sample->length, options, false, &faces, interrupt,
						 error));
	status = fa_photo_decode(&photo, 8, &view, interrupt, error);
	if (status == FA_OK)
		status =
			collect_finds(&c->finds, &c->find_capacity, &view, &faces, landmark_template, error);
	if (status == FA_OK)
		status = collect_backgrounds(&c->backgrounds, &c->background_capacity, &view, &faces,
									 windows, random, error);
	fa_image_free(&view.image);
	fa_faces_free(&faces);
	return status;
}

fa_status
fa_negatives_collect(fa_negatives *negatives, fa_pipeline *pipeline, const fa_dataset *photos,
					 const double (*landmark_template)[2], float min_score, int windows,
					 uint64_t seed, const fa_interrupt *interrupt, fa_error *error)
{
	fa_face_options options = fa_default_options();
	collection c = {.finds = {0}};
	fa_status status = FA_OK;

	*negatives = (fa_negatives){0};
	options.min_score = min_score;
	options.min_face = 8;
	options.verify = false;
	for (int i = 0; i < photos->count && status == FA_OK; i++)
	{
		fa_random random = fa_random_seed(seed, 0, (uint64_t) i);

		status = collect_photo(&c, pipeline, &photos->samples[i], landmark_template, &options,
							   windows, &random, interrupt, error);
		if (status != FA_OK && status != FA_INTERRUPTED)
			fa_detail(error, "In photo \"%.200s\".", photos->samples[i].file);
	}
	if (status == FA_OK)
	{
		int capacity = c.find_capacity;

		negatives->finds = c.finds.count;
		while (status == FA_OK && c.backgrounds.count > 0)
		{
			status =
				add_crop(&c.finds, &capacity, &c.backgrounds.crops[c.backgrounds.count - 1], error);
			if (status == FA_OK)
				c.backgrounds.count--;
		}
		negatives->crops = c.finds.crops;
		negatives->count = c.finds.count;
		c.finds = (fa_negatives){0};
	}
	fa_negatives_free(&c.finds);
	fa_negatives_free(&c.backgrounds);
	if (status != FA_OK)
		fa_negatives_free(negatives);
	return status;
}

void
fa_negatives_free(fa_negatives *negatives)
{
	for (int i = 0; i < negatives->count; i++)
		fa_image_free(&negatives->crops[i]);
	free(negatives->crops);
	*negatives = (fa_negatives){0};
}

fa_status
fa_negatives_read(fa_negatives *negatives, const char *path, const char *weights, int threads,
				  fa_precision precision, const double (*landmark_template)[2], float min_score,
				  int windows, uint64_t seed, fa_error *error)
{
	fa_dataset photos;
	fa_pipeline *pipeline;
	fa_status status;

	if (path == NULL)
		return FA_OK;
	FA_TRY(fa_dataset_read(&photos, path, NULL, error));
	status = fa_pipeline_open(&fa_cpu_engine, &(fa_engine_options){.threads = threads}, precision,
							  weights, NULL, &pipeline, error);
	if (status == FA_OK)
	{
		status = fa_negatives_collect(negatives, pipeline, &photos, landmark_template, min_score,
									  windows, seed, NULL, error);
		fa_pipeline_close(pipeline);
	}
	fa_dataset_free(&photos);
	return status;
}
