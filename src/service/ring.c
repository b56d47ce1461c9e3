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
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t) 4096)
#define PUNCH ((size_t) 16 << 20) /* pages given back at once: some milliseconds */
#define SESSIONS_PUNCHES 2        /* that a session has time for */

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

	_Static_assert(sizeof(off_t) == 8, "areas need 64-bit offsets");
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
	if (slots < 1 || slots > FA_RING_MAX_SLOTS)
		return fa_fail(error, FA_INVALID, "slots must be from 1 to %d", FA_RING_MAX_SLOTS);
	ring->slots = slots;
	ring->claimed = calloc(2 * (size_t) all_slots(ring), sizeof(*ring->claimed));
	if (ring->claimed == NULL)
		return fa_no_memory(error, 2 * (size_t) all_slots(ring) * sizeof(*ring->claimed));
	ring->taken = ring->claimed + all_slots(ring);
	memory = mmap(NULL, head_size(ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
	{
		system_failed(error, "mmap");
		fa_ring_close(ring);
		return error->status;
	}
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
	/* now or never: a page that is missing later is a signal to whoever looks at it */
	else if (fallocate(fd, 0, 0, (off_t) head_size(&sized)) != 0)
		status = system_failed(error, "fallocate");
	else
		status = fa_ring_open(fd, slots, ring, error);
	if (status != FA_OK)
		close(fd);
	return status;
}

void
fa_ring_close(fa_ring *ring)
{
	if (ring->header != NULL)
		munmap(ring->header, head_size(ring));
	if (ring->fd >= 0)
		close(ring->fd);
	free(ring->claimed);
	memset(ring, 0, sizeof(*ring));
	ring->fd = -1;
}

/* --- Areas ------------------------------------------------------------------------------ */

static off_t
place_of(const fa_ring *ring, int slot, fa_slot_area area)
{
	return (off_t) (head_size(ring) + (size_t) slot * (FA_REQUEST_AREA + FA_REPLY_AREA) +
					(area == FA_AREA_REPLY ? FA_REQUEST_AREA : 0));
}

static size_t
area_size(fa_slot_area area)
{
	static const size_t sizes[] = {FA_REQUEST_AREA, FA_REPLY_AREA};

	return sizes[area];
}

static fa_status
copy_failed(fa_error *error, size_t length)
{
	int number = errno;

	if (number == ENOSPC || number == ENOMEM || number == EFBIG || number == EDQUOT)
	{
		fa_fail(error, FA_NO_MEMORY, "out of memory that faceattr-service shares");
		return fa_detail(error, "Failed on a request of %zu bytes: %s.", length, strerror(number));
	}
	errno = number;
	return system_failed(error, "copying");
}

/* to or from NULL: that side is the area. */
static fa_status
copy(const fa_ring *ring, int slot, fa_slot_area area, size_t at, void *to, const void *from,
	 size_t length, const fa_interrupt *interrupt, fa_error *error)
{
	off_t place = place_of(ring, slot, area) + (off_t) at;

	if (at > area_size(area) || length > area_size(area) - at)
		return fa_fail(error, FA_TOO_LARGE, "this is too large for faceattr-service");
	for (size_t done = 0; done < length;)
	{
		size_t n = length - done < FA_RING_PIECE ? length - done : FA_RING_PIECE;
		ssize_t copied;

		if (done > 0)
			FA_TRY(fa_check_interrupt(interrupt, error));
		copied = from != NULL
					 ? pwrite(ring->fd, (const char *) from + done, n, place + (off_t) done)
					 : pread(ring->fd, (char *) to + done, n, place + (off_t) done);
		if (copied < 0 && errno != EINTR)
			return copy_failed(error, length);
		if (copied == 0) /* the file ends beyond */
			return fa_fail(error, FA_IO, "the service's memory cannot be had");
		done += copied < 0 ? 0 : (size_t) copied;
	}
	return FA_OK;
}

fa_status
fa_ring_write(const fa_ring *ring, int slot, fa_slot_area area, size_t at, const void *from,
			  size_t length, const fa_interrupt *interrupt, fa_error *error)
{
	return copy(ring, slot, area, at, NULL, from, length, interrupt, error);
}

fa_status
fa_ring_read(const fa_ring *ring, int slot, fa_slot_area area, size_t at, void *to, size_t length,
			 const fa_interrupt *interrupt, fa_error *error)
{
	return copy(ring, slot, area, at, to, NULL, length, interrupt, error);
}

/* Each step is one-to-one in both arguments, so that what differs once differs in the end. */
static uint64_t
mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ sum >> 32;
}

