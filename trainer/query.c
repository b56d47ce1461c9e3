/*
 * query.c
 *		One COPY over libpq; see query.h. The query is described first: the columns' names
 *		and types decide how each is fetched, everything but the image as text. No call
 *		waits for the server without asking the interrupt.
 */
#include "query.h"

#include "copy_binary.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK_EVERY 100 /* milliseconds */

/* Types by their fixed numbers (pg_type.dat). */
enum
{
	TYPE_BYTEA = 17,
	TYPE_INT8 = 20,
	TYPE_INT2 = 21,
	TYPE_INT4 = 23,
	TYPE_BOX = 603,
	TYPE_FLOAT4 = 700,
	TYPE_FLOAT8 = 701,
	TYPE_DATE = 1082,
	TYPE_TIMESTAMP = 1114,
	TYPE_TIMESTAMPTZ = 1184,
	TYPE_NUMERIC = 1700,
	TYPE_INT4RANGE = 3904,
	TYPE_INT8RANGE = 3926
};

typedef enum role
{
	ROLE_IMAGE,
	ROLE_KEY,
	ROLE_ID,
	ROLE_AGE,
	ROLE_BIRTH,
	ROLE_PHOTO,
	ROLE_GENDER,
	ROLE_RACE,
	ROLE_PERSON,
	ROLE_BOX,
	ROLES
} role;

/* What a column of that name may be: types, and categories of pg_type (S text, E enum). */
static const struct
{
	const char *name;
	Oid types[10]; /* to the first 0; none: anything */
	const char *categories, *wanted;
} roles[ROLES] = {
	[ROLE_IMAGE] = {"image", {TYPE_BYTEA}, "", "bytea"},
	[ROLE_KEY] = {"key", {0}, "", ""},
	[ROLE_ID] = {"id", {0}, "", ""},
	[ROLE_AGE] = {"age",
				  {TYPE_INT2, TYPE_INT4, TYPE_INT8, TYPE_FLOAT4, TYPE_FLOAT8, TYPE_NUMERIC,
				   TYPE_INT4RANGE, TYPE_INT8RANGE},
				  "S",
				  "a number, int4range or text"},
	[ROLE_BIRTH] = {"birth_date",
					{TYPE_DATE, TYPE_TIMESTAMP, TYPE_TIMESTAMPTZ},
					"",
					"date or timestamp"},
	[ROLE_PHOTO] = {"photo_date",
					{TYPE_DATE, TYPE_TIMESTAMP, TYPE_TIMESTAMPTZ},
					"",
					"date or timestamp"},
	[ROLE_GENDER] = {"gender",
					 {TYPE_INT2, TYPE_INT4, TYPE_INT8},
					 "SE",
					 "text, an enum or an integer"},
	[ROLE_RACE] = {"race", {TYPE_INT2, TYPE_INT4, TYPE_INT8}, "SE", "text, an enum or an integer"},
	[ROLE_PERSON] = {"person", {0}, "", ""},
	[ROLE_BOX] = {"box", {TYPE_BOX}, "", "box"},
};

/* The fields that are fetched, in this order. */
typedef enum field
{
	FIELD_IMAGE,
	FIELD_KEY,
	FIELD_AGE,
	FIELD_GENDER,
	FIELD_RACE,
	FIELD_PERSON,
	FIELD_BOX,
	FIELDS
} field;

typedef struct query
{
	PGconn *connection;
	const fa_interrupt *interrupt;
	const char *key; /* name of the column that names rows, or NULL */
	fa_copy_reader reader;
	int64_t rows;
	char *texts; /* of a row, each with its zero */
	size_t texts_capacity;
} query;

/* --- Talking to the server ------------------------------------------------------- */

static fa_status
connection_lost(const query *q, fa_error *error)
{
	const char *text = PQerrorMessage(q->connection);

	fa_fail(error, FA_IO, "the connection to the server failed");
	return fa_detail(error, "%.*s", (int) strcspn(text, "\n"), text);
}

/* Waits for the socket, a while at most. */
static fa_status
wait_for_socket(const query *q, short events, fa_error *error)
{
	struct pollfd socket = {PQsocket(q->connection), events, 0};

	FA_TRY(fa_check_interrupt(q->interrupt, error));
	if (poll(&socket, 1, ASK_EVERY) < 0 && errno != EINTR)
		return fa_fail(error, FA_IO, "waiting for the server: %s", strerror(errno));
	return fa_check_interrupt(q->interrupt, error);
}

