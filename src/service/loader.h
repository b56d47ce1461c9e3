/*
 * loader.h
 *		Requests of kind LOAD: whether the service has a model, and its file where it has not.
 */
#ifndef FA_LOADER_H
#define FA_LOADER_H

#include "models.h"

/*
 * Answers a request that has been taken, but for fa_ring_finish(); *fresh: the model that had to be
 * loaded for it, or as it was. Belongs to the thread that runs networks.
 */
extern fa_status fa_load(const fa_ring *ring, fa_models *models, int slot,
						 const fa_request *request, const fa_interrupt *beat, fa_reply *reply,
						 fa_served_model **fresh, fa_error *error);

#endif
