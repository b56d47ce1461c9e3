/*
 * copy_binary.h
 *		Rows out of what COPY ... TO STDOUT (FORMAT binary) sends (PostgreSQL's manual,
 *		COPY, "Binary Format"). Bytes go in as they come, in pieces of any size; every
 *		length among them is checked before it is believed.
 */
#ifndef FA_COPY_BINARY_H
#define FA_COPY_BINARY_H

#include "../src/fa.h"

#define FA_COPY_MAX_FIELD 0x3fffffff /* bytes: PostgreSQL makes none larger */

typedef struct fa_copy_field
{
	const uint8_t *bytes; /* the reader's, until the next call; NULL: the value is NULL */
	size_t length;
} fa_copy_field;

typedef struct fa_copy_reader
{
	int field_count; /* of every row; set before the first call, the rest zeroed */
	uint8_t *buffer; /* owned */
	size_t start, end, capacity;
	bool begun, ended; /* the header is read; the trailer is */
} fa_copy_reader;

/* Adds bytes; they are copied. */
extern fa_status fa_copy_feed(fa_copy_reader *reader, const void *bytes, size_t length,
							  fa_error *error);
/*
 * The next row's fields, when all of it is there: *found. FA_DAMAGED for what is no such
 * stream, has rows of another number of fields, or bytes after its end; FA_TOO_LARGE for
 * a field of more than FA_COPY_MAX_FIELD.
 */
extern fa_status fa_copy_next(fa_copy_reader *reader, fa_copy_field *fields, bool *found,
							  fa_error *error);
/* FA_DAMAGED unless the stream came to its end. */
extern fa_status fa_copy_finish(const fa_copy_reader *reader, fa_error *error);
extern void fa_copy_free(fa_copy_reader *reader);

#endif
