/*
 * test_plan_cache.c
 *		Plans that are tried out, kept in a file and read again, by several processes and
 *		from damaged files; what cuDNN refuses; and the limit on the device's memory.
 */
#include "device_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];

static int
make_directory(void **state)
{
	(void) state;
	reset_device();
	strcpy(directory, "/tmp/fa-plans-XXXXXX");
	return mkdtemp(directory) == NULL;
}

/* The one file there; false where there is none. */
static bool
find_file(char path[512], int *count)
{
	DIR *dir = opendir(directory);
	struct dirent *e;

	*count = 0;
	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.')
		{
			snprintf(path, 512, "%s/%s", directory, e->d_name);
			++*count;
		}
	closedir(dir);
	return *count > 0;
}

static int
remove_directory(void **state)
{
	char path[512];
	int count;

	(void) state;
	while (find_file(path, &count))
		unlink(path);
	return rmdir(directory);
}

static char *
read_text(const char *path, size_t *length)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 65536);

	assert_non_null(file);
	*length = fread(text, 1, 65535, file);
	fclose(file);
	return text;
}

static void
write_text(const char *path, const char *text, size_t length)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	fclose(file);
}

/* An engine's life of one image; how many convolutions the device did. */
static int
one_life(const char *cache, fa_precision precision)
{
	fa_engine_options options = {.plan_cache = cache};
	fa_engine *engine = open_engine(&options);
	fa_model *model = load_small(engine, precision);
	int before = emulated_convolutions();
	float *expected = expect_small(1), *values = run_small(model, 1);

	assert_close(values, expected, 1, 1e-2);
	free(values);
	free(expected);
	cuda()->unload(model);
	close_engine(engine);
	return emulated_convolutions() - before;
}

#define CONVOLUTIONS 3 /* of the small network, all of different shapes */
#define TRIED (2 * 4)  /* two candidates, each once and three times */

/* The second engine does not try anything out; the faster plan is the one that is used. */
static void
test_kept(void **state)
{
	char path[512], *text;
	size_t length;
	int count;

	(void) state;
	for (int faster = 0; faster < 2; faster++)
	{
		emulated_plan_costs(faster ? 2 : 1, faster ? 1 : 2);
		assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
		assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS);
		assert_true(find_file(path, &count));
		assert_int_equal(count, 1);
		assert_non_null(strstr(path, "90-Emulated_GPU___90"));
		text = read_text(path, &length);
		assert_memory_equal(text, "faceattr plans 1\ncuDNN ", 23);
		/* the engine's number, the knobs', and the one knob that there is */
		assert_non_null(strstr(text, faster ? " 2 1 14 7\n" : " 1 1 14 7\n"));
		assert_null(strstr(text, faster ? " 1 1 14 7\n" : " 2 1 14 7\n"));
		free(text);
		unlink(path);
	}
	/* nothing to choose from, and nothing that can run it: that is known, too */
	for (int plans = EMULATED_ALL; plans <= EMULATED_NONE; plans++)
	{
		emulated_plans(plans);
		one_life(directory, FA_PRECISION_FP32);
		assert_int_equal(one_life(directory, FA_PRECISION_FP32),
						 plans == EMULATED_NONE ? 0 : CONVOLUTIONS);
		assert_true(find_file(path, &count));
		unlink(path);
	}
}

/* An engine's life during which a type of descriptors is refused, once the engine is open. */
static int
life_refused(int type, cudnnStatus_t status)
{
	fa_engine *engine = open_engine(&(fa_engine_options){.plan_cache = directory});
	fa_model *model = load_small(engine, FA_PRECISION_FP16);
	float *expected = expect_small(2), *values;
	int before = emulated_convolutions();

	emulated_refuse(type, status);
	for (int turn = 0; turn < 3; turn++)
	{
		values = run_small(model, 2);
		assert_close(values, expected, 2, 1e-2);
		free(values);
	}
	emulated_refuse(0, 0);
	free(expected);
	cuda()->unload(model);
	close_engine(engine);
	return emulated_convolutions() - before;
}

/*
 * Whatever cuDNN says of a graph, the answer is right; that there is no plan is known ever after
 * only if the reason lies in the graph.
 */
