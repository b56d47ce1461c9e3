/*
 * test_service_memory.c
 *		The memory that sessions share with faceattr-service, and the service's own: what is
 *		mapped, what is given back and when, and what happens where there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "served.h"

#define MB ((size_t) 1 << 20)
#define MANY 8 /* requests at once */

/* Of the photo, read there. */
static void
ask_for_faces(void)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_face_options options = fa_pipeline_options(pipeline);
	fa_faces faces;
	uint8_t *bytes;
	size_t length;

	fa_service_read_there(pipeline, true);
	assert_int_equal(fa_read_file(PHOTO, &bytes, &length, &error), FA_OK);
	assert_int_equal(fa_find_faces(pipeline, bytes, length, &options, true, &faces, NULL, &error),
					 FA_OK);
	fa_faces_free(&faces);
	free(bytes);
	fa_pipeline_close(pipeline);
}

/* A file that a bit has been lost of, on its way or by its key, is not there for anybody. */
static void
test_model_that_came_damaged(void **state)
{
	static const uint8_t other[FA_SERVICE_KEY] = {9};
	uint8_t *file;
	size_t length;
	fa_precision resolved;
	void *block;

	(void) state;
	assert_int_equal(fa_read_file(MODEL, &file, &length, &error), FA_OK);
	for (int what = 0; what < 3; what++)
	{
		fa_exchange x;

		assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_LOAD, length, NULL, &error), FA_OK);
		memcpy(x.request.model, other, sizeof(other));
		x.request.precision = FA_PRECISION_FP32;
		assert_int_equal(fa_ring_sum(what == 0 ? key : other,
									 what == 1 ? FA_PRECISION_BF16 : FA_PRECISION_FP32, file,
									 length, &x.request.sum, NULL, &error),
						 FA_OK);
		file[length / 2] ^= what == 2 ? 1 : 0; /* of a weight */
		assert_int_equal(fa_exchange_write(&x, file, length, NULL, &error), FA_OK);
		file[length / 2] ^= what == 2 ? 1 : 0;
		assert_int_equal(fa_exchange_call(&x, NULL, &error), FA_IO);
		assert_int_equal(fa_service_model(other, FA_PRECISION_FP32, NULL, &resolved, &block,
										  &(size_t){0}, NULL, &error),
						 FA_NOT_FOUND);
	}
	assert_int_equal(fa_service_model(other, FA_PRECISION_FP32, &(fa_bytes){file, length},
									  &resolved, &block, &(size_t){0}, NULL, &error),
					 FA_OK);
	free(block);
	free(file);
}

/* Megabytes that the areas have. */
static size_t
pages_of(const fa_ring *of)
{
	struct stat facts;

	assert_int_equal(fstat(of->fd, &facts), 0);
	return (size_t) facts.st_blocks / 2048;
}

/* Areas are not. */
static void
test_what_is_mapped(void **state)
{
	char line[512];
	size_t mapped = 0;
	FILE *file;

	(void) state;
	ask_for_faces();
	file = fopen("/proc/self/maps", "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
	{
		size_t from, to;

		if (strstr(line, "/memfd:faceattr-service") != NULL &&
			sscanf(line, "%zx-%zx", &from, &to) == 2)
			mapped += to - from;
	}
	fclose(file);
	assert_true(mapped > 0 && mapped < MB);
}

/* What was written for something large is given back. */
static void
test_memory_of_large_requests(void **state)
{
	static const size_t larges[] = {20, 100};
	char *data = calloc(100, MB);
	size_t before = pages_of(&ring);

	(void) state;
	assert_non_null(data);
	for (size_t i = 0; i < 2; i++)
	{
		fa_exchange x;

		assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_FIND, larges[i] * MB, NULL, &error),
						 FA_OK);
		x.request.precision = FA_PRECISION_FP32;
		assert_int_equal(fa_exchange_write(&x, data, larges[i] * MB, NULL, &error), FA_OK);
		assert_true(pages_of(&ring) > before + larges[i] - 5);
		assert_int_not_equal(fa_exchange_call(&x, NULL, &error), FA_OK);
		if (i == 0) /* by who asked; what would take longer, by the service */
			assert_true(all_free());
		wait_until_free();
		assert_true(pages_of(&ring) <= before + 5);
	}
	free(data);
}

static bool
stop_after_three(void *argument)
{
	int *asked = argument;

	return ++*asked > 3;
}

