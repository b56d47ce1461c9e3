/*
 * main.c
 *		faceattr-service: the process that runs networks for all sessions of a server.
 *
 * The supervisor (src/pg/supervisor.c) starts it with the descriptor of the ring and nothing else.
 *It opens its device, gives up what it does not need (sandbox.c), and then has two kinds of threads
 *beside the main one, which runs networks (batcher.c): the intake below, which hands submitted
 *slots to those who work on them, and those that read photos (photos.c). It never waits for a
 *session, and ends by exit when it has been idle for long, or by any signal: nothing here needs an
 *orderly end.
 *
 * Exit status: 0 idle, 2 this machine has not what it needs, 3 the device is lost; the header says
 *why.
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
#define IDLE_CHECK 1000000 /* microseconds */

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

static void
open_device(service *s)
{
	fa_engine_options cpu = {.threads = s->o.threads};
	fa_error error;

	if (strcmp(s->o.device, "cpu") != 0)
	{
		if (open_gpu(s, &error) == FA_OK)
			return;
		if (strcmp(s->o.device, "gpu") == 0)
			useless(s, &error);
	}
	s->interface = &fa_cpu_engine;
	if (s->interface->open(&cpu, &s->engine, &error) != FA_OK)
		useless(s, &error);
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

/* Returns the precision that AUTO is. */
static fa_precision
show_device(service *s)
{
	fa_ring_header *header = s->ring.header;
	uint32_t precisions = 0;
	fa_precision resolved;
	fa_error error;

	for (int p = FA_PRECISION_FP32; p <= FA_PRECISION_TF32; p++)
		if (s->interface->resolve_precision(s->engine, (fa_precision) p, &resolved, &error) ==
			FA_OK)
			precisions |= UINT32_C(1) << p;
	if (s->interface->resolve_precision(s->engine, FA_PRECISION_AUTO, &resolved, &error) != FA_OK)
		useless(s, &error);
	atomic_store(&header->precisions, precisions);
	atomic_store(&header->fastest, resolved);
	snprintf(header->engine, sizeof(header->engine), "%s", s->interface->name);
	if (s->interface->describe != NULL)
		s->interface->describe(s->engine, header->device, sizeof(header->device));
	else
		name_processor(header->device, sizeof(header->device));
	return resolved;
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
 * Ends, unless a session has come: who claims a slot looks at the state once more (exchange.c), so
 * that one of both sees the other.
 */
static void
end_if_deserted(fa_ring *ring)
{
	atomic_store(&ring->header->state, FA_SERVICE_STOPPED);
	if (is_deserted(ring))
		_exit(0);
	atomic_store(&ring->header->state, FA_SERVICE_READY);
}

static void *
take_requests(void *argument)
{
	service *s = argument;
	fa_ring_header *header = s->ring.header;
	int64_t busy = fa_ring_now();

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
		{
			end_if_deserted(&s->ring);
			busy = fa_ring_now();
		}
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
	fa_precision fastest;
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
	open_device(&s);
	fastest = show_device(&s);
	if (fa_batcher_open(s.interface, s.engine, s.o.weights, &s.ring, &s.batcher, &error) != FA_OK)
		useless(&s, &error);
	atomic_store(&s.ring.header->confined,
				 fa_sandbox_enter(&s.o.weights, 1, s.o.plan_cache, s.interface != &fa_cpu_engine));
	fa_service_use(&s.ring);
	fa_batcher_warm_up(s.batcher, fastest);
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
