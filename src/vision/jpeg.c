/*
 * jpeg.c
 *		Reading JPEG with libjpeg-turbo, called by photo.c.
 *
 * libjpeg reports errors by a function that must not return. The functions
 * named *_guarded call setjmp and every jump ends there; what must be released
 * after a jump lives in the reader, which their callers own.
 *
 * The bytes are handed to libjpeg in slices, and each slice asks whether to
 * stop, as do each row and each step over a progressive file's scans.
 */
#include "codec.h"
#include "exif.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/*
 * Encoders write about ten scans, exhaustive optimisers some more. Every scan
 * may touch every pixel, so a file of a few hundred kilobytes could otherwise
 * keep a core busy for hours.
 */
#define MAX_SCANS 100

#define SLICE_BYTES 65536 /* between two questions while parsing */
#define MAX_PADDING 64    /* stray bytes that some cameras write before the end */

typedef struct jpeg_reader
{
	struct jpeg_decompress_struct codec;
	struct jpeg_error_mgr errors;
	struct jpeg_source_mgr source;
	struct jpeg_progress_mgr progress;
	jmp_buf on_error;
	const uint8_t *bytes;
	size_t length;
	size_t given;        /* bytes handed to libjpeg so far */
	bool reading_pixels; /* the header is behind us */
	const fa_interrupt *interrupt;
	fa_error *error;
} jpeg_reader;

/*
 * Warnings after which pixels are wrong or missing. libjpeg goes on and paints
 * grey; we don't. The others leave every pixel as it was meant:
 * JWRN_ADOBE_XFORM (an unknown code means the usual transform),
 * JWRN_JFIF_MAJOR (nothing depends on the version), JWRN_NOT_SEQUENTIAL
 * (parameters that a baseline scan doesn't use), and JWRN_EXTRANEOUS_DATA in
 * the cases that is_damage lets pass.
 */
static const int damaging_warnings[] = {
	JWRN_BOGUS_PROGRESSION, /* refines what no scan has sent: a scan is lost */
	JWRN_HIT_MARKER,        /* a segment ended before its blocks did */
	JWRN_HUFF_BAD_CODE,     /* bits that no table explains */
	JWRN_JPEG_EOF,          /* the file ended first */
	JWRN_MUST_RESYNC,       /* restart markers out of order: blocks are lost */
};

static bool
is_damage(const jpeg_reader *reader)
{
	int code = reader->errors.msg_code;

	if (code == JWRN_EXTRANEOUS_DATA)
	{
		int stray = reader->errors.msg_parm.i[0], marker = reader->errors.msg_parm.i[1];

		/*
		 * Between the segments of the header: nobody's data. Before a restart
		 * marker: its blocks ended too early. After the last block: padding,
		 * unless there is so much that the decoder must have lost its place.
		 */
		return reader->reading_pixels &&
			   ((marker >= JPEG_RST0 && marker <= JPEG_RST0 + 7) || stray > MAX_PADDING);
	}
	for (size_t i = 0; i < sizeof(damaging_warnings) / sizeof(damaging_warnings[0]); i++)
		if (code == damaging_warnings[i])
			return true;
	return false;
}

static fa_status
status_of(int code)
{
	switch (code)
	{
		case JERR_OUT_OF_MEMORY:
			return FA_NO_MEMORY;
		case JERR_IMAGE_TOO_BIG:
		case JERR_WIDTH_OVERFLOW:
			return FA_TOO_LARGE;
		case JERR_ARITH_NOTIMPL:
		case JERR_BAD_PRECISION:
		case JERR_CCIR601_NOTIMPL:
		case JERR_COMPONENT_COUNT:
		case JERR_CONVERSION_NOTIMPL:
		case JERR_FRACT_SAMPLE_NOTIMPL:
		case JERR_NOTIMPL:
		case JERR_NOT_COMPILED:
		case JERR_SOF_UNSUPPORTED:
			return FA_UNSUPPORTED;
		default:
			return FA_DAMAGED;
	}
}

static size_t
position(const jpeg_reader *reader)
{
	return reader->given - reader->source.bytes_in_buffer;
}

