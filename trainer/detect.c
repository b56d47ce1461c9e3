/*
 * detect.c
 *		`faceattr detect`: the faces of photos, a line of JSON per photo or a line
 *		of a table per face. The exit status is 1 when any photo could not be read.
 */
#include "common.h"
#include "trainer.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum
{
	OPT_JSON = 256,
	OPT_TSV,
	OPT_NO_ATTRIBUTES
};

typedef struct options
{
	fa_common common;
	bool tsv, no_attributes;
	char **files;
	int file_count;
} options;

static const struct argp_option argp_options[] = {
	{"json", OPT_JSON, 0, 0, "A line of JSON per photo (the default)", 1},
	{"tsv", OPT_TSV, 0, 0, "A line per face: file x1 y1 x2 y2 score; the name alone where none is",
	 1},
	{"no-attributes", OPT_NO_ATTRIBUTES, 0, 0, "Find faces only", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;

	(void) text;
	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->common;
			return 0;
		case OPT_JSON:
			o->tsv = false;
			return 0;
		case OPT_TSV:
			o->tsv = true;
			return 0;
		case OPT_NO_ATTRIBUTES:
			o->no_attributes = true;
			return 0;
		case ARGP_KEY_ARGS:
			o->files = state->argv + state->next;
			o->file_count = state->argc - state->next;
			return 0;
		case ARGP_KEY_END:
			if (o->file_count == 0)
				argp_error(state, "which photos?");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* A number as people write it: six significant digits. */
static json_t *
real(double value)
{
	char text[32];

	snprintf(text, sizeof(text), "%.6g", value);
	return json_real(strtod(text, NULL));
}

static json_t *
real_or_null(bool is_there, double value)
{
	return is_there ? real(value) : json_null();
}

static json_t *
string_or_null(const char *text)
{
	return text != NULL ? json_string(text) : json_null();
}

static json_t *
face_to_json(const fa_pipeline *pipeline, const fa_face *face)
{
	json_t *landmarks = json_array(), *object = json_object();

	for (int i = 0; i < FA_LANDMARKS; i++)
		json_array_append_new(landmarks, json_pack("[o, o]", real(face->landmarks[i][0]),
												   real(face->landmarks[i][1])));
	json_object_set_new(object, "box",
						json_pack("[o, o, o, o]", real(face->box.x1), real(face->box.y1),
								  real(face->box.x2), real(face->box.y2)));
	json_object_set_new(object, "score", real(face->score));
	json_object_set_new(object, "landmarks", landmarks);
	json_object_set_new(object, "age", real_or_null(face->has_age, face->age));
	json_object_set_new(object, "age_low", real_or_null(face->has_age, face->age_low));
	json_object_set_new(object, "age_high", real_or_null(face->has_age, face->age_high));
	json_object_set_new(object, "gender", string_or_null(fa_gender_label(pipeline, face)));
	json_object_set_new(object, "gender_confidence",
						real_or_null(face->has_gender, face->gender_confidence));
	json_object_set_new(object, "race", string_or_null(fa_race_label(pipeline, face)));
	json_object_set_new(object, "race_confidence",
						real_or_null(face->has_race, face->race_confidence));
	return object;
}

/* File names, and so messages, need not be UTF-8: then what is not ASCII shows as '?'. */
static json_t *
text_to_json(const char *text)
{
	json_t *result = json_string(text);
	char *copy = result == NULL ? strdup(text) : NULL;

	for (char *c = copy; c != NULL && *c != '\0'; c++)
		if ((unsigned char) *c >= 0x80)
			*c = '?';
	if (copy != NULL)
		result = json_string(copy);
	free(copy);
	return result;
}

/* A line per photo: its faces or, where `faces` is NULL, the error. */
static void
print_json(const fa_pipeline *pipeline, const char *file, const fa_faces *faces,
		   const fa_error *error)
{
	json_t *line = json_object();

	json_object_set_new(line, "file", text_to_json(file));
	if (faces == NULL)
	{
		char text[600];

		snprintf(text, sizeof(text), "%s%s%s", error->message, error->detail[0] ? ": " : "",
				 error->detail);
		json_object_set_new(line, "error", text_to_json(text));
	}
	else
	{
		json_t *list = json_array();

		for (int i = 0; i < faces->count; i++)
			json_array_append_new(list, face_to_json(pipeline, &faces->faces[i]));
		json_object_set_new(line, "width", json_integer(faces->width));
		json_object_set_new(line, "height", json_integer(faces->height));
		json_object_set_new(line, "faces", list);
	}
	json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(line);
}

static void
print_tsv(const char *file, const fa_faces *faces)
{
	if (faces->count == 0)
		printf("%s\n", file);
	for (int i = 0; i < faces->count; i++)
	{
		const fa_face *f = &faces->faces[i];

		printf("%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.4f\n", file, f->box.x1, f->box.y1, f->box.x2,
			   f->box.y2, f->score);
	}
}

/* One photo; false when it could not be read. */
static bool
detect(const options *o, fa_pipeline *pipeline, const fa_face_options *face_options,
	   const char *file, const void *bytes, size_t length)
{
	fa_faces faces = {0};
	fa_error error;
	fa_status status = fa_find_faces(pipeline, bytes, length, face_options, !o->no_attributes,
									 &faces, NULL, &error);

	if (status != FA_OK && o->tsv)
		fprintf(stderr, "%s: %s: %s\n", file, error.message, error.detail);
	else if (o->tsv)
		print_tsv(file, &faces);
	else
		print_json(pipeline, file, status == FA_OK ? &faces : NULL, &error);
	fa_faces_free(&faces);
	return status == FA_OK;
}

static bool
is_collection(const char *path)
{
	struct stat facts;
	size_t length = strlen(path);

	return (stat(path, &facts) == 0 && S_ISDIR(facts.st_mode)) ||
		   (length > 4 && strcmp(path + length - 4, ".tar") == 0);
}

/* A photo, or all of a folder or tar archive. */
static bool
detect_path(const options *o, fa_pipeline *pipeline, const fa_face_options *face_options,
			const char *path)
{
	bool good = true;
	uint8_t *bytes = NULL;
	size_t length;
	fa_error error;
	fa_dataset dataset;

	if (!is_collection(path))
	{
		if (fa_read_file(path, &bytes, &length, &error) == FA_OK)
			good = detect(o, pipeline, face_options, path, bytes, length);
		else
		{
			good = false;
			if (o->tsv)
				fa_complain(&error);
			else
				print_json(pipeline, path, NULL, &error);
		}
		free(bytes);
		return good;
	}
	if (fa_dataset_read(&dataset, path, NULL, &error) != FA_OK)
	{
		fa_complain(&error);
		return false;
	}
	for (int i = 0; i < dataset.count; i++)
		good &= detect(o, pipeline, face_options, dataset.samples[i].file, dataset.samples[i].bytes,
					   dataset.samples[i].length);
	fa_dataset_free(&dataset);
	return good;
}

int
faceattr_detect(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_common_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options, parse_option,
		"FILE...",    "Finds the faces in photos. FILE may be a folder or a tar archive of photos.",
		children,     NULL,
		NULL};
	options o = {0};
	fa_pipeline *pipeline;
	fa_face_options face_options;
	fa_error error;
	bool good = true;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	o.common.detector_only = o.no_attributes;
	if (fa_common_open(&o.common, &pipeline, &face_options, &error) != FA_OK)
		return fa_complain(&error);
	for (int i = 0; i < o.file_count; i++)
		good &= detect_path(&o, pipeline, &face_options, o.files[i]);
	fa_pipeline_close(pipeline);
	return good ? 0 : 1;
}
