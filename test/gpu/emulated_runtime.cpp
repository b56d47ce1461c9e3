/*
 * emulated_runtime.cpp
 *		The CUDA runtime of the emulated device: memory, streams, graphs and kernels; see
 *		emulation.h.
 *
 * A block's threads run one after the other. A thread that comes to a barrier is set
 * aside on its stack until all the others have come; only kernels with barriers pay for that.
 */
#include "emulation.h"

#include "races.h"

#include <algorithm>
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

typedef std::function<void()> work;

struct captured_work
{
	work run;
	const void *host;
	size_t host_bytes;
};

struct CUgraph_st
{
	std::vector<captured_work> list;
};

struct CUgraphExec_st
{
	std::vector<captured_work> list;
};

/* One recording of an event. */
struct recording
{
	bool done = false;
	CUstream_st *stream;
	vector_clock clock; /* of the stream, once done */
	double time;
};

struct CUevent_st
{
	std::shared_ptr<recording> latest;
	bool timed;
};

/* Pinned memory of the host that work is busy with. */
struct busy_host_memory
{
	const void *address;
	size_t bytes;
	int actor;
	uint64_t time; /* of the work's end on the actor's clock; 0: not yet */
};

/* Something on a stream: work, or a recording to be made, or to be waited for. */
struct item
{
	work run;
	std::shared_ptr<recording> makes, awaits;
	vector_clock host; /* what the host knew when it gave the item to the stream */
	std::shared_ptr<busy_host_memory> busy;
};

struct CUstream_st
{
	int actor;
	std::deque<item> items;
	vector_clock clock;
	CUgraph_st *capturing = nullptr;
};

static int capability = 90, alive, calls, fail_at, kernels, convolutions, launches;
static int schedule = EMULATED_LAZY, omit_wait_at, waits;
static size_t device_size, device_used;
static uint64_t chance;
static double now;
static const char *failed;
static cudaError_t last_error;
static const char *fault_call; /* or NULL */
static int fault_n;
static cudaError_t fault_code; /* cudaSuccess: what is usual for the call */
static bool lost;
static std::map<char *, size_t> device_memory; /* address -> size */
static std::map<char *, size_t> host_memory;
static std::vector<CUstream_st *> streams;
static std::vector<bool> actors = {true};
static std::vector<uint64_t> actor_times = {0}; /* where the next stream of that number begins */
static vector_clock host_clock;
static std::vector<std::shared_ptr<busy_host_memory>> busy_host;
static std::map<CUevent_st *, bool> events;

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
emulated_memory(size_t bytes)
{
	device_size = bytes;
}

void
emulated_schedule(int when)
{
	schedule = when;
	chance = when;
}

void
emulated_omit_wait(int n)
{
	omit_wait_at = n;
	waits = 0;
}

int
emulated_waits()
{
	return waits;
}

void
emulated_spend(double time)
{
	now += time;
}

void
emulated_touch(const void *address, size_t bytes, bool writes)
{
	races_touch(address, bytes, writes);
}

