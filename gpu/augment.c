/*
 * augment.c
 *		Training images augmented on the device: their sources and recipes go up in one
 *		piece, kernels leave the batch where the forward pass reads it; see engine.h.
 *
 * Room for the sources grows with the largest batch so far. What is queued here ends at the
 * latest with the forward pass, or here, before anything it uses is touched again.
 */
#include "trainer.h"

#include <string.h>

static size_t
rounded(size_t size)
{
	return (size + 255) / 256 * 256;
}

static size_t
source_bytes(const fa_image *image)
{
	return rounded((size_t) image->height * image->width * 3);
}

/* At least so many bytes of `sources`, on both sides. */
static fa_status
reserve_sources(fa_trainer *t, size_t bytes, fa_error *error)
{
	if (t->sources.size >= bytes)
		return FA_OK;
	fa_gpu_give(&t->engine->memory, &t->sources);
	if (t->pinned_sources != NULL)
		cudaFreeHost(t->pinned_sources);
	t->pinned_sources = NULL;
	FA_TRY(fa_gpu_status(cudaMallocHost((void **) &t->pinned_sources, bytes + bytes / 4),
						 "to give memory of the host", error));
	return fa_gpu_take(&t->engine->memory, bytes + bytes / 4, "for images", &t->sources, error);
}

static fa_status
set_up_studio(fa_trainer *t, fa_gpu_studio *studio, fa_error *error)
{
	size_t area = (size_t) t->options.height * t->options.height;
	size_t faces = rounded(t->options.count * area * 3);
	size_t planes = t->options.count * fa_gpu_plane_bytes(t->options.height);

	if (t->studio.address == NULL)
		FA_TRY(fa_gpu_take(&t->engine->memory, faces + faces * sizeof(float) + planes, "for images",
						   &t->studio, error));
	studio->faces = (uint8_t *) t->studio.address;
	studio->blurred = (float *) (void *) (t->studio.address + faces);
	studio->planes = (uint8_t *) t->studio.address + faces + faces * sizeof(float);
	return FA_OK;
}

static fa_status
describe(const fa_augmented *image, const uint8_t *source, int size, fa_gpu_augmented *to,
		 fa_error *error)
{
	const fa_augmentation *how = &image->how;
	const fa_affine *map = &how->frame;

	if (how->pixels < 1 || how->pixels > size)
		return fa_fail(error, FA_INVALID, "a face of %d pixels cannot be one of %d", how->pixels,
					   size);
	*to = (fa_gpu_augmented){
		.face = {.source = {source, (size_t) image->source.width * 3, image->source.width,
							image->source.height},
				 .a = map->a,
				 .b = map->b,
				 .c = map->c,
				 .d = map->d,
				 .e = map->e,
				 .f = map->f},
		.noise_key = how->noise_key,
		.pixels = how->pixels,
		.recolours = how->recolours,
		.radius = fa_blur_radius(how->blur),
		.quality = how->quality,
		.offset = how->offset,
		.noise = (int32_t) (65536 * how->noise / FA_NOISE_DEVIATION),
		.blur = (float) how->blur,
	};
	memcpy(to->colours, how->colours, sizeof(to->colours));
	memcpy(to->tones, how->tones, sizeof(to->tones));
	return fa_warp_samples(*map, how->pixels, how->pixels, &to->face.samples, error);
}

/* Recipes and sources, as they are to lie on the device. */
static fa_status
pack(fa_trainer *t, const fa_augmented *images, fa_error *error)
{
	fa_gpu_augmented *recipes = (fa_gpu_augmented *) (void *) t->pinned_sources;
	size_t place = rounded(t->options.count * sizeof(fa_gpu_augmented));

	for (int i = 0; i < t->options.count; i++)
	{
		const fa_image *source = &images[i].source;
		size_t row = (size_t) source->width * 3;

		FA_TRY(describe(&images[i], (const uint8_t *) t->sources.address + place, t->options.height,
						&recipes[i], error));
		for (int y = 0; y < source->height; y++)
			memcpy(t->pinned_sources + place + y * row, source->pixels + y * source->stride, row);
		place += source_bytes(source);
	}
	return FA_OK;
}

static fa_status
augment(fa_trainer *t, const fa_augmented *images, fa_blend blend, uint8_t *pixels, fa_error *error)
{
	int count = t->options.count, size = t->options.height;
	size_t bytes = rounded(count * sizeof(fa_gpu_augmented));
	cudaStream_t stream = t->engine->stream;
	fa_gpu_studio studio;

	for (int i = 0; i < count; i++)
		bytes += source_bytes(&images[i].source);
	FA_TRY(reserve_sources(t, bytes, error));
	FA_TRY(set_up_studio(t, &studio, error));
	FA_TRY(pack(t, images, error));
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(t->sources.address, t->pinned_sources, bytes,
										 cudaMemcpyHostToDevice, stream),
						 "to take images", error));
	FA_TRY(fa_gpu_augment((const fa_gpu_augmented *) (void *) t->sources.address, count, size,
						  blend, &studio, t->pixels, stream, error));
	if (pixels == NULL)
		return FA_OK;
	bytes = (size_t) count * size * size * 3;
	FA_TRY(
		fa_gpu_status(cudaMemcpyAsync(t->pinned, t->pixels, bytes, cudaMemcpyDeviceToHost, stream),
					  "to give pixels", error));
	FA_TRY(fa_gpu_status(cudaStreamSynchronize(stream), "to augment images", error));
	memcpy(pixels, t->pinned, bytes);
	return FA_OK;
}

fa_status
fa_cuda_augment(fa_trainer *t, const fa_augmented *images, fa_blend blend, uint8_t *pixels,
				fa_error *error)
{
	fa_status status;

	if (t->options.height != t->options.width)
		return fa_fail(error, FA_INVALID, "only squares are augmented");
	t->augmented = false;
	FA_TRY(fa_gpu_status(cudaStreamSynchronize(t->engine->stream), "to augment images", error));
	status = augment(t, images, blend, pixels, error);
	t->augmented = status == FA_OK;
	if (status != FA_OK)
		cudaStreamSynchronize(t->engine->stream);
	return status;
}
