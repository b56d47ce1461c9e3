/*
 * query.h
 *		The rows of a query over faces, as one COPY (query) TO STDOUT (FORMAT binary) in a
 *		read-only transaction of its own.
 *
 * What a column is for follows from its name: `image` (bytea) is needed; `age` (a number,
 * a range of integers or text) or instead of it `birth_date` beside `photo_date`; `gender`
 * and `race` (text, an enum or integers); `person` (anything); `box` (box), where the
 * face is in its photo; `key` or `id` (anything), by which messages name the row. Other
 * columns are not fetched. The caller's thread does it all.
 */
#ifndef FA_QUERY_H
#define FA_QUERY_H

#include "../src/vision/image.h"

typedef struct fa_row
{
	int64_t number;       /* from 1 */
	char name[96];        /* "row 17", or "key 4711 (row 17)", cut to fit */
	const uint8_t *image; /* NULL where the column is; valid during the call, as the texts are */
	size_t length;
	const char *key, *age, *gender, *race, *person; /* UTF-8, or NULL */
	fa_rect box;                                    /* empty where there is none */
} fa_row;

typedef fa_status (*fa_take_row)(void *argument, const fa_row *row, fa_error *error);

/*
 * Connects, runs the query and calls take for every row; a failure of take ends the query.
 * application: application_name, where the connection string sets none. interrupt is asked ten
 * times a second; then the query is cancelled and FA_INTERRUPTED returned. FA_INVALID for
 * columns that are missing or of the wrong type, by name, and for what the server refuses.
 */
extern fa_status fa_query_run(const char *connection, const char *query, const char *application,
							  fa_take_row take, void *argument, const fa_interrupt *interrupt,
							  fa_error *error);

#endif
