/*
 * depthwise_backward.cu
 *		Gradients of a depthwise convolution: of its input, gathered by every pixel, and of its
 *		filter, summed as in sums.cu.
 */
#include "device.cuh"
#include "train_kernels.h"

template <typename T>
__global__ void
depthwise_backward_data(const T *dy, const float *filter, T *dx, fa_gpu_window w)
{
	fa_place p;
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8];

	if (!fa_place_of(FA_INDEX, w.n, w.in_h, w.in_w, w.channels, &p))
		return;
	for (int ky = 0; ky < w.kernel; ky++)
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int y = p.y + w.pad_top - ky, x = p.x + w.pad_left - kx;
			const float *weights = filter + (ky * w.kernel + kx) * w.channels + p.channel;

			if (y < 0 || x < 0 || y % w.stride != 0 || x % w.stride != 0 ||
				y / w.stride >= w.out_h || x / w.stride >= w.out_w)
				continue;
			fa_load(dy + fa_offset(p.n, y / w.stride, x / w.stride, p.channel, w.out_h, w.out_w,
								   w.channels),
					values);
			for (int i = 0; i < 8; i++)
				sums[i] += values[i] * fa_to_float(weights[i]);
		}
	fa_store(dx + fa_offset(p.n, p.y, p.x, p.channel, w.in_h, w.in_w, w.channels), sums);
}

/* A thread takes one tap of eight channels, at every so-manieth pixel of the output. */
template <typename T>
__global__ void
depthwise_backward_filter(const T *x, const T *dy, float *partials, fa_gpu_window w, int blocks)
{
	int groups = w.channels / FA_GPU_CHANNELS, taps = w.kernel * w.kernel;
	size_t index = FA_INDEX, pixels = (size_t) w.n * w.out_h * w.out_w;
	int channel = (int) (index % groups) * FA_GPU_CHANNELS, tap = (int) (index / groups % taps);
	int block = (int) (index / groups / taps), ky = tap / w.kernel, kx = tap % w.kernel;
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8], gradients[8];

	if (block >= blocks)
		return;
	for (size_t pixel = block; pixel < pixels; pixel += blocks)
	{
		int out_x = (int) (pixel % w.out_w), out_y = (int) (pixel / w.out_w % w.out_h);
		int n = (int) (pixel / w.out_w / w.out_h);
		int in_y = out_y * w.stride - w.pad_top + ky, in_x = out_x * w.stride - w.pad_left + kx;

		if (in_y < 0 || in_y >= w.in_h || in_x < 0 || in_x >= w.in_w)
			continue;
		fa_load(x + fa_offset(n, in_y, in_x, channel, w.in_h, w.in_w, w.channels), values);
		fa_load(dy + pixel * w.channels + channel, gradients);
		for (int i = 0; i < 8; i++)
			sums[i] += values[i] * gradients[i];
	}
	fa_store(partials + ((size_t) block * taps + tap) * w.channels + channel, sums);
}

fa_status
fa_gpu_depthwise_backward_data(const void *dy, const float *filter, void *dx,
							   const fa_gpu_window *w, fa_gpu_type type, cudaStream_t stream,
							   fa_error *error)
{
	size_t threads = (size_t) w->n * w->in_h * w->in_w * (w->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(depthwise_backward_data<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) dy, filter, (T *) dx, *w));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_depthwise_backward_filter(const void *x, const void *dy, float *partials,
								 const fa_gpu_window *w, fa_gpu_type type, cudaStream_t stream,
								 fa_error *error)
{
	int taps = w->kernel * w->kernel;
	int blocks = fa_gpu_sum_blocks((size_t) w->n * w->out_h * w->out_w, taps * w->channels);
	size_t threads = (size_t) blocks * taps * (w->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(depthwise_backward_filter<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) x, (const T *) dy, partials, *w, blocks));
	return FA_LAUNCHED(error);
}
