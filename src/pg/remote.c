/*
 * remote.c
 *		Sessions and faceattr-service: when a session's networks run there (faceattr.run_in), and
 *		pipelines of it.
 *
 * The ring's header is read without a round trip, and each time anew: which service it is, by the
 * time of its start; what it computes in; which models it has. A pipeline is good for one service
 * only, and another one's start makes the session open it again (pipeline.c).
 *
 * A session that insists on the service waits until there is one, or gets an error: it never runs a
 * network, or with decode_in = service a decoder, by itself. `auto` never waits: as long as there
 * is no service it asks for one and goes on with the CPU. And it leaves a service alone, for a
 * minute or until that has been replaced, that has failed: to open a model, or to run one for want
 * of memory or by a failure of CUDA's that does not end the service. Each session remembers that
 * for itself, so that one with too large a photo does not keep others from the GPU. But where it
 * happens twice within a minute, all of them rest: else parallel workers and sessions of a single
 * statement, which remember nothing, would fail for ever.
 */
#include "supervisor.h"

#include "../service/client.h"
#include "../service/sandbox.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define REST (60 * INT64CONST(1000000)) /* microseconds, as all times of fa_ring_now() */

StaticAssertDecl(MODEL_KEY == FA_SERVICE_KEY, "a model's key must fit the service's");

static struct
{
	bool chosen;     /* by the latest call */
	int64 failed_at; /* since when auto leaves it alone; 0: never */
	bool warn;       /* that auto goes on without it */
	fa_error error;  /* why */
} service;

/* --- The choice ------------------------------------------------------------------------- */

static bool
insists(void)
{
	return faceattr_run_in == RUN_IN_SERVICE || faceattr_decode_in == DECODE_IN_SERVICE;
}

/* Where the service cannot be had the session goes on with the CPU. */
static bool
can_do_without(void)
{
	return !insists() && faceattr_device == DEVICE_AUTO;
}

/* How to do without it. */
static const char *
way_out(void)
{
	return faceattr_decode_in == DECODE_IN_SERVICE ? "faceattr.decode_in and faceattr.run_in"
												   : "faceattr.run_in";
}

static _Noreturn void
raise_not_preloaded(const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("faceattr-service is not running"), errdetail_internal("%s", why),
					errhint("Put faceattr into shared_preload_libraries and start the server "
							"again, or set %s to backend.",
							way_out())));
}

static _Noreturn void
raise_no_service(const fa_ring *ring)
{
	uint32 state = atomic_load(&ring->header->state);
	int pause = service_pause();
	char reason[SERVICE_REASON];

	if (!service_has_supervisor())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("faceattr-service is not running"),
						errdetail("The background worker that starts it does not run."),
						errhint("Raise max_worker_processes and start the server again.")));
	fa_ring_text(reason, sizeof(reason), ring->header->last_error, sizeof(reason));
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("faceattr-service is not running"),
					reason[0] != '\0' ? errdetail_internal("%s", reason) : 0,
					state == FA_SERVICE_WAITING ? errhint("It starts again in %d s.", pause)
					: state == FA_SERVICE_USELESS
						? errhint("It is tried again in %d s, or when the server's settings are "
								  "reloaded. With %s set to backend, networks run in the session.",
								  pause, way_out())
						: errhint("Repeat the statement: faceattr-service is started again.")));
}

/* The service has a device that the settings do not forbid. */
static bool
suits(const fa_ring *ring, bool insist)
{
	bool is_gpu = service_is_gpu();
	bool wrong = faceattr_device == DEVICE_GPU ? !is_gpu : faceattr_device == DEVICE_CPU && is_gpu;
	char device[sizeof(ring->header->device)];

	if (!insist)
		return is_gpu && faceattr_device != DEVICE_CPU;
	fa_ring_text(device, sizeof(device), ring->header->device, sizeof(device));
	if (wrong)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("faceattr-service runs on a %s", is_gpu ? "GPU" : "CPU"),
						errdetail_internal("%s", device),
						errhint("Set faceattr.device to auto, or faceattr.run_in to backend.")));
	return true;
}

