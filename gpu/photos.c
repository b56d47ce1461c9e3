/*
 * photos.c
 *		Photos on the device; see photos.h. All of it is in the order of the engine's
 *		stream: what is in `photos` is replaced when the kernels before have read it.
 */
#include "photos.h"

#include <stdlib.h>
#include <string.h>

#define KEPT (64 << 20) /* bytes of pictures, for the next ones */

static size_t
rounded(size_t size)
{
	return (size + 255) / 256 * 256;
}

static size_t
bytes_of(const fa_image *image)
{
	return (size_t) (image->height - 1) * image->stride + 3 * (size_t) image->width;
}

static fa_status
reserve(fa_engine *engine, size_t size, fa_gpu_block *block, fa_error *error)
{
	if (block->size >= size)
		return FA_OK;
	fa_gpu_give(&engine->memory, block);
	return fa_gpu_take(&engine->memory, size, "for photos", block, error);
}

void
fa_gpu_tidy_photos(fa_engine *engine)
{
	if (engine->photos.size > KEPT)
		fa_gpu_give(&engine->memory, &engine->photos);
}

/* Onto the device, at a place among the photos. */
static fa_status
send(fa_engine *engine, const fa_image *image, size_t place, fa_gpu_image *sent, fa_error *error)
{
	char *to = engine->photos.address + place;

	*sent = (fa_gpu_image){(const uint8_t *) to, image->stride, image->width, image->height};
	return fa_gpu_status(
		cudaMemcpyAsync(to, image->pixels, bytes_of(image), cudaMemcpyHostToDevice, engine->stream),
		"to take a photo", error);
}

/* --- Crops ------------------------------------------------------------------------------ */

/* Neighbours often are of one photo. */
static bool
same_source(const fa_warped *crops, int index)
{
	return index > 0 && crops[index].source == crops[index - 1].source;
}

fa_status
fa_gpu_reserve_photos(fa_engine *engine, const fa_warped *crops, int count, int part,
					  fa_error *error)
{
	size_t most = 0;

	for (int first = 0; first < count; first += part)
	{
		size_t size = 0;

		for (int i = first; i < count && i < first + part; i++)
			if (i == first || !same_source(crops, i))
				size += rounded(bytes_of(crops[i].source));
		most = size > most ? size : most;
	}
	return reserve(engine, most, &engine->photos, error);
}

fa_status
fa_gpu_warp_part(fa_engine *engine, const fa_gpu_program *p, const fa_warped *crops, int count,
				 fa_error *error)
{
	uint8_t *pixels = (uint8_t *) p->arena.address + p->pixels;
	size_t each = (size_t) p->height * p->width * 3, place = 0;
	fa_gpu_crop some[FA_GPU_CROPS];

	for (int i = 0; i < count; i++)
	{
		int k = i % FA_GPU_CROPS;
		const fa_affine *map = &crops[i].map;

		if (i == 0 || !same_source(crops, i))
		{
			FA_TRY(send(engine, crops[i].source, place, &some[k].source, error));
			place += rounded(bytes_of(crops[i].source));
		}
		else
			some[k].source = some[(k + FA_GPU_CROPS - 1) % FA_GPU_CROPS].source;
		FA_TRY(fa_warp_samples(*map, p->width, p->height, &some[k].samples, error));
		some[k].a = map->a;
		some[k].b = map->b;
		some[k].c = map->c;
		some[k].d = map->d;
		some[k].e = map->e;
		some[k].f = map->f;
		if (k == FA_GPU_CROPS - 1 || i == count - 1)
			FA_TRY(fa_gpu_warp(some, k + 1, p->height, p->width, pixels + (i - k) * each,
							   engine->stream, error));
	}
	if (count == p->count)
		return FA_OK;
	return fa_gpu_status(
		cudaMemsetAsync(pixels + count * each, 0, (p->count - count) * each, engine->stream),
		"to fill a batch", error);
}

/* --- Detection ---------------------------------------------------------------------------- */

/* What detection works with, in one block: the first two begin as zeros. */
#define DROPPED 256
#define BEST (DROPPED + (FA_DETECT_CANDIDATES + 255) / 256 * 256)
#define SORTED (BEST + FA_DETECT_CANDIDATES * sizeof(fa_detection))
#define CANDIDATES (SORTED + FA_DETECT_CANDIDATES * sizeof(fa_detection))
#define WORK_SIZE (CANDIDATES + FA_GPU_CANDIDATES * sizeof(fa_gpu_candidate))

typedef struct detector_work
{
	fa_gpu_found *found;
	uint8_t *dropped;
	fa_detection *kept, *sorted;
	fa_gpu_candidate *candidates;
} detector_work;

