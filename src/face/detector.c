/*
 * detector.c
 *		Face detection with YuNet (Wu, Peng, Yu 2023); see detector.h.
 *
 * YuNet was trained on faces of some 10 to 300 pixels. The first pass sees the
 * photo at detect_size. The second sees it at 0.4 of that, a sixth of the pixels,
 * with a border around it so that a face may fill the photo; its small finds are
 * the first pass's business and are dropped. Where both found a face, the one whose
 * scale suits its size wins.
 */
#include "detector.h"

#include "../vision/warp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEVELS FA_DETECT_LEVELS
#define USUAL_SIZE 640    /* that weights are packed for */
#define LARGE_SCALE 0.4   /* side of the second pass's canvas, of the first's */
#define LARGE_CONTENT 0.8 /* of the canvas is photo, the rest border */

struct fa_detector
{
	const fa_engine_interface *interface;
	fa_model *model;
	int outputs[LEVELS][4]; /* cls, obj, bbox, kps */
	float *values;
	size_t value_count;
};

void
fa_detector_close(fa_detector *detector)
{
	if (detector == NULL)
		return;
	if (detector->model != NULL)
		detector->interface->unload(detector->model);
	free(detector->values);
	free(detector);
}

/* From packed weights where there are any, else from the file. */
static fa_status
load_network(fa_detector *d, fa_engine *engine, fa_precision precision, const char *path,
			 const void *block, size_t length, fa_error *error)
{
	static const char *const kinds[4] = {"cls", "obj", "bbox", "kps"};
	fa_weights weights = {0};
	fa_net net;
	fa_status status;

	if (path != NULL)
		FA_TRY(fa_weights_read(&weights, path, error));
	status = fa_net_yunet_n(&net, error);
	if (status == FA_OK)
	{
		status = block != NULL
					 ? d->interface->load_packed(engine, &net, precision, block, length, &d->model,
												 error)
					 : d->interface->load(engine, &net, &weights, precision, &d->model, error);
		for (int level = 0; level < LEVELS; level++)
			for (int k = 0; k < 4; k++)
			{
				char name[16];

				snprintf(name, sizeof(name), "%s_%d", kinds[k], 8 << level);
				d->outputs[level][k] = fa_net_find_output(&net, name);
			}
		fa_net_free(&net);
	}
	fa_weights_free(&weights);
	return status;
}

static fa_status
open_detector(const fa_engine_interface *interface, fa_engine *engine, fa_precision precision,
			  const char *path, const void *block, size_t length, fa_detector **detector,
			  fa_error *error)
{
	fa_detector *d = calloc(1, sizeof(fa_detector));

	*detector = NULL;
	if (d == NULL)
		return fa_no_memory(error, sizeof(fa_detector));
	d->interface = interface;
	if (load_network(d, engine, precision, path, block, length, error) != FA_OK)
	{
		fa_detector_close(d);
		return error->status;
	}
	*detector = d;
	return FA_OK;
}

fa_status
fa_detector_open(const fa_engine_interface *interface, fa_engine *engine, fa_precision precision,
				 const char *path, fa_detector **detector, fa_error *error)
{
	return open_detector(interface, engine, precision, path, NULL, 0, detector, error);
}

fa_status
fa_detector_open_packed(const fa_engine_interface *interface, fa_engine *engine,
						fa_precision precision, const void *block, size_t length,
						fa_detector **detector, fa_error *error)
{
	return open_detector(interface, engine, precision, NULL, block, length, detector, error);
}

fa_status
fa_detector_pack(fa_detector *d, void **block, size_t *length, fa_error *error)
{
	return d->interface->pack(d->model, USUAL_SIZE, USUAL_SIZE, block, length, error);
}

static int
longer_side(int width, int height)
{
	return width > height ? width : height;
}

