/*
 * sample.cuh
 *		A pixel of an image seen through an affine map, as src/vision/warp.c makes it: in the
 *		same fixed point, from the same samples.
 */
#ifndef FA_GPU_SAMPLE_CUH
#define FA_GPU_SAMPLE_CUH

#include "device.cuh"

__device__ inline long long
fa_fixed(double value)
{
	return llrint(value * 4294967296.0);
}

/* Adds the bilinear value at (x, y), counted from the centre of the first pixel; edges repeat. */
__device__ inline void
fa_add_sample(const fa_gpu_image &image, long long x, long long y, float sums[3])
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

/* The pixel (column, row) of a crop. */
__device__ inline void
fa_crop_pixel(const fa_gpu_crop &crop, int column, int row, uint8_t pixel[3])
{
	int n = crop.samples;
	float sums[3] = {0, 0, 0}, share = 1.0f / (float) (n * n);
	long long x = fa_fixed(crop.a * (0.5 / n) + crop.b * (row + 0.5 / n) + crop.c - 0.5);
	long long y = fa_fixed(crop.d * (0.5 / n) + crop.e * (row + 0.5 / n) + crop.f - 0.5);
	long long dx = fa_fixed(crop.a / n), dy = fa_fixed(crop.d / n);
	long long ex = fa_fixed(crop.b / n), ey = fa_fixed(crop.e / n);

	x += dx * n * column;
	y += dy * n * column;
	for (int k = 0; k < n; k++, x += dx, y += dy)
		for (int j = 0; j < n; j++)
			fa_add_sample(crop.source, x + j * ex, y + j * ey, sums);
	for (int c = 0; c < 3; c++)
		pixel[c] = (uint8_t) (sums[c] * share + 0.5f);
}

#endif
