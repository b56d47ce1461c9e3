/*
 * safetensors.c
 *		Weights as files: eight bytes of header length (little endian), a JSON
 *		header, the tensors' bytes (https://github.com/huggingface/safetensors).
 *
 * A file may come from anybody. Before a value is read, the header's length,
 * every dtype, shape and pair of offsets has been checked against the file's
 * size, and the tensors, in the order of their offsets, must fill the data
 * exactly: no gap, no overlap.
 */
#include "half.h"
#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_HEADER ((size_t) 1 << 20)
#define MAX_TENSORS 4096
#define MAX_FILE ((size_t) 1 << 31)

typedef struct entry
{
	const char *name;
	size_t begin, end;
	int element; /* bytes */
	char dtype;  /* 'F' fp32, 'H' fp16, 'B' bf16, 'U' uint8 */
	int rank, shape[FA_MAX_RANK];
} entry;

static fa_status
damaged(fa_error *error, const char *name, const char *what)
{
	fa_fail(error, FA_DAMAGED, "weights file is damaged");
	return name == NULL ? fa_detail(error, "%s.", what)
						: fa_detail(error, "Tensor \"%.64s\": %s.", name, what);
}

static fa_status
read_entry(entry *e, const char *name, const json_t *value, size_t data_length, fa_error *error)
{
	static const struct
	{
		const char *name;
		int element;
		char dtype;
	} dtypes[] = {{"F32", 4, 'F'}, {"F16", 2, 'H'}, {"BF16", 2, 'B'}, {"U8", 1, 'U'}};
	const json_t *shape = json_object_get(value, "shape");
	const json_t *offsets = json_object_get(value, "data_offsets");
	const char *dtype = json_string_value(json_object_get(value, "dtype"));
	size_t bytes;
	json_int_t begin, end;

	memset(e, 0, sizeof(*e));
	e->name = name;
	if (*name == '\0' || strlen(name) >= FA_NAME_LENGTH)
		return damaged(error, name, "the name is empty or too long");
	if (dtype == NULL || !json_is_array(shape) || !json_is_array(offsets) ||
		json_array_size(offsets) != 2)
		return damaged(error, name, "dtype, shape or data_offsets is missing");
	for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
		if (strcmp(dtype, dtypes[i].name) == 0)
		{
			e->dtype = dtypes[i].dtype;
			e->element = dtypes[i].element;
		}
	if (e->element == 0)
		return damaged(error, name, "the dtype is none of F32, F16, BF16, U8");
	if (json_array_size(shape) > FA_MAX_RANK)
		return damaged(error, name, "the shape has more than four dimensions");
	e->rank = (int) json_array_size(shape);
	bytes = e->element;
	for (int i = 0; i < e->rank; i++)
	{
		const json_t *side = json_array_get(shape, i);

		if (!json_is_integer(side) || json_integer_value(side) < 1 ||
			json_integer_value(side) > INT32_MAX ||
			!fa_multiply(bytes, (size_t) json_integer_value(side), &bytes))
			return damaged(error, name, "the shape is impossible");
		e->shape[i] = (int) json_integer_value(side);
	}
	if (!json_is_integer(json_array_get(offsets, 0)) ||
		!json_is_integer(json_array_get(offsets, 1)))
		return damaged(error, name, "data_offsets are no integers");
	begin = json_integer_value(json_array_get(offsets, 0));
	end = json_integer_value(json_array_get(offsets, 1));
	if (begin < 0 || end < begin || (uint64_t) end > data_length)
		return damaged(error, name, "data_offsets lie outside of the file");
	if ((uint64_t) (end - begin) != bytes)
		return damaged(error, name, "data_offsets and shape disagree");
	e->begin = (size_t) begin;
	e->end = (size_t) end;
	return FA_OK;
}

static int
by_offset(const void *a, const void *b)
{
	const entry *left = a, *right = b;

	return left->begin < right->begin ? -1 : left->begin > right->begin;
}

static float
element_value(const uint8_t *bytes, char dtype)
{
	uint16_t half;
	uint32_t word;

	switch (dtype)
	{
		case 'F':
			word = (uint32_t) bytes[0] | (uint32_t) bytes[1] << 8 | (uint32_t) bytes[2] << 16 |
				   (uint32_t) bytes[3] << 24;
			return fa_from_bits(word);
		case 'U':
			return bytes[0];
		default:
			half = (uint16_t) (bytes[0] | bytes[1] << 8);
			return dtype == 'H' ? fa_from_half(half) : fa_from_bfloat16(half);
	}
}

