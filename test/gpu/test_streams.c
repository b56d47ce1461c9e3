/*
 * test_streams.c
 *		Streams and events: that the emulated device sees every kind of missing
 *		synchronisation, and that the engine's parts overlap without any, in whatever order the
 *		work is done.
 */
#include "device_test.h"

#include "../../gpu/kernels.h"

#include <cuda_runtime_api.h>

#define BYTES 4096

/* --- What the emulated device must see ------------------------------------------------- */

typedef struct scene
{
	cudaStream_t one, two;
	cudaEvent_t event;
	char *device, *host;
} scene;

static scene
begin(void)
{
	scene s;

	assert_int_equal(cudaStreamCreateWithFlags(&s.one, cudaStreamNonBlocking), cudaSuccess);
	assert_int_equal(cudaStreamCreateWithFlags(&s.two, cudaStreamNonBlocking), cudaSuccess);
	assert_int_equal(cudaEventCreate(&s.event), cudaSuccess);
	assert_int_equal(cudaMalloc((void **) &s.device, BYTES), cudaSuccess);
	assert_int_equal(cudaMallocHost((void **) &s.host, BYTES), cudaSuccess);
	memset(s.host, 0, BYTES);
	return s;
}

static void
end(scene *s)
{
	cudaStreamSynchronize(s->one);
	cudaStreamSynchronize(s->two);
	cudaFree(s->device);
	cudaFreeHost(s->host);
	cudaEventDestroy(s->event);
	cudaStreamDestroy(s->one);
	cudaStreamDestroy(s->two);
}

/* Up on one stream, down on the other. */
static void
copy_and_copy(int waits)
{
	scene s = begin();

	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	cudaStreamSynchronize(s.one);
	cudaMemcpyAsync(s.device, s.host, BYTES / 2, cudaMemcpyHostToDevice, s.one);
	if (waits)
	{
		cudaEventRecord(s.event, s.one);
		cudaStreamWaitEvent(s.two, s.event, 0);
	}
	cudaMemcpyAsync(s.host + BYTES / 2, s.device, BYTES / 2, cudaMemcpyDeviceToHost, s.two);
	end(&s);
}

/* A kernel reads, and writes in place, what another stream's kernel still reads. */
static void
kernel_and_kernel(int waits)
{
	scene s = begin();
	fa_error error;

	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	cudaStreamSynchronize(s.one);
	fa_gpu_cast((float *) s.device, s.device + BYTES / 2, BYTES / 8, FA_GPU_FP32, s.one, &error);
	if (waits)
	{
		cudaEventRecord(s.event, s.one);
		cudaStreamWaitEvent(s.two, s.event, 0);
	}
	fa_gpu_affine(s.device, NULL, NULL, NULL, s.device, BYTES / 64, 8, FA_GPU_RELU, FA_GPU_FP32,
				  s.two, &error);
	end(&s);
}

/* An event that was recorded too early orders nothing that came later. */
static void
early_event(int waits)
{
	scene s = begin();

	cudaEventRecord(s.event, s.one);
	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	if (waits)
		cudaEventRecord(s.event, s.one);
	cudaStreamWaitEvent(s.two, s.event, 0);
	cudaMemsetAsync(s.device + BYTES - 1, 1, 1, s.two);
	end(&s);
}

static void
host_writes_what_is_copied(int waits)
{
	scene s = begin();

	cudaMemcpyAsync(s.device, s.host, BYTES, cudaMemcpyHostToDevice, s.one);
	if (waits)
		cudaStreamSynchronize(s.one);
	s.host[BYTES - 1] = 1;
	end(&s);
}

static void
host_reads_what_is_copied(int waits)
{
	scene s = begin();
	volatile char byte;

	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	cudaMemcpyAsync(s.host, s.device, BYTES, cudaMemcpyDeviceToHost, s.one);
	cudaEventRecord(s.event, s.one);
	if (waits)
		cudaEventSynchronize(s.event);
	byte = s.host[0];
	(void) byte;
	end(&s);
}

static void
host_touches_the_device(int waits)
{
	scene s = begin();

	if (!waits)
		s.device[0] = 1;
	end(&s);
}

static void
free_while_in_use(int waits)
{
	scene s = begin();

	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	if (waits)
		cudaStreamSynchronize(s.one);
	cudaFree(s.device);
	cudaMalloc((void **) &s.device, BYTES);
	end(&s);
}

