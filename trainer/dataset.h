/*
 * dataset.h
 *		Images with labels, read whole into memory as the compressed bytes they are:
 *		a tar archive (or whatever libarchive takes for one) or a directory, and
 *		a table of tab-separated values.
 *
 * Read once by the main thread; read-only afterwards, so that decoding threads
 * share it without a lock.
 */
#ifndef FA_DATASET_H
#define FA_DATASET_H

#include "../src/fa.h"

#define FA_MAX_AGE 150 /* years; more in a table is an error */
#define FA_GENDERS 2   /* 0 male, 1 female: UTKFace's numbers */
#define FA_RACES 5     /* 0 White, 1 Black, 2 Asian, 3 Indian, 4 Other */
#define FA_NO_LABEL (-1)

typedef struct fa_sample
{
	char *file; /* name within the archive or directory; owned */
	uint8_t *bytes;
	size_t length;
	float age;        /* years, or FA_NO_LABEL */
	int gender, race; /* class, or FA_NO_LABEL */
	int person;       /* any number from 0 on, or FA_NO_LABEL */
} fa_sample;

typedef struct fa_dataset
{
	fa_sample *samples; /* in the order of their names; owned */
	int count;
} fa_dataset;

/*
 * Reads every regular file of an archive or of a directory and those below it,
 * but tables (*.tsv) and hidden files. No label is set. FA_NOT_FOUND, FA_IO,
 * FA_DAMAGED; FA_INVALID when there is no file or a name comes twice.
 */
extern fa_status fa_dataset_read(fa_dataset *dataset, const char *path,
								 const fa_interrupt *interrupt, fa_error *error);

/*
 * Sets the labels from a table. Its first line names the columns: `file` and
 * any of `age`, `gender`, `race` and `person`, in any order; others are ignored. An empty
 * or missing value is no label; an image without a line keeps none. FA_INVALID
 * with the line's number for a value out of range, an unknown or repeated file.
 */
extern fa_status fa_dataset_label(fa_dataset *dataset, const char *path, fa_error *error);

/*
 * The table that belongs to data: X.tsv beside X.tar or the directory X. NULL when memory is
 * short, else malloc'ed; the file need not exist.
 */
extern char *fa_dataset_default_labels(const char *path);

/* Both: labels NULL for the table that belongs to the data. The dataset is empty after a failure.
 */
extern fa_status fa_dataset_read_labelled(fa_dataset *dataset, const char *path, const char *labels,
										  fa_error *error);

/* NULL when there is none of that name. */
extern fa_sample *fa_dataset_find(const fa_dataset *dataset, const char *file);
extern void fa_dataset_free(fa_dataset *dataset);

#endif
