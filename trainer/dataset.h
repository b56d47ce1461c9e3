/*
 * dataset.h
 *		Images with labels as training and evaluation take them: the compressed bytes
 *		of a tar archive (or whatever libarchive takes for one) or a directory, read
 *		whole into memory with a table of labels; or crops that lie in a mapped
 *		file (crop_cache.h).
 *
 * Made once by the main thread; read-only afterwards, so that decoding threads
 * share it without a lock.
 */
#ifndef FA_DATASET_H
#define FA_DATASET_H

#include "../src/vision/image.h"
#include "../src/face/label_reader.h"

typedef struct fa_sample
{
	char *file; /* name within the archive or directory, or a row's key; owned */
	uint8_t *bytes;
	size_t length;
	fa_label label;
	float zoom;  /* the image shows so much more than the template's frame; 1: a ready chip */
	fa_rect box; /* of a whole photo: where the labelled face is; empty: not known */
} fa_sample;

typedef struct fa_dataset
{
	fa_sample *samples; /* in the order of their names, or of a query's rows; owned */
	int count;
	fa_label_sets sets;      /* the labels' names; empty while there is no label; owned */
	int64_t unusable;        /* values that were no label ... */
	char first_unusable[96]; /* ... and the first of them */
	void *map;               /* the mapped file that names and bytes lie in, or NULL */
	size_t map_length;
} fa_dataset;

/*
 * Reads every regular file of an archive or of a directory and those below it,
 * but tables (*.tsv, *.csv) and hidden files. No label is set. FA_NOT_FOUND, FA_IO,
 * FA_DAMAGED; FA_INVALID when there is no file or a name comes twice.
 */
extern fa_status fa_dataset_read(fa_dataset *dataset, const char *path,
								 const fa_interrupt *interrupt, fa_error *error);

/*
 * Sets the labels from a table of tab- or comma-separated values (a field of the latter may
 * be quoted). Its first line names the columns: `file` and any of `age`, `gender`, `race` and
 * `person`, in any order; others are ignored: FairFace's files are read as they are.
 * Values: label_reader.h; an image without a line keeps none. A file that the
 * data do not hold may come there without its first directory. FA_INVALID with the line's
 * number for what is no age, an unknown or repeated file. given: the sets of labels, or NULL.
 */
extern fa_status fa_dataset_label(fa_dataset *dataset, const char *path, const fa_label_sets *given,
								  fa_error *error);
/* Sets the labels from UTKFace's file names; FA_NOT_FOUND where no name is one. */
extern fa_status fa_dataset_label_by_name(fa_dataset *dataset, const fa_label_sets *given,
										  fa_error *error);

/*
 * The table that belongs to data: X.tsv beside X.tar or the directory X. NULL when memory is
 * short, else malloc'ed; the file need not exist.
 */
extern char *fa_dataset_default_labels(const char *path);

/*
 * Images with the labels of a table, NULL: of the one that belongs to the data, or, where there
 * is none, of the file names. Or a cache of crops, which has its own. The dataset is empty after
 * a failure.
 */
extern fa_status fa_dataset_read_labelled(fa_dataset *dataset, const char *path, const char *labels,
										  const fa_label_sets *given, fa_error *error);

/* NULL when there is none of that name. */
extern fa_sample *fa_dataset_find(const fa_dataset *dataset, const char *file);
extern void fa_dataset_free(fa_dataset *dataset);

#endif
