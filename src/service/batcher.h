/*
 * batcher.h
 *		From requests of many sessions to batches of one network, and back.
 */
#ifndef FA_BATCHER_H
#define FA_BATCHER_H

#include "ring.h"

typedef struct fa_batcher fa_batcher;

/* directory: the detector's. */
extern fa_status fa_batcher_open(const fa_engine_interface *interface, fa_engine *engine,
								 const char *directory, fa_ring *ring, fa_batcher **batcher,
								 fa_error *error);
/* Runs the detector once, so that the first request does not wait for what that takes. */
extern fa_status fa_batcher_warm_up(fa_batcher *batcher, fa_precision fastest, fa_error *error);
/* One that has not run; the engine stays. */
extern void fa_batcher_close(fa_batcher *batcher);
/* For ever, in the thread that opened the engine. */
extern _Noreturn void fa_batcher_run(fa_batcher *batcher);
/* Takes over a RUNNING slot of kind RUN or LOAD; request: a copy of the slot's. */
extern void fa_batcher_add(fa_batcher *batcher, int slot, const fa_request *request);

/* Ends a slot with an error, as anybody in the service may. */
extern void fa_service_refuse(fa_ring *ring, int slot, const fa_error *error);
/* The service cannot go on: says why in the header and ends the process. */
extern _Noreturn void fa_service_die(fa_ring *ring, const fa_error *error);

#endif
