/*
 * device.c
 *		Opening a training's device; see device.h.
 */
#include "device.h"

#include "common.h"

#include "../src/nn/cuda.h"

static fa_status
open_gpu(const fa_engine_options *options, const fa_engine_interface **interface,
		 fa_engine **engine, fa_error *error)
{
	char path[FA_PATH_LENGTH];

	fa_cuda_library(path);
	FA_TRY(fa_cuda_engine_load(path, interface, error));
	return (*interface)->open(options, engine, error);
}

fa_status
fa_device_open(fa_device device, int threads, const fa_engine_interface **interface,
			   fa_engine **engine, fa_error *error)
{
	char plans[FA_PATH_LENGTH]; /* whose engines are timed once, and not in each training */
	const fa_engine_options options = {
		.threads = threads, .plan_cache = fa_plan_directory(plans, sizeof(plans)) ? plans : NULL};
	fa_error own;

	error->status = FA_OK;
	*engine = NULL;
	if (device != FA_DEVICE_CPU)
	{
		if (open_gpu(&options, interface, engine, error) == FA_OK)
		{
			error->status = FA_OK;
			return FA_OK;
		}
		if (device == FA_DEVICE_GPU)
			return error->status;
		if (error->status == FA_NOT_FOUND)
			error->status = FA_OK;
	}
	*interface = &fa_cpu_engine;
	if (fa_cpu_engine.open(&options, engine, &own) != FA_OK)
		*error = own;
	return *engine == NULL ? error->status : FA_OK;
}
