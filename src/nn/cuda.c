/*
 * cuda.c
 *		Loading the CUDA engine; see cuda.h.
 */
#include "cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

fa_status
fa_cuda_engine_load(const char *path, const fa_engine_interface **engine, fa_error *error)
{
	const fa_engine_interface *(*enter)(size_t interface_size);
	const char *reason;
	void *library;

	*engine = NULL;
	if (access(path, R_OK) != 0)
	{
		fa_fail(error, FA_NOT_FOUND, "the CUDA engine is not installed");
		return fa_detail(error, "There is no file \"%.200s\".", path);
	}
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
	{
		reason = dlerror();
		fa_fail(error, FA_UNSUPPORTED, "the CUDA engine cannot be loaded");
		return fa_detail(error, "%s", reason == NULL ? path : reason);
	}
	*(void **) &enter = dlsym(library, "fa_cuda_engine");
	if (enter != NULL)
		*engine = enter(sizeof(fa_engine_interface));
	if (*engine != NULL)
		return FA_OK;
	dlclose(library);
	fa_fail(error, FA_UNSUPPORTED, "the CUDA engine cannot be loaded");
	return fa_detail(error, "\"%.200s\" is of another version.", path);
}

bool
fa_plan_directory(char *path, size_t size)
{
	const char *home = getenv("HOME");

	if (home == NULL || snprintf(path, size, "%s/.cache/faceattr", home) >= (int) size)
		return false;
	snprintf(path, size, "%s/.cache", home);
	mkdir(path, S_IRWXU);
	snprintf(path, size, "%s/.cache/faceattr", home);
	mkdir(path, S_IRWXU);
	return access(path, W_OK | X_OK) == 0;
}
