/*
 * functions.c
 *		The SQL functions. A form with a model argument and one without share
 *		their C function and differ in the number of arguments.
 *
 * Set-returning ones do all their work in the first call and keep finished
 * rows, so that nothing of the core's outlives a call.
 */
#include "faceattr.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* The rows of a set-returning function, made by its first call. */
typedef struct Rows
{
	Datum *values;
	bool *nulls; /* NULL: none is */
} Rows;

static Rows *
rows_alloc(FuncCallContext *context, int count, bool with_nulls)
{
	Rows *rows = palloc0(sizeof(*rows));

	rows->values = palloc_extended(sizeof(Datum) * count, MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	if (with_nulls)
		rows->nulls = palloc_extended(sizeof(bool) * count, MCXT_ALLOC_ZERO | MCXT_ALLOC_HUGE);
	context->user_fctx = rows;
	context->max_calls = count;
	return rows;
}

static Datum
next_row(FunctionCallInfo fcinfo)
{
	FuncCallContext *context = SRF_PERCALL_SETUP();
	Rows *rows = context->user_fctx;
	uint64 i = context->call_cntr;

	if (i >= context->max_calls) /* 0: a bad image was passed over */
		SRF_RETURN_DONE(context);
	if (rows->nulls != NULL && rows->nulls[i])
		SRF_RETURN_NEXT_NULL(context);
	SRF_RETURN_NEXT(context, rows->values[i]);
}

Datum
row_result(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

ReturnSetInfo *
materialized_rows(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext caller;
	TupleDesc desc;

	if (result == NULL || !IsA(result, ReturnSetInfo) ||
		(result->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("set-valued function called in context that cannot accept a set")));
	caller = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	result->returnMode = SFRM_Materialize;
	result->setDesc = CreateTupleDescCopy(desc);
	result->setResult = tuplestore_begin_heap(true, false, work_mem);
	MemoryContextSwitchTo(caller);
	return result;
}

/* The run of a call whose optional model is argument number n. */
static Run
run_of_call(FunctionCallInfo fcinfo, int n)
{
	return faceattr_run(fcinfo, PG_NARGS() > n ? PG_GETARG_TEXT_PP(n) : NULL);
}

bool
find_faces(const Run *run, const bytea *image, bool classify, Faces *faces)
{
	fa_faces found;
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_find_faces(run->pipeline, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image),
						   &run->options, classify, &found, &call.interrupt, &call.error);
	stat_work(run->pipeline);
	if (core_leave(&call, status) != FA_OK)
	{
		report_image_error(&call.error, run->on_bad_image);
		return false;
	}
	faces->count = found.count;
	faces->faces = core_take(found.faces, 0, found.count * sizeof(fa_face));
	return true;
}

/* --- Photos ---------------------------------------------------------------------- */

static Datum
faces_of_photo(FunctionCallInfo fcinfo, bool classify)
{
	if (SRF_IS_FIRSTCALL())
	{
		FuncCallContext *context = SRF_FIRSTCALL_INIT();
		Run run = run_of_call(fcinfo, 1);
		Faces faces;

		if (find_faces(&run, PG_GETARG_BYTEA_PP(0), classify, &faces))
		{
			FaceType type = face_type_open(fcinfo);
			MemoryContext caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
			Rows *rows = rows_alloc(context, faces.count, false);

			for (int i = 0; i < faces.count; i++)
				rows->values[i] = face_datum(&type, run.pipeline, &faces.faces[i], true);
			MemoryContextSwitchTo(caller);
			face_type_close(&type);
		}
	}
	return next_row(fcinfo);
}

/* face_attributes(image bytea [, model text]) returns setof face */
PG_FUNCTION_INFO_V1(faceattr_attributes);
Datum
faceattr_attributes(PG_FUNCTION_ARGS)
{
	return faces_of_photo(fcinfo, true);
}

/* face_detect(image bytea) returns setof face */
PG_FUNCTION_INFO_V1(faceattr_detect);
Datum
faceattr_detect(PG_FUNCTION_ARGS)
{
	return faces_of_photo(fcinfo, false);
}

/* face_array(image bytea, model text) returns face[] */
PG_FUNCTION_INFO_V1(faceattr_array);
Datum
faceattr_array(PG_FUNCTION_ARGS)
{
	Run run = run_of_call(fcinfo, 1);
	FaceType type;
	Faces faces;
	Datum array;

	if (!find_faces(&run, PG_GETARG_BYTEA_PP(0), true, &faces))
		PG_RETURN_NULL();
	type = face_type_open(fcinfo);
	array = face_array_datum(&type, run.pipeline, faces.faces, faces.count);
	face_type_close(&type);
	PG_RETURN_DATUM(array);
}

/* face_embedding(image bytea [, model text]) returns setof real[] */
PG_FUNCTION_INFO_V1(faceattr_embedding);
Datum
faceattr_embedding(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
	{
		FuncCallContext *context = SRF_FIRSTCALL_INIT();
		Run run = run_of_call(fcinfo, 1);
		bytea *image = PG_GETARG_BYTEA_PP(0);
		fa_faces found;
		float *embeddings;
		int dimension;
		fa_status status;
		CoreCall call;

		core_enter(&call);
		status =
			fa_embed_faces(run.pipeline, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), &run.options,
						   &found, &embeddings, &dimension, &call.interrupt, &call.error);
		stat_work(run.pipeline);
		if (core_leave(&call, status) != FA_OK)
			report_image_error(&call.error, run.on_bad_image);
		else
		{
			int count = found.count;
			MemoryContext caller;
			Datum *elements;
			Rows *rows;

			fa_faces_free(&found);
			embeddings = core_take(embeddings, 0, (size_t) count * dimension * sizeof(float));
			elements = palloc(sizeof(Datum) * dimension);

			caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
			rows = rows_alloc(context, count, false);
			for (int i = 0; i < count; i++)
			{
				for (int k = 0; k < dimension; k++)
					elements[k] = Float4GetDatum(embeddings[(size_t) i * dimension + k]);
				rows->values[i] = PointerGetDatum(construct_array(
					elements, dimension, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
			}
			MemoryContextSwitchTo(caller);
		}
	}
	return next_row(fcinfo);
}

/* face_annotate(image bytea [, model text [, format text]]) returns bytea */
PG_FUNCTION_INFO_V1(faceattr_annotate);
Datum
faceattr_annotate(PG_FUNCTION_ARGS)
{
	Run run = run_of_call(fcinfo, 1);
	bytea *image = PG_GETARG_BYTEA_PP(0);
	fa_format format;
	bool has_format = PG_NARGS() > 2;
	uint8_t *annotated;
	size_t length;
	bytea *result;
	fa_status status;
	CoreCall call;

	if (has_format)
	{
		char *name = text_to_cstring(PG_GETARG_TEXT_PP(2));

		if (pg_strcasecmp(name, "jpeg") == 0)
			format = FA_FORMAT_JPEG;
		else if (pg_strcasecmp(name, "png") == 0)
			format = FA_FORMAT_PNG;
		else
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("image format \"%s\" is not supported", name),
							errhint("Supported formats are \"jpeg\" and \"png\".")));
	}

	core_enter(&call);
	status =
		fa_annotate(run.pipeline, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), &run.options,
					has_format ? &format : NULL, &annotated, &length, &call.interrupt, &call.error);
	stat_work(run.pipeline);
	if (core_leave(&call, status) != FA_OK)
	{
		report_image_error(&call.error, run.on_bad_image);
		PG_RETURN_NULL();
	}
	result = core_take(annotated, VARHDRSZ, length);
	if (length > MaxAllocSize - VARHDRSZ)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("annotated image is too large for type bytea"),
						errdetail("It has %zu bytes.", length)));
	SET_VARSIZE(result, VARHDRSZ + length);
	PG_RETURN_BYTEA_P(result);
}

