/*
 * evaluate.c
 *		face_evaluate: how well a model does on the labelled images that a query gives, in
 *		total and by race, gender and decade of age.
 *
 * The query is read by a cursor, some rows at a time, within a query of ours that turns labels
 * into texts: what a label may look like is the same here and in the companion program
 * (label_reader.h). Of every image a judgement's worth is kept, nothing else; figures are made
 * at the end. The model is looked up anew for every batch, since the query may use
 * models of its own in between.
 */
#include "query.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "miscadmin.h"
#include "utils/geo_decls.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "../face/judge.h"

#define ROWS_AT_A_TIME 8 /* photos may have many megabytes */

/* Fields of our query. */
enum
{
	FIELD_IMAGE = 1,
	FIELD_AGE,
	FIELD_GENDER,
	FIELD_RACE,
	FIELD_BOX
};

typedef struct Outcome
{
	fa_label label; /* numbers of the reader's dictionaries, then classes */
	bool found;
	fa_face face;
} Outcome;

/* In a memory context of its own; what is malloc'ed goes with it. */
typedef struct Evaluation
{
	MemoryContextCallback callback;
	FunctionCallInfo fcinfo;
	const text *model; /* NULL: the session's */
	bool crops;
	fa_label_reader reader;
	fa_label_sets data, labels; /* of the data, of the model */
	Outcome *outcomes;
	int64 count, capacity, bad;
} Evaluation;

static void
free_evaluation(void *argument)
{
	Evaluation *e = argument;

	fa_label_reader_free(&e->reader);
	fa_label_sets_free(&e->data);
	fa_label_sets_free(&e->labels);
}

/* --- The query ------------------------------------------------------------------- */

static Oid
column_type(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return TupleDescAttr(desc, i)->atttypid;
	return InvalidOid;
}

static void
check_type(TupleDesc desc, const char *name, Oid wanted)
{
	Oid type = column_type(desc, name);

	if (OidIsValid(type) && getBaseType(type) != wanted)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of the query is of type %s, not %s", name,
							   format_type_be(type), format_type_be(wanted))));
}

/* Image, labels as texts, box. */
static SPIPlanPtr
make_plan(const char *query)
{
	static const char from_dates[] =
		"CASE WHEN NOT pg_catalog.isfinite(q.birth_date) OR NOT pg_catalog.isfinite(q.photo_date) "
		"THEN NULL "
		"WHEN q.photo_date OPERATOR(pg_catalog.<) q.birth_date THEN 'born after the photo' "
		"ELSE pg_catalog.date_part('year', pg_catalog.age(q.photo_date::pg_catalog.timestamp, "
		"q.birth_date::pg_catalog.timestamp))::pg_catalog.text END";
	static const char no_label[] = "NULL::pg_catalog.text";
	TupleDesc desc = query_describe(query);
	bool age = OidIsValid(column_type(desc, "age"));
	bool gender = OidIsValid(column_type(desc, "gender"));
	bool race = OidIsValid(column_type(desc, "race"));
	bool dates = OidIsValid(column_type(desc, "birth_date"));

	if (!OidIsValid(column_type(desc, "image")))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query has no column \"image\""),
				 errhint("Name the column of photos so: SELECT photo AS image, ...")));
	check_type(desc, "image", BYTEAOID);
	check_type(desc, "box", BOXOID);
	if (dates != OidIsValid(column_type(desc, "photo_date")))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("columns \"birth_date\" and \"photo_date\" belong together")));
	if (age && dates)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN),
						errmsg("the query has both a column \"age\" and a column \"birth_date\"")));
	if (!age && !dates && !gender && !race)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query has no column of labels"),
				 errhint("Labels are in columns \"age\", or \"birth_date\" and "
						 "\"photo_date\", \"gender\" and \"race\".")));
	return query_plan(
		psprintf("q.image, %s, %s, %s, %s",
				 age     ? "q.age::pg_catalog.text"
				 : dates ? from_dates
						 : no_label,
				 gender ? "q.gender::pg_catalog.text" : no_label,
				 race ? "q.race::pg_catalog.text" : no_label,
				 OidIsValid(column_type(desc, "box")) ? "q.box" : "NULL::pg_catalog.box"),
		query, "");
}

/* --- Rows ------------------------------------------------------------------------ */

static fa_rect
read_box(HeapTuple row, TupleDesc desc)
{
	bool null;
	Datum datum = SPI_getbinval(row, desc, FIELD_BOX, &null);
	const BOX *box;

	if (null)
		return (fa_rect){0};
	box = DatumGetBoxP(datum);
	return (fa_rect){box->low.x, box->low.y, box->high.x, box->high.y};
}