static void
read_unwritten(int waits)
{
	scene s = begin();
	fa_error error;

	cudaMemsetAsync(s.device, 0, waits ? BYTES / 2 : BYTES / 2 - 1, s.one);
	fa_gpu_cast((float *) s.device, s.device + BYTES / 2, BYTES / 8, FA_GPU_FP32, s.one, &error);
	end(&s);
}

static void
kernel_beyond_its_memory(int waits)
{
	scene s = begin();
	fa_error error;

	cudaMemsetAsync(s.device, 0, BYTES, s.one);
	fa_gpu_cast((float *) s.device, s.device + BYTES / 2, BYTES / 8 + !waits, FA_GPU_FP32, s.one,
				&error);
	end(&s);
}

/* --- Of cuDNN's graphs */

#define FILTER 512 /* bytes, before an output and after an input of as many */
#define LATER 1024

/*
 * A convolution of one pixel of eight channels, from `in` to `out`, with a workspace at the end of
 * the device's memory unless there is none; by the plan's handle or another.
 */
static void
run_plan(size_t in, size_t out, bool has_workspace, bool own_handle)
{
	const fa_gpu_conv_spec spec = {.n = 1,
								   .in_h = 1,
								   .in_w = 1,
								   .in_c = 8,
								   .out_h = 1,
								   .out_w = 1,
								   .out_c = 8,
								   .kernel = 1,
								   .stride = 1};
	scene s = begin();
	fa_gpu_target target = {NULL, NULL};
	cudnnHandle_t other;
	fa_gpu_graph *graph;
	size_t workspace;
	fa_error error;
	char *memory;
	int count;

	cudnnCreate(&target.handle);
	cudnnSetStream(target.handle, s.one);
	cudnnCreate(&other);
	cudnnSetStream(other, s.one);
	if (fa_gpu_graph_create(&spec, &target, FA_GPU_CONFIGS, &graph, &count, &error) != FA_OK ||
		fa_gpu_graph_try(graph, 0, &workspace, &error) != FA_OK)
		abort();
	cudaMalloc((void **) &memory, BYTES + workspace);
	cudaMemsetAsync(memory, 0, BYTES + workspace, s.one);
	fa_gpu_graph_bind(graph, memory + in, memory + FILTER, NULL, NULL, memory + out,
					  has_workspace ? memory + BYTES : NULL, &error);
	if (own_handle)
		fa_gpu_graph_execute(graph, &error);
	else
		cudnnBackendExecute(other, emulated_latest(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR),
							emulated_latest(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR));
	cudaStreamSynchronize(s.one);
	fa_gpu_graph_destroy(graph);
	cudaFree(memory);
	cudnnDestroy(target.handle);
	cudnnDestroy(other);
	end(&s);
}

static void
misaligned_tensor(int right)
{
	run_plan(right ? 0 : 8, LATER, true, true);
}

/* The last value that is read is the first that is written; or the filter is. */
static void
overlapping_tensors(int right)
{
	run_plan(LATER, right ? LATER + 32 : LATER + 16, true, true);
}

static void
overlapping_filter(int right)
{
	run_plan(0, right ? LATER : FILTER + 240, true, true);
}

static void
tensor_beyond(int right)
{
	run_plan(0, right ? LATER : 3 * BYTES, true, true);
}

static void
no_workspace(int right)
{
	run_plan(0, LATER, right, true);
}

static void
another_handle(int right)
{
	run_plan(0, LATER, true, right);
}

static void
test_what_is_seen(void **state)
{
	static const struct
	{
		const char *name;
		void (*test)(int waits);
		const char *word;
	} tests[] = {
		{"copies", copy_and_copy, "a race"},
		{"kernels", kernel_and_kernel, "a race"},
		{"an early event", early_event, "a race"},
		{"the host writes", host_writes_what_is_copied, "AddressSanitizer"},
		{"the host reads", host_reads_what_is_copied, "AddressSanitizer"},
		{"the host on the device", host_touches_the_device, "AddressSanitizer"},
		{"freed", free_while_in_use, "memory is freed"},
		{"unwritten", read_unwritten, "nobody has written"},
		{"beyond", kernel_beyond_its_memory, "where no memory is"},
		{"a misaligned tensor", misaligned_tensor, "a tensor: not aligned to 16 bytes"},
		{"overlapping tensors", overlapping_tensors, "tensor 1 overlaps the result"},
		{"an overlapping filter", overlapping_filter, "tensor 2 overlaps the result"},
		{"a tensor beyond", tensor_beyond, "a tensor: 32 bytes that are not the device's"},
		{"no workspace", no_workspace, "a workspace: 4096 bytes that are not the device's"},
		{"another handle", another_handle, "a plan is run on another handle"},
	};
	static char words[65536];

	(void) state;
	for (int i = 0; i < LENGTH(tests); i++)
		for (int when = EMULATED_LAZY; when <= EMULATED_RANDOM; when++)
		{
			reset_device();
			emulated_schedule(when);
			if (!survives(tests[i].test, true, words, sizeof(words)))
				fail_msg("%s, schedule %d, as it should be: %s", tests[i].name, when, words);
			if (survives(tests[i].test, false, words, sizeof(words)) ||
				strstr(words, tests[i].word) == NULL)
				fail_msg("%s, schedule %d: not seen; %s", tests[i].name, when, words);
		}
}

