/*
 * max_pool.cu
 *		The maximum over a window; padding never wins it.
 */
#include "device.cuh"

template <typename T>
__global__ void
max_pool(const T *in, T *out, fa_gpu_window w)
{
	fa_place p;
	float largest[8], values[8];

	if (!fa_place_of(FA_INDEX, w.n, w.out_h, w.out_w, w.channels, &p))
		return;
	for (int i = 0; i < 8; i++)
		largest[i] = -INFINITY;
	for (int ky = 0; ky < w.kernel; ky++)
		for (int kx = 0; kx < w.kernel; kx++)
		{
			int y = p.y * w.stride - w.pad_top + ky, x = p.x * w.stride - w.pad_left + kx;

			if (y < 0 || y >= w.in_h || x < 0 || x >= w.in_w)
				continue;
			fa_load(in + fa_offset(p.n, y, x, p.channel, w.in_h, w.in_w, w.channels), values);
			for (int i = 0; i < 8; i++)
				largest[i] = fmaxf(largest[i], values[i]);
		}
	fa_store(out + fa_offset(p.n, p.y, p.x, p.channel, w.out_h, w.out_w, w.channels), largest);
}

fa_status
fa_gpu_max_pool(const void *in, void *out, const fa_gpu_window *w, fa_gpu_type type,
				cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) w->n * w->out_h * w->out_w * (w->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(max_pool<T>, fa_blocks(threads), FA_THREADS, stream, (const T *) in,
							   (T *) out, *w));
	return FA_LAUNCHED(error);
}
