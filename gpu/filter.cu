/*
 * filter.cu
 *		Filters between the network's order, in which master weights and gradients are kept, and the
 *		device's.
 */
#include "device.cuh"
#include "train_kernels.h"

template <typename T>
__global__ void
pack_filter(const float *in, T *out, fa_gpu_filter f, size_t count)
{
	size_t index = FA_INDEX,
		   padded = (f.in + FA_GPU_CHANNELS - 1) / FA_GPU_CHANNELS * FA_GPU_CHANNELS;
	size_t i = index % padded, p = index / padded % f.area, o = index / padded / f.area;
	bool real = i < (size_t) f.in && o < (size_t) f.out;

	if (index < count)
		fa_from_float(real ? fa_to_float(in[(o * f.in + i) * f.area + p]) : 0.0f, &out[index]);
}

template <typename T>
__global__ void
unpack_filter(const T *in, float *out, fa_gpu_filter f, size_t count)
{
	size_t index = FA_INDEX,
		   padded = (f.in + FA_GPU_CHANNELS - 1) / FA_GPU_CHANNELS * FA_GPU_CHANNELS;
	size_t p = index % f.area, i = index / f.area % f.in, o = index / f.area / f.in;

	if (index < count)
		out[index] = fa_to_float(in[(o * f.area + p) * padded + i]);
}

__global__ void
pack_depthwise(const float *in, float *out, int channels, int area, int padded)
{
	size_t index = FA_INDEX;
	int c = (int) (index % padded), p = (int) (index / padded);

	if (p < area)
		out[index] = c < channels ? fa_to_float(in[(size_t) c * area + p]) : 0.0f;
}

fa_status
fa_gpu_pack_filter(const float *in, void *out, const fa_gpu_filter *f, fa_gpu_type type,
				   cudaStream_t stream, fa_error *error)
{
	size_t count = (size_t) fa_gpu_padded(f->out) * f->area * fa_gpu_padded(f->in);

	FA_BY_TYPE(type, FA_LAUNCH(pack_filter<T>, fa_blocks(count), FA_THREADS, stream, in, (T *) out,
							   *f, count));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_unpack_filter(const void *in, float *out, const fa_gpu_filter *f, fa_gpu_type type,
					 cudaStream_t stream, fa_error *error)
{
	size_t count = (size_t) f->out * f->area * f->in;

	FA_BY_TYPE(type, FA_LAUNCH(unpack_filter<T>, fa_blocks(count), FA_THREADS, stream,
							   (const T *) in, out, *f, count));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_pack_depthwise(const float *in, float *out, int channels, int area, cudaStream_t stream,
					  fa_error *error)
{
	int padded = fa_gpu_padded(channels);

	FA_LAUNCH(pack_depthwise, fa_blocks((size_t) area * padded), FA_THREADS, stream, in, out,
			  channels, area, padded);
	return FA_LAUNCHED(error);
}
