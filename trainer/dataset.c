/*
 * dataset.c
 *		Reading images and labels; see dataset.h. libarchive walks archives and
 *		directories by the same calls.
 */
#define _GNU_SOURCE
#include "dataset.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_FILE_SIZE ((int64_t) 256 << 20)
#define MAX_COLUMNS 256

static bool
wanted(const char *name)
{
	const char *base = strrchr(name, '/');
	size_t length;

	base = base != NULL ? base + 1 : name;
	length = strlen(base);
	return length > 0 && base[0] != '.' && !(length >= 4 && strcmp(base + length - 4, ".tsv") == 0);
}

/* The rest of the entry becomes sample->bytes. */
static fa_status
read_bytes(struct archive *archive, int64_t size, fa_sample *sample, const char *path,
		   fa_error *error)
{
	if (size < 0 || size > MAX_FILE_SIZE)
	{
		fa_fail(error, FA_TOO_LARGE, "%s: file \"%s\" is too large", path, sample->file);
		return fa_detail(error, "At most %lld MB are read.", (long long) (MAX_FILE_SIZE >> 20));
	}
	sample->bytes = malloc(size > 0 ? (size_t) size : 1);
	if (sample->bytes == NULL)
		return fa_no_memory(error, (size_t) size);
	while (sample->length < (size_t) size)
	{
		la_ssize_t got = archive_read_data(archive, sample->bytes + sample->length,
										   (size_t) size - sample->length);

		if (got <= 0)
		{
			fa_fail(error, FA_DAMAGED, "%s: file \"%s\" is cut short", path, sample->file);
			return got < 0 ? fa_detail(error, "%s", archive_error_string(archive)) : error->status;
		}
		sample->length += (size_t) got;
	}
	return FA_OK;
}

static fa_status
add_sample(fa_dataset *dataset, int *capacity, const char *name, fa_error *error)
{
	fa_sample *sample;

	if (dataset->count == *capacity)
	{
		int grown = *capacity > 0 ? *capacity * 2 : 1024;
		fa_sample *samples;

		if (grown > INT32_MAX / 4)
			return fa_fail(error, FA_TOO_LARGE, "too many files");
		samples = realloc(dataset->samples, (size_t) grown * sizeof(*samples));
		if (samples == NULL)
			return fa_no_memory(error, (size_t) grown * sizeof(*samples));
		dataset->samples = samples;
		*capacity = grown;
	}
	sample = &dataset->samples[dataset->count];
	*sample = (fa_sample){
		.age = FA_NO_LABEL, .gender = FA_NO_LABEL, .race = FA_NO_LABEL, .person = FA_NO_LABEL};
	sample->file = strdup(name);
	if (sample->file == NULL)
		return fa_no_memory(error, strlen(name) + 1);
	dataset->count++;
	return FA_OK;
}

/* The name within the archive, or within the directory `root`. */
static const char *
inner_name(const char *name, const char *root)
{
	size_t length = root != NULL ? strlen(root) : 0;

	if (length > 0 && strncmp(name, root, length) == 0)
		name += length;
	while (*name == '/' || (name[0] == '.' && name[1] == '/'))
		name += *name == '/' ? 1 : 2;
	return name;
}

static fa_status
read_entries(struct archive *archive, fa_dataset *dataset, const char *path, bool directory,
			 const fa_interrupt *interrupt, fa_error *error)
{
	struct archive_entry *entry;
	int capacity = 0, code;

	while ((code = archive_read_next_header(archive, &entry)) == ARCHIVE_OK || code == ARCHIVE_WARN)
	{
		const char *name = archive_entry_pathname(entry);

		FA_TRY(fa_check_interrupt(interrupt, error));
		if (name == NULL)
			return fa_fail(error, FA_DAMAGED, "%s: a file has an unreadable name", path);
		name = inner_name(name, directory ? path : NULL);
		if (directory && archive_entry_filetype(entry) == AE_IFDIR &&
			archive_read_disk_can_descend(archive))
			archive_read_disk_descend(archive);
		if (archive_entry_filetype(entry) != AE_IFREG || !wanted(name))
			continue;
		FA_TRY(add_sample(dataset, &capacity, name, error));
		FA_TRY(read_bytes(archive, archive_entry_size(entry), &dataset->samples[dataset->count - 1],
						  path, error));
	}
	if (code != ARCHIVE_EOF)
	{
		fa_fail(error, FA_DAMAGED, "%s: cannot be read to its end", path);
		return fa_detail(error, "%s", archive_error_string(archive));
	}
	return FA_OK;
}

