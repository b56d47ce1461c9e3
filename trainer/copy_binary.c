/*
 * copy_binary.c
 *		PostgreSQL's binary COPY format; see copy_binary.h. The buffer holds the
 *		bytes from start to end that no row has been made of yet.
 */
#include "copy_binary.h"

#include <stdlib.h>
#include <string.h>

#define SIGNATURE "PGCOPY\n\377\r\n"
#define SIGNATURE_LENGTH 11       /* with its zero byte */
#define CRITICAL_FLAGS 0xffff0000 /* of those none is known here: the first is for OIDs of old */

static uint32_t
read_u32(const uint8_t *at)
{
	return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

fa_status
fa_copy_feed(fa_copy_reader *reader, const void *bytes, size_t length, fa_error *error)
{
	size_t needed, left = reader->end - reader->start;

	if (length == 0)
		return FA_OK;
	if (!fa_add(left, length, &needed) || needed > SIZE_MAX / 2)
		return fa_fail(error, FA_TOO_LARGE, "a row of the COPY data is too large");
	if (reader->start > 0)
	{
		memmove(reader->buffer, reader->buffer + reader->start, left);
		reader->start = 0;
		reader->end = left;
	}
	if (needed > reader->capacity)
	{
		size_t capacity = needed < 1 << 16 ? 1 << 16 : 2 * needed;
		uint8_t *buffer = realloc(reader->buffer, capacity);

		if (buffer == NULL)
			return fa_no_memory(error, capacity);
		reader->buffer = buffer;
		reader->capacity = capacity;
	}
	memcpy(reader->buffer + reader->end, bytes, length);
	reader->end += length;
	return FA_OK;
}

/* Steps over the header when all of it is there. */
static fa_status
read_header(fa_copy_reader *reader, fa_error *error)
{
	const uint8_t *at = reader->buffer + reader->start;
	size_t length = reader->end - reader->start;
	uint32_t extension;

	if (memcmp(at, SIGNATURE, length < SIGNATURE_LENGTH ? length : SIGNATURE_LENGTH) != 0)
		return fa_fail(error, FA_DAMAGED,
					   "the COPY data do not begin with binary COPY's signature");
	if (length < SIGNATURE_LENGTH + 8)
		return FA_OK;
	if ((read_u32(at + SIGNATURE_LENGTH) & CRITICAL_FLAGS) != 0)
		return fa_fail(error, FA_UNSUPPORTED, "the COPY data have unknown flags");
	extension = read_u32(at + SIGNATURE_LENGTH + 4);
	if (extension > FA_COPY_MAX_FIELD)
		return fa_fail(error, FA_DAMAGED, "the COPY data's header is too large");
	if (length - SIGNATURE_LENGTH - 8 < extension)
		return FA_OK;
	reader->start += SIGNATURE_LENGTH + 8 + extension;
	reader->begun = true;
	return FA_OK;
}

/* A row's fields; *used: its bytes, 0 while some are missing. */
static fa_status
read_row(const fa_copy_reader *reader, const uint8_t *at, size_t length, fa_copy_field *fields,
		 size_t *used, fa_error *error)
{
	size_t offset = 2;

	*used = 0;
	for (int i = 0; i < reader->field_count; i++)
	{
		uint32_t size;

		if (length - offset < 4)
			return FA_OK;
		size = read_u32(at + offset);
		offset += 4;
		fields[i] = (fa_copy_field){NULL, 0};
		if (size == UINT32_MAX) /* -1: NULL */
			continue;
		if (size > INT32_MAX)
			return fa_fail(error, FA_DAMAGED, "a field of the COPY data has a negative length");
		if (size > FA_COPY_MAX_FIELD)
		{
			fa_fail(error, FA_TOO_LARGE, "a field of the COPY data is too large");
			return fa_detail(error, "It has %u MB, at most %d are read.", size >> 20,
							 FA_COPY_MAX_FIELD >> 20);
		}
		if (length - offset < size)
			return FA_OK;
		fields[i] = (fa_copy_field){at + offset, size};
		offset += size;
	}
	*used = offset;
	return FA_OK;
}

fa_status
fa_copy_next(fa_copy_reader *reader, fa_copy_field *fields, bool *found, fa_error *error)
{
	const uint8_t *at;
	size_t length, used;
	int count;

	*found = false;
	if (!reader->begun && reader->end > reader->start)
		FA_TRY(read_header(reader, error));
	at = reader->buffer + reader->start;
	length = reader->end - reader->start;
	if (reader->ended && length > 0)
		return fa_fail(error, FA_DAMAGED, "the COPY data go on after their end");
	if (!reader->begun || length < 2)
		return FA_OK;
	count = at[0] << 8 | at[1];
	if (count == 0xffff) /* -1: the trailer */
	{
		reader->start += 2;
		reader->ended = true;
		return fa_copy_next(reader, fields, found, error);
	}
	if (count != reader->field_count)
		return fa_fail(error, FA_DAMAGED, "a row of the COPY data has %d fields instead of %d",
					   count, reader->field_count);
	FA_TRY(read_row(reader, at, length, fields, &used, error));
	reader->start += used;
	*found = used > 0;
	return FA_OK;
}

fa_status
fa_copy_finish(const fa_copy_reader *reader, fa_error *error)
{
	return reader->ended ? FA_OK : fa_fail(error, FA_DAMAGED, "the COPY data are cut short");
}

void
fa_copy_free(fa_copy_reader *reader)
{
	free(reader->buffer);
	reader->buffer = NULL;
	reader->start = reader->end = reader->capacity = 0;
}