/* Ends the decode with libjpeg's current message, an error or a warning. */
static void
on_error(j_common_ptr codec)
{
	jpeg_reader *reader = codec->client_data;
	char text[JMSG_LENGTH_MAX];
	fa_status status = status_of(reader->errors.msg_code);

	reader->errors.format_message(codec, text);
	if (status == FA_NO_MEMORY)
		fa_fail(reader->error, status, "out of memory");
	else
		fa_fail(reader->error, status,
				status == FA_TOO_LARGE     ? "JPEG image is too large"
				: status == FA_UNSUPPORTED ? "JPEG image is of an unsupported kind"
										   : "JPEG image is damaged");
	fa_detail(reader->error, "%s, at byte %zu of %zu.", text, position(reader), reader->length);
	longjmp(reader->on_error, 1);
}

static void
on_message(j_common_ptr codec, int level)
{
	if (level < 0 && is_damage(codec->client_data)) /* positive levels are traces */
		on_error(codec);
}

static void
ask(jpeg_reader *reader)
{
	if (fa_check_interrupt(reader->interrupt, reader->error) != FA_OK)
		longjmp(reader->on_error, 1);
}

static void
on_progress(j_common_ptr codec)
{
	jpeg_reader *reader = codec->client_data;

	ask(reader);
	if (reader->codec.input_scan_number > MAX_SCANS)
	{
		fa_fail(reader->error, FA_TOO_LARGE, "JPEG image has too many scans");
		fa_detail(reader->error, "At most %d are read.", MAX_SCANS);
		longjmp(reader->on_error, 1);
	}
}

static void
source_nothing(j_decompress_ptr codec)
{
	(void) codec;
}

static boolean
source_fill(j_decompress_ptr codec)
{
	jpeg_reader *reader = codec->client_data;
	size_t slice = reader->length - reader->given;

	ask(reader);
	if (slice == 0)
		ERREXIT(codec, JERR_INPUT_EOF);
	if (!reader->reading_pixels && reader->given > FA_MAX_HEADER_BYTES)
	{
		fa_fail(reader->error, FA_TOO_LARGE, "JPEG image has too long a header");
		fa_detail(reader->error, "No pixels in the first %u bytes.", FA_MAX_HEADER_BYTES);
		longjmp(reader->on_error, 1);
	}
	if (slice > SLICE_BYTES)
		slice = SLICE_BYTES;
	reader->source.next_input_byte = reader->bytes + reader->given;
	reader->source.bytes_in_buffer = slice;
	reader->given += slice;
	return TRUE;
}

static void
source_skip(j_decompress_ptr codec, long count)
{
	struct jpeg_source_mgr *source = codec->src;

	while (count > 0 && (size_t) count > source->bytes_in_buffer)
	{
		count -= (long) source->bytes_in_buffer;
		source_fill(codec);
	}
	if (count > 0)
	{
		source->next_input_byte += count;
		source->bytes_in_buffer -= (size_t) count;
	}
}

static void
reader_init(jpeg_reader *reader, const uint8_t *bytes, size_t length, const fa_interrupt *interrupt,
			fa_error *error)
{
	memset(reader, 0, sizeof(*reader));
	reader->bytes = bytes;
	reader->length = length;
	reader->interrupt = interrupt;
	reader->error = error;
	reader->codec.err = jpeg_std_error(&reader->errors);
	reader->codec.client_data = reader;
	reader->errors.error_exit = on_error;
	reader->errors.emit_message = on_message;
	reader->source.init_source = source_nothing;
	reader->source.fill_input_buffer = source_fill;
	reader->source.skip_input_data = source_skip;
	reader->source.resync_to_restart = jpeg_resync_to_restart;
	reader->source.term_source = source_nothing;
	reader->progress.progress_monitor = on_progress;
}

/* Up to the first scan. Called inside a guarded function. */
static fa_status
read_header(jpeg_reader *reader, bool want_exif)
{
	struct jpeg_decompress_struct *codec = &reader->codec;

	jpeg_create_decompress(codec);
	codec->src = &reader->source;
	codec->progress = &reader->progress;
	if (want_exif)
		jpeg_save_markers(codec, JPEG_APP0 + 1, 0xffff);
	jpeg_read_header(codec, TRUE);
	reader->reading_pixels = true;
	if (codec->arith_code || codec->data_precision != 8 || codec->jpeg_color_space == JCS_UNKNOWN)
	{
		fa_fail(reader->error, FA_UNSUPPORTED, "JPEG image is of an unsupported kind");
		return fa_detail(reader->error, "%s coding, %d bits, %d components.",
						 codec->arith_code ? "Arithmetic" : "Huffman", codec->data_precision,
						 codec->num_components);
	}
	return FA_OK;
}