void
emulated_fail(int n)
{
	calls = 0;
	fail_at = n;
	failed = nullptr;
	last_error = cudaSuccess;
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

/* What a call that fails says. */
static cudaError_t
failure(cudaError_t usual)
{
	return fault_code != cudaSuccess ? fault_code : usual;
}

/* As the real one, an error is there to be asked for until it has been. */
static cudaError_t
fails_with(cudaError_t code)
{
	if (code != cudaSuccess)
		last_error = code;
	return code;
}

#define CALL(usual)                                                                                \
	if (emulated_fails(__func__))                                                                  \
	return fails_with(failure(usual))

static void some_work();

static cudaError_t
allocate(std::map<char *, size_t> &memory, void **address, size_t bytes)
{
	char *block = (char *) aligned_alloc(256, (bytes + 255) / 256 * 256);

	if (bytes == 0 || block == nullptr)
		emulated_complain("%zu bytes are asked for", bytes);
	memset(block, 0xff, (bytes + 255) / 256 * 256); /* no number in any type */
	memory[block] = bytes;
	races_add(block, bytes, &memory == &host_memory);
	emulated_count(1);
	*address = block;
	return cudaSuccess;
}

static void
give_back(std::map<char *, size_t> &memory, void *address)
{
	auto block = memory.find((char *) address);

	if (address == nullptr)
		return;
	if (block == memory.end())
		emulated_complain("memory is freed that was not given");
	for (CUstream_st *stream : streams)
		if (!stream->items.empty())
			emulated_complain("memory is freed while work is queued");
	races_remove(address, host_clock);
	if (&memory == &device_memory)
		device_used -= block->second;
	ASAN_UNPOISON_MEMORY_REGION(block->first, block->second);
	free(block->first);
	memory.erase(block);
	emulated_count(-1);
}

static void
shut_busy_host_memory()
{
	for (auto &b : busy_host)
		ASAN_POISON_MEMORY_REGION(b->address, b->bytes);
}

/* Opens the device's memory, and the host's, while the device works, and to nobody else. */
struct device_at_work
{
	device_at_work()
	{
		for (auto &block : device_memory)
			ASAN_UNPOISON_MEMORY_REGION(block.first, block.second);
		for (auto &b : busy_host)
			ASAN_UNPOISON_MEMORY_REGION(b->address, b->bytes);
	}
	~device_at_work()
	{
		for (auto &block : device_memory)
			ASAN_POISON_MEMORY_REGION(block.first, block.second);
		shut_busy_host_memory();
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
	if (device_size > 0 && bytes > device_size - device_used)
		return fails_with(cudaErrorMemoryAllocation);
	device_used += bytes;
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
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaFreeHost(void *address)
{
	bool fails = emulated_fails(__func__);

	give_back(host_memory, address);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	const void *host = kind == cudaMemcpyHostToDevice ? from : to;

	CALL(cudaErrorUnknown);
	if (kind == cudaMemcpyHostToDevice)
		emulated_check(to, bytes, 1, "a copy to the device");
	else if (kind == cudaMemcpyDeviceToHost)
		emulated_check(from, bytes, 1, "a copy from the device");
	else
		emulated_complain("a copy of a kind that is not emulated");
	if (stream->capturing != nullptr && !lies_in(host_memory, host, bytes))
		emulated_complain("a captured copy needs pinned memory");
	emulated_queue(
		stream,
		[=]
		{
			races_touch(from, bytes, false);
			races_touch(to, bytes, true);
			memcpy(to, from, bytes);
		},
		host, bytes);
	return cudaSuccess;
}

cudaError_t
cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
	CALL(cudaErrorUnknown);
	emulated_check(to, bytes, 1, "a memset");
	emulated_queue(stream,
				   [=]
				   {
					   races_touch(to, bytes, true);
					   memset(to, value, bytes);
				   });
	return cudaSuccess;
}

/* --- Work, in an order that streams and events permit --------------------------------------- */

static void
check_stream(CUstream_st *stream)
{
	if (std::find(streams.begin(), streams.end(), stream) == streams.end())
		emulated_complain("work for a stream that is not there");
}

/* Does the first thing on a stream; false: it waits for another, or there is none. */
static bool
step(CUstream_st *stream)
{
	if (stream->items.empty() ||
		(stream->items.front().awaits != nullptr && !stream->items.front().awaits->done))
		return false;
	item i = std::move(stream->items.front());

	stream->items.pop_front();
	clock_join(stream->clock, i.host);
	stream->clock.resize(std::max(stream->clock.size(), (size_t) stream->actor + 1));
	stream->clock[stream->actor]++;
	if (i.awaits != nullptr)
		clock_join(stream->clock, i.awaits->clock);
	if (i.run != nullptr)
	{
		i.run();
		emulated_spend(1e-3);
		races_settle(stream->actor, stream->clock);
	}
	if (i.makes != nullptr)
	{
		i.makes->clock = stream->clock;
		i.makes->time = now;
		i.makes->done = true;
	}
	if (i.busy != nullptr)
		i.busy->time = stream->clock[stream->actor];
	return true;
}

/* Runs a stream until it is idle or `until` is done, and of others what it waits for. */
static void
run_stream(CUstream_st *stream, const recording *until)
{
	while (!stream->items.empty() && (until == nullptr || !until->done))
		if (!step(stream))
		{
			std::shared_ptr<recording> awaited = stream->items.front().awaits;

			run_stream(awaited->stream, awaited.get());
		}
}

static int
random_below(int n)
{
	chance = chance * 6364136223846793005u + 1442695040888963407u;
	return (int) ((chance >> 33) % n);
}

/* What is done unasked. */
static void
some_work()
{
	device_at_work working;
	bool goes_on = schedule == EMULATED_EAGER;
	int tries = schedule >= EMULATED_RANDOM && !streams.empty() ? random_below(6) : 0;

	while (goes_on)
	{
		goes_on = false;
		for (CUstream_st *stream : streams)
			goes_on = step(stream) || goes_on;
	}
	while (tries-- > 0)
		step(streams[random_below((int) streams.size())]);
}

/* What the host waits for; then it knows of it, and host memory is its own again. */
static void
wait_for(CUstream_st *stream, const recording *until)
{
	{
		device_at_work working;

		if (schedule == EMULATED_AHEAD)
			for (CUstream_st *other : streams)
				if (other != stream)
					while (step(other))
						;
		run_stream(stream, until);
	}
	clock_join(host_clock, until != nullptr ? until->clock : stream->clock);
	busy_host.erase(std::remove_if(busy_host.begin(), busy_host.end(),
								   [](const std::shared_ptr<busy_host_memory> &b)
								   {
									   bool over =
										   b->time > 0 && b->time <= clock_of(host_clock, b->actor);

									   if (over)
										   ASAN_UNPOISON_MEMORY_REGION(b->address, b->bytes);
									   return over;
								   }),
					busy_host.end());
	shut_busy_host_memory();
}

static void
put(CUstream_st *stream, item i)
{
	i.host = host_clock;
	stream->items.push_back(std::move(i));
	some_work();
}

void
emulated_queue(cudaStream_t stream, work run, const void *host, size_t host_bytes)
{
	item i;

	check_stream(stream);
	if (stream->capturing != nullptr)
	{
		stream->capturing->list.push_back({run, host, host_bytes});
		return;
	}
	i.run = run;
	if (host != nullptr && lies_in(host_memory, host, host_bytes))
	{
		i.busy.reset(new busy_host_memory{host, host_bytes, stream->actor, 0});
		busy_host.push_back(i.busy);
		shut_busy_host_memory();
	}
	put(stream, std::move(i));
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
	CALL(cudaErrorUnknown);
	CUstream_st *made = new CUstream_st;
	size_t actor = std::find(actors.begin(), actors.end(), false) - actors.begin();

	if (actor == actors.size())
	{
		actors.push_back(true);
		actor_times.push_back(0);
	}
	actors[actor] = true;
	made->actor = (int) actor;
	made->clock.resize(actor + 1);
	made->clock[actor] = actor_times[actor];
	streams.push_back(made);
	emulated_count(1);
	*stream = made;
	return cudaSuccess;
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
	bool fails = emulated_fails(__func__);

	check_stream(stream);
	if (!stream->items.empty() || stream->capturing != nullptr)
		emulated_complain("a stream is destroyed before its work is done");
	actors[stream->actor] = false;
	actor_times[stream->actor] = stream->clock[stream->actor];
	streams.erase(std::find(streams.begin(), streams.end(), stream));
	delete stream;
	emulated_count(-1);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
	bool fails = emulated_fails(__func__);

	check_stream(stream);
	if (stream->capturing != nullptr)
		emulated_complain("a stream is waited for while it captures");
	wait_for(stream, nullptr);
	return fails_with(fails ? failure(cudaErrorIllegalAddress) : cudaSuccess);
}

/* --- Events ---------------------------------------------------------------------------------- */

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	CALL(cudaErrorMemoryAllocation);
	*event = new CUevent_st{nullptr, (flags & cudaEventDisableTiming) == 0};
	events[*event] = true;
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaEventCreate(cudaEvent_t *event)
{
	CALL(cudaErrorMemoryAllocation);
	return cudaEventCreateWithFlags(event, 0);
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
	bool fails = emulated_fails(__func__);

	if (events.erase(event) == 0)
		emulated_complain("an event is destroyed that is not there");
	delete event;
	emulated_count(-1);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	CALL(cudaErrorUnknown);
	check_stream(stream);
	if (events.count(event) == 0)
		emulated_complain("an event that is not there");
	if (stream->capturing != nullptr)
		emulated_complain("an event is recorded in a captured stream");
	event->latest.reset(new recording);
	event->latest->stream = stream;
	put(stream, {nullptr, event->latest, nullptr, {}, nullptr});
	return cudaSuccess;
}

static bool
wait_is_omitted()
{
	return ++waits == omit_wait_at;
}

cudaError_t
cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	CALL(cudaErrorUnknown);
	check_stream(stream);
	if (events.count(event) == 0)
		emulated_complain("an event that is not there");
	if (stream->capturing != nullptr)
		emulated_complain("a captured stream waits for an event");
	if (!wait_is_omitted() && event->latest != nullptr)
		put(stream, {nullptr, nullptr, event->latest, {}, nullptr});
	return cudaSuccess;
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
	bool fails = emulated_fails(__func__);

	if (events.count(event) == 0)
		emulated_complain("an event that is not there");
	if (!wait_is_omitted() && event->latest != nullptr)
	{
		std::shared_ptr<recording> until = event->latest;

		wait_for(until->stream, until.get());
	}
	return fails_with(fails ? failure(cudaErrorIllegalAddress) : cudaSuccess);
}

/* Whoever asks often enough sees the work go on. That it is done, is no reason to touch its memory.
 */
cudaError_t
cudaEventQuery(cudaEvent_t event)
{
	CALL(cudaErrorIllegalAddress);
	if (events.count(event) == 0)
		emulated_complain("an event that is not there");
	if (event->latest == nullptr || event->latest->done)
		return cudaSuccess;
	{
		device_at_work working;

		for (CUstream_st *stream : streams)
			step(stream);
	}
	return last_error = cudaErrorNotReady;
}

cudaError_t
cudaEventElapsedTime(float *time, cudaEvent_t start, cudaEvent_t stop)
{
	CALL(cudaErrorUnknown);
	if (!start->timed || !stop->timed || start->latest == nullptr || stop->latest == nullptr ||
		!start->latest->done || !stop->latest->done)
		emulated_complain("the time between events that have none");
	*time = (float) (stop->latest->time - start->latest->time);
	return cudaSuccess;
}

/* --- Graphs ---------------------------------------------------------------------------------- */

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
		return fails_with(cudaErrorStreamCaptureInvalidated);
	}
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	CALL(cudaErrorMemoryAllocation);
	*exec = new CUgraphExec_st{graph->list};
	emulated_count(1);
	return cudaSuccess;
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	CALL(cudaErrorUnknown);
	launches++;
	for (auto &w : exec->list)
		emulated_queue(stream, w.run, w.host, w.host_bytes);
	return cudaSuccess;
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	bool fails = emulated_fails(__func__);

	delete graph;
	emulated_count(-1);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	bool fails = emulated_fails(__func__);

	delete exec;
	emulated_count(-1);
	return fails_with(fails ? cudaErrorUnknown : cudaSuccess);
}

