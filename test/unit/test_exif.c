/*
 * test_exif.c
 *		The orientation tag: both byte orders, and blocks made to hurt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdlib.h>

#include "../../src/vision/exif.h"
#include "pictures.h"

/* In memory of exactly that size, so that a sanitizer sees a byte too many read. */
static int
orientation(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);
	int result;

	memcpy(copy, bytes, length);
	result = fa_exif_orientation(copy, length);
	free(copy);
	return result;
}

static void
every_value_in_both_orders(void **state)
{
	uint8_t exif[64];

	(void) state;
	for (int big = 0; big < 2; big++)
		for (int value = 0; value < 300; value++)
		{
			size_t length = make_exif(exif, value, big);

			assert_int_equal(orientation(exif, length), value >= 1 && value <= 8 ? value : 1);
		}
}

static void
every_truncation_is_upright_or_right(void **state)
{
	uint8_t exif[64];
	size_t length = make_exif(exif, 6, true);

	(void) state;
	/* the tag's entry ends at byte 34; the four bytes after it are not needed */
	for (size_t n = 0; n <= length; n++)
		assert_int_equal(orientation(exif, n), n < 34 ? 1 : 6);
}

static void
nonsense_is_upright(void **state)
{
	uint8_t exif[64];
	size_t length;

	(void) state;
	length = make_exif(exif, 6, false);
	exif[0] = 'M'; /* MI */
	assert_int_equal(orientation(exif, length), 1);

	length = make_exif(exif, 6, false);
	exif[4] = 4; /* the directory begins within the header: 8 entries of which none is the tag */
	assert_int_equal(orientation(exif, length), 1);

	length = make_exif(exif, 6, false);
	memset(exif + 4, 0xff, 4); /* the directory lies far outside */
	assert_int_equal(orientation(exif, length), 1);
	exif[4] = (uint8_t) (length - 1);
	memset(exif + 5, 0, 3);
	assert_int_equal(orientation(exif, length), 1);

	length = make_exif(exif, 6, false);
	memset(exif + 8, 0xff, 2); /* 65,535 entries: those that are there count */
	assert_int_equal(orientation(exif, length), 6);

	length = make_exif(exif, 6, false);
	exif[34] = 8; /* the next directory is this one */
	assert_int_equal(orientation(exif, length), 6);
	exif[22] = 0x13; /* and the tag is missing: a reader that follows links never ends */
	assert_int_equal(orientation(exif, length), 1);

	length = make_exif(exif, 6, false);
	exif[26] = 2; /* two values */
	assert_int_equal(orientation(exif, length), 1);

	length = make_exif(exif, 6, false);
	exif[24] = 2; /* text */
	assert_int_equal(orientation(exif, length), 1);
	exif[24] = 4; /* long */
	assert_int_equal(orientation(exif, length), 6);
}

static void
random_bytes(void **state)
{
	uint64_t seed = 7;
	uint8_t exif[64];

	(void) state;
	for (int i = 0; i < 100000; i++)
	{
		size_t length = make_exif(exif, 6, i & 1);
		int value;

		for (int k = 0; k < 3; k++)
			exif[4 + random_u32(&seed) % (length - 4)] = (uint8_t) random_u32(&seed);
		value = orientation(exif, random_u32(&seed) % (length + 1));
		assert_true(value >= 1 && value <= 8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_in_both_orders),
		cmocka_unit_test(every_truncation_is_upright_or_right),
		cmocka_unit_test(nonsense_is_upright),
		cmocka_unit_test(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
