/*
 * emulation.h
 *		A CUDA device on the CPU, so that the engine's own code runs where there is no
 *		GPU. The kernels are compiled as plain C++ with this header before them, and the
 *		engine is linked with the emulated_*.cpp in place of NVIDIA's libraries.
 *
 * Work is queued on streams and done in any order that streams and events permit, the tests
 * say which. What a real device would punish, or worse, let pass, ends the program with a
 * complaint: memory read before it is written; two streams at the same memory, or the host
 * and a stream, without anything that makes one wait for the other (races.h); addresses that
 * are misaligned or not the device's; a plan of another handle. The host touching the
 * device's memory, or pinned memory that a copy is busy with, is AddressSanitizer's to see.
 */
#ifndef EMULATION_H
#define EMULATION_H

#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

	/* --- For the tests ----------------------------------------------------------------- */

	/*
	 * What the emulated cuDNN plans: everything; no fusions; nothing; everything, but offering
	 * the engine that always works as a last resort only.
	 */
	enum
	{
		EMULATED_ALL,
		EMULATED_UNFUSED,
		EMULATED_NONE,
		EMULATED_FALLBACK
	};
	extern void emulated_plans(int which);
	/* The first of the engines that cuDNN offers becomes no plan. */
	extern void emulated_spoil_plans(int spoil);
	/* Finalising such a descriptor, a cudnnBackendDescriptorType_t, gives that status; 0: not. */
	extern void emulated_refuse(int type, int status);
	/* The latest descriptor of a type that has been finalised and is alive, or NULL. */
	extern void *emulated_latest(int type);
	/* What one run of a plan takes on the device's clock, with tensor cores and without. */
	extern void emulated_plan_costs(double tensor_cores, double plain);
	/* When work is done: */
	enum
	{
		EMULATED_LAZY,  /* when the host waits for it, and no more than it waits for */
		EMULATED_EAGER, /* at once, where nothing has to be waited for */
		EMULATED_AHEAD, /* when the host waits, the other streams first */
		EMULATED_RANDOM /* and up: at any time, in any order; the seed */
	};
	extern void emulated_schedule(int when);
	/* The n-th wait of a stream, or of the host, for an event from now on does not wait; 0: none.
	 */
	extern void emulated_omit_wait(int n);
	extern int emulated_waits(void); /* since then */
	/* Bytes of the device's memory; 0: enough. */
	extern void emulated_memory(size_t bytes);
	/* The device's compute capability; 0: there is no device. */
	extern void emulated_device(int capability);
	/* The n-th call from now on fails, 1 being the next; 0: none. */
	extern void emulated_fail(int n);
	/*
	 * The n-th call of a function from now on fails with that code (cuDNN's with the usual one);
	 * NULL: none. After an error that stays, all later calls fail, too.
	 */
	extern void emulated_fault(const char *call, int n, int code);
	/* Calls since emulated_fail, and the name of the one that failed, or NULL. */
	extern int emulated_calls(void);
	extern const char *emulated_failed(void);
	/* Streams, events, blocks of memory, graphs, handles and descriptors that have not been freed.
	 */
	extern int emulated_alive(void);
	/* Kernels and cuDNN graphs run, and CUDA graphs launched, since the start. */
	extern int emulated_kernels(void), emulated_convolutions(void), emulated_launches(void);

#ifdef __cplusplus
}

/* --- For the kernels ----------------------------------------------------------------- */

#include <cuda_runtime.h>
#include <functional>

extern uint3 emulated_thread, emulated_block;
extern dim3 emulated_block_size;
extern void emulated_barrier();
extern void emulated_launch(unsigned blocks, unsigned threads, cudaStream_t stream,
							std::function<void()> thread);

template <typename... Parameters, typename... Arguments>
std::function<void()>
emulated_bind(void (*kernel)(Parameters...), Arguments... arguments)
{
	return [=] { kernel(arguments...); };
}

/* One thread at a time is always atomic. */
inline int
atomicAdd(int *to, int added)
{
	int before = *to;

	*to += added;
	return before;
}

#undef __shared__
#define __shared__ static
#define threadIdx emulated_thread
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define __syncthreads emulated_barrier
#define FA_LAUNCH(kernel, blocks, threads, stream, ...)                                            \
	emulated_launch(blocks, threads, stream, emulated_bind(kernel, __VA_ARGS__))

/* --- For the other half of the emulation ------------------------------------------------ */

extern bool emulated_fails(const char *call); /* counts a call */
extern void emulated_count(int born);
/* Queues work, or captures it; host memory that it touches, if pinned, is shut until it is done. */
extern void emulated_queue(cudaStream_t stream, std::function<void()> work,
						   const void *host = nullptr, size_t host_bytes = 0);
/* To be called by work for what it reads or writes; kernels' accesses are seen by themselves. */
extern void emulated_touch(const void *address, size_t bytes, bool writes);
/* Lets the device's clock go on. */
extern void emulated_spend(double time);
/* Complains unless these are bytes of one block of the device. */
extern void emulated_check(const void *address, size_t bytes, size_t alignment, const char *what);
[[noreturn]] extern void emulated_complain(const char *message, ...)
	__attribute__((format(printf, 1, 2)));
extern void emulated_convolved();
#endif

#endif
