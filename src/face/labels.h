/*
 * labels.h
 *		What labels look like where they come from (tables, file names, columns) and
 *		what they become: ages in years, and classes of a set of names that is given,
 *		or found while reading.
 *
 * While data are read every new name gets the next number of a dictionary; only at
 * the end is it known which names there are, and fa_labels_settle turns numbers
 * into classes.
 */
#ifndef FA_LABELS_H
#define FA_LABELS_H

#include "../fa.h"

#define FA_NO_LABEL (-1)
#define FA_MAX_AGE 150       /* years; more is no age */
#define FA_OPEN_AGE_RANGE 20 /* years that a range without an upper end is taken to hold more */

/* --- Ages ------------------------------------------------------------------------ */

/*
 * "34" or "34.5"; a range of whole years, both included, as "20-29", or as
 * PostgreSQL writes one ("[20,30)", an open lower end beginning at 0); "more than 70"
 * and "70+": FA_OPEN_AGE_RANGE years from there. "", "empty" and "(,)" are no label. False, with
 * no label, for anything else and for ages beyond 0 ... FA_MAX_AGE.
 */
extern bool fa_parse_age(const char *text, float *low, float *high);

/*
 * UTKFace's [age]_[gender]_[race]_[date and time].jpg.chip.jpg, directories before it
 * allowed. Parts that are missing or out of range are no label, and make *complete
 * false. False where the name does not begin as such.
 */
extern bool fa_parse_utkface_name(const char *name, float *age, int *gender, int *race,
								  bool *complete);

/* --- Names ----------------------------------------------------------------------- */

/* Texts with numbers from 0 in the order of their first coming. Zeroed: empty. */
typedef struct fa_dictionary
{
	char **names; /* [count], owned */
	int count, capacity;
	int *slots; /* open addressing; 1 + number, or 0 */
	size_t slot_count;
} fa_dictionary;

extern fa_status fa_dictionary_add(fa_dictionary *dictionary, const char *name, int *number,
								   fa_error *error);
extern void fa_dictionary_free(fa_dictionary *dictionary);

/* The classes of a head by name. */
typedef struct fa_labels
{
	char **names; /* [count]; owned, but for the constants below */
	int count;
} fa_labels;

/* UTKFace's: male, female; White, Black, Asian, Indian, Other */
extern char *fa_usual_gender_names[2], *fa_usual_race_names[5];
extern const fa_labels fa_usual_genders, fa_usual_races;

extern fa_status fa_labels_copy(const fa_labels *from, fa_labels *to, fa_error *error);
extern void fa_labels_free(fa_labels *labels);
/* "A,B,C"; FA_INVALID for an empty or repeated name, and for a single one. what: of the option. */
extern fa_status fa_labels_parse(const char *text, const char *what, fa_labels *labels,
								 fa_error *error);
/* The class that a name or a number means, whatever its case, or FA_NO_LABEL. */
extern int fa_labels_find(const fa_labels *labels, const char *name);

/*
 * The set of labels for what was seen, and the class of every number of the
 * dictionary (*classes: malloc'ed, [seen->count]), FA_NO_LABEL for what is not in the set. The
 * set is `given`, where it is not NULL; else `usual`, where all that was seen is in it; else
 * 0 ... the largest number, where all are numbers; else the names in alphabetical order, which
 * differ in more than case. FA_TOO_LARGE for more than FA_MAX_CLASSES.
 */
extern fa_status fa_labels_settle(const fa_dictionary *seen, const fa_labels *given,
								  const fa_labels *usual, const char *what, fa_labels *labels,
								  int **classes, fa_error *error);

#endif
