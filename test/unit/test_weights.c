/*
 * test_weights.c
 *		Weights files: what is written comes back, and whatever else a file may hold is
 *		refused with a reason. Files are made here byte by byte, not by the writer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/nn/half.h"
#include "../../src/nn/weights.h"
#include "pictures.h"

typedef struct file
{
	uint8_t *bytes; /* owned, of just that length: the sanitizer sees a read beyond */
	size_t length;
} file;

static file
make_file(uint64_t header_length, const char *header, const void *data, size_t data_length)
{
	size_t text = strlen(header);
	file f = {malloc(8 + text + data_length), 8 + text + data_length};

	for (int i = 0; i < 8; i++)
		f.bytes[i] = (uint8_t) (header_length >> 8 * i);
	memcpy(f.bytes + 8, header, text);
	if (data_length > 0)
		memcpy(f.bytes + 8 + text, data, data_length);
	return f;
}

/* What every tensor that a reader lets through must be. */
static void
check_tensors(const fa_weights *weights)
{
	for (int i = 0; i < weights->tensor_count; i++)
	{
		const fa_tensor *tensor = &weights->tensors[i];
		size_t count = 1;

		assert_in_range(tensor->rank, 0, FA_MAX_RANK);
		for (int k = 0; k < tensor->rank; k++)
			count *= (size_t) tensor->shape[k];
		assert_int_equal(tensor->count, count);
		for (size_t k = 0; k < count; k++)
			assert_true(isfinite(tensor->values[k]));
		assert_ptr_equal(fa_weights_find(weights, tensor->name), tensor);
	}
}

/* Parses and frees; a refusal must have a reason, and leave nothing behind. */
static bool
accepted(file f, fa_error *error)
{
	fa_weights weights;
	bool ok = fa_weights_parse(&weights, f.bytes, f.length, error) == FA_OK;

	if (ok)
		check_tensors(&weights);
	else
	{
		assert_int_equal(error->status, FA_DAMAGED);
		assert_string_equal(error->message, "weights file is damaged");
		assert_true(strlen(error->detail) > 0);
		assert_null(weights.tensors);
		assert_null(weights.metadata);
	}
	fa_weights_free(&weights);
	free(f.bytes);
	return ok;
}

static void
refuse(file f, const char *what, const char *reason)
{
	fa_error error = {0};

	if (accepted(f, &error))
		fail_msg("accepted: %s", what);
	if (strstr(error.detail, reason) == NULL)
		fail_msg("%s: \"%s\" does not say \"%s\"", what, error.detail, reason);
}

#define T(shape, offsets) "{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define LONG_63 "123456789012345678901234567890123456789012345678901234567890123"

