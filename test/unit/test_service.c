/*
 * test_service.c
 *		faceattr-service without PostgreSQL: this program takes the supervisor's and the sessions'
 *		part. Answers are compared with the CPU engine's in this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../src/face/pipeline.h"
#include "../../src/service/client.h"
#include "../../src/service/exchange.h"
#include "../../src/service/sandbox.h"
#include "../../src/service/wire.h"
#include "served.h"

static void
assert_same_faces(const fa_faces *a, const fa_faces *b)
{
	assert_int_equal(a->count, b->count);
	for (int i = 0; i < a->count; i++)
	{
		const fa_face *x = &a->faces[i], *y = &b->faces[i];

		assert_memory_equal(&x->box, &y->box, sizeof(x->box));
		assert_memory_equal(x->landmarks, y->landmarks, sizeof(x->landmarks));
		assert_true(x->score == y->score && x->age == y->age && x->age_low == y->age_low &&
					x->age_high == y->age_high && x->gender == y->gender && x->race == y->race &&
					x->gender_confidence == y->gender_confidence &&
					x->race_confidence == y->race_confidence);
	}
}

static void
compare(const char *path, bool there)
{
	fa_pipeline *own, *remote = open_pipeline(FA_PRECISION_FP32);
	fa_face_options options;
	fa_faces a, b;
	uint8_t *bytes;
	size_t length;
	float *embeddings[2];
	int dimension[2];

	assert_int_equal(
		fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights", MODEL, &own, &error),
		FA_OK);
	options = fa_pipeline_options(own);
	assert_int_equal(fa_read_file(path, &bytes, &length, &error), FA_OK);
	fa_service_read_there(remote, there);
	assert_int_equal(fa_find_faces(own, bytes, length, &options, true, &a, NULL, &error), FA_OK);
	assert_int_equal(fa_find_faces(remote, bytes, length, &options, true, &b, NULL, &error), FA_OK);
	assert_true(a.count > 0);
	assert_same_faces(&a, &b);
	fa_faces_free(&a);
	fa_faces_free(&b);
	assert_int_equal(fa_embed_faces(own, bytes, length, &options, &a, &embeddings[0], &dimension[0],
									NULL, &error),
					 FA_OK);
	assert_int_equal(fa_embed_faces(remote, bytes, length, &options, &b, &embeddings[1],
									&dimension[1], NULL, &error),
					 FA_OK);
	assert_int_equal(dimension[0], dimension[1]);
	assert_memory_equal(embeddings[0], embeddings[1],
						(size_t) a.count * dimension[0] * sizeof(float));
	for (int i = 0; i < 2; i++)
		free(embeddings[i]);
	fa_faces_free(&a);
	fa_faces_free(&b);
	free(bytes);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
}

static void
test_answers(void **state)
{
	(void) state;
	compare(PHOTO, false);
	compare("demo/photos/sheet.jpg", false);
	compare(PHOTO, true);
	compare("demo/photos/sheet.jpg", true);
}

static void
test_crops_read_there(void **state)
{
	fa_pipeline *own, *remote = open_pipeline(FA_PRECISION_FP32);
	fa_bytes crops[4] = {{NULL, 0}, {NULL, 0}, {"not a picture", 13}, {NULL, 0}};
	fa_face a[4], b[4];
	fa_error errors_a[4], errors_b[4];
	float p[2][101], *embedding[2];
	uint8_t *bytes;
	size_t length;
	uint8_t *drawn[2];
	size_t drawn_length[2];
	fa_face_options options;

	(void) state;
	assert_int_equal(
		fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights", MODEL, &own, &error),
		FA_OK);
	fa_service_read_there(remote, true);
	assert_int_equal(fa_read_file(PHOTO, &bytes, &length, &error), FA_OK);
	crops[0] = crops[3] = (fa_bytes){bytes, length};
	assert_int_equal(fa_classify_crops(own, crops, 4, 1 << 30, a, errors_a, NULL, &error), FA_OK);
	assert_int_equal(fa_classify_crops(remote, crops, 4, 1 << 30, b, errors_b, NULL, &error),
					 FA_OK);
	for (int i = 0; i < 4; i++)
	{
		assert_true(fabsf(a[i].age - b[i].age) < 1e-3);
		assert_int_equal(a[i].gender, b[i].gender);
		assert_int_equal(a[i].classified, b[i].classified);
		assert_int_equal(errors_a[i].status, errors_b[i].status);
		assert_string_equal(errors_a[i].message, errors_b[i].message);
	}
	assert_int_equal(errors_b[2].status, FA_UNSUPPORTED);
	for (int i = 0; i < 2; i++)
	{
		fa_pipeline *pipeline = i == 0 ? own : remote;

		assert_int_equal(fa_crop_probabilities(pipeline, bytes, length, 1 << 30,
											   fa_pipeline_find_head(pipeline, "age"), p[i], NULL,
											   &error),
						 FA_OK);
		embedding[i] = malloc(fa_pipeline_embedding_size(pipeline) * sizeof(float));
		assert_int_equal(
			fa_embed_crop(pipeline, bytes, length, 1 << 30, a, embedding[i], NULL, &error), FA_OK);
		options = fa_pipeline_options(pipeline);
		assert_int_equal(fa_annotate(pipeline, bytes, length, &options, NULL, &drawn[i],
									 &drawn_length[i], NULL, &error),
						 FA_OK);
	}
	assert_memory_equal(p[0], p[1], sizeof(p[0]));
	assert_memory_equal(embedding[0], embedding[1],
						fa_pipeline_embedding_size(own) * sizeof(float));
	assert_int_equal(drawn_length[0], drawn_length[1]);
	assert_memory_equal(drawn[0], drawn[1], drawn_length[0]);
	for (int i = 0; i < 2; i++)
	{
		free(embedding[i]);
		free(drawn[i]);
	}
	free(bytes);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
}

/* --- Many at once ---------------------------------------------------------------------------- */

