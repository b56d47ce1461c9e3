/*
 * publish.c
 *		`faceattr publish`, and what the end of a training shares with it; see publish.h. The
 *		server decides: what a user may do is the table's rights, and whether a file is a
 *		model is found out there, completely, on the way in.
 */
#include "publish.h"

#include "common.h"
#include "trainer.h"

#include <errno.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST ((size_t) 1000 << 20) /* a bytea has less than 1 GB */
#define SET_APPLICATION "SELECT pg_catalog.set_config('application_name', $1, false)"
#define CONNECT_TIMEOUT "15" /* seconds, where the connection string names none */

/* ---- The connection ---------------------------------------------------------------- */

/* An error of the server's, or of the connection's; clears the result. */
static fa_status
refused(PGconn *connection, PGresult *result, fa_error *error)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	fa_status status;

	if (message == NULL)
		status =
			fa_fail(error, FA_IO, "the connection was lost: %.200s", PQerrorMessage(connection));
	else
	{
		fa_fail(error, FA_INVALID, "%s", message);
		status = fa_detail(error, "%s%s%s", detail != NULL ? detail : "",
						   detail != NULL && hint != NULL ? " " : "", hint != NULL ? hint : "");
	}
	PQclear(result);
	return status;
}

/* A query with text parameters that must give rows; *result is the caller's to clear. */
static fa_status
ask(PGconn *connection, const char *query, int count, const char *const *values, PGresult **result,
	fa_error *error)
{
	*result = PQexecParams(connection, query, count, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(*result) != PGRES_TUPLES_OK)
		return refused(connection, *result, error);
	return FA_OK;
}

/* Nothing that a schema of the search path holds can get between us and the server. */
static fa_status
pin_search_path(PGconn *connection, fa_error *error)
{
	PGresult *result;

	FA_TRY(ask(connection, "SELECT pg_catalog.set_config('search_path', '', false)", 0, NULL,
			   &result, error));
	PQclear(result);
	return FA_OK;
}

static fa_status
connect_to(const char *dsn, const char *application, PGconn **connection, fa_error *error)
{
	/* what comes later overrides what comes earlier */
	static const char *const keywords[] = {"connect_timeout", "dbname", "fallback_application_name",
										   NULL};
	const char *const values[] = {CONNECT_TIMEOUT, dsn, application, NULL};
	fa_status status;

	*connection = PQconnectdbParams(keywords, values, 1);
	if (*connection == NULL)
		return fa_no_memory(error, 0);
	if (PQstatus(*connection) != CONNECTION_OK)
	{
		fa_fail(error, FA_IO, "could not connect");
		status = fa_detail(error, "%.250s", PQerrorMessage(*connection));
	}
	else
		status = pin_search_path(*connection, error);
	if (status != FA_OK)
	{
		PQfinish(*connection);
		*connection = NULL;
	}
	return status;
}

/*
 * Whether publishing under the name would be refused for want of the extension or of a right.
 * schema: the extension's, quoted, malloc'ed.
 */
