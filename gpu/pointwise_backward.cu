/*
 * pointwise_backward.cu
 *		Gradients of what takes each value for itself, and dropout, which is its own.
 */
#include "device.cuh"
#include "train_kernels.h"

template <typename T>
__global__ void
activation_backward(const T *y, const T *dy, T *dx, size_t groups, fa_gpu_activation activation)
{
	size_t at = FA_INDEX * FA_GPU_CHANNELS;
	float values[8], gradients[8];

	if (FA_INDEX >= groups)
		return;
	fa_load(y + at, values);
	fa_load(dy + at, gradients);
	for (int i = 0; i < 8; i++)
		switch (activation)
		{
			case FA_GPU_RELU6:
				gradients[i] = values[i] < 6.0f ? gradients[i] : 0.0f; /* fall through */
			case FA_GPU_RELU:
				gradients[i] = values[i] > 0.0f ? gradients[i] : 0.0f;
				break;
			case FA_GPU_SIGMOID:
				gradients[i] *= values[i] * (1.0f - values[i]);
				break;
			default:
				break;
		}
	fa_store(dx + at, gradients);
}

template <typename T>
__global__ void
scale_backward(const T *in, const T *dy, T *d_factors, int n, int area, int channels)
{
	int groups = channels / FA_GPU_CHANNELS;
	int channel = (int) (FA_INDEX % groups) * FA_GPU_CHANNELS, image = (int) (FA_INDEX / groups);
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8], gradients[8];

	if (image >= n)
		return;
	for (int p = 0; p < area; p++)
	{
		size_t at = ((size_t) image * area + p) * channels + channel;

		fa_load(in + at, values);
		fa_load(dy + at, gradients);
		for (int i = 0; i < 8; i++)
			sums[i] += values[i] * gradients[i];
	}
	fa_store(d_factors + (size_t) image * channels + channel, sums);
}

template <typename T>
__global__ void
dropout(const T *in, T *out, size_t pixels, int channels, int padded, uint32_t threshold,
		float scale, const uint64_t *key, uint64_t operation)
{
	size_t index = FA_INDEX, pixel = index / padded;
	int channel = (int) (index % padded);
	bool kept;

	if (pixel >= pixels)
		return;
	kept = channel < channels &&
		   (uint32_t) (fa_split_mix(fa_split_mix(*key + operation) + pixel * channels + channel) >>
					   32) >= threshold;
	fa_from_float(kept ? fa_to_float(in[index]) * scale : 0.0f, &out[index]);
}

template <typename T>
__global__ void
pad(const float *in, T *out, size_t pixels, int channels, int padded)
{
	size_t index = FA_INDEX, pixel = index / padded;
	int channel = (int) (index % padded);

	if (pixel < pixels)
		fa_from_float(channel < channels ? fa_to_float(in[pixel * channels + channel]) : 0.0f,
					  &out[index]);
}

fa_status
fa_gpu_activation_backward(const void *y, const void *dy, void *dx, size_t count,
						   fa_gpu_activation activation, fa_gpu_type type, cudaStream_t stream,
						   fa_error *error)
{
	size_t groups = count / FA_GPU_CHANNELS;

	FA_BY_TYPE(type, FA_LAUNCH(activation_backward<T>, fa_blocks(groups), FA_THREADS, stream,
							   (const T *) y, (const T *) dy, (T *) dx, groups, activation));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_scale_backward(const void *in, const void *dy, void *d_factors, int n, int area,
					  int channels, fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	size_t threads = (size_t) n * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(scale_backward<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) in, (const T *) dy, (T *) d_factors, n, area, channels));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_dropout(const void *in, void *out, size_t pixels, int channels, float rate,
			   const uint64_t *key, uint64_t operation, fa_gpu_type type, cudaStream_t stream,
			   fa_error *error)
{
	int padded = fa_gpu_padded(channels);

	FA_BY_TYPE(type,
			   FA_LAUNCH(dropout<T>, fa_blocks(pixels * padded), FA_THREADS, stream, (const T *) in,
						 (T *) out, pixels, channels, padded, (uint32_t) (rate * 4294967295.0),
						 1.0f / (1.0f - rate), key, operation));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_pad(const float *in, void *out, size_t pixels, int channels, fa_gpu_type type,
		   cudaStream_t stream, fa_error *error)
{
	int padded = fa_gpu_padded(channels);

	FA_BY_TYPE(type, FA_LAUNCH(pad<T>, fa_blocks(pixels * padded), FA_THREADS, stream, in,
							   (T *) out, pixels, channels, padded));
	return FA_LAUNCHED(error);
}
