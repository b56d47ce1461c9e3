/*
 * device.c
 *		Which engine a session's networks run on: the CPU's, or the CUDA engine, whose
 *		library is loaded when a session first wants a GPU.
 *
 * A GPU is opened by the backend that uses it, parallel workers included, and never by the
 * postmaster: nothing of CUDA survives a fork. CUDA's threads start while core_enter blocks
 * signals. What became of a GPU is remembered: faceattr.device = auto tries it once, and
 * goes on with the CPU where it cannot be had. When it fails at work, the statement gets an
 * error, and `auto` leaves it alone from then on: for good where only a new process could use it
 * again, else, for lack of memory say, for a while. faceattr.device = gpu tries every time.
 */
#include "faceattr.h"

#include <unistd.h>

#include "../nn/cuda.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/timestamp.h"

#define REST (60 * USECS_PER_SEC)

int faceattr_device;
int faceattr_gpu_device;
int faceattr_gpu_memory;

static struct
{
	const fa_engine_interface *interface; /* NULL: its library has not been loaded */
	fa_engine_interface pipelines;        /* theirs: all of them run on the one engine */
	fa_engine *engine;                    /* NULL: it is not open */
	pid_t process;                        /* that opened it */
	int number;                           /* of the GPU */
	size_t memory_limit;
	fa_error error;          /* why it cannot be had, or failed at work */
	TimestampTz rests_until; /* as far as auto is concerned */
	bool chosen;             /* by the latest call */
	bool warn;               /* that auto goes on without it */
} gpu;

/* --- The GPU ------------------------------------------------------------------- */

static TimestampTz
rest_after(fa_status status)
{
	return status == FA_NO_MEMORY || status == FA_INTERNAL ? GetCurrentTimestamp() + REST
														   : DT_NOEND;
}

static fa_status
use_open_engine(const fa_engine_options *options, fa_engine **engine, fa_error *error)
{
	(void) options;
	(void) error;
	*engine = gpu.engine;
	return FA_OK;
}

static void
leave_engine_open(fa_engine *engine)
{
	(void) engine;
}

/* Loads the library, if need be, and opens the GPU; or leaves the reason in gpu.error. */
static void
open_gpu(const fa_engine_options *options)
{
	char path[MAXPGPATH];
	fa_status status = FA_OK;
	CoreCall call;

	if (IsPostmasterEnvironment && !IsUnderPostmaster)
		elog(ERROR, "the postmaster must not open a GPU");
	snprintf(path, sizeof(path), "%s/%s", pkglib_path, FA_CUDA_LIBRARY);
	core_enter(&call);
	if (gpu.interface == NULL)
		status = fa_cuda_engine_load(path, &gpu.interface, &call.error);
	if (status == FA_OK)
		status = gpu.interface->open(options, &gpu.engine, &call.error);
	status = core_leave(&call, status);
	if (status == FA_OK)
	{
		gpu.pipelines = *gpu.interface;
		gpu.pipelines.open = use_open_engine;
		gpu.pipelines.close = leave_engine_open;
	}
	gpu.process = getpid();
	gpu.number = options->device;
	gpu.memory_limit = options->memory_limit;
	gpu.error = call.error;
	gpu.error.status = status; /* FA_OK, whatever has been tried on the way */
	gpu.rests_until = status == FA_OK ? 0 : rest_after(status);
	if (status == FA_OK)
		ereport(DEBUG1, (errmsg("this session uses GPU %d", gpu.number)));
	else if (status != FA_NOT_FOUND)
		ereport(DEBUG1, (errmsg("this session has no GPU: %s", gpu.error.message),
						 errdetail_internal("%s", gpu.error.detail)));
}

static const char *
missing_hint(void)
{
	switch (gpu.error.status)
	{
		case FA_NOT_FOUND:
			return "Build and install it where CUDA and cuDNN are, or set faceattr.device to auto "
				   "to go on with the CPU.";
		case FA_UNSUPPORTED:
			return "A GPU, NVIDIA's driver and libcudnn.so.9 are needed; set faceattr.device to "
				   "auto to go on with the CPU.";
		case FA_DEVICE_LOST:
			return "Reconnect: only a new session can use the GPU again.";
		default:
			return "Set faceattr.device to auto to go on with the CPU.";
	}
}

