/*
 * photo.c
 *		Photos as the rest of the core sees them: recognised by their first bytes,
 *		checked against the limit before a pixel is allocated, upright. The readers
 *		(jpeg.c, png.c) know the stored image only; turning it is done here.
 */
#include "photo.h"
#include "codec.h"
#include "jpeg_cut.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * EXIF orientation as three switches. An upright point (X, Y) is stored at
 * (x, y) = swap ? (Y, X) : (X, Y), then x = width - x where flip_x, and
 * y = height - y where flip_y.
 */
typedef struct turn
{
	bool swap, flip_x, flip_y;
} turn;

static turn
turn_of(int orientation)
{
	static const turn turns[8] = {
		{false, false, false}, /* 1: upright */
		{false, true, false},  /* 2: mirrored */
		{false, true, true},   /* 3: upside down */
		{false, false, true},  /* 4: mirrored, upside down */
		{true, false, false},  /* 5: transposed */
		{true, false, true},   /* 6: to be turned clockwise */
		{true, true, true},    /* 7: transposed along the other diagonal */
		{true, true, false},   /* 8: to be turned anticlockwise */
	};

	return turns[orientation - 1];
}

fa_status
fa_photo_open(fa_photo *photo, const void *data, size_t length, int64_t max_pixels, fa_error *error)
{
	static const uint8_t jpeg[] = {0xff, 0xd8}, png[] = {0x89, 'P', 'N', 'G'};
	const uint8_t *bytes = data;
	fa_header header;

	memset(photo, 0, sizeof(*photo));
	if (length == 0)
		return fa_fail(error, FA_DAMAGED, "image is empty");
	if (memcmp(bytes, jpeg, length < sizeof(jpeg) ? length : sizeof(jpeg)) == 0)
	{
		photo->format = FA_FORMAT_JPEG;
		FA_TRY(fa_jpeg_header(bytes, length, &header, error));
	}
	else if (memcmp(bytes, png, length < sizeof(png) ? length : sizeof(png)) == 0)
	{
		photo->format = FA_FORMAT_PNG;
		FA_TRY(fa_png_header(bytes, length, &header, error));
	}
	else
	{
		const char *name = fa_foreign_format(bytes, length);

		if (name == NULL)
			fa_fail(error, FA_UNSUPPORTED, "image format is not recognised");
		else
			fa_fail(error, FA_UNSUPPORTED, "image format is not supported: %s", name);
		return fa_detail(error, "JPEG and PNG are read.");
	}

	/* the first condition keeps the product below 2^40 */
	if (header.width > FA_MAX_SIDE || header.height > FA_MAX_SIDE ||
		header.width * header.height > max_pixels)
	{
		fa_fail(error, FA_TOO_LARGE, "image is too large");
		return fa_detail(
			error, "It has %lld x %lld pixels; at most %lld in all and %d to a side are read.",
			(long long) header.width, (long long) header.height, (long long) max_pixels,
			FA_MAX_SIDE);
	}
	photo->bytes = bytes;
	photo->length = length;
	photo->orientation = header.orientation;
	photo->interlaced = header.interlaced;
	photo->width = (int) (turn_of(header.orientation).swap ? header.height : header.width);
	photo->height = (int) (turn_of(header.orientation).swap ? header.width : header.height);
	return FA_OK;
}

/* In tiles, to stay within the caches. */
fa_status
fa_turn_upright(const fa_image *stored, int orientation, fa_image *upright,
				const fa_interrupt *interrupt, fa_error *error)
{
	enum
	{
		TILE = 32
	};
	turn how = turn_of(orientation);
	/* from upright pixel to upright pixel, in the stored image: along a row, and down */
	ptrdiff_t step_x = how.flip_x ? -3 : 3;
	ptrdiff_t step_y = how.flip_y ? -(ptrdiff_t) stored->stride : (ptrdiff_t) stored->stride;
	ptrdiff_t across = how.swap ? step_y : step_x, down = how.swap ? step_x : step_y;
	const uint8_t *corner = stored->pixels + (how.flip_x ? 3 * (size_t) (stored->width - 1) : 0) +
							(how.flip_y ? stored->stride * (size_t) (stored->height - 1) : 0);

	for (int top = 0; top < upright->height; top += TILE)
	{
		int bottom = top + TILE < upright->height ? top + TILE : upright->height;

		FA_TRY(fa_check_interrupt(interrupt, error));
		for (int left = 0; left < upright->width; left += TILE)
		{
			int right = left + TILE < upright->width ? left + TILE : upright->width;

			for (int y = top; y < bottom; y++)
			{
				uint8_t *to = upright->pixels + (size_t) y * upright->stride + 3 * (size_t) left;
				const uint8_t *from = corner + y * down + left * across;

				for (int x = left; x < right; x++, to += 3, from += across)
				{
					to[0] = from[0];
					to[1] = from[1];
					to[2] = from[2];
				}
			}
		}
	}
	return FA_OK;
}

