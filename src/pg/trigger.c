/*
 * trigger.c
 *		face_attributes_trigger(image_column, target_column [, model]): keeps a
 *		column of faces in step with a column of photos. A BEFORE ROW trigger, so
 *		that the row is written once.
 *
 * The target is of type face[] (all faces) or face (the largest). It is written
 * on INSERT, and on UPDATE when the photo's bytes have changed; else the row is
 * left as it is. Attribute numbers are looked up for each row, since partitions
 * may differ in them.
 */
#include "faceattr.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Column of that name which a BEFORE trigger can work with; its number. */
static int
find_column(Relation table, const char *name)
{
	int number = SPI_fnumber(RelationGetDescr(table), name);

	if (number <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of relation \"%s\" does not exist", name,
							   RelationGetRelationName(table)),
						errdetail("It is an argument of face_attributes_trigger.")));
	if (TupleDescAttr(RelationGetDescr(table), number - 1)->attgenerated)
		ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						errmsg("face_attributes_trigger cannot use generated column \"%s\"", name),
						errdetail("Generated columns are computed after BEFORE triggers.")));
	return number;
}

static void
check_context(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("face_attributes_trigger was not called by a trigger")));
	if (!TRIGGER_FIRED_BEFORE(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("face_attributes_trigger must be fired before INSERT or UPDATE, for "
							   "each row")));
	if (data->tg_trigger->tgnargs < 2 || data->tg_trigger->tgnargs > 3)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("face_attributes_trigger takes two or three arguments, not %d",
							   data->tg_trigger->tgnargs),
						errhint("They are the image column, the target column and, optionally, the "
								"model.")));
}

/* Faces of the image as the target's type wants them; false for NULL. */
static bool
compute_target(FunctionCallInfo fcinfo, Oid target_type, const bytea *image, const char *model,
			   Datum *target)
{
	Run run = faceattr_run(fcinfo, model != NULL ? cstring_to_text(model) : NULL);
	FaceType type;
	Faces faces;
	bool found;

	if (!find_faces(&run, image, true, &faces))
		return false;

	type = face_type_open(fcinfo);
	found = true;
	if (target_type != type.oid)
		*target = face_array_datum(&type, run.pipeline, faces.faces, faces.count);
	else if (faces.count > 0)
		*target = face_datum(&type, run.pipeline, &faces.faces[0], true);
	else
		found = false;
	face_type_close(&type);
	return found;
}

/* Whether an UPDATE leaves the photo as it was. A stored photo's pointer tells at once. */
static bool
image_unchanged(const TriggerData *data, int number, Datum image, bool image_null)
{
	bool old_null;
	Datum old =
		heap_getattr(data->tg_trigtuple, number, RelationGetDescr(data->tg_relation), &old_null);

	if (image_null || old_null)
		return image_null && old_null;
	return datumIsEqual(old, image, false, -1) || datum_image_eq(old, image, false, -1);
}

PG_FUNCTION_INFO_V1(faceattr_trigger);
Datum
faceattr_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	char **arguments;
	int image_column, target_column;
	Oid face, target_type;
	bool update;
	HeapTuple row;
	Datum image, target = (Datum) 0;
	bool image_null, target_null;

	check_context(fcinfo);

	desc = RelationGetDescr(data->tg_relation);
	arguments = data->tg_trigger->tgargs;
	image_column = find_column(data->tg_relation, arguments[0]);
	target_column = find_column(data->tg_relation, arguments[1]);

	if (getBaseType(SPI_gettypeid(desc, image_column)) != BYTEAOID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" is of type %s, not bytea", arguments[0],
							   format_type_be(SPI_gettypeid(desc, image_column))),
						errdetail("It is the image column of face_attributes_trigger.")));
	face = face_type_oid(fcinfo);
	target_type = SPI_gettypeid(desc, target_column);
	if (target_type != face && target_type != get_array_type(face))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" is of type %s, not face or face[]", arguments[1],
							   format_type_be(target_type)),
						errdetail("It is the target column of face_attributes_trigger.")));

	update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	row = update ? data->tg_newtuple : data->tg_trigtuple;
	image = heap_getattr(row, image_column, desc, &image_null);
	if (update && image_unchanged(data, image_column, image, image_null))
		return PointerGetDatum(row);

	target_null =
		image_null || !compute_target(fcinfo, target_type, DatumGetByteaPP(image),
									  data->tg_trigger->tgnargs > 2 ? arguments[2] : NULL, &target);
	return PointerGetDatum(
		heap_modify_tuple_by_cols(row, desc, 1, &target_column, &target, &target_null));
}
