/*
 * test_damage.c
 *		Photos that aren't what they claim to be: truncated at every byte, bits
 *		flipped, wrong checksums, other formats, headers and scans made to exhaust
 *		memory or patience. Each must be an error of the right kind; run under
 *		sanitizers this also shows that nothing is overrun or lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdlib.h>

#include "../../src/vision/photo.h"
#include "pictures.h"

#define PLENTY 100000000

/* Opens and decodes bytes from memory of exactly that size. */
static fa_status
try_photo(const uint8_t *bytes, size_t length, int eighths, fa_error *error)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);
	fa_photo photo;
	fa_status status;

	memcpy(copy, bytes, length);
	error->message[0] = '\0';
	status = fa_photo_open(&photo, copy, length, PLENTY, error);
	if (status == FA_OK)
	{
		fa_rect rect = {photo.width / 3.0, photo.height / 3.0, photo.width, photo.height / 2.0};
		fa_photo_part part;
		fa_view view;
		fa_error region_error;

		status = fa_photo_decode(&photo, eighths, &view, NULL, error);
		assert_true((status == FA_OK) == (view.image.pixels != NULL));
		fa_image_free(&view.image);
		/* may do without what is damaged, but not without the rest of its manners */
		if (fa_photo_decode_region(&photo, rect, eighths, &view, NULL, &region_error) == FA_OK)
			fa_image_free(&view.image);
		if (fa_photo_cut(&photo, &rect, 1, &part, NULL, &region_error) == FA_OK)
		{
			fa_status part_status =
				fa_photo_part_decode(&part, eighths, &view, NULL, &region_error);

			/* of a sound photo, a sound part */
			assert_true(status != FA_OK || part_status == FA_OK);
			fa_image_free(&view.image);
			fa_photo_part_free(&part);
		}
	}
	free(copy);
	if (status != FA_OK)
	{
		assert_int_equal(status, error->status);
		assert_true(error->message[0] != '\0');
	}
	return status;
}

static const jpeg_kind jpegs[] = {
	{.width = 40, .height = 33, .stored = JCS_YCbCr, .h = 2, .v = 2, .orientation = 6},
	{.width = 40, .height = 33, .stored = JCS_YCbCr, .progressive = true, .quality = 80},
	{.width = 40, .height = 33, .stored = JCS_GRAYSCALE, .restart = 2},
	{.width = 40, .height = 33, .stored = JCS_YCCK, .h = 2, .v = 1, .quality = 70},
};

static const png_kind pngs[] = {
	{.width = 20, .height = 17, .depth = 8, .colour = 2, .orientation = 3, .late_exif = true},
	{.width = 20, .height = 17, .depth = 8, .colour = 6, .interlaced = true, .orientation = 8},
	{.width = 20, .height = 17, .depth = 4, .colour = 3, .transparent = true},
	{.width = 20, .height = 17, .depth = 16, .colour = 0},
};

#define KINDS 8

static picture
make_kind(int i)
{
	return i < 4 ? make_jpeg(&jpegs[i]) : make_png(&pngs[i - 4]);
}

static void
every_truncation_is_damage(void **state)
{
	(void) state;
	for (int i = 0; i < KINDS; i++)
		for (int eighths = 8; eighths > 0; eighths -= 5)
		{
			picture file = make_kind(i);
			fa_error error;

			assert_int_equal(try_photo(file.bytes, file.length, eighths, &error), FA_OK);
			for (size_t n = 0; n < file.length; n++)
				if (try_photo(file.bytes, n, eighths, &error) != FA_DAMAGED)
					fail_msg("kind %d, %zu of %zu bytes: %s", i, n, file.length, error.message);
			free(file.bytes);
		}
}

