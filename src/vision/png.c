/*
 * png.c
 *		Reading PNG with libpng, called by photo.c. Gamma and colour profiles are
 *		not applied: pixels are taken as sRGB, as the networks were trained.
 *		Transparent pixels show white.
 *
 * libpng reports errors by a function that must not return. The functions named
 * *_guarded call setjmp and every jump ends there; what must be released after
 * a jump lives in the reader, which their callers own.
 *
 * An image that isn't interlaced is read row by row and reduced as it comes, so
 * no more than the wanted pixels and one row are in memory.
 */
#include "codec.h"
#include "exif.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#define SIGNATURE_BYTES 8
#define CHUNK_FRAME_BYTES 12      /* length, type, CRC */
#define MAX_HEADER_READS 500000   /* by libpng before the pixels; some four per chunk */
#define MAX_WALKED_CHUNKS 1000000 /* in search of eXIf */

typedef struct png_reader
{
	png_structp codec;
	png_infop info;
	const uint8_t *bytes;
	size_t length, position;
	int header_reads;    /* so far */
	bool reading_pixels; /* the header is behind us */
	const fa_interrupt *interrupt;
	fa_error *error;

	fa_window window;
	int width, height, channels; /* of the stored image: 3, or 4 with alpha */
	uint8_t *pixels;             /* one row, or all rows where interlaced */
	uint16_t *row_sums;          /* of the last row, weighted across; output width x 3 */
	uint32_t *sums;              /* of the rows of one output row, weighted both ways */
} png_reader;

static void
on_error(png_structp codec, png_const_charp text)
{
	png_reader *reader = png_get_error_ptr(codec);

	if (strstr(text, "memory") != NULL) /* libpng knows no error codes */
		fa_fail(reader->error, FA_NO_MEMORY, "out of memory");
	else
		fa_fail(reader->error, FA_DAMAGED, "PNG image is damaged");
	fa_detail(reader->error, "%s, at byte %zu of %zu.", text, reader->position, reader->length);
	png_longjmp(codec, 1);
}

/* Warnings are about what the pixels don't depend on: all checksums are made errors below. */
static void
on_warning(png_structp codec, png_const_charp text)
{
	(void) codec;
	(void) text;
}

static void
ask(png_reader *reader)
{
	if (fa_check_interrupt(reader->interrupt, reader->error) != FA_OK)
		png_longjmp(reader->codec, 1);
}

static void
on_read(png_structp codec, png_bytep bytes, size_t count)
{
	png_reader *reader = png_get_io_ptr(codec);

	ask(reader);
	if (count > reader->length - reader->position)
		png_error(codec, "The file ends early");
	if (!reader->reading_pixels &&
		(++reader->header_reads > MAX_HEADER_READS || reader->position > FA_MAX_HEADER_BYTES))
	{
		fa_fail(reader->error, FA_TOO_LARGE, "PNG image has too long a header");
		fa_detail(reader->error, "No pixels in the first %zu bytes.", reader->position);
		png_longjmp(codec, 1);
	}
	memcpy(bytes, reader->bytes + reader->position, count);
	reader->position += count;
}

