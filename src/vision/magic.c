/*
 * magic.c
 *		Names for what is not a JPEG or PNG, so that the error can say what was
 *		stored instead. Called by fa_photo_open only.
 */
#include "codec.h"

#include <string.h>

#define TEXT_PROBE 512 /* bytes looked at to call something text */

typedef struct magic
{
	size_t offset;
	const char *pattern;
	size_t length;
	const char *name;
} magic;

#define MAGIC(offset, pattern, name)                                                               \
	{                                                                                              \
		offset, pattern, sizeof(pattern) - 1, name                                                 \
	}

/* First match wins: brands of the ISO media container stand before the container. */
static const magic magics[] = {
	MAGIC(0, "GIF8", "GIF"),
	MAGIC(8, "WEBP", "WebP"),
	MAGIC(4, "ftypavif", "AVIF"),
	MAGIC(4, "ftypavis", "AVIF"),
	MAGIC(4, "ftyphei", "HEIC"),
	MAGIC(4, "ftyphev", "HEIC"),
	MAGIC(4, "ftypmif1", "HEIC"),
	MAGIC(4, "ftypmsf1", "HEIC"),
	MAGIC(4, "ftyp", "MP4 or QuickTime"),
	MAGIC(0, "II*\0", "TIFF"),
	MAGIC(0, "MM\0*", "TIFF"),
	MAGIC(0, "II+\0", "TIFF"),
	MAGIC(0, "MM\0+", "TIFF"),
	MAGIC(0, "BM", "BMP"),
	MAGIC(0, "\xff\x0a", "JPEG XL"),
	MAGIC(0, "\0\0\0\x0cJXL ", "JPEG XL"),
	MAGIC(0, "\0\0\0\x0cjP  ", "JPEG 2000"),
	MAGIC(0, "\xff\x4f\xff\x51", "JPEG 2000"),
	MAGIC(0, "8BPS", "Photoshop"),
	MAGIC(0, "\0\0\x01\0", "ICO"),
	MAGIC(0, "%PDF", "PDF"),
	MAGIC(0, "PK\x03\x04", "ZIP"),
	MAGIC(0, "\x1f\x8b", "gzip"),
};

static bool
looks_like_text(const uint8_t *bytes, size_t length)
{
	size_t n = length < TEXT_PROBE ? length : TEXT_PROBE;

	for (size_t i = 0; i < n; i++)
		if ((bytes[i] < 0x20 && bytes[i] != '\t' && bytes[i] != '\n' && bytes[i] != '\r') ||
			bytes[i] == 0x7f || bytes[i] == 0xc0 || bytes[i] == 0xc1 || bytes[i] >= 0xf5)
			return false; /* the last three never occur in UTF-8 */
	return true;
}

const char *
fa_foreign_format(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
	{
		const magic *m = &magics[i];

		/* BMP's two letters also begin words */
		if (length >= m->offset + m->length &&
			memcmp(bytes + m->offset, m->pattern, m->length) == 0 &&
			!(m->length == 2 && looks_like_text(bytes, length)))
			return m->name;
	}
	return looks_like_text(bytes, length) ? "text" : NULL;
}
