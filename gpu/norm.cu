/*
 * norm.cu
 *		Batch norm in training (Ioffe, Szegedy 2015), with the batch's statistics or frozen
 *		ones: its forward pass, and its backward pass together with that of an activation that
 *		has joined it. Sums as in sums.cu.
 */
#include "device.cuh"
#include "train_kernels.h"

/* partials[block]: sums, then squares, of `channels` each. */
template <typename T>
__global__ void
norm_statistics(const T *in, size_t rows, int channels, int blocks, float *partials)
{
	int groups = channels / FA_GPU_CHANNELS;
	int channel = (int) (FA_INDEX % groups) * FA_GPU_CHANNELS, block = (int) (FA_INDEX / groups);
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, squares[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8];
	float *to = partials + (size_t) 2 * block * channels + channel;

	if (block >= blocks)
		return;
	for (size_t r = block; r < rows; r += blocks)
	{
		fa_load(in + r * channels + channel, values);
		for (int i = 0; i < 8; i++)
		{
			sums[i] += values[i];
			squares[i] += values[i] * values[i];
		}
	}
	fa_store(to, sums);
	fa_store(to + channels, squares);
}

/* One thread a channel: what the forward pass multiplies with and adds. */
__global__ void
norm_prepare(fa_gpu_norm n, int blocks)
{
	int c = (int) FA_INDEX;
	double sum = 0, square = 0;
	float mean, variance, inverse, gain;

	if (c >= n.channels)
		return;
	if (n.frozen)
	{
		mean = fa_to_float(n.running_mean[c]);
		variance = fa_to_float(n.running_var[c]);
	}
	else
	{
		float unbiased = n.rows > 1 ? (float) n.rows / (float) (n.rows - 1) : 1.0f;

		for (int b = 0; b < blocks; b++)
		{
			sum += fa_to_float(n.partials[(size_t) 2 * b * n.channels + c]);
			square += fa_to_float(n.partials[((size_t) 2 * b + 1) * n.channels + c]);
		}
		sum /= (double) n.rows;
		square = square / (double) n.rows - sum * sum;
		mean = (float) sum;
		variance = square > 0 ? (float) square : 0.0f;
		n.running_mean[c] += n.momentum * (mean - fa_to_float(n.running_mean[c]));
		n.running_var[c] += n.momentum * (variance * unbiased - fa_to_float(n.running_var[c]));
	}
	inverse = 1.0f / sqrtf(variance + n.epsilon);
	gain = fa_to_float(n.weight[c]) * inverse;
	n.saved[c] = mean;
	n.saved[n.channels + c] = inverse;
	n.saved[2 * n.channels + c] = gain;
	n.saved[3 * n.channels + c] = fa_to_float(n.bias[c]) - mean * gain;
}

/* The gradient before the activation: it is flat below 0, and where it ends. */
__device__ inline float
passed(float gradient, float before, fa_gpu_activation activation)
{
	bool flat = (activation != FA_GPU_NONE && !(before > 0.0f)) ||
				(activation == FA_GPU_RELU6 && !(before < 6.0f));

	return flat ? 0.0f : gradient;
}

/* Eight channels of a row: normalised x, and the gradient before the activation. */
template <typename T>
__device__ inline void
load_row(const fa_gpu_norm &n, const T *x, const T *dy, size_t at, int channel, float normal[8],
		 float gradient[8])
{
	fa_load(x + at, normal);
	fa_load(dy + at, gradient);
	for (int i = 0; i < 8; i++)
	{
		int c = channel + i;

		normal[i] = (normal[i] - fa_to_float(n.saved[c])) * fa_to_float(n.saved[n.channels + c]);
		gradient[i] =
			passed(gradient[i], normal[i] * fa_to_float(n.weight[c]) + fa_to_float(n.bias[c]),
				   n.activation);
	}
}

/* partials[block]: gradients, then gradients times normalised x. */
template <typename T>
__global__ void
norm_backward_sums(fa_gpu_norm n, const T *x, const T *dy, int blocks)
{
	int groups = n.channels / FA_GPU_CHANNELS;
	int channel = (int) (FA_INDEX % groups) * FA_GPU_CHANNELS, block = (int) (FA_INDEX / groups);
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, products[8] = {0, 0, 0, 0, 0, 0, 0, 0};
	float *to = n.partials + (size_t) 2 * block * n.channels + channel;

	if (block >= blocks)
		return;
	for (size_t r = block; r < n.rows; r += blocks)
	{
		float normal[8], gradient[8];

		load_row(n, x, dy, r * n.channels + channel, channel, normal, gradient);
		for (int i = 0; i < 8; i++)
		{
			sums[i] += gradient[i];
			products[i] += gradient[i] * normal[i];
		}
	}
	fa_store(to, sums);
	fa_store(to + n.channels, products);
}

