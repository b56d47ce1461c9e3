/*
 * ring.h
 *		The memory by which sessions hand work to faceattr-service, and the protocol of
 *		its slots. Knows no PostgreSQL.
 *
 * The postmaster makes one memfd at start-up and every process below it inherits the
 * descriptor; the service gets it, and nothing else of the server's. In it lie a header, the
 * slots, and for every slot an area for what is asked and one for what is answered.
 *
 * Header and slots, the head, are mapped by everybody, and have their pages from the start.
 * Areas are mapped by nobody: they are written and read by pwrite and pread, a piece at a time.
 * So a machine that has no page left for them fails a request, where a mapping's fault would be
 * a SIGBUS, which in a session takes the server down; a long copy can be cancelled; what has
 * been read is the reader's own, and does not change while he checks it; and gigabytes of areas
 * cost no address space. They have pages where something has been written, of which a slot that
 * is free keeps FA_AREA_KEPT.
 *
 * Who may do what. A slot's word holds its state, the process that claimed it, and a ticket, of
 * which every claim of a process gets another one; it changes by compare-and-swap alone, so that a
 * change made on an old view of the slot fails. A session keeps the word that it claimed with and
 * heeds a slot only as long as owner and ticket are those.
 *
 *	FREE -> CLAIMED          a session, which then writes the request and its data
 *	CLAIMED -> SUBMITTED     the session; it rings the doorbell and sleeps on the word
 *	SUBMITTED -> RUNNING     the service
 *	RUNNING -> DONE          the service, when the reply is written; it wakes the session
 *	DONE -> FREE             the session, when it has read the reply
 *	SUBMITTED -> FREE        the session gives up: cancelled, say
 *	RUNNING -> ABANDONED     the session gives up; the service still reads and writes the areas
 *	any -> ABANDONED         the session is done with a slot whose areas have more pages than it
 *	                         has time to give back
 *	ABANDONED -> FREE        the service, when it is done with it and has given them back
 *
 * The supervisor, which alone starts the service and alone knows that it is dead, settles what it
 * leaves (fa_ring_settle): SUBMITTED and RUNNING become DONE with a status that says so, ABANDONED
 * becomes FREE. It also frees the slots of sessions that are no more (fa_ring_reclaim).
 *
 * Words that somebody has scribbled on lose nothing for good, since each side remembers for itself
 * which slots are its own. The service takes no slot that it has at work already, ends with an
 * error what is RUNNING though it is not at it, and frees what is ABANDONED or in no state at all
 * (fa_ring_tidy, whenever it looks for requests). A session that looks for a slot hands over to the
 * service those that are its own by their word, but that it has not claimed.
 *
 * All sleeping is on futexes in this memory: sessions on their slot's word (on `freed` when there
 * is no slot), the service on `doorbell`. A session wakes up every FA_RING_PATIENCE ms to ask
 * whether it should stop.
 *
 * Nobody trusts the other side. The service copies a request before it checks it and heeds the copy
 * only; a session believes a reply no more than a stranger's file (client.c). Sizes and the number
 * of slots are never read from the memory: each process has its own.
 */
#ifndef FA_RING_H
#define FA_RING_H

#include <stdatomic.h>

#include "../face/face.h"

#define FA_RING_PATIENCE 10                /* ms */
#define FA_REQUEST_AREA ((size_t) 1 << 30) /* a bytea is smaller */
#define FA_REPLY_AREA ((size_t) 1 << 30)
#define FA_AREA_KEPT ((size_t) 2 << 20) /* of each area, of memory once written */
#define FA_RING_PIECE                                                                              \
	((size_t) 1 << 20) /* of an area, between two questions whether to stop: as                    \
						* long as one is written no other can be, of any slot */
#define FA_RING_MAX_SLOTS 1024
#define FA_RING_WORKERS 16   /* slots beyond those of sessions: see photos.c */
#define FA_RING_MODELS 32    /* shown in the header */
#define FA_RING_FILL_BINS 12 /* batches of 1, 2, 3-4, 5-8, ... images */
#define FA_RING_ENDS INT64_C(-1)
#define FA_SERVICE_KEY 32 /* bytes of a model's key: SHA-256 */