#define THREADS 64
#define CROPS_EACH 4
#define CROP (3 * 224 * 224) /* bytes of one */

/* A session that has one crop after the other looked at, each another one. */
typedef struct asker
{
	pthread_t thread;
	int number;
	float ages[CROPS_EACH][101];
} asker;

static uint8_t *
draw_crop(int number)
{
	uint8_t *pixels = malloc(CROP);
	uint32_t word = (uint32_t) number * 2654435761u + 1;

	for (int i = 0; i < CROP; i++)
	{
		word = word * 1664525u + 1013904223u;
		pixels[i] = (uint8_t) ((word >> 24) / 2 + (uint32_t) (number * 37 + i / 5000) % 128);
	}
	return pixels;
}

static void
ask_for_age(const fa_pipeline *pipeline, int number, float *age)
{
	uint8_t *pixels = draw_crop(number);
	const fa_attribute_model *a = &pipeline->attributes;
	fa_batch batch = {1, a->height, a->width, pixels};
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	static _Thread_local fa_error own;

	assert_int_equal(a->height * a->width * 3, CROP);
	outputs[a->outputs[a->age]] = age;
	assert_int_equal(pipeline->interface->run(a->model, &batch, outputs, NULL, &own), FA_OK);
	free(pixels);
}

/* A thread is not a process: its claims look as those of the same owner, which nothing minds. */
static void *
ask_for_ages(void *argument)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	asker *a = argument;

	for (int i = 0; i < CROPS_EACH; i++)
		ask_for_age(pipeline, a->number * CROPS_EACH + i, a->ages[i]);
	fa_pipeline_close(pipeline);
	return NULL;
}

/*
 * Sessions that ask for one crop at a time come together in batches of sixteen at least, on
 * average, and each gets the answer to its own crop. They have longer than usual to come, since
 * how soon a thread gets a processor is not the service's doing.
 */