/* --- The engine's own ---------------------------------------------------------------------- */

#define IMAGES 200 /* four parts, two sizes of batch */
#define EQUAL_PARTS 256

static void
test_schedules(void **state)
{
	float *expected = expect_small(IMAGES);

	(void) state;
	for (int when = EMULATED_LAZY; when < EMULATED_RANDOM + 10; when++)
	{
		fa_engine *engine;
		fa_model *model;

		reset_device();
		emulated_schedule(when);
		engine = open_engine(NULL);
		model = load_small(engine, when % 2 ? FA_PRECISION_FP32 : FA_PRECISION_TF32);
		for (int turn = 0; turn < 3; turn++)
		{
			float *values = run_small(model, turn == 1 ? IMAGES : IMAGES / 2);

			assert_close(values, expected, turn == 1 ? IMAGES : IMAGES / 2, when % 2 ? 1e-5 : 1e-2);
			free(values);
		}
		cuda()->unload(model);
		close_engine(engine);
	}
	free(expected);
}

/* How many waits there are in a run of a model that is warm; the n-th is left out. */
static void
run_without(int n)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);

	free(run_small(model, EQUAL_PARTS));
	free(run_small(model, EQUAL_PARTS));
	emulated_omit_wait(n);
	free(run_small(model, EQUAL_PARTS));
	fprintf(stderr, "waits: %d\n", emulated_waits());
	emulated_omit_wait(0);
	cuda()->unload(model);
	close_engine(engine);
}

/*
 * Each wait of a batch of four parts is needed: without it there is a race, whatever the order.
 * Only the first part's pixels need not wait for a part before.
 */
static void
test_omitted_waits(void **state)
{
	static char words[65536];
	int waits = 0;

	(void) state;
	for (int when = EMULATED_LAZY; when <= EMULATED_RANDOM; when++)
	{
		reset_device();
		emulated_schedule(when);
		assert_true(survives(run_without, 0, words, sizeof(words)));
		assert_int_equal(sscanf(words, "waits: %d", &waits), 1);
		assert_int_equal(waits, 12); /* of a part: two streams' and the host's */
		for (int n = 2; n <= waits; n++)
			if (survives(run_without, n, words, sizeof(words)))
				fail_msg("schedule %d: wait %d of %d is left out, and nothing seen", when, n,
						 waits);
	}
}

/* --- Streams of batches --------------------------------------------------------------------- */

#define BATCHES 5
#define IMAGES_OF_RIVER 106

static const int counts[BATCHES] = {16, 16, 3, 70, 1};

/* Batches of one block of images, and what has become of them. */
typedef struct river
{
	int given, done, images;
	const uint8_t *pixels;
	float *values, *outputs[BATCHES][1];
	int was_busy; /* how often a batch was at work when the next was asked for */
} river;

static bool
give_next(void *argument, fa_batch *batch, float *const **outputs, bool (*busy)(void *device),
		  void *device)
{
	river *r = argument;

	r->was_busy += busy(device);
	assert_in_range(r->given - r->done, 0, 1); /* with the next one, two */
	if (r->given == BATCHES)
	{
		while (busy(device)) /* it comes to its end without being waited for */
			;
		return false;
	}
	*batch = (fa_batch){counts[r->given], SMALL_SIDE, SMALL_SIDE,
						r->pixels + (size_t) r->images * SMALL_SIDE * SMALL_SIDE * 3};
	r->outputs[r->given][0] = r->values + (size_t) r->images * SMALL_VALUES;
	*outputs = r->outputs[r->given];
	r->images += counts[r->given++];
	return true;
}

