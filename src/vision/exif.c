/*
 * exif.c
 *		A reader of one EXIF tag. It looks at the first directory only and follows
 *		no further link, so a block whose directories form a loop costs nothing;
 *		a directory has at most 65,535 entries. Called by the JPEG and PNG readers.
 */
#include "exif.h"

#include <stdbool.h>
#include <string.h>

#define TAG_ORIENTATION 0x0112
#define TYPE_SHORT 3
#define TYPE_LONG 4
#define ENTRY_BYTES 12

static uint32_t
read_u16(const uint8_t *p, bool big_endian)
{
	return big_endian ? (uint32_t) p[0] << 8 | p[1] : (uint32_t) p[1] << 8 | p[0];
}

static uint32_t
read_u32(const uint8_t *p, bool big_endian)
{
	return big_endian ? read_u16(p, true) << 16 | read_u16(p + 2, true)
					  : read_u16(p + 2, false) << 16 | read_u16(p, false);
}

int
fa_exif_orientation(const uint8_t *tiff, size_t length)
{
	bool big_endian;
	size_t offset, count;

	if (length < 8)
		return 1;
	if (memcmp(tiff, "II*\0", 4) == 0)
		big_endian = false;
	else if (memcmp(tiff, "MM\0*", 4) == 0)
		big_endian = true;
	else
		return 1;

	offset = read_u32(tiff + 4, big_endian);
	if (offset > length - 2)
		return 1;
	count = read_u16(tiff + offset, big_endian);
	offset += 2;
	for (; count > 0 && length - offset >= ENTRY_BYTES; count--, offset += ENTRY_BYTES)
	{
		const uint8_t *entry = tiff + offset;
		uint32_t type, value;

		if (read_u16(entry, big_endian) != TAG_ORIENTATION)
			continue;
		type = read_u16(entry + 2, big_endian);
		if (read_u32(entry + 4, big_endian) != 1)
			return 1;
		if (type == TYPE_SHORT)
			value = read_u16(entry + 8, big_endian);
		else if (type == TYPE_LONG) /* against the standard, but written by some */
			value = read_u32(entry + 8, big_endian);
		else
			return 1;
		return value >= 1 && value <= 8 ? (int) value : 1;
	}
	return 1;
}