static fa_status
wait_for_input(const query *q, fa_error *error)
{
	FA_TRY(wait_for_socket(q, POLLIN, error));
	return PQconsumeInput(q->connection) ? FA_OK : connection_lost(q, error);
}

static fa_status
start_connection(query *q, const char *connection, const char *application, fa_error *error)
{
	const char *const keywords[] = {"fallback_application_name", "client_encoding", "dbname", NULL};
	const char *const values[] = {application, "UTF8", connection, NULL};
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	q->connection = PQconnectStartParams(keywords, values, 1);
	if (q->connection == NULL)
		return fa_no_memory(error, 0);
	if (PQstatus(q->connection) == CONNECTION_BAD)
		return connection_lost(q, error);
	while (state != PGRES_POLLING_OK)
	{
		struct pollfd socket = {PQsocket(q->connection),
								state == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};

		if (state == PGRES_POLLING_FAILED)
			return connection_lost(q, error);
		FA_TRY(fa_check_interrupt(q->interrupt, error));
		if (poll(&socket, 1, ASK_EVERY) > 0)
			state = PQconnectPoll(q->connection);
	}
	return FA_OK;
}

static fa_status
refused(const PGresult *result, fa_error *error)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	fa_fail(error, FA_INVALID, "the server refused the query");
	return fa_detail(error, "%s (SQLSTATE %s)",
					 message != NULL ? message : PQresultErrorMessage(result),
					 state != NULL ? state : "unknown");
}

/*
 * The result of what was sent, once it is there: of the kind expected, or a failure. *result is
 * NULL after a failure. A COPY's end is left to its reader.
 */
static fa_status
await(const query *q, int sent, ExecStatusType expected, PGresult **result, fa_error *error)
{
	PGresult *next = NULL;
	fa_status status = FA_OK;

	*result = NULL;
	if (!sent)
		return connection_lost(q, error);
	do
	{
		while (status == FA_OK && PQisBusy(q->connection))
			status = wait_for_input(q, error);
		if (status != FA_OK)
			break;
		next = PQgetResult(q->connection);
		if (next != NULL && *result == NULL && PQresultStatus(next) == expected)
			*result = next;
		else if (next != NULL)
		{
			status = refused(next, error);
			PQclear(next);
		}
	} while (status == FA_OK && next != NULL && expected != PGRES_COPY_OUT);
	if (status == FA_OK && *result == NULL)
		status = connection_lost(q, error);
	if (status != FA_OK)
	{
		PQclear(*result);
		*result = NULL;
	}
	return status;
}

static fa_status
command(const query *q, const char *text, fa_error *error)
{
	PGresult *result;
	fa_status status = await(q, PQsendQuery(q->connection, text), PGRES_COMMAND_OK, &result, error);

	PQclear(result);
	return status;
}

/* --- Columns --------------------------------------------------------------------- */

/* Is the type one that the role takes? Its category is asked for where its number says nothing. */
static fa_status
check_type(const query *q, role r, Oid type, fa_error *error)
{
	static const char question[] =
		"SELECT typcategory, pg_catalog.format_type(oid, NULL) FROM pg_catalog.pg_type "
		"WHERE oid = $1::pg_catalog.oid";
	char number[16];
	const char *const values[] = {number};
	PGresult *result;
	fa_status status;

	if (roles[r].types[0] == 0)
		return FA_OK;
	for (int i = 0; roles[r].types[i] != 0; i++)
		if (roles[r].types[i] == type)
			return FA_OK;
	snprintf(number, sizeof(number), "%u", type);
	FA_TRY(await(q, PQsendQueryParams(q->connection, question, 1, NULL, values, NULL, NULL, 0),
				 PGRES_TUPLES_OK, &result, error));
	if (PQntuples(result) == 1 && strstr(roles[r].categories, PQgetvalue(result, 0, 0)) != NULL)
		status = FA_OK;
	else
		status =
			fa_fail(error, FA_INVALID, "column \"%s\" is of type %s, not %s", roles[r].name,
					PQntuples(result) == 1 ? PQgetvalue(result, 0, 1) : number, roles[r].wanted);
	PQclear(result);
	return status;
}

