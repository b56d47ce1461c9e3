/*
 * main.c
 *		faceattr-service: the process that runs networks for all sessions of a server.
 *
 * The supervisor (src/pg/supervisor.c) starts it with the descriptor of the ring and nothing else.
 * It gives up the files that it does not need (sandbox.c), opens its device, runs the detector,
 * gives up system calls, and then has two kinds of threads beside the main one, which runs networks
 * (batcher.c): the intake below, which hands submitted slots to those who work on them, and those
 * that read photos (photos.c). It never waits for a session, and ends by exit when it has been idle
 * for long, or by any signal: nothing here needs an orderly end. One that went to the CPU for want
 * of a GPU, because a session would have it on any device, ends when it is idle after ten minutes,
 * too: the GPU may be back, and as long as this one lives nobody looks.
 *
 * Exit status: 0 idle, 2 this machine has not what it needs, 3 the device is lost; the header says
 * why.
 */
#include <argp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "../nn/cuda.h"
#include "batcher.h"
#include "client.h"
#include "photos.h"
#include "sandbox.h"

#define USELESS 2
/* microseconds */
#define IDLE_CHECK 1000000
#define PHOTO_TIME 10000000 /* that a session may take to read one */
#define TIME_ON_CPU 600000000

typedef struct options
{
	int ring, slots, gpu_device, threads;
	const char *weights, *device, *cuda, *plan_cache;
} options;

typedef struct service
{
	options o;
	fa_ring ring;
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_batcher *batcher;
	fa_photos *photos;
} service;

/* --- Options -----------------------------------------------------------------------------------
 */

static const struct argp_option named[] = {
	{"ring", 'r', "FD", 0, "Descriptor of the ring", 0},
	{"slots", 's', "N", 0, "Slots that it was made with", 0},
	{"weights", 'w', "DIRECTORY", 0, "Where the detector's weights are", 0},
	{"device", 'd', "auto|cpu|gpu", 0, "What to run on (auto)", 0},
	{"gpu-device", 'g', "N", 0, "Which GPU (0)", 0},
	{"threads", 't', "N", 0, "Threads of the CPU engine (1)", 0},
	{"cuda", 'c', "FILE", 0, "The CUDA engine's library", 0},
	{"plan-cache", 'p', "DIRECTORY", 0, "Where the GPU's plans are kept", 0},
	{0}};

