/*
 * photos.h
 *		Photos and crops that are read in the service (faceattr.decode_in).
 */
#ifndef FA_PHOTOS_H
#define FA_PHOTOS_H

#include "ring.h"

typedef struct fa_photos fa_photos;

/* Starts so many threads, at most FA_RING_WORKERS. */
extern fa_status fa_photos_start(fa_ring *ring, int threads, fa_photos **photos, fa_error *error);
/* Takes over a RUNNING slot of kind FIND, CLASSIFY or ANNOTATE; request: a copy of the slot's. */
extern void fa_photos_add(fa_photos *photos, int slot, const fa_request *request);

#endif
