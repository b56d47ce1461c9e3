/*
 * test_tensorboard.c
 *		Event files, read back record by record and message by message. That
 *		TensorBoard itself reads them is test/cli/020_train.sh's to show.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/vision/photo.h"
#include "../../trainer/tensorboard.h"
#include "event.pb-c.h"

/* RFC 3720, B.4 */
static void
checksums(void **state)
{
	uint8_t bytes[32];

	(void) state;
	assert_int_equal(fa_crc32c("", 0), 0);
	assert_int_equal(fa_crc32c("123456789", 9), 0xe3069283);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(fa_crc32c(bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(fa_crc32c(bytes, sizeof(bytes)), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		bytes[i] = (uint8_t) i;
	assert_int_equal(fa_crc32c(bytes, sizeof(bytes)), 0x46dd794e);
}

static uint64_t
little_endian(const uint8_t *bytes, int n)
{
	uint64_t value = 0;

	for (int i = n - 1; i >= 0; i--)
		value = value << 8 | bytes[i];
	return value;
}

/* Undoes the mask, as a reader does. */
static uint32_t
checksum_at(const uint8_t *bytes)
{
	uint32_t rotated = (uint32_t) little_endian(bytes, 4) - 0xa282ead8u;

	return rotated >> 17 | rotated << 15;
}

/* The next record of a file, or NULL at its end. */
static Tensorboard__Event *
next_event(FILE *file)
{
	uint8_t head[12], *body;
	size_t length;
	Tensorboard__Event *event;

	if (fread(head, 1, 12, file) != 12)
		return NULL;
	assert_int_equal(checksum_at(head + 8), fa_crc32c(head, 8));
	length = little_endian(head, 8);
	assert_true(length < 1000000);
	body = malloc(length + 4);
	assert_int_equal(fread(body, 1, length + 4, file), length + 4);
	assert_int_equal(checksum_at(body + length), fa_crc32c(body, length));
	event = tensorboard__event__unpack(NULL, length, body);
	assert_non_null(event);
	free(body);
	return event;
}

static Tensorboard__Summary__Value *
value_of(Tensorboard__Event *event, const char *tag, int64_t step)
{
	assert_non_null(event);
	assert_int_equal(event->what_case, TENSORBOARD__EVENT__WHAT_SUMMARY);
	assert_int_equal(event->step, step);
	assert_int_equal(event->summary->n_value, 1);
	assert_string_equal(event->summary->value[0]->tag, tag);
	return event->summary->value[0];
}

static void
check_histogram(const Tensorboard__HistogramProto *h, const float *values, int count)
{
	double sum = 0, in_buckets = 0, low = -INFINITY;

	for (int i = 0; i < count; i++)
		sum += values[i];
	assert_float_equal(h->num, count, 0);
	assert_float_equal(h->sum, sum, 1e-9);
	assert_int_equal(h->n_bucket, h->n_bucket_limit);
	for (size_t b = 0; b < h->n_bucket; b++)
	{
		int inside = 0;

		assert_true(h->bucket_limit[b] > low);
		for (int i = 0; i < count; i++)
			inside += values[i] >= low && values[i] < h->bucket_limit[b];
		/* a value on a limit may be on either side */
		assert_float_equal(h->bucket[b], inside, 1);
		in_buckets += h->bucket[b];
		low = h->bucket_limit[b];
	}
	assert_float_equal(in_buckets, count, 0);
	assert_true(low >= h->max);
}

static void
everything_read_back(void **state)
{
	char folder[] = "/tmp/tensorboard.XXXXXX", pattern[64];
	const float values[] = {-2, -1, 0, 0, 0.5f, 1, 3}, same[] = {4, 4, 4};
	uint8_t pixels[5 * 3 * 3];
	fa_image image = {5, 3, 15, pixels};
	fa_board *board;
	fa_error error;
	glob_t found;
	FILE *file;
	Tensorboard__Event *event;
	Tensorboard__Summary__Value *value;

	(void) state;
	assert_non_null(mkdtemp(folder));
	for (size_t i = 0; i < sizeof(pixels); i++)
		pixels[i] = (uint8_t) (5 * i);
	assert_int_equal(fa_board_open(&board, folder, 41, &error), FA_OK);
	assert_int_equal(fa_board_scalar(board, "loss/age", 42, 0.25, &error), FA_OK);
	assert_int_equal(fa_board_scalar(board, "nothing", 42, NAN, &error), FA_OK);
	assert_int_equal(fa_board_histogram(board, "weights", 43, values, 7, &error), FA_OK);
	assert_int_equal(fa_board_histogram(board, "constant", 43, same, 3, &error), FA_OK);
	assert_int_equal(fa_board_image(board, "crop", INT64_C(5000000000), &image, &error), FA_OK);
	fa_board_close(board);

	snprintf(pattern, sizeof(pattern), "%s/*tfevents*", folder);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	assert_int_equal(found.gl_pathc, 1);
	file = fopen(found.gl_pathv[0], "rb");
	assert_non_null(file);
	event = next_event(file);
	assert_string_equal(event->file_version, "brain.Event:2");
	assert_true(event->wall_time > 1.6e9);
	tensorboard__event__free_unpacked(event, NULL);
	event = next_event(file);
	assert_int_equal(event->what_case, TENSORBOARD__EVENT__WHAT_SESSION_LOG);
	assert_int_equal(event->session_log->status, TENSORBOARD__SESSION_LOG__SESSION_STATUS__START);
	assert_int_equal(event->step, 41);
	tensorboard__event__free_unpacked(event, NULL);
	event = next_event(file);
	assert_float_equal(value_of(event, "loss/age", 42)->simple_value, 0.25, 0);
	tensorboard__event__free_unpacked(event, NULL);
	event = next_event(file);
	value = value_of(event, "weights", 43);
	check_histogram(value->histo, values, 7);
	assert_float_equal(value->histo->sum_squares, 15.25, 1e-9);
	assert_float_equal(value->histo->min, -2, 0);
	assert_float_equal(value->histo->max, 3, 0);
	tensorboard__event__free_unpacked(event, NULL);
	event = next_event(file);
	check_histogram(value_of(event, "constant", 43)->histo, same, 3);
	tensorboard__event__free_unpacked(event, NULL);
	event = next_event(file);
	value = value_of(event, "crop", INT64_C(5000000000));
	assert_int_equal(value->image->width, 5);
	assert_int_equal(value->image->height, 3);
	{
		fa_photo photo;
		fa_view view;

		assert_int_equal(fa_photo_open(&photo, value->image->encoded_image_string.data,
									   value->image->encoded_image_string.len, 100, &error),
						 FA_OK);
		assert_int_equal(fa_photo_decode(&photo, 8, &view, NULL, &error), FA_OK);
		for (int y = 0; y < 3; y++)
			assert_memory_equal(view.image.pixels + y * view.image.stride, pixels + y * 15, 15);
		fa_image_free(&view.image);
	}
	tensorboard__event__free_unpacked(event, NULL);
	assert_null(next_event(file));
	fclose(file);
	unlink(found.gl_pathv[0]);
	globfree(&found);
	rmdir(folder);
}

static void
failures(void **state)
{
	fa_board *board;
	fa_error error;

	(void) state;
	assert_int_equal(fa_board_open(&board, "/nowhere/at/all", 1, &error), FA_IO);
	assert_null(board);
	assert_non_null(strstr(error.message, "/nowhere/at/all"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums),
		cmocka_unit_test(everything_read_back),
		cmocka_unit_test(failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