/* Up to the first chunk of pixels. Called inside a guarded function. */
static void
read_header(png_reader *reader)
{
	png_structp codec = reader->codec;

	png_set_read_fn(codec, reader, on_read);
	png_set_crc_action(codec, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
	/* Text, profiles and the like are checked but not unpacked; tRNS stays */
	png_set_keep_unknown_chunks(codec, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
	png_set_user_limits(codec, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* photo.c has its own */
	png_read_info(codec, reader->info);
	reader->reading_pixels = true;
}

static fa_status
reader_open(png_reader *reader, const uint8_t *bytes, size_t length, const fa_interrupt *interrupt,
			fa_error *error)
{
	memset(reader, 0, sizeof(*reader));
	reader->bytes = bytes;
	reader->length = length;
	reader->interrupt = interrupt;
	reader->error = error;
	reader->codec = png_create_read_struct(PNG_LIBPNG_VER_STRING, reader, on_error, on_warning);
	if (reader->codec != NULL)
		reader->info = png_create_info_struct(reader->codec);
	return reader->info != NULL ? FA_OK : fa_fail(error, FA_NO_MEMORY, "out of memory");
}

static void
reader_close(png_reader *reader)
{
	png_destroy_read_struct(&reader->codec, &reader->info, NULL);
	free(reader->pixels);
	free(reader->row_sums);
	free(reader->sums);
}

static fa_status
header_guarded(png_reader *reader, fa_header *header)
{
	if (setjmp(png_jmpbuf(reader->codec)) != 0)
		return reader->error->status;

	read_header(reader);
	header->width = png_get_image_width(reader->codec, reader->info);
	header->height = png_get_image_height(reader->codec, reader->info);
	header->interlaced = png_get_interlace_type(reader->codec, reader->info) != PNG_INTERLACE_NONE;
	return FA_OK;
}

/* The eXIf chunk may stand before or after the pixels; its checksum is the decoder's business. */
static int
find_orientation(const uint8_t *bytes, size_t length)
{
	size_t position = SIGNATURE_BYTES;

	for (int i = 0; i < MAX_WALKED_CHUNKS && length - position >= CHUNK_FRAME_BYTES; i++)
	{
		const uint8_t *chunk = bytes + position;
		size_t count = png_get_uint_32(chunk);

		if (count > length - position - CHUNK_FRAME_BYTES)
			break;
		if (memcmp(chunk + 4, "eXIf", 4) == 0)
			return fa_exif_orientation(chunk + 8, count);
		position += CHUNK_FRAME_BYTES + count;
	}
	return 1;
}

fa_status
fa_png_header(const uint8_t *bytes, size_t length, fa_header *header, fa_error *error)
{
	png_reader reader;
	fa_status status = reader_open(&reader, bytes, length, NULL, error);

	if (status == FA_OK)
		status = header_guarded(&reader, header);
	reader_close(&reader);
	if (status == FA_OK)
		header->orientation = find_orientation(bytes, length);
	return status;
}

/* RGBA over white, in place, columns [x1, x2). */
static void
flatten(uint8_t *row, int x1, int x2)
{
	for (int x = x1; x < x2; x++)
	{
		const uint8_t *from = row + 4 * (size_t) x;
		uint8_t *to = row + 3 * (size_t) x;
		int alpha = from[3];

		for (int c = 0; c < 3; c++)
			to[c] = (uint8_t) ((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
	}
}

/* Ends row y of the scaled image: sums become averages, where the window wants them. */
static void
finish_row(png_reader *reader, fa_image *image, int y)
{
	const fa_window *window = &reader->window;
	int64_t rows_left = (int64_t) reader->height * window->eighths - 8 * (int64_t) y;
	int64_t columns_left = (int64_t) reader->width * window->eighths - 8 * (int64_t) window->x1;
	int weight_down = rows_left < 8 ? (int) rows_left : 8;
	size_t values = 3 * (size_t) image->width;
	uint8_t *row;

	if (y >= window->y1 && y < window->y2)
	{
		row = image->pixels + (size_t) (y - window->y1) * image->stride;
		for (size_t i = 0; i < values; i++)
			row[i] =
				(uint8_t) ((float) reader->sums[i] * (1.0f / (float) (8 * weight_down)) + 0.5f);
		if (columns_left < 8 * (int64_t) image->width) /* the last column is a part of one */
			for (size_t i = values - 3; i < values; i++)
			{
				uint32_t weight = (uint32_t) weight_down * (uint32_t) (columns_left % 8);

				row[i] = (uint8_t) ((reader->sums[i] + weight / 2) / weight);
			}
	}
	memset(reader->sums, 0, values * sizeof(*reader->sums));
}

/*
 * Adds row y of the stored image to the average. In units of 1/eighths pixel a
 * stored pixel is `eighths` long and an output pixel 8, so all weights are
 * integers and the averages exact.
 */
static void
average_row(png_reader *reader, fa_image *image, const uint8_t *row, int y, int x1, int x2)
{
	const fa_window *window = &reader->window;
	int eighths = window->eighths;
	size_t values = 3 * (size_t) image->width;
	int64_t down = (int64_t) y * eighths;

	memset(reader->row_sums, 0, values * sizeof(*reader->row_sums));
	for (int x = x1; x < x2; x++)
	{
		int64_t across = (int64_t) x * eighths;

		for (int left = eighths, weight; left > 0; left -= weight, across += weight)
		{
			int64_t column = across / 8 - window->x1;

			weight = 8 - (int) (across % 8);
			if (weight > left)
				weight = left;
			if (column >= 0 && column < image->width)
				for (int c = 0; c < 3; c++)
					reader->row_sums[3 * column + c] +=
						(uint16_t) (weight * row[3 * (size_t) x + c]);
		}
	}

	for (int left = eighths, weight; left > 0; left -= weight)
	{
		weight = 8 - (int) (down % 8);
		if (weight > left)
			weight = left;
		for (size_t i = 0; i < values; i++)
			reader->sums[i] += (uint32_t) weight * reader->row_sums[i];
		down += weight;
		if (down % 8 == 0 || (y == reader->height - 1 && left == weight))
			finish_row(reader, image, (int) ((down - 1) / 8));
	}
}

/* The stored pixels of one axis that pixels [from, to) of the scaled one show a part of. */
static void
stored_range(int from, int to, int eighths, int size, int *first, int *end)
{
	int64_t last = ((int64_t) to * 8 + eighths - 1) / eighths;

	*first = (int) ((int64_t) from * 8 / eighths);
	*end = last < size ? (int) last : size;
}

/* What row y of the stored image contributes to the output. */
static void
use_row(png_reader *reader, fa_image *image, uint8_t *row, int y)
{
	const fa_window *window = &reader->window;
	int x1, x2;

	stored_range(window->x1, window->x2, window->eighths, reader->width, &x1, &x2);
	if (reader->channels == 4)
		flatten(row, x1, x2);
	if (window->eighths < 8)
		average_row(reader, image, row, y, x1, x2);
	else
		memcpy(image->pixels + (size_t) (y - window->y1) * image->stride, row + 3 * (size_t) x1,
			   3 * (size_t) image->width);
}

static fa_status
decode_guarded(png_reader *reader, fa_image *image)
{
	const fa_window *window = &reader->window;
	png_structp codec = reader->codec;
	size_t row_bytes, bytes;
	int passes, first, end;

	if (setjmp(png_jmpbuf(codec)) != 0)
		return reader->error->status;

	read_header(reader);
	reader->width = (int) png_get_image_width(codec, reader->info);
	reader->height = (int) png_get_image_height(codec, reader->info);
	stored_range(window->y1, window->y2, window->eighths, reader->height, &first, &end);

	png_set_expand(codec); /* palette, 1/2/4 bits and tRNS to 8-bit channels */
	png_set_scale_16(codec);
	png_set_gray_to_rgb(codec);
	passes = png_set_interlace_handling(codec);
	png_read_update_info(codec, reader->info);
	reader->channels = png_get_channels(codec, reader->info);
	row_bytes = png_get_rowbytes(codec, reader->info);

	if (!fa_multiply(row_bytes, passes > 1 ? (size_t) reader->height : 1, &bytes))
		return fa_fail(reader->error, FA_TOO_LARGE, "PNG image is too large");
	reader->pixels = malloc(bytes);
	if (reader->pixels == NULL)
		return fa_no_memory(reader->error, bytes);
	if (window->eighths < 8)
	{
		reader->row_sums = malloc(3 * (size_t) image->width * sizeof(*reader->row_sums));
		reader->sums = calloc(3 * (size_t) image->width, sizeof(*reader->sums));
		if (reader->row_sums == NULL || reader->sums == NULL)
			return fa_no_memory(reader->error, 3 * (size_t) image->width * sizeof(*reader->sums));
	}

	if (passes == 1)
		for (int y = 0; y < end; y++)
		{
			ask(reader);
			png_read_row(codec, reader->pixels, NULL);
			if (y >= first)
				use_row(reader, image, reader->pixels, y);
		}
	else
	{
		for (int pass = 0; pass < passes; pass++)
			for (int y = 0; y < reader->height; y++)
			{
				ask(reader);
				png_read_row(codec, reader->pixels + (size_t) y * row_bytes, NULL);
			}
		for (int y = first; y < end; y++)
		{
			ask(reader);
			use_row(reader, image, reader->pixels + (size_t) y * row_bytes, y);
		}
	}
	if (window->whole)
		png_read_end(codec, NULL); /* to the IEND chunk */
	return FA_OK;
}

fa_status
fa_png_decode(const uint8_t *bytes, size_t length, fa_window window, fa_image *image,
			  const fa_interrupt *interrupt, fa_error *error)
{
	png_reader reader;
	fa_status status = reader_open(&reader, bytes, length, interrupt, error);

	reader.window = window;
	if (status == FA_OK)
		status = decode_guarded(&reader, image);
	reader_close(&reader);
	return status;
}
