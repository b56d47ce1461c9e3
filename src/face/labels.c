/*
 * labels.c
 *		Reading ages and names of classes; see labels.h.
 */
#include "labels.h"

#include "face.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *fa_usual_gender_names[] = {"male", "female"};
char *fa_usual_race_names[] = {"White", "Black", "Asian", "Indian", "Other"};

const fa_labels fa_usual_genders = {fa_usual_gender_names, 2};
const fa_labels fa_usual_races = {fa_usual_race_names, 5};

/* --- Ages ------------------------------------------------------------------------ */

static bool
set_range(double low, double high, float *age_low, float *age_high)
{
	if (!(low >= 0 && low <= high && high <= FA_MAX_AGE))
		return false;
	*age_low = (float) low;
	*age_high = (float) high;
	return true;
}

/* A whole number, read from *text and stepped over; -1 where there is none. */
static double
whole_number(const char **text)
{
	char *end;
	double value;

	if (!isdigit((unsigned char) **text) && **text != '-')
		return -1;
	value = strtod(*text, &end);
	*text = end;
	return value == floor(value) ? value : -1;
}

static double
open_end(double low)
{
	return fmin(FA_MAX_AGE, low + FA_OPEN_AGE_RANGE);
}

/* "[20,30)" and its like. */
static bool
parse_range(const char *text, float *age_low, float *age_high)
{
	bool from = text[0] == '[', to, has_low, has_high;
	double low, high;

	text++;
	has_low = *text != ',';
	low = has_low ? whole_number(&text) : 0;
	if (*text++ != ',')
		return false;
	has_high = *text != ')' && *text != ']';
	high = has_high ? whole_number(&text) : 0;
	to = *text == ']';
	if ((*text != ')' && *text != ']') || text[1] != '\0')
		return false;
	if (!has_low && !has_high)
		return true;
	if (has_low && !from)
		low++;
	if (has_high && !to)
		high--;
	return set_range(low, has_high ? high : open_end(low), age_low, age_high);
}

bool
fa_parse_age(const char *text, float *age_low, float *age_high)
{
	static const char more_than[] = "more than ";
	double low, high;
	char *end;

	*age_low = *age_high = FA_NO_LABEL;
	if (*text == '\0' || strcmp(text, "empty") == 0)
		return true;
	if (*text == '[' || *text == '(')
		return parse_range(text, age_low, age_high);
	if (strncasecmp(text, more_than, sizeof(more_than) - 1) == 0)
	{
		text += sizeof(more_than) - 1;
		low = whole_number(&text);
		return *text == '\0' && set_range(low, open_end(low), age_low, age_high);
	}
	low = strtod(text, &end);
	if (end == text)
		return false;
	if (*end == '\0')
		return set_range(low, low, age_low, age_high);
	if (strcmp(end, "+") == 0)
		return low == floor(low) && set_range(low, open_end(low), age_low, age_high);
	if (*end != '-' || low != floor(low))
		return false;
	text = end + 1;
	high = whole_number(&text);
	return *text == '\0' && set_range(low, high, age_low, age_high);
}

/* A class from 0 to most that ends at '_'; *text is stepped over it. */
static int
utkface_class(const char **text, int most)
{
	int value = FA_NO_LABEL;

	if (isdigit((unsigned char) **text) && (*text)[1] == '_' && **text - '0' <= most)
		value = **text - '0';
	/* what is no class is stepped over, but for the date, which has no '_' after it */
	if (strchr(*text, '_') != NULL)
		*text = strchr(*text, '_') + 1;
	return value;
}

bool
fa_parse_utkface_name(const char *name, float *age, int *gender, int *race, bool *complete)
{
	const char *slash = strrchr(name, '/');
	char *end;
	double years;

	*age = FA_NO_LABEL;
	*gender = *race = FA_NO_LABEL;
	*complete = false;
	name = slash != NULL ? slash + 1 : name;
	if (!isdigit((unsigned char) *name))
		return false;
	years = strtod(name, &end);
	if (*end != '_' || years != floor(years))
		return false;
	if (years <= FA_MAX_AGE)
		*age = (float) years;
	name = end + 1;
	*gender = utkface_class(&name, fa_usual_genders.count - 1);
	*race = utkface_class(&name, fa_usual_races.count - 1);
	*complete = *age >= 0 && *gender >= 0 && *race >= 0;
	return true;
}

