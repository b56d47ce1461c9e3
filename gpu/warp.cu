/*
 * warp.cu
 *		Crops of photos through affine maps, as src/vision/warp.c cuts them: in the same
 *		fixed point, from the same samples.
 */
#include "device.cuh"

#include <string.h>

struct crops
{
	fa_gpu_crop crop[FA_GPU_CROPS];
};

__device__ inline long long
fixed(double value)
{
	return llrint(value * 4294967296.0);
}

/* Adds the bilinear value at (x, y), counted from the centre of the first pixel; edges repeat. */
__device__ inline void
add_sample(const fa_gpu_image &image, long long x, long long y, float sums[3])
{
	long long left = x >> 32, top = y >> 32;
	float across = (float) (uint32_t) x * 0x1p-32f, down = (float) (uint32_t) y * 0x1p-32f;
	int x0 = (int) (left < 0 ? 0 : left < image.width ? left : image.width - 1);
	int x1 = (int) (left + 1 < 0 ? 0 : left + 1 < image.width ? left + 1 : image.width - 1);
	int y0 = (int) (top < 0 ? 0 : top < image.height ? top : image.height - 1);
	int y1 = (int) (top + 1 < 0 ? 0 : top + 1 < image.height ? top + 1 : image.height - 1);
	const uint8_t *upper = image.pixels + (size_t) y0 * image.stride;
	const uint8_t *lower = image.pixels + (size_t) y1 * image.stride;

	for (int c = 0; c < 3; c++)
	{
		float p00 = upper[3 * x0 + c], p01 = upper[3 * x1 + c];
		float p10 = lower[3 * x0 + c], p11 = lower[3 * x1 + c];
		float above = p00 + (p01 - p00) * across, below = p10 + (p11 - p10) * across;

		sums[c] += above + (below - above) * down;
	}
}

__global__ void
warp(crops all, int count, int height, int width, uint8_t *pixels)
{
	size_t i = FA_INDEX, area = (size_t) height * width;
	int column = (int) (i % width), row = (int) (i / width % height), n;
	float sums[3] = {0, 0, 0}, share;
	long long x, y, dx, dy, ex, ey;

	if (i >= count * area)
		return;
	const fa_gpu_crop &crop = all.crop[i / area];
	n = crop.samples;
	x = fixed(crop.a * (0.5 / n) + crop.b * (row + 0.5 / n) + crop.c - 0.5);
	y = fixed(crop.d * (0.5 / n) + crop.e * (row + 0.5 / n) + crop.f - 0.5);
	dx = fixed(crop.a / n);
	dy = fixed(crop.d / n);
	ex = fixed(crop.b / n);
	ey = fixed(crop.e / n);
	x += dx * n * column;
	y += dy * n * column;
	for (int k = 0; k < n; k++, x += dx, y += dy)
		for (int j = 0; j < n; j++)
			add_sample(crop.source, x + j * ex, y + j * ey, sums);
	share = 1.0f / (float) (n * n);
	for (int c = 0; c < 3; c++)
		pixels[3 * i + c] = (uint8_t) (sums[c] * share + 0.5f);
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
