/*
 * common.c
 *		Options, pipelines and files for the subcommands; see common.h.
 */
#include "common.h"

#include "../src/nn/cuda.h"

#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum
{
	OPT_WEIGHTS = 512,
	OPT_MODEL,
	OPT_THREADS,
	OPT_PRECISION,
	OPT_DETECT_SIZE,
	OPT_MIN_SCORE,
	OPT_MIN_FACE,
	OPT_NO_VERIFY,
	OPT_ONE_PASS,
	OPT_MAX_PIXELS
};

static const struct argp_option options[] = {
	{"weights", OPT_WEIGHTS, "DIR", 0, "Where the shipped weights are", 10},
	{"model", OPT_MODEL, "FILE", 0, "Attribute model (default: DIR/default.safetensors)", 10},
	{"threads", OPT_THREADS, "N", 0, "CPU threads (1)", 10},
	{"precision", OPT_PRECISION, "P", 0, "auto, fp32 or bf16", 10},
	{"detect-size", OPT_DETECT_SIZE, "PIXELS", 0, "Longer side at detection, 160 to 4096", 10},
	{"min-score", OPT_MIN_SCORE, "X", 0, "Report faces of at least this score", 10},
	{"min-face", OPT_MIN_FACE, "PIXELS", 0, "Report faces of at least this size", 10},
	{"no-verify", OPT_NO_VERIFY, 0, 0, "The classifier has no say in the score", 10},
	{"one-pass", OPT_ONE_PASS, 0, 0, "No second pass for large faces", 10},
	{"max-pixels", OPT_MAX_PIXELS, "N", 0, "Refuse larger photos (100 million)", 10},
	{0}};

static double
number(const char *text, double low, double high, struct argp_state *state)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= low && value <= high))
		argp_error(state, "%s is no number from %g to %g", text, low, high);
	return value;
}