static uint64_t
mix_bytes(uint64_t sum, const void *bytes, size_t length)
{
	const char *at = bytes;
	uint64_t word;

	for (; length >= sizeof(word); at += sizeof(word), length -= sizeof(word))
	{
		memcpy(&word, at, sizeof(word));
		sum = mix(sum, word);
	}
	word = 0;
	memcpy(&word, at, length);
	return mix(sum, word);
}

fa_status
fa_ring_sum(const uint8_t key[FA_SERVICE_KEY], uint32_t precision, const void *bytes, size_t length,
			uint64_t *sum, const fa_interrupt *interrupt, fa_error *error)
{
	*sum = mix(mix(mix_bytes(0, key, FA_SERVICE_KEY), precision), length);
	for (size_t done = 0; done < length; done += FA_RING_PIECE)
	{
		if (done > 0)
			FA_TRY(fa_check_interrupt(interrupt, error));
		*sum = mix_bytes(*sum, (const char *) bytes + done,
						 length - done < FA_RING_PIECE ? length - done : FA_RING_PIECE);
	}
	return FA_OK;
}

/*
 * Gives back some of the pages from one place of the file to another; false: there are none. What
 * has pages is asked of the file and not believed of lengths, so that half a reply of a service
 * that died at it counts, too.
 */
static bool
punch_some(const fa_ring *ring, off_t from, off_t to)
{
	off_t data = lseek(ring->fd, from, SEEK_DATA);
	off_t length = to - data < (off_t) PUNCH ? to - data : (off_t) PUNCH;

	return data >= 0 && length > 0 &&
		   fallocate(ring->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, data, length) == 0;
}

/* The same, of what a slot that is free does not keep. */
static bool
trim_some(const fa_ring *ring, int slot)
{
	for (fa_slot_area area = FA_AREA_REQUEST; area <= FA_AREA_REPLY; area++)
	{
		off_t place = place_of(ring, slot, area);

		if (punch_some(ring, place + (off_t) FA_AREA_KEPT, place + (off_t) area_size(area)))
			return true;
	}
	return false;
}

static void
trim(const fa_ring *ring, int slot)
{
	while (trim_some(ring, slot))
		;
}