static bool
resolve_precision(const fa_ring *ring, bool insist, fa_precision *precision)
{
	uint32 can = atomic_load(&ring->header->precisions);
	uint32 p = faceattr_precision == FA_PRECISION_AUTO ? atomic_load(&ring->header->fastest)
													   : (uint32) faceattr_precision;

	*precision = (fa_precision) p;
	if (p > FA_PRECISION_AUTO && p <= FA_PRECISION_TF32 && (can & UINT32_C(1) << p) != 0)
		return true;
	if (insist)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("the device of faceattr-service does not compute in that precision"),
						errhint("Set faceattr.precision to auto.")));
	return false;
}

/*
 * A service that is ready, by the time of its start; 0: none. One may die while it is looked at,
 * upon which the next one is as good.
 */
static int64
ready_service(const fa_ring *ring)
{
	ServiceWish wish = insists() && faceattr_device != DEVICE_GPU ? WISH_ANY : WISH_GPU;
	int64 instance = 0;

	for (int tries = 0; tries < 2 && instance == 0; tries++)
	{
		if (!service_is_ready())
		{
			if (!insists() && !service_has_gpus())
				return 0;
			if (can_do_without())
			{
				service_ask_for(wish);
				return 0;
			}
			if (!service_start(wish))
				return 0;
		}
		instance = atomic_load(&ring->header->started);
	}
	return instance;
}

/* auto leaves it alone; and says so after a failure, once. */
static bool
is_to_rest(int64 instance)
{
	int64 now = fa_ring_now();
	int64 since = Max(service.failed_at, service_rests_since());
	bool rests = can_do_without() && since > instance && now - since <= REST;

	if (rests && service.warn)
		ereport(WARNING, (errmsg("this session goes on with the CPU"),
						  errdetail_internal("%s", service.error.message),
						  errhint("It tries faceattr-service again after a minute.")));
	service.warn = false;
	return rests;
}

bool
choose_service(Device *device)
{
	const char *why;
	const fa_ring *ring = service_ring(&why);
	bool insist = insists();
	int64 instance;

	service.chosen = false;
	if (faceattr_run_in == RUN_IN_BACKEND && insist)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("faceattr.decode_in is service, but faceattr.run_in is backend"),
						errhint("Set faceattr.run_in to auto or service.")));
	if (faceattr_run_in == RUN_IN_BACKEND)
		return false;
	if (ring == NULL && insist)
		raise_not_preloaded(why);
	if (ring == NULL || (!insist && faceattr_device == DEVICE_CPU))
		return false;
	instance = ready_service(ring);
	if (instance == 0 && insist)
		raise_no_service(ring);
	if (instance == 0 || is_to_rest(instance) || !suits(ring, insist) ||
		!resolve_precision(ring, insist, &device->precision))
		return false;
	device->interface = &fa_service_engine;
	device->options = (fa_engine_options){.threads = faceattr_threads};
	device->instance = instance;
	service.chosen = true;
	return true;
}

void
service_failed(const fa_error *error)
{
	if (!service.chosen || !can_do_without() ||
		(error->status != FA_NO_MEMORY && error->status != FA_INTERNAL))
		return;
	service.failed_at = fa_ring_now();
	service.error = *error;
	service.warn = true;
	service_has_failed(REST);
}

bool
gpus_are_elsewhere(void)
{
	return faceattr_run_in == RUN_IN_AUTO && service_has_gpus();
}

bool
service_is_gpu(void)
{
	const fa_ring *ring = service_ring(NULL);

	return ring != NULL && strncmp(ring->header->engine, "cuda", sizeof(ring->header->engine)) == 0;
}

const char *
service_hint(fa_status status)
{
	if (!service.chosen)
		return NULL;
	if (service.warn)
		return "Repeat the statement: this session goes on with the CPU for a minute.";
	if (status == FA_DEVICE_LOST || status == FA_NOT_FOUND)
		return "Repeat the statement: faceattr-service is started again.";
	if (status != FA_NO_MEMORY && status != FA_INTERNAL)
		return NULL;
	if (faceattr_device == DEVICE_GPU)
		return "Set faceattr.device to auto to go on with the CPU.";
	return faceattr_decode_in == DECODE_IN_SERVICE
			   ? "Set faceattr.decode_in and faceattr.run_in to backend to go on without it."
			   : "Set faceattr.run_in to backend to go on without it.";
}

/* --- Pipelines ----------------------------------------------------------------------------- */

