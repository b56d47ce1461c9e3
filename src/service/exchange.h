/*
 * exchange.h
 *		One request of a session to the service and its reply: claim, submit, wait, release. Used by
 *		client.c and reader.c.
 */
#ifndef FA_EXCHANGE_H
#define FA_EXCHANGE_H

#include "ring.h"

typedef struct fa_exchange
{
	fa_ring *ring;
	fa_claim claim;
	fa_request request;
	void *data;     /* the request area: the caller writes request.length bytes */
	fa_reply reply; /* a copy: the memory may change under our eyes */
	const void *answer;
} fa_exchange;

/*
 * A slot, waiting for one if need be, with room for so many bytes; FA_TOO_LARGE: an area is
 * smaller. FA_DEVICE_LOST where no service runs.
 */
extern fa_status fa_exchange_begin(fa_exchange *x, fa_request_kind kind, size_t length,
								   const fa_interrupt *interrupt, fa_error *error);
/* Submits and waits. A failure, the service's too, has ended the exchange. */
extern fa_status fa_exchange_call(fa_exchange *x, const fa_interrupt *interrupt, fa_error *error);
/*
 * After a success, when the answer has been read: it may be used only if this is FA_OK. Until then
 * it can be another's, where somebody has scribbled over the slot.
 */
extern fa_status fa_exchange_end(fa_exchange *x, fa_error *error);
/* Ends it for a reason of the caller's. */
extern void fa_exchange_give_up(fa_exchange *x);
/* The same, of an answer that makes no sense. */
extern fa_status fa_exchange_nonsense(fa_exchange *x, const char *what, fa_error *error);

/* Of the process: its ring; and of a thread of the service: the slot that is its own (-1: none). */
extern void fa_exchange_own_slot(int slot);

#endif
