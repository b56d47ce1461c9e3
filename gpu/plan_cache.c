/*
 * plan_cache.c
 *		The choices of engines, kept; see plan_cache.h.
 *
 * The file is text. Its first line names the format, its second cuDNN's version and the
 * device; then there is a line for every choice: the specification's numbers, the engine, the
 * number of knobs, and each knob with its value; the last line says how many there are. A
 * file is replaced as a whole by rename, so that readers see the old one or the new one. Two
 * writers at once may lose choices of one of them, which are then made again.
 */
#include "plan_cache.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "faceattr plans 1"
#define SPEC_NUMBERS 17
#define MAX_ENTRIES 100000
#define MAX_LENGTH (64 << 20) /* of a file that is read */

typedef struct entry
{
	int64_t spec[SPEC_NUMBERS];
	fa_gpu_choice choice;
} entry;

typedef struct table
{
	entry *entries;
	int count, capacity;
} table;

struct fa_gpu_plan_cache
{
	char *path;         /* NULL: nothing is kept */
	char identity[320]; /* the file's second line */
	table known;
	bool changed; /* since it was read or written */
};

/* All of a specification, in numbers. */
static void
spec_numbers(const fa_gpu_conv_spec *s, int64_t numbers[SPEC_NUMBERS])
{
	const int64_t all[SPEC_NUMBERS] = {
		s->n,     s->in_h,   s->in_w,     s->in_c,       s->out_h,    s->out_w,
		s->out_c, s->kernel, s->stride,   s->pad_top,    s->pad_left, s->type,
		s->tf32,  s->fused,  s->residual, s->activation, s->direction};

	memcpy(numbers, all, sizeof(all));
}

static entry *
find_entry(const table *t, const int64_t spec[SPEC_NUMBERS])
{
	for (int i = 0; i < t->count; i++)
		if (memcmp(t->entries[i].spec, spec, sizeof(t->entries[i].spec)) == 0)
			return &t->entries[i];
	return NULL;
}

/* false: there is no room. */
static bool
put_entry(table *t, const entry *added)
{
	entry *place = find_entry(t, added->spec), *larger;

	if (place == NULL && t->count == t->capacity)
	{
		if (t->count >= MAX_ENTRIES)
			return false;
		larger = realloc(t->entries, (2 * (size_t) t->capacity + 16) * sizeof(entry));
		if (larger == NULL)
			return false;
		t->entries = larger;
		t->capacity = 2 * t->capacity + 16;
	}
	if (place == NULL)
		place = &t->entries[t->count++];
	*place = *added;
	return true;
}

const fa_gpu_choice *
fa_gpu_plan_cache_find(const fa_gpu_plan_cache *cache, const fa_gpu_conv_spec *spec)
{
	int64_t numbers[SPEC_NUMBERS];
	const entry *found;

	spec_numbers(spec, numbers);
	found = find_entry(&cache->known, numbers);
	return found == NULL ? NULL : &found->choice;
}

void
fa_gpu_plan_cache_add(fa_gpu_plan_cache *cache, const fa_gpu_conv_spec *spec,
					  const fa_gpu_choice *choice)
{
	entry added = {.choice = *choice};

	spec_numbers(spec, added.spec);
	if (put_entry(&cache->known, &added))
		cache->changed = true;
}

/* --- Reading ------------------------------------------------------------------------ */

/* A file's text, malloc'ed, ended by a zero; NULL where there is none worth reading. */
static char *
read_text(const char *path)
{
	int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* should it be a pipe */
	struct stat info;
	char *text = NULL;
	ssize_t got;
	size_t length = 0;

	if (file < 0)
		return NULL;
	if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= MAX_LENGTH)
		text = malloc((size_t) info.st_size + 1);
	while (text != NULL && length < (size_t) info.st_size &&
		   (got = read(file, text + length, (size_t) info.st_size - length)) > 0)
		length += (size_t) got;
	if (text != NULL)
		text[length] = '\0';
	close(file);
	return text;
}

/* Steps over a line that must be there. */
static bool
take_line(const char **at, const char *line)
{
	size_t length = strlen(line);

	if (strncmp(*at, line, length) != 0 || (*at)[length] != '\n')
		return false;
	*at += length + 1;
	return true;
}

/* A number and the one character after it. */
static bool
take_number(const char **at, int64_t least, int64_t most, int64_t *number)
{
	char *end;

	if (!isdigit((unsigned char) **at) && **at != '-')
		return false;
	*number = strtoll(*at, &end, 10);
	if (end == *at || (*end != ' ' && *end != '\n') || *number < least || *number > most)
		return false;
	*at = end + 1;
	return true;
}

static bool
take_entry(const char **at, entry *e)
{
	int64_t count;

	memset(e, 0, sizeof(*e));
	for (int i = 0; i < SPEC_NUMBERS; i++)
		if (!take_number(at, 0, INT32_MAX, &e->spec[i]))
			return false;
	if (!take_number(at, -1, INT64_MAX - 1, &e->choice.engine) ||
		!take_number(at, 0, FA_GPU_MAX_KNOBS, &count))
		return false;
	e->choice.knob_count = (int) count;
	for (int i = 0; i < count; i++)
		if (!take_number(at, 0, INT32_MAX, &e->choice.knobs[i][0]) ||
			!take_number(at, INT64_MIN + 1, INT64_MAX - 1, &e->choice.knobs[i][1]))
			return false;
	return (*at)[-1] == '\n';
}