static void
note_done(void *argument)
{
	((river *) argument)->done++;
}

/* All batches through a model, their values malloc'ed. */
static fa_status
run_river(fa_model *model, river *r, fa_error *error)
{
	uint8_t *pixels = random_pixels(IMAGES_OF_RIVER, SMALL_SIDE, SMALL_SIDE, 3);
	fa_stream stream = {give_next, note_done, r};
	fa_status status;

	*r = (river){.pixels = pixels, .values = calloc(IMAGES_OF_RIVER * SMALL_VALUES, sizeof(float))};
	status = cuda()->run_stream(model, &stream, NULL, error);
	free(pixels);
	return status;
}

static void
test_stream(void **state)
{
	float *expected = expect_small(IMAGES_OF_RIVER);

	(void) state;
	for (int when = EMULATED_LAZY; when < EMULATED_RANDOM + 10; when++)
	{
		fa_engine *engine;
		fa_model *model;
		fa_error error;
		river r;

		reset_device();
		emulated_schedule(when);
		engine = open_engine(NULL);
		model = load_small(engine, FA_PRECISION_FP32);
		for (int turn = 0; turn < 2; turn++)
		{
			assert_int_equal(run_river(model, &r, &error), FA_OK);
			assert_int_equal(r.done, BATCHES);
			assert_close(r.values, expected, IMAGES_OF_RIVER, 1e-5);
			free(r.values);
			if (when == EMULATED_LAZY) /* all but the first were asked for meanwhile */
				assert_int_equal(r.was_busy, BATCHES);
		}
		cuda()->unload(model);
		close_engine(engine);
	}
	free(expected);
}

static void
stream_without(int n)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);
	fa_error error;
	river r;

	for (int turn = 0; turn < 3; turn++)
	{
		emulated_omit_wait(turn == 2 ? n : 0);
		if (run_river(model, &r, &error) != FA_OK)
			abort();
		free(r.values);
	}
	fprintf(stderr, "waits: %d\n", emulated_waits());
	emulated_omit_wait(0);
	cuda()->unload(model);
	close_engine(engine);
}

/*
 * As test_omitted_waits. Of six parts, four are the first with their number of images, and have an
 * arena of their own: their pixels need not wait either.
 */
static void
test_omitted_waits_of_streams(void **state)
{
	static char words[65536];
	int waits = 0, missed = 0;

	(void) state;
	reset_device();
	assert_true(survives(stream_without, 0, words, sizeof(words)));
	assert_int_equal(sscanf(words, "waits: %d", &waits), 1);
	assert_int_equal(waits, 3 * 6);
	for (int n = 2; n <= waits; n++)
		missed += !survives(stream_without, n, words, sizeof(words));
	assert_int_equal(missed, 3 * 6 - 1 - 4);
}

/* Each call fails in turn: an error, and the batches that were told of have their outputs. */
static void
test_failing_streams(void **state)
{
	float *expected = expect_small(IMAGES_OF_RIVER);
	int failed = 0;

	(void) state;
	for (int n = 1;; n++)
	{
		fa_engine *engine;
		fa_model *model;
		fa_error error;
		fa_status status;
		bool over;
		river r;

		reset_device();
		engine = open_engine(NULL);
		model = load_small(engine, FA_PRECISION_FP32);
		assert_int_equal(run_river(model, &r, &error), FA_OK);
		free(r.values);
		emulated_fail(n);
		status = run_river(model, &r, &error);
		over = emulated_failed() == NULL;
		emulated_fail(0);
		assert_true(status != FA_OK || r.done == BATCHES);
		for (int i = 0, images = 0; i < r.done; images += counts[i++])
			assert_close(r.values + images * SMALL_VALUES, expected + images * SMALL_VALUES,
						 counts[i], 1e-5);
		failed += status != FA_OK;
		free(r.values);
		cuda()->unload(model);
		close_engine(engine);
		if (over)
			break;
	}
	printf("# %d clean errors\n", failed);
	assert_true(failed > 20);
	free(expected);
}

int
main(void)
{
#ifndef __SANITIZE_ADDRESS__
	printf("1..0 # SKIP without AddressSanitizer the host is not seen\n");
	return 0;
#endif
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_seen),
		cmocka_unit_test(test_schedules),
		cmocka_unit_test(test_omitted_waits),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_omitted_waits_of_streams),
		cmocka_unit_test(test_failing_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
