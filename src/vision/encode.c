/*
 * encode.c
 *		Writing JPEG and PNG into memory, called by fa_photo_encode for
 *		face_annotate.
 *
 * As in the readers, the functions named *_guarded call setjmp, every jump of
 * the library ends there, and their callers own what must be released.
 */
#include "codec.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>
#include <png.h>

#define FULL_CHROMA_QUALITY 90 /* from here on every pixel keeps its own chroma */

typedef struct jpeg_writer
{
	struct jpeg_compress_struct codec;
	struct jpeg_error_mgr errors;
	jmp_buf on_error;
	unsigned char *bytes; /* malloc'ed by libjpeg */
	unsigned long length;
	const fa_interrupt *interrupt;
	fa_error *error;
} jpeg_writer;

static void
on_jpeg_error(j_common_ptr codec)
{
	jpeg_writer *writer = codec->client_data;
	char text[JMSG_LENGTH_MAX];

	writer->errors.format_message(codec, text);
	if (writer->errors.msg_code == JERR_OUT_OF_MEMORY)
		fa_fail(writer->error, FA_NO_MEMORY, "out of memory");
	else if (writer->errors.msg_code == JERR_IMAGE_TOO_BIG)
		fa_fail(writer->error, FA_TOO_LARGE, "image is too large for JPEG");
	else
		fa_fail(writer->error, FA_INTERNAL, "could not write JPEG");
	fa_detail(writer->error, "%s.", text);
	longjmp(writer->on_error, 1);
}

static void
on_jpeg_message(j_common_ptr codec, int level)
{
	(void) codec;
	(void) level;
}

static fa_status
jpeg_encode_guarded(jpeg_writer *writer, const fa_image *image, int quality)
{
	struct jpeg_compress_struct *codec = &writer->codec;

	if (setjmp(writer->on_error) != 0)
		return writer->error->status;

	jpeg_create_compress(codec);
	jpeg_mem_dest(codec, &writer->bytes, &writer->length);
	codec->image_width = (JDIMENSION) image->width;
	codec->image_height = (JDIMENSION) image->height;
	codec->input_components = 3;
	codec->in_color_space = JCS_RGB;
	jpeg_set_defaults(codec); /* 4:2:0 */
	jpeg_set_quality(codec, quality, TRUE);
	if (quality >= FULL_CHROMA_QUALITY)
		codec->comp_info[0].h_samp_factor = codec->comp_info[0].v_samp_factor = 1;
	jpeg_start_compress(codec, TRUE);
	while (codec->next_scanline < codec->image_height)
	{
		JSAMPROW row = image->pixels + (size_t) codec->next_scanline * image->stride;

		FA_TRY(fa_check_interrupt(writer->interrupt, writer->error));
		jpeg_write_scanlines(codec, &row, 1);
	}
	jpeg_finish_compress(codec);
	return FA_OK;
}

fa_status
fa_jpeg_encode(const fa_image *image, int quality, uint8_t **bytes, size_t *length,
			   const fa_interrupt *interrupt, fa_error *error)
{
	jpeg_writer writer = {.interrupt = interrupt, .error = error};
	fa_status status;

	writer.codec.err = jpeg_std_error(&writer.errors);
	writer.codec.client_data = &writer;
	writer.errors.error_exit = on_jpeg_error;
	writer.errors.emit_message = on_jpeg_message;
	status = jpeg_encode_guarded(&writer, image, quality);
	/* libjpeg tells where its buffer has moved to only when the destination ends */
	if (status != FA_OK && writer.codec.dest != NULL)
		writer.codec.dest->term_destination(&writer.codec);
	jpeg_destroy_compress(&writer.codec);
	if (status != FA_OK)
	{
		free(writer.bytes);
		return status;
	}
	*bytes = writer.bytes;
	*length = writer.length;
	return FA_OK;
}

typedef struct png_writer
{
	png_structp codec;
	png_infop info;
	uint8_t *bytes;
	size_t length, capacity;
	const fa_interrupt *interrupt;
	fa_error *error;
} png_writer;

static void
on_png_error(png_structp codec, png_const_charp text)
{
	png_writer *writer = png_get_error_ptr(codec);

	fa_fail(writer->error, strstr(text, "emory") != NULL ? FA_NO_MEMORY : FA_INTERNAL,
			"could not write PNG");
	fa_detail(writer->error, "%s.", text);
	png_longjmp(codec, 1);
}

static void
on_png_warning(png_structp codec, png_const_charp text)
{
	(void) codec;
	(void) text;
}

static void
on_write(png_structp codec, png_bytep bytes, size_t count)
{
	png_writer *writer = png_get_io_ptr(codec);

	if (count > writer->capacity - writer->length)
	{
		size_t capacity;
		uint8_t *grown;

		if (!fa_add(writer->length, count, &capacity) || !fa_multiply(capacity, 2, &capacity) ||
			(grown = realloc(writer->bytes, capacity)) == NULL)
			png_error(codec, "Out of memory");
		writer->bytes = grown;
		writer->capacity = capacity;
	}
	memcpy(writer->bytes + writer->length, bytes, count);
	writer->length += count;
}

static void
on_flush(png_structp codec)
{
	(void) codec;
}

static fa_status
png_encode_guarded(png_writer *writer, const fa_image *image)
{
	png_structp codec = writer->codec;

	if (setjmp(png_jmpbuf(codec)) != 0)
		return writer->error->status;

	png_set_write_fn(codec, writer, on_write, on_flush);
	png_set_IHDR(codec, writer->info, (png_uint_32) image->width, (png_uint_32) image->height, 8,
				 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
				 PNG_FILTER_TYPE_DEFAULT);
	png_write_info(codec, writer->info);
	for (int y = 0; y < image->height; y++)
	{
		FA_TRY(fa_check_interrupt(writer->interrupt, writer->error));
		png_write_row(codec, image->pixels + (size_t) y * image->stride);
	}
	png_write_end(codec, NULL);
	return FA_OK;
}

fa_status
fa_png_encode(const fa_image *image, uint8_t **bytes, size_t *length, const fa_interrupt *interrupt,
			  fa_error *error)
{
	png_writer writer = {.interrupt = interrupt, .error = error};
	fa_status status = FA_NO_MEMORY;

	writer.codec =
		png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer, on_png_error, on_png_warning);
	if (writer.codec != NULL)
		writer.info = png_create_info_struct(writer.codec);
	if (writer.info != NULL)
		status = png_encode_guarded(&writer, image);
	else
		fa_fail(error, FA_NO_MEMORY, "out of memory");
	png_destroy_write_struct(&writer.codec, &writer.info);
	if (status != FA_OK)
	{
		free(writer.bytes);
		return status;
	}
	*bytes = writer.bytes;
	*length = writer.length;
	return FA_OK;
}