static _Noreturn void
raise_no_gpu(void)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg_internal("%s", gpu.error.message),
					gpu.error.detail[0] ? errdetail_internal("%s", gpu.error.detail) : 0,
					errhint("%s", missing_hint())));
}

/* false: auto goes on with the CPU. */
static bool
have_gpu(const fa_engine_options *options, bool insist)
{
	bool lost = gpu.error.status == FA_DEVICE_LOST;

	if (gpu.process != 0 && gpu.process != getpid())
		elog(ERROR, "the GPU was opened by another process");
	if (gpu.warn && !insist)
		ereport(WARNING, (errmsg("this session goes on with the CPU"),
						  errdetail_internal("%s", gpu.error.message),
						  lost ? errhint("A new session can use the GPU again.")
							   : errhint("It tries the GPU again after a minute.")));
	gpu.warn = false;
	if (lost)
		return false;
	if (gpu.number != options->device || gpu.memory_limit != options->memory_limit)
	{
		gpu.engine = NULL; /* left to the pipelines that are there */
		gpu.rests_until = 0;
	}
	if (!insist && gpu.rests_until != 0 && GetCurrentTimestamp() < gpu.rests_until)
		return false;
	if (gpu.engine == NULL)
		open_gpu(options);
	return gpu.engine != NULL;
}

void
device_failed(const fa_error *error)
{
	bool failed = error->status == FA_DEVICE_LOST || error->status == FA_NO_MEMORY ||
				  error->status == FA_INTERNAL;

	service_failed(error);
	if (!gpu.chosen || !failed)
		return;
	gpu.error = *error;
	gpu.rests_until = rest_after(error->status);
	gpu.warn = true;
}

bool
device_gave_way(void)
{
	return gpu.chosen && gpu.warn && faceattr_device == DEVICE_AUTO;
}

const char *
device_hint(void)
{
	bool lost = gpu.error.status == FA_DEVICE_LOST;

	if (!gpu.chosen || !gpu.warn)
		return NULL;
	if (faceattr_device == DEVICE_AUTO)
		return lost ? "Repeat the statement: this session goes on with the CPU."
					: "Repeat the statement: this session goes on with the CPU for a minute.";
	return lost ? "Reconnect: only a new session can use the GPU again."
				: "Set faceattr.device to auto to go on with the CPU.";
}

/* --- The choice ------------------------------------------------------------------ */

Device
choose_device(void)
{
	Device device = {.options = {.threads = faceattr_threads,
								 .device = faceattr_gpu_device,
								 .memory_limit = (size_t) faceattr_gpu_memory * 1024 * 1024,
								 .plan_cache = PGSTAT_STAT_PERMANENT_DIRECTORY}};
	bool insist = faceattr_device == DEVICE_GPU;
	fa_error error;

	gpu.chosen = false;
	if (choose_service(&device))
		return device;
	if (faceattr_device != DEVICE_CPU && (insist || !gpus_are_elsewhere()) &&
		have_gpu(&device.options, insist))
	{
		device.interface = &gpu.pipelines;
		if (gpu.interface->resolve_precision(gpu.engine, faceattr_precision, &device.precision,
											 &error) == FA_OK)
		{
			gpu.chosen = true;
			return device;
		}
		if (insist)
			raise_core_error(&error);
	}
	if (insist)
		raise_no_gpu();
	device.interface = &fa_cpu_engine;
	if (fa_cpu_engine.resolve_precision(NULL, faceattr_precision, &device.precision, &error) !=
		FA_OK)
		raise_core_error(&error);
	return device;
}

bool
same_device(const Device *a, const Device *b)
{
	return a->interface == b->interface && a->precision == b->precision &&
		   a->instance == b->instance && a->options.device == b->options.device &&
		   a->options.memory_limit == b->options.memory_limit;
}
