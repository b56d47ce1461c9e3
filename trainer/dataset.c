/*
 * dataset.c
 *		Reading images and labels; see dataset.h. libarchive walks archives and
 *		directories by the same calls.
 */
#include "dataset.h"

#include "crop_cache.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_SIZE ((int64_t) 256 << 20)

static bool
wanted(const char *name)
{
	const char *base = strrchr(name, '/'), *end;
	size_t length;

	base = base != NULL ? base + 1 : name;
	length = strlen(base);
	end = base + (length < 4 ? length : length - 4);
	return length > 0 && base[0] != '.' && strcmp(end, ".tsv") != 0 && strcmp(end, ".csv") != 0;
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
	*sample = (fa_sample){.label = fa_no_label, .zoom = 1};
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
	for (int i = 0; i < dataset->count && dataset->map == NULL; i++)
	{
		free(dataset->samples[i].file);
		free(dataset->samples[i].bytes);
	}
	free(dataset->samples);
	if (dataset->map != NULL)
		munmap(dataset->map, dataset->map_length);
	fa_label_sets_free(&dataset->sets);
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

fa_status
fa_dataset_read_labelled(fa_dataset *dataset, const char *path, const char *labels,
						 const fa_label_sets *given, fa_error *error)
{
	char *beside = NULL;
	fa_status status;

	if (labels == NULL && fa_is_crop_cache(path))
		return fa_crop_cache_open(path, NULL, dataset, error);
	FA_TRY(fa_dataset_read(dataset, path, NULL, error));
	if (labels == NULL)
		labels = beside = fa_dataset_default_labels(path);
	if (labels == NULL)
		status = fa_no_memory(error, 0);
	else if (beside != NULL && access(beside, F_OK) != 0 &&
			 fa_dataset_label_by_name(dataset, given, error) == FA_OK)
		status = FA_OK;
	else
		status = fa_dataset_label(dataset, labels, given, error);
	free(beside);
	if (status != FA_OK)
		fa_dataset_free(dataset);
	return status;
}
