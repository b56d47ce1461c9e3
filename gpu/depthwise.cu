/*
 * depthwise.cu
 *		Depthwise convolution, NHWC: cuDNN's own for this layout are far from what the
 *		memory allows (one thread here makes eight channels of one pixel).
 */
#include "device.cuh"

template <typename T>
__global__ void
depthwise(const T *in, const float *filter, const float *bias, T *out, fa_gpu_window w,
		  fa_gpu_activation activation)
{
	fa_place p;
	float sums[8], values[8];

	if (!fa_place_of(FA_INDEX, w.n, w.out_h, w.out_w, w.channels, &p))
		return;
	for (int i = 0; i < 8; i++)
		sums[i] = bias == NULL ? 0.0f : fa_to_float(bias[p.channel + i]);
	for (int ky = 0; ky < w.kernel; ky++)
	{
		int y = p.y * w.stride - w.pad_top + ky;

		if (y < 0 || y >= w.in_h)
			continue;
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int x = p.x * w.stride - w.pad_left + kx;
			const float *weights = filter + (ky * w.kernel + kx) * w.channels + p.channel;

			if (x < 0 || x >= w.in_w)
				continue;
			fa_load(in + fa_offset(p.n, y, x, p.channel, w.in_h, w.in_w, w.channels), values);
			for (int i = 0; i < 8; i++)
				sums[i] += values[i] * fa_to_float(weights[i]);
		}
	}
	for (int i = 0; i < 8; i++)
		sums[i] = fa_activate(sums[i], activation);
	fa_store(out + fa_offset(p.n, p.y, p.x, p.channel, w.out_h, w.out_w, w.channels), sums);
}

fa_status
fa_gpu_depthwise(const void *in, const float *filter, const float *bias, void *out,
				 const fa_gpu_window *w, fa_gpu_activation activation, fa_gpu_type type,
				 cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) w->n * w->out_h * w->out_w * (w->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(depthwise<T>, fa_blocks(threads), FA_THREADS, stream, (const T *) in,
							   filter, bias, (T *) out, *w, activation));
	return FA_LAUNCHED(error);
}
