/*
 * core_call.c
 *		The bridge between two worlds: PostgreSQL raises errors by longjmp and
 *		learns of a cancel from a signal handler; the core returns its errors
 *		and asks a callback whether to stop.
 *
 * While the core runs, signals are blocked, and let through only inside that
 * callback. So the threads that OpenMP may start meanwhile inherit a full mask,
 * and a handler of PostgreSQL never runs in one of them, nor anywhere but here.
 */
#include "faceattr.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

/*
 * Does what is pending, which may be harmless (a barrier, a request to log memory
 * contexts). An error, such as a cancel, stays on elog's stack until the core
 * has unwound itself; core_leave throws it on. Termination would not return from
 * here: it only asks the core to unwind, and is obeyed after that.
 */
static bool
should_stop(void *argument)
{
	CoreCall *call = argument;
	bool stop;

	if (call->thrown)
		return true;

	sigprocmask(SIG_SETMASK, &call->signals, NULL); /* handlers of pending signals run here */
	stop = ProcDiePending && INTERRUPTS_CAN_BE_PROCESSED();
	if (!stop && InterruptPending)
	{
		PG_TRY();
		{
			CHECK_FOR_INTERRUPTS();
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(call->context);
			call->thrown = true;
		}
		PG_END_TRY();
	}
	sigprocmask(SIG_SETMASK, &BlockSig, NULL);
	return stop || call->thrown;
}

void
core_enter(CoreCall *call)
{
	memset(call, 0, sizeof(*call));
	call->interrupt.should_stop = should_stop;
	call->interrupt.argument = call;
	call->context = CurrentMemoryContext;
	sigprocmask(SIG_SETMASK, &BlockSig, &call->signals);
}

fa_status
core_leave(CoreCall *call, fa_status status)
{
	sigprocmask(SIG_SETMASK, &call->signals, NULL);
	if (call->thrown)
		PG_RE_THROW();
	if (status == FA_INTERRUPTED)
	{
		CHECK_FOR_INTERRUPTS();
		elog(ERROR, "interrupted without a reason");
	}
	if (status != FA_OK)
		device_failed(&call->error);
	return status;
}

void *
core_take(void *original, size_t header, size_t length)
{
	char *copy = MemoryContextAllocExtended(CurrentMemoryContext, header + length,
											MCXT_ALLOC_NO_OOM | MCXT_ALLOC_HUGE);

	if (copy != NULL && length > 0)
		memcpy(copy + header, original, length);
	free(original);
	if (copy == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed on request of size %zu.", header + length)));
	return copy;
}

static int
error_code(fa_status status, bool image)
{
	switch (status)
	{
		case FA_DAMAGED:
			return image ? ERRCODE_DATA_EXCEPTION : ERRCODE_DATA_CORRUPTED;
		case FA_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case FA_TOO_LARGE:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case FA_NOT_FOUND:
			return ERRCODE_UNDEFINED_FILE;
		case FA_INVALID:
			return image ? ERRCODE_INVALID_PARAMETER_VALUE : ERRCODE_DATA_CORRUPTED;
		case FA_NO_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		case FA_IO:
			return ERRCODE_IO_ERROR;
		case FA_DEVICE_LOST:
			return ERRCODE_SYSTEM_ERROR;
		case FA_OK:
		case FA_INTERRUPTED: /* only when should_stop said so: core_leave has raised it */
		case FA_INTERNAL:
			break;
	}
	return ERRCODE_INTERNAL_ERROR;
}

/* What to do about the device, or the service, that failed. */
static const char *
failure_hint(fa_status status)
{
	const char *hint = service_hint(status);

	return hint != NULL ? hint : device_hint();
}

static const char *
image_hint(fa_status status)
{
	switch (status)
	{
		case FA_DAMAGED:
			return "Compare the stored bytes with the original file: they may have been cut short "
				   "or altered.";
		case FA_UNSUPPORTED:
			return "Convert the image to JPEG or PNG.";
		case FA_TOO_LARGE:
			return "Save the image smaller; a superuser can raise faceattr.max_pixels.";
		default:
			return failure_hint(status);
	}
}

static _Noreturn void
raise_error(const fa_error *error, int code, const char *hint)
{
	ereport(ERROR, (errcode(code), errmsg_internal("%s", error->message),
					error->detail[0] ? errdetail_internal("%s", error->detail) : 0,
					hint ? errhint("%s", hint) : 0));
}

void
raise_core_error(const fa_error *error)
{
	raise_error(error, error_code(error->status, false),
				error->status == FA_UNSUPPORTED ? "Set faceattr.precision to auto."
												: failure_hint(error->status));
}

void
raise_model_error(fa_error *error, const Model *model)
{
	bool unusable =
		error->status == FA_DAMAGED || error->status == FA_INVALID || error->status == FA_NOT_FOUND;

	if (!unusable)
		raise_core_error(error);
	fa_error_in(error, model->shipped ? faceattr_model_path(model)
									  : psprintf("model \"%s\"", model->name));
	raise_error(error, error_code(error->status, false),
				model->shipped ? "Install the extension's files again." : NULL);
}

void
raise_weights_error(const fa_error *error)
{
	raise_error(error, error_code(error->status, true), NULL);
}

void
report_image_error(const fa_error *error, BadImage on_bad_image)
{
	const char *hint = image_hint(error->status);
	bool bad_image = error->status == FA_DAMAGED || error->status == FA_UNSUPPORTED ||
					 error->status == FA_TOO_LARGE;

	stat_error(error->status);
	if (bad_image && on_bad_image == BAD_IMAGE_IGNORE)
		return;
	ereport(bad_image && on_bad_image == BAD_IMAGE_WARNING ? WARNING : ERROR,
			(errcode(error_code(error->status, true)), errmsg_internal("%s", error->message),
			 error->detail[0] ? errdetail_internal("%s", error->detail) : 0,
			 hint ? errhint("%s", hint) : 0));
}
