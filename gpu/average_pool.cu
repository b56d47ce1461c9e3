/*
 * average_pool.cu
 *		The average over all of an image's pixels. A block takes 256 channels of an
 *		image: eight rows of threads add every eighth pixel each, then the rows are added.
 */
#include "device.cuh"

#define COLUMNS 32 /* of eight channels each */
#define ROWS (FA_THREADS / COLUMNS)

template <typename T>
__global__ void
average_pool(const T *in, T *out, int area, int channels, int blocks_per_image)
{
	__shared__ float rows[ROWS][COLUMNS][8];
	int column = threadIdx.x % COLUMNS, row = threadIdx.x / COLUMNS;
	int n = blockIdx.x / blocks_per_image;
	int channel = (int) (blockIdx.x % blocks_per_image * COLUMNS + column) * FA_GPU_CHANNELS;
	float sums[8] = {0, 0, 0, 0, 0, 0, 0, 0}, values[8];

	for (int pixel = row; pixel < area && channel < channels; pixel += ROWS)
	{
		fa_load(in + ((size_t) n * area + pixel) * channels + channel, values);
		for (int i = 0; i < 8; i++)
			sums[i] += values[i];
	}
	for (int i = 0; i < 8; i++)
		rows[row][column][i] = sums[i];
	__syncthreads();
	if (row > 0 || channel >= channels)
		return;
	for (int other = 1; other < ROWS; other++)
		for (int i = 0; i < 8; i++)
			sums[i] += rows[other][column][i];
	for (int i = 0; i < 8; i++)
		sums[i] /= area;
	fa_store(out + (size_t) n * channels + channel, sums);
}

fa_status
fa_gpu_average_pool(const void *in, void *out, int n, int area, int channels, fa_gpu_type type,
					cudaStream_t stream, fa_error *error)
{
	int per_image = (channels + COLUMNS * FA_GPU_CHANNELS - 1) / (COLUMNS * FA_GPU_CHANNELS);

	FA_BY_TYPE(type, FA_LAUNCH(average_pool<T>, (unsigned) (n * per_image), FA_THREADS, stream,
							   (const T *) in, (T *) out, area, channels, per_image));
	return FA_LAUNCHED(error);
}