/* PNG has checksums: no flipped bit goes unnoticed. JPEG has none: then nothing else may happen. */
static void
flipped_bits(void **state)
{
	uint64_t seed = 5;
	int noticed = 0;

	(void) state;
	for (int i = 0; i < KINDS; i++)
	{
		picture file = make_kind(i);
		fa_error error;

		for (int k = 0; k < 2500; k++)
		{
			int flips = i < 4 ? 1 + k % 3 : 1;
			size_t at[3];
			fa_status status;

			for (int f = 0; f < flips; f++)
			{
				at[f] = random_u32(&seed) % (file.length * 8);
				file.bytes[at[f] / 8] ^= (uint8_t) (1 << at[f] % 8);
			}
			status = try_photo(file.bytes, file.length, k % 8 + 1, &error);
			if (i >= 4 && status == FA_OK)
				fail_msg("kind %d, bit %zu went unnoticed", i, at[0]);
			assert_true(status == FA_OK || status == FA_DAMAGED || status == FA_UNSUPPORTED ||
						status == FA_TOO_LARGE);
			noticed += i < 4 && status != FA_OK;
			for (int f = 0; f < flips; f++)
				file.bytes[at[f] / 8] ^= (uint8_t) (1 << at[f] % 8);
		}
		free(file.bytes);
	}
	assert_true(noticed > 1000);
}

static void
random_bytes_and_random_tails(void **state)
{
	uint64_t seed = 11;
	uint8_t bytes[2000] = {0};
	fa_error error;

	(void) state;
	for (int i = 0; i < 3000; i++)
	{
		size_t length = random_u32(&seed) % sizeof(bytes);

		for (size_t k = 0; k < length; k++)
			bytes[k] = (uint8_t) random_u32(&seed);
		if (i % 3 == 1 && length > 3)
			memcpy(bytes, "\xff\xd8\xff", 3);
		if (i % 3 == 2 && length > 8)
			memcpy(bytes, "\x89PNG\r\n\x1a\n", 8);
		assert_int_not_equal(try_photo(bytes, length, 8, &error), FA_OK);
	}
	for (int i = 0; i < KINDS; i++)
	{
		picture file = make_kind(i);

		for (int k = 0; k < 300; k++)
		{
			size_t from = random_u32(&seed) % file.length;
			picture copy = {malloc(file.length), file.length};
			fa_status status;

			memcpy(copy.bytes, file.bytes, from);
			for (size_t n = from; n < file.length; n++)
				copy.bytes[n] = (uint8_t) random_u32(&seed);
			status = try_photo(copy.bytes, copy.length, 8, &error);
			assert_true(status != FA_OK || (i < 4 && file.length - from < 3));
			free(copy.bytes);
		}
		free(file.bytes);
	}
}