static void
headers(void **state)
{
	static const struct
	{
		const char *header;
		size_t data;
		const char *reason; /* NULL: this one is good */
	} cases[] = {
		{"{}", 0, NULL},
		{"{}      ", 0, NULL},
		{"{\"a\":" T("[]", "[0,4]") "}", 4, NULL},
		{"{\"a\":" T("[1,2,1,2]", "[0,16]") "}", 16, NULL},
		{"{\"b\":" T("[2]", "[4,12]") ",\"a\":" T("[1]", "[0,4]") "}", 12, NULL},
		{"{\"" LONG_63 "\":" T("[1]", "[0,4]") "}", 4, NULL},
		{"{\"__metadata__\":{\"k\":\"v\"}}", 0, NULL},
		/* no header of ours */
		{"", 0, "no JSON"},
		{"{", 0, "no JSON"},
		{"{} {}", 0, "no JSON"},
		{"{\"a\xff\":1}", 0, "no JSON"},
		{"{\"a\\u0000b\":1}", 0, "no JSON"},
		{"[]", 0, "no JSON object"},
		{"{\"a\":" T("[1]", "[0,4]") ",\"a\":" T("[1]", "[4,8]") "}", 8, "duplicate"},
		{"{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0, "duplicate"},
		{"{\"__metadata__\":[]}", 0, "metadata are no JSON object"},
		{"{\"__metadata__\":{\"k\":1}}", 0, "metadata value is no string"},
		/* what a tensor consists of */
		{"{\"\":" T("[1]", "[0,4]") "}", 4, "empty or too long"},
		{"{\"4" LONG_63 "\":" T("[1]", "[0,4]") "}", 4, "empty or too long"},
		{"{\"a\":3}", 0, "is missing"},
		{"{\"a\":null}", 0, "is missing"},
		{"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "is missing"},
		{"{\"a\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "is missing"},
		{"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "is missing"},
		{"{\"a\":" T("1", "[0,4]") "}", 4, "is missing"},
		{"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "is missing"},
		{"{\"a\":" T("[1]", "[0]") "}", 4, "is missing"},
		{"{\"a\":" T("[1]", "[0,4,4]") "}", 4, "is missing"},
		{"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "dtype is none"},
		{"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is none"},
		{"{\"a\":{\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is none"},
		/* shapes */
		{"{\"a\":" T("[1,1,1,1,1]", "[0,4]") "}", 4, "more than four"},
		{"{\"a\":" T("[0]", "[0,0]") "}", 0, "shape is impossible"},
		{"{\"a\":" T("[-1]", "[0,4]") "}", 4, "shape is impossible"},
		{"{\"a\":" T("[1.0]", "[0,4]") "}", 4, "shape is impossible"},
		{"{\"a\":" T("[\"1\"]", "[0,4]") "}", 4, "shape is impossible"},
		{"{\"a\":" T("[2147483648]", "[0,4]") "}", 4, "shape is impossible"},
		{"{\"a\":" T("[4294967297]", "[0,4]") "}", 4, "shape is impossible"},
		{"{\"a\":" T("[9223372036854775808]", "[0,4]") "}", 4, "no JSON"},
		{"{\"a\":" T("[2147483647,2147483647,2147483647]", "[0,4]") "}", 4, "shape is impossible"},
		/* 2^62 values: their bytes, counted in 64 bits, would be none */
		{"{\"a\":" T("[1073741824,1073741824,4]", "[0,0]") "}", 0, "shape is impossible"},
		/* offsets */
		{"{\"a\":" T("[1]", "[\"0\",4]") "}", 4, "no integers"},
		{"{\"a\":" T("[1]", "[0,4.0]") "}", 4, "no integers"},
		{"{\"a\":" T("[1]", "[-4,0]") "}", 4, "outside"},
		{"{\"a\":" T("[1]", "[4,0]") "}", 4, "outside"},
		{"{\"a\":" T("[1]", "[0,4]") "}", 3, "outside"},
		{"{\"a\":" T("[1]", "[4,8]") "}", 4, "outside"},
		{"{\"a\":" T("[1]", "[9223372036854775803,9223372036854775807]") "}", 4, "outside"},
		{"{\"a\":" T("[2]", "[0,4]") "}", 8, "disagree"},
		{"{\"a\":" T("[1]", "[0,8]") "}", 8, "disagree"},
		{"{\"a\":" T("[2]", "[0,8]") ",\"b\":" T("[2]", "[4,12]") "}", 12, "overlaps"},
		{"{\"a\":" T("[1]", "[0,4]") ",\"b\":" T("[1]", "[0,4]") "}", 4, "overlaps"},
		{"{\"a\":" T("[1]", "[4,8]") "}", 8, "gap"},
		{"{\"a\":" T("[1]", "[0,4]") ",\"b\":" T("[1]", "[8,12]") "}", 12, "gap"},
		{"{\"a\":" T("[1]", "[0,4]") "}", 5, "after the last"},
		{"{}", 1, "after the last"},
	};
	static const uint8_t zeros[64];

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		file f = make_file(strlen(cases[i].header), cases[i].header, zeros, cases[i].data);
		fa_error error = {0};

		if (cases[i].reason != NULL)
			refuse(f, cases[i].header, cases[i].reason);
		else if (!accepted(f, &error))
			fail_msg("refused: %s: %s", cases[i].header, error.detail);
	}
}

static void
header_lengths(void **state)
{
	char *spaces = malloc((1 << 20) + 2), *deep = calloc(1, 20001);
	fa_error error;

	(void) state;
	for (size_t length = 0; length < 8; length++)
		refuse((file){calloc(1, length + 1), length}, "a few bytes", "shorter than eight");
	refuse(make_file(3, "{}", "", 0), "one more than the file", "longer than the file");
	refuse(make_file(UINT64_MAX, "{}", "", 0), "2^64 - 1", "longer than the file");
	refuse(make_file(UINT64_MAX - 7, "{}", "", 0), "2^64 - 8", "longer than the file");
	refuse(make_file((uint64_t) 1 << 63, "{}", "", 0), "2^63", "longer than the file");
	/* a header of 1 MB is the longest */
	snprintf(spaces, (1 << 20) + 2, "{}%*s", (1 << 20) - 2, "");
	assert_true(accepted(make_file(1 << 20, spaces, "", 0), &error));
	snprintf(spaces, (1 << 20) + 2, "{}%*s", (1 << 20) - 1, "");
	refuse(make_file((1 << 20) + 1, spaces, "", 0), "over 1 MB", "than 1 MB");
	/* deeper than any stack should go */
	memset(deep, '[', 20000);
	refuse(make_file(20000, deep, "", 0), "nested", "no JSON");
	free(spaces);
	free(deep);
}

static void
tensor_limit(void **state)
{
	(void) state;
	for (int count = 4096; count <= 4097; count++)
	{
		char *header = malloc((size_t) count * 80 + 2), *end = header;
		uint8_t *data = calloc((size_t) count, 1);
		fa_error error = {0};
		file f;

		for (int i = 0; i < count; i++)
			end +=
				sprintf(end, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%d,%d]}",
						i == 0 ? '{' : ',', i, i, i + 1);
		strcpy(end, "}");
		f = make_file(strlen(header), header, data, (size_t) count);
		if (count > 4096)
			refuse(f, "4,097 tensors", "over 4,096");
		else
			assert_true(accepted(f, &error));
		free(header);
		free(data);
	}
}

static void
read_values(const char *dtype, const void *data, int element, int count, const float *expected)
{
	char header[128];
	fa_weights weights;
	fa_error error;
	file f;

	snprintf(header, sizeof(header),
			 "{\"a\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", dtype, count,
			 element * count);
	f = make_file(strlen(header), header, data, (size_t) element * count);
	assert_int_equal(fa_weights_parse(&weights, f.bytes, f.length, &error), FA_OK);
	assert_memory_equal(weights.tensors[0].values, expected, count * sizeof(float));
	fa_weights_free(&weights);
	free(f.bytes);
}

/* Little-endian bytes of known numbers. */
static void
dtypes(void **state)
{
	static const uint8_t f32[] = {0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0};
	static const uint8_t f16[] = {0x00, 0x3c, 0x00, 0xc1, 0x01, 0x00, 0xff, 0x7b};
	static const uint8_t bf16[] = {0x80, 0x3f, 0x20, 0xc0};
	static const uint8_t u8[] = {0, 1, 255};

	(void) state;
	read_values("F32", f32, 4, 2, (float[]){1, -2.5f});
	read_values("F16", f16, 2, 4, (float[]){1, -2.5f, 0x1p-24f, 65504});
	read_values("BF16", bf16, 2, 2, (float[]){1, -2.5f});
	read_values("U8", u8, 1, 3, (float[]){0, 1, 255});
}

static void
values_must_be_finite(void **state)
{
	static const struct
	{
		const char *dtype;
		int element;
		uint8_t bytes[4];
	} cases[] = {
		{"F32", 4, {0, 0, 0xc0, 0x7f}}, {"F32", 4, {0, 0, 0x80, 0x7f}},
		{"F32", 4, {0, 0, 0x80, 0xff}}, {"F32", 4, {1, 0, 0x80, 0x7f}},
		{"F16", 2, {0x00, 0x7c}},       {"F16", 2, {0x00, 0xfc}},
		{"F16", 2, {0x01, 0x7c}},       {"BF16", 2, {0x80, 0x7f}},
		{"BF16", 2, {0xc0, 0xff}},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char header[128];

		snprintf(header, sizeof(header),
				 "{\"here\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,%d]}}",
				 cases[i].dtype, cases[i].element);
		refuse(make_file(strlen(header), header, cases[i].bytes, (size_t) cases[i].element), header,
			   "\"here\": a value is not finite");
	}
}

/* A small file with all that a file can have. */
static file
small_file(void)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\",\"labels\":\"a,b\"},"
		"\"conv.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,1,2],\"data_offsets\":[0,16]},"
		"\"conv.bias\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[16,20]},"
		"\"half\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[20,24]},"
		"\"rgb\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[24,25]}}";
	uint8_t data[25];

	for (int i = 0; i < 25; i++)
		data[i] = (uint8_t) (i * 5);
	return make_file(strlen(header), header, data, sizeof(data));
}

static void
truncation(void **state)
{
	file whole = small_file();
	fa_error error;

	(void) state;
	for (size_t length = 0; length < whole.length; length++)
	{
		file part = {malloc(length + (length == 0)), length};

		memcpy(part.bytes, whole.bytes, length);
		if (accepted(part, &error))
			fail_msg("%zu of %zu bytes are accepted", length, whole.length);
	}
	assert_true(accepted(whole, &error));
}

static void
mutations(void **state)
{
	static const char *const words[] = {"null", "-1",   "[]",     "{}",       "1e9",  "\"F16\"",
										"0",    "[0,4", "\"a\":", "\\u0041",  "9999", "\"\"",
										"true", ",",    "F32",    "\xc3\xa4", "[1]",  "4294967296"};
	file whole = small_file();
	uint64_t seed = 17;
	int good = 0;

	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		file f = {malloc(whole.length + 128), whole.length};
		fa_error error = {0};
		size_t header;

		memcpy(f.bytes, whole.bytes, whole.length);
		for (uint32_t k = 1 + random_u32(&seed) % 4; k > 0; k--)
		{
			size_t at = random_u32(&seed) % f.length;
			const char *word = words[random_u32(&seed) % (sizeof(words) / sizeof(words[0]))];
			size_t length = strlen(word);

			switch (random_u32(&seed) % 4)
			{
				case 0:
					f.bytes[at] ^= (uint8_t) (1 << random_u32(&seed) % 8);
					break;
				case 1:
					f.bytes[at] = (uint8_t) random_u32(&seed);
					break;
				case 2: /* a word of JSON comes in */
					memmove(f.bytes + at + length, f.bytes + at, f.length - at);
					memcpy(f.bytes + at, word, length);
					f.length += length;
					break;
				default: /* a few bytes get lost */
					length = 1 + random_u32(&seed) % 8;
					length = length < f.length - at ? length : f.length - at;
					memmove(f.bytes + at, f.bytes + at + length, f.length - at - length);
					f.length -= length;
			}
		}
		/* mostly the header's length is made to fit, or nothing else would be reached */
		header = f.length > 33 ? f.length - 33 : 0;
		if (random_u32(&seed) % 8 != 0 && f.length >= 8)
			for (int k = 0; k < 8; k++)
				f.bytes[k] = (uint8_t) ((uint64_t) header >> 8 * k);
		f.bytes = realloc(f.bytes, f.length + (f.length == 0));
		good += accepted(f, &error);
	}
	assert_in_range(good, 200, 19000); /* both ways were gone */
	free(whole.bytes);
}

/* ---- Half precision ---------------------------------------------------------------- */

/* By the definition in IEEE 754, table 3.5: binary16. */
static double
half_value(uint16_t half)
{
	int exponent = half >> 10 & 31, fraction = half & 1023;
	double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);

	return half & 0x8000 ? -magnitude : magnitude;
}