/* --- Ready crops ------------------------------------------------------------------ */

/* As many crops as the core is given at once; bounds what it allocates. */
#define CROP_BATCH 64

/*
 * faces[i] of crops[i] for at most CROP_BATCH crops, of which NULL ones are
 * skipped; nulls[i] where the result is NULL: that, or a bad image passed over.
 */
static void
classify_crops(const Run *run, bytea *const *crops, int count, fa_face *faces, bool *nulls)
{
	fa_bytes bytes[CROP_BATCH];
	fa_error errors[CROP_BATCH];
	fa_status status;
	CoreCall call;

	for (int i = 0; i < count; i++)
	{
		bytes[i].bytes = crops[i] != NULL ? VARDATA_ANY(crops[i]) : NULL;
		bytes[i].length = crops[i] != NULL ? VARSIZE_ANY_EXHDR(crops[i]) : 0;
	}

	core_enter(&call);
	status = fa_classify_crops(run->pipeline, bytes, count, run->options.max_pixels, faces, errors,
							   &call.interrupt, &call.error);
	stat_work(run->pipeline);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);

	for (int i = 0; i < count; i++)
	{
		if (errors[i].status != FA_OK)
			report_image_error(&errors[i], run->on_bad_image);
		nulls[i] = crops[i] == NULL || errors[i].status != FA_OK;
	}
}

