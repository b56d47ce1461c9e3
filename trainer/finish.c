/*
 * finish.c
 *		A training's model, made and published; see finish.h.
 */
#include "finish.h"

#include "calibrate.h"
#include "publish.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const inheritance[] = {"template", "verification", "licence"};

fa_status
fa_inherit(const char *init, const json_t *record, json_t **inherited, fa_error *error)
{
	fa_weights weights;

	*inherited = json_incref(json_object_get(record, "inherited"));
	if (*inherited != NULL)
		return FA_OK;
	*inherited = json_object();
	if (*inherited == NULL)
		return fa_no_memory(error, 0);
	if (init == NULL)
		return FA_OK;
	FA_TRY(fa_weights_read(&weights, init, error));
	for (size_t i = 0; i < sizeof(inheritance) / sizeof(inheritance[0]); i++)
	{
		const char *value = fa_weights_get(&weights, inheritance[i]);

		if (value != NULL)
			json_object_set_new(*inherited, inheritance[i], json_string(value));
	}
	fa_weights_free(&weights);
	return FA_OK;
}

static fa_status
set_trained(const bool trained[FA_HEADS], fa_weights *weights, fa_error *error)
{
	json_t *list = json_array();
	char *text;
	fa_status status;

	for (int h = 0; h < FA_HEADS; h++)
		if (trained[h])
			json_array_append_new(list, json_string(fa_heads[h].name));
	text = json_dumps(list, JSON_COMPACT);
	status =
		text == NULL ? fa_no_memory(error, 0) : fa_weights_set(weights, "trained", text, error);
	free(text);
	json_decref(list);
	return status;
}

fa_status
fa_describe_training(const fa_train_options *o, const json_t *inherited,
					 const bool trained[FA_HEADS], fa_weights *weights, fa_error *error)
{
	char text[256];
	size_t length = 0;

	for (size_t i = 0; i < sizeof(inheritance) / sizeof(inheritance[0]); i++)
	{
		const char *value = json_string_value(json_object_get(inherited, inheritance[i]));

		if (value != NULL)
			FA_TRY(fa_weights_set(weights, inheritance[i], value, error));
	}
	for (int i = 0; i < o->landmark_template.count; i++)
		length += (size_t) snprintf(text + length, sizeof(text) - length, "%s%.6g",
									i > 0 ? "," : "", o->landmark_template.values[i]);
	FA_TRY(fa_weights_set(weights, "template", text, error));
	snprintf(text, sizeof(text), "%dx%d", o->size, o->size);
	FA_TRY(fa_weights_set(weights, "input", text, error));
	FA_TRY(fa_weights_set(weights, "network", o->network, error));
	FA_TRY(fa_heads_write(weights, error));
	if (o->init != NULL)
	{
		char *path = strdup(o->init);

		if (path == NULL)
			return fa_no_memory(error, strlen(o->init));
		snprintf(text, sizeof(text), "trained from %.200s", basename(path));
		free(path);
	}
	FA_TRY(fa_weights_set(weights, "note", o->init == NULL ? "trained from random weights" : text,
						  error));
	snprintf(text, sizeof(text), "%d", o->task == FA_TASK_EMBED ? 0 : o->hidden);
	FA_TRY(fa_weights_set(weights, "hidden", text, error));
	return set_trained(trained, weights, error);
}

/* ---- The end ----------------------------------------------------------------------------- */

/* The paths of what is made, and what is published beside the model. */
typedef struct products
{
	char best[FA_PATH_LENGTH], model[FA_PATH_LENGTH];
	char metrics[FA_PATH_LENGTH], hyper_parameters[FA_PATH_LENGTH];
	char *metrics_text, *hyper_parameters_text; /* owned */
} products;

static fa_status
write_json(const json_t *json, const char *path, char **text, fa_error *error)
{
	*text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
	if (*text == NULL)
		return fa_no_memory(error, 0);
	return fa_write_file(path, *text, strlen(*text), error);
}

static fa_status
make_model(const fa_finish *f, products *p, fa_error *error)
{
	const fa_model_facts facts = {.licence = NULL};
	fa_folded folded;
	json_t *metrics = NULL;
	fa_status status = fa_fold_training(p->best, &facts, &folded, error);

	if (status == FA_OK)
		status = fa_calibrate(&folded, &facts, f->engine, f->validation, p->model, &metrics, error);
	fa_weights_free(&folded.weights);
	if (status == FA_OK && metrics == NULL)
		metrics = json_pack("{s:i, s:f}", "count", f->validation->faces->count,
							"verification_accuracy", f->scores->means.score[FA_PERSON]);
	if (status == FA_OK)
		status = write_json(metrics, p->metrics, &p->metrics_text, error);
	if (status == FA_OK)
		status = write_json(f->record, p->hyper_parameters, &p->hyper_parameters_text, error);
	json_decref(metrics);
	return status;
}

static fa_status
publish(const fa_finish *f, const products *p, fa_error *error)
{
	const fa_train_options *o = f->options;
	fa_publish_options row = {
		.dsn = o->source.connection != NULL ? o->source.connection : "",
		.name = o->publish,
		.path = p->model,
		.metrics = p->metrics_text,
		.hyper_parameters = p->hyper_parameters_text,
		.query = o->source.query,
		.row_count = f->rows,
	};
	fa_status status = fa_publish(&row, error);

	if (status != FA_OK)
	{
		fprintf(stderr, "faceattr: the model could not be published, but is kept. Later, run\n");
		fa_publish_command(&row, p->metrics, p->hyper_parameters, stderr);
		return status;
	}
	printf("published \"%s\": SET faceattr.model = '%s' uses it\n", o->publish, o->publish);
	return FA_OK;
}

fa_status
fa_finish_training(const fa_finish *f, fa_error *error)
{
	products p = {.metrics_text = NULL};
	const struct
	{
		char *path;
		const char *name;
	} files[] = {{p.best, "best.safetensors"},
				 {p.model, "model.safetensors"},
				 {p.metrics, "metrics.json"},
				 {p.hyper_parameters, "hyper-parameters.json"}};
	fa_status status;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (snprintf(files[i].path, FA_PATH_LENGTH, "%s/%s", f->options->output, files[i].name) >=
			FA_PATH_LENGTH)
			return fa_fail(error, FA_INVALID, "the output folder's path is too long");
	status = make_model(f, &p, error);
	if (status == FA_OK && f->options->publish != NULL)
		status = publish(f, &p, error);
	free(p.metrics_text);
	free(p.hyper_parameters_text);
	return status;
}
