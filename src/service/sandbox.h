/*
 * sandbox.h
 *		What faceattr-service takes from itself before it reads a photo.
 */
#ifndef FA_SANDBOX_H
#define FA_SANDBOX_H

#include "../fa.h"

/* What a process in the sandbox is shown to be kept from; in the order of their bits. */
typedef enum fa_confinement
{
	FA_CONFINED_CALLS = 1, /* system calls: seccomp */
	FA_CONFINED_FILES = 2  /* files: Landlock */
} fa_confinement;

/* What stays allowed, beside system libraries, fonts and what the kernel tells of the machine. */
typedef struct fa_sandbox
{
	const char *readable; /* a directory */
	const char *writable; /* another, or NULL */
	const char *library;  /* a GPU's engine, yet to be loaded, with what it needs; NULL: none */
} fa_sandbox;

/*
 * Files, for this thread and those that it will start: while it is the only one, before a device is
 * opened. Returns FA_CONFINED_FILES, or 0 where the kernel cannot.
 */
extern unsigned fa_sandbox_files(const fa_sandbox *allowed);
/*
 * System calls, for all threads: when the device is open. gpu: what its driver needs stays. Returns
 * FA_CONFINED_CALLS, or 0 where the kernel cannot.
 */
extern unsigned fa_sandbox_calls(bool gpu);

#endif
