/*
 * emulated_streams.cpp
 *		Streams, events and graphs of the emulated device: work is done in an order that they
 *		permit, and that the tests choose; see emulation.h.
 */
#include "emulated_runtime.h"

#include "races.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

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

static int schedule = EMULATED_LAZY, omit_wait_at, waits, launches;
static uint64_t chance;
static double now;
static std::vector<CUstream_st *> streams;
static std::vector<bool> actors = {true};
static std::vector<uint64_t> actor_times = {0}; /* where the next stream of that number begins */
static vector_clock host_clock;
static std::vector<std::shared_ptr<busy_host_memory>> busy_host;
static std::map<CUevent_st *, bool> events;

/* --- What the tests set and ask ---------------------------------------------------- */

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

int
emulated_launches()
{
	return launches;
}

void
emulated_spend(double time)
{
	now += time;
}

/* --- Work, in an order that streams and events permit --------------------------------------- */

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
		emulated_open_device();
		for (auto &b : busy_host)
			ASAN_UNPOISON_MEMORY_REGION(b->address, b->bytes);
	}
	~device_at_work()
	{
		emulated_shut_device();
		shut_busy_host_memory();
	}
};

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
	if (host != nullptr && emulated_pinned(host, host_bytes))
	{
		i.busy.reset(new busy_host_memory{host, host_bytes, stream->actor, 0});
		busy_host.push_back(i.busy);
		shut_busy_host_memory();
	}
	put(stream, std::move(i));
}

void
emulated_freed(void *address)
{
	for (CUstream_st *stream : streams)
		if (!stream->items.empty())
			emulated_complain("memory is freed while work is queued");
	races_remove(address, host_clock);
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
	if (stream->capturing != nullptr && !emulated_pinned(host, bytes))
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

/* The host's function sees the host's memory, and may call nothing. */
cudaError_t
cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
	CALL(cudaErrorUnknown);
	emulated_queue(stream,
				   [=]
				   {
					   emulated_shut_device();
					   emulated_calls_allowed = false;
					   function(argument);
					   emulated_calls_allowed = true;
					   emulated_open_device();
				   });
	return cudaSuccess;
}

/* --- Streams -----------------------------------------------------------------------------------
 */

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

/* Whoever asks often enough sees the work go on. That it is done is no reason to touch its memory.
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
	return fails_with(cudaErrorNotReady);
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
