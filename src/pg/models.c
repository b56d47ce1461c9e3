/*
 * models.c
 *		From a model's name to the bytes of its weights file: shipped models are
 *		files in the server's share directory, published ones rows of the
 *		extension's table face_model.
 *
 * The table is read as any query of the current user reads it, by SPI: with the
 * statement's snapshot, and only with the rights to. A row's SHA-256, which the
 * server computes, stands for its bytes everywhere else, so no cache has to be told
 * that a row has changed; a file's identity and times do for a shipped one.
 */
#include "faceattr.h"

#include <sys/stat.h>

#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Where "make install" puts the weights, below the server's share directory. */
#define WEIGHTS_DIRECTORY "extension/faceattr"

/* Models that come with the extension, as <name>.safetensors; their names are reserved. */
static const char *const shipped[] = {"default"};

static bool
is_shipped(const char *name)
{
	for (size_t i = 0; i < lengthof(shipped); i++)
		if (strcmp(name, shipped[i]) == 0)
			return true;
	return false;
}

char *
faceattr_weights_directory(void)
{
	char share[MAXPGPATH];

	get_share_path(my_exec_path, share);
	return psprintf("%s/%s", share, WEIGHTS_DIRECTORY);
}

/* --- Bytes --------------------------------------------------------------------- */

static bytea *
read_weights_file(const char *path)
{
	struct stat facts;
	size_t length, n, position = 0;
	bytea *bytes;
	FILE *file;

	if (stat(path, &facts) < 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(facts.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a regular file", path)));
	if (facts.st_size > (off_t) (MaxAllocSize - VARHDRSZ))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("file \"%s\" is too large for type bytea", path)));
	length = (size_t) facts.st_size;
	bytes = palloc(VARHDRSZ + length);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	while (position < length &&
		   (n = fread(VARDATA(bytes) + position, 1, Min(length - position, 1 << 20), file)) > 0)
	{
		position += n;
		CHECK_FOR_INTERRUPTS();
	}
	if (ferror(file))
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	FreeFile(file);
	SET_VARSIZE(bytes, VARHDRSZ + position);
	return bytes;
}

bytea *
faceattr_model_bytes(const Model *model)
{
	return model->shipped ? read_weights_file(faceattr_model_path(model))
						  : DatumGetByteaPP(model->weights);
}

char *
faceattr_model_path(const Model *model)
{
	return psprintf("%s/%s.safetensors", faceattr_weights_directory(), model->name);
}

/* --- The table ------------------------------------------------------------------ */

/*
 * Its qualified name, quoted; NULL where the extension has none, being of version
 * 0.1 still. A table that somebody else has put in its place is not taken for it.
 */
static char *
model_table(FunctionCallInfo fcinfo)
{
	Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid table = get_relname_relid("face_model", schema);
	Oid extension = getExtensionOfObject(ProcedureRelationId, fcinfo->flinfo->fn_oid);

	if (!OidIsValid(table) || !OidIsValid(extension) ||
		getExtensionOfObject(RelationRelationId, table) != extension)
		return NULL;
	return quote_qualified_identifier(get_namespace_name(schema), "face_model");
}

static char *
need_model_table(FunctionCallInfo fcinfo)
{
	char *table = model_table(fcinfo);

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"face_model\" does not exist in the schema of the functions"),
				 errhint("Run ALTER EXTENSION faceattr UPDATE.")));
	return table;
}

/* Runs a query of one row and no more; whether there was one. Between SPI_connect and SPI_finish.
 */
