/*
 * augmentation.c
 *		Augmentation on the host; see augmentation.h. Every stage rounds to bytes, as the
 *		device's do.
 */
#include "augmentation.h"

#include "../random.h"
#include "photo.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void
change_colours(fa_image *image, const fa_augmentation *how)
{
	for (int y = 0; y < image->height; y++)
	{
		uint8_t *p = image->pixels + (size_t) y * image->stride;

		for (int x = 0; x < image->width; x++, p += 3)
		{
			int32_t r = p[0], g = p[1], b = p[2];

			for (int o = 0; o < 3; o++)
			{
				const int32_t *row = how->colours[o];
				int32_t v = (row[0] * r + row[1] * g + row[2] * b + how->offset) >> 16;

				p[o] = how->tones[v < 0 ? 0 : v > 255 ? 255 : v];
			}
		}
	}
}

/* A Gaussian of the given deviation in pixels, separable; the edge repeats. */
static fa_status
blur(fa_image *image, double sigma, fa_error *error)
{
	int radius = fa_blur_radius(sigma), width = image->width, height = image->height;
	size_t row = (size_t) width * 3;
	float *kernel = malloc((2 * (size_t) radius + 1) * sizeof(float));
	float *padded = malloc((row + 6 * (size_t) radius) * sizeof(float));
	float *across = malloc(row * height * sizeof(float)), *down = malloc(row * sizeof(float));
	double sum = 0;
	fa_status status = FA_OK;

	if (kernel == NULL || padded == NULL || across == NULL || down == NULL)
		status = fa_no_memory(error, row * height * sizeof(float));
	for (int k = -radius; status == FA_OK && k <= radius; k++)
		sum += kernel[k + radius] = (float) exp(-k * k / (2 * sigma * sigma));
	for (int k = 0; status == FA_OK && k <= 2 * radius; k++)
		kernel[k] /= (float) sum;
	for (int y = 0; status == FA_OK && y < height; y++)
	{
		const uint8_t *in = image->pixels + (size_t) y * image->stride;
		float *out = across + row * y;

		for (int x = -radius; x < width + radius; x++)
			for (int c = 0; c < 3; c++)
				padded[3 * (x + radius) + c] = in[3 * (x < 0 ? 0 : x >= width ? width - 1 : x) + c];
		memset(out, 0, row * sizeof(float));
		for (int k = 0; k <= 2 * radius; k++)
			for (size_t i = 0; i < row; i++)
				out[i] += kernel[k] * padded[i + 3 * (size_t) k];
	}
	for (int y = 0; status == FA_OK && y < height; y++)
	{
		uint8_t *out = image->pixels + (size_t) y * image->stride;

		for (size_t i = 0; i < row; i++)
			down[i] = 0.5f;
		for (int k = -radius; k <= radius; k++)
		{
			const float *in = across + row * (y + k < 0 ? 0 : y + k >= height ? height - 1 : y + k);

			for (size_t i = 0; i < row; i++)
				down[i] += kernel[k + radius] * in[i];
		}
		for (size_t i = 0; i < row; i++)
			out[i] = (uint8_t) down[i];
	}
	free(kernel);
	free(padded);
	free(across);
	free(down);
	return status;
}

/* Roughly normal noise: sums of four random bytes, two from each draw; rows begin with a draw. */
static void
add_noise(fa_image *image, double deviation, uint64_t key)
{
	int32_t scale = (int32_t) (65536 * deviation / FA_NOISE_DEVIATION);
	fa_random random = {key};

	for (int y = 0; y < image->height; y++)
	{
		uint8_t *p = image->pixels + (size_t) y * image->stride;
		uint64_t bits = 0;

		for (int i = 0; i < 3 * image->width; i++)
		{
			int32_t sum, value;

			bits = i % 2 == 0 ? fa_random_bits(&random) : bits >> 32;
			sum = (int32_t) ((bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) +
							 (bits >> 24 & 255)) -
				  510;
			value = p[i] + ((sum * scale + 32768) >> 16);
			p[i] = (uint8_t) (value < 0 ? 0 : value > 255 ? 255 : value);
		}
	}
}

/* Compresses and decompresses; *image is replaced. */
static fa_status
compress(fa_image *image, int quality, fa_error *error)
{
	uint8_t *bytes;
	size_t length;
	fa_photo photo;
	fa_view view;
	fa_status status;

	FA_TRY(fa_photo_encode(image, FA_FORMAT_JPEG, quality, &bytes, &length, NULL, error));
	status = fa_photo_open(&photo, bytes, length, INT32_MAX, error);
	if (status == FA_OK)
		status = fa_photo_decode(&photo, 8, &view, NULL, error);
	free(bytes);
	if (status != FA_OK)
		return status;
	fa_image_free(image);
	*image = view.image;
	return FA_OK;
}

/* What light, lens, sensor and file do to an image of its final number of pixels. */
static fa_status
photograph(fa_image *image, const fa_augmentation *how, fa_error *error)
{
	if (how->recolours)
		change_colours(image, how);
	if (how->blur > 0)
		FA_TRY(blur(image, how->blur, error));
	if (how->noise > 0)
		add_noise(image, how->noise, how->noise_key);
	return how->quality > 0 ? compress(image, how->quality, error) : FA_OK;
}

fa_status
fa_augmentation_apply(const fa_augmented *given, int size, uint8_t *out, fa_error *error)
{
	const fa_augmentation *how = &given->how;
	double scale = (double) how->pixels / size;
	fa_image destination = {size, size, (size_t) size * 3, out}, image;
	fa_status status;

	FA_TRY(fa_image_alloc(&image, how->pixels, how->pixels, error));
	status = fa_warp(&given->source, how->frame, &image, error);
	if (status == FA_OK)
		status = photograph(&image, how, error);
	if (status == FA_OK && how->pixels != size)
		status = fa_warp(&image, (fa_affine){scale, 0, 0, 0, scale, 0}, &destination, error);
	else if (status == FA_OK)
		for (int y = 0; y < size; y++)
			memcpy(out + destination.stride * y, image.pixels + image.stride * y,
				   destination.stride);
	fa_image_free(&image);
	return status;
}

void
fa_blend_images(const uint8_t *pixels, int count, size_t bytes, fa_blend blend, uint8_t *out)
{
	for (int i = 0; i < count; i++, out += bytes)
	{
		const uint8_t *a = pixels + bytes * i, *b = pixels + bytes * ((i + blend.shift) % count);

		for (size_t k = 0; k < bytes; k++)
			out[k] = (uint8_t) ((a[k] * blend.part + b[k] * (256 - blend.part) + 128) >> 8);
	}
}