bool
service_has(const Model *model, const Device *device)
{
	const fa_ring *ring = service_ring(NULL);

	for (int i = 0; i < FA_RING_MODELS; i++)
	{
		const fa_shown_model *shown = &ring->header->models[i];

		if (shown->resident != 0 && shown->precision == (uint32) device->precision &&
			memcmp(shown->key, model->key, MODEL_KEY) == 0)
			return true;
	}
	return false;
}

/* With the weights where the service needs them. */
static fa_status
open_with(const Model *model, const Device *device, const bytea *weights, fa_pipeline **pipeline,
		  fa_error *error)
{
	fa_bytes file;
	fa_precision precision;
	void *block;
	size_t length;
	fa_status status;
	CoreCall call;

	if (weights != NULL)
		file = (fa_bytes){VARDATA_ANY(weights), VARSIZE_ANY_EXHDR(weights)};
	*pipeline = NULL;
	core_enter(&call);
	status = fa_service_model(model->key, device->precision, weights != NULL ? &file : NULL,
							  &precision, &block, &length, &call.interrupt, &call.error);
	if (status == FA_OK)
	{
		status = fa_pipeline_open_packed(device->interface, &device->options, precision, block,
										 length, pipeline, &call.error);
		free(block);
	}
	status = core_leave(&call, status);
	*error = call.error;
	return status;
}

fa_pipeline *
open_in_service(const Model *model, const Device *device)
{
	fa_pipeline *pipeline;
	fa_error error;
	fa_status status = open_with(model, device, NULL, &pipeline, &error);

	if (status == FA_NOT_FOUND)
	{
		bytea *weights = faceattr_model_bytes(model);

		status = open_with(model, device, weights, &pipeline, &error);
		if ((Pointer) weights != DatumGetPointer(model->weights))
			pfree(weights);
	}
	if (status == FA_OK)
		return pipeline;
	if (!can_do_without())
		raise_model_error(&error, model);
	service.failed_at = fa_ring_now();
	ereport(DEBUG1, (errmsg("this session does without faceattr-service: %s", error.message),
					 errdetail_internal("%s", error.detail)));
	return NULL;
}

/* --- The views ------------------------------------------------------------------------------ */

/* A time of fa_ring_now(); false: none that could be. */
static bool
ring_time(int64 when, Datum *value)
{
	int64 ago = fa_ring_now() - when;

	if (when <= 0 || ago < 0)
		return false;
	*value = TimestampTzGetDatum(GetCurrentTimestamp() - ago);
	return true;
}

static Datum
text_of(const char *from, size_t size)
{
	char *text = palloc(size + 1);

	fa_ring_text(text, size + 1, from, size);
	return CStringGetTextDatum(text);
}

