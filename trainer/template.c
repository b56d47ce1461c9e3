/*
 * template.c
 *		`faceattr template`: where the detector sees the landmarks of ready chips, on
 *		average, as fractions of the chip. The shipped model's alignment template is
 *		what this prints for UTKFace's chips.
 */
#include "common.h"
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum
{
	OPT_LIMIT = 256
};

typedef struct options
{
	fa_common common;
	const char *data;
	int limit;
} options;

static const struct argp_option argp_options[] = {
	{"data", 'd', "TAR|DIR", 0, "Chips", 1},
	{"limit", OPT_LIMIT, "N", 0, "Look at so many of them, evenly spread (2000)", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;

	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->common;
			return 0;
		case 'd':
			o->data = text;
			return 0;
		case OPT_LIMIT:
			o->limit = atoi(text);
			if (o->limit < 1)
				argp_error(state, "%s is no number from 1", text);
			return 0;
		case ARGP_KEY_END:
			if (o->data == NULL)
				argp_error(state, "--data is needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

typedef struct sums
{
	int chips, found;
	double sum[FA_LANDMARKS][2], square[FA_LANDMARKS][2];
} sums;

/* The largest face of a chip, seen with a border around it. */
static fa_status
add_chip(fa_pipeline *pipeline, const fa_face_options *face_options, const fa_sample *sample,
		 sums *s, fa_error *error)
{
	uint8_t *bordered = NULL;
	size_t length;
	double x, y;
	int width, height;
	fa_faces faces = {0};
	fa_status status = fa_add_border(sample->bytes, sample->length, &bordered, &length, &x, &y,
									 &width, &height, error);

	if (status == FA_OK)
		status =
			fa_find_faces(pipeline, bordered, length, face_options, false, &faces, NULL, error);
	free(bordered);
	if (status != FA_OK)
		return status;
	s->chips++;
	if (faces.count > 0)
	{
		s->found++;
		for (int i = 0; i < FA_LANDMARKS; i++)
		{
			double u = (faces.faces[0].landmarks[i][0] - x) / width;
			double v = (faces.faces[0].landmarks[i][1] - y) / height;

			s->sum[i][0] += u;
			s->sum[i][1] += v;
			s->square[i][0] += u * u;
			s->square[i][1] += v * v;
		}
	}
	fa_faces_free(&faces);
	return FA_OK;
}

int
faceattr_template(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_common_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options, parse_option,
		NULL,         "Prints the mean landmarks of ready chips as fractions of the chip.",
		children,     NULL,
		NULL};
	options o = {.limit = 2000};
	fa_pipeline *pipeline;
	fa_face_options face_options;
	fa_dataset chips;
	sums s = {0};
	fa_error error;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	o.common.detector_only = true;
	if (fa_common_open(&o.common, &pipeline, &face_options, &error) != FA_OK)
		return fa_complain(&error);
	if (fa_dataset_read(&chips, o.data, NULL, &error) != FA_OK)
	{
		fa_pipeline_close(pipeline);
		return fa_complain(&error);
	}
	for (int i = 0; i < chips.count && i < o.limit; i++)
	{
		int k = chips.count <= o.limit ? i : (int) ((int64_t) i * chips.count / o.limit);

		if (add_chip(pipeline, &face_options, &chips.samples[k], &s, &error) != FA_OK)
			fprintf(stderr, "faceattr: %s: %s\n", chips.samples[k].file, error.message);
	}
	fa_dataset_free(&chips);
	fa_pipeline_close(pipeline);
	fprintf(stderr, "%d of %d chips; spread in thousandths of the chip:", s.found, s.chips);
	for (int i = 0; i < 2 * FA_LANDMARKS && s.found > 0; i++)
	{
		double mean = s.sum[i / 2][i % 2] / s.found;

		fprintf(stderr, " %.0f",
				1000 * sqrt(fmax(s.square[i / 2][i % 2] / s.found - mean * mean, 0)));
		printf("%s%.4f", i > 0 ? "," : "", mean);
	}
	printf("\n");
	fprintf(stderr, "\n");
	return s.found > 0 ? 0 : 1;
}
