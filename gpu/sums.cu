/*
 * sums.cu
 *		Sums over the rows of a batch, the same every time: a thread sums eight channels of every
 *		so-manieth row, and these partial sums are summed in their order.
 */
#include "device.cuh"
#include "train_kernels.h"

#define PARTIALS (1 << 18) /* at most, of a tensor's sums */
#define MAX_BLOCKS 1024

int
fa_gpu_sum_blocks(size_t rows, int channels)
{
	size_t blocks = PARTIALS / (size_t) channels;

	if (blocks > MAX_BLOCKS)
		blocks = MAX_BLOCKS;
	if (blocks > rows)
		blocks = rows;
	return blocks < 1 ? 1 : (int) blocks;
}

template <typename T>
__global__ void
column_sums(const T *in, size_t rows, int channels, int blocks, float *partials)
{
	int groups = channels / FA_GPU_CHANNELS;
	int channel = (int) (FA_INDEX % groups) * FA_GPU_CHANNELS, block = (int) (FA_INDEX / groups);
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8];

	if (block >= blocks)
		return;
	for (size_t r = block; r < rows; r += blocks)
	{
		fa_load(in + r * channels + channel, values);
		for (int i = 0; i < 8; i++)
			sums[i] += values[i];
	}
	fa_store(partials + (size_t) block * channels + channel, sums);
}

__global__ void
finish_sums(const float *partials, int blocks, int taps, int channels, int padded, float *out)
{
	int c = (int) (FA_INDEX % padded), t = (int) (FA_INDEX / padded);
	double sum = 0;

	if (t >= taps || c >= channels)
		return;
	for (int b = 0; b < blocks; b++)
		sum += fa_to_float(partials[((size_t) b * taps + t) * padded + c]);
	out[(size_t) c * taps + t] = (float) sum;
}

fa_status
fa_gpu_column_sums(const void *in, size_t rows, int channels, float *partials, fa_gpu_type type,
				   cudaStream_t stream, fa_error *error)
{
	int blocks = fa_gpu_sum_blocks(rows, channels);
	size_t threads = (size_t) blocks * (channels / FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(column_sums<T>, fa_blocks(threads), FA_THREADS, stream,
							   (const T *) in, rows, channels, blocks, partials));
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_finish_sums(const float *partials, int blocks, int taps, int channels, float *out,
				   cudaStream_t stream, fa_error *error)
{
	int padded = fa_gpu_padded(channels);

	FA_LAUNCH(finish_sums, fa_blocks((size_t) taps * padded), FA_THREADS, stream, partials, blocks,
			  taps, channels, padded, out);
	return FA_LAUNCHED(error);
}
