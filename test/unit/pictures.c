/*
 * pictures.c
 *		See pictures.h. Written with libjpeg and libpng directly, not with the code
 *		under test.
 */
#include "pictures.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int
picture_value(int x, int y, int c, int width, int height)
{
	if (c == 0)
		return 16 + x * 223 / width;
	if (c == 1)
		return 16 + y * 223 / height;
	return 239 - (x + y) * 223 / (width + height);
}

/* Ink c of CMYK, 255: full; black is a light constant veil. */
static int
ink(const jpeg_kind *kind, int x, int y, int c)
{
	return c == 3 ? 40 : 255 - picture_value(x, y, c, kind->width, kind->height);
}

int
jpeg_value(const jpeg_kind *kind, int x, int y, int c)
{
	if (kind->stored == JCS_GRAYSCALE)
		return picture_value(x, y, 0, kind->width, kind->height);
	if (kind->stored == JCS_CMYK || kind->stored == JCS_YCCK)
		return (255 - ink(kind, x, y, c)) * (255 - ink(kind, x, y, 3)) / 255;
	return picture_value(x, y, c, kind->width, kind->height);
}

/* Progressive: all DC bits of the only component, then all AC bits. */
static const jpeg_scan_info two_scans[2] = {{1, {0}, 0, 0, 0, 0}, {1, {0}, 1, 63, 0, 0}};

picture
make_jpeg(const jpeg_kind *kind)
{
	struct jpeg_compress_struct codec;
	struct jpeg_error_mgr errors;
	picture result = {NULL, 0};
	unsigned long length = 0;
	bool inks = kind->stored == JCS_CMYK || kind->stored == JCS_YCCK;
	bool grey = kind->stored == JCS_GRAYSCALE;
	int channels = inks ? 4 : grey ? 1 : 3;
	uint8_t *row = malloc((size_t) kind->width * 4);

	codec.err = jpeg_std_error(&errors);
	jpeg_create_compress(&codec);
	jpeg_mem_dest(&codec, &result.bytes, &length);
	codec.image_width = (JDIMENSION) kind->width;
	codec.image_height = (JDIMENSION) kind->height;
	codec.input_components = channels;
	codec.in_color_space = inks ? JCS_CMYK : grey ? JCS_GRAYSCALE : JCS_RGB;
	jpeg_set_defaults(&codec);
	jpeg_set_colorspace(&codec, kind->stored);
	jpeg_set_quality(&codec, kind->quality ? kind->quality : 100, TRUE);
	for (int i = 0; i < codec.num_components; i++)
		codec.comp_info[i].h_samp_factor = codec.comp_info[i].v_samp_factor = 1;
	if (!grey)
	{
		/* black is sampled as finely as luma */
		for (int i = 0; i < 4; i += 3)
		{
			codec.comp_info[i].h_samp_factor = kind->h ? kind->h : 1;
			codec.comp_info[i].v_samp_factor = kind->v ? kind->v : 1;
		}
	}
	if (kind->plain_cmyk)
		codec.write_Adobe_marker = FALSE;
	codec.restart_interval = (unsigned) kind->restart;
	if (kind->progressive)
		jpeg_simple_progression(&codec);
	if (kind->two_scans)
	{
		codec.scan_info = two_scans;
		codec.num_scans = 2;
	}
	jpeg_start_compress(&codec, TRUE);
	if (kind->orientation)
	{
		uint8_t exif[6 + 64] = "Exif\0";

		jpeg_write_marker(&codec, JPEG_APP0 + 1, exif,
						  (unsigned) (6 + make_exif(exif + 6, kind->orientation, true)));
	}
	for (int y = 0; y < kind->height; y++)
	{
		for (int x = 0; x < kind->width; x++)
			for (int c = 0; c < channels; c++)
			{
				int value =
					inks ? ink(kind, x, y, c) : picture_value(x, y, c, kind->width, kind->height);

				row[channels * x + c] = (uint8_t) (inks && !kind->plain_cmyk ? 255 - value : value);
			}
		jpeg_write_scanlines(&codec, &row, 1);
	}
	jpeg_finish_compress(&codec);
	jpeg_destroy_compress(&codec);
	free(row);
	result.length = length;
	return result;
}

/* The sample that is stored, of `depth` bits: colour type 3 stores an index. */
static int
png_sample(const png_kind *kind, int x, int y, int c)
{
	bool alpha = kind->colour & PNG_COLOR_MASK_ALPHA;
	int channels = kind->colour & PNG_COLOR_MASK_COLOR ? 3 : 1;

	if (kind->colour == PNG_COLOR_TYPE_PALETTE)
		return (x + 3 * y) % (1 << kind->depth);
	if (alpha && c == channels)
		return ((x * 5 + y) % 256) * (kind->depth == 16 ? 257 : 1);
	if (kind->depth == 16)
		return picture_value(x, y, c, kind->width, kind->height) * 257 + (x % 3 - 1) * 60;
	return picture_value(x, y, c, kind->width, kind->height) >> (8 - kind->depth);
}

/* Entry i of the palette, and its alpha where there is tRNS. */
static int
palette_value(int i, int c)
{
	return (i * (37 + 20 * c) + 11 * c) % 256;
}

static int
palette_alpha(int i)
{
	return i * 53 % 256;
}

