/*
 * label_reader.h
 *		The labels of faces, from the texts of a table's line or a query's row. Names
 *		are numbers of dictionaries until all is read; then the sets of labels are
 *		settled and the numbers become classes.
 *
 * Belongs to the one thread that reads.
 */
#ifndef FA_LABEL_READER_H
#define FA_LABEL_READER_H

#include "labels.h"

struct json_t; /* jansson.h, whose names meet those of others */

/* What is known of a face. Ages are whole years where they are a range. */
typedef struct fa_label
{
	float age_low, age_high; /* years, the same for an age that is known; or FA_NO_LABEL */
	int gender, race;        /* class, or FA_NO_LABEL */
	int person;              /* number, or FA_NO_LABEL */
} fa_label;

extern const fa_label fa_no_label;

/* The age, or the middle of the range, or FA_NO_LABEL. */
static inline float
fa_label_age(const fa_label *label)
{
	return (label->age_low + label->age_high) / 2;
}

/* Sets that the user gave; either may be empty: then it follows from the data. */
typedef struct fa_label_sets
{
	fa_labels genders, races;
} fa_label_sets;

extern fa_status fa_label_sets_copy(const fa_label_sets *from, fa_label_sets *to, fa_error *error);
/* {"gender": [names], "race": [names]}; NULL where a name is no UTF-8, or memory is short. */
extern struct json_t *fa_label_sets_to_json(const fa_label_sets *sets);
extern fa_status fa_label_sets_from_json(const struct json_t *json, fa_label_sets *sets,
										 fa_error *error);
extern void fa_label_sets_free(fa_label_sets *sets);

typedef struct fa_label_reader
{
	fa_dictionary genders, races, persons;
	int *gender_classes, *race_classes; /* of the dictionaries' numbers, once settled */
	int64_t unusable;                   /* values that were no label */
	char first_unusable[96];            /* "race \"Klingon\"" */
} fa_label_reader;

/*
 * NULL and "" are no label, as is a text that is no age: that one is counted. NULL for the
 * whole of a column that there is not.
 */
extern fa_status fa_label_reader_add(fa_label_reader *reader, const char *age, const char *gender,
									 const char *race, const char *person, fa_label *label,
									 fa_error *error);
/* *sets: the classes' names (fa_labels_settle), to be freed; given may be NULL. */
extern fa_status fa_label_reader_settle(fa_label_reader *reader, const fa_label_sets *given,
										fa_label_sets *sets, fa_error *error);
/* Numbers to classes, after settling; what is in no set is counted as unusable. */
extern void fa_label_reader_apply(fa_label_reader *reader, fa_label *label);
extern void fa_label_reader_free(fa_label_reader *reader);

#endif
