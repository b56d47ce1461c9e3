/*
 * annotate.c
 *		`faceattr annotate IN OUT`: boxes and labels drawn on a photo. The ending of
 *		OUT chooses the format; with another ending it is the photo's own.
 */
#include "common.h"
#include "trainer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct options
{
	fa_common common;
	const char *in, *out;
} options;

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;

	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->common;
			return 0;
		case ARGP_KEY_ARG:
			if (state->arg_num == 0)
				o->in = text;
			else if (state->arg_num == 1)
				o->out = text;
			else
				argp_usage(state);
			return 0;
		case ARGP_KEY_END:
			if (o->out == NULL)
				argp_usage(state);
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* The format that a file name's ending asks for; NULL: none. */
static const fa_format *
format_of(const char *path)
{
	static const fa_format jpeg = FA_FORMAT_JPEG, png = FA_FORMAT_PNG;
	const char *ending = strrchr(path, '.');

	if (ending == NULL)
		return NULL;
	if (strcasecmp(ending, ".png") == 0)
		return &png;
	return strcasecmp(ending, ".jpg") == 0 || strcasecmp(ending, ".jpeg") == 0 ? &jpeg : NULL;
}

int
faceattr_annotate(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_common_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		NULL,     parse_option, "IN OUT", "Draws boxes and labels on the faces of a photo.",
		children, NULL,         NULL};
	options o = {0};
	fa_pipeline *pipeline;
	fa_face_options face_options;
	uint8_t *bytes = NULL, *annotated = NULL;
	size_t length, annotated_length;
	fa_error error;
	fa_status status;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	if (fa_common_open(&o.common, &pipeline, &face_options, &error) != FA_OK)
		return fa_complain(&error);
	status = fa_read_file(o.in, &bytes, &length, &error);
	if (status == FA_OK)
		status = fa_annotate(pipeline, bytes, length, &face_options, format_of(o.out), &annotated,
							 &annotated_length, NULL, &error);
	if (status == FA_OK)
		status = fa_write_file(o.out, annotated, annotated_length, &error);
	free(bytes);
	free(annotated);
	fa_pipeline_close(pipeline);
	return status == FA_OK ? 0 : fa_complain(&error);
}