/* One of 1, 2, 4 and 8: libjpeg-turbo has fast code for these, and 3/8 costs more than 4/8. */
int
fa_detector_eighths(const fa_photo *photo, int detect_size)
{
	int64_t side = longer_side(photo->width, photo->height);
	int eighths = 1;

	while (eighths < 8 && side * eighths < (int64_t) detect_size * 8)
		eighths *= 2;
	return eighths;
}

static int
round_up_32(int value)
{
	return (value + 31) / 32 * 32;
}

static int
at_least_1(double value)
{
	return value < 1 ? 1 : (int) lround(value);
}

/* A photo smaller than detect_size is not enlarged: there is nothing to gain. */
static fa_detect_pass
place_first(const fa_photo *photo, int detect_size)
{
	int side = longer_side(photo->width, photo->height);
	double scale = side > detect_size ? (double) detect_size / side : 1.0;
	fa_detect_pass p = {.width = at_least_1(photo->width * scale),
						.height = at_least_1(photo->height * scale)};

	p.canvas_width = round_up_32(p.width);
	p.canvas_height = round_up_32(p.height);
	p.scale = 1;
	p.photo_x = (double) photo->width / p.width;
	p.photo_y = (double) photo->height / p.height;
	return p;
}

static fa_detect_pass
place_large(const fa_photo *photo, const fa_detect_pass *first)
{
	int w = (int) (first->canvas_width * LARGE_SCALE) / 32 * 32;
	int h = (int) (first->canvas_height * LARGE_SCALE) / 32 * 32;
	fa_detect_pass p = {.canvas_width = w < 64 ? 64 : w,
						.canvas_height = h < 64 ? 64 : h,
						.fill = 255,
						.large = true};
	double scale = fmin(p.canvas_width * LARGE_CONTENT / first->width,
						p.canvas_height * LARGE_CONTENT / first->height);

	p.width = at_least_1(first->width * scale);
	p.height = at_least_1(first->height * scale);
	p.x = (p.canvas_width - p.width) / 2;
	p.y = (p.canvas_height - p.height) / 2;
	p.scale = scale;
	p.photo_x = (double) photo->width / p.width;
	p.photo_y = (double) photo->height / p.height;
	return p;
}

static fa_status
draw_canvas(const fa_view *view, const fa_detect_pass *p, fa_image *canvas, fa_error *error)
{
	fa_image inner;

	FA_TRY(fa_image_alloc(canvas, p->canvas_width, p->canvas_height, error));
	memset(canvas->pixels, p->fill, canvas->stride * (size_t) canvas->height);
	inner = *canvas;
	inner.pixels += p->y * canvas->stride + 3 * (size_t) p->x;
	inner.width = p->width;
	inner.height = p->height;
	if (fa_letterbox(&view->image, p->width, p->height, &inner, 0, error) != FA_OK)
	{
		fa_image_free(canvas);
		return error->status;
	}
	return FA_OK;
}

/* Grows *detections by doubling at powers of two. */
static fa_status
append(fa_detection **detections, int *count, const fa_detection *added, fa_error *error)
{
	if ((*count & (*count - 1)) == 0)
	{
		size_t bytes = (*count == 0 ? 1 : 2 * (size_t) *count) * sizeof(fa_detection);
		fa_detection *larger = realloc(*detections, bytes);

		if (larger == NULL)
			return fa_no_memory(error, bytes);
		*detections = larger;
	}
	(*detections)[(*count)++] = *added;
	return FA_OK;
}

/* One level's maps. */
static fa_status
read_level(const fa_detect_pass *p, int stride, const float *cls, const float *obj,
		   const float *boxes, const float *points, float min_score, fa_detection **detections,
		   int *count, fa_error *error)
{
	int cells = (p->canvas_width / stride) * (p->canvas_height / stride);

	for (int i = 0; i < cells; i++)
	{
		fa_detection d;

		if (fa_detect_cell(p, stride, i, cls[i], obj[i], boxes + 4 * (size_t) i,
						   points + 10 * (size_t) i, min_score, &d))
			FA_TRY(append(detections, count, &d, error));
	}
	return FA_OK;
}