static detector_work
work_in(char *block)
{
	return (detector_work){(fa_gpu_found *) block, (uint8_t *) block + DROPPED,
						   (fa_detection *) (block + BEST), (fa_detection *) (block + SORTED),
						   (fa_gpu_candidate *) (block + CANDIDATES)};
}

/* One look at the photo: the canvas, the network, the detections. */
static fa_status
start_pass(fa_model *model, const fa_gpu_image *photo, const fa_detect_request *request, int index,
		   const detector_work *to, const fa_interrupt *interrupt, fa_error *error)
{
	const fa_detect_pass *pass = &request->passes[index];
	fa_engine *engine = model->engine;
	fa_gpu_program *p = fa_gpu_find_program(model, 1, pass->canvas_height, pass->canvas_width);
	int64_t first = (int64_t) index << 32;

	if (p == NULL) /* nothing may be at work where programs come and go */
	{
		FA_TRY(fa_gpu_status(cudaStreamSynchronize(engine->stream), "to detect", error));
		FA_TRY(fa_gpu_add_program(model, 1, pass->canvas_height, pass->canvas_width, interrupt, &p,
								  error));
	}
	FA_TRY(fa_gpu_letterbox(photo, pass, (uint8_t *) p->arena.address + p->pixels, engine->stream,
							error));
	FA_TRY(fa_gpu_program_input(model, p, error));
	FA_TRY(fa_gpu_program_start(model, p, interrupt, error));
	for (int level = 0; level < FA_DETECT_LEVELS; level++)
	{
		int stride = 8 << level;
		const float *maps[4];

		for (int k = 0; k < 4; k++)
			maps[k] = fa_gpu_output_of(model, p, request->outputs[level][k]);
		FA_TRY(fa_gpu_detect(pass, stride, maps, request->min_score, first, to->candidates,
							 to->found, engine->stream, error));
		first += (int64_t) (pass->canvas_width / stride) * (pass->canvas_height / stride);
	}
	return FA_OK;
}

static fa_status
fetch(fa_engine *engine, void *to, const void *from, size_t size, fa_error *error)
{
	cudaError_t ended;
	fa_status status =
		fa_gpu_status(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, engine->stream),
					  "to detect", error);

	ended = cudaStreamSynchronize(engine->stream);
	FA_TRY(fa_gpu_status(ended, "to detect", error));
	return status;
}

static fa_status
detect(fa_model *model, const fa_image *image, const fa_detect_request *request,
	   fa_detection **detections, int *count, const fa_interrupt *interrupt, fa_error *error)
{
	fa_engine *engine = model->engine;
	fa_gpu_found found;
	fa_gpu_image photo;
	detector_work at;

	FA_TRY(reserve(engine, bytes_of(image), &engine->photos, error));
	FA_TRY(reserve(engine, WORK_SIZE, &engine->found, error));
	at = work_in(engine->found.address);
	FA_TRY(fa_gpu_status(cudaMemsetAsync(at.found, 0, BEST, engine->stream), "to detect", error));
	FA_TRY(send(engine, image, 0, &photo, error));
	for (int i = 0; i < request->pass_count; i++)
		FA_TRY(start_pass(model, &photo, request, i, &at, interrupt, error));
	FA_TRY(fa_gpu_sort(at.candidates, at.found, at.sorted, engine->stream, error));
	FA_TRY(fa_gpu_suppress(at.sorted, at.dropped, at.kept, at.found, engine->stream, error));
	FA_TRY(fetch(engine, &found, at.found, sizeof(found), error));
	if (found.found > FA_GPU_CANDIDATES)
		return FA_OK;
	*detections = malloc((found.kept + 1) * sizeof(fa_detection));
	if (*detections == NULL)
		return fa_no_memory(error, found.kept * sizeof(fa_detection));
	if (found.kept > 0)
		FA_TRY(fetch(engine, *detections, at.kept, found.kept * sizeof(fa_detection), error));
	*count = found.kept;
	return FA_OK;
}

fa_status
fa_cuda_detect(fa_model *model, const fa_image *photo, const fa_detect_request *request,
			   fa_detection **detections, int *count, const fa_interrupt *interrupt,
			   fa_error *error)
{
	cudaError_t ended;
	fa_status status;

	*detections = NULL;
	*count = -1;
	status = detect(model, photo, request, detections, count, interrupt, error);
	if (status != FA_OK)
	{
		/* nothing outlives this call; and it knows better than cuDNN what has failed */
		ended = cudaStreamSynchronize(model->engine->stream);
		if (ended != cudaSuccess)
			status = fa_gpu_status(ended, "to detect", error);
		free(*detections);
		*detections = NULL;
		*count = -1;
	}
	fa_gpu_tidy_photos(model->engine);
	return status;
}