static void
half_precision(void **state)
{
	static const struct
	{
		float value;
		uint16_t half;
	} known[] = {
		{0.0f, 0x0000},         {-0.0f, 0x8000},      {1.0f, 0x3c00},       {-2.0f, 0xc000},
		{65504.0f, 0x7bff},     {0x1p-14f, 0x0400},   {0x1p-24f, 0x0001},   {0x1p-25f, 0x0000},
		{0x3p-25f, 0x0002},     {1.0f / 3, 0x3555},   {0.1f, 0x2e66},       {65519.996f, 0x7bff},
		{65520.0f, 0x7c00},     {1e30f, 0x7c00},      {-65520.0f, 0xfc00},  {INFINITY, 0x7c00},
		{1e-30f, 0x0000},       {0x1.004p0f, 0x3c01}, {0x1.002p0f, 0x3c00}, {0x1.006p0f, 0x3c02},
		{0x1.ffcp-15f, 0x0400},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (fa_to_half(known[i].value) != known[i].half)
			fail_msg("%a became %04x, not %04x", known[i].value, fa_to_half(known[i].value),
					 known[i].half);
	assert_true(isnan(fa_from_half(fa_to_half(NAN))));
	assert_true(isnan(fa_from_half(0x7c01)) && isinf(fa_from_half(0x7c00)));
	for (uint32_t h = 0; h < 0x7c00; h++)
		for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000)
		{
			uint16_t half = (uint16_t) (h | sign), next = (uint16_t) (half + 1);
			double value = half_value(half), middle;

			assert_true(fa_from_half(half) == value);
			assert_int_equal(fa_to_half((float) value), half);
			if (h == 0x7bff)
				continue;
			/* half way the even one is nearest, a hair from there the nearer one */
			middle = (value + half_value(next)) / 2;
			assert_true((float) middle == middle);
			assert_int_equal(fa_to_half((float) middle), half & 1 ? next : half);
			assert_int_equal(fa_to_half(nextafterf((float) middle, 0)), half);
			assert_int_equal(fa_to_half(nextafterf((float) middle, sign ? -1e9f : 1e9f)), next);
		}
	assert_true(fa_from_bfloat16(0x3f80) == 1 && fa_from_bfloat16(0xc020) == -2.5f);
}

