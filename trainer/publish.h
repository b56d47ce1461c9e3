/*
 * publish.h
 *		A model file into the table face_model of a database, and a training's progress
 *		into that server's pg_stat_activity.
 */
#ifndef FA_PUBLISH_H
#define FA_PUBLISH_H

#include "../src/fa.h"

#include <stdio.h>

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

/*
 * Prints the `faceattr publish` that does the same, as a shell takes it; without passwords.
 * metrics, hyper_parameters: paths of files that hold options->metrics and ->hyper_parameters.
 */
extern void fa_publish_command(const fa_publish_options *options, const char *metrics,
							   const char *hyper_parameters, FILE *to);

/*
 * A connection that stays open, idle and out of any transaction, while a training runs, to show how
 * far it is. Opening it goes through a whole publication with the bytes of `model`, a model
 * file, and takes it back: what would be refused is refused before hours of work are spent.
 */
typedef struct fa_publisher fa_publisher;

extern fa_status fa_publisher_open(const char *dsn, const char *name, const char *model,
								   fa_publisher **publisher, fa_error *error);
/*
 * Sets application_name, of which the server keeps 63 bytes; called too often, it does nothing.
 * Never waits: showing is no reason to hold up a training. A lost connection is taken up again,
 * if that is possible, and else left alone.
 */
extern void fa_publisher_show(fa_publisher *publisher, const char *text);
extern void fa_publisher_close(fa_publisher *publisher); /* NULL is allowed */

#endif
