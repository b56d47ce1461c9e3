/*
 * source.h
 *		Where a subcommand's labelled images come from: an archive or directory, or a query;
 *		the options that say so, and the datasets that come of them.
 */
#ifndef FA_SOURCE_H
#define FA_SOURCE_H

#include "crops.h"
#include "query.h"

#include <argp.h>

typedef struct fa_source_options
{
	const char *connection; /* libpq's; "" where the environment says all */
	const char *query, *validation_query;
	double validation_share; /* of the query's rows, where there is no query of its own */
	const char *cache;       /* directory of the caches of crops; NULL: the output's */
	double cache_megabytes;
	bool crops;  /* images are ready chips */
	bool photos; /* images are whole photos; neither: archives hold chips, tables photos */
	const char *genders, *races; /* names of the classes; NULL: as the data have them */
} fa_source_options;

/* A child for argp: --dsn, --query, --crops, --gender-labels and --race-labels. */
extern const struct argp fa_source_argp;

/* The sets that the options give, to be freed. */
extern fa_status fa_source_sets(const fa_source_options *options, fa_label_sets *sets,
								fa_error *error);

/* What rows become samples by, while a query is read; fa_label_reader's rules. */
extern fa_status fa_sample_of_row(const fa_row *row, fa_label_reader *reader, fa_sample *sample,
								  fa_error *error);

typedef struct fa_training_source
{
	const char *data, *labels, *validation, *validation_labels; /* archives or directories */
	const char *output;                                         /* directory */
	fa_crop_options crops;
	int threads;
	uint64_t seed;
	bool resume; /* from the caches of the training that is resumed, if they are there */
	const fa_interrupt *interrupt;
} fa_training_source;

/*
 * What to train and to validate on. From a query: its transaction has ended, and the datasets are
 * the mapped caches train.crops and val.crops. Which rows are held back follows from the
 * seed and the row's person, or its key, or its number, so that a person is
 * never on both sides. Tells on standard error what there is and what was left out. Both
 * are empty after a failure.
 */
extern fa_status fa_source_read(const fa_source_options *options, const fa_training_source *source,
								fa_dataset *training, fa_dataset *validation, fa_error *error);

#endif
