/*
 * label_reader.c
 *		From texts to labels; see label_reader.h.
 */
#include "label_reader.h"

#include "face.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

const fa_label fa_no_label = {FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL};

void
fa_label_sets_free(fa_label_sets *sets)
{
	fa_labels_free(&sets->genders);
	fa_labels_free(&sets->races);
}

fa_status
fa_label_sets_copy(const fa_label_sets *from, fa_label_sets *to, fa_error *error)
{
	fa_status status;

	*to = (fa_label_sets){0};
	FA_TRY(fa_labels_copy(&from->genders, &to->genders, error));
	status = fa_labels_copy(&from->races, &to->races, error);
	if (status != FA_OK)
		fa_label_sets_free(to);
	return status;
}

static json_t *
names_to_json(const fa_labels *labels)
{
	json_t *names = json_array();

	for (int i = 0; i < labels->count; i++)
		if (json_array_append_new(names, json_string(labels->names[i])) != 0)
		{
			json_decref(names);
			return NULL;
		}
	return names;
}

json_t *
fa_label_sets_to_json(const fa_label_sets *sets)
{
	return json_pack("{s:o, s:o}", "gender", names_to_json(&sets->genders), "race",
					 names_to_json(&sets->races));
}

static fa_status
names_from_json(const json_t *json, fa_labels *labels, fa_error *error)
{
	size_t count = json_array_size(json);
	char *names[FA_MAX_CLASSES];

	if (count > FA_MAX_CLASSES)
		return fa_fail(error, FA_DAMAGED, "there are too many labels");
	for (size_t i = 0; i < count; i++)
	{
		names[i] = (char *) json_string_value(json_array_get(json, i));
		if (names[i] == NULL)
			return fa_fail(error, FA_DAMAGED, "a label is no text");
	}
	return fa_labels_copy(&(fa_labels){names, (int) count}, labels, error);
}

fa_status
fa_label_sets_from_json(const json_t *json, fa_label_sets *sets, fa_error *error)
{
	fa_status status;

	*sets = (fa_label_sets){0};
	FA_TRY(names_from_json(json_object_get(json, "gender"), &sets->genders, error));
	status = names_from_json(json_object_get(json, "race"), &sets->races, error);
	if (status != FA_OK)
		fa_label_sets_free(sets);
	return status;
}

static void
count_unusable(fa_label_reader *reader, const char *what, const char *value)
{
	if (reader->unusable++ == 0)
		snprintf(reader->first_unusable, sizeof(reader->first_unusable), "%s \"%s\"", what, value);
}

static fa_status
add_name(fa_dictionary *dictionary, const char *name, int *number, fa_error *error)
{
	if (name == NULL || *name == '\0')
		return FA_OK;
	return fa_dictionary_add(dictionary, name, number, error);
}

fa_status
fa_label_reader_add(fa_label_reader *reader, const char *age, const char *gender, const char *race,
					const char *person, fa_label *label, fa_error *error)
{
	*label = fa_no_label;
	if (age != NULL && !fa_parse_age(age, &label->age_low, &label->age_high))
		count_unusable(reader, "age", age);
	FA_TRY(add_name(&reader->genders, gender, &label->gender, error));
	FA_TRY(add_name(&reader->races, race, &label->race, error));
	return add_name(&reader->persons, person, &label->person, error);
}

fa_status
fa_label_reader_settle(fa_label_reader *reader, const fa_label_sets *given, fa_label_sets *sets,
					   fa_error *error)
{
	const fa_labels *genders = given != NULL && given->genders.count > 0 ? &given->genders : NULL;
	const fa_labels *races = given != NULL && given->races.count > 0 ? &given->races : NULL;
	fa_status status;

	*sets = (fa_label_sets){0};
	FA_TRY(fa_labels_settle(&reader->genders, genders, &fa_usual_genders, "gender", &sets->genders,
							&reader->gender_classes, error));
	status = fa_labels_settle(&reader->races, races, &fa_usual_races, "race", &sets->races,
							  &reader->race_classes, error);
	if (status != FA_OK)
		fa_label_sets_free(sets);
	return status;
}

void
fa_label_reader_apply(fa_label_reader *reader, fa_label *label)
{
	if (label->gender != FA_NO_LABEL)
	{
		int class = reader->gender_classes[label->gender];

		if (class == FA_NO_LABEL)
			count_unusable(reader, "gender", reader->genders.names[label->gender]);
		label->gender = class;
	}
	if (label->race != FA_NO_LABEL)
	{
		int class = reader->race_classes[label->race];

		if (class == FA_NO_LABEL)
			count_unusable(reader, "race", reader->races.names[label->race]);
		label->race = class;
	}
}

void
fa_label_reader_free(fa_label_reader *reader)
{
	fa_dictionary_free(&reader->genders);
	fa_dictionary_free(&reader->races);
	fa_dictionary_free(&reader->persons);
	free(reader->gender_classes);
	free(reader->race_classes);
	*reader = (fa_label_reader){0};
}