static int
compare_samples(const void *left, const void *right)
{
	return strcmp(((const fa_sample *) left)->file, ((const fa_sample *) right)->file);
}

fa_status
fa_dataset_read(fa_dataset *dataset, const char *path, const fa_interrupt *interrupt,
				fa_error *error)
{
	struct stat info;
	struct archive *archive;
	bool directory;
	fa_status status = FA_OK;
	int code;

	*dataset = (fa_dataset){0};
	if (stat(path, &info) != 0)
		return fa_fail(error, errno == ENOENT ? FA_NOT_FOUND : FA_IO, "%s: %s", path,
					   strerror(errno));
	directory = S_ISDIR(info.st_mode);
	archive = directory ? archive_read_disk_new() : archive_read_new();
	if (archive == NULL)
		return fa_no_memory(error, 0);
	if (directory)
	{
		archive_read_disk_set_symlink_logical(archive);
		code = archive_read_disk_open(archive, path);
	}
	else
	{
		archive_read_support_filter_all(archive);
		archive_read_support_format_tar(archive);
		code = archive_read_open_filename(archive, path, 1 << 16);
	}
	if (code != ARCHIVE_OK)
	{
		fa_fail(error, FA_DAMAGED, "%s: is no tar archive", path);
		status = fa_detail(error, "%s", archive_error_string(archive));
	}
	if (status == FA_OK)
		status = read_entries(archive, dataset, path, directory, interrupt, error);
	archive_read_free(archive);

	if (status == FA_OK && dataset->count == 0)
		status = fa_fail(error, FA_INVALID, "%s: holds no file", path);
	if (status == FA_OK)
	{
		qsort(dataset->samples, (size_t) dataset->count, sizeof(fa_sample), compare_samples);
		for (int i = 1; i < dataset->count && status == FA_OK; i++)
		{
			if (strcmp(dataset->samples[i - 1].file, dataset->samples[i].file) == 0)
				status = fa_fail(error, FA_INVALID, "%s: holds \"%s\" twice", path,
								 dataset->samples[i].file);
		}
	}
	if (status != FA_OK)
		fa_dataset_free(dataset);
	return status;
}

fa_sample *
fa_dataset_find(const fa_dataset *dataset, const char *file)
{
	fa_sample key = {.file = (char *) file};

	if (dataset->count == 0)
		return NULL;
	return bsearch(&key, dataset->samples, (size_t) dataset->count, sizeof(fa_sample),
				   compare_samples);
}

void
fa_dataset_free(fa_dataset *dataset)
{
	for (int i = 0; i < dataset->count; i++)
	{
		free(dataset->samples[i].file);
		free(dataset->samples[i].bytes);
	}
	free(dataset->samples);
	*dataset = (fa_dataset){0};
}

char *
fa_dataset_default_labels(const char *path)
{
	size_t length = strlen(path);
	char *labels;

	while (length > 1 && path[length - 1] == '/')
		length--;
	if (length > 4 && strncmp(path + length - 4, ".tar", 4) == 0)
		length -= 4;
	if (asprintf(&labels, "%.*s.tsv", (int) length, path) < 0)
		return NULL;
	return labels;
}

/* --- The table --------------------------------------------------------------- */

/* Cuts a line at its tabs, in place; more than MAX_COLUMNS are left in the last. */
static int
split(char *line, char **fields)
{
	int count = 0;
	size_t length = strcspn(line, "\r\n");

	line[length] = '\0';
	while (count < MAX_COLUMNS)
	{
		fields[count++] = line;
		line = strchr(line, '\t');
		if (line == NULL)
			break;
		*line++ = '\0';
	}
	return count;
}

/* An empty value is no label; false when it is not a number from 0 to maximum. */
static bool
parse_label(const char *value, double maximum, bool whole, double *label)
{
	char *end;

	*label = FA_NO_LABEL;
	if (*value == '\0')
		return true;
	*label = strtod(value, &end);
	return end != value && *end == '\0' && *label >= 0 && *label <= maximum &&
		   (!whole || *label == floor(*label));
}

typedef enum column
{
	COLUMN_FILE,
	COLUMN_AGE,
	COLUMN_GENDER,
	COLUMN_RACE,
	COLUMN_PERSON,
	COLUMNS
} column;

static const struct
{
	const char *name;
	double maximum;
} columns[COLUMNS] = {{"file", 0},
					  {"age", FA_MAX_AGE},
					  {"gender", FA_GENDERS - 1},
					  {"race", FA_RACES - 1},
					  {"person", INT32_MAX}};

