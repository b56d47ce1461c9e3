/*
 * engine.c
 *		The CUDA engine: opening the device, precisions, its table of functions, and the
 *		one symbol by which the library is entered (src/nn/cuda.h loads it).
 */
#include "kernels.h"
#include "program.h"
#include "trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fa_status
status_of(cudaError_t code)
{
	switch ((int) code)
	{
		case cudaErrorMemoryAllocation:
			return FA_NO_MEMORY;
		/* no GPU, or none that this driver and this library can use */
		case cudaErrorNoDevice:
		case cudaErrorInsufficientDriver:
		case cudaErrorStubLibrary:
		case cudaErrorInvalidDeviceFunction:
		case cudaErrorDeviceNotLicensed:
		case cudaErrorNoKernelImageForDevice:
		case cudaErrorJitCompilerNotFound:
		case cudaErrorUnsupportedPtxVersion:
		case cudaErrorSystemDriverMismatch:
		case cudaErrorCompatNotSupportedOnDevice:
			return FA_UNSUPPORTED;
		/* those of which CUDA says that the process must be relaunched */
		case cudaErrorECCUncorrectable:
		case 226: /* cudaErrorContained, of CUDA 12.8 */
		case cudaErrorIllegalAddress:
		case cudaErrorLaunchTimeout:
		case cudaErrorAssert:
		case cudaErrorHardwareStackError:
		case cudaErrorIllegalInstruction:
		case cudaErrorMisalignedAddress:
		case cudaErrorInvalidAddressSpace:
		case cudaErrorInvalidPc:
		case cudaErrorLaunchFailure:
		case 721: /* cudaErrorTensorMemoryLeak, of CUDA 12.8 */
		case cudaErrorMpsClientTerminated:
		case 911: /* cudaErrorExternalDevice, of CUDA 12.4 */
			return FA_DEVICE_LOST;
		default:
			return FA_INTERNAL;
	}
}

fa_status
fa_gpu_status(cudaError_t code, const char *doing, fa_error *error)
{
	if (code == cudaSuccess)
		return FA_OK;
	cudaGetLastError(); /* which the next kernel's start would tell again */
	fa_fail(error, status_of(code), "the GPU failed %s: %s", doing, cudaGetErrorName(code));
	return fa_detail(error, "%s", cudaGetErrorString(code));
}

fa_status
fa_gpu_begin_capture(cudaStream_t stream, fa_error *error)
{
	return fa_gpu_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
						 "to capture a graph", error);
}

fa_status
fa_gpu_end_capture(cudaStream_t stream, fa_status started, cudaGraphExec_t *whole, fa_error *error)
{
	cudaGraph_t graph = NULL;
	cudaError_t ended = cudaStreamEndCapture(stream, &graph);
	fa_status status = started;

	if (status == FA_OK)
		status = fa_gpu_status(ended, "to capture a graph", error);
	if (status == FA_OK)
		status = fa_gpu_status(cudaGraphInstantiate(whole, graph, 0), "to make a graph", error);
	if (graph != NULL)
		cudaGraphDestroy(graph);
	if (status != FA_OK)
	{
		*whole = NULL;
		cudaGetLastError(); /* or the next kernel's start would tell of it */
	}
	return status;
}

static void
event_free(cudaEvent_t event)
{
	if (event != NULL)
		cudaEventDestroy(event);
}

static void
stream_free(cudaStream_t stream)
{
	if (stream != NULL)
		cudaStreamDestroy(stream);
}

static fa_status
make_event(cudaEvent_t *event, fa_error *error)
{
	return fa_gpu_status(cudaEventCreateWithFlags(event, cudaEventDisableTiming),
						 "to make an event", error);
}

static fa_status
make_stream(cudaStream_t *stream, fa_error *error)
{
	return fa_gpu_status(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking),
						 "to make a stream", error);
}

