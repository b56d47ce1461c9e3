/*
 * source.c
 *		Labelled images for a training; see source.h. The main thread reads the query and
 *		its labels, the crop maker's threads look at the images.
 */
#include "source.h"

#include "../src/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum
{
	OPT_DSN = 1024,
	OPT_QUERY,
	OPT_CROPS,
	OPT_GENDER_LABELS,
	OPT_RACE_LABELS
};

/* --- Options --------------------------------------------------------------------- */

static const struct argp_option options[] = {
	{"dsn", OPT_DSN, "CONNECTION", 0, "PostgreSQL's connection string (default: PG* variables)", 8},
	{"query", OPT_QUERY, "SQL", 0,
	 "Rows with the columns image, age (or birth_date and photo_date), gender, race, person; box "
	 "where a photo shows several faces; key or id to name rows by",
	 8},
	{"crops", OPT_CROPS, 0, 0, "The images are ready chips (a query's are photos otherwise)", 8},
	{"gender-labels", OPT_GENDER_LABELS, "A,B,...", 0,
	 "Names of the classes (as the data have them)", 8},
	{"race-labels", OPT_RACE_LABELS, "A,B,...", 0, "The same of race", 8},
	{0}};

static error_t
parse(int key, char *text, struct argp_state *state)
{
	fa_source_options *o = state->input;

	switch (key)
	{
		case OPT_DSN:
			o->connection = text;
			return 0;
		case OPT_QUERY:
			o->query = text;
			return 0;
		case OPT_CROPS:
			o->crops = true;
			return 0;
		case OPT_GENDER_LABELS:
			o->genders = text;
			return 0;
		case OPT_RACE_LABELS:
			o->races = text;
			return 0;
		case ARGP_KEY_END:
			if (o->connection != NULL && o->query == NULL)
				argp_error(state, "--dsn is for --query");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

const struct argp fa_source_argp = {options, parse, NULL, NULL, NULL, NULL, NULL};
fa_status
fa_source_sets(const fa_source_options *o, fa_label_sets *sets, fa_error *error)
{
	fa_status status = FA_OK;

	*sets = (fa_label_sets){0};
	if (o->genders != NULL)
		status = fa_labels_parse(o->genders, "--gender-labels", &sets->genders, error);
	if (status == FA_OK && o->races != NULL)
		status = fa_labels_parse(o->races, "--race-labels", &sets->races, error);
	if (status != FA_OK)
		fa_label_sets_free(sets);
	return status;
}

/* --- Rows ------------------------------------------------------------------------ */

fa_status
fa_sample_of_row(const fa_row *row, fa_label_reader *reader, fa_sample *sample, fa_error *error)
{
	*sample = (fa_sample){.length = row->length, .zoom = 1, .box = row->box};
	FA_TRY(fa_label_reader_add(reader, row->age, row->gender, row->race, row->person,
							   &sample->label, error));
	sample->file = strdup(row->name);
	if (row->image != NULL)
		sample->bytes = malloc(row->length + 1);
	if (sample->file == NULL || (row->image != NULL && sample->bytes == NULL))
	{
		free(sample->file);
		free(sample->bytes);
		return fa_no_memory(error, row->length);
	}
	if (row->image != NULL)
		memcpy(sample->bytes, row->image, row->length);
	return FA_OK;
}

enum
{
	TRAINING,
	VALIDATION
};

/* One pass over a query, or over the photos of a dataset, into one cache or two. */
typedef struct pass
{
	const fa_source_options *o;
	const fa_training_source *source;
	const char *query;
	const fa_dataset *photos;
	fa_label_reader reader;
	fa_crop_maker *maker;
	int target;     /* of all rows, where none are held back */
	bool hold_back; /* some rows are for validation */
	int64_t rows;
} pass;

/* A generator for what the row is, not for where it comes. */
static fa_random
random_of_row(uint64_t seed, const fa_row *row)
{
	const char *text = row->person != NULL ? row->person : row->key;
	uint64_t digest = 0;

	if (text == NULL)
		return fa_random_seed(seed, 7, (uint64_t) row->number);
	for (; *text != '\0'; text++)
		digest = fa_mix(digest + (uint8_t) *text + 1);
	return fa_random_seed(seed, 8, digest);
}

static fa_status
put(pass *p, const fa_job *job, fa_error *error)
{
	FA_TRY(fa_crop_maker_put(p->maker, job, error));
	if (++p->rows % 100 == 0 && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%lld images", (long long) p->rows);
	return FA_OK;
}

static fa_status
take_row(void *argument, const fa_row *row, fa_error *error)
{
	pass *p = argument;
	fa_random random = random_of_row(p->source->seed, row);
	fa_job job = {.number = row->number, .target = p->target, .owned = true};

	if (p->hold_back && fa_random_chance(&random, p->o->validation_share))
		job.target = VALIDATION;
	FA_TRY(fa_sample_of_row(row, &p->reader, &job.sample, error));
	return put(p, &job, error);
}

/* Reads all that there is; the crop maker's threads follow. */
static fa_status
read_all(pass *p, fa_error *error)
{
	if (p->photos == NULL)
		return fa_query_run(p->o->connection, p->query, "faceattr train", take_row, p,
							p->source->interrupt, error);
	for (int i = 0; i < p->photos->count; i++)
	{
		fa_job job = {.sample = p->photos->samples[i], .number = i, .target = p->target};

		FA_TRY(fa_check_interrupt(p->source->interrupt, error));
		FA_TRY(put(p, &job, error));
	}
	return FA_OK;
}

static void
tell(const pass *p, const fa_crop_counts *counts)
{
	fprintf(
		stderr,
		"%s%lld images: %lld faces to train on, %lld to validate on; left out: %lld bad images, "
		"%lld photos without a face, %lld with several\n",
		isatty(STDERR_FILENO) ? "\r\033[K" : "", (long long) p->rows,
		(long long) counts->kept[TRAINING], (long long) counts->kept[VALIDATION],
		(long long) counts->damaged, (long long) counts->no_face, (long long) counts->several);
}

static void
tell_unusable(const fa_dataset *dataset)
{
	if (dataset->unusable > 0)
		fprintf(stderr, "faceattr: %lld values are no label, the first is %s\n",
				(long long) dataset->unusable, dataset->first_unusable);
}

/*
 * Fills the caches that there are (NULL: no such). *sets: the data's, to be freed; the samples of
 * a dataset have their classes already, a query's get theirs at the end.
 */
static fa_status
fill(pass *p, fa_crop_cache *caches[FA_CROP_TARGETS], const char *origin,
	 const fa_label_sets *given, fa_label_sets *sets, fa_error *error)
{
	fa_crop_counts counts;
	fa_error late;
	fa_status status;

	FA_TRY(fa_crop_maker_open(&p->source->crops, p->source->threads, caches, &p->maker, error));
	status = read_all(p, error);
	if (fa_crop_maker_close(p->maker, status != FA_OK, &counts, &late) != FA_OK && status == FA_OK)
	{
		*error = late;
		status = late.status;
	}
	FA_TRY(status);
	tell(p, &counts);
	if (p->photos == NULL)
		FA_TRY(fa_label_reader_settle(&p->reader, given, sets, error));
	else
		FA_TRY(fa_label_sets_copy(&p->photos->sets, sets, error));
	for (int i = 0; i < FA_CROP_TARGETS && status == FA_OK; i++)
	{
		fa_crop_cache *cache = caches[i];

		caches[i] = NULL;
		if (cache != NULL)
			status = fa_crop_cache_finish(cache, p->photos == NULL ? &p->reader : NULL, sets,
										  origin, error);
	}
	if (status != FA_OK)
		fa_label_sets_free(sets);
	return status;
}

/* A pass into the caches at the paths; NULL: none. */
static fa_status
run_pass(pass *p, char *const paths[FA_CROP_TARGETS], const char *origin,
		 const fa_label_sets *given, fa_label_sets *sets, fa_error *error)
{
	fa_crop_cache *caches[FA_CROP_TARGETS] = {NULL};
	fa_status status = FA_OK;

	p->target = paths[TRAINING] != NULL ? TRAINING : VALIDATION;
	p->hold_back = paths[TRAINING] != NULL && paths[VALIDATION] != NULL;
	for (int i = 0; i < FA_CROP_TARGETS && status == FA_OK; i++)
		if (paths[i] != NULL)
			status = fa_crop_cache_create(paths[i], (uint64_t) (p->o->cache_megabytes * (1 << 20)),
										  &caches[i], error);
	if (status == FA_OK)
		status = fill(p, caches, origin, given, sets, error);
	for (int i = 0; i < FA_CROP_TARGETS; i++)
		fa_crop_cache_abandon(caches[i]);
	fa_label_reader_free(&p->reader);
	return status;
}

/* --- Datasets -------------------------------------------------------------------- */

static const char *
text_or_empty(const char *text)
{
	return text != NULL ? text : "";
}

/* What decides what is in the caches, for a resumed training to compare. */
static char *
describe_origin(const fa_source_options *o, const fa_training_source *source)
{
	const fa_crop_options *c = &source->crops;
	char *text, landmarks[FA_LANDMARKS * 2 * 16] = "";

	for (int i = 0; i < 2 * FA_LANDMARKS && !c->ready; i++)
		snprintf(landmarks + strlen(landmarks), sizeof(landmarks) - strlen(landmarks), " %.5f",
				 c->landmark_template[i / 2][i % 2]);
	if (asprintf(&text,
				 "from %s\nvalidation %s\nshare %.9g seed %llu genders %s races %s size %d "
				 "landmarks%s",
				 o->query != NULL ? o->query : source->data,
				 text_or_empty(o->query != NULL ? o->validation_query : source->validation),
				 o->validation_share, (unsigned long long) source->seed, text_or_empty(o->genders),
				 text_or_empty(o->races), c->ready ? 0 : c->size, landmarks) < 0)
		return NULL;
	return text;
}

/* Both caches from the query, or one each from two. */
static fa_status
make_from_queries(const fa_source_options *o, const fa_training_source *source,
				  char *const paths[FA_CROP_TARGETS], const char *origin, fa_error *error)
{
	char *const first[] = {paths[TRAINING], o->validation_query == NULL ? paths[VALIDATION] : NULL};
	char *const second[] = {NULL, paths[VALIDATION]};
	pass p = {.o = o, .source = source, .query = o->query};
	fa_label_sets given, sets, same;
	fa_status status;

	FA_TRY(fa_source_sets(o, &given, error));
	status = run_pass(&p, first, origin, &given, &sets, error);
	fa_label_sets_free(&given);
	FA_TRY(status);
	if (o->validation_query != NULL)
	{
		p = (pass){.o = o, .source = source, .query = o->validation_query};
		status = run_pass(&p, second, origin, &sets, &same, error);
		if (status == FA_OK)
			fa_label_sets_free(&same);
	}
	fa_label_sets_free(&sets);
	return status;
}

static fa_status
read_archives(const fa_source_options *o, const fa_training_source *source, fa_dataset *training,
			  fa_dataset *validation, fa_error *error)
{
	fa_label_sets given;
	fa_status status;

	FA_TRY(fa_source_sets(o, &given, error));
	status = fa_dataset_read_labelled(training, source->data, source->labels, &given, error);
	fa_label_sets_free(&given);
	FA_TRY(status);
	return fa_dataset_read_labelled(validation, source->validation, source->validation_labels,
									&training->sets, error);
}

static fa_status
make_from_archives(const fa_source_options *o, const fa_training_source *source,
				   char *const paths[FA_CROP_TARGETS], const char *origin, fa_error *error)
{
	fa_dataset photos[FA_CROP_TARGETS] = {{0}};
	fa_status status = read_archives(o, source, &photos[TRAINING], &photos[VALIDATION], error);

	for (int i = 0; i < FA_CROP_TARGETS && status == FA_OK; i++)
	{
		pass p = {.o = o, .source = source, .photos = &photos[i]};
		char *target[FA_CROP_TARGETS] = {NULL};
		fa_label_sets sets;

		tell_unusable(&photos[i]);
		target[i] = paths[i];
		status = run_pass(&p, target, origin, NULL, &sets, error);
		if (status == FA_OK)
			fa_label_sets_free(&sets);
	}
	fa_dataset_free(&photos[TRAINING]);
	fa_dataset_free(&photos[VALIDATION]);
	return status;
}

static bool
is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* By way of caches, which a resumed training takes up again. */
static fa_status
read_cached(const fa_source_options *o, const fa_training_source *source, fa_dataset *training,
			fa_dataset *validation, fa_error *error)
{
	const char *directory = o->cache != NULL ? o->cache : source->output;
	char *paths[FA_CROP_TARGETS], *origin = describe_origin(o, source);
	fa_status status = FA_OK;

	if (asprintf(&paths[TRAINING], "%s/train.crops", directory) < 0)
		paths[TRAINING] = NULL;
	if (asprintf(&paths[VALIDATION], "%s/val.crops", directory) < 0)
		paths[VALIDATION] = NULL;
	if (origin == NULL || paths[TRAINING] == NULL || paths[VALIDATION] == NULL)
		status = fa_no_memory(error, strlen(directory));
	else if (!source->resume || !is_there(paths[TRAINING]) || !is_there(paths[VALIDATION]))
		status = (o->query != NULL ? make_from_queries : make_from_archives)(o, source, paths,
																			 origin, error);
	if (status == FA_OK)
		status = fa_crop_cache_open(paths[TRAINING], origin, training, error);
	if (status == FA_OK)
		status = fa_crop_cache_open(paths[VALIDATION], origin, validation, error);
	free(origin);
	free(paths[TRAINING]);
	free(paths[VALIDATION]);
	return status;
}

static bool
same_names(const fa_labels *a, const fa_labels *b)
{
	for (int i = 0; i < a->count && i < b->count; i++)
		if (strcasecmp(a->names[i], b->names[i]) != 0)
			return false;
	return a->count == b->count;
}

static fa_status
check(const fa_dataset *training, const fa_dataset *validation, fa_error *error)
{
	if (training->count == 0 || validation->count == 0)
	{
		fa_fail(error, FA_INVALID, "there are no faces to %s on",
				training->count == 0 ? "train" : "validate");
		return fa_detail(error, "Of few rows none may be held back: see --val-share.");
	}
	if (!same_names(&training->sets.genders, &validation->sets.genders) ||
		!same_names(&training->sets.races, &validation->sets.races))
		return fa_fail(error, FA_INVALID,
					   "the data to train and to validate on have different sets of labels");
	return FA_OK;
}

fa_status
fa_source_read(const fa_source_options *o, const fa_training_source *source, fa_dataset *training,
			   fa_dataset *validation, fa_error *error)
{
	fa_training_source s = *source;
	fa_status status;

	*training = *validation = (fa_dataset){0};
	s.crops.ready = o->crops || (o->query == NULL && !o->photos);
	if (o->query == NULL && s.crops.ready)
		status = read_archives(o, &s, training, validation, error);
	else
		status = read_cached(o, &s, training, validation, error);
	if (status == FA_OK)
		status = check(training, validation, error);
	if (status != FA_OK)
	{
		fa_dataset_free(training);
		fa_dataset_free(validation);
		return status;
	}
	tell_unusable(training);
	if (o->query == NULL || o->validation_query != NULL)
		tell_unusable(validation);
	return FA_OK;
}