static Datum
batch_sizes(const fa_ring_header *header)
{
	Datum bins[FA_RING_FILL_BINS];

	for (int i = 0; i < FA_RING_FILL_BINS; i++)
		bins[i] = Int64GetDatum((int64) atomic_load(&header->fill[i]));
	return PointerGetDatum(construct_array(bins, FA_RING_FILL_BINS, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static const char *
state_name(uint32 state)
{
	static const char *const names[] = {"stopped", "starting", "ready", "waiting", "useless"};

	return state < lengthof(names) ? names[state] : "damaged";
}

static const char *
confinement_name(uint32 confined)
{
	static const char *const names[] = {"none", "calls", "files", "files and calls"};

	return names[confined & (FA_CONFINED_CALLS | FA_CONFINED_FILES)];
}

/* Columns of the view faceattr_stat_service. */
enum
{
	STATE,
	PID,
	ENGINE,
	DEVICE,
	CONFINED,
	STARTED,
	SLOTS,
	IN_USE,
	QUEUED,
	REQUESTS,
	IMAGES,
	BATCHES,
	BATCH_SIZES,
	WAIT_TIME,
	RUN_TIME,
	ABANDONED,
	FAILED,
	RESTARTS,
	LAST_ERROR,
	LAST_ERROR_TIME,
	COLUMNS
};

static void
service_row(const fa_ring *ring, Datum *values, bool *nulls)
{
	const fa_ring_header *header = ring->header;
	int in_use = 0, queued = 0;
	int64 failed_at = atomic_load(&header->last_error_time);
	bool lives = atomic_load(&header->pid) != 0;

	for (int i = 0; i < ring->slots; i++)
	{
		fa_slot_state state = fa_word_state(atomic_load(&ring->slot[i].word));

		in_use += state != FA_SLOT_FREE;
		queued += state == FA_SLOT_SUBMITTED;
	}
	nulls[PID] = nulls[CONFINED] = !lives;
	nulls[ENGINE] = nulls[DEVICE] = !lives || header->engine[0] == '\0';
	values[STATE] = CStringGetTextDatum(state_name(atomic_load(&header->state)));
	values[PID] = Int32GetDatum((int32) atomic_load(&header->pid));
	values[ENGINE] = text_of(header->engine, sizeof(header->engine));
	values[DEVICE] = text_of(header->device, sizeof(header->device));
	values[CONFINED] = CStringGetTextDatum(confinement_name(atomic_load(&header->confined)));
	nulls[STARTED] = !ring_time(atomic_load(&header->started), &values[STARTED]);
	values[SLOTS] = Int32GetDatum(ring->slots);
	values[IN_USE] = Int32GetDatum(in_use);
	values[QUEUED] = Int32GetDatum(queued);
	values[REQUESTS] = Int64GetDatum((int64) atomic_load(&header->requests));
	values[IMAGES] = Int64GetDatum((int64) atomic_load(&header->images));
	values[BATCHES] = Int64GetDatum((int64) atomic_load(&header->batches));
	values[BATCH_SIZES] = batch_sizes(header);
	values[WAIT_TIME] = Float8GetDatum((double) atomic_load(&header->wait_time) / 1000);
	values[RUN_TIME] = Float8GetDatum((double) atomic_load(&header->run_time) / 1000);
	values[ABANDONED] = Int64GetDatum((int64) atomic_load(&header->abandoned));
	values[FAILED] = Int64GetDatum((int64) atomic_load(&header->failed));
	values[RESTARTS] = Int64GetDatum((int64) atomic_load(&header->restarts));
	nulls[LAST_ERROR] = header->last_error[0] == '\0';
	values[LAST_ERROR] = text_of(header->last_error, sizeof(header->last_error));
	nulls[LAST_ERROR_TIME] = failed_at <= 0 || failed_at > (int64) time(NULL) + 60;
	if (!nulls[LAST_ERROR_TIME])
		values[LAST_ERROR_TIME] = TimestampTzGetDatum(time_t_to_timestamptz((pg_time_t) failed_at));
}

/* faceattr_service_state() returns record: the row of the view faceattr_stat_service */
PG_FUNCTION_INFO_V1(faceattr_service_state);
Datum
faceattr_service_state(PG_FUNCTION_ARGS)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	const char *why;
	const fa_ring *ring = service_ring(&why);

	memset(nulls, ring == NULL, sizeof(nulls));
	if (ring != NULL)
		service_row(ring, values, nulls);
	else
	{
		values[STATE] = CStringGetTextDatum("none");
		values[LAST_ERROR] = CStringGetTextDatum(why);
		nulls[STATE] = nulls[LAST_ERROR] = false;
	}
	PG_RETURN_DATUM(row_result(fcinfo, values, nulls));
}

/* faceattr_service_models() returns setof record: the rows of faceattr_stat_service_models */
PG_FUNCTION_INFO_V1(faceattr_service_models);
Datum
faceattr_service_models(PG_FUNCTION_ARGS)
{
	static const char *const precisions[] = {"auto", "fp32", "bf16", "fp16", "tf32"};
	ReturnSetInfo *result = materialized_rows(fcinfo);
	const fa_ring *ring = service_ring(NULL);

	for (int i = 0; i < FA_RING_MODELS && ring != NULL; i++)
	{
		fa_shown_model shown = ring->header->models[i];
		bytea *key = palloc(VARHDRSZ + FA_SERVICE_KEY);
		Datum values[6];
		bool nulls[6] = {false};

		if (shown.resident == 0 || shown.precision >= lengthof(precisions))
			continue;
		SET_VARSIZE(key, VARHDRSZ + FA_SERVICE_KEY);
		memcpy(VARDATA(key), shown.key, FA_SERVICE_KEY);
		values[0] = PointerGetDatum(key);
		values[1] = CStringGetTextDatum(precisions[shown.precision]);
		values[2] = BoolGetDatum(shown.resident == 2);
		values[3] = Int64GetDatum((int64) shown.memory);
		values[4] = Int64GetDatum((int64) shown.images);
		nulls[5] = !ring_time(shown.last_use, &values[5]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
