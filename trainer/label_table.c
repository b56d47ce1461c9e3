/*
 * label_table.c
 *		The labels of a dataset: from a table of tab- or comma-separated values, or
 *		from UTKFace's file names; see dataset.h.
 */
#include "dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 256

typedef enum column
{
	COLUMN_FILE,
	COLUMN_AGE,
	COLUMN_GENDER,
	COLUMN_RACE,
	COLUMN_PERSON,
	COLUMNS
} column;

static const char *const column_names[COLUMNS] = {"file", "age", "gender", "race", "person"};

typedef struct table
{
	fa_dataset *dataset;
	const char *path;
	long line;             /* number of the one that is looked at */
	char separator;        /* tab or comma, as the first line has it */
	int position[COLUMNS]; /* in a line, or -1 */
	bool *seen;            /* samples that had a line */
	fa_label_reader reader;
} table;

/* Takes the quotes off a field in place; returns where the next separator is, or the end. */
static char *
unquote(char *field, char separator)
{
	char *from = field + 1, *to = field;

	while (*from != '\0' && (*from != '"' || from[1] == '"'))
	{
		from += *from == '"';
		*to++ = *from++;
	}
	from += strcspn(from, (char[]){separator, '\0'});
	*to = '\0';
	return from;
}

/* Cuts a line into fields, in place; what more than MAX_COLUMNS there are is left in the last. */
static int
split(char *line, char separator, char **fields)
{
	int count = 0;
	bool more = true;

	line[strcspn(line, "\r\n")] = '\0';
	while (more && count < MAX_COLUMNS)
	{
		char *end;

		fields[count++] = line;
		end = separator == ',' && *line == '"' ? unquote(line, separator)
											   : line + strcspn(line, (char[]){separator, '\0'});
		more = *end != '\0';
		*end = '\0';
		line = end + 1;
	}
	return count;
}

static fa_status
parse_header(table *t, char *line, fa_error *error)
{
	static const char byte_order_mark[] = "\xef\xbb\xbf";
	char *fields[MAX_COLUMNS];
	int count;

	if (strncmp(line, byte_order_mark, 3) == 0)
		line += 3;
	t->separator = strchr(line, '\t') == NULL && strchr(line, ',') != NULL ? ',' : '\t';
	count = split(line, t->separator, fields);
	for (int c = 0; c < COLUMNS; c++)
	{
		t->position[c] = -1;
		for (int i = 0; i < count; i++)
		{
			if (strcmp(fields[i], column_names[c]) != 0)
				continue;
			if (t->position[c] >= 0)
				return fa_fail(error, FA_INVALID, "%s, line 1: column \"%s\" comes twice", t->path,
							   column_names[c]);
			t->position[c] = i;
		}
	}
	if (t->position[COLUMN_FILE] < 0)
		return fa_fail(error, FA_INVALID, "%s, line 1: there is no column \"file\"", t->path);
	for (int c = COLUMN_AGE; c < COLUMNS; c++)
		if (t->position[c] >= 0)
			return FA_OK;
	return fa_fail(error, FA_INVALID,
				   "%s, line 1: there is no column \"age\", \"gender\", \"race\" or \"person\"",
				   t->path);
}

/* By the whole name, or without its first directory: FairFace's names begin with train/ or val/. */
static fa_sample *
find_sample(const table *t, const char *file)
{
	fa_sample *sample = fa_dataset_find(t->dataset, file);
	const char *slash = strchr(file, '/');

	return sample == NULL && slash != NULL ? fa_dataset_find(t->dataset, slash + 1) : sample;
}