/* Turns the photo's pixels upright; *image is replaced. */
static fa_status
turn_image(fa_image *image, const fa_photo *photo, const fa_interrupt *interrupt, fa_error *error)
{
	bool swap = turn_of(photo->orientation).swap;
	fa_image upright;

	FA_TRY(fa_image_alloc(&upright, swap ? image->height : image->width,
						  swap ? image->width : image->height, error));
	if (fa_turn_upright(image, photo->orientation, &upright, interrupt, error) != FA_OK)
	{
		fa_image_free(&upright);
		return error->status;
	}
	fa_image_free(image);
	*image = upright;
	return FA_OK;
}

/* The stored window, decoded and turned. */
static fa_status
decode_window(const fa_photo *photo, fa_window window, fa_view *view, const fa_interrupt *interrupt,
			  fa_error *error)
{
	turn how = turn_of(photo->orientation);
	double scale = window.eighths / 8.0;
	int width = how.swap ? photo->height : photo->width;
	int height = how.swap ? photo->width : photo->height;
	double x = how.flip_x ? width - window.x2 / scale : window.x1 / scale;
	double y = how.flip_y ? height - window.y2 / scale : window.y1 / scale;
	fa_status status;

	memset(view, 0, sizeof(*view));
	FA_TRY(fa_image_alloc(&view->image, window.x2 - window.x1, window.y2 - window.y1, error));
	if (photo->format == FA_FORMAT_JPEG)
		status =
			fa_jpeg_decode(photo->bytes, photo->length, window, &view->image, interrupt, error);
	else
		status = fa_png_decode(photo->bytes, photo->length, window, &view->image, interrupt, error);
	if (status == FA_OK && photo->orientation != 1)
		status = turn_image(&view->image, photo, interrupt, error);
	if (status != FA_OK)
	{
		fa_image_free(&view->image);
		return status;
	}
	view->x = how.swap ? y : x;
	view->y = how.swap ? x : y;
	view->scale_x = view->scale_y = scale;
	return FA_OK;
}

static fa_status
check_eighths(int eighths, fa_error *error)
{
	if (eighths < 1 || eighths > 8)
		return fa_fail(error, FA_INVALID, "images are decoded at 1 to 8 eighths, not %d", eighths);
	return FA_OK;
}

fa_status
fa_photo_decode(const fa_photo *photo, int eighths, fa_view *view, const fa_interrupt *interrupt,
				fa_error *error)
{
	bool swap = turn_of(photo->orientation).swap;
	fa_window window = {.eighths = eighths, .whole = true};

	FA_TRY(check_eighths(eighths, error));
	window.x2 = fa_scaled_size(swap ? photo->height : photo->width, eighths);
	window.y2 = fa_scaled_size(swap ? photo->width : photo->height, eighths);
	return decode_window(photo, window, view, interrupt, error);
}

/* [*from, *to) in pixels of a scaled axis, so that it covers low..high of the photo's axis. */
static void
cover(double low, double high, int size, int eighths, int *from, int *to)
{
	int pixels = fa_scaled_size(size, eighths);

	*from = (int) floor(low * eighths / 8);
	*to = (int) ceil(high * eighths / 8);
	if (*from > pixels - 1)
		*from = pixels - 1;
	if (*to > pixels)
		*to = pixels;
	if (*to <= *from)
		*to = *from + 1;
}

/* Clipped to the photo and turned as it is stored. */
static fa_status
to_stored(const fa_photo *photo, fa_rect rect, fa_rect *stored, fa_error *error)
{
	turn how = turn_of(photo->orientation);
	int width = how.swap ? photo->height : photo->width;
	int height = how.swap ? photo->width : photo->height;

	rect.x1 = fmax(rect.x1, 0);
	rect.y1 = fmax(rect.y1, 0);
	rect.x2 = fmin(rect.x2, photo->width);
	rect.y2 = fmin(rect.y2, photo->height);
	if (!(rect.x1 < rect.x2 && rect.y1 < rect.y2))
		return fa_fail(error, FA_INVALID, "the region lies outside the image");

	*stored = how.swap ? (fa_rect){rect.y1, rect.x1, rect.y2, rect.x2} : rect;
	if (how.flip_x)
	{
		double x1 = stored->x1;

		stored->x1 = width - stored->x2;
		stored->x2 = width - x1;
	}
	if (how.flip_y)
	{
		double y1 = stored->y1;

		stored->y1 = height - stored->y2;
		stored->y2 = height - y1;
	}
	return FA_OK;
}