/* --- The device, errors ------------------------------------------------------------------- */

cudaError_t
cudaGetDeviceCount(int *count)
{
	CALL(cudaErrorUnknown);
	*count = capability > 0;
	return fails_with(capability > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t
cudaSetDevice(int device)
{
	CALL(cudaErrorDevicesUnavailable);
	return fails_with(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
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
cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
	CALL(cudaErrorUnknown);
	memset(properties, 0, sizeof(*properties));
	snprintf(properties->name, sizeof(properties->name), "Emulated GPU / %d", capability);
	properties->major = capability / 10;
	properties->minor = capability % 10;
	return cudaSuccess;
}

cudaError_t
cudaGetDevice(int *device)
{
	CALL(cudaErrorInvalidValue);
	*device = 0;
	return cudaSuccess;
}

cudaError_t
cudaDriverGetVersion(int *version)
{
	CALL(cudaErrorInvalidValue);
	*version = 13010;
	return cudaSuccess;
}

cudaError_t
cudaRuntimeGetVersion(int *version)
{
	CALL(cudaErrorInvalidValue);
	*version = 13000;
	return cudaSuccess;
}

cudaError_t
cudaGetLastError()
{
	cudaError_t error = last_error;

	last_error = cudaSuccess;
	CALL(cudaErrorLaunchFailure);
	return error;
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
	races_stack(f->stack.get(), STACK);
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
