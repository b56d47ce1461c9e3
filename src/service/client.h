/*
 * client.h
 *		The service seen from a session: the engine `service` behind engine.h, which hands a
 *		batch to faceattr-service and waits, and for faceattr.decode_in = service whole photos.
 *
 * A pipeline of the service is opened by fa_pipeline_open_packed from a block that holds the
 * model's metadata and references in place of weights: fa_service_model makes it. Functions that
 * wait ask `interrupt` every FA_RING_PATIENCE ms.
 *
 * Errors: FA_DEVICE_LOST where the service died or was ended while it had the request, or does
 * not run: which says nothing about the image.
 */
#ifndef FA_CLIENT_H
#define FA_CLIENT_H

#include "ring.h"

extern const fa_engine_interface fa_service_engine;

/* The ring that this process's calls go to; NULL: none. It stays the caller's. */
extern void fa_service_use(fa_ring *ring);

/*
 * The block for fa_pipeline_open_packed, malloc'ed, of a model that the service has in that
 * precision (AUTO: the fastest of its device), and which that is. weights: the file, which the
 * service then loads; NULL: FA_NOT_FOUND where the service does not have it.
 */
extern fa_status fa_service_model(const uint8_t key[FA_SERVICE_KEY], fa_precision precision,
								  const fa_bytes *weights, fa_precision *resolved, void **block,
								  size_t *length, const fa_interrupt *interrupt, fa_error *error);

/* The key of a pipeline that was opened so. */
extern void fa_service_name_model(const fa_pipeline *pipeline, uint8_t key[FA_SERVICE_KEY]);

/*
 * Photos and crops of this pipeline, which is the service's, are from now on read there (true) or
 * here (false).
 */
extern void fa_service_read_there(fa_pipeline *pipeline, bool there);

#endif
