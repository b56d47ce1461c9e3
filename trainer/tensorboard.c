/*
 * tensorboard.c
 *		Event files; see tensorboard.h. A record is its length (64 bits, little
 *		endian), the length's checksum, the message, the message's checksum; checksums
 *		are CRC-32C, rotated and shifted by a constant so that one of data that holds
 *		one is no trap ("masked").
 */
#include "tensorboard.h"

#include "../src/vision/photo.h"
#include "event.pb-c.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define BUCKETS 30

struct fa_board
{
	FILE *file;
	char path[4096];
};

uint32_t
fa_crc32c(const void *bytes, size_t length)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < length; i++)
	{
		crc ^= ((const uint8_t *) bytes)[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void
put_little_endian(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		to[i] = (uint8_t) (value >> (8 * i));
}

static void
put_checksum(uint8_t *to, const void *bytes, size_t length)
{
	uint32_t crc = fa_crc32c(bytes, length);

	put_little_endian(to, (uint32_t) ((crc >> 15 | crc << 17) + 0xa282ead8u), 4);
}

static fa_status
write_event(fa_board *board, Tensorboard__Event *event, int64_t step, fa_error *error)
{
	struct timespec now;
	size_t length;
	uint8_t *record;
	bool written;

	clock_gettime(CLOCK_REALTIME, &now);
	event->wall_time = (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
	event->step = step;
	length = tensorboard__event__get_packed_size(event);
	record = malloc(length + 16);
	if (record == NULL)
		return fa_no_memory(error, length);
	put_little_endian(record, length, 8);
	put_checksum(record + 8, record, 8);
	tensorboard__event__pack(event, record + 12);
	put_checksum(record + 12 + length, record + 12, length);
	written = fwrite(record, length + 16, 1, board->file) == 1 && fflush(board->file) == 0;
	free(record);
	return written ? FA_OK : fa_fail(error, FA_IO, "%s: %s", board->path, strerror(errno));
}

static fa_status
write_value(fa_board *board, Tensorboard__Summary__Value *value, int64_t step, fa_error *error)
{
	Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
	Tensorboard__Event event = TENSORBOARD__EVENT__INIT;

	summary.value = &value;
	summary.n_value = 1;
	event.what_case = TENSORBOARD__EVENT__WHAT_SUMMARY;
	event.summary = &summary;
	return write_event(board, &event, step, error);
}

fa_status
fa_board_scalar(fa_board *board, const char *tag, int64_t step, double number, fa_error *error)
{
	Tensorboard__Summary__Value value = TENSORBOARD__SUMMARY__VALUE__INIT;

	if (!isfinite(number))
		return FA_OK;
	value.tag = (char *) tag;
	value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
	value.simple_value = (float) number;
	return write_value(board, &value, step, error);
}

fa_status
fa_board_histogram(fa_board *board, const char *tag, int64_t step, const float *values,
				   size_t count, fa_error *error)
{
	Tensorboard__Summary__Value value = TENSORBOARD__SUMMARY__VALUE__INIT;
	Tensorboard__HistogramProto histogram = TENSORBOARD__HISTOGRAM_PROTO__INIT;
	double limits[BUCKETS], counts[BUCKETS] = {0}, width;

	if (count == 0)
		return FA_OK;
	histogram.min = histogram.max = values[0];
	for (size_t i = 0; i < count; i++)
	{
		histogram.min = fmin(histogram.min, values[i]);
		histogram.max = fmax(histogram.max, values[i]);
		histogram.sum += values[i];
		histogram.sum_squares += (double) values[i] * values[i];
	}
	histogram.num = (double) count;
	/* buckets must differ, even where the values do not */
	width = fmax((histogram.max - histogram.min) / BUCKETS,
				 1e-6 * fmax(fabs(histogram.min), fabs(histogram.max)) + FLT_MIN);
	for (int i = 0; i < BUCKETS; i++)
		limits[i] = histogram.min + width * (i + 1);
	limits[BUCKETS - 1] = fmax(limits[BUCKETS - 1], histogram.max);
	for (size_t i = 0; i < count; i++)
		counts[(int) fmin((values[i] - histogram.min) / width, BUCKETS - 1)]++;
	histogram.bucket_limit = limits;
	histogram.bucket = counts;
	histogram.n_bucket_limit = histogram.n_bucket = BUCKETS;
	value.tag = (char *) tag;
	value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_HISTO;
	value.histo = &histogram;
	return write_value(board, &value, step, error);
}

fa_status
fa_board_image(fa_board *board, const char *tag, int64_t step, const fa_image *pixels,
			   fa_error *error)
{
	Tensorboard__Summary__Value value = TENSORBOARD__SUMMARY__VALUE__INIT;
	Tensorboard__Summary__Image image = TENSORBOARD__SUMMARY__IMAGE__INIT;
	fa_status status;

	FA_TRY(fa_photo_encode(pixels, FA_FORMAT_PNG, 0, &image.encoded_image_string.data,
						   &image.encoded_image_string.len, NULL, error));
	image.height = pixels->height;
	image.width = pixels->width;
	image.colorspace = 3;
	value.tag = (char *) tag;
	value.value_case = TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE;
	value.image = &image;
	status = write_value(board, &value, step, error);
	free(image.encoded_image_string.data);
	return status;
}

fa_status
fa_board_open(fa_board **board, const char *folder, int64_t first_step, fa_error *error)
{
	Tensorboard__Event event = TENSORBOARD__EVENT__INIT;
	Tensorboard__SessionLog session = TENSORBOARD__SESSION_LOG__INIT;
	fa_board *opened = calloc(1, sizeof(*opened));
	struct timespec now;
	fa_status status = FA_OK;

	*board = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(*opened));
	/* TensorBoard reads a run's files in the order of their names */
	clock_gettime(CLOCK_REALTIME, &now);
	if (snprintf(opened->path, sizeof(opened->path),
				 "%s/events.out.tfevents.%010lld.%09ld.faceattr", folder, (long long) now.tv_sec,
				 now.tv_nsec) >= (int) sizeof(opened->path))
		status = fa_fail(error, FA_INVALID, "the path of the event files is too long");
	else if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		status = fa_fail(error, FA_IO, "%s: %s", folder, strerror(errno));
	else if ((opened->file = fopen(opened->path, "wbe")) == NULL)
		status = fa_fail(error, FA_IO, "%s: %s", opened->path, strerror(errno));
	event.what_case = TENSORBOARD__EVENT__WHAT_FILE_VERSION;
	event.file_version = (char *) "brain.Event:2";
	if (status == FA_OK)
		status = write_event(opened, &event, first_step, error);
	if (status == FA_OK)
	{
		session.status = TENSORBOARD__SESSION_LOG__SESSION_STATUS__START;
		event.what_case = TENSORBOARD__EVENT__WHAT_SESSION_LOG;
		event.session_log = &session;
		status = write_event(opened, &event, first_step, error);
	}
	if (status != FA_OK)
	{
		fa_board_close(opened);
		return status;
	}
	*board = opened;
	return FA_OK;
}

void
fa_board_close(fa_board *board)
{
	if (board == NULL)
		return;
	if (board->file != NULL)
		fclose(board->file);
	free(board);
}