/* --- Dictionary ------------------------------------------------------------------ */

/* FNV-1a (Fowler, Noll, Vo). */
static uint64_t
hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *text != '\0'; text++)
		h = (h ^ (uint8_t) *text) * 0x100000001b3u;
	return h;
}

/* Where the name is, or would be put. */
static size_t
find_slot(const fa_dictionary *d, const char *name)
{
	size_t slot = hash(name) & (d->slot_count - 1);

	while (d->slots[slot] != 0 && strcmp(d->names[d->slots[slot] - 1], name) != 0)
		slot = (slot + 1) & (d->slot_count - 1);
	return slot;
}

/* Room for one more, the slots at most half full. */
static fa_status
grow(fa_dictionary *d, fa_error *error)
{
	int capacity = d->capacity > 0 ? 2 * d->capacity : 16;
	char **names;
	int *slots;

	if (d->count < d->capacity)
		return FA_OK;
	if (capacity > INT32_MAX / 4)
		return fa_fail(error, FA_TOO_LARGE, "there are too many different names");
	names = realloc(d->names, (size_t) capacity * sizeof(*names));
	if (names == NULL)
		return fa_no_memory(error, (size_t) capacity * sizeof(*names));
	d->names = names;
	slots = calloc(2 * (size_t) capacity, sizeof(*slots));
	if (slots == NULL)
		return fa_no_memory(error, 2 * (size_t) capacity * sizeof(*slots));
	free(d->slots);
	d->slots = slots;
	d->slot_count = 2 * (size_t) capacity;
	d->capacity = capacity;
	for (int i = 0; i < d->count; i++)
		d->slots[find_slot(d, d->names[i])] = 1 + i;
	return FA_OK;
}

fa_status
fa_dictionary_add(fa_dictionary *dictionary, const char *name, int *number, fa_error *error)
{
	size_t slot;

	FA_TRY(grow(dictionary, error));
	slot = find_slot(dictionary, name);
	if (dictionary->slots[slot] == 0)
	{
		char *copy = strdup(name);

		if (copy == NULL)
			return fa_no_memory(error, strlen(name) + 1);
		dictionary->names[dictionary->count] = copy;
		dictionary->slots[slot] = ++dictionary->count;
	}
	*number = dictionary->slots[slot] - 1;
	return FA_OK;
}

void
fa_dictionary_free(fa_dictionary *dictionary)
{
	for (int i = 0; i < dictionary->count; i++)
		free(dictionary->names[i]);
	free(dictionary->names);
	free(dictionary->slots);
	*dictionary = (fa_dictionary){0};
}

/* --- Sets of labels -------------------------------------------------------------- */

static fa_status
add_label(fa_labels *labels, const char *name, size_t length, fa_error *error)
{
	char **names = realloc(labels->names, ((size_t) labels->count + 1) * sizeof(*names));

	if (names == NULL)
		return fa_no_memory(error, ((size_t) labels->count + 1) * sizeof(*names));
	labels->names = names;
	names[labels->count] = strndup(name, length);
	if (names[labels->count] == NULL)
		return fa_no_memory(error, length);
	labels->count++;
	return FA_OK;
}

void
fa_labels_free(fa_labels *labels)
{
	for (int i = 0; i < labels->count; i++)
		free(labels->names[i]);
	free(labels->names);
	*labels = (fa_labels){0};
}

fa_status
fa_labels_copy(const fa_labels *from, fa_labels *to, fa_error *error)
{
	fa_status status = FA_OK;

	*to = (fa_labels){0};
	for (int i = 0; i < from->count && status == FA_OK; i++)
		status = add_label(to, from->names[i], strlen(from->names[i]), error);
	if (status != FA_OK)
		fa_labels_free(to);
	return status;
}

/* The number that a text is, or -1. */
static int
class_number(const char *text)
{
	char *end;
	long value;

	if (!isdigit((unsigned char) *text))
		return -1;
	value = strtol(text, &end, 10);
	return *end == '\0' && value < FA_MAX_CLASSES ? (int) value : -1;
}