/* ---- Writing ------------------------------------------------------------------------- */

static char directory[] = "/tmp/test_weights.XXXXXX";
static char path[64];

static int
enter(void **state)
{
	(void) state;
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/w.safetensors", directory);
	return 0;
}

static int
leave(void **state)
{
	(void) state;
	unlink(path);
	return rmdir(directory); /* fails if a temporary file is left */
}

static fa_weights
some_weights(void)
{
	fa_weights weights = {0};
	fa_tensor *tensor;
	fa_error error;
	uint64_t seed = 3;

	fa_weights_add(&weights, "a.weight", 4, (int[]){3, 5, 1, 2}, &tensor, &error);
	for (size_t i = 0; i < tensor->count; i++)
		tensor->values[i] = (float) random_u32(&seed) / 1e8f - 20;
	fa_weights_add(&weights, "scalar", 0, NULL, &tensor, &error);
	tensor->values[0] = 0x1p-24f;
	fa_weights_add(&weights, "b", 1, (int[]){3}, &tensor, &error);
	memcpy(tensor->values, (float[]){-0.0f, 65504, 1e-3f}, 3 * sizeof(float));
	assert_int_equal(fa_weights_set(&weights, "race", "a \"quoted\" \\ text\nÄß", &error), FA_OK);
	assert_int_equal(fa_weights_set(&weights, "empty", "", &error), FA_OK);
	return weights;
}

