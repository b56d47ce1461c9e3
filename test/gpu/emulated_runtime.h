/*
 * emulated_runtime.h
 *		What the parts of the emulated CUDA runtime need of each other: emulated_runtime.cpp
 *		is the device, its memory and its errors; emulated_streams.cpp streams, events and
 *		graphs, and so the order of all work; emulated_kernels.cpp runs a kernel.
 */
#ifndef EMULATED_RUNTIME_H
#define EMULATED_RUNTIME_H

#include "emulation.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void) (address), (void) (size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void) (address), (void) (size))
#endif

/* What a call that fails says, unless another code was asked for. */
extern cudaError_t failure(cudaError_t usual);
/* As the real one, an error is there to be asked for until it has been. */
extern cudaError_t fails_with(cudaError_t code);

#define CALL(usual)                                                                                \
	if (emulated_fails(__func__))                                                                  \
	return fails_with(failure(usual))

/* False while a stream runs a function of the host's. */
extern bool emulated_calls_allowed;
/* Whether these are bytes of the host's pinned memory. */
extern bool emulated_pinned(const void *address, size_t bytes);
/* The device's memory is open while the device works. */
extern void emulated_open_device(), emulated_shut_device();
/* Complains if a stream may still be at memory that is freed. */
extern void emulated_freed(void *address);

#endif
