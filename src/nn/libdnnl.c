/*
 * libdnnl.c
 *		Loading oneDNN; see libdnnl.h. Of the major version that this was compiled with, whose
 *		functions have the types that the header says.
 */
#define FA_DNNL_NAMES_ALONE
#include "libdnnl.h"

#include <dlfcn.h>
#include <pthread.h>

#define STRING_(x) #x
#define STRING(x) STRING_(x)
#define LIBRARY "libdnnl.so." STRING(DNNL_VERSION_MAJOR)

fa_dnnl_table fa_dnnl;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;

#define FIND(name)                                                                                 \
	if ((*(void **) &table.name = dlsym(library, #name)) == NULL)                                  \
		missing = #name;

static fa_status
load(fa_error *error)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	const char *missing = NULL, *reason;
	fa_dnnl_table table;

	if (library == NULL)
	{
		reason = dlerror();
		fa_fail(error, FA_IO, "oneDNN cannot be loaded");
		return fa_detail(error, "%s", reason == NULL ? LIBRARY : reason);
	}
	FA_DNNL_COMMON(FIND)
	FA_DNNL_OWN(FIND)
	if (missing != NULL)
	{
		dlclose(library);
		fa_fail(error, FA_IO, "oneDNN cannot be loaded");
		return fa_detail(error, "%s lacks %s.", LIBRARY, missing);
	}
	fa_dnnl = table;
	loaded = true;
	return FA_OK;
}

fa_status
fa_dnnl_load(fa_error *error)
{
	fa_status status = FA_OK;

	pthread_mutex_lock(&lock);
	if (!loaded)
		status = load(error);
	pthread_mutex_unlock(&lock);
	return status;
}
