/*
 * convolution_backward.cu
 *		Gradients of a convolution by their definition, for what cuDNN has no plan: right, not
 *		fast.
 */
#include "device.cuh"
#include "train_kernels.h"

template <typename T>
__global__ void
convolution_backward_data(const T *dy, const T *filter, T *dx, fa_gpu_window w, int in_channels)
{
	size_t index = FA_INDEX, rest = index / in_channels;
	int channel = (int) (index % in_channels);
	int in_x = (int) (rest % w.in_w), in_y = (int) (rest / w.in_w % w.in_h);
	int n = (int) (rest / w.in_w / w.in_h);
	float sum = 0;

	if (n >= w.n)
		return;
	for (int ky = 0; ky < w.kernel; ky++)
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int y = in_y + w.pad_top - ky, x = in_x + w.pad_left - kx;
			const T *pixel;

			if (y < 0 || x < 0 || y % w.stride != 0 || x % w.stride != 0 ||
				y / w.stride >= w.out_h || x / w.stride >= w.out_w)
				continue;
			pixel = dy + fa_offset(n, y / w.stride, x / w.stride, 0, w.out_h, w.out_w, w.channels);
			for (int o = 0; o < w.channels; o++)
				sum += fa_to_float(pixel[o]) *
					   fa_to_float(filter[(((size_t) o * w.kernel + ky) * w.kernel + kx) *
											  (size_t) in_channels +
										  channel]);
		}
	fa_from_float(sum, &dx[index]);
}

template <typename T>
__global__ void
convolution_backward_filter(const T *x, const T *dy, T *d_filter, fa_gpu_window w, int in_channels,
							size_t count)
{
	size_t index = FA_INDEX, rest = index / in_channels;
	int channel = (int) (index % in_channels);
	int kx = (int) (rest % w.kernel), ky = (int) (rest / w.kernel % w.kernel);
	int o = (int) (rest / w.kernel / w.kernel);
	double sum = 0;

	if (index >= count)
		return;
	for (int n = 0; n < w.n; n++)
		for (int out_y = 0; out_y < w.out_h; out_y++)
			for (int out_x = 0; out_x < w.out_w; out_x++)
			{
				int in_y = out_y * w.stride - w.pad_top + ky;
				int in_x = out_x * w.stride - w.pad_left + kx;

				if (in_y >= 0 && in_y < w.in_h && in_x >= 0 && in_x < w.in_w)
					sum += fa_to_float(
							   x[fa_offset(n, in_y, in_x, channel, w.in_h, w.in_w, in_channels)]) *
						   fa_to_float(
							   dy[fa_offset(n, out_y, out_x, o, w.out_h, w.out_w, w.channels)]);
			}
	fa_from_float((float) sum, &d_filter[index]);
}

fa_status
fa_gpu_convolution_backward_data(const void *dy, const void *filter, void *dx,
								 const fa_gpu_window *w, int in_channels, fa_gpu_type type,
								 cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) w->n * w->in_h * w->in_w * in_channels;

	FA_BY_TYPE(type, FA_LAUNCH(convolution_backward_data<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) dy, (const T *) filter, (T *) dx, *w, in_channels));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_convolution_backward_filter(const void *x, const void *dy, void *d_filter,
								   const fa_gpu_window *w, int in_channels, fa_gpu_type type,
								   cudaStream_t stream, fa_error *error)
{
	size_t count = (size_t) w->channels * w->kernel * w->kernel * in_channels;

	FA_BY_TYPE(type,
			   FA_LAUNCH(convolution_backward_filter<T>, fa_blocks(count), FA_THREADS, stream,
						 (const T *) x, (const T *) dy, (T *) d_filter, *w, in_channels, count));
	return FA_LAUNCHED(error);
}