static void
round_trip(void **state)
{
	fa_weights weights = some_weights(), back;
	fa_error error;

	(void) state;
	for (int dtype = FA_F32; dtype <= FA_F16; dtype++)
	{
		FILE *written;
		uint8_t length[8];

		assert_int_equal(fa_weights_write(&weights, path, dtype, &error), FA_OK);
		assert_int_equal(fa_weights_read(&back, path, &error), FA_OK);
		assert_int_equal(back.tensor_count, weights.tensor_count);
		for (int i = 0; i < weights.tensor_count; i++)
		{
			const fa_tensor *t = &weights.tensors[i], *b = fa_weights_find(&back, t->name);

			assert_non_null(b);
			assert_int_equal(b->rank, t->rank);
			assert_memory_equal(b->shape, t->shape, sizeof(t->shape));
			for (size_t k = 0; k < t->count; k++)
			{
				/* half the distance of neighbours: 2^-11 of the value, or 2^-25 */
				double tolerance = fmax(fabs(t->values[k]) * 0x1p-11, 0x1p-25);

				if (dtype == FA_F32)
					assert_memory_equal(&b->values[k], &t->values[k], sizeof(float));
				else
					assert_true(fabs((double) b->values[k] - t->values[k]) <= tolerance);
			}
		}
		assert_int_equal(back.metadata_count, 2);
		assert_string_equal(fa_weights_get(&back, "race"), fa_weights_get(&weights, "race"));
		assert_string_equal(fa_weights_get(&back, "empty"), "");
		assert_null(fa_weights_get(&back, "none"));
		fa_weights_free(&back);
		/* the format wants tensors aligned */
		written = fopen(path, "rb");
		assert_int_equal(fread(length, 1, 8, written), 8);
		assert_int_equal(length[0] % 8, 0);
		fclose(written);
	}
	fa_weights_free(&weights);
}