/* position[c]: where column c is in a line, or -1. */
static fa_status
parse_header(char *line, int position[COLUMNS], const char *path, fa_error *error)
{
	char *fields[MAX_COLUMNS];
	int count = split(line, fields);

	for (int c = 0; c < COLUMNS; c++)
	{
		position[c] = -1;
		for (int i = 0; i < count; i++)
		{
			if (strcmp(fields[i], columns[c].name) != 0)
				continue;
			if (position[c] >= 0)
				return fa_fail(error, FA_INVALID, "%s, line 1: column \"%s\" comes twice", path,
							   columns[c].name);
			position[c] = i;
		}
	}
	if (position[COLUMN_FILE] < 0)
		return fa_fail(error, FA_INVALID, "%s, line 1: there is no column \"file\"", path);
	if (position[COLUMN_AGE] < 0 && position[COLUMN_GENDER] < 0 && position[COLUMN_RACE] < 0 &&
		position[COLUMN_PERSON] < 0)
		return fa_fail(error, FA_INVALID,
					   "%s, line 1: there is no column \"age\", \"gender\", \"race\" or \"person\"",
					   path);
	return FA_OK;
}

static fa_status
parse_line(fa_dataset *dataset, bool *seen, char *line, const int position[COLUMNS],
		   const char *path, long number, fa_error *error)
{
	char *fields[MAX_COLUMNS];
	int count = split(line, fields);
	double labels[COLUMNS];
	fa_sample *sample;

	if (count == 1 && *fields[0] == '\0')
		return FA_OK;
	if (count <= position[COLUMN_FILE])
		return fa_fail(error, FA_INVALID, "%s, line %ld: there is no value for \"file\"", path,
					   number);
	sample = fa_dataset_find(dataset, fields[position[COLUMN_FILE]]);
	if (sample == NULL)
		return fa_fail(error, FA_INVALID, "%s, line %ld: the data hold no file \"%s\"", path,
					   number, fields[position[COLUMN_FILE]]);
	if (seen[sample - dataset->samples])
		return fa_fail(error, FA_INVALID, "%s, line %ld: file \"%s\" comes twice", path, number,
					   sample->file);
	seen[sample - dataset->samples] = true;
	for (int c = COLUMN_AGE; c < COLUMNS; c++)
	{
		const char *value = position[c] >= 0 && position[c] < count ? fields[position[c]] : "";

		if (!parse_label(value, columns[c].maximum, c != COLUMN_AGE, &labels[c]))
			return fa_fail(error, FA_INVALID,
						   "%s, line %ld: \"%s\" is no %s (a number from 0 to %g)", path, number,
						   value, columns[c].name, columns[c].maximum);
	}
	sample->age = (float) labels[COLUMN_AGE];
	sample->gender = (int) labels[COLUMN_GENDER];
	sample->race = (int) labels[COLUMN_RACE];
	sample->person = (int) labels[COLUMN_PERSON];
	return FA_OK;
}

fa_status
fa_dataset_label(fa_dataset *dataset, const char *path, fa_error *error)
{
	FILE *file = fopen(path, "r");
	int position[COLUMNS];
	char *line = NULL;
	size_t capacity = 0;
	long number = 0;
	bool *seen;
	fa_status status = FA_OK;

	if (file == NULL)
		return fa_fail(error, errno == ENOENT ? FA_NOT_FOUND : FA_IO, "%s: %s", path,
					   strerror(errno));
	seen = calloc((size_t) dataset->count + 1, sizeof(*seen));
	if (seen == NULL)
		status = fa_no_memory(error, (size_t) dataset->count);
	while (status == FA_OK && getline(&line, &capacity, file) >= 0)
	{
		if (++number == 1)
			status = parse_header(line, position, path, error);
		else
			status = parse_line(dataset, seen, line, position, path, number, error);
	}
	if (status == FA_OK && ferror(file))
		status = fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	if (status == FA_OK && number == 0)
		status = fa_fail(error, FA_INVALID, "%s: is empty", path);
	free(line);
	free(seen);
	fclose(file);
	return status;
}

fa_status
fa_dataset_read_labelled(fa_dataset *dataset, const char *path, const char *labels, fa_error *error)
{
	char *beside = NULL;
	fa_status status;

	FA_TRY(fa_dataset_read(dataset, path, NULL, error));
	if (labels == NULL)
		labels = beside = fa_dataset_default_labels(path);
	status = labels == NULL ? fa_no_memory(error, 0) : fa_dataset_label(dataset, labels, error);
	free(beside);
	if (status != FA_OK)
		fa_dataset_free(dataset);
	return status;
}
