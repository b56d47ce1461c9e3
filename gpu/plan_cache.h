/*
 * plan_cache.h
 *		Which of cuDNN's engines was the fastest for a convolution, remembered: in the
 *		engine, and in a file of plan_cache's directory, one for every device and version
 *		of cuDNN. Several processes may share the directory.
 */
#ifndef FA_GPU_PLAN_CACHE_H
#define FA_GPU_PLAN_CACHE_H

#include "cudnn.h"

typedef struct fa_gpu_plan_cache fa_gpu_plan_cache;

/*
 * Reads the file where there is one; a file that is not ours, or damaged, counts as none.
 * directory NULL: nothing is kept on disk. A directory that cannot be written is no error.
 */
extern fa_status fa_gpu_plan_cache_open(const char *directory, int device,
										fa_gpu_plan_cache **cache, fa_error *error);
extern void fa_gpu_plan_cache_close(fa_gpu_plan_cache *cache);
/* NULL: nothing is known. Valid until the next call. */
extern const fa_gpu_choice *fa_gpu_plan_cache_find(const fa_gpu_plan_cache *cache,
												   const fa_gpu_conv_spec *spec);
/* Remembers, in place of what was known; forgets, where memory is short. */
extern void fa_gpu_plan_cache_add(fa_gpu_plan_cache *cache, const fa_gpu_conv_spec *spec,
								  const fa_gpu_choice *choice);
/* Writes what is new, together with what others have written since, as far as that works. */
extern void fa_gpu_plan_cache_save(fa_gpu_plan_cache *cache);

#endif