static void
check_old_file(void)
{
	fa_weights back;
	fa_error error;
	char temporary[80];

	assert_int_equal(fa_weights_read(&back, path, &error), FA_OK);
	assert_int_equal(back.tensor_count, 1);
	assert_true(back.tensors[0].values[0] == 42);
	fa_weights_free(&back);
	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	assert_int_not_equal(access(temporary, F_OK), 0);
}

/* Whatever goes wrong, the file that was there stays, and nothing beside it. */
static void
failed_writes(void **state)
{
	static const float bad_half[] = {65520, -1e6f, NAN, INFINITY}, bad[] = {NAN, -INFINITY};
	struct rlimit limit, small;
	fa_weights old = {0}, weights;
	fa_tensor *tensor;
	fa_error error;
	fa_status status;

	(void) state;
	fa_weights_add(&old, "old", 1, (int[]){1}, &tensor, &error);
	tensor->values[0] = 42;
	assert_int_equal(fa_weights_write(&old, path, FA_F32, &error), FA_OK);
	fa_weights_free(&old);

	weights = some_weights();
	for (int i = 0; i < 6; i++)
	{
		weights.tensors[2].values[1] = i < 4 ? bad_half[i] : bad[i - 4];
		assert_int_equal(fa_weights_write(&weights, path, i < 4 ? FA_F16 : FA_F32, &error),
						 FA_INVALID);
		assert_non_null(strstr(error.message, "\"b\""));
		check_old_file();
	}
	weights.tensors[2].values[1] = 0;

	/* a disk that is full after 100 bytes */
	getrlimit(RLIMIT_FSIZE, &limit);
	small = limit;
	small.rlim_cur = 100;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small);
	status = fa_weights_write(&weights, path, FA_F32, &error);
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(status, FA_IO);
	assert_non_null(strstr(error.message, path));
	check_old_file();

	assert_int_equal(fa_weights_write(&weights, "/nowhere/at/all", FA_F32, &error), FA_NOT_FOUND);
	assert_int_equal(fa_weights_write(&weights, directory, FA_F32, &error), FA_IO);
	fa_weights_free(&weights);
}

static void
unreadable_files(void **state)
{
	fa_weights weights;
	fa_error error;
	FILE *written;

	(void) state;
	assert_int_equal(fa_weights_read(&weights, "/nowhere/at/all", &error), FA_NOT_FOUND);
	assert_non_null(strstr(error.message, "/nowhere/at/all"));
	assert_int_equal(fa_weights_read(&weights, directory, &error), FA_IO);
	assert_int_equal(weights.tensor_count, 0);
	written = fopen(path, "wb");
	fputs("not a weights file at all", written);
	fclose(written);
	assert_int_equal(fa_weights_read(&weights, path, &error), FA_DAMAGED);
	assert_ptr_equal(strstr(error.message, path), error.message);
	assert_non_null(strstr(error.message, "damaged"));
	assert_int_equal(truncate(path, ((off_t) 1 << 31) + 1), 0); /* a hole: no disk is used */
	assert_int_equal(fa_weights_read(&weights, path, &error), FA_DAMAGED);
	assert_non_null(strstr(error.message, "larger than 2 GB"));
}

/* ---- In memory ------------------------------------------------------------------------- */

