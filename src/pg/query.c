/*
 * query.c
 *		Queries of the caller's within ours; see query.h.
 *
 * A stream is an execution, not a cursor: COMMIT would close a cursor of ours, perhaps before it
 * comes to the one WITH HOLD whose query reads it, while an execution lives in the resources of the
 * query that it is read by, whoever runs that. (SQL functions that return sets do the same.)
 */
#include "query.h"

#include "executor/executor.h"
#include "parser/parser.h"
#include "tcop/dest.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#if PG_VERSION_NUM < 180000
#define run_one(query) ExecutorRun(query, ForwardScanDirection, 1, false)
#else
#define run_one(query) ExecutorRun(query, ForwardScanDirection, 1)
#endif

struct QueryStream
{
	DestReceiver receiver; /* first: it is what the executor hands us */
	QueryDesc *query;
	QueryRow row;
	void *argument;
	MemoryContext memory; /* of a row */
	bool received;
};

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

/* Theirs without what may follow its semicolon. A comment may end it, hence the lines. */
SPIPlanPtr
query_plan(const char *ours, const char *theirs, const char *columns)
{
	const RawStmt *statement = linitial(raw_parser(theirs, RAW_PARSE_DEFAULT));
	const char *text = theirs + Max(statement->stmt_location, 0);
	int length = statement->stmt_len > 0 ? statement->stmt_len : (int) strlen(text);

	if (!IsA(statement->stmt, SelectStmt))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the query must be a SELECT or VALUES")));
	return prepare(psprintf("SELECT %s FROM (\n%.*s\n) AS q %s", ours, length, text, columns));
}

/* --- Streams ------------------------------------------------------------------------------ */

static bool
receive_row(TupleTableSlot *row, DestReceiver *self)
{
	QueryStream *s = (QueryStream *) self;
	MemoryContext caller = MemoryContextSwitchTo(s->memory);

	s->received = true;
	s->row(s->argument, row);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(s->memory);
	return true;
}

QueryStream *
query_start(SPIPlanPtr plan, MemoryContext context, QueryRow row, void *argument)
{
	CachedPlan *cached = SPI_plan_get_cached_plan(plan);
	MemoryContext caller = MemoryContextSwitchTo(context);
	QueryStream *s = palloc0(sizeof(QueryStream));
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	s->receiver = *None_Receiver;
	s->receiver.receiveSlot = receive_row;
	s->row = row;
	s->argument = argument;
	s->memory = AllocSetContextCreate(context, "faceattr row", ALLOCSET_DEFAULT_SIZES);
	s->query = CreateQueryDesc(copyObject(linitial_node(PlannedStmt, cached->stmt_list)),
							   pstrdup(source->query_string), GetActiveSnapshot(), InvalidSnapshot,
							   &s->receiver, NULL, NULL, 0);
	ReleaseCachedPlan(cached, NULL);
	ExecutorStart(s->query, 0);
	MemoryContextSwitchTo(caller);
	return s;
}

bool
query_next(QueryStream *s)
{
	s->received = false;
	PushActiveSnapshot(s->query->snapshot);
	run_one(s->query);
	PopActiveSnapshot();
	return s->received;
}

void
query_end(QueryStream *s)
{
	ExecutorFinish(s->query);
	ExecutorEnd(s->query);
	FreeQueryDesc(s->query);
}