/* What the file holds, or nothing. */
static table
read_table(const fa_gpu_plan_cache *cache)
{
	char *text = cache->path == NULL ? NULL : read_text(cache->path);
	const char *at = text;
	table t = {NULL, 0, 0};
	char last[32];
	bool good = text != NULL && take_line(&at, FORMAT) && take_line(&at, cache->identity);

	while (good && strncmp(at, "end ", 4) != 0)
	{
		entry e;

		good = take_entry(&at, &e) && put_entry(&t, &e);
	}
	snprintf(last, sizeof(last), "end %d", t.count);
	if (!good || !take_line(&at, last) || *at != '\0')
	{
		free(t.entries);
		t = (table){NULL, 0, 0};
	}
	free(text);
	return t;
}

/* --- Writing ------------------------------------------------------------------------- */

static bool
write_table(const fa_gpu_plan_cache *cache, const table *t, FILE *file)
{
	fprintf(file, "%s\n%s\n", FORMAT, cache->identity);
	for (int i = 0; i < t->count; i++)
	{
		const entry *e = &t->entries[i];

		for (int k = 0; k < SPEC_NUMBERS; k++)
			fprintf(file, "%" PRId64 " ", e->spec[k]);
		fprintf(file, "%" PRId64 " %d", e->choice.engine, e->choice.knob_count);
		for (int k = 0; k < e->choice.knob_count; k++)
			fprintf(file, " %" PRId64 " %" PRId64, e->choice.knobs[k][0], e->choice.knobs[k][1]);
		fputc('\n', file);
	}
	fprintf(file, "end %d\n", t->count);
	return !ferror(file);
}

/* Beside the file, then in its place. */
static void
replace_file(const fa_gpu_plan_cache *cache, const table *t)
{
	size_t length = strlen(cache->path) + 8;
	char *name = malloc(length);
	FILE *file = NULL;
	bool good;
	int descriptor;

	if (name == NULL)
		return;
	snprintf(name, length, "%s.XXXXXX", cache->path);
	descriptor = mkstemp(name);
	if (descriptor >= 0)
	{
		file = fdopen(descriptor, "w");
		good = file != NULL && write_table(cache, t, file);
		if (file == NULL)
			close(descriptor);
		else if (fclose(file) != 0)
			good = false;
		if (!good || rename(name, cache->path) != 0)
			unlink(name);
	}
	free(name);
}

void
fa_gpu_plan_cache_save(fa_gpu_plan_cache *cache)
{
	table t;
	bool good = true;

	if (cache->path == NULL || !cache->changed)
		return;
	t = read_table(cache);
	for (int i = 0; i < cache->known.count; i++)
		good = put_entry(&t, &cache->known.entries[i]) && good;
	if (good)
		replace_file(cache, &t);
	free(t.entries);
	cache->changed = false;
}

/* --- Opening -------------------------------------------------------------------------- */

/* <directory>/plans-<cuDNN>-<compute capability>-<name of the device> */
static char *
file_path(const char *directory, size_t version, const struct cudaDeviceProp *device)
{
	size_t length = strlen(directory) + sizeof(device->name) + 64;
	char *path = malloc(length);
	int start;

	if (path == NULL)
		return NULL;
	start = snprintf(path, length, "%s/", directory);
	snprintf(path + start, length - start, "plans-%zu-%d%d-%.*s", version, device->major,
			 device->minor, (int) sizeof(device->name), device->name);
	for (char *c = path + start; *c != '\0'; c++)
		if (!isalnum((unsigned char) *c) && *c != '-')
			*c = '_';
	return path;
}

fa_status
fa_gpu_plan_cache_open(const char *directory, int device, fa_gpu_plan_cache **cache,
					   fa_error *error)
{
	fa_gpu_plan_cache *opened = calloc(1, sizeof(fa_gpu_plan_cache));
	struct cudaDeviceProp properties;
	fa_status status = FA_OK;

	*cache = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(fa_gpu_plan_cache));
	if (directory != NULL)
	{
		status =
			fa_gpu_status(cudaGetDeviceProperties(&properties, device), "to tell its name", error);
		if (status == FA_OK)
		{
			snprintf(opened->identity, sizeof(opened->identity), "cuDNN %zu, %d.%d, %.*s",
					 cudnnGetVersion(), properties.major, properties.minor,
					 (int) sizeof(properties.name), properties.name);
			opened->path = file_path(directory, cudnnGetVersion(), &properties);
			if (opened->path == NULL)
				status = fa_no_memory(error, strlen(directory));
		}
	}
	if (status != FA_OK)
	{
		fa_gpu_plan_cache_close(opened);
		return status;
	}
	opened->known = read_table(opened);
	*cache = opened;
	return FA_OK;
}

void
fa_gpu_plan_cache_close(fa_gpu_plan_cache *cache)
{
	if (cache == NULL)
		return;
	free(cache->known.entries);
	free(cache->path);
	free(cache);
}