static void
adding(void **state)
{
	fa_weights weights = {0};
	fa_tensor *tensor;
	fa_error error;

	(void) state;
	assert_int_equal(fa_weights_add(&weights, "a", 5, (int[]){1, 1, 1, 1, 1}, &tensor, &error),
					 FA_INVALID);
	assert_int_equal(fa_weights_add(&weights, "a", -1, NULL, &tensor, &error), FA_INVALID);
	assert_int_equal(fa_weights_add(&weights, "a", 2, (int[]){3, 0}, &tensor, &error), FA_INVALID);
	assert_int_equal(fa_weights_add(&weights, "a", 2, (int[]){3, -3}, &tensor, &error), FA_INVALID);
	assert_int_equal(
		fa_weights_add(&weights, "a", 3, (int[]){INT32_MAX, INT32_MAX, INT32_MAX}, &tensor, &error),
		FA_INVALID);
	assert_null(tensor);
	assert_int_equal(weights.tensor_count, 0);
	assert_int_equal(fa_weights_add(&weights, "a", 2, (int[]){3, 2}, &tensor, &error), FA_OK);
	assert_int_equal(tensor->count, 6);
	assert_int_equal(fa_weights_add(&weights, "a", 2, (int[]){3, 2}, &tensor, &error), FA_INVALID);
	assert_non_null(strstr(error.message, "twice"));
	fa_weights_set(&weights, "k", "1", &error);
	fa_weights_set(&weights, "k", "2", &error);
	assert_int_equal(weights.metadata_count, 1);
	assert_string_equal(fa_weights_get(&weights, "k"), "2");
	fa_weights_free(&weights);
	assert_null(weights.tensors);
}

static void
add_zeros(fa_weights *weights, const char *name, int rank, const int *shape)
{
	fa_tensor *tensor;
	fa_error error;

	assert_int_equal(fa_weights_add(weights, name, rank, shape, &tensor, &error), FA_OK);
	memset(tensor->values, 0, tensor->count * sizeof(float));
}

static void
matching(void **state)
{
	static const float zeros[3] = {0};
	fa_weights weights = {0};
	fa_net net;
	fa_error error;
	int op;

	(void) state;
	fa_net_begin(&net, "judge");
	op = fa_net_convolution(&net, "conv", fa_net_input(&net, true, zeros, zeros), 4, 3, 1, 1, 1,
							true);
	op = fa_net_unary(&net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(&net, "out", fa_net_dense(&net, "dense", op, 2));
	assert_int_equal(fa_net_finish(&net, &error), FA_OK);

	add_zeros(&weights, "conv.weight", 4, (int[]){4, 3, 3, 3});
	add_zeros(&weights, "dense.weight", 4, (int[]){2, 4, 1, 1}); /* as good as two dimensions */
	add_zeros(&weights, "dense.bias", 1, (int[]){2});
	assert_int_equal(fa_weights_match(&weights, &net, false, &error), FA_INVALID);
	assert_string_equal(error.message,
						"the weights lack tensor \"conv.bias\" of network \"judge\"");
	add_zeros(&weights, "conv.bias", 1, (int[]){4});
	assert_int_equal(fa_weights_match(&weights, &net, false, &error), FA_OK);
	add_zeros(&weights, "more", 1, (int[]){1});
	assert_int_equal(fa_weights_match(&weights, &net, true, &error), FA_OK);
	assert_int_equal(fa_weights_match(&weights, &net, false, &error), FA_INVALID);
	assert_string_equal(error.message, "network \"judge\" has no tensor \"more\"");
	weights.tensors[0].shape[0] = 3; /* same count: it is the shape that tells */
	weights.tensors[0].shape[1] = 4;
	assert_int_equal(fa_weights_match(&weights, &net, true, &error), FA_INVALID);
	assert_string_equal(error.message, "tensor \"conv.weight\" does not fit network \"judge\"");
	assert_non_null(strstr(error.detail, "4 output channels"));
	fa_weights_free(&weights);
	fa_net_free(&net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers),
		cmocka_unit_test(header_lengths),
		cmocka_unit_test(tensor_limit),
		cmocka_unit_test(dtypes),
		cmocka_unit_test(values_must_be_finite),
		cmocka_unit_test(truncation),
		cmocka_unit_test(mutations),
		cmocka_unit_test(half_precision),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(failed_writes),
		cmocka_unit_test(unreadable_files),
		cmocka_unit_test(adding),
		cmocka_unit_test(matching),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