typedef enum fa_slot_state
{
	FA_SLOT_FREE,
	FA_SLOT_CLAIMED,
	FA_SLOT_SUBMITTED,
	FA_SLOT_RUNNING,
	FA_SLOT_DONE,
	FA_SLOT_ABANDONED
} fa_slot_state;

/* A slot's word: pid << 32 | ticket << 8 | state. */
static inline fa_slot_state
fa_word_state(uint64_t word)
{
	return (fa_slot_state) (word & 0xff);
}

static inline uint32_t
fa_word_owner(uint64_t word)
{
	return (uint32_t) (word >> 32);
}

static inline uint64_t
fa_word_with(uint64_t word, fa_slot_state state)
{
	return (word & ~(uint64_t) 0xff) | state;
}

/* Two words of one claim: the same owner and ticket. */
static inline bool
fa_word_same_claim(uint64_t a, uint64_t b)
{
	return a >> 8 == b >> 8;
}

/*
 * What a session has claimed. It knows its slot again by the word that it claimed it with: where
 * owner and ticket are others by now, somebody has scribbled over the word, another session has
 * claimed the slot since, and neither its state nor its reply are this session's.
 */
typedef struct fa_claim
{
	int slot;
	uint64_t word;
	size_t written, answered; /* bytes in the areas, as far as it knows */
} fa_claim;

typedef enum fa_request_kind
{
	FA_REQUEST_RUN,      /* a batch through a network of a model that is there */
	FA_REQUEST_LOAD,     /* which model; data: its weights file, or none to ask for it */
	FA_REQUEST_FIND,     /* data: a photo; reply: faces, embeddings */
	FA_REQUEST_CLASSIFY, /* data: ready crops; reply: faces, errors, logits, embedding */
	FA_REQUEST_ANNOTATE  /* data: a photo; reply: an image */
} fa_request_kind;

typedef enum fa_model_part
{
	FA_PART_ATTRIBUTES,
	FA_PART_DETECTOR
} fa_model_part;

/* What a slot asks. Lengths are of its request area. */
typedef struct fa_request
{
	uint32_t kind; /* an fa_request_kind */
	uint8_t model[FA_SERVICE_KEY];
	uint32_t precision; /* an fa_precision, not AUTO */
	uint64_t length;    /* bytes in the request area */
	uint64_t sum;       /* LOAD: fa_ring_sum() of the file, as it was sent */
	/* RUN */
	uint32_t part; /* an fa_model_part */
	uint32_t count, height,
		width;       /* the area holds count * height * width * 3 bytes; CLASSIFY: count */
	uint32_t wanted; /* bit i: output i */
	/* photos and crops: see wire.h */
	fa_face_options options; /* of CLASSIFY max_pixels only */
	uint32_t classify;       /* FIND: with attributes */
	uint32_t logits;         /* CLASSIFY: of the first crop, all heads' */
	uint32_t embed;          /* FIND: of all faces; CLASSIFY: of the first crop */
	int32_t format;          /* ANNOTATE: an fa_format, or -1: the photo's own */
} fa_request;

/* What it gets. */
typedef struct fa_reply
{
	uint64_t claim;  /* the word by which the slot was taken: see fa_word_same_claim */
	uint32_t status; /* an fa_status */
	char message[256], detail[256];
	uint64_t length;                          /* bytes in the reply area */
	uint64_t sum;                             /* LOAD: fa_ring_sum() of the metadata */
	uint32_t count, height, width, dimension; /* of faces, the photo, an embedding */
	fa_work work;                             /* seconds that it took, by part */
} fa_reply;

typedef struct fa_slot
{
	_Alignas(64) _Atomic uint64_t word;
	_Atomic int64_t submitted; /* fa_ring_now() then */
	fa_request request;
	fa_reply reply;
} fa_slot;

typedef enum fa_service_state
{
	FA_SERVICE_STOPPED,  /* nobody has asked for it yet, or it was idle */
	FA_SERVICE_STARTING, /* opens its device, loads the detector */
	FA_SERVICE_READY,
	FA_SERVICE_WAITING, /* it has died; the supervisor waits before it starts it again */
	FA_SERVICE_USELESS  /* it says that it cannot run here: no GPU, say; until settings change */
} fa_service_state;

