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
#define PASSES 2                        /* of a photo */
#define LARGEST_BATCH 64                /* engine.h */
#define BATCH_BYTES ((size_t) 20 << 20) /* of canvases that go together, unless one is larger */
#define USUAL_SIZE 640                  /* that weights are packed for */
#define LARGE_SCALE 0.4                 /* side of the second pass's canvas, of the first's */
#define LARGE_CONTENT 0.8               /* of the canvas is photo, the rest border */

static const int channels[4] = {1, 1, 4, 10}; /* of cls, obj, bbox, kps */

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

/* pixels: canvas_height * canvas_width * 3 */
static fa_status
draw_canvas(const fa_view *view, const fa_detect_pass *p, uint8_t *pixels, fa_error *error)
{
	size_t stride = 3 * (size_t) p->canvas_width;
	fa_image inner = {p->width, p->height, stride, pixels + p->y * stride + 3 * (size_t) p->x};

	memset(pixels, p->fill, stride * (size_t) p->canvas_height);
	return fa_letterbox(&view->image, p->width, p->height, &inner, 0, error);
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

/* A pass over one of the photos, which waits for others of its shape or has been made. */
typedef struct planned
{
	fa_detected *photo;
	fa_detect_pass pass;
	bool done, here; /* here: its maps were read by this side */
} planned;

/* One photo after the other, all on the engine's device; not those that it has no room for. */
static fa_status
detect_on_device(fa_detector *d, planned *passes, int count, float min_score,
				 const fa_interrupt *interrupt, fa_error *error)
{
	for (int i = 0, n; i < count; i += n)
	{
		fa_detected *photo = passes[i].photo;
		fa_detect_pass own[PASSES];
		fa_detect_request request = {
			.passes = own, .outputs = (const int(*)[4]) d->outputs, .min_score = min_score};

		for (n = 0; i + n < count && passes[i + n].photo == photo; n++)
			own[n] = passes[i + n].pass;
		request.pass_count = n;
		FA_TRY(d->interface->detect(d->model, &photo->view->image, &request, &photo->detections,
									&photo->count, interrupt, error));
		for (int k = 0; k < n && photo->count >= 0; k++)
			passes[i + k].done = true;
		if (photo->count < 0)
			photo->count = 0;
	}
	return FA_OK;
}

/* Those among passes, from the first, of its shape that have not been made, and fit a batch. */
static int
choose_batch(const fa_detector *d, planned *passes, int count, planned **batch)
{
	const fa_detect_pass *first = &passes[0].pass;
	size_t bytes = 3 * (size_t) first->canvas_width * first->canvas_height;
	int n = 0;

	for (int i = 0; i < count; i++)
		if (!passes[i].done && passes[i].pass.canvas_width == first->canvas_width &&
			passes[i].pass.canvas_height == first->canvas_height && n < d->interface->batch &&
			(n == 0 || (size_t) (n + 1) * bytes <= BATCH_BYTES))
			batch[n++] = &passes[i];
	return n;
}

/* Where the outputs of so many canvases go, one image after the other in each. */
static fa_status
place_outputs(fa_detector *d, size_t cells, int count, float **outputs, fa_error *error)
{
	size_t needed = (cells + cells / 4 + cells / 16) * 16 * (size_t) count;
	float *next;

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
			next += (cells >> 2 * level) * channels[k] * (size_t) count;
		}
	return FA_OK;
}

/* The maps of a batch's image, to its photo's detections. */
static fa_status
read_maps(const fa_detector *d, const planned *of, int image, float *const *outputs,
		  float min_score, fa_error *error)
{
	size_t cells = (size_t) of->pass.canvas_width * of->pass.canvas_height / 64;

	for (int level = 0; level < LEVELS; level++)
	{
		const float *maps[4];

		for (int k = 0; k < 4; k++)
			maps[k] =
				outputs[d->outputs[level][k]] + (size_t) image * (cells >> 2 * level) * channels[k];
		FA_TRY(read_level(&of->pass, 8 << level, maps[0], maps[1], maps[2], maps[3], min_score,
						  &of->photo->detections, &of->photo->count, error));
	}
	return FA_OK;
}

static fa_status
run_batch(fa_detector *d, planned *const *passes, int count, float min_score,
		  const fa_interrupt *interrupt, fa_error *error)
{
	const fa_detect_pass *shape = &passes[0]->pass;
	size_t cells = (size_t) shape->canvas_width * shape->canvas_height / 64,
		   canvas = cells * 64 * 3;
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	fa_batch batch = {count, shape->canvas_height, shape->canvas_width, NULL};
	fa_status status = FA_OK;
	uint8_t *pixels;

	FA_TRY(place_outputs(d, cells, count, outputs, error));
	pixels = malloc(canvas * (size_t) count);
	if (pixels == NULL)
		return fa_no_memory(error, canvas * (size_t) count);
	for (int i = 0; i < count && status == FA_OK; i++)
		status = draw_canvas(passes[i]->photo->view, &passes[i]->pass, pixels + (size_t) i * canvas,
							 error);
	batch.pixels = pixels;
	if (status == FA_OK)
		status = d->interface->run(d->model, &batch, outputs, interrupt, error);
	free(pixels);
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		status = read_maps(d, passes[i], i, outputs, min_score, error);
		passes[i]->done = passes[i]->here = true;
	}
	return status;
}

/* Passes in any order; then, of photos that were not done on the device, the suppression. */
static fa_status
run_passes(fa_detector *d, planned *passes, int count, float min_score,
		   const fa_interrupt *interrupt, fa_error *error)
{
	planned *batch[LARGEST_BATCH];

	if (d->interface->detect != NULL)
		FA_TRY(detect_on_device(d, passes, count, min_score, interrupt, error));
	for (int i = 0; i < count; i++)
		if (!passes[i].done)
			FA_TRY(run_batch(d, batch, choose_batch(d, passes + i, count - i, batch), min_score,
							 interrupt, error));
	for (int i = 0; i < count; i++)
	{
		fa_detected *photo = passes[i].photo;

		if (passes[i].here && !passes[i].pass.large)
			photo->count =
				fa_non_max_suppression(photo->detections, photo->count, FA_DETECT_CANDIDATES,
									   FA_DETECT_OVERLAP, FA_DETECT_INSIDE);
	}
	return FA_OK;
}

fa_status
fa_detector_run(fa_detector *detector, fa_detected *photos, int count, int detect_size,
				float min_score, bool large_pass, const fa_interrupt *interrupt, fa_error *error)
{
	planned *passes = calloc((size_t) count * PASSES + 1, sizeof(planned));
	int n = 0;
	fa_status status;

	for (int i = 0; i < count; i++)
	{
		photos[i].detections = NULL;
		photos[i].count = 0;
	}
	if (passes == NULL)
		return fa_no_memory(error, (size_t) count * PASSES * sizeof(planned));
	for (int i = 0; i < count; i++)
	{
		fa_detect_pass first = place_first(photos[i].photo, detect_size);

		passes[n++] = (planned){.photo = &photos[i], .pass = first};
		if (large_pass && longer_side(first.width, first.height) > FA_DETECT_LARGE)
			passes[n++] =
				(planned){.photo = &photos[i], .pass = place_large(photos[i].photo, &first)};
	}
	status = run_passes(detector, passes, n, min_score, interrupt, error);
	free(passes);
	for (int i = 0; i < count && status != FA_OK; i++)
	{
		free(photos[i].detections);
		photos[i].detections = NULL;
		photos[i].count = 0;
	}
	return status;
}