static void
test_batches_of_many(void **state)
{
	static asker askers[THREADS];
	uint64_t images = atomic_load(&ring.header->images),
			 batches = atomic_load(&ring.header->batches);
	uint32_t delay = atomic_exchange(&ring.header->batch_delay, 50000);
	fa_pipeline *pipeline;

	(void) state;
	for (int i = 0; i < THREADS; i++)
	{
		askers[i].number = i;
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_for_ages, &askers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(askers[i].thread, NULL);
	atomic_store(&ring.header->batch_delay, delay);
	images = atomic_load(&ring.header->images) - images;
	batches = atomic_load(&ring.header->batches) - batches;
	print_message("# %d crops in %d batches\n", (int) images, (int) batches);
	assert_int_equal(images, THREADS * CROPS_EACH);
	assert_true(16 * batches <= images);
	/* alone, a crop has the same answer, and others have others */
	pipeline = open_pipeline(FA_PRECISION_FP32);
	for (int i = 0; i < THREADS; i += 5)
	{
		float alone[101], *together = askers[i].ages[i % CROPS_EACH];
		double same = 0, other = 0;

		ask_for_age(pipeline, i * CROPS_EACH + i % CROPS_EACH, alone);
		for (int k = 0; k < 101; k++)
		{
			same = fmax(same, fabsf(together[k] - alone[k]));
			other = fmax(other, fabsf(together[k] - askers[(i + 1) % THREADS].ages[0][k]));
		}
		assert_true(same < 1e-3 && other > 1e-2);
	}
	fa_pipeline_close(pipeline);
}

/* --- Ends ------------------------------------------------------------------------------------ */

static bool
stop_at_once(void *argument)
{
	int *asked = argument;

	return ++*asked > 2;
}

/* Says stop from a time on. */
static bool
stop_at(void *argument)
{
	return fa_seconds() >= *(double *) argument;
}

static int
compare_doubles(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return (x > y) - (x < y);
}

#define CANCELS 21

/* The median time from a cancel to its answer, of requests that a stopped service has. */
static double
cancel_latency(fa_pipeline *pipeline, bool for_slot)
{
	double late[CANCELS];

	for (int i = 0; i < CANCELS; i++)
	{
		double when = fa_seconds() + 0.015 + 0.001 * i;
		fa_interrupt interrupt = {stop_at, &when};
		uint8_t *pixels = draw_crop(i);
		fa_batch batch = {1, 224, 224, pixels};
		float *outputs[FA_MAX_OUTPUTS] = {NULL};

		assert_int_equal(fa_ring_busy(&ring), for_slot);
		assert_int_equal(pipeline->interface->run(pipeline->attributes.model, &batch, outputs,
												  &interrupt, &error),
						 FA_INTERRUPTED);
		late[i] = fa_seconds() - when;
		assert_true(late[i] >= 0);
		free(pixels);
	}
	qsort(late, CANCELS, sizeof(late[0]), compare_doubles);
	return late[CANCELS / 2];
}

/* "Within 50 ms", of twenty and one the median; a machine with much to do has another try. */
static void
test_cancel_is_answered_soon(void **state)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_claim claims[SLOTS];

	(void) state;
	stop_service();
	for (int for_slot = 0; for_slot < 2; for_slot++)
	{
		double late = 1;

		for (int i = 0; i < SLOTS && for_slot; i++) /* none is free */
		{
			assert_true(fa_ring_claim(&ring, &claims[i]));
			assert_true(fa_ring_submit(&ring, &claims[i]));
		}
		for (int attempt = 0; attempt < 2 && late >= 0.05; attempt++)
			late = cancel_latency(pipeline, for_slot);
		print_message("# a cancel of who waits for %s is answered after %.1f ms\n",
					  for_slot ? "a slot" : "an answer", 1000 * late);
		assert_true(late < 0.05);
		for (int i = 0; i < SLOTS && for_slot; i++)
			fa_ring_abandon(&ring, &claims[i]);
	}
	kill(service, SIGCONT);
	fa_pipeline_close(pipeline);
}

static void
test_cancel_while_stopped(void **state)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	int asked = 0;
	fa_interrupt interrupt = {stop_at_once, &asked};
	fa_face_options options = fa_pipeline_options(pipeline);
	fa_faces faces;
	uint8_t *bytes;
	size_t length;
	double start;

	(void) state;
	assert_int_equal(fa_read_file(PHOTO, &bytes, &length, &error), FA_OK);
	fa_service_read_there(pipeline, true);
	stop_service();
	start = fa_seconds();
	assert_int_equal(
		fa_find_faces(pipeline, bytes, length, &options, true, &faces, &interrupt, &error),
		FA_INTERRUPTED);
	assert_true(fa_seconds() - start < 2);
	kill(service, SIGCONT);
	fa_service_read_there(pipeline, false);
	for (int i = 0; i < 500 && fa_ring_busy(&ring); i++)
		sleep_ms(10);
	assert_false(fa_ring_busy(&ring));
	assert_int_equal(fa_find_faces(pipeline, bytes, length, &options, true, &faces, NULL, &error),
					 FA_OK);
	fa_faces_free(&faces);
	free(bytes);
	fa_pipeline_close(pipeline);
}

static void *
ask_once(void *argument)
{
	fa_pipeline *pipeline = argument;
	fa_face_options options = fa_pipeline_options(pipeline);
	static _Thread_local fa_error own;
	fa_faces faces;
	uint8_t *bytes;
	size_t length;

	assert_int_equal(fa_read_file(PHOTO, &bytes, &length, &own), FA_OK);
	if (fa_find_faces(pipeline, bytes, length, &options, true, &faces, NULL, &own) == FA_OK)
		fa_faces_free(&faces);
	free(bytes);
	fa_pipeline_close(pipeline);
	return (void *) (uintptr_t) own.status;
}

/* A session that has chosen the service reads a photo first, and asks nothing for seconds. */
static void
test_idle_but_wanted(void **state)
{
	fa_pipeline *pipeline;

	(void) state;
	atomic_store(&ring.header->wanted, fa_ring_now());
	atomic_store(&ring.header->idle_timeout, 1);
	sleep_ms(3500);
	assert_int_equal(waitpid(service, NULL, WNOHANG), 0);
	pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_pipeline_close(pipeline);
	/* nobody any more: it says so, and ends */
	atomic_store(&ring.header->wanted, 0);
	assert_int_equal(bury_service(0), 0);
	assert_int_equal(atomic_load(&ring.header->wanted), FA_RING_ENDS);
	atomic_store(&ring.header->wanted, 0);
	atomic_store(&ring.header->idle_timeout, 0);
	start_service();
}

