/*
 * affine.cu
 *		Everything that takes each value for itself: batch norm of inference, sums,
 *		activations, and what a convolution could not take along.
 */
#include "device.cuh"

template <typename T>
__global__ void
affine(const T *in, const float *gain, const float *shift, const T *added, T *out, size_t groups,
	   int channels, fa_gpu_activation activation)
{
	size_t offset = FA_INDEX * FA_GPU_CHANNELS;
	int channel = (int) (offset % channels);
	float values[8], others[8] = {0, 0, 0, 0, 0, 0, 0, 0};

	if (FA_INDEX >= groups)
		return;
	fa_load(in + offset, values);
	if (added != NULL)
		fa_load(added + offset, others);
	for (int i = 0; i < 8; i++)
	{
		float x = values[i];

		if (gain != NULL)
			x *= fa_to_float(gain[channel + i]);
		if (shift != NULL)
			x += fa_to_float(shift[channel + i]);
		values[i] = fa_activate(x + others[i], activation);
	}
	fa_store(out + offset, values);
}

fa_status
fa_gpu_affine(const void *in, const float *gain, const float *shift, const void *added, void *out,
			  size_t pixels, int channels, fa_gpu_activation activation, fa_gpu_type type,
			  cudaStream_t stream, fa_error *error)
{
	size_t groups = pixels * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type,
			   FA_LAUNCH(affine<T>, fa_blocks(groups), FA_THREADS, stream, (const T *) in, gain,
						 shift, (const T *) added, (T *) out, groups, channels, activation));
	return FA_LAUNCHED(error);
}
