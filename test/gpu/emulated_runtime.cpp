/*
 * emulated_runtime.cpp
 *		The CUDA runtime of the emulated device: memory, streams, graphs and kernels; see
 *		emulation.h.
 *
 * A block's threads run one after the other. A thread that comes to a barrier is set
 * aside on its stack until all the others have come; only kernels with barriers pay for that.
 */
#include "emulation.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void) (address), (void) (size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void) (address), (void) (size))
#endif

typedef std::deque<std::function<void()>> work_list;

struct CUgraph_st
{
	work_list work;
};

struct CUgraphExec_st
{
	work_list work;
};

struct CUstream_st
{
	work_list work;
	CUgraph_st *capturing = nullptr;
};

static int capability = 90, alive, calls, fail_at, kernels, convolutions, launches;
static const char *failed;
static const char *fault_call; /* or NULL */
static int fault_n;
static cudaError_t fault_code; /* cudaSuccess: what is usual for the call */
static bool lost;
static std::map<char *, size_t> device_memory; /* address -> size */
static std::map<char *, size_t> host_memory;
static std::map<CUstream_st *, bool> streams;

void
emulated_complain(const char *message, ...)
{
	va_list arguments;

	fprintf(stderr, "emulated device: ");
	va_start(arguments, message);
	vfprintf(stderr, message, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	abort();
}

/* --- What the tests set and ask ---------------------------------------------------- */

void
emulated_device(int now)
{
	capability = now;
}

void
emulated_fail(int n)
{
	calls = 0;
	fail_at = n;
	failed = nullptr;
}

void
emulated_fault(const char *call, int n, int code)
{
	fault_call = call;
	fault_n = n;
	fault_code = (cudaError_t) code;
	lost = false; /* as in a new process */
}

int
emulated_calls()
{
	return calls;
}

const char *
emulated_failed()
{
	return failed;
}

int
emulated_alive()
{
	return alive;
}

int
emulated_kernels()
{
	return kernels;
}

int
emulated_convolutions()
{
	return convolutions;
}

int
emulated_launches()
{
	return launches;
}

void
emulated_convolved()
{
	convolutions++;
}

bool
emulated_fails(const char *call)
{
	bool fault = fault_call != nullptr && strcmp(call, fault_call) == 0 && --fault_n == 0;

	if (++calls != fail_at && !fault && !lost)
		return false;
	failed = call;
	lost = lost || (fault && (fault_code >= cudaErrorIllegalAddress ||
							  fault_code == cudaErrorInsufficientDriver));
	return true;
}

void
emulated_count(int born)
{
	alive += born;
}

float
emulated_seen(float value)
{
	if (std::isnan(value))
		emulated_complain("a kernel reads what nobody has written");
	return value;
}

/* --- Memory --------------------------------------------------------------------------- */

static cudaError_t
failure(cudaError_t usual)
{
	return fault_code != cudaSuccess ? fault_code : usual;
}

#define CALL(usual)                                                                                \
	if (emulated_fails(__func__))                                                                  \
	return failure(usual)

static cudaError_t
allocate(std::map<char *, size_t> &memory, void **address, size_t bytes)
{
	char *block = (char *) aligned_alloc(256, (bytes + 255) / 256 * 256);

	if (bytes == 0 || block == nullptr)
		emulated_complain("%zu bytes are asked for", bytes);
	memset(block, 0xff, (bytes + 255) / 256 * 256); /* no number in any type */
	memory[block] = bytes;
	emulated_count(1);
	*address = block;
	return cudaSuccess;
}

static cudaError_t
give_back(std::map<char *, size_t> &memory, void *address)
{
	auto block = memory.find((char *) address);

	if (address == nullptr)
		return cudaSuccess;
	if (block == memory.end())
		emulated_complain("memory is freed that was not given");
	for (auto &stream : streams)
		if (!stream.first->work.empty())
			emulated_complain("memory is freed while work is queued");
	ASAN_UNPOISON_MEMORY_REGION(block->first, block->second);
	free(block->first);
	memory.erase(block);
	emulated_count(-1);
	return cudaSuccess;
}

/* Opens the device's memory while the device works, and to nobody else. */
struct device_at_work
{
	device_at_work()
	{
		for (auto &block : device_memory)
			ASAN_UNPOISON_MEMORY_REGION(block.first, block.second);
	}
	~device_at_work()
	{
		for (auto &block : device_memory)
			ASAN_POISON_MEMORY_REGION(block.first, block.second);
	}
};

static bool
lies_in(const std::map<char *, size_t> &memory, const void *address, size_t bytes)
{
	auto block = memory.upper_bound((char *) address);

	if (block == memory.begin())
		return false;
	--block;
	return (char *) address + bytes <= block->first + block->second;
}

void
emulated_check(const void *address, size_t bytes, size_t alignment, const char *what)
{
	if (!lies_in(device_memory, address, bytes))
		emulated_complain("%s: %zu bytes that are not the device's", what, bytes);
	if ((uintptr_t) address % alignment != 0)
		emulated_complain("%s: not aligned to %zu bytes", what, alignment);
}

cudaError_t
cudaMalloc(void **address, size_t bytes)
{
	CALL(cudaErrorMemoryAllocation);
	allocate(device_memory, address, bytes);
	ASAN_POISON_MEMORY_REGION(*address, bytes);
	return cudaSuccess;
}

cudaError_t
cudaMallocHost(void **address, size_t bytes)
{
	CALL(cudaErrorMemoryAllocation);
	return allocate(host_memory, address, bytes);
}

cudaError_t
cudaFree(void *address)
{
	bool fails = emulated_fails(__func__);

	give_back(device_memory, address);
	return fails ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t
cudaFreeHost(void *address)
{
	bool fails = emulated_fails(__func__);

	give_back(host_memory, address);
	return fails ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	CALL(cudaErrorUnknown);
	if (kind == cudaMemcpyHostToDevice)
		emulated_check(to, bytes, 1, "a copy to the device");
	else if (kind == cudaMemcpyDeviceToHost)
		emulated_check(from, bytes, 1, "a copy from the device");
	else
		emulated_complain("a copy of a kind that is not emulated");
	if (stream->capturing != nullptr &&
		!lies_in(host_memory, kind == cudaMemcpyHostToDevice ? from : to, bytes))
		emulated_complain("a captured copy needs pinned memory");
	emulated_queue(stream, [=] { memcpy(to, from, bytes); });
	return cudaSuccess;
}

/* --- Streams and graphs ------------------------------------------------------------------ */

void
emulated_queue(cudaStream_t stream, std::function<void()> work)
{
	if (streams.count(stream) == 0)
		emulated_complain("work for a stream that is not there");
	(stream->capturing != nullptr ? stream->capturing->work : stream->work).push_back(work);
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
	CALL(cudaErrorUnknown);
	*stream = new CUstream_st;
	streams[*stream] = true;
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
	bool fails = emulated_fails(__func__);

	if (streams.erase(stream) == 0)
		emulated_complain("a stream is destroyed that is not there");
	if (!stream->work.empty() || stream->capturing != nullptr)
		emulated_complain("a stream is destroyed before its work is done");
	delete stream;
	emulated_count(-1);
	return fails ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
	bool fails = emulated_fails(__func__);

	if (stream->capturing != nullptr)
		emulated_complain("a stream is waited for while it captures");
	{
		device_at_work working;

		for (; !stream->work.empty(); stream->work.pop_front())
			stream->work.front()();
	}
	return fails ? failure(cudaErrorIllegalAddress) : cudaSuccess;
}

cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
	CALL(cudaErrorStreamCaptureUnsupported);
	if (stream->capturing != nullptr)
		emulated_complain("a stream captures already");
	stream->capturing = new CUgraph_st;
	return cudaSuccess;
}

cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	bool fails = emulated_fails(__func__);

	if (stream->capturing == nullptr)
		emulated_complain("a stream does not capture");
	*graph = stream->capturing;
	stream->capturing = nullptr;
	if (fails) /* as the real one: the graph is lost */
	{
		delete *graph;
		*graph = nullptr;
		return cudaErrorStreamCaptureInvalidated;
	}
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	CALL(cudaErrorMemoryAllocation);
	*exec = new CUgraphExec_st{graph->work};
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	CALL(cudaErrorUnknown);
	launches++;
	for (auto &work : exec->work)
		emulated_queue(stream, work);
	return cudaSuccess;
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	bool fails = emulated_fails(__func__);

	delete graph;
	emulated_count(-1);
	return fails ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	bool fails = emulated_fails(__func__);

	delete exec;
	emulated_count(-1);
	return fails ? cudaErrorUnknown : cudaSuccess;
}

