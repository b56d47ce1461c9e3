/*
 * query.c
 *		Queries of the caller's within ours; see query.h.
 */
#include "query.h"

#include "parser/scansup.h"
#include "utils/plancache.h"

static SPIPlanPtr
prepare(const char *query)
{
	SPIPlanPtr plan = SPI_prepare(query, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare: %s", SPI_result_code_string(SPI_result));
	return plan;
}

TupleDesc
query_describe(const char *query)
{
	List *sources = SPI_plan_get_plan_sources(prepare(query));
	TupleDesc desc =
		list_length(sources) == 1 ? ((CachedPlanSource *) linitial(sources))->resultDesc : NULL;

	if (desc == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the query must be one statement that returns rows")));
	return desc;
}

/* A comment may end theirs, hence the lines. */
SPIPlanPtr
query_plan(const char *ours, const char *theirs, const char *columns)
{
	int length = (int) strlen(theirs);

	while (length > 0 && (scanner_isspace(theirs[length - 1]) || theirs[length - 1] == ';'))
		length--;
	return prepare(psprintf("SELECT %s FROM (\n%.*s\n) AS q %s", ours, length, theirs, columns));
}
