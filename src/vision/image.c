/*
 * image.c
 *		The memory of images; see image.h.
 */
#include "image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

fa_status
fa_image_alloc(fa_image *image, int width, int height, fa_error *error)
{
	size_t stride, bytes;

	memset(image, 0, sizeof(*image));
	if (width < 1 || height < 1)
		return fa_fail(error, FA_INVALID, "an image of %d x %d pixels cannot exist", width, height);
	if (!fa_multiply((size_t) width, 3, &stride) || !fa_multiply(stride, (size_t) height, &bytes) ||
		bytes > PTRDIFF_MAX)
		return fa_fail(error, FA_TOO_LARGE, "image of %d x %d pixels is too large", width, height);
	image->pixels = malloc(bytes);
	if (image->pixels == NULL)
		return fa_no_memory(error, bytes);
	image->width = width;
	image->height = height;
	image->stride = stride;
	return FA_OK;
}

void
fa_image_free(fa_image *image)
{
	free(image->pixels);
	memset(image, 0, sizeof(*image));
}
