/*
 * test_scan.c
 *		Many photos through a scan: the faces of one after the other, in order, whatever the
 * threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../src/face/pipeline.h"
#include "../../src/face/scan.h"
#include "../../trainer/common.h"

#define PHOTOS 40

static const char *const names[] = {"portrait.jpg", "grey.jpg", "tilted.png", "close-up.jpg",
									"turned-phone.jpg"};

static fa_pipeline *pipeline;
static fa_bytes files[5];
static fa_faces expected[5];
static fa_face_options options;
static fa_error error;

static int
setup(void **state)
{
	(void) state;
	assert_int_equal(fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights",
									  "weights/default.safetensors", &pipeline, &error),
					 FA_OK);
	options = fa_pipeline_options(pipeline);
	for (int i = 0; i < 5; i++)
	{
		char path[256];
		uint8_t *bytes;

		snprintf(path, sizeof(path), "demo/photos/%s", names[i]);
		assert_int_equal(fa_read_file(path, &bytes, &files[i].length, &error), FA_OK);
		files[i].bytes = bytes;
		assert_int_equal(fa_find_faces(pipeline, bytes, files[i].length, &options, true,
									   &expected[i], NULL, &error),
						 FA_OK);
		assert_true(expected[i].count > 0);
	}
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	for (int i = 0; i < 5; i++)
	{
		fa_faces_free(&expected[i]);
		free((void *) files[i].bytes);
	}
	fa_pipeline_close(pipeline);
	return 0;
}

/* Photo number n of a scan; every seventh is none. */
static fa_bytes
photo(int n)
{
	return n % 7 == 3 ? (fa_bytes){"no photo", 8} : files[n % 5];
}

static void
check_result(int n, fa_status status, fa_faces *faces)
{
	if (n % 7 == 3)
	{
		assert_int_equal(status, FA_UNSUPPORTED);
		return;
	}
	assert_int_equal(status, FA_OK);
	assert_int_equal(faces->count, expected[n % 5].count);
	assert_int_equal(faces->width, expected[n % 5].width);
	for (int i = 0; i < faces->count; i++)
	{
		const fa_face *a = &faces->faces[i], *b = &expected[n % 5].faces[i];

		/* The engine runs single crops: nothing differs. With larger batches last digits may. */
		assert_memory_equal(&a->box, &b->box, sizeof(a->box));
		assert_true(a->score == b->score && a->age == b->age);
		assert_int_equal(a->race, b->race);
	}
	fa_faces_free(faces);
}

static void
scan_all(int threads)
{
	fa_scan *scan;
	int pushed = 0, taken = 0, done;

	assert_int_equal(fa_scan_open(pipeline, &options, threads, &scan, &error), FA_OK);
	while (taken < PHOTOS)
	{
		while (pushed < PHOTOS && fa_scan_wants(scan))
		{
			fa_bytes bytes = photo(pushed++);

			assert_int_equal(fa_scan_push(scan, bytes.bytes, bytes.length, &error), FA_OK);
		}
		assert_int_equal(fa_scan_count(scan), pushed - taken);
		assert_int_equal(fa_scan_run(scan, pipeline, &done, NULL, &error), FA_OK);
		assert_true(done > 0 && done <= FA_SCAN_PHOTOS);
		for (; done > 0; done--, taken++)
		{
			fa_faces faces;
			fa_status status = fa_scan_take(scan, &faces, &error);

			check_result(taken, status, &faces);
		}
	}
	assert_int_equal(fa_scan_count(scan), 0);
	assert_int_equal(fa_scan_take(scan, &expected[0], &error), FA_INVALID);
	fa_scan_close(scan);
}

/* On an engine that likes batches the detector gets photos of one shape together: the same faces.
 */
static int most_together;

static fa_status
count_images(fa_model *model, const fa_batch *batch, float *const *outputs,
			 const fa_interrupt *interrupt, fa_error *why)
{
	if (batch->count > most_together && batch->height != 224)
		most_together = batch->count;
	return fa_cpu_engine.run(model, batch, outputs, interrupt, why);
}

static void
test_batches(void **state)
{
	fa_engine_interface batching = fa_cpu_engine;
	fa_pipeline *usual = pipeline;
	fa_scan *scan;
	int done, count = 0;

	(void) state;
	batching.batch = 8;
	batching.run = count_images;
	assert_int_equal(fa_pipeline_open(&batching, NULL, FA_PRECISION_FP32, "weights",
									  "weights/default.safetensors", &pipeline, &error),
					 FA_OK);
	assert_int_equal(fa_scan_open(pipeline, &options, 0, &scan, &error), FA_OK);
	for (; fa_scan_wants(scan); count++)
		assert_int_equal(fa_scan_push(scan, photo(count).bytes, photo(count).length, &error),
						 FA_OK);
	assert_int_equal(fa_scan_run(scan, pipeline, &done, NULL, &error), FA_OK);
	assert_int_equal(done, count);
	for (int n = 0; n < done; n++)
	{
		const fa_faces *alone = &expected[n % 5];
		fa_faces faces;

		assert_int_equal(fa_scan_take(scan, &faces, &error), n % 7 == 3 ? FA_UNSUPPORTED : FA_OK);
		if (n % 7 == 3)
			continue;
		assert_int_equal(faces.count, alone->count);
		for (int i = 0; i < faces.count; i++)
		{
			const fa_face *a = &faces.faces[i], *b = &alone->faces[i];

			assert_true(fabs(a->box.x1 - b->box.x1) < 0.05 && fabs(a->box.y2 - b->box.y2) < 0.05);
			assert_true(fabsf(a->score - b->score) < 1e-3f && fabsf(a->age - b->age) < 0.05f);
		}
		fa_faces_free(&faces);
	}
	assert_true(most_together > 1 && most_together <= 8);
	fa_scan_close(scan);
	fa_pipeline_close(pipeline);
	pipeline = usual;
}