static fa_status
read_tensor(fa_weights *weights, const entry *e, const uint8_t *data, fa_error *error)
{
	fa_tensor *tensor;

	FA_TRY(fa_weights_add(weights, e->name, e->rank, e->shape, &tensor, error));
	for (size_t i = 0; i < tensor->count; i++)
	{
		tensor->values[i] = element_value(data + e->begin + i * e->element, e->dtype);
		if (!isfinite(tensor->values[i]))
			return damaged(error, e->name, "a value is not finite");
	}
	return FA_OK;
}

static fa_status
read_header(fa_weights *weights, json_t *header, const uint8_t *data, size_t data_length,
			entry *entries, fa_error *error)
{
	const char *key;
	json_t *value;
	int count = 0;
	size_t position = 0;

	json_object_foreach(header, key, value)
	{
		if (strcmp(key, "__metadata__") == 0)
		{
			const char *name;
			json_t *text;

			if (!json_is_object(value))
				return damaged(error, NULL, "The metadata are no JSON object");
			json_object_foreach(value, name, text)
			{
				if (!json_is_string(text))
					return damaged(error, NULL, "A metadata value is no string");
				FA_TRY(fa_weights_set(weights, name, json_string_value(text), error));
			}
		}
		else
			FA_TRY(read_entry(&entries[count++], key, value, data_length, error));
	}
	qsort(entries, count, sizeof(entry), by_offset);
	for (int i = 0; i < count; i++)
	{
		if (entries[i].begin != position)
			return damaged(error, entries[i].name,
						   entries[i].begin < position ? "it overlaps another tensor"
													   : "there is a gap before it");
		position = entries[i].end;
	}
	if (position != data_length)
		return damaged(error, NULL, "There are bytes after the last tensor");
	for (int i = 0; i < count; i++)
		FA_TRY(read_tensor(weights, &entries[i], data, error));
	return FA_OK;
}

fa_status
fa_weights_parse(fa_weights *weights, const void *bytes, size_t length, fa_error *error)
{
	const uint8_t *file = bytes;
	uint64_t header_length = 0;
	json_t *header;
	json_error_t json_error;
	entry *entries;
	fa_status status;

	memset(weights, 0, sizeof(*weights));
	if (length < 8)
		return damaged(error, NULL, "It is shorter than eight bytes");
	for (int i = 0; i < 8; i++)
		header_length |= (uint64_t) file[i] << 8 * i;
	if (header_length > MAX_HEADER || header_length > length - 8)
		return damaged(error, NULL, "The header is longer than the file or than 1 MB");
	header = json_loadb((const char *) file + 8, (size_t) header_length, JSON_REJECT_DUPLICATES,
						&json_error);
	if (header == NULL)
	{
		fa_fail(error, FA_DAMAGED, "weights file is damaged");
		return fa_detail(error, "The header is no JSON: %s.", json_error.text);
	}
	if (!json_is_object(header) || json_object_size(header) > MAX_TENSORS)
	{
		json_decref(header);
		return damaged(error, NULL, "The header is no JSON object, or names over 4,096 tensors");
	}
	entries = malloc((json_object_size(header) + 1) * sizeof(entry));
	if (entries == NULL)
		status = fa_no_memory(error, (json_object_size(header) + 1) * sizeof(entry));
	else
		status = read_header(weights, header, file + 8 + header_length,
							 length - 8 - (size_t) header_length, entries, error);
	free(entries);
	json_decref(header);
	if (status != FA_OK)
		fa_weights_free(weights);
	return status;
}

static fa_status
io_error(fa_error *error, const char *path, const char *what)
{
	fa_status status = errno == ENOENT ? FA_NOT_FOUND : FA_IO;

	return fa_fail(error, status, "%s: could not %s: %s", path, what, strerror(errno));
}

fa_status
fa_weights_read(fa_weights *weights, const char *path, fa_error *error)
{
	FILE *file = fopen(path, "rb");
	struct stat facts;
	void *bytes;
	size_t length;
	fa_status status;

	memset(weights, 0, sizeof(*weights));
	if (file == NULL)
		return io_error(error, path, "open");
	if (fstat(fileno(file), &facts) != 0 || facts.st_size < 0 || (size_t) facts.st_size > MAX_FILE)
	{
		fclose(file);
		return fa_fail(error, FA_DAMAGED, "%s: no weights file, or larger than 2 GB", path);
	}
	length = (size_t) facts.st_size;
	bytes = malloc(length + 1);
	if (bytes == NULL)
		status = fa_no_memory(error, length);
	else if (fread(bytes, 1, length, file) != length)
		status = io_error(error, path, "read");
	else
	{
		status = fa_weights_parse(weights, bytes, length, error);
		if (status != FA_OK)
			fa_error_in(error, path);
	}
	free(bytes);
	fclose(file);
	return status;
}

