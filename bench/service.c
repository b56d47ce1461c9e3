/*
 * service.c
 *		What the hop to faceattr-service costs, and what its batches bring; no PostgreSQL.
 *
 *		bench/service [PROGRAM [MODEL]]
 *
 * Latency: one ready crop's network by the service less the same network in this process, turn
 * about. Throughput: 64 processes with one crop each at a time, against batches of 16 in this
 * process alone.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/face/pipeline.h"
#include "../src/service/client.h"

#define SESSIONS 64
#define CALLS 2000
#define SECONDS 5

static fa_ring ring;
static fa_error error;

static void
must(fa_status status)
{
	if (status == FA_OK)
		return;
	fprintf(stderr, "%s: %s\n", error.message, error.detail);
	exit(1);
}

static pid_t
start_service(const char *program)
{
	char fd[16], slots[16];
	pid_t pid;

	must(fa_ring_create(SESSIONS, &ring, &error));
	atomic_store(&ring.header->batch_size, 64);
	atomic_store(&ring.header->batch_delay, 1000);
	atomic_store(&ring.header->model_memory, UINT64_C(1) << 30);
	fa_service_use(&ring);
	snprintf(fd, sizeof(fd), "%d", ring.fd);
	snprintf(slots, sizeof(slots), "%d", SESSIONS);
	pid = fork();
	if (pid == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(ring.fd, F_SETFD, 0);
		execl(program, "faceattr-service", "--ring", fd, "--slots", slots, "--weights", "weights",
			  "--device", "cpu", (char *) NULL);
		_exit(127);
	}
	while (atomic_load(&ring.header->state) != FA_SERVICE_READY)
		usleep(1000);
	return pid;
}

static void *
read_file(const char *path, size_t *length)
{
	FILE *file = fopen(path, "rb");
	char *bytes;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
	{
		perror(path);
		exit(1);
	}
	*length = (size_t) ftell(file);
	rewind(file);
	bytes = malloc(*length + 1);
	if (bytes == NULL || fread(bytes, 1, *length, file) != *length)
		exit(1);
	fclose(file);
	return bytes;
}

static fa_pipeline *
remote_pipeline(const char *path)
{
	static const uint8_t key[FA_SERVICE_KEY] = {1};
	fa_precision resolved;
	fa_pipeline *pipeline;
	size_t length, file_length;
	void *block, *file = read_file(path, &file_length);

	must(fa_service_model(key, FA_PRECISION_AUTO, &(fa_bytes){file, file_length}, &resolved, &block,
						  &length, NULL, &error));
	must(fa_pipeline_open_packed(&fa_service_engine, NULL, resolved, block, length, &pipeline,
								 &error));
	free(block);
	free(file);
	return pipeline;
}

/* Seconds of one run of the attribute network on so many black crops. */
static double
run(fa_pipeline *p, const uint8_t *pixels, int count)
{
	static float values[FA_MAX_HEADS][FA_MAX_CLASSES * 64];
	const fa_attribute_model *m = &p->attributes;
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	fa_batch batch = {count, m->height, m->width, pixels};
	double start = fa_seconds();

	for (int h = 0; h < m->head_count; h++)
		outputs[m->outputs[h]] = values[h];
	must(p->interface->run(m->model, &batch, outputs, NULL, &error));
	return fa_seconds() - start;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

static void
latency(fa_pipeline *own, fa_pipeline *remote, const uint8_t *pixels)
{
	static double direct[CALLS], hop[CALLS];

	for (int i = -50; i < CALLS; i++)
	{
		double d = run(own, pixels, 1), s = run(remote, pixels, 1);

		if (i >= 0)
		{
			direct[i] = d;
			hop[i] = s;
		}
	}
	qsort(direct, CALLS, sizeof(double), by_value);
	qsort(hop, CALLS, sizeof(double), by_value);
	printf(
		"one crop in this process: p50 %.0f us, p99 %.0f us; by the service: p50 %.0f us, p99 %.0f "
		"us\n",
		direct[CALLS / 2] * 1e6, direct[CALLS * 99 / 100] * 1e6, hop[CALLS / 2] * 1e6,
		hop[CALLS * 99 / 100] * 1e6);
	printf("the hop adds: p50 %.0f us, p99 %.0f us\n", (hop[CALLS / 2] - direct[CALLS / 2]) * 1e6,
		   (hop[CALLS * 99 / 100] - direct[CALLS * 99 / 100]) * 1e6);
}

static double
direct_batches(fa_pipeline *own, const uint8_t *pixels)
{
	double start = fa_seconds();
	int crops = 0;

	for (; fa_seconds() - start < SECONDS; crops += 16)
		run(own, pixels, 16);
	return crops / (fa_seconds() - start);
}

static double
many_sessions(const char *model, const uint8_t *pixels)
{
	uint64_t images = atomic_load(&ring.header->images), batches;
	double start;

	for (int i = 0; i < SESSIONS; i++)
		if (fork() == 0)
		{
			fa_pipeline *p = remote_pipeline(model);

			for (start = fa_seconds(); fa_seconds() - start < SECONDS + 2;)
				run(p, pixels, 1);
			_exit(0);
		}
	sleep(1);
	images = atomic_load(&ring.header->images);
	batches = atomic_load(&ring.header->batches);
	start = fa_seconds();
	sleep(SECONDS);
	images = atomic_load(&ring.header->images) - images;
	batches = atomic_load(&ring.header->batches) - batches;
	start = fa_seconds() - start;
	while (wait(NULL) > 0 && fa_ring_busy(&ring))
		;
	printf("64 sessions: %.1f crops a batch\n", (double) images / (double) batches);
	return (double) images / start;
}

int
main(int argc, char **argv)
{
	const char *program = argc > 1 ? argv[1] : "./faceattr-service";
	const char *model = argc > 2 ? argv[2] : "weights/default.safetensors";
	pid_t service = start_service(program);
	fa_pipeline *own, *remote = remote_pipeline(model);
	const uint8_t *pixels = calloc((size_t) 64 * 512 * 512, 3);
	double direct, batched;

	must(fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_AUTO, "weights", model, &own, &error));
	latency(own, remote, pixels);
	direct = direct_batches(own, pixels);
	batched = many_sessions(model, pixels);
	printf("batches of 16 in this process: %.0f crops/s; 64 sessions by the service: %.0f crops/s "
		   "(%.2fx)\n",
		   direct, batched, batched / direct);
	kill(service, SIGKILL);
	return 0;
}
