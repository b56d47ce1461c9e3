/*
 * exchange.h
 *		One request of a session to the service and its reply: begin, write what it is about, call,
 *		read the answer, end. Used by client.c and reader.c.
 *
 * Every function may be called by several threads of a process at once, each with an exchange of
 * its own, which has a slot of its own: threads share the ring and nothing else. An exchange
 * belongs to one thread at a time, and `interrupt` is asked by that one.
 *
 * Whatever fails has ended the exchange: the slot is somebody else's then.
 */
#ifndef FA_EXCHANGE_H
#define FA_EXCHANGE_H

#include "ring.h"

typedef struct fa_exchange
{
	fa_ring *ring;
	fa_claim claim;
	fa_request request; /* the caller's to fill, but for kind and length */
	fa_reply reply;     /* a copy: the memory may change under our eyes */
	size_t taken;       /* bytes of the answer that have been read */
} fa_exchange;

/*
 * A slot, waiting for one if need be, for a request with so many bytes; FA_TOO_LARGE: an area is
 * smaller. FA_DEVICE_LOST where no service runs.
 */
extern fa_status fa_exchange_begin(fa_exchange *x, fa_request_kind kind, size_t length,
								   const fa_interrupt *interrupt, fa_error *error);
/* The next of those bytes. */
extern fa_status fa_exchange_write(fa_exchange *x, const void *bytes, size_t length,
								   const fa_interrupt *interrupt, fa_error *error);
/* Submits and waits. */
extern fa_status fa_exchange_call(fa_exchange *x, const fa_interrupt *interrupt, fa_error *error);
/* The next bytes of the answer's reply.length. */
extern fa_status fa_exchange_read(fa_exchange *x, void *to, size_t length,
								  const fa_interrupt *interrupt, fa_error *error);
/*
 * After a success, when the answer has been read: it may be used only if this is FA_OK. Until then
 * it can be another's, where somebody has scribbled over the slot.
 */
extern fa_status fa_exchange_end(fa_exchange *x, fa_error *error);
/* Ends it for a reason of the caller's. */
extern void fa_exchange_give_up(fa_exchange *x);
/* The same, of an answer that makes no sense. */
extern fa_status fa_exchange_nonsense(fa_exchange *x, const char *what, fa_error *error);

/* Of what has been read. */
extern bool fa_all_finite(const float *values, size_t n);

/* Of the process: its ring; and of a thread of the service: the slot that is its own (-1: none). */
extern void fa_exchange_own_slot(int slot);

#endif