static void
test_killed_in_the_middle(void **state)
{
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	pthread_t thread;
	void *status;

	(void) state;
	stop_service();
	assert_int_equal(pthread_create(&thread, NULL, ask_once, pipeline), 0);
	for (int i = 0; i < 500 && !fa_ring_busy(&ring); i++)
		sleep_ms(10);
	bury_service(SIGKILL);
	pthread_join(thread, &status);
	assert_int_equal((uintptr_t) status, FA_DEVICE_LOST);
	/* without one */
	assert_int_not_equal(fa_service_model(key, FA_PRECISION_FP32, NULL, &(fa_precision){0},
										  &(void *){NULL}, &(size_t){0}, NULL, &error),
						 FA_OK);
	assert_int_equal(error.status, FA_DEVICE_LOST);
	start_service();
	pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_pipeline_close(pipeline);
}

static void
test_decoder_that_crashes(void **state)
{
	static const uint8_t magic[] = {0xde, 0xad, 0xbe, 0xef, 0, 0};
	fa_pipeline *pipeline = open_pipeline(FA_PRECISION_FP32);
	fa_face_options options = fa_pipeline_options(pipeline);
	fa_faces faces;
	int status;

	(void) state;
	fa_service_read_there(pipeline, true);
	/* nobody settles: the session finds out that there is no service any more */
	pid_t watcher = fork();
	if (watcher == 0)
	{
		sleep_ms(1500);
		atomic_store(&ring.header->state, FA_SERVICE_WAITING);
		_exit(0);
	}
	assert_int_equal(
		fa_find_faces(pipeline, magic, sizeof(magic), &options, true, &faces, NULL, &error),
		FA_DEVICE_LOST);
	waitpid(watcher, &status, 0);
	status = bury_service(0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	fa_pipeline_close(pipeline);
	start_service();
}

/* --- What strangers write ------------------------------------------------------------------------
 */

static void
test_requests_that_make_no_sense(void **state)
{
	(void) state;
	for (int i = 0; i < 400; i++)
	{
		uint32_t word = (uint32_t) i * 2654435761u;
		char data[64];
		fa_exchange x;

		assert_int_equal(fa_exchange_begin(&x, (fa_request_kind) (i % 7), 64, NULL, &error), FA_OK);
		memset(data, i, sizeof(data));
		assert_int_equal(fa_exchange_write(&x, data, sizeof(data), NULL, &error), FA_OK);
		x.request.precision = i % 3 == 0 ? 1 : word;
		x.request.part = i % 2 == 0 ? 0 : word % 4;
		x.request.count = i % 5 == 0 ? UINT32_MAX : word % 9;
		x.request.height = i % 4 == 0 ? 32 : word;
		x.request.width = i % 4 == 0 ? 32 : word >> 7;
		x.request.wanted = word;
		x.request.length = i % 6 == 0 ? UINT64_MAX : 64;
		x.request.format = (int32_t) word;
		x.request.options = fa_default_options();
		if (i % 8 == 0)
			memcpy(x.request.model, key, sizeof(key));
		if (i % 11 == 0)
			memset(&x.request.options, i, sizeof(x.request.options));
		if (fa_exchange_call(&x, NULL, &error) == FA_OK)
			fa_exchange_end(&x, &error);
		assert_int_equal(waitpid(service, NULL, WNOHANG), 0); /* it lives */
	}
	compare(PHOTO, false);
}

/* --- Its sandbox ------------------------------------------------------------------------------ */

static bool
kernel_confines_files(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void
test_the_service_is_confined(void **state)
{
	unsigned expected = FA_CONFINED_CALLS | (kernel_confines_files() ? FA_CONFINED_FILES : 0);

	(void) state;
	assert_int_equal(atomic_load(&ring.header->confined), expected);
	assert_int_equal(told("Seccomp: %ld"), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_crops_read_there),
		cmocka_unit_test(test_batches_of_many),
		cmocka_unit_test_teardown(test_cancel_is_answered_soon, go_on),
		cmocka_unit_test_teardown(test_cancel_while_stopped, go_on),
		cmocka_unit_test(test_idle_but_wanted),
		cmocka_unit_test(test_killed_in_the_middle),
		cmocka_unit_test(test_decoder_that_crashes),
		cmocka_unit_test(test_requests_that_make_no_sense),
		cmocka_unit_test(test_the_service_is_confined),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, setup, teardown);
}