static void
cuda_close(fa_engine *engine)
{
	if (engine == NULL)
		return;
	if (engine->target.handle != NULL)
		cudnnDestroy(engine->target.handle);
	for (int i = 0; i < 2; i++)
	{
		if (engine->slots[i].pinned != NULL)
			cudaFreeHost(engine->slots[i].pinned);
		event_free(engine->slots[i].done);
	}
	event_free(engine->uploaded);
	event_free(engine->taken);
	stream_free(engine->stream);
	stream_free(engine->copies);
	fa_gpu_give(&engine->memory, &engine->photos);
	fa_gpu_give(&engine->memory, &engine->found);
	fa_gpu_plan_cache_close(engine->plans);
	free(engine);
}

/*
 * What the device can do. One that the library has no code for must not open: it would fail with
 * its first kernel, in every statement anew.
 */
static fa_status
look_at_device(fa_engine *engine, int device, fa_error *error)
{
	int major = 0, minor = 0;
	fa_status status;

	FA_TRY(fa_gpu_status(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
						 "to tell its kind", error));
	FA_TRY(fa_gpu_status(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
						 "to tell its kind", error));
	engine->has_bf16 = major >= 8;
	status = fa_gpu_find_code(error);
	if (status != FA_UNSUPPORTED)
		return status;
	fa_fail(error, FA_UNSUPPORTED,
			"the CUDA engine was not built for a GPU of compute capability %d.%d", major, minor);
	return fa_detail(error, "It needs 7.5 at least, and CUDA's compiler must have known the kind.");
}

/* A cuDNN that lacks parts is as good as none. */
static fa_status
open_cudnn(fa_engine *engine, fa_error *error)
{
	fa_status status = fa_gpu_cudnn_status(cudnnCreate(&engine->target.handle), "to open", error);

	fa_gpu_keep_compiler();
	if (status == FA_OK)
		status = fa_gpu_cudnn_status(cudnnSetStream(engine->target.handle, engine->stream),
									 "to take a stream", error);
	if (status == FA_OK)
		status = fa_gpu_cudnn_check(&engine->target, error);
	if (status == FA_NOT_FOUND)
		status = error->status = FA_UNSUPPORTED;
	return status;
}

static fa_status
open_device(fa_engine *engine, const fa_engine_options *options, fa_error *error)
{
	int count = 0, device = options->device;

	FA_TRY(fa_gpu_status(cudaGetDeviceCount(&count), "to be found", error));
	if (count == 0)
		return fa_gpu_status(cudaErrorNoDevice, "to be found", error);
	if (device < 0 || device >= count)
	{
		fa_fail(error, FA_UNSUPPORTED, "there is no GPU number %d", device);
		return fa_detail(error, "The machine has %d, counted from 0.", count);
	}
	FA_TRY(fa_gpu_status(cudaSetDevice(device), "to open", error));
	FA_TRY(look_at_device(engine, device, error));
	FA_TRY(make_stream(&engine->stream, error));
	FA_TRY(make_stream(&engine->copies, error));
	FA_TRY(make_event(&engine->uploaded, error));
	FA_TRY(make_event(&engine->taken, error));
	for (int i = 0; i < 2; i++)
		FA_TRY(make_event(&engine->slots[i].done, error));
	FA_TRY(open_cudnn(engine, error));
	return fa_gpu_plan_cache_open(options->plan_cache, device, &engine->plans, error);
}

static fa_status
cuda_open(const fa_engine_options *options, fa_engine **engine, fa_error *error)
{
	static const fa_engine_options usual = {.device = 0};
	fa_engine *opened = calloc(1, sizeof(fa_engine));

	*engine = NULL;
	if (options == NULL)
		options = &usual;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(fa_engine));
	opened->memory = (fa_gpu_memory){
		.limit = options->memory_limit, .make_room = fa_gpu_make_room, .owner = opened};
	if (open_device(opened, options, error) != FA_OK)
	{
		cuda_close(opened);
		return error->status;
	}
	*engine = opened;
	return FA_OK;
}

