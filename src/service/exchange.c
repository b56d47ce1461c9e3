/*
 * exchange.c
 *		A request and its reply, seen from the session; see exchange.h, and ring.h for the protocol.
 */
#include "exchange.h"

#include "client.h"

#include <string.h>

#define GRACE 20 /* patiences in which a service that is not there must be replaced or settled */

static fa_ring *current;
static _Thread_local int own_slot = -1;

void
fa_service_use(fa_ring *ring)
{
	current = ring;
}

void
fa_exchange_own_slot(int slot)
{
	own_slot = slot;
}

static fa_status
not_running(const fa_ring *ring, fa_error *error)
{
	char reason[200] = "";

	fa_fail(error, FA_DEVICE_LOST, "faceattr-service is not running");
	if (ring == NULL)
		return fa_detail(error, "This process has none.");
	fa_ring_text(reason, sizeof(reason), ring->header->last_error,
				 sizeof(ring->header->last_error));
	return reason[0] != '\0' ? fa_detail(error, "%s", reason) : FA_DEVICE_LOST;
}

static bool
is_ready(const fa_ring *ring)
{
	return atomic_load(&ring->header->state) == FA_SERVICE_READY;
}

static fa_status
claim(fa_exchange *x, const fa_interrupt *interrupt, fa_error *error)
{
	for (;;)
	{
		uint32_t seen = atomic_load(&x->ring->header->freed);

		if (own_slot < 0 ? fa_ring_claim(x->ring, &x->claim)
						 : fa_ring_claim_slot(x->ring, own_slot, &x->claim))
			return FA_OK;
		if (!is_ready(x->ring))
			return not_running(x->ring, error);
		fa_ring_wait_freed(x->ring, seen, FA_RING_PATIENCE);
		FA_TRY(fa_check_interrupt(interrupt, error));
	}
}

fa_status
fa_exchange_begin(fa_exchange *x, fa_request_kind kind, size_t length,
				  const fa_interrupt *interrupt, fa_error *error)
{
	memset(x, 0, sizeof(*x));
	x->ring = current;
	if (length > FA_REQUEST_AREA)
	{
		fa_fail(error, FA_TOO_LARGE, "this is too large for faceattr-service");
		return fa_detail(error, "%zu bytes; it takes %zu.", length, FA_REQUEST_AREA);
	}
	if (x->ring == NULL || !is_ready(x->ring))
		return not_running(x->ring, error);
	FA_TRY(claim(x, interrupt, error));
	if (!is_ready(x->ring)) /* any more: it ends when nobody has a slot */
	{
		fa_ring_release(x->ring, &x->claim);
		return not_running(x->ring, error);
	}
	x->request.kind = kind;
	x->request.length = length;
	return FA_OK;
}

static fa_status
damaged(fa_error *error)
{
	return fa_fail(error, FA_DEVICE_LOST, "the memory of faceattr-service is damaged");
}

void
fa_exchange_give_up(fa_exchange *x)
{
	fa_ring_abandon(x->ring, &x->claim);
}

static fa_status
give_up(fa_exchange *x, fa_status status)
{
	fa_exchange_give_up(x);
	return status;
}

/* Where the slot is another's by now, so are its areas. */
fa_status
fa_exchange_write(fa_exchange *x, const void *bytes, size_t length, const fa_interrupt *interrupt,
				  fa_error *error)
{
	size_t at = x->claim.written;

	if (atomic_load(&x->ring->slot[x->claim.slot].word) != x->claim.word)
		return give_up(x, damaged(error));
	x->claim.written += length; /* or a part of it */
	if (fa_ring_write(x->ring, x->claim.slot, FA_AREA_REQUEST, at, bytes, length, interrupt,
					  error) != FA_OK)
		return give_up(x, error->status);
	return FA_OK;
}

static fa_status
wait_for_reply(fa_exchange *x, const fa_interrupt *interrupt, fa_error *error)
{
	int without_service = 0;
	fa_wait wait;

	while ((wait = fa_ring_wait(x->ring, &x->claim, FA_RING_PATIENCE)) == FA_WAIT_MORE)
	{
		if (fa_check_interrupt(interrupt, error) != FA_OK)
			return give_up(x, FA_INTERRUPTED);
		/* The supervisor settles what is lost; this is for when there is none, or it is late. */
		without_service = is_ready(x->ring) ? 0 : without_service + 1;
		if (without_service == GRACE)
			return give_up(x, fa_fail(error, FA_DEVICE_LOST,
									  "faceattr-service ended while it had the request"));
	}
	return wait == FA_WAIT_DONE ? FA_OK : give_up(x, damaged(error));
}

/* The service's failure, in *error. */
static fa_status
failed(fa_exchange *x, fa_error *error)
{
	const fa_reply *r = &x->reply;

	FA_TRY(fa_exchange_end(x, error));
	memset(error, 0, sizeof(*error));
	error->status = r->status == FA_INTERRUPTED ? FA_DEVICE_LOST : (fa_status) r->status;
	fa_ring_text(error->message, sizeof(error->message), r->message, sizeof(r->message));
	fa_ring_text(error->detail, sizeof(error->detail), r->detail, sizeof(r->detail));
	return error->status;
}

fa_status
fa_exchange_call(fa_exchange *x, const fa_interrupt *interrupt, fa_error *error)
{
	fa_slot *slot = &x->ring->slot[x->claim.slot];

	slot->request = x->request;
	if (!fa_ring_submit(x->ring, &x->claim))
		return give_up(x, damaged(error));
	FA_TRY(wait_for_reply(x, interrupt, error));
	x->reply = slot->reply;
	/* one that it had no memory for may be there in part */
	x->claim.answered = x->reply.status == FA_NO_MEMORY ? FA_REPLY_AREA : x->reply.length;
	if (!fa_word_same_claim(x->reply.claim, x->claim.word))
		return give_up(x, damaged(error));
	if (x->reply.status > FA_INTERNAL || x->reply.length > FA_REPLY_AREA)
		return fa_exchange_nonsense(x, "A length or status is out of range.", error);
	if (x->reply.status != FA_OK && x->reply.message[0] == '\0')
		return fa_exchange_nonsense(x, "It fails without a reason.", error);
	return x->reply.status == FA_OK ? FA_OK : failed(x, error);
}

fa_status
fa_exchange_read(fa_exchange *x, void *to, size_t length, const fa_interrupt *interrupt,
				 fa_error *error)
{
	size_t at = x->taken;

	if (length > x->reply.length - at)
		return fa_exchange_nonsense(x, "The answer is too short.", error);
	x->taken += length;
	if (fa_ring_read(x->ring, x->claim.slot, FA_AREA_REPLY, at, to, length, interrupt, error) !=
		FA_OK)
		return give_up(x, error->status);
	return FA_OK;
}

fa_status
fa_exchange_end(fa_exchange *x, fa_error *error)
{
	return fa_ring_release(x->ring, &x->claim) ? FA_OK : damaged(error);
}

fa_status
fa_exchange_nonsense(fa_exchange *x, const char *what, fa_error *error)
{
	fa_exchange_give_up(x);
	fa_fail(error, FA_DEVICE_LOST, "faceattr-service has answered nonsense");
	return fa_detail(error, "%s", what);
}

bool
fa_all_finite(const float *values, size_t n)
{
	float worst = 0;

	for (size_t i = 0; i < n; i++) /* x - x is NaN unless x is finite, and stays */
		worst += values[i] - values[i];
	return worst == 0;
}
