/*
 * crop_cache.c
 *		The file of crops; see crop_cache.h. Header; per image its name, a zero and its
 *		bytes; a table of entries in the order of their numbers; a JSON text with the
 *		labels' names and the origin. Adding threads share a lock for the end of the file
 *		and the table, and write outside of it.
 */
#include "crop_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "faceattr crops 1"
#define MAX_COUNT (INT32_MAX / 4)

typedef struct header
{
	char magic[16];
	uint64_t count, entries, text, text_length; /* offsets, bytes */
} header;

typedef struct entry
{
	uint64_t offset; /* of the name */
	int64_t number;
	uint32_t name_length, length;
	fa_label label;
	float zoom;
} entry;

struct fa_crop_cache
{
	char *path, *part; /* the file's name, and its name until it is whole */
	int file;
	uint64_t limit, end;
	entry *entries;
	size_t count, capacity;
	pthread_mutex_t lock;
};

/* --- Writing --------------------------------------------------------------------- */

static fa_status
write_at(const fa_crop_cache *cache, const void *bytes, size_t length, uint64_t offset,
		 fa_error *error)
{
	const char *from = bytes;

	while (length > 0)
	{
		ssize_t written = pwrite(cache->file, from, length, (off_t) offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return fa_fail(error, FA_IO, "%s: %s", cache->part, strerror(errno));
		from += written;
		offset += (uint64_t) written;
		length -= (size_t) written;
	}
	return FA_OK;
}

static void
release(fa_crop_cache *cache)
{
	if (cache->file >= 0)
		close(cache->file);
	pthread_mutex_destroy(&cache->lock);
	free(cache->entries);
	free(cache->path);
	free(cache->part);
	free(cache);
}

fa_status
fa_crop_cache_create(const char *path, uint64_t limit, fa_crop_cache **cache, fa_error *error)
{
	fa_crop_cache *created = calloc(1, sizeof(*created));

	*cache = NULL;
	if (created == NULL)
		return fa_no_memory(error, sizeof(*created));
	pthread_mutex_init(&created->lock, NULL);
	created->file = -1;
	created->limit = limit;
	created->end = sizeof(header);
	created->path = strdup(path);
	if (asprintf(&created->part, "%s.part", path) < 0)
		created->part = NULL;
	if (created->path == NULL || created->part == NULL)
		fa_no_memory(error, strlen(path));
	else if ((created->file = open(created->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) <
			 0)
		fa_fail(error, FA_IO, "%s: %s", created->part, strerror(errno));
	if (created->file < 0)
	{
		release(created);
		return error->status;
	}
	*cache = created;
	return FA_OK;
}

/* A place in the file and in the table. */
static fa_status
reserve(fa_crop_cache *cache, const entry *wanted, uint64_t *offset, fa_error *error)
{
	uint64_t length = (uint64_t) wanted->name_length + 1 + wanted->length;

	if (cache->count == cache->capacity)
	{
		size_t capacity = cache->capacity > 0 ? 2 * cache->capacity : 1024;
		entry *entries = realloc(cache->entries, capacity * sizeof(*entries));

		if (entries == NULL)
			return fa_no_memory(error, capacity * sizeof(*entries));
		cache->entries = entries;
		cache->capacity = capacity;
	}
	if (cache->count == MAX_COUNT || cache->end - sizeof(header) > cache->limit ||
		length > cache->limit - (cache->end - sizeof(header)))
	{
		fa_fail(error, FA_TOO_LARGE, "%s: the cache of crops is full", cache->path);
		return fa_detail(error, "It holds %zu faces and at most %llu MB.", cache->count,
						 (unsigned long long) cache->limit >> 20);
	}
	*offset = cache->end;
	cache->entries[cache->count] = *wanted;
	cache->entries[cache->count++].offset = cache->end;
	cache->end += length;
	return FA_OK;
}

fa_status
fa_crop_cache_add(fa_crop_cache *cache, const fa_sample *sample, int64_t number, fa_error *error)
{
	size_t name_length = strlen(sample->file);
	entry wanted = {
		.number = number,
		.name_length = (uint32_t) name_length,
		.length = (uint32_t) sample->length,
		.label = sample->label,
		.zoom = sample->zoom,
	};
	uint64_t offset = 0;
	fa_status status;

	if (sample->length > UINT32_MAX || name_length > UINT32_MAX)
		return fa_fail(error, FA_TOO_LARGE, "%s: the image is too large", sample->file);
	pthread_mutex_lock(&cache->lock);
	status = reserve(cache, &wanted, &offset, error);
	pthread_mutex_unlock(&cache->lock);
	FA_TRY(status);
	FA_TRY(write_at(cache, sample->file, name_length + 1, offset, error));
	return write_at(cache, sample->bytes, sample->length, offset + name_length + 1, error);
}

static int
compare_entries(const void *left, const void *right)
{
	const entry *a = left, *b = right;

	return a->number < b->number ? -1 : a->number > b->number;
}

static fa_status
write_end(fa_crop_cache *cache, fa_label_reader *reader, const fa_label_sets *sets,
		  const char *origin, fa_error *error)
{
	header head = {.magic = MAGIC, .count = cache->count, .entries = cache->end};
	size_t entries_length = cache->count * sizeof(entry);
	json_t *json;
	char *text;
	fa_status status;

	for (size_t i = 0; i < cache->count && reader != NULL; i++)
		fa_label_reader_apply(reader, &cache->entries[i].label);
	if (cache->count > 0)
		qsort(cache->entries, cache->count, sizeof(entry), compare_entries);
	json = json_pack("{s:o, s:s, s:I, s:s}", "labels", fa_label_sets_to_json(sets), "origin",
					 origin, "unusable", (json_int_t) (reader != NULL ? reader->unusable : 0),
					 "first_unusable", reader != NULL ? reader->first_unusable : "");
	text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
	json_decref(json);
	if (text == NULL)
		return fa_fail(error, FA_INVALID, "%s: a label or the query is no UTF-8", cache->path);
	head.text = head.entries + entries_length;
	head.text_length = strlen(text);
	status = write_at(cache, cache->entries, entries_length, head.entries, error);
	if (status == FA_OK)
		status = write_at(cache, text, head.text_length, head.text, error);
	free(text);
	FA_TRY(status);
	FA_TRY(write_at(cache, &head, sizeof(head), 0, error));
	if (close(cache->file) != 0)
		status = fa_fail(error, FA_IO, "%s: %s", cache->part, strerror(errno));
	cache->file = -1;
	if (status == FA_OK && rename(cache->part, cache->path) != 0)
		status = fa_fail(error, FA_IO, "%s: %s", cache->path, strerror(errno));
	return status;
}

fa_status
fa_crop_cache_finish(fa_crop_cache *cache, fa_label_reader *reader, const fa_label_sets *sets,
					 const char *origin, fa_error *error)
{
	fa_status status = write_end(cache, reader, sets, origin, error);

	if (status != FA_OK)
		unlink(cache->part);
	release(cache);
	return status;
}

void
fa_crop_cache_abandon(fa_crop_cache *cache)
{
	if (cache == NULL)
		return;
	unlink(cache->part);
	release(cache);
}

/* --- Reading --------------------------------------------------------------------- */

static fa_status
damaged(const char *path, const char *what, fa_error *error)
{
	return fa_fail(error, FA_DAMAGED, "%s: the cache of crops is damaged: %s", path, what);
}

static fa_status
read_text(const char *path, const uint8_t *text, size_t length, const char *origin,
		  fa_dataset *dataset, fa_error *error)
{
	json_t *json = json_loadb((const char *) text, length, 0, NULL);
	const char *genuine = json_string_value(json_object_get(json, "origin"));
	const char *unusable = json_string_value(json_object_get(json, "first_unusable"));
	fa_status status;

	if (genuine == NULL)
		status = damaged(path, "its description is unreadable", error);
	else if (origin != NULL && strcmp(genuine, origin) != 0)
	{
		fa_fail(error, FA_INVALID, "%s: these crops were made from another query or otherwise",
				path);
		status = fa_detail(error, "Remove the file, or train without --resume.");
	}
	else
		status = fa_label_sets_from_json(json_object_get(json, "labels"), &dataset->sets, error);
	dataset->unusable = json_integer_value(json_object_get(json, "unusable"));
	snprintf(dataset->first_unusable, sizeof(dataset->first_unusable), "%s",
			 unusable != NULL ? unusable : "");
	json_decref(json);
	return status;
}

static bool
class_is_valid(int class, int count)
{
	return class >= FA_NO_LABEL && class < count;
}

static bool
label_is_valid(const fa_label *label, const fa_label_sets *sets)
{
	bool age =
		label->age_low >= 0 && label->age_low <= label->age_high && label->age_high <= FA_MAX_AGE;

	return (age || (label->age_low == FA_NO_LABEL && label->age_high == FA_NO_LABEL)) &&
		   class_is_valid(label->gender, sets->genders.count) &&
		   class_is_valid(label->race, sets->races.count) && label->person >= FA_NO_LABEL;
}

static fa_status
read_entries(const char *path, const header *head, fa_dataset *dataset, fa_error *error)
{
	uint8_t *file = dataset->map;

	dataset->samples = calloc((size_t) head->count + 1, sizeof(*dataset->samples));
	if (dataset->samples == NULL)
		return fa_no_memory(error, (size_t) head->count * sizeof(*dataset->samples));
	for (uint64_t i = 0; i < head->count; i++)
	{
		entry e;
		uint64_t end;

		memcpy(&e, file + head->entries + i * sizeof(entry), sizeof(entry));
		if (e.offset < sizeof(header) || e.offset > head->entries)
			return damaged(path, "an entry points outside", error);
		end = e.offset + e.name_length + 1 + e.length;
		if (end > head->entries || file[e.offset + e.name_length] != '\0')
			return damaged(path, "an entry points outside", error);
		if (!label_is_valid(&e.label, &dataset->sets) || !(e.zoom >= 1 && e.zoom <= 16))
			return damaged(path, "an entry is out of range", error);
		dataset->samples[dataset->count++] = (fa_sample){
			.file = (char *) file + e.offset,
			.bytes = file + e.offset + e.name_length + 1,
			.length = e.length,
			.label = e.label,
			.zoom = e.zoom,
		};
	}
	return FA_OK;
}

static fa_status
read_map(const char *path, const char *origin, fa_dataset *dataset, fa_error *error)
{
	uint64_t length = dataset->map_length;
	const uint8_t *file = dataset->map;
	header head;

	memcpy(&head, file, sizeof(head));
	if (memcmp(head.magic, MAGIC, sizeof(head.magic)) != 0)
		return damaged(path, "it is none", error);
	if (head.count > MAX_COUNT || head.entries < sizeof(header) || head.entries > length ||
		head.count * sizeof(entry) > length - head.entries ||
		head.text != head.entries + head.count * sizeof(entry) ||
		head.text_length > length - head.text)
		return damaged(path, "it is cut short", error);
	FA_TRY(read_text(path, file + head.text, head.text_length, origin, dataset, error));
	FA_TRY(read_entries(path, &head, dataset, error));
	/* epochs jump about in the images */
	madvise(dataset->map, (size_t) head.entries, MADV_RANDOM);
	return FA_OK;
}

fa_status
fa_crop_cache_open(const char *path, const char *origin, fa_dataset *dataset, fa_error *error)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat info;
	fa_status status = FA_OK;

	*dataset = (fa_dataset){0};
	if (file < 0)
		return fa_fail(error, errno == ENOENT ? FA_NOT_FOUND : FA_IO, "%s: %s", path,
					   strerror(errno));
	if (fstat(file, &info) != 0)
		status = fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	else if ((size_t) info.st_size < sizeof(header))
		status = damaged(path, "it is cut short", error);
	else
	{
		dataset->map = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_SHARED, file, 0);
		dataset->map_length = (size_t) info.st_size;
		if (dataset->map == MAP_FAILED)
		{
			dataset->map = NULL;
			status = fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
		}
	}
	close(file);
	if (status == FA_OK)
		status = read_map(path, origin, dataset, error);
	if (status != FA_OK)
		fa_dataset_free(dataset);
	return status;
}

bool
fa_is_crop_cache(const char *path)
{
	FILE *file = fopen(path, "rb");
	char magic[sizeof(MAGIC) - 1] = "";
	bool is;

	if (file == NULL)
		return false;
	is = fread(magic, 1, sizeof(magic), file) == sizeof(magic) &&
		 memcmp(magic, MAGIC, sizeof(magic)) == 0;
	fclose(file);
	return is;
}