/* What the service shows of itself; written by it, and by the supervisor while it is dead. */
typedef struct fa_shown_model
{
	uint8_t key[FA_SERVICE_KEY];
	uint32_t precision;
	uint32_t resident; /* on the device; 0: an unused row, 1: known, 2: resident */
	uint64_t memory;   /* bytes on the device */
	uint64_t images;   /* that went through it */
	int64_t last_use;  /* fa_ring_now() */
} fa_shown_model;

typedef struct fa_ring_header
{
	/* What the supervisor wishes; the service heeds changes at once. */
	_Atomic uint32_t batch_size;    /* images of a batch, at most */
	_Atomic uint32_t batch_delay;   /* microseconds that a batch waits to be filled */
	_Atomic uint32_t idle_timeout;  /* seconds after which the service ends; 0: never */
	_Atomic uint64_t device_memory; /* bytes, of a GPU; 0: no limit */
	_Atomic uint64_t model_memory;  /* bytes of the host's, for models' weights */

	_Atomic uint32_t doorbell; /* futex: counts requests */
	_Atomic uint32_t freed;    /* futex: counts slots that were freed */

	_Atomic uint32_t state;  /* an fa_service_state */
	_Atomic uint32_t pid;    /* of the service */
	_Atomic uint64_t beat;   /* counted up between batches, layers and requests */
	_Atomic int64_t started; /* fa_ring_now() when it became ready */
	/*
	 * When a session last chose it, who may be at a photo and ask nothing for seconds. An idle
	 * service that ends replaces it by FA_RING_ENDS, by compare-and-swap, as sessions do with the
	 * time: so that it has seen whoever has chosen it, or they see that it ends.
	 */
	_Atomic int64_t wanted;
	_Atomic uint32_t restarts;
	_Atomic uint32_t precisions; /* bit p: it runs in fa_precision p */
	_Atomic uint32_t fastest;    /* what AUTO means there */
	_Atomic uint32_t confined;   /* an fa_confinement's bits: what the kernel keeps it from */
	char engine[16];             /* "cpu", "cuda" */
	char device[128];            /* "Intel Xeon ...", "NVIDIA H100, driver 13.0" */
	char last_error[520];        /* why it ended last, or what failed last */
	_Atomic int64_t last_error_time;

	/* Since the server started. */
	_Atomic uint64_t requests, images, batches, abandoned, failed;
	_Atomic uint64_t wait_time, run_time; /* microseconds: from submitted to running, in networks */
	_Atomic uint64_t fill[FA_RING_FILL_BINS]; /* batches by their images */
	fa_shown_model models[FA_RING_MODELS];
} fa_ring_header;

/* One process's view. */
typedef struct fa_ring
{
	int fd;
	int slots; /* of sessions; FA_RING_WORKERS follow */
	fa_ring_header *header;
	fa_slot *slot;
	/* by slot, and not shared: the word of this process's claim or, in the service, of the request
	 * that it is at; 0: none */
	_Atomic uint64_t *claimed, *taken;
} fa_ring;

/* Microseconds of a clock that all processes of the machine share. */
extern int64_t fa_ring_now(void);

/*
 * A string of the ring's, which may lack its end or be no text at all, as printable ASCII; size and
 * from_size are those of the arrays.
 */
extern void fa_ring_text(char *to, size_t size, const char *from, size_t from_size);

/* Makes the memory, empty. The descriptor closes on exec. */
extern fa_status fa_ring_create(int slots, fa_ring *ring, fa_error *error);
/* Maps what another process has made; slots as it was made with. */
extern fa_status fa_ring_open(int fd, int slots, fa_ring *ring, fa_error *error);
extern void fa_ring_close(fa_ring *ring);

typedef enum fa_slot_area
{
	FA_AREA_REQUEST,
	FA_AREA_REPLY
} fa_slot_area;

/*
 * Copies between a slot's area, from place `at` on, and memory. FA_NO_MEMORY: there are no pages
 * for it; FA_TOO_LARGE: it is no place of the area. What was never written is zero.
 */
