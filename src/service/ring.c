/*
 * ring.c
 *		The memory that sessions and the service share, and the transitions of its slots;
 *		ring.h has the protocol.
 */
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t) 4096)

int64_t
fa_ring_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
fa_ring_text(char *to, size_t size, const char *from, size_t from_size)
{
	size_t n = 0;

	for (; n + 1 < size && n < from_size && from[n] != '\0'; n++)
		to[n] = (char) (from[n] >= ' ' && from[n] <= '~' ? from[n] : '?');
	to[n] = '\0';
}

/* --- Sleeping and waking ------------------------------------------------------------ */

/* Until *word is no longer `seen`, somebody wakes us, a signal comes, or time is up (< 0: never).
 */
static void
futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t microseconds)
{
	struct timespec limit = {.tv_sec = (time_t) (microseconds / 1000000),
							 .tv_nsec = (long) (microseconds % 1000000) * 1000};

	syscall(SYS_futex, word, FUTEX_WAIT, seen, microseconds < 0 ? NULL : &limit, NULL, 0);
}

static void
futex_wake(_Atomic uint32_t *word, int sleepers)
{
	syscall(SYS_futex, word, FUTEX_WAKE, sleepers, NULL, NULL, 0);
}

/* A futex is of 32 bits: the half of a slot's word that holds state and ticket. */
static _Atomic uint32_t *
futex_half(fa_slot *slot)
{
	_Atomic uint32_t *halves = (_Atomic uint32_t *) &slot->word;

	return &halves[__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 1];
}

/* --- The memory ------------------------------------------------------------------------ */

static int
all_slots(const fa_ring *ring)
{
	return ring->slots + FA_RING_WORKERS;
}