int
png_value(const png_kind *kind, int x, int y, int c)
{
	int channels = kind->colour & PNG_COLOR_MASK_COLOR ? 3 : 1;
	int most = (1 << kind->depth) - 1, alpha = 255;
	double value;

	if (kind->colour == PNG_COLOR_TYPE_PALETTE)
	{
		int i = png_sample(kind, x, y, 0);

		value = palette_value(i, c);
		alpha = kind->transparent ? palette_alpha(i) : 255;
	}
	else
	{
		value = png_sample(kind, x, y, channels == 1 ? 0 : c) * 255.0 / most;
		if (kind->colour & PNG_COLOR_MASK_ALPHA)
			alpha = (x * 5 + y) % 256;
		else if (kind->transparent && x == 0 && y == 0)
			alpha = 0;
	}
	value = (int) (value + 0.5); /* eight bits first */
	return (int) ((value * alpha + 255.0 * (255 - alpha)) / 255 + 0.5);
}

static void
append(png_structp codec, png_bytep bytes, size_t count)
{
	picture *to = png_get_io_ptr(codec);

	to->bytes = realloc(to->bytes, to->length + count);
	memcpy(to->bytes + to->length, bytes, count);
	to->length += count;
}

picture
make_png(const png_kind *kind)
{
	picture result = {NULL, 0};
	png_structp codec = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png_create_info_struct(codec);
	int channels = (kind->colour & PNG_COLOR_MASK_COLOR && kind->colour != 3 ? 3 : 1) +
				   (kind->colour & PNG_COLOR_MASK_ALPHA ? 1 : 0);
	size_t row_bytes = ((size_t) kind->width * channels * kind->depth + 7) / 8;
	uint8_t *pixels = calloc((size_t) kind->height, row_bytes), exif[64];
	png_bytep *rows = malloc((size_t) kind->height * sizeof(*rows));

	png_set_write_fn(codec, &result, append, NULL);
	png_set_IHDR(codec, info, (png_uint_32) kind->width, (png_uint_32) kind->height, kind->depth,
				 kind->colour, kind->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
	if (kind->colour == PNG_COLOR_TYPE_PALETTE)
	{
		png_color palette[256];
		png_byte alpha[256];

		for (int i = 0; i < 1 << kind->depth; i++)
		{
			palette[i] = (png_color){(png_byte) palette_value(i, 0), (png_byte) palette_value(i, 1),
									 (png_byte) palette_value(i, 2)};
			alpha[i] = (png_byte) palette_alpha(i);
		}
		png_set_PLTE(codec, info, palette, 1 << kind->depth);
		if (kind->transparent)
			png_set_tRNS(codec, info, alpha, 1 << kind->depth, NULL);
	}
	else if (kind->transparent)
	{
		png_color_16 colour = {.red = (png_uint_16) png_sample(kind, 0, 0, 0),
							   .green = (png_uint_16) png_sample(kind, 0, 0, 1),
							   .blue = (png_uint_16) png_sample(kind, 0, 0, 2),
							   .gray = (png_uint_16) png_sample(kind, 0, 0, 0)};

		png_set_tRNS(codec, info, NULL, 0, &colour);
	}
	png_write_info(codec, info);
	if (kind->orientation && !kind->late_exif)
		png_write_chunk(codec, (png_const_bytep) "eXIf", exif,
						make_exif(exif, kind->orientation, false));
	for (int y = 0; y < kind->height; y++)
	{
		rows[y] = pixels + (size_t) y * row_bytes;
		for (int x = 0; x < kind->width; x++)
			for (int c = 0; c < channels; c++)
			{
				int sample = png_sample(kind, x, y, c), i = channels * x + c;

				if (kind->depth == 16)
				{
					rows[y][2 * i] = (uint8_t) (sample >> 8);
					rows[y][2 * i + 1] = (uint8_t) sample;
				}
				else
					rows[y][i * kind->depth / 8] |=
						(uint8_t) (sample << (8 - kind->depth - i * kind->depth % 8));
			}
	}
	png_write_image(codec, rows);
	if (kind->orientation && kind->late_exif)
		png_write_chunk(codec, (png_const_bytep) "eXIf", exif,
						make_exif(exif, kind->orientation, false));
	png_write_end(codec, NULL);
	png_destroy_write_struct(&codec, &info);
	free(pixels);
	free(rows);
	return result;
}

static void
put(uint8_t *to, int bytes, uint32_t value, bool big_endian)
{
	for (int i = 0; i < bytes; i++)
		to[big_endian ? bytes - 1 - i : i] = (uint8_t) (value >> 8 * i);
}

size_t
make_exif(uint8_t exif[64], int orientation, bool big_endian)
{
	memcpy(exif, big_endian ? "MM\0*" : "II*\0", 4);
	put(exif + 4, 4, 8, big_endian);
	put(exif + 8, 2, 2, big_endian); /* two entries: ImageWidth and Orientation */
	put(exif + 10, 2, 0x0100, big_endian);
	put(exif + 12, 2, 4, big_endian);
	put(exif + 14, 4, 1, big_endian);
	put(exif + 18, 4, 640, big_endian);
	put(exif + 22, 2, 0x0112, big_endian);
	put(exif + 24, 2, 3, big_endian);
	put(exif + 26, 4, 1, big_endian);
	put(exif + 30, 4, 0, big_endian);
	put(exif + 30, 2, (uint32_t) orientation, big_endian);
	put(exif + 34, 4, 0, big_endian); /* no further directory */
	return 38;
}

uint32_t
random_u32(uint64_t *state)
{
	/* xorshift64* (Vigna 2016) */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t) (*state * 2685821657736338717u >> 32);
}

static double
milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static bool
should_stop(void *argument)
{
	patience *p = argument;
	double now = milliseconds();

	if (now - p->last > p->longest)
		p->longest = now - p->last;
	p->last = now;
	return ++p->questions == p->limit;
}

fa_interrupt
patience_start(patience *p, int limit)
{
	*p = (patience){.limit = limit, .last = milliseconds()};
	return (fa_interrupt){should_stop, p};
}