extern fa_status fa_ring_write(const fa_ring *ring, int slot, fa_slot_area area, size_t at,
							   const void *from, size_t length, const fa_interrupt *interrupt,
							   fa_error *error);
extern fa_status fa_ring_read(const fa_ring *ring, int slot, fa_slot_area area, size_t at, void *to,
							  size_t length, const fa_interrupt *interrupt, fa_error *error);

/*
 * Tells whether bytes about a model have come as they were sent, and for that model and precision:
 * any change to a single word does change it. What is loaded or believed once is used for long, and
 * by others, too.
 */
extern fa_status fa_ring_sum(const uint8_t key[FA_SERVICE_KEY], uint32_t precision,
							 const void *bytes, size_t length, uint64_t *sum,
							 const fa_interrupt *interrupt, fa_error *error);

/*
 * What sessions do. Any thread of a process may, each with a claim of its own.
 */

/* FREE -> CLAIMED of a session's slot, the lowest there is; false: none is free. */
extern bool fa_ring_claim(fa_ring *ring, fa_claim *claim);
/* The same of one particular slot. */
extern bool fa_ring_claim_slot(fa_ring *ring, int slot, fa_claim *claim);
/*
 * Between claim and submit the caller writes request and area. false: the slot is not its own any
 * more.
 */
extern bool fa_ring_submit(fa_ring *ring, const fa_claim *claim);

typedef enum fa_wait
{
	FA_WAIT_MORE, /* not DONE yet */
	FA_WAIT_DONE,
	FA_WAIT_LOST /* the slot is not the caller's any more, or in no state that it could be in */
} fa_wait;

/* Sleeps until the slot is DONE, or for a while. */
extern fa_wait fa_ring_wait(fa_ring *ring, const fa_claim *claim, int milliseconds);
/*
 * DONE (or CLAIMED) -> FREE, by the session; false: it was not the session's any more, and what has
 * been read of the reply may be another's.
 */
extern bool fa_ring_release(fa_ring *ring, const fa_claim *claim);
/* The session gives up whatever state its slot is in. */
extern void fa_ring_abandon(fa_ring *ring, const fa_claim *claim);
/* Sleeps until some slot has been freed, or for a while. `seen`: header->freed before looking. */
extern void fa_ring_wait_freed(fa_ring *ring, uint32_t seen, int milliseconds);

/*
 * What the service does: one thread takes and tidies, any may finish.
 */

/*
 * SUBMITTED -> RUNNING, and a copy of what is asked; false: it is not submitted (any more), or the
 * service has it at work already.
 */
extern bool fa_ring_take(fa_ring *ring, int slot, fa_request *request);
/* It is at work, and somebody waits for the reply. */
extern bool fa_ring_is_wanted(const fa_ring *ring, int slot);
/* RUNNING -> DONE, and wakes the session; false: nobody wants the reply. */
extern bool fa_ring_finish(fa_ring *ring, int slot, const fa_reply *reply);
/*
 * Ends what is RUNNING though the service is not at it; frees what is ABANDONED, or in no state at
 * all, after a few of its pages at a time have been given back: true, there is more to do.
 */
extern bool fa_ring_tidy(fa_ring *ring, int slot);
/* Sleeps until the doorbell differs from `seen`, or for so many microseconds (< 0: for ever). */
extern void fa_ring_wait_doorbell(fa_ring *ring, uint32_t seen, int64_t microseconds);

/*
 * By the supervisor, when no service lives: whoever waits for it learns why not. Returns how many.
 */
extern int fa_ring_settle(fa_ring *ring, fa_status status, const char *message, const char *detail);
/* By the postmaster, when no other process has it: all slots free, no memory taken. */
extern void fa_ring_clear(fa_ring *ring);
/* By the supervisor: frees the slots of sessions that are no more. Returns how many. */
extern int fa_ring_reclaim(fa_ring *ring, bool (*is_session)(uint32_t pid));
/* Whether something is submitted or running. */
extern bool fa_ring_busy(const fa_ring *ring);

#endif