/* has[r]: the query has a column of that name, and of a type that suits. */
static fa_status
check_columns(const query *q, const PGresult *description, bool has[ROLES], fa_error *error)
{
	memset(has, 0, ROLES * sizeof(*has));
	for (int i = 0; i < PQnfields(description); i++)
		for (int r = 0; r < ROLES; r++)
		{
			if (strcmp(PQfname(description, i), roles[r].name) != 0)
				continue;
			if (has[r])
				return fa_fail(error, FA_INVALID, "column \"%s\" comes twice", roles[r].name);
			has[r] = true;
			FA_TRY(check_type(q, r, PQftype(description, i), error));
		}
	if (!has[ROLE_IMAGE])
		return fa_fail(error, FA_INVALID, "the query has no column \"image\"");
	if (has[ROLE_BIRTH] != has[ROLE_PHOTO])
		return fa_fail(error, FA_INVALID,
					   "column \"%s\" needs a column \"%s\" beside it: the age is from one to "
					   "the other",
					   has[ROLE_BIRTH] ? "birth_date" : "photo_date",
					   has[ROLE_BIRTH] ? "photo_date" : "birth_date");
	if (has[ROLE_AGE] && has[ROLE_BIRTH])
		return fa_fail(error, FA_INVALID,
					   "there is both a column \"age\" and a column \"birth_date\"");
	if (!has[ROLE_AGE] && !has[ROLE_BIRTH] && !has[ROLE_GENDER] && !has[ROLE_RACE] &&
		!has[ROLE_PERSON])
		return fa_fail(error, FA_INVALID,
					   "the query has no column of labels: \"age\", \"birth_date\" with "
					   "\"photo_date\", \"gender\", \"race\" or \"person\"");
	return FA_OK;
}

static fa_status
describe(query *q, const char *text, bool has[ROLES], fa_error *error)
{
	PGresult *result;
	fa_status status;

	FA_TRY(await(q, PQsendPrepare(q->connection, "", text, 0, NULL), PGRES_COMMAND_OK, &result,
				 error));
	PQclear(result);
	FA_TRY(await(q, PQsendDescribePrepared(q->connection, ""), PGRES_COMMAND_OK, &result, error));
	status = check_columns(q, result, has, error);
	PQclear(result);
	q->key = has[ROLE_KEY] ? "key" : has[ROLE_ID] ? "id" : NULL;
	return status;
}

/*
 * COPY of the fields. The years from birth to photo are completed ones, as people count;
 * a photo from before gives what is no age.
 */
static char *
copy_command(const query *q, const char *text, const bool has[ROLES])
{
	static const char from_dates[] =
		"CASE WHEN NOT isfinite(q.birth_date) OR NOT isfinite(q.photo_date) THEN NULL "
		"WHEN q.photo_date < q.birth_date THEN 'born after the photo' "
		"ELSE date_part('year', age(q.photo_date::timestamp, q.birth_date::timestamp))::text END";
	size_t length = strlen(text);
	char *command;

	while (length > 0 && (isspace((unsigned char) text[length - 1]) || text[length - 1] == ';'))
		length--;
	/* the line's end before the bracket: a comment may end the query */
	if (asprintf(&command,
				 "COPY (SELECT q.image, %s%s%s, %s, %s, %s, %s, %s FROM (\n%.*s\n) AS q) "
				 "TO STDOUT (FORMAT binary)",
				 q->key != NULL ? "q." : "NULL", q->key != NULL ? q->key : "", "::text",
				 has[ROLE_AGE]     ? "q.age::text"
				 : has[ROLE_BIRTH] ? from_dates
								   : "NULL::text",
				 has[ROLE_GENDER] ? "q.gender::text" : "NULL::text",
				 has[ROLE_RACE] ? "q.race::text" : "NULL::text",
				 has[ROLE_PERSON] ? "q.person::text" : "NULL::text",
				 has[ROLE_BOX] ? "q.box::text" : "NULL::text", (int) length, text) < 0)
		return NULL;
	return command;
}

/* --- Rows ------------------------------------------------------------------------ */

/* The fields but the image as strings. */
static fa_status
make_texts(query *q, const fa_copy_field *fields, const char *texts[FIELDS], fa_error *error)
{
	size_t needed = 0, offset = 0;

	for (int i = FIELD_IMAGE + 1; i < FIELDS; i++)
		needed += fields[i].length + 1; /* no more than FIELDS times FA_COPY_MAX_FIELD */
	if (needed > q->texts_capacity)
	{
		char *larger = realloc(q->texts, needed);

		if (larger == NULL)
			return fa_no_memory(error, needed);
		q->texts = larger;
		q->texts_capacity = needed;
	}
	for (int i = FIELD_IMAGE + 1; i < FIELDS; i++)
	{
		texts[i] = NULL;
		if (fields[i].bytes == NULL)
			continue;
		memcpy(q->texts + offset, fields[i].bytes, fields[i].length);
		q->texts[offset + fields[i].length] = '\0';
		texts[i] = q->texts + offset;
		offset += fields[i].length + 1;
	}
	return FA_OK;
}