static void
test_refused_graphs(void **state)
{
	static const int types[] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
								CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
								CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR};
	static const cudnnStatus_t passing[] = {CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE,
											CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING,
											CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER,
											CUDNN_STATUS_BAD_PARAM, CUDNN_STATUS_INTERNAL_ERROR};
	static const cudnnStatus_t lasting[] = {
		CUDNN_STATUS_NOT_SUPPORTED, CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
		CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE};
	char path[512];
	int count;

	(void) state;
	for (int t = 0; t < LENGTH(types); t++)
	{
		for (int i = 0; i < LENGTH(passing); i++)
		{
			assert_int_equal(life_refused(types[t], passing[i]), 0);
			assert_false(find_file(path, &count));
		}
		for (int i = 0; i < LENGTH(lasting); i++)
		{
			assert_int_equal(life_refused(types[t], lasting[i]), 0);
			assert_int_equal(life_refused(0, CUDNN_STATUS_SUCCESS), 0);
			assert_true(find_file(path, &count));
			unlink(path);
		}
	}
	/* a sum or an activation that cannot be described: the bare convolution can */
	assert_int_equal(
		life_refused(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_STATUS_BAD_PARAM),
		CONVOLUTIONS * (3 + TRIED));
}

/* A cuDNN without all its parts opens no engine; what else it says then is another's business. */
static void
test_incomplete(void **state)
{
	static const int missing[] = {CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE,
								  CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING,
								  CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART,
								  CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH, 1008};
	fa_engine *engine;
	fa_error error;

	(void) state;
	for (int i = 0; i < LENGTH(missing); i++)
	{
		emulated_refuse(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, missing[i]);
		assert_int_equal(cuda()->open(NULL, &engine, &error), FA_UNSUPPORTED);
		assert_int_equal(error.status, FA_UNSUPPORTED);
		assert_non_null(strstr(error.message, "cuDNN is incomplete"));
		assert_int_equal(emulated_alive(), 0);
	}
	emulated_refuse(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_STATUS_INTERNAL_ERROR);
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), 0);
}

/* Where none of mode A's engines becomes a plan, or none is precise enough, the last resort. */
static void
test_last_resort(void **state)
{
	char path[512], *text;
	size_t length;
	int count;

	(void) state;
	emulated_plans(EMULATED_FALLBACK);
	assert_int_equal(one_life(directory, FA_PRECISION_FP32), CONVOLUTIONS);
	assert_true(find_file(path, &count));
	unlink(path);
	emulated_spoil_plans(1);
	for (int turn = 0; turn < 2; turn++)
		assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS);
	text = read_text(path, &length);
	assert_non_null(strstr(text, " 2 1 14 7\n"));
	free(text);
}

/* Another device has another file. */
static void
test_devices(void **state)
{
	char path[512];
	int count;

	(void) state;
	one_life(directory, FA_PRECISION_FP16);
	emulated_device(80);
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	assert_true(find_file(path, &count));
	assert_int_equal(count, 2);
}

