/*
 * pooling_backward.cu
 *		Gradients of what moves between pixels: pooling and upsampling. Every pixel gathers its
 *		own, so that nothing depends on who comes first.
 */
#include "device.cuh"
#include "train_kernels.h"

/* Adds what window (out_y, out_x) gives to pixel p: its gradient, where p is its first maximum. */
template <typename T>
__device__ inline void
gather(const T *in, const T *out, const T *dy, const fa_gpu_window &w, const fa_place &p, int out_y,
	   int out_x, float sums[8])
{
	size_t o = fa_offset(p.n, out_y, out_x, p.channel, w.out_h, w.out_w, w.channels);
	float largest[8], gradients[8], values[8];
	bool found[8] = {false, false, false, false, false, false, false, false};

	fa_load(out + o, largest);
	fa_load(dy + o, gradients);
	for (int ky = 0; ky < w.kernel; ky++)
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int y = out_y * w.stride - w.pad_top + ky, x = out_x * w.stride - w.pad_left + kx;

			if (y < 0 || y >= w.in_h || x < 0 || x >= w.in_w)
				continue;
			fa_load(in + fa_offset(p.n, y, x, p.channel, w.in_h, w.in_w, w.channels), values);
			for (int i = 0; i < 8; i++)
			{
				bool is_first = !found[i] && values[i] == largest[i];

				if (is_first && y == p.y && x == p.x)
					sums[i] += gradients[i];
				found[i] = found[i] || is_first;
			}
			if (y == p.y && x == p.x)
				return; /* what comes later is of no interest */
		}
}

template <typename T>
__global__ void
max_pool_backward(const T *in, const T *out, const T *dy, T *dx, fa_gpu_window w)
{
	fa_place p;
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};

	if (!fa_place_of(FA_INDEX, w.n, w.in_h, w.in_w, w.channels, &p))
		return;
	for (int ky = w.kernel - 1; ky >= 0; ky--)
		for (int kx = w.kernel - 1; kx >= 0; kx--)
		{
			int y = p.y + w.pad_top - ky, x = p.x + w.pad_left - kx;

			if (y >= 0 && x >= 0 && y % w.stride == 0 && x % w.stride == 0 &&
				y / w.stride < w.out_h && x / w.stride < w.out_w)
				gather(in, out, dy, w, p, y / w.stride, x / w.stride, sums);
		}
	fa_store(dx + fa_offset(p.n, p.y, p.x, p.channel, w.in_h, w.in_w, w.channels), sums);
}

template <typename T>
__global__ void
average_pool_backward(const T *dy, T *dx, int n, int area, int channels)
{
	int groups = channels / FA_GPU_CHANNELS;
	size_t index = FA_INDEX, image = index / groups / area;
	int channel = (int) (index % groups) * FA_GPU_CHANNELS;
	float values[8];

	if (image >= (size_t) n)
		return;
	fa_load(dy + image * channels + channel, values);
	for (int i = 0; i < 8; i++)
		values[i] /= (float) area;
	fa_store(dx + index * FA_GPU_CHANNELS, values);
}

template <typename T>
__global__ void
upsample_backward(const T *dy, T *dx, int n, int height, int width, int channels)
{
	fa_place p;
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8];

	if (!fa_place_of(FA_INDEX, n, height, width, channels, &p))
		return;
	for (int k = 0; k < 4; k++)
	{
		fa_load(dy + fa_offset(p.n, 2 * p.y + k / 2, 2 * p.x + k % 2, p.channel, 2 * height,
							   2 * width, channels),
				values);
		for (int i = 0; i < 8; i++)
			sums[i] += values[i];
	}
	fa_store(dx + fa_offset(p.n, p.y, p.x, p.channel, height, width, channels), sums);
}

fa_status
fa_gpu_max_pool_backward(const void *in, const void *out, const void *dy, void *dx,
						 const fa_gpu_window *w, fa_gpu_type type, cudaStream_t stream,
						 fa_error *error)
{
	size_t threads = (size_t) w->n * w->in_h * w->in_w * (w->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(max_pool_backward<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) in, (const T *) out, (const T *) dy, (T *) dx, *w));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_average_pool_backward(const void *dy, void *dx, int n, int area, int channels,
							 fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) n * area * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(average_pool_backward<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) dy, (T *) dx, n, area, channels));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_upsample_backward(const void *dy, void *dx, int n, int height, int width, int channels,
						 fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) n * height * width * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(upsample_backward<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) dy, (T *) dx, n, height, width, channels));
	return FA_LAUNCHED(error);
}
