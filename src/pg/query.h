/*
 * query.h
 *		Queries of the caller's, given as text, that are read within a query of ours.
 */
#ifndef FACEATTR_QUERY_H
#define FACEATTR_QUERY_H

#include "faceattr.h"

#include "executor/spi.h"

/* A query that is read row by row by a function that returns to its caller in between. */
typedef struct QueryStream QueryStream;
/* What is done with a row. Memory lasts until it is done. */
typedef void (*QueryRow)(void *argument, TupleTableSlot *row);

/* The columns of the query's result; raises unless it is one statement that returns rows. SPI is
 * connected. */
extern TupleDesc query_describe(const char *query);
/*
 * "SELECT ours FROM (theirs) AS q columns": only what reads can stand there. columns: "" or
 * names in parentheses.
 */
extern SPIPlanPtr query_plan(const char *ours, const char *theirs, const char *columns);

/* The stream lives in the context. SPI is connected, and need not be later. */
extern QueryStream *query_start(SPIPlanPtr plan, MemoryContext context, QueryRow row,
								void *argument);
/* Does its work with the next row; false: there is none any more. */
extern bool query_next(QueryStream *stream);
/* After an error there is no need to end it. */
extern void query_end(QueryStream *stream);

#endif
