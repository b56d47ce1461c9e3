/*
 * evaluate.c
 *		`faceattr evaluate`: how well a model does on labelled images, in total and
 *		by race, gender and decade of age. Images are ready chips (--crops), or photos
 *		that are detected and aligned first; of several faces the largest counts.
 *
 * Threads take images by number from a counter, each with a pipeline of its own,
 * and write into that number's result; nothing else is shared.
 */
#include "common.h"
#include "trainer.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECADES 11 /* 0-9, 10-19 ... 100 and above */

enum
{
	OPT_LABELS = 256,
	OPT_CROPS,
	OPT_JSON,
	OPT_JOBS
};

typedef struct options
{
	fa_common common;
	const char *data, *labels;
	bool crops, json;
	int jobs;
} options;

static const struct argp_option argp_options[] = {
	{"data", 'd', "TAR|DIR", 0, "Images", 1},
	{"labels", OPT_LABELS, "TSV", 0, "Their labels (default: beside the data)", 1},
	{"crops", OPT_CROPS, 0, 0, "The images are ready chips: no detection", 1},
	{"json", OPT_JSON, 0, 0, "Print JSON", 1},
	{"jobs", OPT_JOBS, "N", 0, "Images at a time (1)", 1},
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
		case OPT_LABELS:
			o->labels = text;
			return 0;
		case OPT_CROPS:
			o->crops = true;
			return 0;
		case OPT_JSON:
			o->json = true;
			return 0;
		case OPT_JOBS:
			o->jobs = atoi(text);
			if (o->jobs < 1 || o->jobs > 256)
				argp_error(state, "%s is no number from 1 to 256", text);
			return 0;
		case ARGP_KEY_END:
			if (o->data == NULL)
				argp_error(state, "--data is needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

typedef struct result
{
	bool found;
	fa_face face;
} result;

typedef struct job
{
	const options *o;
	const fa_dataset *images;
	result *results;
	int next; /* under the lock */
	pthread_mutex_t lock;
	fa_error error; /* the first that ended a thread */
} job;

/* The largest face of a photo; with a border around it where there is none without. */
static fa_status
find_face(fa_pipeline *pipeline, const fa_face_options *face_options, const fa_sample *sample,
		  result *r, fa_error *error)
{
	fa_faces faces;
	uint8_t *bordered;
	size_t length;
	double x, y;
	int width, height;
	fa_status status;

	FA_TRY(fa_find_faces(pipeline, sample->bytes, sample->length, face_options, true, &faces, NULL,
						 error));
	if (faces.count == 0)
	{
		fa_faces_free(&faces);
		FA_TRY(fa_add_border(sample->bytes, sample->length, &bordered, &length, &x, &y, &width,
							 &height, error));
		status = fa_find_faces(pipeline, bordered, length, face_options, true, &faces, NULL, error);
		free(bordered);
		if (status != FA_OK)
			return status;
	}
	r->found = faces.count > 0;
	if (r->found)
		r->face = faces.faces[0];
	fa_faces_free(&faces);
	return FA_OK;
}

static fa_status
judge(const job *j, fa_pipeline *pipeline, const fa_face_options *face_options, int index,
	  fa_error *error)
{
	const fa_sample *sample = &j->images->samples[index];
	result *r = &j->results[index];
	fa_bytes crop = {sample->bytes, sample->length};
	fa_error own;

	if (!j->o->crops)
		return find_face(pipeline, face_options, sample, r, error);
	FA_TRY(fa_classify_crops(pipeline, &crop, 1, face_options->max_pixels, &r->face, &own, NULL,
							 error));
	r->found = own.status == FA_OK;
	if (!r->found)
		*error = own;
	return own.status;
}

static void *
work(void *argument)
{
	job *j = argument;
	fa_pipeline *pipeline;
	fa_face_options face_options;
	fa_error error;

	if (fa_common_open(&j->o->common, &pipeline, &face_options, &error) != FA_OK)
	{
		pthread_mutex_lock(&j->lock);
		if (j->error.status == FA_OK)
			j->error = error;
		pthread_mutex_unlock(&j->lock);
		return NULL;
	}
	for (;;)
	{
		int index;

		pthread_mutex_lock(&j->lock);
		index = j->next++;
		pthread_mutex_unlock(&j->lock);
		if (index >= j->images->count)
			break;
		if (judge(j, pipeline, &face_options, index, &error) != FA_OK)
			fprintf(stderr, "faceattr: %s: %s: %s\n", j->images->samples[index].file, error.message,
					error.detail);
	}
	fa_pipeline_close(pipeline);
	return NULL;
}

/* ---- Figures ----------------------------------------------------------------------- */

typedef struct figures
{
	int count, found, ages, genders, races;
	double age_error;
	int gender_right, race_right, covered;
} figures;

static void
add(figures *f, const fa_sample *sample, const result *r)
{
	f->count++;
	if (!r->found)
		return;
	f->found++;
	if (sample->age >= 0 && r->face.has_age)
	{
		f->ages++;
		f->age_error += fabs(r->face.age - sample->age);
		f->covered += sample->age >= r->face.age_low && sample->age <= r->face.age_high;
	}
	if (sample->gender >= 0 && r->face.has_gender)
	{
		f->genders++;
		f->gender_right += r->face.gender == sample->gender;
	}
	if (sample->race >= 0 && r->face.has_race)
	{
		f->races++;
		f->race_right += r->face.race == sample->race;
	}
}

static double
mean(double sum, int count)
{
	return count > 0 ? sum / count : NAN;
}

static json_t *
number(double value)
{
	return isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null();
}

static json_t *
figures_to_json(const figures *f)
{
	return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o}", "count", f->count, "found", f->found,
					 "age_mae", number(mean(f->age_error, f->ages)), "age_interval_coverage",
					 number(100 * mean(f->covered, f->ages)), "gender_accuracy",
					 number(100 * mean(f->gender_right, f->genders)), "race_accuracy",
					 number(100 * mean(f->race_right, f->races)));
}