static int
find_name(const fa_labels *labels, const char *name)
{
	for (int i = 0; i < labels->count; i++)
		if (strcasecmp(labels->names[i], name) == 0)
			return i;
	return FA_NO_LABEL;
}

int
fa_labels_find(const fa_labels *labels, const char *name)
{
	int class = find_name(labels, name);

	if (class == FA_NO_LABEL)
		class = class_number(name);
	return class < labels->count ? class : FA_NO_LABEL;
}

fa_status
fa_labels_parse(const char *text, const char *what, fa_labels *labels, fa_error *error)
{
	fa_status status = FA_OK;

	*labels = (fa_labels){0};
	while (status == FA_OK)
	{
		size_t part = strcspn(text, ","), start = strspn(text, " "), length;

		start = start < part ? start : part;
		length = part - start;
		while (length > 0 && text[start + length - 1] == ' ')
			length--;
		if (length == 0)
			status = fa_fail(error, FA_INVALID, "%s: a label is empty", what);
		else if (labels->count == FA_MAX_CLASSES)
			status = fa_fail(error, FA_TOO_LARGE, "%s: there are more than %d labels", what,
							 FA_MAX_CLASSES);
		else
			status = add_label(labels, text + start, length, error);
		if (status == FA_OK &&
			find_name(labels, labels->names[labels->count - 1]) != labels->count - 1)
			status = fa_fail(error, FA_INVALID, "%s: label \"%s\" comes twice", what,
							 labels->names[labels->count - 1]);
		if (text[part] == '\0')
			break;
		text += part + 1;
	}
	if (status == FA_OK && labels->count < 2)
		status = fa_fail(error, FA_INVALID, "%s: there must be two labels or more", what);
	if (status != FA_OK)
		fa_labels_free(labels);
	return status;
}

static int
compare_names(const void *left, const void *right)
{
	return strcasecmp(*(char *const *) left, *(char *const *) right);
}

/* The set that follows from what was seen, as labels.h says. */
static fa_status
derive(const fa_dictionary *seen, const fa_labels *usual, const char *what, fa_labels *labels,
	   fa_error *error)
{
	bool all_usual = true, all_numbers = true;
	int largest = 0;
	fa_status status = FA_OK;

	for (int i = 0; i < seen->count; i++)
	{
		int number = class_number(seen->names[i]);

		all_usual &= fa_labels_find(usual, seen->names[i]) != FA_NO_LABEL;
		all_numbers &= number >= 0;
		largest = number > largest ? number : largest;
	}
	if (all_usual)
		return fa_labels_copy(usual, labels, error);
	*labels = (fa_labels){0};
	for (int i = 0; all_numbers && i <= largest && status == FA_OK; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		status = add_label(labels, name, strlen(name), error);
	}
	for (int i = 0; !all_numbers && i < seen->count && status == FA_OK; i++)
	{
		if (find_name(labels, seen->names[i]) != FA_NO_LABEL)
			continue;
		if (labels->count == FA_MAX_CLASSES)
			status = fa_fail(error, FA_TOO_LARGE, "%s has more than %d different labels", what,
							 FA_MAX_CLASSES);
		else
			status = add_label(labels, seen->names[i], strlen(seen->names[i]), error);
	}
	if (status != FA_OK)
		fa_labels_free(labels);
	else if (!all_numbers)
		qsort(labels->names, (size_t) labels->count, sizeof(*labels->names), compare_names);
	return status;
}

fa_status
fa_labels_settle(const fa_dictionary *seen, const fa_labels *given, const fa_labels *usual,
				 const char *what, fa_labels *labels, int **classes, fa_error *error)
{
	*classes = malloc(((size_t) seen->count + 1) * sizeof(**classes));
	if (*classes == NULL)
		return fa_no_memory(error, ((size_t) seen->count + 1) * sizeof(**classes));
	if ((given != NULL ? fa_labels_copy(given, labels, error)
					   : derive(seen, usual, what, labels, error)) != FA_OK)
	{
		free(*classes);
		*classes = NULL;
		return error->status;
	}
	for (int i = 0; i < seen->count; i++)
		(*classes)[i] = fa_labels_find(labels, seen->names[i]);
	return FA_OK;
}