static bool
query_row(SPIPlanPtr plan, Datum *values)
{
	bool own_snapshot = !ActiveSnapshotSet();
	int result;

	if (own_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	result = SPI_execute_plan(plan, values, NULL, true, 1);
	if (own_snapshot)
		PopActiveSnapshot();
	if (result != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan: %s", SPI_result_code_string(result));
	return SPI_processed == 1;
}

static SPIPlanPtr
prepare(const char *query, int count, Oid *types)
{
	SPIPlanPtr plan = SPI_prepare(query, count, types);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/* Fills model from the row of its name; false where there is none. */
static bool
find_row(const char *table, Model *model)
{
	static SPIPlanPtr plan;
	static char *plan_table; /* of which plan is; NULL: none */
	MemoryContext caller = CurrentMemoryContext;
	Datum name = CStringGetTextDatum(model->name);
	bool found;

	SPI_connect();
	if (plan_table == NULL || strcmp(plan_table, table) != 0)
	{
		Oid type = TEXTOID;
		SPIPlanPtr new_plan = prepare(
			psprintf("SELECT sha256, weights FROM %s WHERE name OPERATOR(pg_catalog.=) $1", table),
			1, &type);
		char *new_table = MemoryContextStrdup(TopMemoryContext, table);

		SPI_keepplan(new_plan);
		if (plan_table != NULL)
		{
			SPI_freeplan(plan);
			pfree(plan_table);
		}
		plan = new_plan;
		plan_table = new_table;
	}
	found = query_row(plan, &name);
	if (found)
	{
		TupleDesc desc = SPI_tuptable->tupdesc;
		HeapTuple row = SPI_tuptable->vals[0];
		bool null_sha256, null_weights;
		Datum sha256 = SPI_getbinval(row, desc, 1, &null_sha256);
		Datum weights = SPI_getbinval(row, desc, 2, &null_weights);
		MemoryContext spi;

		if (null_sha256 || null_weights ||
			VARSIZE_ANY_EXHDR(DatumGetByteaPP(sha256)) != PG_SHA256_DIGEST_LENGTH)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("table \"face_model\" is not as the extension created it")));
		memcpy(model->key, VARDATA_ANY(DatumGetByteaPP(sha256)), MODEL_KEY);
		/* only the pointer to where they are stored: most calls have no need of them */
		spi = MemoryContextSwitchTo(caller);
		model->weights = datumCopy(weights, false, -1);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return found;
}

/* When a dump is restored, a table whose generated column wants a model may come before it. */
static _Noreturn void
raise_unknown(const char *table, const char *name)
{
	bool any;

	if (table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", name),
				 errhint("The extension comes with the model \"%s\". Published ones need "
						 "ALTER EXTENSION faceattr UPDATE.",
						 shipped[0])));
	SPI_connect();
	any = query_row(prepare(psprintf("SELECT FROM %s LIMIT 1", table), 0, NULL), NULL);
	SPI_finish();
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("model \"%s\" does not exist", name),
			 any ? errhint("The extension comes with the model \"%s\"; published ones are rows of "
						   "table %s.",
						   shipped[0], table)
				 : errhint("The extension comes with the model \"%s\"; table %s of published ones "
						   "is empty. When a dump is being restored, restore that table's rows "
						   "first.",
						   shipped[0], table)));
}

/* Which file it is, and since when; nothing where it is missing, which reading it will tell. */
static void
file_key(const Model *model, uint8 *key)
{
	struct stat facts;
	char *path = faceattr_model_path(model);
	int64 parts[4] = {0};

	StaticAssertStmt(sizeof(parts) == MODEL_KEY, "a key");
	if (stat(path, &facts) == 0)
	{
		parts[0] = (int64) facts.st_ino;
		parts[1] = (int64) facts.st_size;
		parts[2] = (int64) facts.st_mtim.tv_sec;
		parts[3] = (int64) facts.st_mtim.tv_nsec;
	}
	memcpy(key, parts, MODEL_KEY);
	pfree(path);
}

Model
faceattr_find_model(FunctionCallInfo fcinfo, const char *name)
{
	Model model = {.name = pstrdup(name)};
	const char *table;

	model.shipped = is_shipped(name);
	if (model.shipped)
	{
		file_key(&model, model.key);
		return model;
	}
	table = model_table(fcinfo);
	if (table == NULL || !find_row(table, &model))
		raise_unknown(table, name);
	return model;
}

/* --- SQL functions ---------------------------------------------------------------- */

/* face_model_version([model text]) returns (name text, sha256 bytea) */
PG_FUNCTION_INFO_V1(faceattr_model_version);
Datum
faceattr_model_version(PG_FUNCTION_ARGS)
{
	const char *name = PG_NARGS() > 0 ? text_to_cstring(PG_GETARG_TEXT_PP(0)) : faceattr_model;
	Model model = faceattr_find_model(fcinfo, name);
	Datum values[2] = {CStringGetTextDatum(name)};
	bool nulls[2] = {false, false};

	if (model.shipped)
		values[1] =
			DirectFunctionCall1(sha256_bytea, PointerGetDatum(faceattr_model_bytes(&model)));
	else
	{
		bytea *sha256 = palloc(VARHDRSZ + MODEL_KEY);

		SET_VARSIZE(sha256, VARHDRSZ + MODEL_KEY);
		memcpy(VARDATA(sha256), model.key, MODEL_KEY);
		values[1] = PointerGetDatum(sha256);
	}
	PG_RETURN_DATUM(row_result(fcinfo, values, nulls));
}