static error_t
parse(int key, char *text, struct argp_state *state)
{
	fa_common *c = state->input;

	switch (key)
	{
		case OPT_WEIGHTS:
			c->weights = text;
			return 0;
		case OPT_MODEL:
			c->model = text;
			return 0;
		case OPT_THREADS:
			c->threads = (int) number(text, 1, 1024, state);
			return 0;
		case OPT_PRECISION:
			if (strcmp(text, "auto") == 0)
				c->precision = FA_PRECISION_AUTO;
			else if (strcmp(text, "fp32") == 0)
				c->precision = FA_PRECISION_FP32;
			else if (strcmp(text, "bf16") == 0)
				c->precision = FA_PRECISION_BF16;
			else
				argp_error(state, "--precision is auto, fp32 or bf16");
			return 0;
		case OPT_DETECT_SIZE:
			c->face.detect_size = (int) number(text, 160, 4096, state);
			c->set_detect_size = true;
			return 0;
		case OPT_MIN_SCORE:
			c->face.min_score = (float) number(text, 0, 1, state);
			c->set_min_score = true;
			return 0;
		case OPT_MIN_FACE:
			c->face.min_face = (float) number(text, 0, 1e6, state);
			c->set_min_face = true;
			return 0;
		case OPT_NO_VERIFY:
			c->no_verify = true;
			return 0;
		case OPT_ONE_PASS:
			c->face.one_pass = true;
			return 0;
		case OPT_MAX_PIXELS:
			c->face.max_pixels = (int64_t) number(text, 1, 1e12, state);
			return 0;
		case ARGP_KEY_INIT:
			memset(c, 0, sizeof(*c));
			c->threads = 1;
			c->face = fa_default_options();
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

const struct argp fa_common_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};

#ifndef FA_SHARE_DIR /* the Makefile's: relative to the directory of the installed program */
#define FA_SHARE_DIR ""
#define FA_LIBRARY_DIR ""
#endif

/* One of two places relative to this program, as a whole path; false: it is in neither. */
static bool
beside_program(const char *first, const char *second, char *path)
{
	char self[FA_PATH_LENGTH / 2] = {0}, place[FA_PATH_LENGTH];
	const char *places[] = {first, second}, *home;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
		return false;
	home = dirname(self);
	for (int i = 0; i < 2; i++)
	{
		snprintf(place, sizeof(place), "%s/%s", home, places[i]);
		if (realpath(place, path) != NULL)
			return true;
	}
	return false;
}

void
fa_weights_directory(const char *given, char *directory)
{
	given = given != NULL ? given : getenv("FACEATTR_WEIGHTS");
	if (given != NULL || !beside_program("../weights", FA_SHARE_DIR, directory))
		snprintf(directory, FA_PATH_LENGTH, "%s", given != NULL ? given : "weights");
}

void
fa_cuda_library(char *path)
{
	const char *given = getenv("FACEATTR_CUDA");

	if (given != NULL ||
		!beside_program("../" FA_CUDA_LIBRARY, FA_LIBRARY_DIR "/" FA_CUDA_LIBRARY, path))
		snprintf(path, FA_PATH_LENGTH, "%s", given != NULL ? given : FA_CUDA_LIBRARY);
}

fa_status
fa_common_open(const fa_common *common, fa_pipeline **pipeline, fa_face_options *face,
			   fa_error *error)
{
	char directory[FA_PATH_LENGTH], model[FA_PATH_LENGTH + 32];

	fa_weights_directory(common->weights, directory);
	snprintf(model, sizeof(model), "%s/default.safetensors", directory);
	FA_TRY(fa_pipeline_open(&fa_cpu_engine, &(fa_engine_options){.threads = common->threads},
							common->precision, directory,
							common->detector_only   ? NULL
							: common->model != NULL ? common->model
													: model,
							pipeline, error));
	*face = fa_pipeline_options(*pipeline);
	if (common->set_detect_size)
		face->detect_size = common->face.detect_size;
	if (common->set_min_score)
		face->min_score = common->face.min_score;
	if (common->set_min_face)
		face->min_face = common->face.min_face;
	if (common->no_verify)
		face->verify = false;
	face->one_pass = common->face.one_pass;
	face->max_pixels = common->face.max_pixels;
	return FA_OK;
}

fa_status
fa_read_file(const char *path, uint8_t **bytes, size_t *length, fa_error *error)
{
	FILE *file = fopen(path, "rb");
	size_t capacity = 1 << 16;

	*bytes = NULL;
	*length = 0;
	if (file == NULL)
		return fa_fail(error, errno == ENOENT ? FA_NOT_FOUND : FA_IO, "%s: %s", path,
					   strerror(errno));
	*bytes = malloc(capacity);
	while (*bytes != NULL)
	{
		*length += fread(*bytes + *length, 1, capacity - *length, file);
		if (*length < capacity)
			break;
		capacity *= 2;
		uint8_t *larger = realloc(*bytes, capacity);

		if (larger == NULL)
			free(*bytes);
		*bytes = larger;
	}
	error->status = FA_OK;
	if (*bytes == NULL)
		fa_no_memory(error, capacity);
	else if (ferror(file))
		fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	fclose(file);
	if (error->status != FA_OK)
	{
		free(*bytes);
		*bytes = NULL;
	}
	return error->status;
}

fa_status
fa_write_file(const char *path, const void *bytes, size_t length, fa_error *error)
{
	FILE *file = fopen(path, "wb");
	bool written;

	if (file == NULL)
		return fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	written = fwrite(bytes, 1, length, file) == length;
	if (fclose(file) != 0 || !written)
		return fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	return FA_OK;
}

int
fa_complain(const fa_error *error)
{
	fprintf(stderr, "faceattr: %s%s%s\n", error->message, error->detail[0] != '\0' ? ": " : "",
			error->detail);
	return 1;
}

fa_status
fa_add_border(const void *bytes, size_t length, uint8_t **bordered, size_t *bordered_length,
			  double *offset_x, double *offset_y, int *width, int *height, fa_error *error)
{
	fa_photo photo;
	fa_view view = {0};
	fa_image large;
	int x, y;
	fa_status status;

	FA_TRY(fa_photo_open(&photo, bytes, length, fa_default_options().max_pixels, error));
	FA_TRY(fa_photo_decode(&photo, 8, &view, NULL, error));
	x = view.image.width / 4;
	y = view.image.height / 4;
	status = fa_image_alloc(&large, view.image.width + 2 * x, view.image.height + 2 * y, error);
	if (status == FA_OK)
	{
		memset(large.pixels, 255, large.stride * (size_t) large.height);
		for (int row = 0; row < view.image.height; row++)
			memcpy(large.pixels + (row + y) * large.stride + 3 * (size_t) x,
				   view.image.pixels + row * view.image.stride, 3 * (size_t) view.image.width);
		status = fa_photo_encode(&large, FA_FORMAT_PNG, 0, bordered, bordered_length, NULL, error);
		fa_image_free(&large);
	}
	*offset_x = x;
	*offset_y = y;
	*width = photo.width;
	*height = photo.height;
	fa_image_free(&view.image);
	return status;
}

fa_status
fa_find_faces_anyhow(fa_pipeline *pipeline, const void *bytes, size_t length,
					 const fa_face_options *options, bool classify, fa_faces *faces,
					 fa_error *error)
{
	uint8_t *bordered;
	size_t bordered_length;
	double x, y;
	int width, height;
	fa_status status;

	FA_TRY(fa_find_faces(pipeline, bytes, length, options, classify, faces, NULL, error));
	if (faces->count > 0)
		return FA_OK;
	fa_faces_free(faces);
	FA_TRY(
		fa_add_border(bytes, length, &bordered, &bordered_length, &x, &y, &width, &height, error));
	status =
		fa_find_faces(pipeline, bordered, bordered_length, options, classify, faces, NULL, error);
	free(bordered);
	FA_TRY(status);
	faces->width = width;
	faces->height = height;
	for (int i = 0; i < faces->count; i++)
	{
		fa_face *face = &faces->faces[i];

		face->box.x1 -= x;
		face->box.x2 -= x;
		face->box.y1 -= y;
		face->box.y2 -= y;
		for (int k = 0; k < FA_LANDMARKS; k++)
		{
			face->landmarks[k][0] -= x;
			face->landmarks[k][1] -= y;
		}
	}
	return FA_OK;
}

static volatile sig_atomic_t signalled;

static void
on_signal(int number)
{
	(void) number;
	signalled = 1;
}

bool
fa_signalled(void)
{
	return signalled != 0;
}

static bool
is_signalled(void *argument)
{
	(void) argument;
	return fa_signalled();
}

const fa_interrupt fa_on_signal = {is_signalled, NULL};

void
fa_catch_signals(bool first_only)
{
	struct sigaction action = {.sa_handler = on_signal,
							   .sa_flags = first_only ? (int) SA_RESETHAND : 0};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}
