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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../src/face/pipeline.h"
#include "../../src/service/client.h"
#include "../../src/service/exchange.h"
#include "../../src/service/sandbox.h"
#include "../../src/service/wire.h"

#define SLOTS 64
#define MODEL "weights/default.safetensors"
#define PHOTO "demo/photos/portrait.jpg"

static const uint8_t key[FA_SERVICE_KEY] = {7};

static fa_ring ring;
static pid_t service;
static fa_error error;

static void
sleep_ms(int milliseconds)
{
	usleep((useconds_t) milliseconds * 1000);
}

static void
start_service(void)
{
	char fd[16], slots[16];

	atomic_store(&ring.header->state, FA_SERVICE_STARTING);
	snprintf(fd, sizeof(fd), "%d", ring.fd);
	snprintf(slots, sizeof(slots), "%d", SLOTS);
	service = fork();
	assert_true(service >= 0);
	if (service == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(ring.fd, F_SETFD, 0);
		execl("./faceattr-service", "faceattr-service", "--ring", fd, "--slots", slots, "--weights",
			  "weights", "--device", "cpu", (char *) NULL);
		_exit(127);
	}
	for (int i = 0; i < 3000 && atomic_load(&ring.header->state) != FA_SERVICE_READY; i++)
		sleep_ms(10);
	assert_int_equal(atomic_load(&ring.header->state), FA_SERVICE_READY);
}

/* Not by the time that kill() returns is it stopped. */
static void
stop_service(void)
{
	int status;

	kill(service, SIGSTOP);
	assert_int_equal(waitpid(service, &status, WUNTRACED), service);
	assert_true(WIFSTOPPED(status));
}

/* Whatever has become of a test, the next ones need it. */
static int
go_on(void **state)
{
	(void) state;
	kill(service, SIGCONT);
	return 0;
}

/* As the supervisor does after a death; the service's status. */
static int
bury_service(int signal_number)
{
	int status;

	if (signal_number != 0)
		kill(service, signal_number);
	assert_int_equal(waitpid(service, &status, 0), service);
	atomic_store(&ring.header->state, FA_SERVICE_WAITING);
	fa_ring_settle(&ring, FA_DEVICE_LOST, "it died", "of a test");
	return status;
}

static bool
all_free(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (fa_word_state(atomic_load(&ring.slot[i].word)) != FA_SLOT_FREE)
			return false;
	return true;
}

static void
wait_until_free(void)
{
	for (int i = 0; i < 3000 && !all_free(); i++)
		sleep_ms(10);
	assert_true(all_free());
}

/* What the kernel tells of the service. */
static long
told(const char *format)
{
	char path[64], line[256];
	long value = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", service);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		sscanf(line, format, &value);
	fclose(file);
	return value;
}

static int
setup(void **state)
{
	(void) state;
	assert_int_equal(fa_ring_create(SLOTS, &ring, &error), FA_OK);
	atomic_store(&ring.header->batch_size, 64);
	atomic_store(&ring.header->batch_delay, 1000);
	atomic_store(&ring.header->model_memory, UINT64_C(1) << 30);
	fa_service_use(&ring);
	setenv("FACEATTR_TEST_CRASH", "deadbeef", 1);
	start_service();
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	bury_service(SIGKILL);
	fa_ring_close(&ring);
	return 0;
}

static fa_pipeline *
open_pipeline(fa_precision precision)
{
	fa_pipeline *pipeline;
	fa_precision resolved;
	void *block;
	uint8_t *file;
	size_t length, file_length;
	fa_status status =
		fa_service_model(key, precision, NULL, &resolved, &block, &length, NULL, &error);

	if (status == FA_NOT_FOUND)
	{
		assert_int_equal(fa_read_file(MODEL, &file, &file_length, &error), FA_OK);
		status = fa_service_model(key, precision, &(fa_bytes){file, file_length}, &resolved, &block,
								  &length, NULL, &error);
		free(file);
	}
	assert_int_equal(status, FA_OK);
	assert_int_equal(fa_pipeline_open_packed(&fa_service_engine, NULL, resolved, block, length,
											 &pipeline, &error),
					 FA_OK);
	free(block);
	return pipeline;
}

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

/* --- Memory ---------------------------------------------------------------------------------- */

#define MB ((size_t) 1 << 20)

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
	compare(PHOTO, true);
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
	kill(service, SIGSTOP);
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
	fa_exchange exchanges[SLOTS];
	long before;

	(void) state;
	bury_service(SIGKILL);
	start_service();
	before = told("RssAnon: %ld") / 1024;
	/* the first takes some time; the others are refused when it is their turn */
	for (int i = 0; i < SLOTS; i++)
		exchanges[i] = i == 0 ? submit_run(FA_PART_DETECTOR, 12, 640, 640, pixels)
							  : submit_run(FA_PART_ATTRIBUTES, 1, 2200 + i, 2240, pixels);
	for (int i = 0; i < SLOTS; i++)
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
		cmocka_unit_test(test_model_that_came_damaged),
		cmocka_unit_test(test_what_is_mapped),
		cmocka_unit_test(test_memory_of_large_requests),
		cmocka_unit_test(test_cancel_of_large_requests),
		cmocka_unit_test(test_memory_of_many_batches),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_the_service_is_confined),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, setup, teardown);
}
