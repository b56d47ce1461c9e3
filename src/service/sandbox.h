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

/*
 * For all threads, those that there are and those to come. Files: libraries, fonts, devices and
 * directories[0 ... count - 1] can be read; `writable` (or NULL) written. Returns which of
 * the two the kernel has; gpu: what its driver needs stays.
 */
extern unsigned fa_sandbox_enter(const char *const *directories, int count, const char *writable,
								 bool gpu);

#endif
