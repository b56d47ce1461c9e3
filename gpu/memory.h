/*
 * memory.h
 *		The device's memory as an engine takes it: weights, arenas and workspaces together,
 *		within its limit. What is needed least gives way before anything is refused.
 */
#ifndef FA_GPU_MEMORY_H
#define FA_GPU_MEMORY_H

#include "gpu.h"

typedef struct fa_gpu_memory
{
	size_t limit; /* bytes; 0: what the device has */
	size_t used;
	/* Gives back a block that can be made again; false: there is none. */
	bool (*make_room)(void *owner);
	void *owner;
} fa_gpu_memory;

typedef struct fa_gpu_block
{
	char *address; /* NULL: nothing */
	size_t size;
} fa_gpu_block;

/* FA_NO_MEMORY beyond the limit or the device. purpose: "for weights". */
extern fa_status fa_gpu_take(fa_gpu_memory *memory, size_t size, const char *purpose,
							 fa_gpu_block *block, fa_error *error);
/* Gives a block back and zeroes *block; harmless on a zeroed one. */
extern void fa_gpu_give(fa_gpu_memory *memory, fa_gpu_block *block);
/* Another limit; false: what cannot be made again takes more. */
extern bool fa_gpu_set_limit(fa_gpu_memory *memory, size_t limit);

#endif
