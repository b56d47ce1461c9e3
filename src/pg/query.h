/*
 * query.h
 *		Queries of the caller's, given as text, that are read within a query of ours.
 */
#ifndef FACEATTR_QUERY_H
#define FACEATTR_QUERY_H

#include "faceattr.h"

#include "executor/spi.h"

/* The columns of the query's result; raises unless it is one statement that returns rows. SPI is
 * connected. */
extern TupleDesc query_describe(const char *query);
/*
 * "SELECT ours FROM (theirs) AS q columns": only what reads can stand there. columns: "" or
 * names in parentheses. A plan, for a cursor.
 */
extern SPIPlanPtr query_plan(const char *ours, const char *theirs, const char *columns);

#endif