static void
formats_are_named(void **state)
{
#define SAMPLE(bytes, name)                                                                        \
	{                                                                                              \
		bytes "\0\0\0\0\0\0\0\0\x01\x02\x03\x04",                                                  \
			sizeof(bytes "\0\0\0\0\0\0\0\0\x01\x02\x03\x04"), name                                 \
	}
#define TEXT(bytes)                                                                                \
	{                                                                                              \
		bytes, sizeof(bytes) - 1, "text"                                                           \
	}
	static const struct
	{
		const char *bytes;
		size_t length;
		const char *name;
	} samples[] = {
		SAMPLE("GIF89a\x10", "GIF"),
		SAMPLE("RIFF\x10\x20\0\0WEBPVP8 ", "WebP"),
		SAMPLE("\0\0\0\x18"
			   "ftypheic\0\0\0\0mif1heic",
			   "HEIC"),
		SAMPLE("\0\0\0\x18"
			   "ftypmif1\0\0\0\0",
			   "HEIC"),
		SAMPLE("\0\0\0\x1c"
			   "ftypavif",
			   "AVIF"),
		SAMPLE("\0\0\0\x1c"
			   "ftypmp42",
			   "MP4 or QuickTime"),
		SAMPLE("II*\0\x08", "TIFF"),
		SAMPLE("MM\0*\0\0\0\x08", "TIFF"),
		SAMPLE("BM\x36\x10\0\0", "BMP"),
		SAMPLE("\xff\x0a\x01", "JPEG XL"),
		SAMPLE("\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
		SAMPLE("\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
		SAMPLE("%PDF-1.4\n", "PDF"),
		TEXT("BMW cars are text"),
		TEXT("/9j/4AAQSkZJRgABAQEASABIAAD"),
		TEXT("d\xc3\xa9j\xc3\xa0 vu\n"),
		TEXT("<svg/>"),
		{"\x01\x02\x03\xfe random", 11, NULL},
		{"\0", 1, NULL},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++)
	{
		fa_error error;
		const char *colon;

		assert_int_equal(
			try_photo((const uint8_t *) samples[i].bytes, samples[i].length, 8, &error),
			FA_UNSUPPORTED);
		colon = strstr(error.message, ": ");
		if (samples[i].name == NULL)
			assert_string_equal(error.message, "image format is not recognised");
		else
			assert_string_equal(colon ? colon + 2 : error.message, samples[i].name);
	}
}

/* Writes a big-endian number. */
static void
put(uint8_t *at, uint32_t value, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, value >>= 8)
		at[i] = (uint8_t) value;
}

/* CRC-32 as the PNG specification gives it (annex D), bit by bit. */
static uint32_t
crc(const uint8_t *bytes, size_t length)
{
	uint32_t c = 0xffffffffu;

	for (size_t i = 0; i < length; i++)
	{
		c ^= bytes[i];
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
	}
	return ~c;
}

static void
sizes_are_checked_in_the_header(void **state)
{
	picture jpeg = make_jpeg(&jpegs[0]), png = make_png(&pngs[0]);
	uint8_t *sof = memmem(jpeg.bytes, jpeg.length, "\xff\xc0", 2);
	static const uint32_t sides[][2] = {
		{65500, 65500}, {65535, 65535}, {10001, 10000}, {65500, 1527}};
	fa_photo photo;
	fa_error error;

	(void) state;
	/* at the limit, and one pixel above it */
	assert_int_equal(fa_photo_open(&photo, jpeg.bytes, jpeg.length, 40 * 33, &error), FA_OK);
	assert_int_equal(fa_photo_open(&photo, jpeg.bytes, jpeg.length, 40 * 33 - 1, &error),
					 FA_TOO_LARGE);
	assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, 20 * 17, &error), FA_OK);
	assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, 20 * 17 - 1, &error),
					 FA_TOO_LARGE);
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
	{
		put(sof + 5, sides[i][1], 2);
		put(sof + 7, sides[i][0], 2);
		assert_int_equal(fa_photo_open(&photo, jpeg.bytes, jpeg.length, PLENTY, &error),
						 FA_TOO_LARGE);
		put(png.bytes + 16, sides[i][0], 4);
		put(png.bytes + 20, sides[i][1], 4);
		put(png.bytes + 29, crc(png.bytes + 12, 17), 4);
		assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, PLENTY, &error),
						 FA_TOO_LARGE);
	}
	/* the product of these two overflows 64 bits when squared once more, and neither is a row */
	put(png.bytes + 16, 0x7fffffff, 4);
	put(png.bytes + 20, 0x7fffffff, 4);
	put(png.bytes + 29, crc(png.bytes + 12, 17), 4);
	assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, INT64_MAX, &error), FA_TOO_LARGE);
	put(png.bytes + 20, 1, 4);
	put(png.bytes + 29, crc(png.bytes + 12, 17), 4);
	assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, INT64_MAX, &error), FA_TOO_LARGE);
	put(png.bytes + 16, 0, 4);
	put(png.bytes + 29, crc(png.bytes + 12, 17), 4);
	assert_int_equal(fa_photo_open(&photo, png.bytes, png.length, PLENTY, &error), FA_DAMAGED);
	/* no height: it would come after the first scan (DNL), which nobody writes */
	put(sof + 5, 0, 2);
	assert_int_equal(fa_photo_open(&photo, jpeg.bytes, jpeg.length, PLENTY, &error), FA_DAMAGED);
	free(jpeg.bytes);
	free(png.bytes);
}

