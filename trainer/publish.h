/*
 * publish.h
 *		A model file into the table face_model of a database.
 */
#ifndef FA_PUBLISH_H
#define FA_PUBLISH_H

#include "../src/fa.h"

typedef struct fa_publish_options
{
	const char *dsn;  /* libpq's connection string or URI */
	const char *name; /* of the model; replaces one of that name */
	const char *path; /* the model file */
	/* what is to be known of it, or NULL: JSON, JSON, and the query whose rows it was trained on */
	const char *metrics, *hyper_parameters, *query;
	int64_t row_count; /* of that query; -1: not known */
} fa_publish_options;

/* One transaction. FA_IO without a connection, FA_INVALID for what the server refuses. */
extern fa_status fa_publish(const fa_publish_options *options, fa_error *error);

#endif
