/*
 * scan.c
 *		faceattr_scan, the rows of face_scan: the faces in the photos that a query gives, as a
 *		stream. face_scan itself is a query over it that the server sets in its place.
 *
 * The query is read one row at a time and only as far ahead as photos are wanted in flight
 * (src/face/scan.h), which bounds them in number and bytes. Where rows have been found, they are
 * handed out one per call; then the next photos go through the network together.
 *
 * What lives from call to call: the query's execution (query.h); the core's scan with its threads;
 * keys of photos in flight; and the rows that are found. The model is looked up anew for every
 * group of photos, since the statement may use others in between. When the statement ends early,
 * the expression context ends the execution, or else the transaction's abort does; memory and
 * threads go with the function's memory context, whatever happens.
 */
#include "query.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../face/scan.h"

/* A photo whose faces have been found. */
typedef struct Found
{
	char *key; /* NULL: the row's is */
	fa_error error;
	Datum *faces;
	int count;
} Found;

typedef struct FaceScan
{
	MemoryContextCallback callback;
	fa_scan *scan;      /* NULL: not begun */
	QueryStream *query; /* NULL: it has been read to its end */
	text *model;        /* NULL: the session's */
	TupleDesc desc;
	MemoryContext context;          /* the function's */
	MemoryContext group;            /* of what is found */
	char *keys[2 * FA_SCAN_PHOTOS]; /* of photos in flight, in a ring; palloc'ed one by one */
	int first_key, key_count;
	Found found[FA_SCAN_PHOTOS];
	int found_count, next_found, next_face;
} FaceScan;

static void
free_scan(void *argument)
{
	FaceScan *s = argument;

	fa_scan_close(s->scan);
	s->scan = NULL;
}

/* --- Photos in flight ----------------------------------------------------------------- */

static void
check_columns(TupleDesc desc)
{
	Oid type;

	if (desc->natts != 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the query must give two columns, a key and an image, not %d",
							   desc->natts)));
	type = TupleDescAttr(desc, 1)->atttypid;
	if (getBaseType(type) != BYTEAOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the query's second column is of type %s, not bytea", format_type_be(type)),
				 errhint("The first column is the key, the second the image.")));
}

static void
push(FaceScan *s, const bytea *image)
{
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_scan_push(s->scan, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), &call.error);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
}

/* A row of the query; a NULL image has no faces. */
static void
push_row(void *argument, TupleTableSlot *row)
{
	FaceScan *s = argument;
	TupleDesc desc = row->tts_tupleDescriptor;
	bool no_key, no_image;
	Datum key = slot_getattr(row, 1, &no_key), image = slot_getattr(row, 2, &no_image);
	char *key_text = NULL;

	if (no_image)
		return;
	if (!no_key)
	{
		Oid output;
		bool varlena;

		getTypeOutputInfo(TupleDescAttr(desc, 0)->atttypid, &output, &varlena);
		key_text = MemoryContextStrdup(s->context, OidOutputFunctionCall(output, key));
	}
	push(s, DatumGetByteaPP(image));
	s->keys[(s->first_key + s->key_count++) % lengthof(s->keys)] = key_text;
}

static void
end_query(Datum argument)
{
	FaceScan *s = (FaceScan *) DatumGetPointer(argument);
	QueryStream *query = s->query;

	s->query = NULL;
	if (query != NULL)
		query_end(query);
}

static void
fill(FaceScan *s)
{
	while (s->query != NULL && fa_scan_wants(s->scan))
	{
		CHECK_FOR_INTERRUPTS();
		if (!query_next(s->query))
			end_query(PointerGetDatum(s));
	}
}

static void
start_query(FaceScan *s, const char *query)
{
	SPI_connect();
	check_columns(query_describe(query));
	s->query =
		query_start(query_plan("q.key, q.image", query, "(key, image)"), s->context, push_row, s);
	SPI_finish();
}

/* --- Faces ------------------------------------------------------------------------------ */

static Run
current_run(FunctionCallInfo fcinfo, const FaceScan *s)
{
	Run run = faceattr_run(fcinfo, s->model);

	run.on_bad_image = faceattr_on_bad_image; /* a scan of millions does not end at one */
	return run;
}

/* The oldest photo's, as values in the group's memory. */
static void
take_found(FaceScan *s, const FaceType *type, const fa_pipeline *pipeline, Found *found)
{
	fa_faces faces;
	Datum *values;

	found->key = s->keys[s->first_key];
	s->first_key = (s->first_key + 1) % (int) lengthof(s->keys);
	s->key_count--;
	memset(&found->error, 0, sizeof(found->error));
	found->count = 0;
	if (fa_scan_take(s->scan, &faces, &found->error) != FA_OK)
		return;
	found->count = faces.count;
	/* their own memory until they are the server's */
	faces.faces = core_take(faces.faces, 0, faces.count * sizeof(fa_face));
	values = palloc_extended(sizeof(Datum) * faces.count, MCXT_ALLOC_HUGE);
	for (int i = 0; i < faces.count; i++)
		values[i] = face_datum(type, pipeline, &faces.faces[i], true);
	found->faces = values;
	pfree(faces.faces);
}

