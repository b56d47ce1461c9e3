/*
 * emulation.h
 *		A CUDA device on the CPU, so that the engine's own code runs where there is no
 *		GPU. The kernels are compiled as plain C++ with this header before them, and the
 *		engine is linked with emulated_runtime.cpp and emulated_cudnn.cpp in place of
 *		NVIDIA's libraries.
 *
 * Work is queued on streams and done when the host waits for it, not before. What a real
 * device would punish, or worse, let pass, ends the program with a complaint: memory read
 * before it is written, the host touching the device's memory (under AddressSanitizer),
 * addresses that are misaligned or not the device's, a plan of another handle.
 */
#ifndef EMULATION_H
#define EMULATION_H

#ifdef __cplusplus
extern "C"
{
#endif

	/* --- For the tests ----------------------------------------------------------------- */

	/* What the emulated cuDNN plans: everything; no fusions; nothing. */
	enum
	{
		EMULATED_ALL,
		EMULATED_UNFUSED,
		EMULATED_NONE
	};
	extern void emulated_plans(int which);
	/* The first of the engines that cuDNN offers becomes no plan. */
	extern void emulated_spoil_plans(int spoil);
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
	/* Streams, blocks of memory, graphs, handles and descriptors that have not been freed. */
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
extern float emulated_seen(float value);

template <typename... Parameters, typename... Arguments>
std::function<void()>
emulated_bind(void (*kernel)(Parameters...), Arguments... arguments)
{
	return [=] { kernel(arguments...); };
}

#undef __shared__
#define __shared__ static
#define threadIdx emulated_thread
#define blockIdx emulated_block
#define blockDim emulated_block_size
#define __syncthreads emulated_barrier
#define FA_SEEN emulated_seen
#define FA_LAUNCH(kernel, blocks, threads, stream, ...)                                            \
	emulated_launch(blocks, threads, stream, emulated_bind(kernel, __VA_ARGS__))

/* --- For the other half of the emulation ------------------------------------------------ */

extern bool emulated_fails(const char *call); /* counts a call */
extern void emulated_count(int born);
/* Queues work, or captures it. */
extern void emulated_queue(cudaStream_t stream, std::function<void()> work);
/* Complains unless these are bytes of one block of the device. */
extern void emulated_check(const void *address, size_t bytes, size_t alignment, const char *what);
[[noreturn]] extern void emulated_complain(const char *message, ...)
	__attribute__((format(printf, 1, 2)));
extern void emulated_convolved();
#endif

#endif