static fa_status
header_guarded(jpeg_reader *reader, fa_header *header)
{
	static const char exif[6] = "Exif\0";

	if (setjmp(reader->on_error) != 0)
		return reader->error->status;

	FA_TRY(read_header(reader, true));
	header->width = reader->codec.image_width;
	header->height = reader->codec.image_height;
	header->orientation = 1;
	header->interlaced = false;
	for (jpeg_saved_marker_ptr m = reader->codec.marker_list; m != NULL; m = m->next)
		if (m->data_length >= sizeof(exif) && memcmp(m->data, exif, sizeof(exif)) == 0)
		{
			header->orientation =
				fa_exif_orientation(m->data + sizeof(exif), m->data_length - sizeof(exif));
			break;
		}
	return FA_OK;
}

fa_status
fa_jpeg_header(const uint8_t *bytes, size_t length, fa_header *header, fa_error *error)
{
	jpeg_reader reader;
	fa_status status;

	reader_init(&reader, bytes, length, NULL, error);
	status = header_guarded(&reader, header);
	jpeg_destroy_decompress(&reader.codec);
	return status;
}

/*
 * Four inks to RGB over white paper. Adobe's programs store the inks inverted
 * (255: none) and sign their files with a marker; others don't.
 */
static void
cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, int width, bool inverted)
{
	uint8_t flip = inverted ? 0 : 255;

	for (int x = 0; x < width; x++)
		for (int c = 0; c < 3; c++)
			rgb[3 * x + c] =
				(uint8_t) (((cmyk[4 * x + c] ^ flip) * (cmyk[4 * x + 3] ^ flip) + 127) / 255);
}

static fa_status
decode_guarded(jpeg_reader *reader, fa_window window, fa_image *image)
{
	struct jpeg_decompress_struct *codec = &reader->codec;
	JDIMENSION first = 0;
	uint8_t *row;

	if (setjmp(reader->on_error) != 0)
		return reader->error->status;

	FA_TRY(read_header(reader, false));
	codec->scale_num = (unsigned) window.eighths;
	codec->scale_denom = 8;
	codec->out_color_space =
		codec->jpeg_color_space == JCS_CMYK || codec->jpeg_color_space == JCS_YCCK ? JCS_CMYK
																				   : JCS_RGB;
	jpeg_start_decompress(codec);
	if (window.x2 > (int) codec->output_width || window.y2 > (int) codec->output_height)
		return fa_fail(reader->error, FA_UNSUPPORTED, "JPEG image cannot be scaled");

	if (window.x2 - window.x1 < (int) codec->output_width)
	{
		/*
		 * Upsampled chroma looks one sample beyond its block, so the blocks beside
		 * the window are decoded too. (Above it, libjpeg sees to that itself.)
		 */
		JDIMENSION beside = (JDIMENSION) (codec->max_h_samp_factor * window.eighths);
		JDIMENSION x1 = (JDIMENSION) window.x1, x2 = (JDIMENSION) window.x2, width;

		first = x1 > beside ? x1 - beside : 0;
		width = (codec->output_width - x2 > beside ? x2 + beside : codec->output_width) - first;
		jpeg_crop_scanline(codec, &first, &width);
	}
	jpeg_skip_scanlines(codec, (JDIMENSION) window.y1);

	row = codec->mem->alloc_small((j_common_ptr) codec, JPOOL_IMAGE,
								  (size_t) codec->output_width * (size_t) codec->output_components);
	while (codec->output_scanline < (JDIMENSION) window.y2)
	{
		uint8_t *to =
			image->pixels + ((size_t) codec->output_scanline - (size_t) window.y1) * image->stride;
		const uint8_t *from = row + (size_t) (window.x1 - (int) first) * codec->output_components;

		ask(reader);
		jpeg_read_scanlines(codec, &row, 1);
		if (codec->out_color_space == JCS_CMYK)
			cmyk_to_rgb(from, to, image->width, codec->saw_Adobe_marker);
		else
			memcpy(to, from, (size_t) image->width * 3);
	}
	if (window.whole)
		jpeg_finish_decompress(codec); /* to the end-of-image marker */
	return FA_OK;
}

fa_status
fa_jpeg_decode(const uint8_t *bytes, size_t length, fa_window window, fa_image *image,
			   const fa_interrupt *interrupt, fa_error *error)
{
	jpeg_reader reader;
	fa_status status;

	reader_init(&reader, bytes, length, interrupt, error);
	status = decode_guarded(&reader, window, image);
	jpeg_destroy_decompress(&reader.codec);
	return status;
}