/*
 * face_model_network(weights bytea) returns text: the network's name. It refuses what
 * is no model; a generated column of face_model calls it, so no row gets in unchecked
 * by whatever way it comes.
 */
PG_FUNCTION_INFO_V1(faceattr_model_network);
Datum
faceattr_model_network(PG_FUNCTION_ARGS)
{
	bytea *weights = PG_GETARG_BYTEA_PP(0);
	fa_bytes bytes = {VARDATA_ANY(weights), VARSIZE_ANY_EXHDR(weights)};
	char *directory = faceattr_weights_directory();
	char network[FA_NAME_LENGTH] = {0};
	fa_pipeline *pipeline;
	fa_status status;
	CoreCall call;

	core_enter(&call);
	status = fa_pipeline_open_bytes(&fa_cpu_engine, NULL, FA_PRECISION_FP32, directory, &bytes,
									&pipeline, &call.error);
	if (status == FA_OK)
	{
		strlcpy(network, fa_pipeline_network(pipeline), sizeof(network));
		fa_pipeline_close(pipeline);
	}
	if (core_leave(&call, status) != FA_OK)
		raise_weights_error(&call.error);
	PG_RETURN_TEXT_P(cstring_to_text(network));
}

/* face_model_read(path text) returns bytea: a weights file on the server */
PG_FUNCTION_INFO_V1(faceattr_model_read);
Datum
faceattr_model_read(PG_FUNCTION_ARGS)
{
	char *path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read a file of the server"),
				 errdetail("Only roles with the privileges of the \"pg_read_server_files\" role "
						   "may do that."),
				 errhint("Give the weights as bytea, or use \"faceattr publish\".")));
	canonicalize_path(path);
	PG_RETURN_BYTEA_P(read_weights_file(path));
}

/* face_model_drop(name text) returns void */
PG_FUNCTION_INFO_V1(faceattr_model_drop);
Datum
faceattr_model_drop(PG_FUNCTION_ARGS)
{
	Datum name = PG_GETARG_DATUM(0);
	Oid type = TEXTOID;
	int result;

	if (is_shipped(TextDatumGetCString(name)))
		ereport(ERROR, (errcode(ERRCODE_RESERVED_NAME),
						errmsg("model \"%s\" comes with the extension and cannot be dropped",
							   TextDatumGetCString(name))));
	SPI_connect();
	result = SPI_execute_with_args(
		psprintf("DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1", need_model_table(fcinfo)),
		1, &type, &name, NULL, false, 0);
	if (result != SPI_OK_DELETE)
		elog(ERROR, "SPI_execute_with_args: %s", SPI_result_code_string(result));
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("model \"%s\" does not exist", TextDatumGetCString(name))));
	SPI_finish();
	PG_RETURN_VOID();
}

/* --- Who may change a row ---------------------------------------------------------- */

static char *
row_value(const TriggerData *data, HeapTuple row, const char *column)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);

	return SPI_getvalue(row, desc, SPI_fnumber(desc, column));
}

/* A model's owner is a role's name, so that a dump can be restored where there is no such role. */
static void
check_owner(const TriggerData *data, HeapTuple row)
{
	const char *owner = row_value(data, row, "owner");
	Oid role = owner != NULL ? get_role_oid(owner, true) : InvalidOid;

	if (has_privs_of_role(GetUserId(), data->tg_relation->rd_rel->relowner))
		return; /* the table's owner, or a superuser */
	if (!OidIsValid(role) || !has_privs_of_role(GetUserId(), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of model \"%s\"", row_value(data, row, "name"))));
}

/* face_model_guard() returns trigger: before each row's insertion, update and deletion */
PG_FUNCTION_INFO_V1(faceattr_model_guard);
Datum
faceattr_model_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	HeapTuple new_row = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("face_model_guard is table face_model's trigger")));
	if (!TRIGGER_FIRED_BY_INSERT(data->tg_event))
		check_owner(data, data->tg_trigtuple);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		new_row = data->tg_trigtuple;
	else if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		new_row = data->tg_newtuple;
	if (new_row != NULL)
	{
		const char *name = row_value(data, new_row, "name");

		if (name != NULL && is_shipped(name))
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME), errmsg("model name \"%s\" is reserved", name),
					 errdetail("A model of that name comes with the extension.")));
		check_owner(data, new_row);
	}
	return PointerGetDatum(new_row != NULL ? new_row : data->tg_trigtuple);
}