static void
print_line(const char *group, const figures *f)
{
	printf("%-14s %7d %7d %9.3f %9.2f %16.2f %14.2f\n", group, f->count, f->found,
		   mean(f->age_error, f->ages), 100 * mean(f->covered, f->ages),
		   100 * mean(f->gender_right, f->genders), 100 * mean(f->race_right, f->races));
}

static void
report(const options *o, const fa_dataset *images, const result *results)
{
	static const char *const races[FA_RACES] = {"White", "Black", "Asian", "Indian", "Other"};
	static const char *const genders[FA_GENDERS] = {"male", "female"};
	figures all = {0}, by_race[FA_RACES] = {0}, by_gender[FA_GENDERS] = {0};
	figures by_decade[DECADES] = {0};
	json_t *json, *groups;

	for (int i = 0; i < images->count; i++)
	{
		const fa_sample *s = &images->samples[i];
		int decade = (int) fmin(s->age / 10, DECADES - 1);

		add(&all, s, &results[i]);
		if (s->race >= 0)
			add(&by_race[s->race], s, &results[i]);
		if (s->gender >= 0)
			add(&by_gender[s->gender], s, &results[i]);
		if (s->age >= 0)
			add(&by_decade[decade], s, &results[i]);
	}
	if (!o->json)
	{
		printf("%-14s %7s %7s %9s %9s %16s %14s\n", "group", "count", "found", "age_mae",
			   "covered %", "gender_accuracy", "race_accuracy");
		print_line("all", &all);
		for (int i = 0; i < FA_RACES; i++)
			print_line(races[i], &by_race[i]);
		for (int i = 0; i < FA_GENDERS; i++)
			print_line(genders[i], &by_gender[i]);
		for (int i = 0; i < DECADES; i++)
		{
			char name[32];

			snprintf(name, sizeof(name), i == DECADES - 1 ? "%d+ years" : "%d-%d years", 10 * i,
					 10 * i + 9);
			print_line(name, &by_decade[i]);
		}
		return;
	}
	json = figures_to_json(&all);
	groups = json_object();
	json_object_set_new(json, "race", groups);
	for (int i = 0; i < FA_RACES; i++)
		json_object_set_new(groups, races[i], figures_to_json(&by_race[i]));
	groups = json_object();
	json_object_set_new(json, "gender", groups);
	for (int i = 0; i < FA_GENDERS; i++)
		json_object_set_new(groups, genders[i], figures_to_json(&by_gender[i]));
	groups = json_object();
	json_object_set_new(json, "decade", groups);
	for (int i = 0; i < DECADES; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "%d", 10 * i);
		json_object_set_new(groups, name, figures_to_json(&by_decade[i]));
	}
	json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
	putchar('\n');
	json_decref(json);
}

int
faceattr_evaluate(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_common_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options, parse_option,
		NULL,         "Evaluates a model on labelled images, in total and by group.",
		children,     NULL,
		NULL};
	options o = {.jobs = 1};
	fa_dataset images;
	job j = {.o = &o, .images = &images, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t threads[256];
	int started = 0;
	fa_error error;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	if (fa_dataset_read_labelled(&images, o.data, o.labels, &error) != FA_OK)
		return fa_complain(&error);
	j.results = calloc((size_t) images.count + 1, sizeof(result));
	if (j.results == NULL)
		fa_no_memory(&j.error, images.count * sizeof(result));
	while (j.results != NULL && started < o.jobs - 1 &&
		   pthread_create(&threads[started], NULL, work, &j) == 0)
		started++;
	if (j.results != NULL)
		work(&j);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (j.error.status == FA_OK)
		report(&o, &images, j.results);
	free(j.results);
	fa_dataset_free(&images);
	return j.error.status == FA_OK ? 0 : fa_complain(&j.error);
}