/* --- The device, errors ------------------------------------------------------------------- */

cudaError_t
cudaGetDeviceCount(int *count)
{
	CALL(cudaErrorUnknown);
	*count = capability > 0;
	return capability > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t
cudaSetDevice(int device)
{
	CALL(cudaErrorDevicesUnavailable);
	return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t
cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
	CALL(cudaErrorUnknown);
	if (attribute != cudaDevAttrComputeCapabilityMajor)
		emulated_complain("an attribute that is not emulated");
	*value = capability / 10;
	return cudaSuccess;
}

cudaError_t
cudaGetLastError()
{
	CALL(cudaErrorLaunchFailure);
	return cudaSuccess;
}

const char *
cudaGetErrorName(cudaError_t code)
{
	switch (code)
	{
		case cudaErrorNoDevice:
			return "cudaErrorNoDevice";
		case cudaErrorInsufficientDriver:
			return "cudaErrorInsufficientDriver";
		case cudaErrorMemoryAllocation:
			return "cudaErrorMemoryAllocation";
		case cudaErrorIllegalAddress:
			return "cudaErrorIllegalAddress";
		default:
			return "cudaErrorEmulated";
	}
}

const char *
cudaGetErrorString(cudaError_t)
{
	return "words for an emulated error";
}

/* --- Kernels ---------------------------------------------------------------------------- */

uint3 emulated_thread, emulated_block;
dim3 emulated_block_size;

#define STACK (64 << 10)

/* A stack on which threads run one after the other, until one waits at a barrier. */
struct fiber
{
	ucontext_t context;
	std::unique_ptr<char[]> stack{new char[STACK]};
};

typedef std::vector<std::unique_ptr<fiber>> fiber_list;

static ucontext_t scheduler;
static fiber_list idle;
static fiber *running; /* NULL: the last one that ran has come to the end of the block */
static unsigned next_thread;
static const std::function<void()> *body;

static void
run_threads()
{
	fiber *self = running;

	for (;;)
	{
		while (next_thread < emulated_block_size.x)
		{
			emulated_thread.x = next_thread++;
			(*body)();
		}
		running = nullptr;
		swapcontext(&self->context, &scheduler);
	}
}

void
emulated_barrier()
{
	fiber *self = running;
	unsigned thread = emulated_thread.x;

	swapcontext(&self->context, &scheduler);
	emulated_thread.x = thread;
}

/* Lets a fiber run on; it goes to those that wait, or to the idle ones. */
static void
resume(std::unique_ptr<fiber> f, fiber_list &waiting)
{
	running = f.get();
	swapcontext(&scheduler, &f->context);
	(running != nullptr ? waiting : idle).push_back(std::move(f));
}

static std::unique_ptr<fiber>
take_fiber()
{
	std::unique_ptr<fiber> f;

	if (!idle.empty())
	{
		f = std::move(idle.back());
		idle.pop_back();
		return f;
	}
	f.reset(new fiber);
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack.get();
	f->context.uc_stack.ss_size = STACK;
	f->context.uc_link = nullptr;
	makecontext(&f->context, run_threads, 0);
	return f;
}

static void
run_block()
{
	fiber_list waiting;

	next_thread = 0;
	while (next_thread < emulated_block_size.x)
		resume(take_fiber(), waiting);
	while (!waiting.empty())
	{
		fiber_list next;

		if (waiting.size() != emulated_block_size.x)
			emulated_complain("only %zu threads of a block come to a barrier", waiting.size());
		for (auto &f : waiting)
			resume(std::move(f), next);
		waiting = std::move(next);
	}
}

void
emulated_launch(unsigned blocks, unsigned threads, cudaStream_t stream,
				std::function<void()> thread)
{
	if (blocks == 0 || threads == 0 || threads > 1024)
		emulated_complain("a kernel of %u blocks of %u threads", blocks, threads);
	emulated_queue(stream,
				   [=]
				   {
					   kernels++;
					   body = &thread;
					   emulated_block_size = dim3(threads);
					   for (emulated_block.x = 0; emulated_block.x < blocks; emulated_block.x++)
						   run_block();
				   });
}