static fa_status
check_rights(PGconn *connection, const char *name, char **schema, fa_error *error)
{
	static const char find[] =
		"SELECT quote_ident(n.nspname), has_table_privilege(c.oid, 'INSERT'),"
		" has_table_privilege(c.oid, 'UPDATE'), current_user, c.oid IS NOT NULL"
		" FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
		" LEFT JOIN pg_class c ON c.relname = 'face_model' AND c.relnamespace = n.oid"
		" WHERE e.extname = 'faceattr'";
	static const char find_owner[] =
		"SELECT m.owner FROM %s.face_model m, pg_class c"
		" WHERE m.name = $1 AND c.oid = m.tableoid AND NOT pg_has_role(c.relowner, 'USAGE')"
		" AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = m.owner"
		" AND pg_has_role(r.oid, 'USAGE'))";
	char query[sizeof(find_owner) + 256];
	fa_status status = FA_OK;
	PGresult *result;

	*schema = NULL;
	FA_TRY(ask(connection, find, 0, NULL, &result, error));
	if (PQntuples(result) == 0)
	{
		fa_fail(error, FA_NOT_FOUND, "database \"%s\" has no extension faceattr", PQdb(connection));
		status = fa_detail(error, "Create it there with CREATE EXTENSION faceattr.");
	}
	else if (strcmp(PQgetvalue(result, 0, 4), "f") == 0)
	{
		fa_fail(error, FA_NOT_FOUND, "database \"%s\" has extension faceattr of version 0.1",
				PQdb(connection));
		status = fa_detail(error, "Run ALTER EXTENSION faceattr UPDATE there.");
	}
	else if (strcmp(PQgetvalue(result, 0, 1), "t") != 0 ||
			 strcmp(PQgetvalue(result, 0, 2), "t") != 0)
	{
		fa_fail(error, FA_INVALID, "role \"%s\" may not publish models", PQgetvalue(result, 0, 3));
		status = fa_detail(error, "Run GRANT INSERT, UPDATE, DELETE ON %s.face_model TO it.",
						   PQgetvalue(result, 0, 0));
	}
	else if ((*schema = strdup(PQgetvalue(result, 0, 0))) == NULL)
		status = fa_no_memory(error, 64);
	PQclear(result);
	if (status != FA_OK)
		return status;

	snprintf(query, sizeof(query), find_owner, *schema);
	status = ask(connection, query, 1, &name, &result, error);
	if (status == FA_OK)
	{
		if (PQntuples(result) > 0)
		{
			fa_fail(error, FA_INVALID, "model \"%s\" belongs to role \"%s\"", name,
					PQgetvalue(result, 0, 0));
			status = fa_detail(error, "Choose another name.");
		}
		PQclear(result);
	}
	if (status != FA_OK)
	{
		free(*schema);
		*schema = NULL;
	}
	return status;
}

/* ---- Publishing ---------------------------------------------------------------------- */

static void
show_publishing(PGconn *connection, const char *name, size_t length)
{
	char application[256];
	const char *values[] = {application};

	snprintf(application, sizeof(application), "faceattr %s: publishing %.1f MB", name,
			 (double) length / (1 << 20));
	PQclear(PQexecParams(connection, SET_APPLICATION, 1, NULL, values, NULL, NULL, 0));
}

