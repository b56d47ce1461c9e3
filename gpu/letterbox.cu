/*
 * letterbox.cu
 *		A photo scaled onto the canvas that a detector sees, as src/vision/letterbox.c does:
 *		each axis averages areas where it shrinks and is bilinear where it grows.
 */
#include "device.cuh"

/* Of one axis: which inputs an output is the sum of. */
struct span
{
	int first, count;
	long long low, high; /* where it begins and ends, in 1/to of an input; shrinking alone */
	float part;          /* of the second input; growing alone */
};

__device__ inline span
span_of(int i, int from, int to)
{
	span s;

	if (from > to)
	{
		s.low = (long long) i * from;
		s.high = s.low + from;
		s.first = (int) (s.low / to);
		s.count = (int) ((s.high - 1) / to) - s.first + 1;
		s.part = 0;
	}
	else
	{
		double centre = (i + 0.5) * ((double) from / to) - 0.5;

		s.low = s.high = 0;
		s.first = (int) floor(centre);
		s.part = (float) (centre - s.first);
		if (s.first < 0 || s.first >= from - 1 || s.part == 0)
		{
			s.first = s.first < 0 ? 0 : s.first;
			s.part = 0;
		}
		s.count = s.part == 0 ? 1 : 2;
	}
	return s;
}

__device__ inline float
weight_of(const span &s, int k, int from, int to)
{
	long long begin, end;

	if (from <= to)
		return k == 0 ? 1 - s.part : s.part;
	begin = (long long) (s.first + k) * to;
	end = begin + to;
	return (float) ((double) ((end < s.high ? end : s.high) - (begin > s.low ? begin : s.low)) /
					from);
}

__device__ inline void
scaled_pixel(const fa_gpu_image &photo, int x, int y, int width, int height, uint8_t *to)
{
	span across = span_of(x, photo.width, width), down = span_of(y, photo.height, height);
	float sums[3] = {0.5f, 0.5f, 0.5f};

	for (int i = 0; i < across.count; i++)
	{
		float column[3] = {0, 0, 0}, share = weight_of(across, i, photo.width, width);

		for (int k = 0; k < down.count; k++)
		{
			const uint8_t *from = photo.pixels + (size_t) (down.first + k) * photo.stride +
								  3 * (size_t) (across.first + i);
			float weight = weight_of(down, k, photo.height, height);

			for (int c = 0; c < 3; c++)
				column[c] += weight * from[c];
		}
		for (int c = 0; c < 3; c++)
			sums[c] += share * column[c];
	}
	for (int c = 0; c < 3; c++)
		to[c] = (uint8_t) sums[c]; /* weights sum to 1: at most 255.5 and rounding */
}

__global__ void
letterbox(fa_gpu_image photo, fa_detect_pass pass, uint8_t *canvas)
{
	size_t i = FA_INDEX;
	int x = (int) (i % pass.canvas_width), y = (int) (i / pass.canvas_width);

	if (y >= pass.canvas_height)
		return;
	canvas += 3 * i;
	x -= pass.x;
	y -= pass.y;
	if (x >= 0 && x < pass.width && y >= 0 && y < pass.height)
		scaled_pixel(photo, x, y, pass.width, pass.height, canvas);
	else
		for (int c = 0; c < 3; c++)
			canvas[c] = pass.fill;
}

fa_status
fa_gpu_letterbox(const fa_gpu_image *photo, const fa_detect_pass *pass, uint8_t *canvas,
				 cudaStream_t stream, fa_error *error)
{
	FA_LAUNCH(letterbox, fa_blocks((size_t) pass->canvas_width * pass->canvas_height), FA_THREADS,
			  stream, *photo, *pass, canvas);
	return FA_LAUNCHED(error);
}
