/*
 * convolution.cu
 *		A convolution by its definition, for shapes that cuDNN refuses: right, not fast.
 *		One thread makes one channel of one pixel.
 */
#include "device.cuh"

template <typename T>
__global__ void
convolution(const T *in, const T *filter, T *out, fa_gpu_window w, int in_channels)
{
	size_t index = FA_INDEX, rest = index / w.channels;
	int channel = (int) (index % w.channels);
	int out_x = (int) (rest % w.out_w), out_y = (int) (rest / w.out_w % w.out_h);
	int n = (int) (rest / w.out_w / w.out_h);
	float sum = 0;

	if (n >= w.n)
		return;
	for (int ky = 0; ky < w.kernel; ky++)
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int y = out_y * w.stride - w.pad_top + ky, x = out_x * w.stride - w.pad_left + kx;
			const T *weights = filter + (((size_t) channel * w.kernel + ky) * w.kernel + kx) *
											(size_t) in_channels;
			const T *pixel;

			if (y < 0 || y >= w.in_h || x < 0 || x >= w.in_w)
				continue;
			pixel = in + fa_offset(n, y, x, 0, w.in_h, w.in_w, in_channels);
			for (int c = 0; c < in_channels; c++)
				sum += fa_to_float(pixel[c]) * fa_to_float(weights[c]);
		}
	fa_from_float(sum, &out[index]);
}

fa_status
fa_gpu_convolution(const void *in, const void *filter, void *out, const fa_gpu_window *w,
				   int in_channels, fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) w->n * w->out_h * w->out_w * w->channels;

	FA_BY_TYPE(type, FA_LAUNCH(convolution<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) in, (const T *) filter, (T *) out, *w, in_channels));
	return FA_LAUNCHED(error);
}
