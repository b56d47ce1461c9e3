/*
 * test_cuda.c
 *		Loading the CUDA engine: what is missing is said, by the call that needs it. With
 *		the library built, but no GPU or driver, opening it says so too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../src/nn/cuda.h"

static const fa_engine_interface *loaded;

static void
test_missing(void **state)
{
	fa_error error;

	(void) state;
	assert_int_equal(fa_cuda_engine_load("/nowhere/" FA_CUDA_LIBRARY, &loaded, &error),
					 FA_NOT_FOUND);
	assert_non_null(strstr(error.detail, "/nowhere/" FA_CUDA_LIBRARY));
	assert_null(loaded);
}

static void
test_no_library(void **state)
{
	fa_error error;

	(void) state;
	assert_int_equal(fa_cuda_engine_load("Makefile", &loaded, &error), FA_UNSUPPORTED);
	assert_string_not_equal(error.detail, "");
	/* a library, but not ours */
	assert_int_equal(fa_cuda_engine_load("/proc/self/exe", &loaded, &error), FA_UNSUPPORTED);
	assert_null(loaded);
}

static void
test_open(void **state)
{
	fa_engine *engine;
	fa_error error;

	(void) state;
	if (access("./" FA_CUDA_LIBRARY, R_OK) != 0)
		skip();
	if (fa_cuda_engine_load("./" FA_CUDA_LIBRARY, &loaded, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	assert_string_equal(loaded->name, "cuda");
	if (loaded->open(NULL, &engine, &error) == FA_OK)
		loaded->close(engine);
	else
	{
		assert_int_equal(error.status, FA_UNSUPPORTED);
		assert_non_null(strstr(error.message, "cudaError"));
		assert_null(engine);
	}
}

/* A copy that asks for a cuDNN which nobody has. */
static void
test_without_cudnn(void **state)
{
	static const char needed[] = "libcudnn.so.9";
	char path[] = "/tmp/faceattr-cuda-XXXXXX";
	FILE *file = fopen("./" FA_CUDA_LIBRARY, "rb");
	char *bytes, *name;
	fa_error error;
	long size;
	int copy;

	(void) state;
	if (file == NULL)
		skip();
	assert_int_equal(fseek(file, 0, SEEK_END), 0);
	size = ftell(file);
	rewind(file);
	bytes = malloc(size);
	assert_int_equal(fread(bytes, 1, size, file), size);
	fclose(file);
	name = memmem(bytes, size, needed, sizeof(needed));
	assert_non_null(name);
	name[sizeof(needed) - 2] = '0';
	copy = mkstemp(path);
	assert_int_equal(write(copy, bytes, size), size);
	close(copy);
	free(bytes);
	assert_int_equal(fa_cuda_engine_load(path, &loaded, &error), FA_UNSUPPORTED);
	assert_non_null(strstr(error.detail, "libcudnn.so.0"));
	unlink(path);
}

/* Where plans are kept: below the user's home, if there is one that can be written. */
static void
test_plan_directory(void **state)
{
	char home[] = "/tmp/faceattr-home-XXXXXX", path[4096], expected[128];

	(void) state;
	assert_non_null(mkdtemp(home));
	setenv("HOME", home, 1);
	snprintf(expected, sizeof(expected), "%s/.cache/faceattr", home);
	for (int turn = 0; turn < 2; turn++) /* it is made, it is there */
	{
		assert_true(fa_plan_directory(path, sizeof(path)));
		assert_string_equal(path, expected);
		assert_int_equal(access(path, W_OK), 0);
	}
	assert_false(fa_plan_directory(path, strlen(expected)));
	assert_int_equal(rmdir(expected), 0);
	*strrchr(expected, '/') = '\0';
	assert_int_equal(rmdir(expected), 0);
	assert_int_equal(rmdir(home), 0);
	assert_false(fa_plan_directory(path, sizeof(path)));
	unsetenv("HOME");
	assert_false(fa_plan_directory(path, sizeof(path)));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing),        cmocka_unit_test(test_no_library),
		cmocka_unit_test(test_open),           cmocka_unit_test(test_without_cudnn),
		cmocka_unit_test(test_plan_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