static size_t
rounded(size_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* Of header and slots; the areas follow. */
static size_t
head_size(const fa_ring *ring)
{
	return rounded(sizeof(fa_ring_header)) + rounded(all_slots(ring) * sizeof(fa_slot));
}

static size_t
areas_size(const fa_ring *ring)
{
	return all_slots(ring) * (FA_REQUEST_AREA + FA_REPLY_AREA);
}

static fa_status
system_failed(fa_error *error, const char *doing)
{
	int number = errno;

	fa_fail(error, FA_IO, "the service's memory cannot be had");
	return fa_detail(error, "%s: %s.", doing, strerror(number));
}

fa_status
fa_ring_open(int fd, int slots, fa_ring *ring, fa_error *error)
{
	char *memory;

	_Static_assert(sizeof(void *) == 8, "areas need 64-bit addresses");
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
	if (slots < 1 || slots > FA_RING_MAX_SLOTS)
		return fa_fail(error, FA_INVALID, "slots must be from 1 to %d", FA_RING_MAX_SLOTS);
	ring->slots = slots;
	memory = mmap(NULL, head_size(ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return system_failed(error, "mmap");
	ring->fd = fd;
	ring->header = (fa_ring_header *) memory;
	ring->slot = (fa_slot *) (memory + rounded(sizeof(fa_ring_header)));
	return FA_OK;
}

fa_status
fa_ring_create(int slots, fa_ring *ring, fa_error *error)
{
	fa_ring sized = {.slots = slots};
	fa_status status;
	int fd;

	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
	fd = memfd_create("faceattr-service", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return system_failed(error, "memfd_create");
	if (ftruncate(fd, (off_t) (head_size(&sized) + areas_size(&sized))) != 0)
		status = system_failed(error, "ftruncate");
	/* or else whoever has the descriptor could make it shorter, and others' access to it fatal */
	else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		status = system_failed(error, "fcntl");
	else
		status = fa_ring_open(fd, slots, ring, error);
	if (status != FA_OK)
		close(fd);
	return status;
}

void
fa_ring_close(fa_ring *ring)
{
	if (ring->areas != NULL)
		munmap(ring->areas, areas_size(ring));
	if (ring->header != NULL)
		munmap(ring->header, head_size(ring));
	if (ring->fd >= 0)
		close(ring->fd);
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
}

fa_status
fa_ring_map_areas(fa_ring *ring, fa_error *error)
{
	char *areas;

	if (ring->areas != NULL)
		return FA_OK;
	areas = mmap(NULL, areas_size(ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
				 ring->fd, (off_t) head_size(ring));
	if (areas == MAP_FAILED)
		return system_failed(error, "mmap");
	madvise(areas, areas_size(ring), MADV_DONTDUMP); /* photos do not belong into core files */
	ring->areas = areas;
	return FA_OK;
}

void *
fa_ring_request_area(const fa_ring *ring, int slot)
{
	return ring->areas + (size_t) slot * (FA_REQUEST_AREA + FA_REPLY_AREA);
}

void *
fa_ring_reply_area(const fa_ring *ring, int slot)
{
	return (char *) fa_ring_request_area(ring, slot) + FA_REQUEST_AREA;
}

/* Gives back the memory of a part of the areas, mapped here or not. */
static void
punch(const fa_ring *ring, size_t offset, size_t length)
{
	fallocate(ring->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t) (head_size(ring) + offset), (off_t) length);
}

/* What a large request or reply has touched, before the slot is free. */
static void
trim(const fa_ring *ring, int slot)
{
	const fa_slot *s = &ring->slot[slot];
	size_t request = (size_t) slot * (FA_REQUEST_AREA + FA_REPLY_AREA);

	if (s->request.length > FA_AREA_KEPT)
		punch(ring, request + FA_AREA_KEPT, FA_REQUEST_AREA - FA_AREA_KEPT);
	if (s->reply.length > FA_AREA_KEPT)
		punch(ring, request + FA_REQUEST_AREA + FA_AREA_KEPT, FA_REPLY_AREA - FA_AREA_KEPT);
}

void
fa_ring_clear(fa_ring *ring)
{
	for (int i = 0; i < all_slots(ring); i++)
		atomic_store(&ring->slot[i].word, 0);
	punch(ring, 0, areas_size(ring));
}

/* --- Transitions --------------------------------------------------------------------- */

/* false: the word was another one by then. */
static bool
change(fa_slot *slot, uint64_t from, fa_slot_state to)
{
	return atomic_compare_exchange_strong(&slot->word, &from, fa_word_with(from, to));
}

/* From whatever word `from` is: nobody owns the slot any more. */
static bool
set_free(fa_ring *ring, fa_slot *slot, uint64_t from)
{
	if (!change(slot, from, FA_SLOT_FREE))
		return false;
	atomic_fetch_add(&ring->header->freed, 1);
	futex_wake(&ring->header->freed, 1);
	return true;
}

bool
fa_ring_claim_slot(fa_ring *ring, int slot, fa_claim *claim)
{
	/* counted here and not in the word: whoever scribbles on that cannot make two claims alike */
	static _Atomic uint32_t tickets;
	fa_slot *s = &ring->slot[slot];
	uint64_t word = atomic_load(&s->word);
	uint64_t ticket;

	if (fa_word_state(word) != FA_SLOT_FREE)
		return false;
	ticket = atomic_fetch_add(&tickets, 1) & 0xffffff;
	*claim = (fa_claim){slot, (uint64_t) getpid() << 32 | ticket << 8 | FA_SLOT_CLAIMED};
	return atomic_compare_exchange_strong(&s->word, &word, claim->word);
}

bool
fa_ring_claim(fa_ring *ring, fa_claim *claim)
{
	for (int i = 0; i < ring->slots; i++)
		if (fa_ring_claim_slot(ring, i, claim))
			return true;
	return false;
}

bool
fa_ring_submit(fa_ring *ring, const fa_claim *claim)
{
	fa_slot *s = &ring->slot[claim->slot];

	if (atomic_load(&s->word) != claim->word)
		return false;
	memset(&s->reply, 0, sizeof(s->reply));
	atomic_store(&s->submitted, fa_ring_now());
	if (!change(s, claim->word, FA_SLOT_SUBMITTED))
		return false;
	atomic_fetch_add(&ring->header->doorbell, 1);
	futex_wake(&ring->header->doorbell, 1);
	return true;
}

/* What a slot's word is to who has claimed it. */
static fa_wait
waits_for(const fa_claim *claim, uint64_t word)
{
	if (!fa_word_same_claim(word, claim->word))
		return FA_WAIT_LOST;
	switch (fa_word_state(word))
	{
		case FA_SLOT_DONE:
			return FA_WAIT_DONE;
		case FA_SLOT_SUBMITTED:
		case FA_SLOT_RUNNING:
			return FA_WAIT_MORE;
		default:
			return FA_WAIT_LOST;
	}
}

fa_wait
fa_ring_wait(fa_ring *ring, const fa_claim *claim, int milliseconds)
{
	fa_slot *s = &ring->slot[claim->slot];
	uint64_t word = atomic_load(&s->word);
	fa_wait wait = waits_for(claim, word);

	if (wait != FA_WAIT_MORE)
		return wait;
	futex_wait(futex_half(s), (uint32_t) word, (int64_t) milliseconds * 1000);
	return waits_for(claim, atomic_load(&s->word));
}

bool
fa_ring_release(fa_ring *ring, const fa_claim *claim)
{
	fa_slot *s = &ring->slot[claim->slot];
	uint64_t word = atomic_load(&s->word);

	if (!fa_word_same_claim(word, claim->word) ||
		(fa_word_state(word) != FA_SLOT_CLAIMED && fa_word_state(word) != FA_SLOT_DONE))
		return false;
	trim(ring, claim->slot);
	return set_free(ring, s, word);
}

void
fa_ring_abandon(fa_ring *ring, const fa_claim *claim)
{
	fa_slot *s = &ring->slot[claim->slot];

	for (;;)
	{
		uint64_t word = atomic_load(&s->word);

		if (!fa_word_same_claim(word, claim->word))
			return; /* somebody has scribbled on it */
		switch (fa_word_state(word))
		{
			case FA_SLOT_RUNNING:
				if (!change(s, word, FA_SLOT_ABANDONED))
					continue;
				atomic_fetch_add(&ring->header->abandoned, 1);
				return;
			case FA_SLOT_SUBMITTED:
				/* first out of the service's reach */
				if (!change(s, word, FA_SLOT_CLAIMED))
					continue;
				fa_ring_release(ring, claim);
				return;
			default:
				fa_ring_release(ring, claim);
				return;
		}
	}
}

void
fa_ring_wait_freed(fa_ring *ring, uint32_t seen, int milliseconds)
{
	futex_wait(&ring->header->freed, seen, (int64_t) milliseconds * 1000);
}

bool
fa_ring_take(fa_ring *ring, int slot)
{
	fa_slot *s = &ring->slot[slot];
	uint64_t word = atomic_load(&s->word);

	return fa_word_state(word) == FA_SLOT_SUBMITTED && change(s, word, FA_SLOT_RUNNING);
}

bool
fa_ring_finish(fa_ring *ring, int slot)
{
	fa_slot *s = &ring->slot[slot];

	for (;;)
	{
		uint64_t word = atomic_load(&s->word);

		switch (fa_word_state(word))
		{
			case FA_SLOT_RUNNING:
				s->reply.claim = word;
				if (!change(s, word, FA_SLOT_DONE))
					continue;
				futex_wake(futex_half(s), INT_MAX);
				return true;
			case FA_SLOT_ABANDONED:
				trim(ring, slot);
				if (!set_free(ring, s, word))
					continue;
				return false;
			default:
				return false; /* somebody has scribbled on it */
		}
	}
}

void
fa_ring_wait_doorbell(fa_ring *ring, uint32_t seen, int64_t microseconds)
{
	futex_wait(&ring->header->doorbell, seen, microseconds);
}

/* --- What the supervisor settles -------------------------------------------------------- */

int
fa_ring_settle(fa_ring *ring, fa_status status, const char *message, const char *detail)
{
	int settled = 0;

	for (int i = 0; i < all_slots(ring); i++)
	{
		fa_slot *s = &ring->slot[i];
		uint64_t word = atomic_load(&s->word);

		/* The service's own workers died with it; so did what it had in an abandoned slot. */
		if (fa_word_state(word) == FA_SLOT_ABANDONED ||
			(i >= ring->slots && fa_word_state(word) != FA_SLOT_FREE))
		{
			trim(ring, i);
			set_free(ring, s, word);
		}
		else if (fa_word_state(word) == FA_SLOT_RUNNING ||
				 (fa_word_state(word) == FA_SLOT_SUBMITTED && change(s, word, FA_SLOT_RUNNING)))
		{
			memset(&s->reply, 0, sizeof(s->reply));
			s->reply.status = status;
			snprintf(s->reply.message, sizeof(s->reply.message), "%s", message);
			snprintf(s->reply.detail, sizeof(s->reply.detail), "%s", detail);
			fa_ring_finish(ring, i);
			settled++;
		}
	}
	return settled;
}

int
fa_ring_reclaim(fa_ring *ring)
{
	int reclaimed = 0;

	for (int i = 0; i < ring->slots; i++)
	{
		fa_slot *s = &ring->slot[i];
		uint64_t word = atomic_load(&s->word);
		pid_t owner = (pid_t) fa_word_owner(word);

		if (fa_word_state(word) == FA_SLOT_FREE || fa_word_state(word) == FA_SLOT_ABANDONED ||
			(owner > 0 && (kill(owner, 0) == 0 || errno != ESRCH)))
			continue;
		if (fa_word_state(word) == FA_SLOT_SUBMITTED)
		{
			change(s, word, FA_SLOT_CLAIMED); /* out of the service's reach; freed the next time */
			continue;
		}
		if (fa_word_state(word) != FA_SLOT_RUNNING)
			trim(ring, i);
		if (fa_word_state(word) == FA_SLOT_RUNNING ? change(s, word, FA_SLOT_ABANDONED)
												   : set_free(ring, s, word))
			reclaimed++;
	}
	return reclaimed;
}

bool
fa_ring_busy(const fa_ring *ring)
{
	for (int i = 0; i < all_slots(ring); i++)
	{
		fa_slot_state state = fa_word_state(atomic_load(&ring->slot[i].word));

		if (state == FA_SLOT_SUBMITTED || state == FA_SLOT_RUNNING || state == FA_SLOT_ABANDONED)
			return true;
	}
	return false;
}