/* No directory, none to write in, a pipe in the file's place: tried out every time. */
static void
test_nowhere(void **state)
{
	char path[512];
	int count;

	(void) state;
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(one_life(NULL, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
		assert_int_equal(one_life("/nonexistent", FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
		assert_int_equal(one_life("/proc", FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	}
	one_life(directory, FA_PRECISION_FP16);
	assert_true(find_file(path, &count));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0); /* cannot be replaced: nothing is left lying about */
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	assert_true(find_file(path, &count));
	assert_int_equal(count, 1);
	assert_int_equal(rmdir(path), 0);
}

/*
 * A file is cut anywhere, or one of its bytes another: the engine runs, with what the file
 * says if that is well-formed, else as if there were none. Then the file is whole again.
 */
static void
test_damaged(void **state)
{
	static const char others[] = {'\0', '9', '-', ' ', '\n', 'x'};
	char path[512], *text, *bad;
	size_t length;
	int count, ignored = 0, tries = 0;

	(void) state;
	one_life(directory, FA_PRECISION_FP16);
	assert_true(find_file(path, &count));
	text = read_text(path, &length);
	bad = malloc(length + 100);
	for (size_t cut = 0; cut < length; cut += 7)
	{
		write_text(path, text, cut);
		assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	}
	for (size_t at = 0; at < length; at += 3)
	{
		memcpy(bad, text, length);
		bad[at] = others[at / 3 % sizeof(others)];
		write_text(path, bad, length);
		ignored += one_life(directory, FA_PRECISION_FP16) > CONVOLUTIONS;
		tries++;
	}
	assert_true(ignored > tries * 3 / 4);
	/* something after the end; an engine that does not exist; one that must not be used */
	memcpy(bad, text, length);
	memcpy(bad + length, "\n", 1);
	write_text(path, bad, length + 1);
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	for (char number = '0'; number <= '9'; number += 9)
	{
		memcpy(bad, text, length + 1);
		for (char *at = bad; (at = strstr(at, " 1 1 14 7\n")) != NULL; at++)
			at[1] = number;
		write_text(path, bad, length);
		assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS * (1 + TRIED));
	}
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS);
	free(bad);
	free(text);
}

/* Sixteen processes at once: the file is whole, and nothing else is left. */
static void
test_processes(void **state)
{
	char path[512];
	int count, status;

	(void) state;
	for (int i = 0; i < 16; i++)
	{
		pid_t child;

		fflush(NULL);
		child = fork();
		if (child == 0)
		{
			fa_engine *engine = open_engine(&(fa_engine_options){.plan_cache = directory});
			fa_model *model = load_small(engine, FA_PRECISION_FP16);

			for (int k = 0; k < 4; k++)
				free(run_small(model, 1 << k));
			cuda()->unload(model);
			cuda()->close(engine);
			_exit(0);
		}
	}
	for (int i = 0; i < 16; i++)
	{
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_true(find_file(path, &count));
	assert_int_equal(count, 1);
	assert_int_equal(one_life(directory, FA_PRECISION_FP16), CONVOLUTIONS);
}

/* Each call fails once, in turn: an error, or the right answer; what is kept is of use. */
static void
test_failures(void **state)
{
	float *expected = expect_small(1), values[SMALL_VALUES];
	uint8_t *pixels = random_pixels(1, SMALL_SIDE, SMALL_SIDE, 3);
	fa_batch batch = {1, SMALL_SIDE, SMALL_SIDE, pixels};
	int errors = 0, untimed = 0, count;
	char path[512];
	fa_weights weights;
	fa_net net;

	(void) state;
	small_net(&net);
	weights = random_weights(&net, 5);
	for (int n = 1;; n++)
	{
		fa_engine *engine = NULL;
		fa_model *model = NULL;
		fa_error error = {0};
		fa_status status;
		const char *failed;

		emulated_fail(n);
		status = cuda()->open(&(fa_engine_options){.plan_cache = directory}, &engine, &error);
		if (status == FA_OK)
			status = cuda()->load(engine, &net, &weights, FA_PRECISION_FP16, &model, &error);
		if (status == FA_OK)
		{
			memset(values, 0, sizeof(values)); /* the latest run's are as good */
			status = cuda()->run(model, &batch, (float *[]){values}, NULL, &error);
		}
		failed = emulated_failed();
		emulated_fail(0);
		if (status == FA_OK)
			assert_close(values, expected, 1, 1e-2);
		else if (status != error.status || error.message[0] == '\0')
			fail_msg("call %d, %s: status %d without an error", n, failed, status);
		errors += status != FA_OK;
		cuda()->unload(model);
		cuda()->close(engine);
		assert_int_equal(emulated_alive(), 0);
		if (find_file(path, &count))
		{
			assert_int_equal(count, 1);
			count = one_life(directory, FA_PRECISION_FP16);
			untimed += count > CONVOLUTIONS && count < CONVOLUTIONS * (1 + TRIED);
			unlink(path);
		}
		if (failed == NULL)
			break;
	}
	print_message("# %d errors, %d times something was not tried out\n", errors, untimed);
	assert_true(errors > 50);
	assert_true(untimed > 20);
	free(expected);
	free(pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* --- Memory ------------------------------------------------------------------------------- */

/* What the small network's model takes with the programs of these batches. */
static size_t
memory_of(const int *counts, int n)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);
	size_t bytes;

	for (int i = 0; i < n; i++)
		free(run_small(model, counts[i]));
	bytes = cuda()->memory(model);
	cuda()->unload(model);
	close_engine(engine);
	return bytes;
}

static const int counts[] = {1, 2, 4, 8, 16, 32, 64};

/* With room for two programs, all sizes run, the oldest making room for the newest. */
static void
programs_leave(size_t limit, size_t device)
{
	fa_engine_options options = {.memory_limit = limit};
	float *expected = expect_small(64);
	fa_engine *engine;
	fa_model *one, *two;

	emulated_memory(device);
	engine = open_engine(&options);
	one = load_small(engine, FA_PRECISION_FP32);
	two = load_small(engine, FA_PRECISION_FP32);
	for (int turn = 0; turn < 3; turn++)
		for (int i = 0; i < LENGTH(counts); i++)
		{
			fa_model *model = (turn + i) % 2 ? one : two;
			float *values = run_small(model, counts[i]);

			assert_close(values, expected, counts[i], 1e-5);
			assert_true(cuda()->memory(one) + cuda()->memory(two) <= (limit ? limit : device));
			free(values);
		}
	cuda()->unload(one);
	cuda()->unload(two);
	close_engine(engine);
	emulated_memory(0);
	free(expected);
}

static void
test_programs_leave(void **state)
{
	size_t weights = memory_of(NULL, 0), largest = memory_of(&counts[6], 1);

	(void) state;
	programs_leave(2 * weights + (largest - weights) * 5 / 4, 0);
	programs_leave(0, 2 * weights + (largest - weights) * 5 / 4);
}

/* Programs leave for a lower limit, weights do not; a higher one counts. */
static void
test_new_limits(void **state)
{
	size_t weights = memory_of(NULL, 0), one = memory_of(counts, 1), all = memory_of(counts, 7);
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);

	(void) state;
	for (int i = LENGTH(counts) - 1; i >= 0; i--)
		free(run_small(model, counts[i]));
	assert_int_equal(cuda()->memory(model), all);
	assert_true(cuda()->set_memory_limit(engine, all));
	assert_int_equal(cuda()->memory(model), all);
	assert_true(cuda()->set_memory_limit(engine, one));
	assert_int_equal(cuda()->memory(model), one); /* the latest */
	assert_false(cuda()->set_memory_limit(engine, weights - 1));
	assert_int_equal(cuda()->memory(model), weights);
	assert_true(cuda()->set_memory_limit(engine, 0));
	free(run_small(model, 64));
	assert_true(cuda()->memory(model) > one);
	cuda()->unload(model);
	close_engine(engine);
}

/* Too little for the weights, or for a batch: the message names the setting; the rest works. */
static void
test_too_little(void **state)
{
	size_t weights = memory_of(NULL, 0), one = memory_of(counts, 1);
	uint8_t *pixels = random_pixels(64, SMALL_SIDE, SMALL_SIDE, 3);
	float values[64 * SMALL_VALUES];
	fa_batch batch = {64, SMALL_SIDE, SMALL_SIDE, pixels};
	fa_engine_options options = {.memory_limit = weights / 2};
	fa_engine *engine = open_engine(&options);
	fa_weights random;
	fa_model *model;
	fa_net net;
	fa_error error;

	(void) state;
	small_net(&net);
	random = random_weights(&net, 5);
	assert_int_equal(cuda()->load(engine, &net, &random, FA_PRECISION_FP32, &model, &error),
					 FA_NO_MEMORY);
	assert_non_null(strstr(error.message, "faceattr.gpu_memory"));
	close_engine(engine);

	options.memory_limit = one + (one - weights) / 2;
	engine = open_engine(&options);
	model = load_small(engine, FA_PRECISION_FP32);
	for (int turn = 0; turn < 3; turn++)
	{
		free(run_small(model, 1));
		assert_int_equal(cuda()->run(model, &batch, (float *[]){values}, NULL, &error),
						 FA_NO_MEMORY);
		assert_non_null(strstr(error.message, "faceattr.gpu_memory"));
		assert_non_null(strstr(error.detail, "MB"));
	}
	cuda()->unload(model);
	close_engine(engine);

	/* the device itself has no more */
	engine = open_engine(NULL);
	model = load_small(engine, FA_PRECISION_FP32);
	emulated_memory(one + (one - weights) / 2);
	for (int turn = 0; turn < 3; turn++)
	{
		free(run_small(model, 1));
		assert_int_equal(cuda()->run(model, &batch, (float *[]){values}, NULL, &error),
						 FA_NO_MEMORY);
		assert_non_null(strstr(error.message, "cudaErrorMemoryAllocation"));
	}
	cuda()->unload(model);
	close_engine(engine);
	fa_weights_free(&random);
	fa_net_free(&net);
	free(pixels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_refused_graphs, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_incomplete, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_last_resort, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_devices, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_nowhere, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_damaged, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_processes, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_failures, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_programs_leave, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_new_limits, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_too_little, make_directory, remove_directory),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
