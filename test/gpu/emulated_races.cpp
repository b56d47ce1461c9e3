/*
 * emulated_races.cpp
 *		Reads, writes and their order on the emulated device; see races.h.
 */
#include "races.h"

#include "emulation.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

void
clock_join(vector_clock &to, const vector_clock &from)
{
	if (to.size() < from.size())
		to.resize(from.size());
	for (size_t i = 0; i < from.size(); i++)
		to[i] = std::max(to[i], from[i]);
}

uint64_t
clock_of(const vector_clock &clock, int actor)
{
	return (size_t) actor < clock.size() ? clock[actor] : 0;
}

#if !defined(__SANITIZE_ADDRESS__)

void
races_add(void *, size_t, bool)
{
}

void
races_remove(void *, const vector_clock &)
{
}

void
races_touch(const void *, size_t, bool)
{
}

void
races_stack(const void *, size_t)
{
}

void
races_settle(int, const vector_clock &)
{
}

#else

/* When an actor did something. */
struct moment
{
	int actor;
	uint64_t time;

	bool
	before(const vector_clock &clock) const
	{
		return time <= clock_of(clock, actor);
	}
};

/* Bytes with one history: who wrote them last, and who has read them since. */
struct stretch
{
	size_t end;
	moment writer; /* time 0: nobody */
	std::vector<moment> readers;
};

enum
{
	READ = 1,
	WRITTEN = 2, /* by the work that runs */
	EVER_WRITTEN = 4
};

struct shadow
{
	uintptr_t start;
	size_t size;
	uint8_t *bytes;
	~shadow()
	{
		delete[] bytes;
	}
	size_t low, high; /* what the work that runs has touched */
	std::map<size_t, stretch> history;
};

#define RECENT 4096

static std::map<uintptr_t, std::unique_ptr<shadow>> shadows;
static uintptr_t elsewhere[RECENT];   /* 64 bytes that are in no block */
static shadow *recent[RECENT];        /* found at some address, by its middle bits */
static std::vector<shadow *> touched; /* by the work that runs */

static uintptr_t stack_start;
static size_t stack_size;

void
races_stack(const void *stack, size_t bytes)
{
	stack_start = (uintptr_t) stack;
	stack_size = bytes;
}

void
races_add(void *address, size_t bytes, bool pinned)
{
	shadow *s = new shadow{(uintptr_t) address, bytes, new uint8_t[bytes], 0, 0, {}};

	memset(s->bytes, pinned ? EVER_WRITTEN : 0, bytes);
	memset(elsewhere, 0, sizeof(elsewhere));
	shadows[s->start].reset(s);
}

void
races_remove(void *address, const vector_clock &host)
{
	auto found = shadows.find((uintptr_t) address);

	for (auto &h : found->second->history)
	{
		bool busy = !h.second.writer.before(host);

		for (const moment &m : h.second.readers)
			busy = busy || !m.before(host);
		if (busy)
			emulated_complain("memory is freed that a stream may be at");
	}
	memset(recent, 0, sizeof(recent));
	shadows.erase(found);
}

/* Called at every access: unchecked itself. */
#define FAST __attribute__((no_sanitize("address", "undefined")))

static shadow *
search(uintptr_t address)
{
	auto next = shadows.upper_bound(address);

	if (next == shadows.begin())
		return nullptr;
	--next;
	return address - next->first < next->second->size ? next->second.get() : nullptr;
}

static FAST void
mark(shadow *s, uint8_t *bytes, size_t at, size_t count, bool writes)
{
	if (s->high == 0)
	{
		touched.push_back(s);
		s->low = at;
	}
	s->low = at < s->low ? at : s->low;
	s->high = at + count > s->high ? at + count : s->high;
	for (size_t i = at; i < at + count; i++)
	{
		if (!writes && !(bytes[i] & (EVER_WRITTEN | WRITTEN)))
			emulated_complain("work reads what nobody has written");
		bytes[i] |= writes ? WRITTEN | EVER_WRITTEN : READ;
	}
}

FAST void
races_touch(const void *address, size_t bytes, bool writes)
{
	uintptr_t at = (uintptr_t) address;

	if (at - stack_start < stack_size)
		return;
	shadow **place = &recent[at / 64 % RECENT], *s = *place;

	if (elsewhere[at / 64 % RECENT] == at / 64)
		return;
	if (s == nullptr || at - s->start >= s->size)
		s = *place = search(at);
	if (s == nullptr)
	{
		if (__asan_region_is_poisoned((void *) address, bytes) != nullptr)
			emulated_complain("a kernel is where no memory is");
		if (search((at | 63) + 1) == nullptr && search(at & ~63ul) == nullptr)
			elsewhere[at / 64 % RECENT] = at / 64;
		return;
	}
	at -= s->start;
	if (bytes > s->size - at)
		emulated_complain("work goes beyond its memory");
	mark(s, s->bytes, at, bytes, writes);
}

