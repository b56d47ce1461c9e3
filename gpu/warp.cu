/*
 * warp.cu
 *		Crops of photos through affine maps (sample.cuh).
 */
#include "sample.cuh"

#include <string.h>

struct crops
{
	fa_gpu_crop crop[FA_GPU_CROPS];
};

__global__ void
warp(crops all, int count, int height, int width, uint8_t *pixels)
{
	size_t i = FA_INDEX, area = (size_t) height * width;

	if (i < count * area)
		fa_crop_pixel(all.crop[i / area], (int) (i % width), (int) (i / width % height),
					  pixels + 3 * i);
}

fa_status
fa_gpu_warp(const fa_gpu_crop *given, int count, int height, int width, uint8_t *pixels,
			cudaStream_t stream, fa_error *error)
{
	crops all = {};

	memcpy(all.crop, given, count * sizeof(fa_gpu_crop));
	FA_LAUNCH(warp, fa_blocks((size_t) count * height * width), FA_THREADS, stream, all, count,
			  height, width, pixels);
	return FA_LAUNCHED(error);
}