static fa_status
parse_line(table *t, char *line, fa_error *error)
{
	char *fields[MAX_COLUMNS];
	const char *values[COLUMNS];
	int count = split(line, t->separator, fields);
	int64_t unusable = t->reader.unusable;
	fa_sample *sample;

	if (count == 1 && *fields[0] == '\0')
		return FA_OK;
	for (int c = 0; c < COLUMNS; c++)
		values[c] = t->position[c] >= 0 && t->position[c] < count ? fields[t->position[c]] : NULL;
	if (values[COLUMN_FILE] == NULL)
		return fa_fail(error, FA_INVALID, "%s, line %ld: there is no value for \"file\"", t->path,
					   t->line);
	sample = find_sample(t, values[COLUMN_FILE]);
	if (sample == NULL)
		return fa_fail(error, FA_INVALID, "%s, line %ld: the data hold no file \"%s\"", t->path,
					   t->line, values[COLUMN_FILE]);
	if (t->seen[sample - t->dataset->samples])
		return fa_fail(error, FA_INVALID, "%s, line %ld: file \"%s\" comes twice", t->path, t->line,
					   sample->file);
	t->seen[sample - t->dataset->samples] = true;
	FA_TRY(fa_label_reader_add(&t->reader, values[COLUMN_AGE], values[COLUMN_GENDER],
							   values[COLUMN_RACE], values[COLUMN_PERSON], &sample->label, error));
	if (t->reader.unusable > unusable)
		return fa_fail(error, FA_INVALID,
					   "%s, line %ld: \"%s\" is no age (a number or range from 0 to %d)", t->path,
					   t->line, values[COLUMN_AGE], FA_MAX_AGE);
	return FA_OK;
}

/* Names to classes, and what the reader counted. */
static fa_status
settle(fa_dataset *dataset, fa_label_reader *reader, const fa_label_sets *given, fa_error *error)
{
	FA_TRY(fa_label_reader_settle(reader, given, &dataset->sets, error));
	for (int i = 0; i < dataset->count; i++)
		fa_label_reader_apply(reader, &dataset->samples[i].label);
	dataset->unusable = reader->unusable;
	memcpy(dataset->first_unusable, reader->first_unusable, sizeof(dataset->first_unusable));
	return FA_OK;
}

fa_status
fa_dataset_label(fa_dataset *dataset, const char *path, const fa_label_sets *given, fa_error *error)
{
	FILE *file = fopen(path, "r");
	table t = {.dataset = dataset, .path = path};
	char *line = NULL;
	size_t capacity = 0;
	fa_status status = FA_OK;

	if (file == NULL)
		return fa_fail(error, errno == ENOENT ? FA_NOT_FOUND : FA_IO, "%s: %s", path,
					   strerror(errno));
	t.seen = calloc((size_t) dataset->count + 1, sizeof(*t.seen));
	if (t.seen == NULL)
		status = fa_no_memory(error, (size_t) dataset->count);
	while (status == FA_OK && getline(&line, &capacity, file) >= 0)
		status = ++t.line == 1 ? parse_header(&t, line, error) : parse_line(&t, line, error);
	if (status == FA_OK && ferror(file))
		status = fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	if (status == FA_OK && t.line == 0)
		status = fa_fail(error, FA_INVALID, "%s: is empty", path);
	if (status == FA_OK)
		status = settle(dataset, &t.reader, given, error);
	fa_label_reader_free(&t.reader);
	free(t.seen);
	free(line);
	fclose(file);
	return status;
}

fa_status
fa_dataset_label_by_name(fa_dataset *dataset, const fa_label_sets *given, fa_error *error)
{
	fa_label_reader reader = {0};
	int named = 0, incomplete = 0;
	const char *first = "";
	fa_status status = FA_OK;

	for (int i = 0; i < dataset->count && status == FA_OK; i++)
	{
		fa_sample *sample = &dataset->samples[i];
		char age[16] = "", gender[16] = "", race[16] = "";
		float years;
		int gender_class, race_class;
		bool complete;

		fa_parse_utkface_name(sample->file, &years, &gender_class, &race_class, &complete);
		named += complete;
		if (!complete && incomplete++ == 0)
			first = sample->file;
		if (years != FA_NO_LABEL)
			snprintf(age, sizeof(age), "%.0f", years);
		if (gender_class != FA_NO_LABEL)
			snprintf(gender, sizeof(gender), "%d", gender_class);
		if (race_class != FA_NO_LABEL)
			snprintf(race, sizeof(race), "%d", race_class);
		status = fa_label_reader_add(&reader, age, gender, race, NULL, &sample->label, error);
	}
	if (status == FA_OK && named == 0)
		status = fa_fail(error, FA_NOT_FOUND,
						 "no file is named as UTKFace's are ([age]_[gender]_[race]_[time].jpg)");
	if (status == FA_OK)
		status = settle(dataset, &reader, given, error);
	if (status == FA_OK && incomplete > 0)
	{
		dataset->unusable += incomplete;
		snprintf(dataset->first_unusable, sizeof(dataset->first_unusable), "file name \"%.80s\"",
				 first);
	}
	fa_label_reader_free(&reader);
	return status;
}