/* A large request is given up while it is written, and without the time to give back its pages. */
static void
test_cancel_of_large_requests(void **state)
{
	char *data = calloc(128, MB);
	int asked = 0;
	fa_interrupt interrupt = {stop_after_three, &asked};
	size_t before = pages_of(&ring);
	fa_exchange x;

	(void) state;
	assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_FIND, 128 * MB, NULL, &error), FA_OK);
	assert_int_equal(fa_exchange_write(&x, data, 128 * MB, &interrupt, &error), FA_INTERRUPTED);
	assert_true(pages_of(&ring) < before + 24);
	wait_until_free();
	stop_service();
	assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_FIND, 128 * MB, NULL, &error), FA_OK);
	x.request.precision = FA_PRECISION_FP32;
	assert_int_equal(fa_exchange_write(&x, data, 128 * MB, NULL, &error), FA_OK);
	assert_int_equal(fa_exchange_call(&x, &interrupt, &error), FA_INTERRUPTED);
	assert_true(pages_of(&ring) > before + 100);
	kill(service, SIGCONT);
	wait_until_free();
	assert_true(pages_of(&ring) <= before + 5);
	free(data);
}

static fa_exchange
submit_run(fa_model_part part, int count, int height, int width, const void *pixels)
{
	size_t length = (size_t) count * (size_t) height * (size_t) width * 3;
	fa_exchange x;

	assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_RUN, length, NULL, &error), FA_OK);
	x.request.precision = FA_PRECISION_FP32;
	x.request.part = part;
	x.request.count = (uint32_t) count;
	x.request.height = (uint32_t) height;
	x.request.width = (uint32_t) width;
	assert_int_equal(fa_exchange_write(&x, pixels, length, NULL, &error), FA_OK);
	ring.slot[x.claim.slot].request = x.request;
	assert_true(fa_ring_submit(&ring, &x.claim));
	return x;
}

/* Batches of many kinds, open while one is at work, do not keep all their memory afterwards. */
static void
test_memory_of_many_batches(void **state)
{
	char *pixels = calloc(20, MB);
	fa_exchange exchanges[MANY];
	long before;

	(void) state;
	bury_service(SIGKILL);
	start_service();
	before = told("RssAnon: %ld") / 1024;
	/* the first takes some time; the others are refused when it is their turn */
	for (int i = 0; i < MANY; i++)
		exchanges[i] = i == 0 ? submit_run(FA_PART_DETECTOR, 12, 640, 640, pixels)
							  : submit_run(FA_PART_ATTRIBUTES, 1, 2200 + i, 2240, pixels);
	for (int i = 0; i < MANY; i++)
	{
		while (fa_ring_wait(&ring, &exchanges[i].claim, 100) == FA_WAIT_MORE)
			;
		assert_true(fa_ring_release(&ring, &exchanges[i].claim));
	}
	wait_until_free();
	assert_true(told("RssAnon: %ld") / 1024 < before + 64 + 24);
	free(pixels);
}

/* As on a machine that has no more pages: files may be that long and no longer. */
static void
limit_files(pid_t process, rlim_t length)
{
	assert_int_equal(prlimit(process, RLIMIT_FSIZE, &(struct rlimit){length, RLIM_INFINITY}, NULL),
					 0);
}

/* An error of the request and no signal, in the session or in the service. */
static void
test_no_memory(void **state)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_face_options options = fa_pipeline_options(pipeline);
	fa_faces faces;
	uint8_t *bytes;
	size_t length;

	(void) state;
	assert_int_equal(fa_read_file(PHOTO, &bytes, &length, &error), FA_OK);
	signal(SIGXFSZ, SIG_IGN); /* as in a server */
	for (int there = 0; there < 2; there++)
	{
		fa_service_read_there(pipeline, there == 1);
		for (int round = 0; round < 2; round++)
		{
			limit_files(round == 0 ? getpid() : service,
						40960); /* header, slots, and little more */
			assert_int_equal(
				fa_find_faces(pipeline, bytes, length, &options, true, &faces, NULL, &error),
				FA_NO_MEMORY);
			assert_string_equal(error.message, "out of memory that faceattr-service shares");
			limit_files(round == 0 ? getpid() : service, RLIM_INFINITY);
			wait_until_free();
			assert_int_equal(
				fa_find_faces(pipeline, bytes, length, &options, true, &faces, NULL, &error),
				FA_OK);
			fa_faces_free(&faces);
		}
	}
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(waitpid(service, NULL, WNOHANG), 0);
	free(bytes);
	fa_pipeline_close(pipeline);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model_that_came_damaged),
		cmocka_unit_test(test_what_is_mapped),
		cmocka_unit_test(test_memory_of_large_requests),
		cmocka_unit_test_teardown(test_cancel_of_large_requests, go_on),
		cmocka_unit_test(test_memory_of_many_batches),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
