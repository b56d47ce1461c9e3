/*
 * scale.cu
 *		Each image's channels by factors of their own: what squeeze-and-excitation ends in.
 */
#include "device.cuh"

template <typename T>
__global__ void
scale(const T *in, const T *factors, const T *added, T *out, int n, int area, int channels,
	  fa_gpu_activation activation)
{
	fa_place p;
	size_t offset = FA_INDEX * FA_GPU_CHANNELS;
	float values[8], by[8], others[8] = {0, 0, 0, 0, 0, 0, 0, 0};

	if (!fa_place_of(FA_INDEX, n, 1, area, channels, &p))
		return;
	fa_load(in + offset, values);
	fa_load(factors + (size_t) p.n * channels + p.channel, by);
	if (added != NULL)
		fa_load(added + offset, others);
	for (int i = 0; i < 8; i++)
		values[i] = fa_activate(values[i] * by[i] + others[i], activation);
	fa_store(out + offset, values);
}

fa_status
fa_gpu_scale(const void *in, const void *factors, const void *added, void *out, int n, int area,
			 int channels, fa_gpu_activation activation, fa_gpu_type type, cudaStream_t stream,
			 fa_error *error)
{
	size_t threads = (size_t) n * area * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(scale<T>, fa_blocks(threads), FA_THREADS, stream, (const T *) in,
							   (const T *) factors, (const T *) added, (T *) out, n, area, channels,
							   activation));
	return FA_LAUNCHED(error);
}
