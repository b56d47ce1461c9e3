/*
 * jpeg_loss.cu
 *		What is lost in a JPEG: faces to luma and halved chroma, blocks of these through the
 *		cosine transform, rounded as the quality says, and back (ISO/IEC 10918-1, and what
 *		libjpeg does where it leaves a choice: its averages, its smooth chroma). No bits are
 *		made: Huffman's codes lose nothing.
 *
 * 64 threads take a block of 8 x 8; each of them a sample, a coefficient and a sample again.
 */
#include "device.cuh"
#include "train_kernels.h"

#define BLOCKS (FA_THREADS / 64) /* in a block of threads */

/* ISO/IEC 10918-1, tables K.1 and K.2 */
__constant__ uint8_t steps[2][64] = {
	{16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,
	 14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,
	 18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,
	 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99},
	{17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
	 99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
	 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99}};

__device__ inline float
step_of(int quality, int chroma, int i)
{
	int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
	int step = (steps[chroma][i] * scale + 50) / 100;

	return (float) (step < 1 ? 1 : step > 255 ? 255 : step);
}

__device__ inline int
at_most(int value, int high)
{
	return value < high ? value : high;
}

__device__ inline uint8_t
to_byte(float value)
{
	return (uint8_t) fminf(fmaxf(floorf(value + 0.5f), 0.0f), 255.0f);
}

/* Luma, or a chroma, of a pixel. */
__device__ inline int
component(const uint8_t *rgb, int which)
{
	float r = rgb[0], g = rgb[1], b = rgb[2];

	if (which == 0)
		return to_byte(0.299f * r + 0.587f * g + 0.114f * b);
	if (which == 1)
		return to_byte(-0.168735892f * r - 0.331264108f * g + 0.5f * b + 128);
	return to_byte(0.5f * r - 0.418687589f * g - 0.081312411f * b + 128);
}

/* A sample of a plane; what lies beyond the image repeats its edge. */
__device__ inline float
sample(const uint8_t *face, int n, int which, int x, int y)
{
	int sum = 1 + x % 2; /* halves are rounded up and down in turn */

	if (which == 0)
		return component(face + 3 * ((size_t) at_most(y, n - 1) * n + at_most(x, n - 1)), 0);
	y = at_most(y, (n - 1) / 2);
	for (int i = 0; i < 4; i++)
		sum += component(
			face + 3 * ((size_t) at_most(2 * y + i / 2, n - 1) * n + at_most(2 * x + i % 2, n - 1)),
			which);
	return (float) (sum >> 2);
}

/* Which block of which plane a thread works on. */
struct plane_block
{
	int which, x, y; /* of its first sample */
	int width;       /* of the plane, and its height */
	size_t offset;   /* of the plane among the image's */
};

__device__ inline bool
find_block(int n, int b, plane_block *block)
{
	int half = (n + 1) / 2, luma = (n + 7) / 8, chroma = (half + 7) / 8, across = luma;

	block->which = 0;
	block->width = n;
	block->offset = 0;
	if (b >= luma * luma)
	{
		b -= luma * luma;
		across = chroma;
		block->which = 1 + b / (chroma * chroma);
		block->width = half;
		block->offset = (size_t) n * n + (size_t) (block->which - 1) * half * half;
		b %= chroma * chroma;
	}
	block->x = b % across * 8;
	block->y = b / across * 8;
	return block->which < 3;
}

/* cos(k pi / 16), k from 0 on: cosf would want memory of its own for huge arguments */
__constant__ float quarter[9] = {1,           0.98078528f, 0.92387953f,
								 0.83146961f, 0.70710678f, 0.55557023f,
								 0.38268343f, 0.19509032f, 0};

__device__ inline float
cosine(int k)
{
	k %= 32;
	k = k > 16 ? 32 - k : k;
	return k > 8 ? -quarter[16 - k] : quarter[k];
}

/* The sum over i of cosines[k][i] * values[i * stride], or of cosines[i][k]. */
__device__ inline float
product(const float cosines[8][8], int k, bool inverse, const float *values, int stride)
{
	float sum = 0;

	for (int i = 0; i < 8; i++)
		sum += (inverse ? cosines[i][k] : cosines[k][i]) * values[i * stride];
	return sum;
}

