/*
 * upsample.cu
 *		Twice as high and wide, every pixel four times.
 */
#include "device.cuh"

template <typename T>
__global__ void
upsample(const T *in, T *out, int n, int height, int width, int channels)
{
	fa_place p;
	float values[8];

	if (!fa_place_of(FA_INDEX, n, 2 * height, 2 * width, channels, &p))
		return;
	fa_load(in + fa_offset(p.n, p.y / 2, p.x / 2, p.channel, height, width, channels), values);
	fa_store(out + fa_offset(p.n, p.y, p.x, p.channel, 2 * height, 2 * width, channels), values);
}

fa_status
fa_gpu_upsample(const void *in, void *out, int n, int height, int width, int channels,
				fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) n * 4 * height * width * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(upsample<T>, fa_blocks(threads), FA_THREADS, stream, (const T *) in,
							   (T *) out, n, height, width, channels));
	return FA_LAUNCHED(error);
}
