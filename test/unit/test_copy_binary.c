/*
 * test_copy_binary.c
 *		Binary COPY data, whole and in pieces, cut at every byte, and with lengths that
 *		lie. The bytes are written here by the manual's description of the format.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdlib.h>

#include "../../trainer/copy_binary.h"
#include "pictures.h"

#define HEADER "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
#define HEADER_LENGTH 19
#define TRAILER "\377\377"
/* two rows of three fields: "ab", NULL, ""; "", "c", "def" */
#define ROWS                                                                                       \
	"\0\3\0\0\0\2ab\377\377\377\377\0\0\0\0"                                                       \
	"\0\3\0\0\0\0\0\0\0\1c\0\0\0\3def"

static const char stream[] = HEADER ROWS TRAILER;
static const size_t stream_length = sizeof(stream) - 1;

/* Feeds length bytes in pieces; the rows come to stand in text as "ab|-|" lines. */
static fa_status
read_stream(const char *bytes, size_t length, size_t piece, char *text, fa_error *error)
{
	fa_copy_reader reader = {.field_count = 3};
	fa_status status = FA_OK;

	*text = '\0';
	for (size_t at = 0; at < length && status == FA_OK; at += piece)
	{
		/* in memory of its own, so that a step beyond is seen */
		size_t n = length - at < piece ? length - at : piece;
		char *own = malloc(n);
		bool found = true;

		memcpy(own, bytes + at, n);
		status = fa_copy_feed(&reader, own, n, error);
		free(own);
		while (status == FA_OK && found)
		{
			fa_copy_field fields[3];

			status = fa_copy_next(&reader, fields, &found, error);
			for (int i = 0; i < 3 && status == FA_OK && found; i++)
			{
				if (fields[i].bytes == NULL)
					strcat(text, "-");
				else
					strncat(text, (const char *) fields[i].bytes, fields[i].length);
				strcat(text, i < 2 ? "|" : "\n");
			}
		}
	}
	if (status == FA_OK)
		status = fa_copy_finish(&reader, error);
	fa_copy_free(&reader);
	return status;
}

static void
rows_come_out_whatever_the_pieces(void **state)
{
	char text[256];
	fa_error error;

	(void) state;
	for (size_t piece = 1; piece <= stream_length; piece++)
	{
		assert_int_equal(read_stream(stream, stream_length, piece, text, &error), FA_OK);
		assert_string_equal(text, "ab|-|\n|c|def\n");
	}
}

static void
a_stream_without_its_end_is_damaged(void **state)
{
	char text[256];
	fa_error error;

	(void) state;
	for (size_t length = 0; length < stream_length; length++)
		assert_int_equal(read_stream(stream, length, length + 1, text, &error), FA_DAMAGED);
}

static void
check_failure(const char *bytes, size_t length, fa_status expected, const char *message)
{
	char text[256];
	fa_error error;

	assert_int_equal(read_stream(bytes, length, length, text, &error), expected);
	assert_non_null(strstr(error.message, message));
}

static void
what_lies_is_refused(void **state)
{
	char copy[sizeof(stream)];

	(void) state;
	memcpy(copy, stream, sizeof(stream));
	copy[3] = 'X';
	check_failure(copy, stream_length, FA_DAMAGED, "signature");
	check_failure("image,age\n", 10, FA_DAMAGED, "signature");
	memcpy(copy, stream, sizeof(stream));
	copy[12] = 1; /* a critical flag */
	check_failure(copy, stream_length, FA_UNSUPPORTED, "flags");
	memcpy(copy, stream, sizeof(stream));
	copy[HEADER_LENGTH - 4] = '\x7f'; /* extension of 2 GB */
	check_failure(copy, stream_length, FA_DAMAGED, "header");
	memcpy(copy, stream, sizeof(stream));
	copy[HEADER_LENGTH + 1] = 4; /* fields */
	check_failure(copy, stream_length, FA_DAMAGED, "4 fields instead of 3");
	memcpy(copy, stream, sizeof(stream));
	memcpy(copy + HEADER_LENGTH + 2, "\377\377\377\376", 4); /* a length of -2 */
	check_failure(copy, stream_length, FA_DAMAGED, "negative");
	memcpy(copy, stream, sizeof(stream));
	memcpy(copy + HEADER_LENGTH + 2, "\177\377\377\377", 4); /* of 2 GB */
	check_failure(copy, stream_length, FA_TOO_LARGE, "too large");
	memcpy(copy, stream, sizeof(stream));
	memcpy(copy + HEADER_LENGTH + 2, "\0\377\377\377", 4); /* of 16 MB that do not come */
	check_failure(copy, stream_length, FA_DAMAGED, "cut short");
	check_failure(HEADER TRAILER "more", HEADER_LENGTH + 6, FA_DAMAGED, "after their end");
}

static void
a_header_may_be_longer(void **state)
{
	static const char longer[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\3abc" ROWS TRAILER;
	char text[256];
	fa_error error;

	(void) state;
	assert_int_equal(read_stream(longer, sizeof(longer) - 1, 7, text, &error), FA_OK);
	assert_string_equal(text, "ab|-|\n|c|def\n");
}

/* Any bytes at all: an error or rows, nothing else. */
static void
noise(void **state)
{
	uint64_t seed = 11;
	char copy[sizeof(stream)], text[4096];
	fa_error error;

	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		memcpy(copy, stream, sizeof(stream));
		for (uint32_t k = random_u32(&seed) % 4; k < 4; k++)
			copy[random_u32(&seed) % stream_length] = (char) random_u32(&seed);
		read_stream(copy, stream_length, 1 + random_u32(&seed) % stream_length, text, &error);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_come_out_whatever_the_pieces),
		cmocka_unit_test(a_stream_without_its_end_is_damaged),
		cmocka_unit_test(what_lies_is_refused),
		cmocka_unit_test(a_header_may_be_longer),
		cmocka_unit_test(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