/* The statement is a transaction: there is nothing else in it. */
static fa_status
send_model(PGconn *connection, const char *schema, const fa_publish_options *o,
		   const uint8_t *bytes, size_t length, fa_error *error)
{
	char query[512], rows[32];
	const char *values[] = {o->name,    (const char *) bytes,
							o->metrics, o->hyper_parameters,
							o->query,   o->row_count >= 0 ? rows : NULL};
	const int lengths[] = {0, (int) length, 0, 0, 0, 0}, formats[] = {0, 1, 0, 0, 0, 0};
	PGresult *result;

	snprintf(rows, sizeof(rows), "%lld", (long long) o->row_count);
	snprintf(query, sizeof(query),
			 "SELECT %s.face_model_import($1::text, $2::bytea, $3::jsonb, $4::jsonb, $5::text, "
			 "$6::bigint)",
			 schema);
	result = PQexecParams(connection, query, 6, NULL, values, lengths, formats, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		return refused(connection, result, error);
	PQclear(result);
	return FA_OK;
}

fa_status
fa_publish(const fa_publish_options *options, fa_error *error)
{
	PGconn *connection;
	uint8_t *bytes = NULL;
	size_t length = 0;
	char *schema = NULL;
	fa_status status;

	FA_TRY(connect_to(options->dsn, "faceattr", &connection, error));
	status = check_rights(connection, options->name, &schema, error);
	if (status == FA_OK)
		status = fa_read_file(options->path, &bytes, &length, error);
	if (status == FA_OK && length > LARGEST)
		status = fa_fail(error, FA_TOO_LARGE, "%s: larger than the %zu MB that a row can hold",
						 options->path, LARGEST >> 20);
	if (status == FA_OK)
	{
		show_publishing(connection, options->name, length);
		status = send_model(connection, schema, options, bytes, length, error);
	}
	free(bytes);
	free(schema);
	PQfinish(connection);
	return status;
}

/* ---- As a command ----------------------------------------------------------------------- */

/* One argument, for a shell. */
static void
print_quoted(const char *text, FILE *to)
{
	fputc('\'', to);
	for (; *text != '\0'; text++)
		if (*text == '\'')
			fputs("'\\''", to);
		else
			fputc(*text, to);
	fputc('\'', to);
}

/* The connection string less its passwords, quoted as libpq has it and then for a shell. */
static void
print_dsn(const char *dsn, FILE *to)
{
	PQconninfoOption *all = PQconninfoParse(dsn, NULL);
	const char *space = "";

	fputc('\'', to);
	for (const PQconninfoOption *o = all; o != NULL && o->keyword != NULL; o++)
	{
		if (o->val == NULL || o->dispchar[0] == '*')
			continue;
		fprintf(to, "%s%s='\\''", space, o->keyword);
		for (const char *c = o->val; *c != '\0'; c++)
			if (*c == '\'')
				fputs("\\'\\''", to);
			else
				fprintf(to, "%s%c", *c == '\\' ? "\\" : "", *c);
		fputs("'\\''", to);
		space = " ";
	}
	fputc('\'', to);
	PQconninfoFree(all);
}

void
fa_publish_command(const fa_publish_options *o, const char *metrics, const char *hyper_parameters,
				   FILE *to)
{
	fputs("faceattr publish ", to);
	print_quoted(o->path, to);
	fputs(" --dsn ", to);
	print_dsn(o->dsn, to);
	fputs(" --name ", to);
	print_quoted(o->name, to);
	fputs(" --metrics-file ", to);
	print_quoted(metrics, to);
	fputs(" --hyper-parameters-file ", to);
	print_quoted(hyper_parameters, to);
	if (o->query != NULL)
	{
		fputs(" --query ", to);
		print_quoted(o->query, to);
	}
	fprintf(to, " --rows %lld\n", (long long) o->row_count);
}

/* ---- Progress ------------------------------------------------------------------------- */

#define SHOW_EVERY 1       /* seconds */
#define RECONNECT_EVERY 60 /* seconds */

/* The connection of a training that runs. Nothing here waits for the server but the opening. */
struct fa_publisher
{
	PGconn *connection;
	bool connecting;                   /* again, after it was lost */
	PostgresPollingStatusType polling; /* what for */
	double shown, tried;               /* fa_seconds() when */
};

/*
 * The whole publication with another model's bytes, taken back: the server knows best what it
 * would refuse.
 */
static fa_status
rehearse(PGconn *connection, const char *name, const char *model, fa_error *error)
{
	fa_publish_options o = {.name = name, .row_count = -1};
	uint8_t *bytes = NULL;
	size_t length = 0;
	char *schema = NULL;
	fa_status status;

	FA_TRY(check_rights(connection, name, &schema, error));
	status = fa_read_file(model, &bytes, &length, error);
	if (status == FA_OK)
	{
		PQclear(PQexec(connection, "BEGIN"));
		status = send_model(connection, schema, &o, bytes, length, error);
		PQclear(PQexec(connection, "ROLLBACK"));
	}
	free(bytes);
	free(schema);
	return status;
}

fa_status
fa_publisher_open(const char *dsn, const char *name, const char *model, fa_publisher **publisher,
				  fa_error *error)
{
	fa_publisher *p = calloc(1, sizeof(fa_publisher));
	fa_status status;

	*publisher = NULL;
	if (p == NULL)
		return fa_no_memory(error, sizeof(fa_publisher));
	status = connect_to(dsn, "faceattr train", &p->connection, error);
	if (status == FA_OK)
		status = rehearse(p->connection, name, model, error);
	if (status != FA_OK)
	{
		fa_publisher_close(p);
		return status;
	}
	*publisher = p;
	return FA_OK;
}

static void
reconnect(fa_publisher *p, double now)
{
	if (!p->connecting || now - p->tried >= RECONNECT_EVERY)
	{
		if (p->tried > 0 && now - p->tried < RECONNECT_EVERY)
			return;
		p->tried = now;
		p->connecting = PQresetStart(p->connection);
		p->polling = PGRES_POLLING_WRITING;
		return;
	}
	struct pollfd socket = {PQsocket(p->connection),
							p->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};

	if (poll(&socket, 1, 0) > 0)
		p->polling = PQresetPoll(p->connection);
	p->connecting = p->polling != PGRES_POLLING_OK && p->polling != PGRES_POLLING_FAILED;
}

/* Has the server answered all that it was sent? */
static bool
is_idle(PGconn *connection)
{
	PGresult *result;

	if (!PQconsumeInput(connection) || PQflush(connection) != 0)
		return false;
	while (!PQisBusy(connection))
	{
		result = PQgetResult(connection);
		if (result == NULL)
			return true;
		PQclear(result);
	}
	return false;
}

void
fa_publisher_show(fa_publisher *p, const char *text)
{
	const char *values[] = {text};
	double now = fa_seconds();

	if (p == NULL || now - p->shown < SHOW_EVERY)
		return;
	p->shown = now;
	if (p->connecting || PQstatus(p->connection) != CONNECTION_OK)
		reconnect(p, now);
	else if (PQsetnonblocking(p->connection, 1) == 0 && is_idle(p->connection) &&
			 PQsendQueryParams(p->connection, SET_APPLICATION, 1, NULL, values, NULL, NULL, 0))
		PQflush(p->connection);
}

void
fa_publisher_close(fa_publisher *publisher)
{
	if (publisher == NULL)
		return;
	PQfinish(publisher->connection);
	free(publisher);
}

/* ---- The subcommand --------------------------------------------------------------------- */

enum
{
	OPT_DSN = 256,
	OPT_NAME,
	OPT_METRICS,
	OPT_HYPER,
	OPT_QUERY,
	OPT_ROWS
};

typedef struct options
{
	fa_publish_options publish;
	const char *metrics_file, *hyper_file;
} options;

static const struct argp_option argp_options[] = {
	{"dsn", OPT_DSN, "DSN", 0,
	 "Connection string: \"host=... dbname=...\", or a URI (default: as psql's)", 1},
	{"name", OPT_NAME, "NAME", 0, "Name of the model; one of that name is replaced", 1},
	{"metrics-file", OPT_METRICS, "FILE", 0, "JSON: how well the model does", 1},
	{"hyper-parameters-file", OPT_HYPER, "FILE", 0, "JSON: how it was trained", 1},
	{"query", OPT_QUERY, "SQL", 0, "The query whose rows it was trained on", 1},
	{"rows", OPT_ROWS, "N", 0, "How many rows that were", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;
	char *end;

	switch (key)
	{
		case OPT_DSN:
			o->publish.dsn = text;
			return 0;
		case OPT_NAME:
			o->publish.name = text;
			return 0;
		case OPT_METRICS:
			o->metrics_file = text;
			return 0;
		case OPT_HYPER:
			o->hyper_file = text;
			return 0;
		case OPT_QUERY:
			o->publish.query = text;
			return 0;
		case OPT_ROWS:
			errno = 0;
			o->publish.row_count = strtoll(text, &end, 10);
			if (end == text || *end != '\0' || errno != 0 || o->publish.row_count < 0)
				argp_error(state, "%s is no number of rows", text);
			return 0;
		case ARGP_KEY_ARG:
			if (o->publish.path != NULL)
				argp_error(state, "one file at a time");
			o->publish.path = text;
			return 0;
		case ARGP_KEY_END:
			if (o->publish.path == NULL)
				argp_error(state, "which file?");
			if (o->publish.name == NULL)
				argp_error(state, "--name says what the model is to be called");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* A file of JSON as text, malloc'ed; NULL for no file. */
static fa_status
read_json(const char *path, char **text, fa_error *error)
{
	json_error_t where;
	json_t *json;

	*text = NULL;
	if (path == NULL)
		return FA_OK;
	json = json_load_file(path, JSON_DECODE_ANY, &where);
	if (json == NULL)
	{
		fa_fail(error, FA_DAMAGED, "%s: no JSON", path);
		return fa_detail(error, "Line %d: %s.", where.line, where.text);
	}
	*text = json_dumps(json, JSON_ENCODE_ANY);
	json_decref(json);
	return *text != NULL ? FA_OK : fa_no_memory(error, 0);
}

int
faceattr_publish(int argc, char **argv)
{
	static const struct argp parser = {argp_options,
									   parse_option,
									   "FILE",
									   "Publishes a model file as a row of table face_model, where "
									   "every session of the database can use it.",
									   NULL,
									   NULL,
									   NULL};
	options o = {.publish = {.dsn = "", .row_count = -1}};
	char *metrics = NULL, *hyper_parameters = NULL;
	fa_error error;
	fa_status status;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	status = read_json(o.metrics_file, &metrics, &error);
	if (status == FA_OK)
		status = read_json(o.hyper_file, &hyper_parameters, &error);
	o.publish.metrics = metrics;
	o.publish.hyper_parameters = hyper_parameters;
	if (status == FA_OK)
		status = fa_publish(&o.publish, &error);
	free(metrics);
	free(hyper_parameters);
	if (status != FA_OK)
		return fa_complain(&error);
	printf("published \"%s\": SET faceattr.model = '%s' uses it\n", o.publish.name, o.publish.name);
	return 0;
}