/* The pixels at eighths/8 of the stored image that cover a rect of the upright one. */
static fa_status
window_of(const fa_photo *photo, fa_rect rect, int eighths, fa_window *window, fa_error *error)
{
	bool swap = turn_of(photo->orientation).swap;
	fa_rect stored = {0};

	*window = (fa_window){.eighths = eighths};
	FA_TRY(to_stored(photo, rect, &stored, error));
	cover(stored.x1, stored.x2, swap ? photo->height : photo->width, eighths, &window->x1,
		  &window->x2);
	cover(stored.y1, stored.y2, swap ? photo->width : photo->height, eighths, &window->y1,
		  &window->y2);
	return FA_OK;
}

fa_status
fa_photo_decode_region(const fa_photo *photo, fa_rect rect, int eighths, fa_view *view,
					   const fa_interrupt *interrupt, fa_error *error)
{
	fa_window window;

	FA_TRY(check_eighths(eighths, error));
	FA_TRY(window_of(photo, rect, eighths, &window, error));
	return decode_window(photo, window, view, interrupt, error);
}

/* From what was cut out of the stored image to a photo. */
static fa_photo_part
part_of(const fa_photo *photo, const fa_jpeg_part *cut)
{
	turn how = turn_of(photo->orientation);
	int x = how.flip_x ? (how.swap ? photo->height : photo->width) - cut->x2 : cut->x1;
	int y = how.flip_y ? (how.swap ? photo->width : photo->height) - cut->y2 : cut->y1;
	int width = cut->x2 - cut->x1, height = cut->y2 - cut->y1;

	return (fa_photo_part){.bytes = cut->bytes,
						   .photo = {.bytes = cut->bytes,
									 .length = cut->length,
									 .format = FA_FORMAT_JPEG,
									 .width = how.swap ? height : width,
									 .height = how.swap ? width : height,
									 .orientation = photo->orientation},
						   .x = how.swap ? y : x,
						   .y = how.swap ? x : y};
}

fa_status
fa_photo_cut(const fa_photo *photo, const fa_rect *rects, int count, fa_photo_part *parts,
			 const fa_interrupt *interrupt, fa_error *error)
{
	fa_jpeg_part *cuts;
	fa_status status = FA_OK;

	if (photo->format != FA_FORMAT_JPEG)
		return fa_fail(error, FA_UNSUPPORTED, "only JPEG images can be cut");
	cuts = calloc((size_t) count + 1, sizeof(fa_jpeg_part));
	if (cuts == NULL)
		return fa_no_memory(error, (size_t) count * sizeof(fa_jpeg_part));
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		fa_window window;

		status = window_of(photo, rects[i], 8, &window, error);
		cuts[i] =
			(fa_jpeg_part){.x1 = window.x1, .y1 = window.y1, .x2 = window.x2, .y2 = window.y2};
	}
	if (status == FA_OK)
		status = fa_jpeg_cut(photo->bytes, photo->length, cuts, count, interrupt, error);
	for (int i = 0; i < count && status == FA_OK; i++)
		parts[i] = part_of(photo, &cuts[i]);
	free(cuts);
	return status;
}

fa_status
fa_photo_part_decode(const fa_photo_part *part, int eighths, fa_view *view,
					 const fa_interrupt *interrupt, fa_error *error)
{
	FA_TRY(fa_photo_decode(&part->photo, eighths, view, interrupt, error));
	view->x += part->x;
	view->y += part->y;
	return FA_OK;
}

void
fa_photo_part_free(fa_photo_part *part)
{
	free(part->bytes);
	memset(part, 0, sizeof(*part));
}

fa_status
fa_photo_encode(const fa_image *image, fa_format format, int quality, uint8_t **bytes,
				size_t *length, const fa_interrupt *interrupt, fa_error *error)
{
	*bytes = NULL;
	*length = 0;
	if (format == FA_FORMAT_PNG)
		return fa_png_encode(image, bytes, length, interrupt, error);
	if (quality < 1 || quality > 100)
		return fa_fail(error, FA_INVALID, "JPEG quality is 1 to 100, not %d", quality);
	return fa_jpeg_encode(image, quality, bytes, length, interrupt, error);
}
