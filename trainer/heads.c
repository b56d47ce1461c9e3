/*
 * heads.c
 *		The heads' names and labels; see heads.h.
 */
#include "heads.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

fa_head fa_heads[FA_HEADS] = {{"age", FA_AGE_CLASSES}, {"gender", 2}, {"race", 5}, {"face", 2}};

static const char *const faces[] = {"no", "yes"};

const char *const *fa_head_labels[FA_HEADS] = {NULL, (const char *const *) fa_usual_gender_names,
											   (const char *const *) fa_usual_race_names, faces};

static fa_label_sets sets = {{fa_usual_gender_names, 2}, {fa_usual_race_names, 5}};
static bool owned; /* the sets are copies */

fa_status
fa_heads_set(const fa_label_sets *given, fa_error *error)
{
	fa_label_sets copy;

	FA_TRY(fa_label_sets_copy(given, &copy, error));
	if (owned)
		fa_label_sets_free(&sets);
	sets = copy;
	owned = true;
	fa_heads[FA_HEAD_GENDER].classes = sets.genders.count;
	fa_heads[FA_HEAD_RACE].classes = sets.races.count;
	fa_head_labels[FA_HEAD_GENDER] = (const char *const *) sets.genders.names;
	fa_head_labels[FA_HEAD_RACE] = (const char *const *) sets.races.names;
	return FA_OK;
}

const fa_label_sets *
fa_heads_sets(void)
{
	return &sets;
}

fa_status
fa_heads_write(fa_weights *weights, fa_error *error)
{
	json_t *json = fa_label_sets_to_json(&sets);
	char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
	fa_status status;

	status = text == NULL ? fa_fail(error, FA_INVALID, "a label is no UTF-8")
						  : fa_weights_set(weights, "labels", text, error);
	free(text);
	json_decref(json);
	return status;
}

fa_status
fa_heads_read(const fa_weights *weights, fa_error *error)
{
	const char *text = fa_weights_get(weights, "labels");
	fa_label_sets given;
	json_t *json;
	fa_status status;

	if (text == NULL)
	{
		given = (fa_label_sets){fa_usual_genders, fa_usual_races};
		return fa_heads_set(&given, error);
	}
	json = json_loads(text, 0, NULL);
	status = fa_label_sets_from_json(json, &given, error);
	json_decref(json);
	FA_TRY(status);
	status = fa_heads_set(&given, error);
	fa_label_sets_free(&given);
	return status;
}

/* The labels of a model's head; NULL where the metadata name none. Borrowed from *root. */
static const json_t *
labels_of(const fa_weights *weights, const char *name, json_t **root)
{
	const char *text = fa_weights_get(weights, "heads");

	*root = text == NULL ? NULL : json_loads(text, 0, NULL);
	for (size_t i = 0; i < json_array_size(*root); i++)
	{
		const json_t *head = json_array_get(*root, i);
		const char *its = json_string_value(json_object_get(head, "name"));

		if (its != NULL && strcmp(its, name) == 0)
			return json_object_get(head, "labels");
	}
	json_decref(*root);
	text = fa_weights_get(weights, "labels");
	*root = text == NULL ? NULL : json_loads(text, 0, NULL);
	return json_object_get(*root, name);
}

bool
fa_heads_agree(const fa_weights *weights, int head)
{
	const char *const *names = fa_head_labels[head];
	json_t *root;
	const json_t *labels = labels_of(weights, fa_heads[head].name, &root);
	bool agree = labels == NULL || names == NULL ||
				 json_array_size(labels) == (size_t) fa_heads[head].classes;

	for (size_t i = 0; agree && names != NULL && i < json_array_size(labels); i++)
	{
		const char *name = json_string_value(json_array_get(labels, i));

		agree = name != NULL && strcmp(name, names[i]) == 0;
	}
	json_decref(root);
	return agree;
}