/* The driver's own number, "580.65.06", as its kernel module tells it; empty: unknown. */
static void
driver_version(char *text, size_t size)
{
	FILE *file = fopen("/sys/module/nvidia/version", "r");

	text[0] = '\0';
	if (file == NULL)
		return;
	if (fgets(text, (int) size, file) == NULL)
		text[0] = '\0';
	text[strcspn(text, " \n")] = '\0';
	fclose(file);
}

/* What cannot be told is left out. */
static void
cuda_describe(const fa_engine *engine, char *text, size_t size)
{
	struct cudaDeviceProp properties;
	size_t cudnn = cudnnGetVersion();
	int driver = 0, runtime = 0, device = 0;
	char version[24];

	(void) engine; /* the thread's */
	driver_version(version, sizeof(version));
	snprintf(text, size, "GPU");
	if (cudaGetDevice(&device) != cudaSuccess ||
		cudaGetDeviceProperties(&properties, device) != cudaSuccess ||
		cudaDriverGetVersion(&driver) != cudaSuccess ||
		cudaRuntimeGetVersion(&runtime) != cudaSuccess)
	{
		cudaGetLastError();
		return;
	}
	snprintf(text, size, "%.64s, driver %s%sfor CUDA %d.%d, CUDA %d.%d, cuDNN %zu.%zu.%zu",
			 properties.name, version, version[0] == '\0' ? "" : " ", driver / 1000,
			 driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, cudnn / 10000,
			 cudnn / 100 % 100, cudnn % 100);
}

/* The device has threads enough. */
static void
cuda_set_threads(fa_engine *engine, int threads)
{
	(void) engine;
	(void) threads;
}

static bool
cuda_set_memory_limit(fa_engine *engine, size_t limit)
{
	return fa_gpu_set_limit(&engine->memory, limit);
}

fa_status
fa_cuda_resolve_precision(fa_engine *engine, fa_precision wanted, fa_precision *precision,
						  fa_error *error)
{
	if ((wanted == FA_PRECISION_BF16 || wanted == FA_PRECISION_TF32) && !engine->has_bf16)
	{
		fa_fail(error, FA_UNSUPPORTED, "this GPU does not compute in bf16 or tf32");
		return fa_detail(error, "Its compute capability is below 8.0.");
	}
	/* as fast as bf16, and eight times as precise */
	*precision = wanted == FA_PRECISION_AUTO ? FA_PRECISION_FP16 : wanted;
	return FA_OK;
}

static const fa_engine_interface cuda_engine = {
	.name = "cuda",
	.batch = 64,
	.open = cuda_open,
	.close = cuda_close,
	.describe = cuda_describe,
	.set_threads = cuda_set_threads,
	.resolve_precision = fa_cuda_resolve_precision,
	.load = fa_cuda_load_model,
	.unload = fa_cuda_unload,
	.memory = fa_cuda_memory,
	.set_memory_limit = cuda_set_memory_limit,
	.pack = fa_cuda_pack,
	.load_packed = fa_cuda_load_packed,
	.run = fa_cuda_run,
	.run_stream = fa_cuda_run_stream,
	.trainer_open = fa_cuda_trainer_open,
	.trainer_close = fa_cuda_trainer_close,
	.augment = fa_cuda_augment,
	.forward = fa_cuda_forward,
	.backward = fa_cuda_backward,
	.update = fa_cuda_update,
	.step = fa_cuda_step,
	.read_state = fa_cuda_read_state,
	.write_state = fa_cuda_write_state,
	.run_warped = fa_cuda_run_warped,
	.detect = fa_cuda_detect,
};

const fa_engine_interface *
fa_cuda_engine(size_t interface_size)
{
	return interface_size == sizeof(fa_engine_interface) ? &cuda_engine : NULL;
}
