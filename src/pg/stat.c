/*
 * stat.c
 *		What has been done so far: images, faces, errors by kind, and where the time
 *		went; the view faceattr_stat.
 *
 * Preloaded, the counters are the server's, atomics in main shared memory, and
 * start with it. Else a session counts for itself. They are added to while the core
 * is on the stack, too, so nothing here allocates or raises but the SQL functions.
 */
#include "faceattr.h"

#include "access/htup_details.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef struct Counters
{
	pg_atomic_uint64 values[STATS];
	pg_atomic_uint64 since; /* a TimestampTz */
} Counters;

static Counters session_counters;
static Counters *counters = &session_counters;

static void
start(Counters *started)
{
	for (int i = 0; i < STATS; i++)
		pg_atomic_init_u64(&started->values[i], 0);
	pg_atomic_init_u64(&started->since, (uint64) GetCurrentTimestamp());
}

Size
stat_shared_size(void)
{
	return sizeof(Counters);
}

void
stat_attach(void *memory, bool found)
{
	counters = memory;
	if (!found)
		start(counters);
}

void
stat_init(void)
{
	start(&session_counters);
}

static void
add(Stat stat, int64 n)
{
	if (n > 0)
		pg_atomic_fetch_add_u64(&counters->values[stat], n);
}

void
stat_error(fa_status status)
{
	switch (status)
	{
		case FA_DAMAGED:
			add(STAT_DAMAGED, 1);
			break;
		case FA_UNSUPPORTED:
			add(STAT_UNSUPPORTED, 1);
			break;
		case FA_TOO_LARGE:
			add(STAT_TOO_LARGE, 1);
			break;
		default:
			add(STAT_OTHER_ERRORS, 1);
			break;
	}
}

void
stat_work(fa_pipeline *pipeline)
{
	fa_work work = fa_pipeline_take_work(pipeline);

	add(STAT_IMAGES, work.images);
	if (strcmp(fa_pipeline_engine(pipeline), "cuda") == 0 ||
		(strcmp(fa_pipeline_engine(pipeline), "service") == 0 && service_is_gpu()))
		add(STAT_GPU_IMAGES, work.images);
	add(STAT_FACES, work.faces);
	add(STAT_DECODE_TIME, (int64) (work.decode * 1e6));
	add(STAT_DETECT_TIME, (int64) (work.detect * 1e6));
	add(STAT_CLASSIFY_TIME, (int64) (work.classify * 1e6));
}

/* faceattr_stat_counters() returns record: the row of the view faceattr_stat */
PG_FUNCTION_INFO_V1(faceattr_stat_counters);
Datum
faceattr_stat_counters(PG_FUNCTION_ARGS)
{
	Datum values[STATS + 2];
	bool nulls[STATS + 2] = {false};

	values[0] = CStringGetTextDatum(counters == &session_counters ? "session" : "server");
	values[1] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&counters->since));
	for (int i = 0; i < STATS; i++)
	{
		uint64 value = pg_atomic_read_u64(&counters->values[i]);

		values[2 + i] = i < STAT_DECODE_TIME ? Int64GetDatum((int64) value)
											 : Float8GetDatum((double) value / 1000);
	}
	PG_RETURN_DATUM(row_result(fcinfo, values, nulls));
}

/* faceattr_stat_reset() returns void */
PG_FUNCTION_INFO_V1(faceattr_stat_reset);
Datum
faceattr_stat_reset(PG_FUNCTION_ARGS)
{
	for (int i = 0; i < STATS; i++)
		pg_atomic_write_u64(&counters->values[i], 0);
	pg_atomic_write_u64(&counters->since, (uint64) GetCurrentTimestamp());
	PG_RETURN_VOID();
}