static void
unsupported_kinds_of_jpeg(void **state)
{
	picture file = make_jpeg(&jpegs[0]);
	uint8_t *sof = memmem(file.bytes, file.length, "\xff\xc0", 2);
	fa_error error;

	(void) state;
	sof[4] = 12; /* bits */
	sof[1] = 0xc1;
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_UNSUPPORTED);
	sof[4] = 8;
	for (int marker = 0xc3; marker <= 0xcf; marker++) /* lossless, hierarchical, arithmetic */
		if (marker != 0xc4 && marker != 0xc8 && marker != 0xcc)
		{
			sof[1] = (uint8_t) marker;
			assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_UNSUPPORTED);
		}
	free(file.bytes);
}

/* Inserts bytes into a file. */
static void
insert(picture *file, size_t at, const void *bytes, size_t length)
{
	file->bytes = realloc(file->bytes, file->length + length);
	memmove(file->bytes + at + length, file->bytes + at, file->length - at);
	memcpy(file->bytes + at, bytes, length);
	file->length += length;
}

static void
harmless_oddities_of_jpeg(void **state)
{
	static const uint8_t stray[200] = {0};
	picture file = make_jpeg(&jpegs[1]);
	fa_error error;

	(void) state;
	/* what phones append, what cameras pad with, and an unknown version of JFIF */
	insert(&file, file.length, "\xff\xd8\xff\xe0garbage", 11);
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
	file.length -= 11;
	insert(&file, file.length - 2, stray, 7);
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
	file.bytes[11] = 9;
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
	insert(&file, 20, stray, 3); /* between two segments */
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
	insert(&file, file.length - 2, stray, sizeof(stray)); /* too much to be padding */
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	free(file.bytes);
}

static void
lost_and_swapped_restart_intervals(void **state)
{
	jpeg_kind kind = {.width = 256, .height = 64, .stored = JCS_GRAYSCALE, .restart = 4};
	picture file = make_jpeg(&kind);
	uint8_t *first = memmem(file.bytes, file.length, "\xff\xd0", 2), *second, *third;
	fa_error error;

	(void) state;
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
	second = memmem(file.bytes, file.length, "\xff\xd1", 2);
	third = memmem(file.bytes, file.length, "\xff\xd2", 2);
	second[1] = 0xd2;
	third[1] = 0xd1;
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	assert_non_null(strstr(error.detail, "instead of RST"));
	second[1] = 0xd1;
	third[1] = 0xd2;
	memmove(first, second, (size_t) (file.bytes + file.length - second)); /* one interval is gone */
	file.length -= (size_t) (second - first);
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	free(file.bytes);

	/* bytes that nobody read before a marker: few, but not padding */
	file = make_jpeg(&kind);
	first = memmem(file.bytes, file.length, "\xff\xd0", 2);
	insert(&file, (size_t) (first - file.bytes), "\0\0\0\0", 4);
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	assert_non_null(strstr(error.detail, "extraneous"));
	free(file.bytes);
}

/* Where the n-th scan of a JPEG file starts, counted from 0. */
static size_t
scan_start(const picture *file, int n)
{
	size_t i = 0;

	while (file->bytes[i] != 0xff || file->bytes[i + 1] != 0xda || n-- > 0)
		i++;
	return i;
}

/* Where the scan that starts there ends: at the next marker. */
static size_t
scan_end(const picture *file, size_t start)
{
	size_t i = start + 2;

	while (file->bytes[i] != 0xff || file->bytes[i + 1] == 0)
		i++;
	return i;
}

static void
lost_scans_and_bad_codes(void **state)
{
	jpeg_kind kind = {.width = 64, .height = 64, .stored = JCS_GRAYSCALE, .progressive = true};
	picture file = make_jpeg(&kind);
	size_t from = scan_start(&file, 1), to = scan_end(&file, from);
	fa_error error;

	(void) state;
	/* without the first pass over the low AC coefficients, the later ones refine nothing */
	memmove(file.bytes + from, file.bytes + to, file.length - to);
	file.length -= to - from;
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	assert_non_null(strstr(error.detail, "progression"));
	free(file.bytes);

	/* sixteen ones are no code of any table */
	kind.progressive = false;
	file = make_jpeg(&kind);
	memcpy(file.bytes + (scan_start(&file, 0) + file.length) / 2, "\xff\0\xff\0\xff\0\xff\0", 8);
	assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
	assert_non_null(strstr(error.detail, "Huffman"));
	free(file.bytes);
}