/* As PostgreSQL writes a box: the upper right corner and the lower left one. */
static fa_rect
parse_box(const char *text)
{
	fa_rect box;

	if (text == NULL ||
		sscanf(text, "(%lf,%lf),(%lf,%lf)", &box.x2, &box.y2, &box.x1, &box.y1) != 4 ||
		!isfinite(box.x1) || !isfinite(box.y1) || !isfinite(box.x2) || !isfinite(box.y2))
		return (fa_rect){0};
	return box;
}

/* What messages call the row; a terminal takes it as it is. */
static void
name_row(const query *q, fa_row *row)
{
	if (q->key != NULL && row->key != NULL)
		snprintf(row->name, sizeof(row->name), "%s %.60s (row %lld)", q->key, row->key,
				 (long long) row->number);
	else
		snprintf(row->name, sizeof(row->name), "row %lld", (long long) row->number);
	for (char *c = row->name; *c != '\0'; c++)
		if (iscntrl((unsigned char) *c))
			*c = '?';
}

static fa_status
take_rows(query *q, fa_take_row take, void *argument, fa_error *error)
{
	fa_copy_field fields[FIELDS];
	bool found;

	for (;;)
	{
		const char *texts[FIELDS];
		fa_row row;

		FA_TRY(fa_copy_next(&q->reader, fields, &found, error));
		if (!found)
			return FA_OK;
		FA_TRY(make_texts(q, fields, texts, error));
		row = (fa_row){
			.number = ++q->rows,
			.image = fields[FIELD_IMAGE].bytes,
			.length = fields[FIELD_IMAGE].length,
			.key = texts[FIELD_KEY],
			.age = texts[FIELD_AGE],
			.gender = texts[FIELD_GENDER],
			.race = texts[FIELD_RACE],
			.person = texts[FIELD_PERSON],
			.box = parse_box(texts[FIELD_BOX]),
		};
		name_row(q, &row);
		FA_TRY(take(argument, &row, error));
		FA_TRY(fa_check_interrupt(q->interrupt, error));
	}
}

static fa_status
copy_rows(query *q, const char *copy, fa_take_row take, void *argument, fa_error *error)
{
	PGresult *result;
	int length = 0;

	FA_TRY(await(q, PQsendQuery(q->connection, copy), PGRES_COPY_OUT, &result, error));
	PQclear(result);
	while (length >= 0)
	{
		char *bytes = NULL;
		fa_status status = FA_OK;

		length = PQgetCopyData(q->connection, &bytes, 1);
		if (length == 0)
			status = wait_for_input(q, error);
		else if (length > 0)
			status = fa_copy_feed(&q->reader, bytes, (size_t) length, error);
		PQfreemem(bytes);
		FA_TRY(status);
		if (length > 0)
			FA_TRY(take_rows(q, take, argument, error));
	}
	if (length == -2)
		return connection_lost(q, error);
	FA_TRY(await(q, 1, PGRES_COMMAND_OK, &result, error));
	PQclear(result);
	return fa_copy_finish(&q->reader, error);
}

static fa_status
run(query *q, const char *text, fa_take_row take, void *argument, fa_error *error)
{
	bool has[ROLES];
	char *copy;
	fa_status status;

	FA_TRY(command(q, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", error));
	/* the same rows in the same order, should the query be run again */
	FA_TRY(command(q, "SET LOCAL synchronize_seqscans = off", error));
	FA_TRY(describe(q, text, has, error));
	copy = copy_command(q, text, has);
	if (copy == NULL)
		return fa_no_memory(error, strlen(text));
	status = copy_rows(q, copy, take, argument, error);
	free(copy);
	FA_TRY(status);
	return command(q, "COMMIT", error);
}

/* Ends what the server may still be at. */
static void
cancel(const query *q)
{
	char message[256];
	PGcancel *request = PQgetCancel(q->connection);

	if (request != NULL)
		PQcancel(request, message, sizeof(message));
	PQfreeCancel(request);
}

fa_status
fa_query_run(const char *connection, const char *text, const char *application, fa_take_row take,
			 void *argument, const fa_interrupt *interrupt, fa_error *error)
{
	query q = {.interrupt = interrupt, .reader = {.field_count = FIELDS}};
	fa_status status = start_connection(&q, connection, application, error);

	if (status == FA_OK)
	{
		status = run(&q, text, take, argument, error);
		if (status != FA_OK && PQtransactionStatus(q.connection) == PQTRANS_ACTIVE)
			cancel(&q);
	}
	PQfinish(q.connection);
	fa_copy_free(&q.reader);
	free(q.texts);
	return status;
}