/* The face that a photo's label speaks of; false: a bad image was passed over. */
static bool
judge_photo(const Run *run, const bytea *image, const fa_rect *box, Outcome *outcome)
{
	Faces found;
	fa_faces faces;
	int chosen = 0;

	if (!find_faces(run, image, true, &found))
		return false;
	faces = (fa_faces){.faces = found.faces, .count = found.count};
	if (box->x2 > box->x1 && box->y2 > box->y1)
		chosen = fa_face_in_box(&faces, box);
	outcome->found = chosen >= 0 && chosen < faces.count;
	if (outcome->found)
		outcome->face = faces.faces[chosen];
	pfree(found.faces);
	return true;
}

static bool
judge_crop(const Run *run, const bytea *image, Outcome *outcome)
{
	fa_bytes crop = {VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image)};
	fa_error own;
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_classify_crops(run->pipeline, &crop, 1, run->options.max_pixels, &outcome->face,
							   &own, &call.interrupt, &call.error);
	stat_work(run->pipeline);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
	if (own.status != FA_OK)
	{
		report_image_error(&own, run->on_bad_image);
		return false;
	}
	outcome->found = true;
	return true;
}

static void
take_label(Evaluation *e, HeapTuple row, TupleDesc desc, fa_label *label)
{
	fa_error error;

	if (fa_label_reader_add(&e->reader, SPI_getvalue(row, desc, FIELD_AGE),
							SPI_getvalue(row, desc, FIELD_GENDER),
							SPI_getvalue(row, desc, FIELD_RACE), NULL, label, &error) != FA_OK)
		raise_core_error(&error);
}

static void
take_row(Evaluation *e, const Run *run, HeapTuple row, TupleDesc desc)
{
	Outcome outcome = {.found = false};
	fa_rect box = read_box(row, desc);
	bool null, usable;
	Datum image = SPI_getbinval(row, desc, FIELD_IMAGE, &null);
	bytea *bytes;

	if (null)
		return;
	CHECK_FOR_INTERRUPTS();
	take_label(e, row, desc, &outcome.label);
	bytes = DatumGetByteaPP(image);
	usable = e->crops ? judge_crop(run, bytes, &outcome) : judge_photo(run, bytes, &box, &outcome);
	if ((Pointer) bytes != DatumGetPointer(image))
		pfree(bytes);
	if (!usable)
	{
		e->bad++;
		return;
	}
	if (e->count == e->capacity)
	{
		if (e->count >= PG_INT32_MAX / 2)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("the query gives too many images")));
		e->capacity *= 2;
		e->outcomes = repalloc_huge(e->outcomes, e->capacity * sizeof(Outcome));
	}
	e->outcomes[e->count++] = outcome;
}

static Run
current_run(const Evaluation *e)
{
	Run run = faceattr_run(e->fcinfo, e->model);

	run.on_bad_image = faceattr_on_bad_image;
	return run;
}