static void
find_next(FunctionCallInfo fcinfo, FaceScan *s)
{
	MemoryContext caller;
	FaceType type;
	fa_status status;
	CoreCall call;
	Run run;
	int done;

	for (int i = 0; i < s->found_count; i++)
		if (s->found[i].key != NULL)
			pfree(s->found[i].key);
	s->found_count = s->next_found = s->next_face = 0;
	MemoryContextReset(s->group);
	fill(s);
	if (fa_scan_count(s->scan) == 0)
		return;
	run = current_run(fcinfo, s);
	core_enter(&call);
	status = fa_scan_run(s->scan, run.pipeline, &done, &call.interrupt, &call.error);
	stat_work(run.pipeline);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
	type = face_type_open(fcinfo);
	caller = MemoryContextSwitchTo(s->group);
	for (; s->found_count < done; s->found_count++)
		take_found(s, &type, run.pipeline, &s->found[s->found_count]);
	MemoryContextSwitchTo(caller);
	face_type_close(&type);
}

static void
tell_key(void *argument)
{
	const Found *found = argument;

	if (found->key != NULL)
		errcontext("face_scan, key \"%s\"", found->key);
	else
		errcontext("face_scan, a row without a key");
}

static void
report_bad_image(Found *found)
{
	ErrorContextCallback callback = {error_context_stack, tell_key, found};

	error_context_stack = &callback;
	report_image_error(&found->error, faceattr_on_bad_image);
	error_context_stack = callback.previous;
}

/* The next face, perhaps of the next photo that has one; false: there is none any more. */
static bool
next_face(FunctionCallInfo fcinfo, FaceScan *s, const Found **photo, Datum *face)
{
	for (;;)
	{
		Found *found = &s->found[s->next_found];

		if (s->next_found == s->found_count)
		{
			find_next(fcinfo, s);
			if (s->found_count == 0)
				return false;
			continue;
		}
		if (s->next_face < found->count)
		{
			*photo = found;
			*face = found->faces[s->next_face++];
			return true;
		}
		s->next_found++;
		s->next_face = 0;
		if (found->error.status != FA_OK)
			report_bad_image(found);
	}
}

/* --- The function ----------------------------------------------------------------------- */

static FaceScan *
begin(FunctionCallInfo fcinfo, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	FaceScan *s = palloc0(sizeof(FaceScan));
	fa_status status;
	CoreCall call;
	Run run;

	s->callback.func = free_scan;
	s->callback.arg = s;
	MemoryContextRegisterResetCallback(context, &s->callback);
	s->context = context;
	s->group = AllocSetContextCreate(context, "faceattr faces", ALLOCSET_DEFAULT_SIZES);
	s->model = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_P_COPY(1);
	if (get_call_result_type(fcinfo, NULL, &s->desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	s->desc = BlessTupleDesc(s->desc);
	MemoryContextSwitchTo(caller);
	run = current_run(fcinfo, s);
	core_enter(&call);
	status = fa_scan_open(run.pipeline, &run.options, faceattr_threads - 1, &s->scan, &call.error);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
	start_query(s, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	RegisterExprContextCallback(result->econtext, end_query, PointerGetDatum(s));
	return s;
}

/* faceattr_scan(query text, model text) returns setof (key text, face face) */
PG_FUNCTION_INFO_V1(faceattr_scan);
Datum
faceattr_scan(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	const Found *photo;
	Datum values[2];
	bool nulls[2] = {false, false};
	FaceScan *s;

	if (SRF_IS_FIRSTCALL())
	{
		if (PG_ARGISNULL(0))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"query\" must not be NULL")));
		context = SRF_FIRSTCALL_INIT();
		context->user_fctx = begin(fcinfo, context->multi_call_memory_ctx);
	}
	context = SRF_PERCALL_SETUP();
	s = context->user_fctx;
	if (!next_face(fcinfo, s, &photo, &values[1]))
	{
		UnregisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext, end_query,
									  PointerGetDatum(s));
		SRF_RETURN_DONE(context);
	}
	nulls[0] = photo->key == NULL;
	if (!nulls[0])
		values[0] = CStringGetTextDatum(photo->key);
	SRF_RETURN_NEXT(context, HeapTupleGetDatum(heap_form_tuple(s->desc, values, nulls)));
}