__global__ void
norm_backward_finish(fa_gpu_norm n, int blocks, float *means, float *d_weight, float *d_bias,
					 int real)
{
	int c = (int) FA_INDEX;
	double sum = 0, product = 0;

	if (c >= n.channels)
		return;
	for (int b = 0; b < blocks; b++)
	{
		sum += fa_to_float(n.partials[(size_t) 2 * b * n.channels + c]);
		product += fa_to_float(n.partials[((size_t) 2 * b + 1) * n.channels + c]);
	}
	if (d_weight != NULL && c < real)
		d_weight[c] = (float) product;
	if (d_bias != NULL && c < real)
		d_bias[c] = (float) sum;
	means[c] = n.frozen ? 0.0f : (float) (sum / (double) n.rows);
	means[n.channels + c] = n.frozen ? 0.0f : (float) (product / (double) n.rows);
}

template <typename T>
__global__ void
norm_backward_data(fa_gpu_norm n, const T *x, const T *dy, T *dx, const float *means)
{
	size_t at = FA_INDEX * FA_GPU_CHANNELS;
	int channel = (int) (at % n.channels);
	float normal[8], gradient[8];

	if (at >= n.rows * n.channels)
		return;
	load_row(n, x, dy, at, channel, normal, gradient);
	for (int i = 0; i < 8; i++)
	{
		int c = channel + i;

		gradient[i] =
			fa_to_float(n.saved[2 * n.channels + c]) *
			(gradient[i] - fa_to_float(means[c]) - normal[i] * fa_to_float(means[n.channels + c]));
	}
	fa_store(dx + at, gradient);
}

fa_status
fa_gpu_norm_forward(const fa_gpu_norm *n, const void *in, void *out, fa_gpu_type type,
					cudaStream_t stream, fa_error *error)
{
	int blocks = fa_gpu_sum_blocks(n->rows, n->channels);
	size_t threads = (size_t) blocks * (n->channels / FA_GPU_CHANNELS);

	if (!n->frozen)
	{
		FA_BY_TYPE(type, FA_LAUNCH(norm_statistics<T>, fa_blocks(threads), FA_THREADS, stream,
								   (const T *) in, n->rows, n->channels, blocks, n->partials));
		FA_TRY(FA_LAUNCHED(error));
	}
	FA_LAUNCH(norm_prepare, fa_blocks(n->channels), FA_THREADS, stream, *n, blocks);
	FA_TRY(FA_LAUNCHED(error));
	return fa_gpu_affine(in, n->saved + 2 * n->channels, n->saved + 3 * n->channels, NULL, out,
						 n->rows, n->channels, n->activation, type, stream, error);
}

fa_status
fa_gpu_norm_backward(const fa_gpu_norm *n, const void *x, const void *dy, void *dx, float *means,
					 float *d_weight, float *d_bias, int real, fa_gpu_type type,
					 cudaStream_t stream, fa_error *error)
{
	int blocks = fa_gpu_sum_blocks(n->rows, n->channels);
	size_t threads = (size_t) blocks * (n->channels / FA_GPU_CHANNELS);
	size_t groups = n->rows * (n->channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(norm_backward_sums<T>, fa_blocks(threads), FA_THREADS, stream, *n,
							   (const T *) x, (const T *) dy, blocks));
	FA_TRY(FA_LAUNCHED(error));
	FA_LAUNCH(norm_backward_finish, fa_blocks(n->channels), FA_THREADS, stream, *n, blocks, means,
			  d_weight, d_bias, real);
	FA_TRY(FA_LAUNCHED(error));
	if (dx == NULL)
		return FA_OK;
	FA_BY_TYPE(type, FA_LAUNCH(norm_backward_data<T>, fa_blocks(groups), FA_THREADS, stream, *n,
							   (const T *) x, (const T *) dy, (T *) dx, (const float *) means));
	return FA_LAUNCHED(error);
}