static error_t
parse_option(int key, char *argument, struct argp_state *state)
{
	options *o = state->input;

	switch (key)
	{
		case 'r':
			o->ring = atoi(argument);
			break;
		case 's':
			o->slots = atoi(argument);
			break;
		case 'w':
			o->weights = argument;
			break;
		case 'd':
			o->device = argument;
			break;
		case 'g':
			o->gpu_device = atoi(argument);
			break;
		case 't':
			o->threads = atoi(argument);
			break;
		case 'c':
			o->cuda = argument;
			break;
		case 'p':
			o->plan_cache = argument;
			break;
		case ARGP_KEY_END:
			if (o->ring < 0 || o->weights == NULL)
				argp_error(state, "PostgreSQL starts this program, with --ring and --weights");
			break;
		default:
			return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* --- Start ---------------------------------------------------------------------------------------
 */

static _Noreturn void
useless(service *s, const fa_error *error)
{
	fa_ring_header *header = s->ring.header;

	snprintf(header->last_error, sizeof(header->last_error), "%s%s%s", error->message,
			 error->detail[0] == '\0' ? "" : ": ", error->detail);
	atomic_store(&header->last_error_time, (int64_t) time(NULL));
	_exit(USELESS);
}

static fa_status
open_gpu(service *s, fa_error *error)
{
	fa_engine_options with = {.device = s->o.gpu_device,
							  .memory_limit = atomic_load(&s->ring.header->device_memory),
							  .plan_cache = s->o.plan_cache};

	if (s->o.cuda == NULL)
		return fa_fail(error, FA_NOT_FOUND, "the CUDA engine is not installed");
	FA_TRY(fa_cuda_engine_load(s->o.cuda, &s->interface, error));
	return s->interface->open(&with, &s->engine, error);
}

/* "model name : Intel ..." of the first processor. */
static void
name_processor(char *text, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	char line[512];

	snprintf(text, size, "CPU");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL)
		{
			snprintf(text, size, "%.*s", (int) strcspn(strchr(line, ':') + 2, "\n"),
					 strchr(line, ':') + 2);
			break;
		}
	if (file != NULL)
		fclose(file);
}

/* Shows what the device can do; *fastest: the precision that AUTO is. */
static fa_status
show_device(service *s, fa_precision *fastest, fa_error *error)
{
	fa_ring_header *header = s->ring.header;
	uint32_t precisions = 0;
	fa_precision resolved;

	for (int p = FA_PRECISION_FP32; p <= FA_PRECISION_TF32; p++)
		if (s->interface->resolve_precision(s->engine, (fa_precision) p, &resolved, error) == FA_OK)
			precisions |= UINT32_C(1) << p;
	FA_TRY(s->interface->resolve_precision(s->engine, FA_PRECISION_AUTO, fastest, error));
	atomic_store(&header->precisions, precisions);
	atomic_store(&header->fastest, *fastest);
	snprintf(header->engine, sizeof(header->engine), "%s", s->interface->name);
	if (s->interface->describe != NULL)
		s->interface->describe(s->engine, header->device, sizeof(header->device));
	else
		name_processor(header->device, sizeof(header->device));
	return FA_OK;
}

/* The engine is open: from there to a batcher that has run the detector. */
static fa_status
prepare(service *s, fa_error *error)
{
	fa_precision fastest;

	FA_TRY(show_device(s, &fastest, error));
	FA_TRY(fa_batcher_open(s->interface, s->engine, s->o.weights, &s->ring, &s->batcher, error));
	return fa_batcher_warm_up(s->batcher, fastest, error);
}

/* A GPU that fails now is as good as none. */
static void
prepare_device(service *s)
{
	fa_engine_options cpu = {.threads = s->o.threads};
	fa_error error;
	fa_status status;

	if (strcmp(s->o.device, "cpu") != 0)
	{
		status = open_gpu(s, &error);
		if (status == FA_OK)
		{
			status = prepare(s, &error);
			if (status == FA_OK)
				return;
			fa_batcher_close(s->batcher);
			s->interface->close(s->engine);
		}
		if (strcmp(s->o.device, "gpu") == 0 && status == FA_DEVICE_LOST)
			fa_service_die(&s->ring, &error); /* a new process may find it again */
		if (strcmp(s->o.device, "gpu") == 0)
			useless(s, &error);
	}
	s->interface = &fa_cpu_engine;
	if (s->interface->open(&cpu, &s->engine, &error) != FA_OK || prepare(s, &error) != FA_OK)
		useless(s, &error);
}

/* --- Intake
 * ---------------------------------------------------------------------------------------- */

static void
take(service *s, int slot)
{
	fa_request request;

	if (!fa_ring_take(&s->ring, slot, &request))
		return;
	atomic_fetch_add(&s->ring.header->requests, 1);
	if (request.kind == FA_REQUEST_RUN || request.kind == FA_REQUEST_LOAD)
		fa_batcher_add(s->batcher, slot, &request);
	else if (request.kind <= FA_REQUEST_ANNOTATE && slot < s->ring.slots)
		fa_photos_add(s->photos, slot, &request);
	else
	{
		fa_error error;

		fa_fail(&error, FA_INVALID, "a request to faceattr-service makes no sense");
		fa_service_refuse(&s->ring, slot, &error);
	}
}

/* No session has a slot. */
static bool
is_deserted(const fa_ring *ring)
{
	for (int i = 0; i < ring->slots + FA_RING_WORKERS; i++)
		if (fa_word_state(atomic_load(&ring->slot[i].word)) != FA_SLOT_FREE)
			return false;
	return true;
}

/*
 * Ends, unless a session has a slot or has chosen this service lately: one that reads a photo first
 * is not seen meanwhile. From the exchange on, which one that chooses it now would make fail, no
 * other session comes.
 */
static void
end_if_unwanted(fa_ring_header *header, const fa_ring *ring, int64_t idle)
{
	int64_t wanted = atomic_load(&header->wanted), now = fa_ring_now();

	if (wanted <= now && now - wanted <= (idle > PHOTO_TIME ? idle : PHOTO_TIME))
		return;
	if (!is_deserted(ring) ||
		!atomic_compare_exchange_strong(&header->wanted, &wanted, FA_RING_ENDS))
		return;
	atomic_store(&header->state, FA_SERVICE_STOPPED);
	_exit(0);
}

/* Microseconds after which a CPU that was taken for want of a GPU is given up; 0: never. */
static int64_t
time_on_cpu(const service *s)
{
	const char *test = getenv("FACEATTR_TEST_TIME_ON_CPU"); /* seconds */

	if (s->interface != &fa_cpu_engine || s->o.cuda == NULL)
		return 0;
	return test == NULL ? TIME_ON_CPU : atoi(test) * INT64_C(1000000);
}

static void *
take_requests(void *argument)
{
	service *s = argument;
	fa_ring_header *header = s->ring.header;
	int64_t busy = fa_ring_now(), started = busy, on_cpu = time_on_cpu(s);

	for (;;)
	{
		uint32_t seen = atomic_load(&header->doorbell);
		int64_t idle = (int64_t) atomic_load(&header->idle_timeout) * 1000000;
		bool untidy = false;

		for (int i = 0; i < s->ring.slots + FA_RING_WORKERS; i++)
			if (fa_word_state(atomic_load(&s->ring.slot[i].word)) == FA_SLOT_SUBMITTED)
			{
				take(s, i);
				busy = fa_ring_now();
			}
			else
				untidy = fa_ring_tidy(&s->ring, i) || untidy;
		if (fa_ring_busy(&s->ring))
			busy = fa_ring_now();
		else if (idle > 0 && fa_ring_now() - busy > idle)
			end_if_unwanted(header, &s->ring, idle);
		else if (on_cpu > 0 && fa_ring_now() - started > on_cpu)
			end_if_unwanted(header, &s->ring, 0);
		if (!untidy)
			fa_ring_wait_doorbell(&s->ring, seen, IDLE_CHECK);
	}
	return NULL;
}

static int
photo_threads(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	return processors < 2 ? 2 : processors > FA_RING_WORKERS ? FA_RING_WORKERS : (int) processors;
}

int
main(int argc, char **argv)
{
	static const struct argp usage = {
		named,
		parse_option,
		NULL,
		"Runs the networks of faceattr for all sessions of a PostgreSQL server, which starts it.",
		NULL,
		NULL,
		NULL};
	static service s = {.o = {.ring = -1, .slots = 64, .threads = 1, .device = "auto"}};
	unsigned confined;
	pthread_t intake;
	fa_error error;

	argp_parse(&usage, argc, argv, 0, NULL, &s.o);
	if (fa_ring_open(s.o.ring, s.o.slots, &s.ring, &error) != FA_OK)
	{
		fprintf(stderr, "faceattr-service: %s: %s\n", error.message, error.detail);
		return 1;
	}
	prctl(PR_SET_DUMPABLE, 0); /* photos do not belong into core files */
	signal(SIGXFSZ, SIG_IGN);  /* a limit of files' sizes is an error of one request */
	confined = fa_sandbox_files(&(fa_sandbox){s.o.weights, s.o.plan_cache,
											  strcmp(s.o.device, "cpu") == 0 ? NULL : s.o.cuda});
	prepare_device(&s);
	confined |= fa_sandbox_calls(s.interface != &fa_cpu_engine);
	atomic_store(&s.ring.header->confined, confined);
	fa_service_use(&s.ring);
	atomic_store(&s.ring.header->started, fa_ring_now());
	atomic_store(&s.ring.header->state, FA_SERVICE_READY);
	if (fa_photos_start(&s.ring, photo_threads(), &s.photos, &error) != FA_OK)
		fa_service_die(&s.ring, &error);
	if (pthread_create(&intake, NULL, take_requests, &s) != 0)
	{
		fa_fail(&error, FA_INTERNAL, "no thread could be started");
		fa_service_die(&s.ring, &error);
	}
	fa_batcher_run(s.batcher);
}