/* The JSON header, padded with spaces to a multiple of eight; the caller frees it. */
static char *
make_header(const fa_weights *weights, fa_dtype dtype, size_t *length)
{
	json_t *header = json_object(), *metadata = json_object();
	size_t position = 0;
	char *text, *padded = NULL;
	bool failed = header == NULL || metadata == NULL;

	for (int i = 0; i < weights->metadata_count; i++)
		failed |= json_object_set_new(metadata, weights->metadata[i].key,
									  json_string(weights->metadata[i].value)) != 0;
	failed |= json_object_set(header, "__metadata__", metadata) != 0;
	for (int i = 0; i < weights->tensor_count; i++)
	{
		const fa_tensor *tensor = &weights->tensors[i];
		size_t end = position + tensor->count * (dtype == FA_F16 ? 2 : 4);
		json_t *shape = json_array();

		for (int k = 0; k < tensor->rank; k++)
			failed |= json_array_append_new(shape, json_integer(tensor->shape[k])) != 0;
		failed |=
			json_object_set_new(
				header, tensor->name,
				json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype == FA_F16 ? "F16" : "F32", "shape",
						  shape, "data_offsets", (json_int_t) position, (json_int_t) end)) != 0;
		position = end;
	}
	text = failed ? NULL : json_dumps(header, JSON_COMPACT);
	json_decref(header);
	json_decref(metadata);
	if (text != NULL)
	{
		*length = (strlen(text) + 7) / 8 * 8;
		padded = malloc(*length + 1);
		if (padded != NULL)
			snprintf(padded, *length + 1, "%-*s", (int) *length, text);
		free(text);
	}
	return padded;
}

static fa_status
write_tensor(FILE *file, const fa_tensor *tensor, fa_dtype dtype, fa_error *error)
{
	for (size_t i = 0; i < tensor->count; i++)
	{
		uint32_t bits;
		uint8_t bytes[4];
		float value = tensor->values[i];

		if (dtype == FA_F16)
		{
			bits = fa_to_half(value);
			value = fa_from_half((uint16_t) bits);
		}
		else
			memcpy(&bits, &value, sizeof(bits));
		if (!isfinite(value))
			return fa_fail(error, FA_INVALID, "tensor \"%s\" has a value that %s cannot hold",
						   tensor->name, dtype == FA_F16 ? "fp16" : "a weights file");
		for (int k = 0; k < 4; k++)
			bytes[k] = (uint8_t) (bits >> 8 * k);
		fwrite(bytes, 1, dtype == FA_F16 ? 2 : 4, file);
	}
	return FA_OK;
}

static fa_status
write_file(const fa_weights *weights, FILE *file, const char *path, fa_dtype dtype, fa_error *error)
{
	size_t length = 0;
	char *header = make_header(weights, dtype, &length);

	if (header == NULL)
		return fa_no_memory(error, 0);
	for (int i = 0; i < 8; i++)
		fputc((int) ((uint64_t) length >> 8 * i & 0xff), file);
	fwrite(header, 1, length, file);
	free(header);
	for (int i = 0; i < weights->tensor_count; i++)
		FA_TRY(write_tensor(file, &weights->tensors[i], dtype, error));
	if (fflush(file) != 0 || ferror(file) || fsync(fileno(file)) != 0)
		return io_error(error, path, "write");
	return FA_OK;
}

fa_status
fa_weights_write(const fa_weights *weights, const char *path, fa_dtype dtype, fa_error *error)
{
	char temporary[4096];
	FILE *file;
	fa_status status;

	if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int) sizeof(temporary))
		return fa_fail(error, FA_INVALID, "path is too long");
	file = fopen(temporary, "wb");
	if (file == NULL)
		return io_error(error, temporary, "create");
	status = write_file(weights, file, temporary, dtype, error);
	if (fclose(file) != 0 && status == FA_OK)
		status = io_error(error, temporary, "write");
	if (status == FA_OK && rename(temporary, path) != 0)
		status = io_error(error, path, "rename to");
	if (status != FA_OK)
		unlink(temporary);
	return status;
}