void
fa_ring_clear(fa_ring *ring)
{
	off_t begin = (off_t) head_size(ring);

	for (int i = 0; i < all_slots(ring); i++)
	{
		atomic_store(&ring->slot[i].word, 0);
		atomic_store(&ring->claimed[i], 0);
		atomic_store(&ring->taken[i], 0);
	}
	while (punch_some(ring, begin, begin + (off_t) areas_size(ring)))
		;
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

static void
ring_doorbell(fa_ring *ring)
{
	atomic_fetch_add(&ring->header->doorbell, 1);
	futex_wake(&ring->header->doorbell, 1);
}

/* --- Sessions --------------------------------------------------------------------------- */

/* Of the process's threads one at a time, so that each sees what the others have claimed. */
static pthread_mutex_t claiming = PTHREAD_MUTEX_INITIALIZER;

/* Under the lock: one that is this process's by its word, but not by what it knows of itself. */
static void
leave_to_service(fa_ring *ring, int slot, uint64_t word)
{
	if (fa_word_same_claim(word, atomic_load(&ring->claimed[slot])) ||
		fa_word_state(word) < FA_SLOT_CLAIMED || fa_word_state(word) > FA_SLOT_DONE)
		return;
	if (change(&ring->slot[slot], word, FA_SLOT_ABANDONED))
		ring_doorbell(ring);
}

/* Under the lock. */
static bool
claim_slot(fa_ring *ring, int slot, fa_claim *claim)
{
	/* counted here and not in the word: whoever scribbles on that cannot make two claims alike */
	static uint32_t tickets;
	fa_slot *s = &ring->slot[slot];
	uint64_t word = atomic_load(&s->word), pid = (uint64_t) getpid();

	if (fa_word_state(word) != FA_SLOT_FREE)
	{
		if (fa_word_owner(word) == pid || slot >= ring->slots) /* a worker has but the one */
			leave_to_service(ring, slot, word);
		return false;
	}
	*claim = (fa_claim){
		.slot = slot, .word = pid << 32 | (uint64_t) (++tickets & 0xffffff) << 8 | FA_SLOT_CLAIMED};
	if (!atomic_compare_exchange_strong(&s->word, &word, claim->word))
		return false;
	atomic_store(&ring->claimed[slot], claim->word);
	return true;
}

bool
fa_ring_claim_slot(fa_ring *ring, int slot, fa_claim *claim)
{
	bool claimed;

	pthread_mutex_lock(&claiming);
	claimed = claim_slot(ring, slot, claim);
	pthread_mutex_unlock(&claiming);
	return claimed;
}

bool
fa_ring_claim(fa_ring *ring, fa_claim *claim)
{
	bool claimed = false;

	pthread_mutex_lock(&claiming);
	for (int i = 0; i < ring->slots && !claimed; i++)
		claimed = claim_slot(ring, i, claim);
	pthread_mutex_unlock(&claiming);
	return claimed;
}

/*
 * The process has the slot no more. After the word has changed: as long as the word says that it
 * has, so does this.
 */
static void
forget(fa_ring *ring, const fa_claim *claim)
{
	uint64_t word = claim->word;

	atomic_compare_exchange_strong(&ring->claimed[claim->slot], &word, 0);
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
	ring_doorbell(ring);
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

static size_t
excess(size_t length)
{
	return length > FA_AREA_KEPT ? length - FA_AREA_KEPT : 0;
}

/* CLAIMED or DONE -> FREE, or ABANDONED; false: the word was another one by then. */
static bool
leave(fa_ring *ring, const fa_claim *claim, uint64_t word)
{
	fa_slot *s = &ring->slot[claim->slot];
	size_t pages = excess(claim->written) + excess(claim->answered);

	if (pages > SESSIONS_PUNCHES * PUNCH)
	{
		if (!change(s, word, FA_SLOT_ABANDONED))
			return false;
		ring_doorbell(ring);
		return true;
	}
	if (atomic_load(&s->word) != word)
		return false;
	for (int i = 0; pages > 0 && i <= SESSIONS_PUNCHES; i++)
		if (!trim_some(ring, claim->slot))
			break;
	return set_free(ring, s, word);
}

bool
fa_ring_release(fa_ring *ring, const fa_claim *claim)
{
	uint64_t word = atomic_load(&ring->slot[claim->slot].word);
	bool left = fa_word_same_claim(word, claim->word) &&
				(fa_word_state(word) == FA_SLOT_CLAIMED || fa_word_state(word) == FA_SLOT_DONE) &&
				leave(ring, claim, word);

	forget(ring, claim);
	return left;
}

/* One step of giving up; false: the word has changed meanwhile. */
static bool
give_up(fa_ring *ring, const fa_claim *claim)
{
	fa_slot *s = &ring->slot[claim->slot];
	uint64_t word = atomic_load(&s->word);

	if (!fa_word_same_claim(word, claim->word))
		return true; /* somebody has scribbled on it */
	switch (fa_word_state(word))
	{
		case FA_SLOT_RUNNING:
			if (!change(s, word, FA_SLOT_ABANDONED))
				return false;
			atomic_fetch_add(&ring->header->abandoned, 1);
			return true;
		case FA_SLOT_SUBMITTED:
			/* first out of the service's reach */
			return change(s, word, FA_SLOT_CLAIMED) &&
				   leave(ring, claim, fa_word_with(word, FA_SLOT_CLAIMED));
		case FA_SLOT_CLAIMED:
		case FA_SLOT_DONE:
			return leave(ring, claim, word);
		default:
			return true; /* the service tidies up */
	}
}

void
fa_ring_abandon(fa_ring *ring, const fa_claim *claim)
{
	while (!give_up(ring, claim))
		;
	forget(ring, claim);
}

void
fa_ring_wait_freed(fa_ring *ring, uint32_t seen, int milliseconds)
{
	futex_wait(&ring->header->freed, seen, (int64_t) milliseconds * 1000);
}

/* --- The service ------------------------------------------------------------------------- */

bool
fa_ring_take(fa_ring *ring, int slot, fa_request *request)
{
	fa_slot *s = &ring->slot[slot];
	uint64_t word = atomic_load(&s->word);

	if (atomic_load(&ring->taken[slot]) != 0 || fa_word_state(word) != FA_SLOT_SUBMITTED ||
		!change(s, word, FA_SLOT_RUNNING))
		return false;
	atomic_store(&ring->taken[slot], fa_word_with(word, FA_SLOT_RUNNING));
	*request = s->request;
	return true;
}

bool
fa_ring_is_wanted(const fa_ring *ring, int slot)
{
	return atomic_load(&ring->slot[slot].word) == atomic_load(&ring->taken[slot]);
}

/* RUNNING -> DONE; word: the slot's, as it was taken. */
static bool
answer(fa_ring *ring, int slot, uint64_t word, const fa_reply *reply)
{
	fa_slot *s = &ring->slot[slot];

	if (atomic_load(&s->word) != word)
		return false;
	s->reply = *reply;
	s->reply.claim = word;
	if (!change(s, word, FA_SLOT_DONE))
		return false;
	futex_wake(futex_half(s), INT_MAX);
	return true;
}

/*
 * The slot is let go of after the word has changed, so that it is no stray to fa_ring_tidy in
 * between; which means that the intake may see the next request there before it may take it.
 * Therefore the second look.
 */
bool
fa_ring_finish(fa_ring *ring, int slot, const fa_reply *reply)
{
	bool answered = answer(ring, slot, atomic_load(&ring->taken[slot]), reply);
	fa_slot_state state;

	atomic_store(&ring->taken[slot], 0);
	state = fa_word_state(atomic_load(&ring->slot[slot].word));
	if (state == FA_SLOT_SUBMITTED || state >= FA_SLOT_ABANDONED)
		ring_doorbell(ring);
	return answered;
}

bool
fa_ring_tidy(fa_ring *ring, int slot)
{
	static const fa_reply stray = {.status = FA_DEVICE_LOST,
								   .message = "the memory of faceattr-service is damaged"};
	uint64_t word = atomic_load(&ring->slot[slot].word);

	if (fa_word_state(word) < FA_SLOT_RUNNING || fa_word_state(word) == FA_SLOT_DONE ||
		atomic_load(&ring->taken[slot]) != 0)
		return false;
	if (fa_word_state(word) == FA_SLOT_RUNNING)
		answer(ring, slot, word, &stray);
	else if (trim_some(ring, slot))
		return true;
	else
		set_free(ring, &ring->slot[slot], word);
	return false;
}

void
fa_ring_wait_doorbell(fa_ring *ring, uint32_t seen, int64_t microseconds)
{
	futex_wait(&ring->header->doorbell, seen, microseconds);
}

/* --- The supervisor ---------------------------------------------------------------------- */

int
fa_ring_settle(fa_ring *ring, fa_status status, const char *message, const char *detail)
{
	fa_reply reply = {.status = status};
	int settled = 0;

	snprintf(reply.message, sizeof(reply.message), "%s", message);
	snprintf(reply.detail, sizeof(reply.detail), "%s", detail);
	for (int i = 0; i < all_slots(ring); i++)
	{
		fa_slot *s = &ring->slot[i];
		uint64_t word = atomic_load(&s->word);
		fa_slot_state state = fa_word_state(word);

		if (state == FA_SLOT_SUBMITTED && change(s, word, FA_SLOT_RUNNING))
			word = fa_word_with(word, state = FA_SLOT_RUNNING);
		/* The service's own workers died with it; so did what it had in an abandoned slot. */
		if (state >= FA_SLOT_ABANDONED || (i >= ring->slots && state != FA_SLOT_FREE))
		{
			trim(ring, i);
			set_free(ring, s, word);
		}
		else if (state == FA_SLOT_RUNNING)
		{
			trim(ring, i); /* half a reply, of which nobody else knows */
			settled += answer(ring, i, word, &reply);
		}
	}
	return settled;
}

int
fa_ring_reclaim(fa_ring *ring, bool (*is_session)(uint32_t pid))
{
	int reclaimed = 0;

	for (int i = 0; i < ring->slots; i++)
	{
		fa_slot *s = &ring->slot[i];
		uint64_t word = atomic_load(&s->word);
		fa_slot_state state = fa_word_state(word);

		if (state == FA_SLOT_FREE || state == FA_SLOT_ABANDONED || is_session(fa_word_owner(word)))
			continue;
		if (state == FA_SLOT_RUNNING)
		{
			reclaimed += change(s, word, FA_SLOT_ABANDONED);
			continue;
		}
		if (state == FA_SLOT_SUBMITTED) /* first out of the service's reach */
		{
			if (!change(s, word, FA_SLOT_CLAIMED))
				continue;
			word = fa_word_with(word, FA_SLOT_CLAIMED);
		}
		trim(ring, i);
		reclaimed += set_free(ring, s, word);
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
