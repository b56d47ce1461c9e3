/*
 * face_type.c
 *		Faces of the core as values of the SQL type "face".
 *
 * The extension lives in any schema: the type is the one that lies in the schema of
 * the function that runs. Its columns are checked, since an owner may alter it.
 */
#include "faceattr.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/geo_decls.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

enum
{
	FACE_BOX,
	FACE_SCORE,
	FACE_LANDMARKS,
	FACE_AGE,
	FACE_AGE_LOW,
	FACE_AGE_HIGH,
	FACE_GENDER,
	FACE_GENDER_CONFIDENCE,
	FACE_RACE,
	FACE_RACE_CONFIDENCE,
	FACE_COLUMNS
};

static const Oid column_types[FACE_COLUMNS] = {
	[FACE_BOX] = BOXOID,
	[FACE_SCORE] = FLOAT4OID,
	[FACE_LANDMARKS] = POINTARRAYOID,
	[FACE_AGE] = FLOAT4OID,
	[FACE_AGE_LOW] = FLOAT4OID,
	[FACE_AGE_HIGH] = FLOAT4OID,
	[FACE_GENDER] = TEXTOID,
	[FACE_GENDER_CONFIDENCE] = FLOAT4OID,
	[FACE_RACE] = TEXTOID,
	[FACE_RACE_CONFIDENCE] = FLOAT4OID,
};

Oid
face_type_oid(FunctionCallInfo fcinfo)
{
	Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("face"),
							   ObjectIdGetDatum(schema));

	if (!OidIsValid(type))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("type \"face\" does not exist in the schema of the functions"),
						errhint("Create the extension faceattr again.")));
	return type;
}

FaceType
face_type_open(FunctionCallInfo fcinfo)
{
	FaceType type;
	bool matches;

	type.oid = face_type_oid(fcinfo);
	type.desc = lookup_rowtype_tupdesc(type.oid, -1);
	matches = type.desc->natts == FACE_COLUMNS;
	for (int i = 0; matches && i < FACE_COLUMNS; i++)
		matches = TupleDescAttr(type.desc, i)->atttypid == column_types[i];
	if (!matches)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("type \"face\" is not as the extension created it"),
						errhint("Create the extension faceattr again.")));
	return type;
}

void
face_type_close(FaceType *type)
{
	ReleaseTupleDesc(type->desc);
}

static Datum
box_datum(fa_rect rect)
{
	BOX *box = palloc(sizeof(BOX));

	box->low.x = rect.x1;
	box->low.y = rect.y1;
	box->high.x = rect.x2;
	box->high.y = rect.y2;
	return BoxPGetDatum(box);
}

static Datum
landmarks_datum(const double (*landmarks)[2])
{
	Point points[FA_LANDMARKS];
	Datum elements[FA_LANDMARKS];

	for (int i = 0; i < FA_LANDMARKS; i++)
	{
		points[i].x = landmarks[i][0];
		points[i].y = landmarks[i][1];
		elements[i] = PointPGetDatum(&points[i]);
	}
	return PointerGetDatum(
		construct_array(elements, FA_LANDMARKS, POINTOID, sizeof(Point), false, TYPALIGN_DOUBLE));
}

Datum
face_datum(const FaceType *type, const fa_pipeline *pipeline, const fa_face *face, bool landmarks)
{
	Datum values[FACE_COLUMNS];
	bool nulls[FACE_COLUMNS];
	const char *gender = face->classified ? fa_gender_label(pipeline, face) : NULL;
	const char *race = face->classified ? fa_race_label(pipeline, face) : NULL;

	memset(nulls, true, sizeof(nulls));

#define SET(column, value) (values[column] = (value), nulls[column] = false)
	SET(FACE_BOX, box_datum(face->box));
	SET(FACE_SCORE, Float4GetDatum(face->score));
	if (landmarks)
		SET(FACE_LANDMARKS, landmarks_datum(face->landmarks));
	if (face->classified && face->has_age)
	{
		SET(FACE_AGE, Float4GetDatum(face->age));
		SET(FACE_AGE_LOW, Float4GetDatum(face->age_low));
		SET(FACE_AGE_HIGH, Float4GetDatum(face->age_high));
	}
	if (gender != NULL)
	{
		SET(FACE_GENDER, CStringGetTextDatum(gender));
		SET(FACE_GENDER_CONFIDENCE, Float4GetDatum(face->gender_confidence));
	}
	if (race != NULL)
	{
		SET(FACE_RACE, CStringGetTextDatum(race));
		SET(FACE_RACE_CONFIDENCE, Float4GetDatum(face->race_confidence));
	}
#undef SET

	return HeapTupleGetDatum(heap_form_tuple(type->desc, values, nulls));
}

Datum
face_array_datum(const FaceType *type, const fa_pipeline *pipeline, const fa_face *faces, int count)
{
	Datum *elements = palloc(sizeof(Datum) * count);

	for (int i = 0; i < count; i++)
		elements[i] = face_datum(type, pipeline, &faces[i], true);
	return PointerGetDatum(construct_array(elements, count, type->oid, -1, false, TYPALIGN_DOUBLE));
}
