/*
 * test_resident_models.c
 *		The service's models on an emulated device of little memory: as many leave as must, the
 *		least recently used first, whether the limit was there from the start, changes, or is the
 *		device's own.
 */
#include "device_test.h"

#include "../../src/service/models.h"

#define MODELS 4
#define MODEL "weights/default.safetensors"

static fa_bytes file;
static size_t each;  /* bytes of the device that a model takes */
static size_t least; /* that a detector takes */
static fa_ring ring;
static fa_engine *engine;
static fa_models *models;
static fa_error error;

static fa_status
get(int n)
{
	const uint8_t key[FA_SERVICE_KEY] = {(uint8_t) n};
	fa_served_model *model;

	return fa_models_get(models, key, FA_PRECISION_FP16, &file, &model, &error);
}

static void
must_get(int n)
{
	if (get(n) != FA_OK)
		fail_msg("model %d: %s: %s", n, error.message, error.detail);
}

/* "1 3": whose models are on the device. */
static const char *
resident(void)
{
	static char text[2 * MODELS + 1];

	text[0] = '\0';
	fa_models_show(models);
	for (int n = 1; n <= MODELS; n++)
		for (int i = 0; i < FA_RING_MODELS; i++)
			if (ring.header->models[i].resident == 2 && ring.header->models[i].key[0] == n)
				sprintf(text + strlen(text), "%s%d", text[0] == '\0' ? "" : " ", n);
	return text;
}

/* Memory for so many, with what loading takes for a while, and not for another. */
static size_t
room_for(int n)
{
	return each * (size_t) n + each * 7 / 10;
}

/* A service with that limit on memory, in bytes, or on a device that has no more. */
static void
begin(size_t limit, size_t device)
{
	const fa_engine_options options = {.memory_limit = limit};

	reset_device();
	emulated_memory(device);
	ring.header = calloc(1, sizeof(fa_ring_header));
	assert_non_null(ring.header);
	atomic_store(&ring.header->device_memory, limit);
	atomic_store(&ring.header->model_memory, UINT64_MAX);
	engine = open_engine(&options);
	assert_int_equal(fa_models_open(cuda(), engine, "weights", &ring, &models, &error), FA_OK);
}

static void
end(void)
{
	fa_models_close(models);
	close_engine(engine);
	free(ring.header);
}

static int
read_model(void **state)
{
	FILE *from = fopen(MODEL, "r");
	char *bytes;
	fa_model *detector;

	(void) state;
	assert_non_null(from);
	fseek(from, 0, SEEK_END);
	file.length = (size_t) ftell(from);
	rewind(from);
	file.bytes = bytes = malloc(file.length);
	assert_int_equal(fread(bytes, 1, file.length, from), file.length);
	fclose(from);
	begin(0, 0);
	must_get(1);
	fa_models_show(models);
	each = ring.header->models[0].memory;
	assert_int_equal(fa_models_detector(models, FA_PRECISION_FP16, &detector, &error), FA_OK);
	least = cuda()->memory(detector);
	end();
	return 0;
}

static int
free_model(void **state)
{
	(void) state;
	free((void *) file.bytes);
	return 0;
}

/* A third one takes the place of one, not of both. */
static void
one_after_the_other(void)
{
	must_get(1);
	must_get(2);
	assert_string_equal(resident(), "1 2");
	must_get(3);
	assert_string_equal(resident(), "2 3");
	must_get(2);
	must_get(1);
	assert_string_equal(resident(), "1 2");
	end();
}

static void
test_limit_at_start(void **state)
{
	(void) state;
	begin(room_for(2), 0);
	one_after_the_other();
}

static void
test_small_device(void **state)
{
	(void) state;
	begin(0, room_for(2));
	one_after_the_other();
}

/* Higher, none, and lower again, while the service runs. */
static void
test_new_limits(void **state)
{
	(void) state;
	begin(room_for(1), 0);
	must_get(1);
	must_get(2);
	assert_string_equal(resident(), "2");
	atomic_store(&ring.header->device_memory, room_for(3));
	must_get(1);
	must_get(3);
	assert_string_equal(resident(), "1 2 3");
	atomic_store(&ring.header->device_memory, 0);
	must_get(4);
	assert_string_equal(resident(), "1 2 3 4");
	must_get(3);
	atomic_store(&ring.header->device_memory, room_for(2));
	must_get(1); /* which is older than what stays with it */
	assert_string_equal(resident(), "1 3");
	end();
}

/* It needs a little, for which one model leaves. */
static void
test_detector(void **state)
{
	fa_model *detector;

	(void) state;
	begin(0, 0);
	must_get(1);
	must_get(2);
	atomic_store(&ring.header->device_memory, each * 2 + least / 2);
	assert_int_equal(fa_models_detector(models, FA_PRECISION_FP16, &detector, &error), FA_OK);
	assert_non_null(detector);
	assert_string_equal(resident(), "2");
	end();
}

/* Less than one takes: an error that names the setting, until there is more. */
static void
test_too_little(void **state)
{
	fa_model *detector;

	(void) state;
	begin(each / 2, 0);
	assert_int_equal(get(1), FA_NO_MEMORY);
	assert_non_null(strstr(error.message, "faceattr.gpu_memory"));
	atomic_store(&ring.header->device_memory, room_for(1));
	must_get(1);
	atomic_store(&ring.header->device_memory, 1);
	assert_int_equal(fa_models_detector(models, FA_PRECISION_FP16, &detector, &error),
					 FA_NO_MEMORY);
	assert_string_equal(resident(), "");
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit_at_start), cmocka_unit_test(test_small_device),
		cmocka_unit_test(test_new_limits),     cmocka_unit_test(test_detector),
		cmocka_unit_test(test_too_little),
	};

	return cmocka_run_group_tests(tests, read_model, free_model);
}
