/*
 * evaluate.c
 *		`faceattr evaluate`: how well a model does on labelled images of an archive, a
 *		directory or a query, in total and by race, gender and decade of age. Images are
 *		photos that are detected and aligned first, or ready chips (--crops); of several
 *		faces the one in the row's box counts, or the largest.
 *
 * The main thread reads; threads with a pipeline each judge, and append to one list under a
 * lock. The list is put in the order of reading before figures are made of it.
 */
#include "common.h"
#include "figures.h"
#include "source.h"
#include "trainer.h"

#include "../src/face/judge.h"
#include "../src/face/nms.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum
{
	OPT_LABELS = 256,
	OPT_JSON,
	OPT_JOBS,
	OPT_SEED
};

typedef struct options
{
	fa_common common;
	fa_source_options source;
	const char *data, *labels;
	bool json;
	int jobs;
	uint64_t seed;
} options;

static const struct argp_option argp_options[] = {
	{"data", 'd', "TAR|DIR", 0, "Images", 1},
	{"labels", OPT_LABELS, "TSV|CSV", 0, "Their labels (default: beside the data)", 1},
	{"json", OPT_JSON, 0, 0, "Print JSON", 1},
	{"jobs", OPT_JOBS, "N", 0, "Images at a time (1)", 1},
	{"seed", OPT_SEED, "N", 0, "Of the bootstrap (1)", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;
	double number;

	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->common;
			state->child_inputs[1] = &o->source;
			return 0;
		case 'd':
			o->data = text;
			return 0;
		case OPT_LABELS:
			o->labels = text;
			return 0;
		case OPT_JSON:
			o->json = true;
			return 0;
		case OPT_JOBS:
			if (!fa_parse_numbers(text, &number, 1) || number < 1 || number > 256)
				argp_error(state, "%s is no number from 1 to 256", text);
			o->jobs = (int) number;
			return 0;
		case OPT_SEED:
			o->seed = strtoull(text, NULL, 10);
			return 0;
		case ARGP_KEY_END:
			if ((o->data == NULL) == (o->source.query == NULL))
				argp_error(state, "either --data or --query is needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* What is kept of an image: its label and the face. */
typedef struct outcome
{
	int64_t number;
	fa_label label;
	bool found;
	fa_face face;
	float *embedding; /* where the person is known and a face was found; owned */
} outcome;

typedef struct evaluation
{
	const options *o;
	fa_label_reader reader; /* of a query */
	fa_pool *pool;
	int64_t rows;
	pthread_mutex_t lock; /* of what follows */
	outcome *outcomes;
	int count, capacity, bad;
	int embedding_size;
	fa_label_sets model; /* labels of the model's heads; those that it lacks are empty */
} evaluation;

/* --- Judging --------------------------------------------------------------------- */

typedef struct judge
{
	fa_pipeline *pipeline;
	fa_face_options face;
} judge;

/* A crop from a cache shows more than the network does: its middle, as PNG. */
static fa_status
middle(const fa_sample *sample, uint8_t **bytes, size_t *length, fa_error *error)
{
	fa_photo photo;
	fa_view view;
	fa_image part;
	fa_status status;

	FA_TRY(fa_photo_open(&photo, sample->bytes, sample->length, fa_default_options().max_pixels,
						 error));
	FA_TRY(fa_photo_decode(&photo, 8, &view, NULL, error));
	part = view.image;
	part.width = (int) (view.image.width / sample->zoom + 0.5f);
	part.height = (int) (view.image.height / sample->zoom + 0.5f);
	part.pixels += (size_t) ((view.image.height - part.height) / 2) * part.stride +
				   3 * (size_t) ((view.image.width - part.width) / 2);
	status = fa_photo_encode(&part, FA_FORMAT_PNG, 0, bytes, length, NULL, error);
	fa_image_free(&view.image);
	return status;
}

/* Room for an embedding. */
static fa_status
need_embedding(const judge *j, outcome *result, fa_error *error)
{
	size_t bytes = (size_t) fa_pipeline_embedding_size(j->pipeline) * sizeof(float);

	result->embedding = malloc(bytes);
	return result->embedding == NULL ? fa_no_memory(error, bytes) : FA_OK;
}

static fa_status
embed_crop(judge *j, const fa_bytes *crop, outcome *result, fa_error *error)
{
	FA_TRY(need_embedding(j, result, error));
	return fa_embed_crop(j->pipeline, crop->bytes, crop->length, j->face.max_pixels, &result->face,
						 result->embedding, NULL, error);
}

static fa_status
judge_crop(judge *j, const fa_sample *sample, outcome *result, fa_error *error)
{
	fa_bytes crop = {sample->bytes, sample->length};
	uint8_t *cut = NULL;
	fa_error own = {.status = FA_OK};
	fa_status status;

	if (sample->zoom > 1)
	{
		FA_TRY(middle(sample, &cut, &crop.length, error));
		crop.bytes = cut;
	}
	if (result->label.person >= 0)
		status = embed_crop(j, &crop, result, error);
	else
		status = fa_classify_crops(j->pipeline, &crop, 1, j->face.max_pixels, &result->face, &own,
								   NULL, error);
	free(cut);
	if (status == FA_OK && own.status != FA_OK)
	{
		*error = own;
		status = own.status;
	}
	result->found = status == FA_OK;
	return status;
}

/* The face that the label is of, by its box or its size; -1: none. */
static int
choose(const fa_faces *faces, const fa_sample *sample)
{
	if (fa_area(&sample->box) > 0)
		return fa_face_in_box(faces, &sample->box);
	return faces->count > 0 ? 0 : -1;
}

/* Leaves the result as it is where no face is found without a border. */
static fa_status
embed_photo(judge *j, const fa_sample *sample, outcome *result, fa_error *error)
{
	fa_faces faces;
	float *embeddings;
	int dimension, chosen;
	fa_status status = FA_OK;

	FA_TRY(fa_embed_faces(j->pipeline, sample->bytes, sample->length, &j->face, &faces, &embeddings,
						  &dimension, NULL, error));
	chosen = choose(&faces, sample);
	if (chosen >= 0)
		status = need_embedding(j, result, error);
	if (chosen >= 0 && status == FA_OK)
	{
		result->found = true;
		result->face = faces.faces[chosen];
		memcpy(result->embedding, embeddings + (size_t) chosen * dimension,
			   (size_t) dimension * sizeof(float));
	}
	free(embeddings);
	fa_faces_free(&faces);
	return status;
}

static fa_status
judge_photo(judge *j, const fa_sample *sample, outcome *result, fa_error *error)
{
	fa_faces faces;
	int chosen;

	if (result->label.person >= 0)
		FA_TRY(embed_photo(j, sample, result, error));
	if (result->found)
		return FA_OK;
	FA_TRY(fa_find_faces_anyhow(j->pipeline, sample->bytes, sample->length, &j->face, true, &faces,
								error));
	chosen = choose(&faces, sample);
	result->found = chosen >= 0;
	if (result->found)
		result->face = faces.faces[chosen];
	fa_faces_free(&faces);
	return FA_OK;
}

static fa_status
append(evaluation *e, const outcome *result, fa_error *error)
{
	if (e->count == e->capacity)
	{
		int capacity = e->capacity > 0 ? 2 * e->capacity : 1024;
		outcome *larger;

		if (capacity > INT32_MAX / 4)
			return fa_fail(error, FA_TOO_LARGE, "there are too many images");
		larger = realloc(e->outcomes, (size_t) capacity * sizeof(*larger));
		if (larger == NULL)
			return fa_no_memory(error, (size_t) capacity * sizeof(*larger));
		e->outcomes = larger;
		e->capacity = capacity;
	}
	e->outcomes[e->count++] = *result;
	return FA_OK;
}

static fa_status
work(void *argument, void *state, const fa_job *job, fa_error *error)
{
	evaluation *e = argument;
	outcome result = {.number = job->number, .label = job->sample.label};
	fa_status status;

	if (job->sample.bytes == NULL)
		status = fa_fail(error, FA_DAMAGED, "the image is NULL");
	else
		status =
			(e->o->source.crops ? judge_crop : judge_photo)(state, &job->sample, &result, error);
	if (status != FA_OK)
		free(result.embedding);
	if (status == FA_NO_MEMORY || status == FA_INTERNAL)
		return status;
	pthread_mutex_lock(&e->lock);
	if (status == FA_OK)
	{
		status = append(e, &result, error);
		if (status != FA_OK)
			free(result.embedding);
	}
	else
	{
		e->bad++;
		fprintf(stderr, "faceattr: %s: %s: %s\n", job->sample.file, error->message, error->detail);
		status = FA_OK;
	}
	pthread_mutex_unlock(&e->lock);
	return status;
}

static void
close_judge(void *state)
{
	judge *j = state;

	if (j == NULL)
		return;
	fa_pipeline_close(j->pipeline);
	free(j);
}

static fa_status
open_judge(void *argument, void **state, fa_error *error)
{
	evaluation *e = argument;
	judge *j = calloc(1, sizeof(*j));
	fa_status status;

	if (j == NULL)
		return fa_no_memory(error, sizeof(*j));
	*state = j;
	FA_TRY(fa_common_open(&e->o->common, &j->pipeline, &j->face, error));
	pthread_mutex_lock(&e->lock);
	status = FA_OK;
	e->embedding_size = fa_pipeline_embedding_size(j->pipeline);
	if (e->model.genders.count == 0 && e->model.races.count == 0)
		status = fa_model_sets(j->pipeline, &e->model, error);
	pthread_mutex_unlock(&e->lock);
	return status;
}

/* --- Reading --------------------------------------------------------------------- */

static fa_status
take_row(void *argument, const fa_row *row, fa_error *error)
{
	evaluation *e = argument;
	fa_job job = {.number = row->number, .owned = true};

	FA_TRY(fa_sample_of_row(row, &e->reader, &job.sample, error));
	FA_TRY(fa_pool_put(e->pool, &job, error));
	if (row->number % 100 == 0 && isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%lld rows", (long long) row->number);
	return FA_OK;
}

static fa_status
read_images(evaluation *e, const fa_dataset *images, fa_error *error)
{
	const options *o = e->o;

	if (o->source.query != NULL)
		return fa_query_run(o->source.connection, o->source.query, "faceattr evaluate", take_row, e,
							&fa_on_signal, error);
	for (int i = 0; i < images->count; i++)
	{
		fa_job job = {.sample = images->samples[i], .number = i};

		FA_TRY(fa_check_interrupt(&fa_on_signal, error));
		FA_TRY(fa_pool_put(e->pool, &job, error));
	}
	return FA_OK;
}

/* All images judged: *sets are those of the data, to be freed. */
static fa_status
judge_all(evaluation *e, fa_dataset *images, fa_label_sets *sets, fa_error *error)
{
	const options *o = e->o;
	const fa_pool_work pool = {open_judge, work, close_judge, e};
	fa_label_sets given;
	fa_error late;
	fa_status status;

	FA_TRY(fa_source_sets(&o->source, &given, error));
	status = o->data == NULL ? FA_OK
							 : fa_dataset_read_labelled(images, o->data, o->labels, &given, error);
	if (status == FA_OK)
		status = fa_pool_open(&pool, o->jobs, &e->pool, error);
	if (status == FA_OK)
	{
		status = read_images(e, images, error);
		if (fa_pool_close(e->pool, status != FA_OK, &late) != FA_OK && status == FA_OK)
		{
			*error = late;
			status = late.status;
		}
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r\033[K");
	}
	if (status == FA_OK && o->data != NULL)
		status = fa_label_sets_copy(&images->sets, sets, error);
	else if (status == FA_OK)
		status = fa_label_reader_settle(&e->reader, &given, sets, error);
	for (int i = 0; i < e->count && status == FA_OK && o->data == NULL; i++)
		fa_label_reader_apply(&e->reader, &e->outcomes[i].label);
	fa_label_sets_free(&given);
	return status;
}

/* --- Figures --------------------------------------------------------------------- */

static int
compare_outcomes(const void *left, const void *right)
{
	const outcome *a = left, *b = right;

	return a->number < b->number ? -1 : a->number > b->number;
}

/* Labels of the data that the model does not know count neither way; that is said. */
static void
tell_unknown(const char *what, const fa_labels *data, const fa_labels *model)
{
	for (int i = 0; i < data->count && model->count > 0; i++)
		if (fa_labels_find(model, data->names[i]) == FA_NO_LABEL)
			fprintf(stderr, "faceattr: the model does not know the %s \"%s\"\n", what,
					data->names[i]);
}

/* Of those whose person is known. */
static fa_status
verify(const evaluation *e, fa_person_figures *figures, fa_error *error)
{
	size_t size = (size_t) e->embedding_size;
	float *embeddings;
	int *persons, count = 0;
	fa_status status;

	for (int i = 0; i < e->count; i++)
		count += e->outcomes[i].embedding != NULL;
	embeddings = malloc((size_t) count * size * sizeof(float) + 1);
	persons = malloc((size_t) count * sizeof(int) + 1);
	status = embeddings == NULL || persons == NULL
				 ? fa_no_memory(error, (size_t) count * size * sizeof(float))
				 : FA_OK;
	count = 0;
	for (int i = 0; i < e->count && status == FA_OK; i++)
		if (e->outcomes[i].embedding != NULL)
		{
			memcpy(embeddings + count * size, e->outcomes[i].embedding, size * sizeof(float));
			persons[count++] = e->outcomes[i].label.person;
		}
	if (status == FA_OK)
		status =
			fa_verify_persons(embeddings, persons, count, (int) size, e->o->seed, figures, error);
	free(embeddings);
	free(persons);
	return status;
}

static fa_status
report(evaluation *e, const fa_dataset *images, const fa_label_sets *sets, fa_error *error)
{
	int64_t unusable = e->reader.unusable + images->unusable;
	fa_judgement *judgements = malloc(((size_t) e->count + 1) * sizeof(*judgements));
	fa_person_figures persons;
	fa_status status;

	if (judgements == NULL)
		return fa_no_memory(error, ((size_t) e->count + 1) * sizeof(*judgements));
	if (e->count > 0)
		qsort(e->outcomes, (size_t) e->count, sizeof(outcome), compare_outcomes);
	for (int i = 0; i < e->count; i++)
		judgements[i] = fa_judge(&e->outcomes[i].label, sets,
								 e->outcomes[i].found ? &e->outcomes[i].face : NULL, &e->model);
	tell_unknown("gender", &sets->genders, &e->model.genders);
	tell_unknown("race", &sets->races, &e->model.races);
	if (unusable > 0)
		fprintf(stderr, "faceattr: %lld values are no label, the first is %s\n",
				(long long) unusable,
				images->unusable > 0 ? images->first_unusable : e->reader.first_unusable);
	status = verify(e, &persons, error);
	if (status == FA_OK)
		status = (e->o->json ? fa_figures_to_json : fa_figures_to_text)(
			judgements, e->count, e->bad, sets, &persons, e->o->seed, &fa_on_signal, error);
	free(judgements);
	return status;
}

int
faceattr_evaluate(int argc, char **argv)
{
	static const struct argp_child children[] = {
		{&fa_common_argp, 0, NULL, 0}, {&fa_source_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options, parse_option,
		NULL,         "Evaluates a model on labelled images, in total and by group.",
		children,     NULL,
		NULL};
	options o = {.jobs = 1, .seed = 1};
	evaluation e = {.o = &o, .lock = PTHREAD_MUTEX_INITIALIZER};
	fa_dataset images = {0};
	fa_label_sets sets = {0};
	fa_error error = {.status = FA_OK};
	fa_status status;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	fa_catch_signals(false);
	status = judge_all(&e, &images, &sets, &error);
	if (status == FA_OK)
		status = report(&e, &images, &sets, &error);
	for (int i = 0; i < e.count; i++)
		free(e.outcomes[i].embedding);
	free(e.outcomes);
	fa_label_sets_free(&e.model);
	fa_label_sets_free(&sets);
	fa_label_reader_free(&e.reader);
	fa_dataset_free(&images);
	if (status != FA_OK)
		fa_complain(&error);
	return status == FA_INTERRUPTED ? 130 : status != FA_OK;
}