static void
every_checksum_of_png_counts(void **state)
{
	static const uint8_t text[] = "\0\0\0\x03tEXta\0b\x12\x34\x56\x78";
	int chunks = 0;

	(void) state;
	for (int i = 0; i < 4; i++)
	{
		picture file = make_png(&pngs[i]);
		fa_error error;

		for (size_t at = 8; at < file.length; chunks++)
		{
			size_t end = at + 12 + ((size_t) file.bytes[at + 2] << 8 | file.bytes[at + 3]);

			file.bytes[end - 1] ^= 1;
			assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
			assert_non_null(strstr(error.detail, "CRC"));
			file.bytes[end - 1] ^= 1;
			at = end;
		}
		insert(&file, 33, text, sizeof(text) - 1); /* a comment with a wrong one */
		assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_DAMAGED);
		put(file.bytes + 33 + 11, crc(file.bytes + 37, 7), 4);
		assert_int_equal(try_photo(file.bytes, file.length, 8, &error), FA_OK);
		free(file.bytes);
	}
	assert_true(chunks > 12);
}

/* A progressive JPEG whose second and last scan comes `times` times: each goes over all pixels. */
static picture
scan_bomb(int side, int times)
{
	jpeg_kind kind = {
		.width = side, .height = side, .stored = JCS_GRAYSCALE, .two_scans = true, .quality = 1};
	picture file = make_jpeg(&kind);
	/* the first pass over AC coefficients may be sent again and again */
	size_t scan = scan_start(&file, 1), length = scan_end(&file, scan) - scan;
	uint8_t *repeated;

	repeated = malloc(length * (size_t) times);
	for (int i = 0; i < times; i++)
		memcpy(repeated + length * (size_t) i, file.bytes + scan, length);
	insert(&file, scan, repeated, length * (size_t) times);
	free(repeated);
	return file;
}

static void
scans_are_limited(void **state)
{
	fa_error error;
	picture few = scan_bomb(64, 50), many = scan_bomb(64, 500);

	(void) state;
	assert_int_equal(try_photo(few.bytes, few.length, 8, &error), FA_OK);
	assert_int_equal(try_photo(many.bytes, many.length, 8, &error), FA_TOO_LARGE);
	assert_non_null(strstr(error.message, "scans"));
	free(few.bytes);
	free(many.bytes);
}

/* A header longer than any real one is refused after a bounded part of it. */
static void
headers_are_limited(void **state)
{
	size_t length = 40u << 20;
	uint8_t *bytes = calloc(1, length);
	fa_photo photo;
	fa_error error;

	(void) state;
	memcpy(bytes, "\xff\xd8", 2);
	for (size_t i = 2; i + 4 <= length; i += 4)
		memcpy(bytes + i, "\xff\xfe\0\x02", 4);
	assert_int_equal(fa_photo_open(&photo, bytes, length, PLENTY, &error), FA_TOO_LARGE);
	memcpy(bytes, "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0", 29);
	put(bytes + 29, crc(bytes + 12, 17), 4);
	for (size_t i = 33; i + 12 <= length; i += 12)
	{
		memcpy(bytes + i, "\0\0\0\0abCd", 8);
		put(bytes + i + 8, crc((const uint8_t *) "abCd", 4), 4);
	}
	assert_int_equal(fa_photo_open(&photo, bytes, length, PLENTY, &error), FA_TOO_LARGE);
	free(bytes);
}

