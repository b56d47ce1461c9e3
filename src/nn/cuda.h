/*
 * cuda.h
 *		The CUDA engine from its library, faceattr_cuda.so (gpu/), which alone depends on
 *		CUDA and cuDNN: nothing here does until someone asks for it.
 */
#ifndef FA_CUDA_H
#define FA_CUDA_H

#include "engine.h"

#define FA_CUDA_LIBRARY "faceattr_cuda.so"

/*
 * Loads the library, for good. FA_NOT_FOUND: there is no such file; FA_UNSUPPORTED:
 * it cannot be loaded (the detail names what it lacks, libcudnn say) or is another version's.
 * Whether there is a driver and a GPU, opening the engine tells.
 */
extern fa_status fa_cuda_engine_load(const char *path, const fa_engine_interface **engine,
									 fa_error *error);

/*
 * ~/.cache/faceattr, made where it is not there: for plan_cache, of programs that have no better
 * place. false: there is none that can be written.
 */
extern bool fa_plan_directory(char *path, size_t size);

#endif
