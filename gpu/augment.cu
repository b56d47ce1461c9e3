/*
 * augment.cu
 *		Augmentation (src/vision/augmentation.h) of a batch, stage by stage as there, each
 *		rounded to bytes: a thread for every pixel that the largest image may have.
 */
#include "sample.cuh"
#include "train_kernels.h"

/* A thread's pixel: of which image, where in it, and the image's first among all. */
struct pixel_place
{
	int image, x, y;
	size_t first;
};

__device__ inline bool
find_pixel(const fa_gpu_augmented *images, int count, int size, pixel_place *place)
{
	size_t i = FA_INDEX, area = (size_t) size * size;
	int n, k = (int) (i % area);

	if (i >= count * area)
		return false;
	place->image = (int) (i / area);
	n = images[place->image].pixels;
	place->x = k % n;
	place->y = k / n;
	place->first = place->image * area;
	return k < n * n;
}

__device__ inline int
clamped(int value, int high)
{
	return value < 0 ? 0 : value > high ? high : value;
}

/* The face out of its source, and its colours. */
__global__ void
frame_face(const fa_gpu_augmented *images, int count, int size, uint8_t *faces)
{
	pixel_place at;
	uint8_t pixel[3];

	if (!find_pixel(images, count, size, &at))
		return;
	const fa_gpu_augmented &image = images[at.image];
	fa_crop_pixel(image.face, at.x, at.y, pixel);
	faces += 3 * (at.first + (size_t) at.y * image.pixels + at.x);
	for (int o = 0; o < 3; o++)
	{
		const int32_t *row = image.colours[o];
		int value =
			(row[0] * pixel[0] + row[1] * pixel[1] + row[2] * pixel[2] + image.offset) >> 16;

		faces[o] = image.recolours ? image.tones[clamped(value, 255)] : pixel[o];
	}
}

/* The weight of a pixel that is k away. */
__device__ inline float
gaussian(int k, float deviation)
{
	return expf(-(float) (k * k) / (2 * deviation * deviation));
}

__global__ void
blur_across(const fa_gpu_augmented *images, int count, int size, const uint8_t *faces,
			float *blurred)
{
	pixel_place at;
	float sums[3] = {0, 0, 0}, total = 0;

	if (!find_pixel(images, count, size, &at) || images[at.image].radius == 0)
		return;
	const fa_gpu_augmented &image = images[at.image];
	size_t row = at.first + (size_t) at.y * image.pixels;

	for (int k = -image.radius; k <= image.radius; k++)
	{
		const uint8_t *from = faces + 3 * (row + clamped(at.x + k, image.pixels - 1));
		float weight = gaussian(k, image.blur);

		total += weight;
		for (int c = 0; c < 3; c++)
			sums[c] += weight * from[c];
	}
	for (int c = 0; c < 3; c++)
		blurred[3 * (row + at.x) + c] = sums[c] / total;
}

/* Down the columns of what blur_across has left. */
__device__ inline void
blur_down(const fa_gpu_augmented &image, const pixel_place &at, const float *blurred, int pixel[3])
{
	float sums[3] = {0, 0, 0}, total = 0;

	for (int k = -image.radius; k <= image.radius; k++)
	{
		int y = clamped(at.y + k, image.pixels - 1);
		const float *from = blurred + 3 * (at.first + (size_t) y * image.pixels + at.x);
		float weight = gaussian(k, image.blur);

		total += weight;
		for (int c = 0; c < 3; c++)
			sums[c] += weight * fa_to_float(from[c]);
	}
	for (int c = 0; c < 3; c++)
		pixel[c] = (int) (sums[c] / total + 0.5f);
}

/* The noise of a channel: the sum of four random bytes, two such sums from each draw. */
__device__ inline int
noise_of(const fa_gpu_augmented &image, int y, int i)
{
	uint64_t draw = (uint64_t) y * ((3 * image.pixels + 1) / 2) + i / 2;
	uint64_t bits = fa_split_mix(image.noise_key + draw * 0x9e3779b97f4a7c15u) >> (i % 2 * 32);
	int sum = (int) ((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24 & 255));

	return ((sum - 510) * image.noise + 32768) >> 16;
}

__global__ void
blur_and_noise(const fa_gpu_augmented *images, int count, int size, const float *blurred,
			   uint8_t *faces)
{
	pixel_place at;
	int pixel[3];

	if (!find_pixel(images, count, size, &at))
		return;
	const fa_gpu_augmented &image = images[at.image];
	if (image.radius == 0 && image.noise == 0)
		return;
	faces += 3 * (at.first + (size_t) at.y * image.pixels + at.x);
	for (int c = 0; c < 3; c++)
		pixel[c] = faces[c];
	if (image.radius > 0)
		blur_down(image, at, blurred, pixel);
	for (int c = 0; c < 3; c++)
		faces[c] = (uint8_t) clamped(
			pixel[c] + (image.noise > 0 ? noise_of(image, at.y, 3 * at.x + c) : 0), 255);
}

/* Of a finished face, a pixel of the size that the network sees. */
__device__ inline void
enlarged_pixel(const fa_gpu_augmented *images, int image, int size, const uint8_t *faces, int x,
			   int y, uint8_t pixel[3])
{
	int n = images[image].pixels;
	double scale = (double) n / size;
	fa_gpu_crop whole = {{faces + 3 * (size_t) image * size * size, (size_t) 3 * n, n, n},
						 1,
						 scale,
						 0,
						 0,
						 0,
						 scale,
						 0};

	if (n == size)
		for (int c = 0; c < 3; c++)
			pixel[c] = whole.source.pixels[y * whole.source.stride + 3 * x + c];
	else
		fa_crop_pixel(whole, x, y, pixel);
}

__global__ void
enlarge_and_blend(const fa_gpu_augmented *images, int count, int size, int part, int shift,
				  const uint8_t *faces, uint8_t *pixels)
{
	size_t i = FA_INDEX;
	int x = (int) (i % size), y = (int) (i / size % size), image = (int) (i / size / size);
	uint8_t own[3], other[3];

	if (image >= count)
		return;
	enlarged_pixel(images, image, size, faces, x, y, own);
	if (part < 256)
	{
		enlarged_pixel(images, (image + shift) % count, size, faces, x, y, other);
		for (int c = 0; c < 3; c++)
			own[c] = (uint8_t) ((own[c] * part + other[c] * (256 - part) + 128) >> 8);
	}
	for (int c = 0; c < 3; c++)
		pixels[3 * i + c] = own[c];
}

fa_status
fa_gpu_augment(const fa_gpu_augmented *images, int count, int size, fa_blend blend,
			   const fa_gpu_studio *studio, uint8_t *pixels, cudaStream_t stream, fa_error *error)
{
	unsigned blocks = fa_blocks((size_t) count * size * size);

	FA_LAUNCH(frame_face, blocks, FA_THREADS, stream, images, count, size, studio->faces);
	FA_TRY(FA_LAUNCHED(error));
	FA_LAUNCH(blur_across, blocks, FA_THREADS, stream, images, count, size, studio->faces,
			  studio->blurred);
	FA_TRY(FA_LAUNCHED(error));
	FA_LAUNCH(blur_and_noise, blocks, FA_THREADS, stream, images, count, size, studio->blurred,
			  studio->faces);
	FA_TRY(FA_LAUNCHED(error));
	FA_TRY(fa_gpu_jpeg_loss(images, count, size, studio, stream, error));
	FA_LAUNCH(enlarge_and_blend, blocks, FA_THREADS, stream, images, count, size, blend.part,
			  blend.shift, studio->faces, pixels);
	return FA_LAUNCHED(error);
}
