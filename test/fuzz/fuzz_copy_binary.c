/*
 * fuzz_copy_binary.c
 *		A server that is none: binary COPY data, fed in pieces. No memory is touched but the
 *		reader's own, every field lies whole within what was fed, and rows, error and
 *		end are the same whatever the pieces.
 */
#include "../../trainer/copy_binary.h"

#include <stdlib.h>
#include <string.h>

#define FIELDS 3

/* What reading came to. */
typedef struct outcome
{
	fa_status status;
	int rows;
	uint64_t digest; /* of all fields */
} outcome;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void
digest_byte(outcome *o, uint8_t byte)
{
	o->digest = (o->digest ^ byte) * 0x100000001b3;
}

static outcome
read_all(const uint8_t *bytes, size_t length, size_t piece)
{
	fa_copy_reader reader = {.field_count = FIELDS};
	outcome o = {.status = FA_OK};
	fa_error error = {0};
	size_t taken = 0; /* bytes of fields */

	for (size_t at = 0; at < length && o.status == FA_OK; at += piece)
	{
		size_t n = length - at < piece ? length - at : piece;
		bool found = true;

		o.status = fa_copy_feed(&reader, bytes + at, n, &error);
		while (o.status == FA_OK && found)
		{
			fa_copy_field fields[FIELDS];

			o.status = fa_copy_next(&reader, fields, &found, &error);
			for (int i = 0; i < FIELDS && o.status == FA_OK && found; i++)
			{
				taken += fields[i].length;
				if (taken > length || (fields[i].bytes == NULL && fields[i].length > 0))
					abort();
				digest_byte(&o, fields[i].bytes == NULL);
				for (size_t k = 0; k < fields[i].length; k++)
					digest_byte(&o, fields[i].bytes[k]);
				digest_byte(&o, '|');
			}
			o.rows += o.status == FA_OK && found;
		}
	}
	if (o.status == FA_OK)
		o.status = fa_copy_finish(&reader, &error);
	if (o.status != FA_OK &&
		(error.message[0] == '\0' || memchr(error.message, '\0', sizeof(error.message)) == NULL))
		abort();
	fa_copy_free(&reader);
	return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	outcome whole = read_all(bytes, length, length == 0 ? 1 : length);
	outcome cut = read_all(bytes, length, 1 + length % 7);

	if (whole.status != cut.status || whole.rows != cut.rows || whole.digest != cut.digest)
		abort();
	return 0;
}
