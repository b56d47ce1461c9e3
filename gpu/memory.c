/*
 * memory.c
 *		The device's memory; see memory.h.
 */
#include "memory.h"

#include <stdio.h>

static fa_status
beyond_limit(const fa_gpu_memory *memory, size_t size, const char *purpose, fa_error *error)
{
	fa_fail(error, FA_NO_MEMORY, "faceattr.gpu_memory is too small %s", purpose);
	return fa_detail(error, "%.1f MB are needed; of %.1f MB, %.1f are in use.",
					 (double) size / 0x1p20, (double) memory->limit / 0x1p20,
					 (double) memory->used / 0x1p20);
}

fa_status
fa_gpu_take(fa_gpu_memory *memory, size_t size, const char *purpose, fa_gpu_block *block,
			fa_error *error)
{
	char doing[64];
	cudaError_t code;

	*block = (fa_gpu_block){NULL, 0};
	while (memory->limit > 0 && (size > memory->limit || memory->used > memory->limit - size))
		if (!memory->make_room(memory->owner))
			return beyond_limit(memory, size, purpose, error);
	do
	{
		code = cudaMalloc((void **) &block->address, size);
		if (code != cudaSuccess)
		{
			block->address = NULL;
			cudaGetLastError(); /* or the next kernel's start would tell of it */
		}
	} while (code == cudaErrorMemoryAllocation && memory->make_room(memory->owner));
	snprintf(doing, sizeof(doing), "to give memory %s", purpose);
	FA_TRY(fa_gpu_status(code, doing, error));
	block->size = size;
	memory->used += size;
	return FA_OK;
}

void
fa_gpu_give(fa_gpu_memory *memory, fa_gpu_block *block)
{
	if (block->address == NULL)
		return;
	cudaFree(block->address);
	memory->used -= block->size;
	*block = (fa_gpu_block){NULL, 0};
}

bool
fa_gpu_set_limit(fa_gpu_memory *memory, size_t limit)
{
	memory->limit = limit;
	while (limit > 0 && memory->used > limit)
		if (!memory->make_room(memory->owner))
			return false;
	return true;
}
