/*
 * preload.c
 *		What the library asks of the postmaster that loads it: room in main shared memory, for
 *		counters (stat.c), the table of shared models (shared_models.c) and the supervisor
 *		(supervisor.c), which is started, too.
 */
#include "supervisor.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

static shmem_startup_hook_type previous_startup_hook;
#if PG_VERSION_NUM >= 150000
static shmem_request_hook_type previous_request_hook;
#endif

static void
request(void)
{
#if PG_VERSION_NUM >= 150000
	if (previous_request_hook != NULL)
		previous_request_hook();
#endif
	RequestAddinShmemSpace(MAXALIGN(stat_shared_size()));
	RequestAddinShmemSpace(MAXALIGN(shared_models_size()));
	RequestAddinShmemSpace(MAXALIGN(supervisor_shared_size()));
}

static void
startup(void)
{
	void *memory;
	bool found;

	if (previous_startup_hook != NULL)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct("faceattr counters", stat_shared_size(), &found);
	stat_attach(memory, found);
	memory = ShmemInitStruct("faceattr models", shared_models_size(), &found);
	shared_models_attach(memory, found);
	memory = ShmemInitStruct("faceattr supervisor", supervisor_shared_size(), &found);
	supervisor_attach(memory, found);
	LWLockRelease(AddinShmemInitLock);
}

void
preload(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
#if PG_VERSION_NUM >= 150000
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
#else
	request();
#endif
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
	supervisor_preload();
}
