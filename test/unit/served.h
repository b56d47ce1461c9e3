/*
 * served.h
 *		What the tests of a running faceattr-service share: they take the supervisor's and the
 *		sessions' part. To be included once, after cmocka.h.
 */
#ifndef SERVED_H
#define SERVED_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../src/face/pipeline.h"
#include "../../src/service/client.h"
#include "../../src/service/exchange.h"

#define SLOTS 64
#define MODEL "weights/default.safetensors"
#define PHOTO "demo/photos/portrait.jpg"

static const uint8_t key[FA_SERVICE_KEY] = {7};

static fa_ring ring;
static pid_t service;
static fa_error error;

static inline void
sleep_ms(int milliseconds)
{
	usleep((useconds_t) milliseconds * 1000);
}

static inline void
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
static inline void
stop_service(void)
{
	int status;

	kill(service, SIGSTOP);
	assert_int_equal(waitpid(service, &status, WUNTRACED), service);
	assert_true(WIFSTOPPED(status));
}

/* Whatever has become of a test, the next ones need it. */
static inline int
go_on(void **state)
{
	(void) state;
	kill(service, SIGCONT);
	return 0;
}

/* As the supervisor does after a death; the service's status. */
static inline int
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

static inline bool
all_free(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (fa_word_state(atomic_load(&ring.slot[i].word)) != FA_SLOT_FREE)
			return false;
	return true;
}

static inline void
wait_until_free(void)
{
	for (int i = 0; i < 3000 && !all_free(); i++)
		sleep_ms(10);
	assert_true(all_free());
}

/* What the kernel tells of the service. */
static inline long
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

static inline int
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

static inline int
teardown(void **state)
{
	(void) state;
	bury_service(SIGKILL);
	fa_ring_close(&ring);
	return 0;
}

static inline fa_pipeline *
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

#endif