static fa_status
run_pass(fa_detector *d, const fa_view *view, const fa_detect_pass *p, float min_score,
		 fa_detection **detections, int *count, const fa_interrupt *interrupt, fa_error *error)
{
	static const int channels[4] = {1, 1, 4, 10};
	size_t cells = (size_t) p->canvas_width * p->canvas_height / 64;
	size_t needed = (cells + cells / 4 + cells / 16) * 16;
	float *outputs[FA_MAX_OUTPUTS] = {NULL}, *next;
	fa_image canvas;
	fa_batch batch = {1, p->canvas_height, p->canvas_width, NULL};
	fa_status status;

	if (needed > d->value_count)
	{
		free(d->values);
		d->value_count = 0;
		d->values = malloc(needed * sizeof(float));
		if (d->values == NULL)
			return fa_no_memory(error, needed * sizeof(float));
		d->value_count = needed;
	}
	next = d->values;
	for (int level = 0; level < LEVELS; level++)
		for (int k = 0; k < 4; k++)
		{
			outputs[d->outputs[level][k]] = next;
			next += (cells >> 2 * level) * channels[k];
		}
	FA_TRY(draw_canvas(view, p, &canvas, error));
	batch.pixels = canvas.pixels;
	status = d->interface->run(d->model, &batch, outputs, interrupt, error);
	fa_image_free(&canvas);
	for (int level = 0; level < LEVELS && status == FA_OK; level++)
		status = read_level(p, 8 << level, outputs[d->outputs[level][0]],
							outputs[d->outputs[level][1]], outputs[d->outputs[level][2]],
							outputs[d->outputs[level][3]], min_score, detections, count, error);
	return status;
}

/* One pass after the other here. */
static fa_status
run_passes(fa_detector *d, const fa_view *view, const fa_detect_pass *passes, int pass_count,
		   float min_score, fa_detection **detections, int *count, const fa_interrupt *interrupt,
		   fa_error *error)
{
	for (int i = 0; i < pass_count; i++)
		FA_TRY(run_pass(d, view, &passes[i], min_score, detections, count, interrupt, error));
	*count = fa_non_max_suppression(*detections, *count, FA_DETECT_CANDIDATES, FA_DETECT_OVERLAP,
									FA_DETECT_INSIDE);
	return FA_OK;
}

/* All of them on the engine's device; *count is -1 where they are too many for it. */
static fa_status
detect_on_device(fa_detector *d, const fa_view *view, const fa_detect_pass *passes, int pass_count,
				 float min_score, fa_detection **detections, int *count,
				 const fa_interrupt *interrupt, fa_error *error)
{
	fa_detect_request request = {.passes = passes,
								 .pass_count = pass_count,
								 .outputs = (const int(*)[4]) d->outputs,
								 .min_score = min_score};

	return d->interface->detect(d->model, &view->image, &request, detections, count, interrupt,
								error);
}

fa_status
fa_detector_run(fa_detector *detector, const fa_photo *photo, const fa_view *view, int detect_size,
				float min_score, bool large_pass, fa_detection **detections, int *count,
				const fa_interrupt *interrupt, fa_error *error)
{
	fa_detect_pass passes[2];
	int pass_count = 1;
	fa_status status = FA_OK;

	*detections = NULL;
	*count = -1;
	passes[0] = place_first(photo, detect_size);
	if (large_pass && longer_side(passes[0].width, passes[0].height) > FA_DETECT_LARGE)
		passes[pass_count++] = place_large(photo, &passes[0]);
	if (detector->interface->detect != NULL)
		status = detect_on_device(detector, view, passes, pass_count, min_score, detections, count,
								  interrupt, error);
	if (status == FA_OK && *count < 0)
	{
		*count = 0;
		status = run_passes(detector, view, passes, pass_count, min_score, detections, count,
							interrupt, error);
	}
	if (status != FA_OK)
	{
		free(*detections);
		*detections = NULL;
		*count = 0;
	}
	return status;
}