/* face_classify(crop bytea [, model text]) returns face */
PG_FUNCTION_INFO_V1(faceattr_classify);
Datum
faceattr_classify(PG_FUNCTION_ARGS)
{
	Run run = run_of_call(fcinfo, 1);
	bytea *crop = PG_GETARG_BYTEA_PP(0);
	fa_face face;
	FaceType type;
	Datum result;
	bool null;

	classify_crops(&run, &crop, 1, &face, &null);
	if (null)
		PG_RETURN_NULL();
	type = face_type_open(fcinfo);
	result = face_datum(&type, run.pipeline, &face, false);
	face_type_close(&type);
	PG_RETURN_DATUM(result);
}

/* face_classify(crops bytea[] [, model text]) returns setof face */
PG_FUNCTION_INFO_V1(faceattr_classify_array);
Datum
faceattr_classify_array(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
	{
		FuncCallContext *context = SRF_FIRSTCALL_INIT();
		Run run = run_of_call(fcinfo, 1);
		FaceType type = face_type_open(fcinfo);
		MemoryContext caller;
		Datum *elements;
		bool *nulls;
		int count;
		Rows *rows;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &elements,
						  &nulls, &count);
		caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		rows = rows_alloc(context, count, true);
		MemoryContextSwitchTo(caller);

		for (int start = 0; start < count; start += CROP_BATCH)
		{
			int n = Min(CROP_BATCH, count - start);
			bytea *crops[CROP_BATCH];
			fa_face faces[CROP_BATCH];

			for (int i = 0; i < n; i++)
				crops[i] = nulls[start + i] ? NULL : DatumGetByteaPP(elements[start + i]);
			classify_crops(&run, crops, n, faces, rows->nulls + start);

			MemoryContextSwitchTo(context->multi_call_memory_ctx);
			for (int i = 0; i < n; i++)
				if (!rows->nulls[start + i])
					rows->values[start + i] = face_datum(&type, run.pipeline, &faces[i], false);
			MemoryContextSwitchTo(caller);
		}
		face_type_close(&type);
	}
	return next_row(fcinfo);
}

static int
find_head(const fa_pipeline *pipeline, const char *name)
{
	int head = fa_pipeline_find_head(pipeline, name);

	if (head < 0)
	{
		StringInfoData names;

		initStringInfo(&names);
		for (int i = 0; i < fa_pipeline_head_count(pipeline); i++)
			appendStringInfo(&names, "%s\"%s\"", i > 0 ? ", " : "",
							 fa_pipeline_head(pipeline, i)->name);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the model has no head \"%s\"", name),
				 errhint("Its heads are %s.", names.data)));
	}
	return head;
}

/* face_probabilities(crop bytea, head text [, model text]) returns table (label, probability) */
PG_FUNCTION_INFO_V1(faceattr_probabilities);
Datum
faceattr_probabilities(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
	{
		FuncCallContext *context = SRF_FIRSTCALL_INIT();
		Run run = run_of_call(fcinfo, 2);
		bytea *crop = PG_GETARG_BYTEA_PP(0);
		int index = find_head(run.pipeline, text_to_cstring(PG_GETARG_TEXT_PP(1)));
		const fa_head_info *head = fa_pipeline_head(run.pipeline, index);
		float *probabilities = palloc(sizeof(float) * head->classes);
		fa_status status;
		CoreCall call;

		core_enter(&call);
		status = fa_crop_probabilities(run.pipeline, VARDATA_ANY(crop), VARSIZE_ANY_EXHDR(crop),
									   run.options.max_pixels, index, probabilities,
									   &call.interrupt, &call.error);
		stat_work(run.pipeline);
		if (core_leave(&call, status) != FA_OK)
			report_image_error(&call.error, run.on_bad_image);
		else
		{
			MemoryContext caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
			Rows *rows = rows_alloc(context, head->classes, false);
			TupleDesc desc;

			if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
				elog(ERROR, "return type must be a row type");
			desc = BlessTupleDesc(desc);
			for (int i = 0; i < head->classes; i++)
			{
				Datum values[2] = {CStringGetTextDatum(head->labels[i]),
								   Float4GetDatum(probabilities[i])};
				bool nulls[2] = {false, false};

				rows->values[i] = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
			}
			MemoryContextSwitchTo(caller);
		}
	}
	return next_row(fcinfo);
}