static void
test_order(void **state)
{
	fa_faces kept = expected[0];

	(void) state;
	for (int threads = 0; threads <= 3; threads += 3)
	{
		scan_all(threads);
		expected[0] = kept; /* that a take of nothing has zeroed */
	}
}

static double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* Until this process has had nothing to do for a while, or ten seconds. */
static void
wait_for_threads(void)
{
	double before = cpu_seconds();
	int quiet = 0;

	for (int i = 0; i < 500 && quiet < 10; i++)
	{
		double now;

		usleep(20000);
		now = cpu_seconds();
		quiet = now - before < 0.002 ? quiet + 1 : 0;
		before = now;
	}
}

/* What the caller's part of reading six photos takes when it comes late: seconds. */
static double
time_to_read(int threads)
{
	double before = pipeline->work.decode;
	fa_scan *scan;
	int done;

	assert_int_equal(fa_scan_open(pipeline, &options, threads, &scan, &error), FA_OK);
	for (int i = 0; i < 6; i++)
	{
		fa_bytes photo = files[i % 2 == 0 ? 0 : 3];

		assert_int_equal(fa_scan_push(scan, photo.bytes, photo.length, &error), FA_OK);
	}
	wait_for_threads();
	assert_int_equal(fa_scan_run(scan, pipeline, &done, NULL, &error), FA_OK);
	assert_int_equal(done, 6);
	for (int i = 0; i < 6; i++)
	{
		fa_faces faces;

		assert_int_equal(fa_scan_take(scan, &faces, &error), FA_OK);
		fa_faces_free(&faces);
	}
	fa_scan_close(scan);
	return pipeline->work.decode - before;
}

/*
 * Threads read what has been pushed before anybody asks for it: to a caller that comes when they
 * are done, only the crops of faces are left, a third of it all. A machine with much to do has
 * three tries.
 */
static void
test_reading_ahead(void **state)
{
	double alone = time_to_read(0), ahead = alone;

	(void) state;
	for (int attempt = 0; attempt < 3 && ahead > alone / 2; attempt++)
		ahead = time_to_read(2);
	print_message("# the caller's part: %.2f ms alone, %.2f ms with threads\n", 1000 * alone,
				  1000 * ahead);
	assert_true(alone > 1e-3);
	assert_true(ahead <= alone / 2);
}

/* However large photos are, there is room for one, and not for many. */
static void
test_bytes_in_flight(void **state)
{
	size_t large = FA_SCAN_BYTES / 3;
	char *zeros = calloc(1, large);
	fa_scan *scan;
	int pushed = 0;

	(void) state;
	for (int threads = 0; threads <= 2; threads += 2)
	{
		assert_int_equal(fa_scan_open(pipeline, &options, threads, &scan, &error), FA_OK);
		for (pushed = 0; fa_scan_wants(scan); pushed++)
			assert_int_equal(fa_scan_push(scan, zeros, large, &error), FA_OK);
		assert_int_equal(pushed, 3);
		fa_scan_close(scan);
		assert_int_equal(fa_scan_open(pipeline, &options, threads, &scan, &error), FA_OK);
		for (pushed = 0; fa_scan_wants(scan); pushed++)
			assert_int_equal(fa_scan_push(scan, zeros, 8, &error), FA_OK);
		assert_int_equal(pushed, threads == 0 ? FA_SCAN_PHOTOS : 2 * FA_SCAN_PHOTOS);
		fa_scan_close(scan);
	}
	free(zeros);
}

static bool
stop(void *argument)
{
	int *left = argument;

	return (*left)-- <= 0;
}

/* Stopped at any moment, a scan can be closed. */
static void
test_interrupt(void **state)
{
	(void) state;
	for (int threads = 0; threads <= 3; threads += 3)
		for (int after = 0; after < 400; after = after * 3 + 1)
		{
			int left = after, done;
			fa_interrupt interrupt = {stop, &left};
			fa_scan *scan;

			assert_int_equal(fa_scan_open(pipeline, &options, threads, &scan, &error), FA_OK);
			for (int i = 0; i < 5; i++)
				assert_int_equal(fa_scan_push(scan, files[i].bytes, files[i].length, &error),
								 FA_OK);
			assert_int_equal(fa_scan_run(scan, pipeline, &done, &interrupt, &error),
							 FA_INTERRUPTED);
			assert_int_equal(done, 0);
			fa_scan_close(scan);
		}
}

static void
test_options(void **state)
{
	fa_face_options wrong = options;
	fa_scan *scan;

	(void) state;
	wrong.detect_size = 1;
	assert_int_equal(fa_scan_open(pipeline, &wrong, 0, &scan, &error), FA_INVALID);
	assert_null(scan);
	fa_scan_close(scan);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),         cmocka_unit_test(test_batches),
		cmocka_unit_test(test_reading_ahead), cmocka_unit_test(test_bytes_in_flight),
		cmocka_unit_test(test_interrupt),     cmocka_unit_test(test_options),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, setup, teardown);
}
