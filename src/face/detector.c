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

#define LEVELS 3
#define USUAL_SIZE 640      /* that weights are packed for */
#define MAX_CANDIDATES 4000 /* enter suppression; a full stadium has fewer faces */
#define NMS_OVERLAP 0.45    /* as YuNet's authors evaluate */
#define NMS_INSIDE 0.85
#define LARGE_SCALE 0.4    /* side of the second pass's canvas, of the first's */
#define LARGE_CONTENT 0.8  /* of the canvas is photo, the rest border */
#define LARGE_FROM 240     /* pixels of the first canvas: larger faces suit the second pass */
#define LARGE_SMALLEST 100 /* and below this it has no say */

struct fa_detector
{
	const fa_engine_interface *interface;
	fa_model *model;
	int outputs[LEVELS][4]; /* cls, obj, bbox, kps */
	float *values;
	size_t value_count;
};

/* Where the photo lies on a canvas that the network sees. */
typedef struct placement
{
	int canvas_width, canvas_height; /* multiples of 32 */
	int x, y, width, height;         /* of the photo on it */
	bool large;
	double scale; /* pixels here of one pixel of the first canvas */
} placement;

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

	if (block == NULL)
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
static placement
place_first(const fa_photo *photo, int detect_size)
{
	int side = longer_side(photo->width, photo->height);
	double scale = side > detect_size ? (double) detect_size / side : 1.0;
	placement p = {.width = at_least_1(photo->width * scale),
				   .height = at_least_1(photo->height * scale)};

	p.canvas_width = round_up_32(p.width);
	p.canvas_height = round_up_32(p.height);
	p.scale = 1;
	return p;
}

static placement
place_large(const placement *first)
{
	int w = (int) (first->canvas_width * LARGE_SCALE) / 32 * 32;
	int h = (int) (first->canvas_height * LARGE_SCALE) / 32 * 32;
	placement p = {
		.canvas_width = w < 64 ? 64 : w, .canvas_height = h < 64 ? 64 : h, .large = true};
	double scale = fmin(p.canvas_width * LARGE_CONTENT / first->width,
						p.canvas_height * LARGE_CONTENT / first->height);

	p.width = at_least_1(first->width * scale);
	p.height = at_least_1(first->height * scale);
	p.x = (p.canvas_width - p.width) / 2;
	p.y = (p.canvas_height - p.height) / 2;
	p.scale = scale;
	return p;
}

static fa_status
draw_canvas(const fa_view *view, const placement *p, fa_image *canvas, fa_error *error)
{
	fa_image inner;

	FA_TRY(fa_image_alloc(canvas, p->canvas_width, p->canvas_height, error));
	if (p->large)
		memset(canvas->pixels, 255, canvas->stride * (size_t) canvas->height);
	inner = *canvas;
	inner.pixels += p->y * canvas->stride + 3 * (size_t) p->x;
	inner.width -= p->x;
	inner.height -= p->y;
	if (p->large)
	{
		inner.width = p->width;
		inner.height = p->height;
	}
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

/* Which pass should report a face of a size, in pixels of the first canvas. */
static float
preference(const placement *p, float score, double size)
{
	return score + (p->large == (size > LARGE_FROM) ? 1.0f : 0.0f);
}

/*
 * One level's maps: per cell a score sqrt(cls * obj), a box (centre offset and log
 * size in strides, from the cell's corner) and five points (offsets in strides).
 */
static fa_status
read_level(const placement *p, const fa_photo *photo, int stride, const float *cls,
		   const float *obj, const float *box, const float *points, float min_score,
		   fa_detection **detections, int *count, fa_error *error)
{
	int columns = p->canvas_width / stride, rows = p->canvas_height / stride;
	double sx = (double) photo->width / p->width, sy = (double) photo->height / p->height;

	for (int i = 0; i < rows * columns; i++)
	{
		const float *b = box + 4 * (size_t) i, *landmarks = points + 10 * (size_t) i;
		float product = cls[i] * obj[i];
		int x = i % columns, y = i / columns;
		double cx, cy, w, h, size;
		fa_detection d;

		if (!(product >= min_score * min_score))
			continue;
		cx = (x + (double) b[0]) * stride;
		cy = (y + (double) b[1]) * stride;
		w = exp(fmin(b[2], 8)) * stride;
		h = exp(fmin(b[3], 8)) * stride;
		size = sqrt(w * h) / p->scale;
		if (!isfinite(cx) || !isfinite(cy) || !isfinite(size) ||
			(p->large && size < LARGE_SMALLEST))
			continue;
		d.score = sqrtf(product);
		d.preference = preference(p, d.score, size);
		d.box = (fa_rect){(cx - w / 2 - p->x) * sx, (cy - h / 2 - p->y) * sy,
						  (cx + w / 2 - p->x) * sx, (cy + h / 2 - p->y) * sy};
		for (size_t k = 0; k < 5; k++)
		{
			d.landmarks[k][0] = ((x + (double) landmarks[2 * k]) * stride - p->x) * sx;
			d.landmarks[k][1] = ((y + (double) landmarks[2 * k + 1]) * stride - p->y) * sy;
		}
		FA_TRY(append(detections, count, &d, error));
	}
	return FA_OK;
}

static fa_status
run_pass(fa_detector *d, const fa_photo *photo, const fa_view *view, const placement *p,
		 float min_score, fa_detection **detections, int *count, const fa_interrupt *interrupt,
		 fa_error *error)
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
		status = read_level(p, photo, 8 << level, outputs[d->outputs[level][0]],
							outputs[d->outputs[level][1]], outputs[d->outputs[level][2]],
							outputs[d->outputs[level][3]], min_score, detections, count, error);
	return status;
}

fa_status
fa_detector_run(fa_detector *detector, const fa_photo *photo, const fa_view *view, int detect_size,
				float min_score, bool large_pass, fa_detection **detections, int *count,
				const fa_interrupt *interrupt, fa_error *error)
{
	placement first = place_first(photo, detect_size), large = place_large(&first);
	fa_status status;

	*detections = NULL;
	*count = 0;
	status =
		run_pass(detector, photo, view, &first, min_score, detections, count, interrupt, error);
	if (status == FA_OK && large_pass && longer_side(first.width, first.height) > LARGE_FROM)
		status =
			run_pass(detector, photo, view, &large, min_score, detections, count, interrupt, error);
	if (status != FA_OK)
	{
		free(*detections);
		*detections = NULL;
		*count = 0;
		return status;
	}
	*count = fa_non_max_suppression(*detections, *count, MAX_CANDIDATES, NMS_OVERLAP, NMS_INSIDE);
	return FA_OK;
}