__global__ void
round_blocks(const fa_gpu_augmented *images, int count, int size, int blocks, const uint8_t *faces,
			 uint8_t *planes, size_t plane_bytes)
{
	__shared__ float cosines[8][8], values[BLOCKS][64], halfway[BLOCKS][64];
	int t = (int) threadIdx.x % 64, row = t / 8, column = t % 8;
	size_t index = FA_INDEX / 64;
	int image = (int) (index / blocks), n = 0, quality = 0;
	float *mine = values[threadIdx.x / 64], *half = halfway[threadIdx.x / 64];
	plane_block block;
	bool works = false;
	float value = 0;

	if (image < count)
	{
		n = images[image].pixels;
		quality = images[image].quality;
		works = quality > 0 && find_block(n, (int) (index % blocks), &block);
	}
	if (threadIdx.x < 64)
		cosines[row][column] = (row == 0 ? 0.35355339f : 0.5f) * cosine((2 * column + 1) * row);
	if (works)
		mine[t] = sample(faces + 3 * (size_t) image * size * size, n, block.which, block.x + column,
						 block.y + row) -
				  128;
	__syncthreads();
	if (works)
		half[t] = product(cosines, column, false, mine + 8 * row, 1);
	__syncthreads();
	if (works)
	{
		float step = step_of(quality, block.which > 0, t);

		mine[t] = rintf(product(cosines, row, false, half + column, 8) / step) * step;
	}
	__syncthreads();
	if (works)
		half[t] = product(cosines, column, true, mine + 8 * row, 1);
	__syncthreads();
	if (works && block.x + column < block.width && block.y + row < block.width)
	{
		value = product(cosines, row, true, half + column, 8) + 128;
		planes[image * plane_bytes + block.offset + (size_t) (block.y + row) * block.width +
			   block.x + column] = to_byte(value);
	}
}

/* Chroma at a pixel: nine, three, three and one sixteenth of the four samples around it. */
__device__ inline float
smooth(const uint8_t *plane, int half, int x, int y)
{
	int x0 = x / 2, y0 = y / 2, x1 = x0 + (x % 2 == 0 ? -1 : 1), y1 = y0 + (y % 2 == 0 ? -1 : 1);

	if (half <= 2) /* libjpeg does not care to, then */
		return plane[y0 * half + x0];
	x1 = x1 < 0 ? 0 : at_most(x1, half - 1);
	y1 = y1 < 0 ? 0 : at_most(y1, half - 1);
	return (float) ((9 * plane[y0 * half + x0] + 3 * plane[y0 * half + x1] +
					 3 * plane[y1 * half + x0] + plane[y1 * half + x1] + 8 - x % 2) >>
					4);
}

__global__ void
planes_to_rgb(const fa_gpu_augmented *images, int count, int size, const uint8_t *planes,
			  size_t plane_bytes, uint8_t *faces)
{
	size_t i = FA_INDEX, area = (size_t) size * size;
	int image = (int) (i / area), k = (int) (i % area), n, half;
	float luma, blue, red;

	if (image >= count || images[image].quality == 0)
		return;
	n = images[image].pixels;
	half = (n + 1) / 2;
	if (k >= n * n)
		return;
	planes += image * plane_bytes;
	luma = planes[k];
	blue = smooth(planes + n * n, half, k % n, k / n) - 128;
	red = smooth(planes + n * n + half * half, half, k % n, k / n) - 128;
	faces += 3 * (image * area + k);
	faces[0] = to_byte(luma + 1.402f * red);
	faces[1] = to_byte(luma - 0.344136286f * blue - 0.714136286f * red);
	faces[2] = to_byte(luma + 1.772f * blue);
}

fa_status
fa_gpu_jpeg_loss(const fa_gpu_augmented *images, int count, int size, const fa_gpu_studio *studio,
				 cudaStream_t stream, fa_error *error)
{
	int luma = (size + 7) / 8, chroma = ((size + 1) / 2 + 7) / 8;
	int blocks = luma * luma + 2 * chroma * chroma;
	size_t plane_bytes = fa_gpu_plane_bytes(size);

	FA_LAUNCH(round_blocks, fa_blocks((size_t) count * blocks * 64), FA_THREADS, stream, images,
			  count, size, blocks, studio->faces, studio->planes, plane_bytes);
	FA_TRY(FA_LAUNCHED(error));
	FA_LAUNCH(planes_to_rgb, fa_blocks((size_t) count * size * size), FA_THREADS, stream, images,
			  count, size, studio->planes, plane_bytes, studio->faces);
	return FA_LAUNCHED(error);
}