/* Bytes that give no row are asked about, too: comments, or rows that are skipped. */
static void
parsing_is_interrupted(void **state)
{
	size_t length = 8u << 20;
	uint8_t *comments = malloc(length);
	picture file = make_jpeg(&jpegs[0]);
	fa_photo photo;
	fa_view view;
	fa_error error;
	patience p;
	fa_interrupt interrupt = patience_start(&p, 100);

	(void) state;
	for (size_t i = 0; i < length; i += 4)
		memcpy(comments + i, "\xff\xfe\0\x02", 4);
	insert(&file, 2, comments, length);
	assert_int_equal(fa_photo_open(&photo, file.bytes, file.length, PLENTY, &error), FA_OK);
	assert_int_equal(photo.orientation, 6);
	assert_int_equal(fa_photo_decode(&photo, 8, &view, &interrupt, &error), FA_INTERRUPTED);
	assert_int_equal(p.questions, 100);
	assert_true(100 > 2 * jpegs[0].height); /* not the rows' questions */
	free(comments);
	free(file.bytes);
}

/* Whatever is decoded, the question whether to stop comes often, and the answer counts. */
static void
patience_is_short(void **state)
{
	enum
	{
		CASES = 6
	};
	static const char *const names[CASES] = {"scans",          "large JPEG",  "large PNG",
											 "interlaced PNG", "turned JPEG", "wide PNG"};
	jpeg_kind large = {.width = 8000, .height = 6000, .stored = JCS_GRAYSCALE};
	jpeg_kind turned = {.width = 3000, .height = 2000, .stored = JCS_YCbCr, .orientation = 6};
	png_kind png = {.width = 6000, .height = 3000, .depth = 1, .colour = 0};
	png_kind interlaced = {
		.width = 3000, .height = 2000, .depth = 8, .colour = 6, .interlaced = true};
	png_kind wide = {.width = 1000000, .height = 3, .depth = 16, .colour = 6};

	(void) state;
	for (int i = 0; i < CASES; i++)
	{
		picture file = i == 0   ? scan_bomb(4000, 90)
					   : i == 1 ? make_jpeg(&large)
					   : i == 2 ? make_png(&png)
					   : i == 3 ? make_png(&interlaced)
					   : i == 4 ? make_jpeg(&turned)
								: make_png(&wide);
		fa_photo photo;
		fa_error error;
		int questions = 0;

		assert_int_equal(fa_photo_open(&photo, file.bytes, file.length, PLENTY, &error), FA_OK);
		for (int region = 0; region < 2; region++)
		{
			fa_rect corner = {photo.width - 50, photo.height - 50, photo.width, photo.height};
			int limits[] = {0, 1, 7, 0};

			for (int k = 0; k < 4; k++)
			{
				patience p;
				fa_interrupt interrupt;
				fa_view view;
				fa_status status;

				if (k == 3)
					limits[k] = questions - 1;
				if (limits[k] > questions && k > 0)
					continue;
				interrupt = patience_start(&p, limits[k]);
				status = region
							 ? fa_photo_decode_region(&photo, corner, 8, &view, &interrupt, &error)
							 : fa_photo_decode(&photo, 8, &view, &interrupt, &error);
				if (p.longest > 100)
					fail_msg("%s: %g ms without a question", names[i], p.longest);
				assert_int_equal(status, limits[k] ? FA_INTERRUPTED : FA_OK);
				if (limits[k] == 0)
					questions = p.questions;
				else
					assert_int_equal(p.questions, limits[k]);
				if (status == FA_OK)
					fa_image_free(&view.image);
				else
					assert_null(view.image.pixels);
			}
		}
		free(file.bytes);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_truncation_is_damage),
		cmocka_unit_test(flipped_bits),
		cmocka_unit_test(random_bytes_and_random_tails),
		cmocka_unit_test(formats_are_named),
		cmocka_unit_test(sizes_are_checked_in_the_header),
		cmocka_unit_test(unsupported_kinds_of_jpeg),
		cmocka_unit_test(harmless_oddities_of_jpeg),
		cmocka_unit_test(lost_and_swapped_restart_intervals),
		cmocka_unit_test(lost_scans_and_bad_codes),
		cmocka_unit_test(every_checksum_of_png_counts),
		cmocka_unit_test(scans_are_limited),
		cmocka_unit_test(headers_are_limited),
		cmocka_unit_test(parsing_is_interrupted),
		cmocka_unit_test(patience_is_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