/* --- What has been touched, judged -------------------------------------------------------- */

static void
split(shadow *s, size_t at)
{
	auto next = s->history.upper_bound(at);

	if (next == s->history.begin())
		return;
	--next;
	if (next->first == at || next->second.end <= at)
		return;
	s->history[at] = next->second;
	next->second.end = at;
}

static const char *
name_of(int actor)
{
	static char names[2][32];
	static int turn;

	turn = !turn;
	snprintf(names[turn], sizeof(names[turn]), actor == 0 ? "the host" : "stream %d", actor);
	return names[turn];
}

static void
check_history(const stretch &h, int actor, const vector_clock &clock, bool writes)
{
	if (!h.writer.before(clock))
		emulated_complain("a race: %s %s what %s writes", name_of(actor),
						  writes ? "writes" : "reads", name_of(h.writer.actor));
	for (const moment &m : h.readers)
		if (writes && !m.before(clock))
			emulated_complain("a race: %s writes what %s reads", name_of(actor), name_of(m.actor));
}

static void
judge_write(shadow *s, size_t from, size_t to, int actor, const vector_clock &clock)
{
	auto first = s->history.lower_bound(from), end = s->history.lower_bound(to);

	for (auto h = first; h != end; ++h)
		check_history(h->second, actor, clock, true);
	s->history.erase(first, end);
	s->history[from] = {to, {actor, clock_of(clock, actor)}, {}};
}

static void
judge_read(shadow *s, size_t from, size_t to, int actor, const vector_clock &clock)
{
	moment now = {actor, clock_of(clock, actor)};

	while (from < to)
	{
		auto h = s->history.lower_bound(from);

		if (h == s->history.end() || h->first > from) /* nothing has happened here */
		{
			size_t end = h == s->history.end() ? to : std::min(to, h->first);

			s->history[from] = {end, {0, 0}, {now}};
			from = end;
			continue;
		}
		check_history(h->second, actor, clock, false);
		for (moment &m : h->second.readers)
			if (m.actor == actor)
				m = now;
		if (std::none_of(h->second.readers.begin(), h->second.readers.end(),
						 [=](const moment &m) { return m.actor == actor; }))
			h->second.readers.push_back(now);
		from = h->second.end;
	}
}

/* Where the bytes from `from` on have been treated alike, up to `to`; forgets how. */
static FAST size_t
take_run(uint8_t *bytes, size_t from, size_t to, uint8_t *how)
{
	*how = bytes[from] & (READ | WRITTEN);
	while (from < to && (bytes[from] & (READ | WRITTEN)) == *how)
		bytes[from++] &= EVER_WRITTEN;
	return from;
}

void
races_settle(int actor, const vector_clock &clock)
{
	for (shadow *s : touched)
	{
		for (size_t from = s->low, to; from < s->high; from = to)
		{
			uint8_t how;

			to = take_run(s->bytes, from, s->high, &how);
			if (how == 0)
				continue;
			split(s, from);
			split(s, to);
			if (how & WRITTEN)
				judge_write(s, from, to, actor, clock);
			else
				judge_read(s, from, to, actor, clock);
		}
		s->high = 0;
	}
	touched.clear();
}

/* --- Where the compiler calls at every access of a kernel ------------------------------------- */

#define ACCESS(n)                                                                                  \
	extern "C" void __tsan_read##n(void *address)                                                  \
	{                                                                                              \
		races_touch(address, n, false);                                                            \
	}                                                                                              \
	extern "C" void __tsan_write##n(void *address)                                                 \
	{                                                                                              \
		races_touch(address, n, true);                                                             \
	}
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

extern "C" void
__tsan_read_range(void *address, unsigned long bytes)
{
	races_touch(address, bytes, false);
}

extern "C" void
__tsan_write_range(void *address, unsigned long bytes)
{
	races_touch(address, bytes, true);
}

extern "C" void
__tsan_init()
{
}

extern "C" void
__tsan_func_entry(void *)
{
}

extern "C" void
__tsan_func_exit()
{
}

#endif