static void
read_rows(Evaluation *e, const char *query)
{
	MemoryContext batch =
		AllocSetContextCreate(CurrentMemoryContext, "faceattr batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer;
	Portal cursor;

	SPI_connect();
	cursor = SPI_cursor_open(NULL, make_plan(query), NULL, NULL, true);
	for (;;)
	{
		Run run;

		SPI_cursor_fetch(cursor, true, ROWS_AT_A_TIME);
		if (SPI_processed == 0)
			break;
		run = current_run(e);
		outer = MemoryContextSwitchTo(batch);
		for (uint64 i = 0; i < SPI_processed; i++)
			take_row(e, &run, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(batch);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(cursor);
	SPI_finish();
	MemoryContextDelete(batch);
}

/* --- Figures --------------------------------------------------------------------- */

/* Numbers become classes, and names that the model does not know are told. */
static void
settle(Evaluation *e)
{
	Run run = current_run(e);
	fa_error error;

	if (fa_model_sets(run.pipeline, &e->labels, &error) != FA_OK ||
		fa_label_reader_settle(&e->reader, NULL, &e->data, &error) != FA_OK)
		raise_core_error(&error);
	for (int64 i = 0; i < e->count; i++)
		fa_label_reader_apply(&e->reader, &e->outcomes[i].label);
}

static void
warn_of_unknown(const char *head, const fa_labels *data, const fa_labels *model)
{
	for (int i = 0; i < data->count && model->count > 0; i++)
		if (fa_labels_find(model, data->names[i]) == FA_NO_LABEL)
		{
			StringInfoData known;

			initStringInfo(&known);
			for (int k = 0; k < model->count; k++)
				appendStringInfo(&known, "%s\"%s\"", k > 0 ? ", " : "", model->names[k]);
			ereport(WARNING, (errmsg("the model does not know the %s \"%s\"", head, data->names[i]),
							  errdetail("It is neither right nor wrong there."),
							  errhint("It knows %s.", known.data)));
		}
}

/* The columns of a result's row, filled one after the other. */
typedef struct Columns
{
	Datum values[25];
	bool nulls[25];
	int count;
} Columns;

static void
put(Columns *c, Datum value, bool null)
{
	c->values[c->count] = value;
	c->nulls[c->count++] = null;
}

static void
put_number(Columns *c, double value)
{
	put(c, Float8GetDatum(value), isnan(value));
}

static void
put_estimate(Columns *c, const fa_estimate *estimate)
{
	put_number(c, estimate->value);
	put_number(c, estimate->low);
	put_number(c, estimate->high);
}

static void
put_name(Columns *c, const fa_labels *labels, int class)
{
	put(c, class < 0 ? (Datum) 0 : CStringGetTextDatum(labels->names[class]), class < 0);
}

static void
add_group(Evaluation *e, const fa_judgement *judgements, fa_group group, ReturnSetInfo *result)
{
	bool all = group.race < 0 && group.gender < 0 && group.decade < 0;
	Columns c = {.count = 0};
	fa_figures f;
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status =
		fa_figures_compute(judgements, (int) e->count, group, 1, &f, &call.interrupt, &call.error);
	if (core_leave(&call, status) != FA_OK)
		raise_core_error(&call.error);
	if (f.count == 0 && !all)
		return;
	put_name(&c, &e->data.races, group.race);
	put_name(&c, &e->data.genders, group.gender);
	put(&c, Int32GetDatum(10 * group.decade), group.decade < 0);
	put(&c, Int64GetDatum(f.count), false);
	put(&c, Int64GetDatum(f.count - f.found), false);
	put(&c, Int64GetDatum(e->bad), !all);
	put_estimate(&c, &f.age_error);
	put_number(&c, f.age_bias);
	put_number(&c, f.age_coverage);
	put_estimate(&c, &f.gender);
	put_number(&c, f.gender_calibration);
	put_estimate(&c, &f.race);
	put_number(&c, f.race_calibration);
	put_estimate(&c, &f.false_adult_18);
	put_estimate(&c, &f.false_adult_21);
	tuplestore_putvalues(result->setResult, result->setDesc, c.values, c.nulls);
}

/* All; by race, by gender, by decade; and the cells of all three that occur. */
static void
add_groups(Evaluation *e, ReturnSetInfo *result)
{
	fa_judgement *judgements =
		MemoryContextAllocHuge(CurrentMemoryContext, (e->count + 1) * sizeof(fa_judgement));

	for (int64 i = 0; i < e->count; i++)
		judgements[i] = fa_judge(&e->outcomes[i].label, &e->data,
								 e->outcomes[i].found ? &e->outcomes[i].face : NULL, &e->labels);
	add_group(e, judgements, (fa_group){-1, -1, -1}, result);
	for (int race = 0; race < e->data.races.count; race++)
		add_group(e, judgements, (fa_group){race, -1, -1}, result);
	for (int gender = 0; gender < e->data.genders.count; gender++)
		add_group(e, judgements, (fa_group){-1, gender, -1}, result);
	for (int decade = 0; decade < FA_DECADES; decade++)
		add_group(e, judgements, (fa_group){-1, -1, decade}, result);
	for (int race = 0; race < e->data.races.count; race++)
		for (int gender = 0; gender < e->data.genders.count; gender++)
			for (int decade = 0; decade < FA_DECADES; decade++)
				add_group(e, judgements, (fa_group){race, gender, decade}, result);
}

/* face_evaluate(query text, model text, crops boolean) returns setof record */
PG_FUNCTION_INFO_V1(faceattr_evaluate);
Datum
faceattr_evaluate(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	Evaluation *e;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be NULL", PG_ARGISNULL(0) ? "query" : "crops")));
	result = materialized_rows(fcinfo);
	e = palloc0(sizeof(*e));
	e->callback.func = free_evaluation;
	e->callback.arg = e;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &e->callback);
	e->fcinfo = fcinfo;
	e->model = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	e->crops = PG_GETARG_BOOL(2);
	e->capacity = 1024;
	e->outcomes = palloc(e->capacity * sizeof(Outcome));
	read_rows(e, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	settle(e);
	warn_of_unknown("gender", &e->data.genders, &e->labels.genders);
	warn_of_unknown("race", &e->data.races, &e->labels.races);
	if (e->reader.unusable > 0)
		ereport(WARNING, (errmsg("%lld values are no label", (long long) e->reader.unusable),
						  errdetail("The first is %s.", e->reader.first_unusable)));
	add_groups(e, result);
	return (Datum) 0;
}
