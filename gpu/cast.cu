/*
 * cast.cu
 *		Between fp32 and the type of activations: filters on their way in, outputs on
 *		their way out.
 */
#include "device.cuh"

template <typename T>
__global__ void
cast(const float *in, T *out, size_t count)
{
	size_t i = FA_INDEX;

	if (i < count)
		fa_from_float(fa_to_float(in[i]), &out[i]);
}

template <typename T>
__global__ void
output(const T *in, float *out, size_t count, int channels, int padded)
{
	size_t i = FA_INDEX;

	if (i < count)
		out[i] = fa_to_float(in[i / channels * padded + i % channels]);
}

fa_status
fa_gpu_cast(const float *in, void *out, size_t count, fa_gpu_type type, cudaStream_t stream,
			fa_error *error)
{
	FA_BY_TYPE(type,
			   FA_LAUNCH(cast<T>, fa_blocks(count), FA_THREADS, stream, in, (T *) out, count));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_output(const void *in, float *out, size_t pixels, int channels, fa_gpu_type type,
			  cudaStream_t stream, fa_error *error)
{
	size_t count = pixels * channels;

	FA_BY_TYPE(type, FA_LAUNCH(output<T>, fa_blocks(count), FA_THREADS, stream, (const T *) in, out,
							   count, channels, fa_gpu_padded(channels)));
	return FA_LAUNCHED(error);
}

/* All kernels are compiled for the same devices: one stands for them. */
fa_status
fa_gpu_find_code(fa_error *error)
{
	struct cudaFuncAttributes attributes;

	return fa_gpu_status(cudaFuncGetAttributes(&attributes, (const void *) cast<float>),
						 "to find code for it", error);
}
