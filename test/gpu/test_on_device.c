/*
 * test_on_device.c
 *		Whole pipelines on the emulated device: weights in a block that processes share.
 */
#include "device_test.h"

#include "../../src/face/face.h"

#include <sys/mman.h>

static int
setup(void **state)
{
	(void) state;
	reset_device();
	return 0;
}

/* --- Packed weights --------------------------------------------------------------------- */

/* A copy that ends where memory that cannot be read begins; itself it cannot be written. */
typedef struct copy
{
	char *map, *bytes;
	size_t map_length;
} copy;

static copy
read_only_copy(const void *bytes, size_t length)
{
	size_t pages = (length + 4095) / 4096 * 4096;
	copy c = {.map_length = pages + 4096};

	c.map = mmap(NULL, c.map_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(c.map != MAP_FAILED);
	c.bytes = c.map + pages - (length + 63) / 64 * 64;
	memcpy(c.bytes, bytes, length);
	assert_int_equal(mprotect(c.map, pages, PROT_READ), 0);
	assert_int_equal(mprotect(c.map + pages, 4096, PROT_NONE), 0);
	return c;
}

static void
test_packed(void **state)
{
	static const fa_precision precisions[] = {FA_PRECISION_FP32, FA_PRECISION_TF32,
											  FA_PRECISION_FP16, FA_PRECISION_BF16};
	fa_engine *engine = open_engine(NULL);
	fa_net net;

	(void) state;
	small_net(&net);
	for (int i = 0; i < LENGTH(precisions); i++)
	{
		fa_model *own = load_small(engine, precisions[i]), *shared;
		float *expected = run_small(own, 3), *values;
		fa_error error;
		size_t length;
		void *block;
		copy c;

		assert_int_equal(cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error), FA_OK);
		c = read_only_copy(block, length);
		free(block);
		assert_int_equal(
			cuda()->load_packed(engine, &net, precisions[i], c.bytes, length, &shared, &error),
			FA_OK);
		munmap(c.map, c.map_length); /* it is on the device */
		values = run_small(shared, 3);
		assert_memory_equal(values, expected, 3 * SMALL_VALUES * sizeof(float));
		free(values);
		free(expected);
		cuda()->unload(own);
		cuda()->unload(shared);
	}
	fa_net_free(&net);
	close_engine(engine);
}

static fa_status
open_part(fa_engine *engine, const fa_net *net, fa_precision precision, const void *bytes,
		  size_t length)
{
	copy c = read_only_copy(bytes, length);
	fa_model *model;
	fa_error error = {0};
	fa_status status = cuda()->load_packed(engine, net, precision, c.bytes, length, &model, &error);

	assert_int_equal(status, error.status);
	if (status == FA_OK)
		cuda()->unload(model);
	munmap(c.map, c.map_length);
	return status;
}

static void
test_packed_refusals(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *own = load_small(engine, FA_PRECISION_FP32);
	fa_net net, other;
	fa_error error;
	size_t length;
	void *block;
	char *bytes;

	(void) state;
	small_net(&net);
	small_net(&other);
	other.ops[1].pad_begin = 1;
	assert_int_equal(cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error), FA_OK);
	bytes = block;
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length), FA_OK);
	assert_int_equal(open_part(engine, &other, FA_PRECISION_FP32, bytes, length), FA_DAMAGED);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP16, bytes, length), FA_DAMAGED);
	/* fp32's weights are tf32's */
	assert_int_equal(open_part(engine, &net, FA_PRECISION_TF32, bytes, length), FA_OK);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, 0), FA_UNSUPPORTED);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, 63), FA_UNSUPPORTED);
	for (size_t cut = 1; cut < length - 64; cut += length / 37)
		assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length - cut),
						 FA_DAMAGED);
	/* any byte of the header */
	for (int at = 0; at < 40; at++)
	{
		bytes[at] ^= 0x40;
		assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length),
						 at < 16 ? FA_UNSUPPORTED : FA_DAMAGED);
		bytes[at] ^= 0x40;
	}
	/* both lengths, so that they agree */
	((uint64_t *) block)[2] -= 256;
	((uint64_t *) block)[4] -= 256;
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length), FA_DAMAGED);
	free(block);
	cuda()->unload(own);
	fa_net_free(&net);
	fa_net_free(&other);
	close_engine(engine);
}

/* Each call fails once, in turn. */
static void
test_packed_failures(void **state)
{
	int alive, errors = 0;
	fa_net net;

	(void) state;
	small_net(&net);
	for (int n = 1;; n++)
	{
		fa_engine *engine;
		fa_model *own, *shared = NULL;
		fa_error error = {0};
		fa_status status;
		size_t length;
		void *block;

		emulated_fail(0);
		engine = open_engine(NULL);
		own = load_small(engine, FA_PRECISION_FP16);
		alive = emulated_alive();
		emulated_fail(n);
		status = cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error);
		if (status == FA_OK)
		{
			status = cuda()->load_packed(engine, &net, FA_PRECISION_FP16, block, length, &shared,
										 &error);
			free(block);
			cuda()->unload(shared);
		}
		assert_int_equal(status, error.status);
		assert_int_equal(emulated_alive(), alive);
		errors += status != FA_OK;
		cuda()->unload(own);
		close_engine(engine);
		if (emulated_failed() == NULL)
			break;
	}
	assert_true(errors >= 5);
	emulated_fail(0);
	fa_net_free(&net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_packed, setup),
		cmocka_unit_test_setup(test_packed_refusals, setup),
		cmocka_unit_test_setup(test_packed_failures, setup),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
