/*
 * warming.h
 *		Networks that have been compiled for what sessions will ask of them, before they do.
 */
#ifndef FA_WARMING_H
#define FA_WARMING_H

#include "models.h"

#define FA_WARMING_MODELS 8

/* A model that has run single images only. */
typedef struct fa_to_warm
{
	uint8_t key[FA_SERVICE_KEY];
	fa_precision precision;
} fa_to_warm;

/* The runner's. */
typedef struct fa_warming
{
	const fa_engine_interface *interface;
	fa_models *models;
	const fa_ring *ring;
	fa_to_warm more[FA_WARMING_MODELS];
	int count;
	int next_size; /* of a batch, for the first of them; 0: the smallest */
} fa_warming;

/* Each in small steps, between which the interrupt is asked. */
extern fa_status fa_warm_up_detector(fa_warming *warming, fa_precision precision,
									 const fa_interrupt *beat, fa_error *error);
/* One that has been loaded, for single images; larger batches are noted for later. */
extern fa_status fa_warm_up_model(fa_warming *warming, fa_served_model *model,
								  const fa_interrupt *beat, fa_error *error);
extern bool fa_warming_has_more(const fa_warming *warming);
/* The next of what is noted. FA_INTERRUPTED: it is to be gone on with. */
extern fa_status fa_warm_up_more(fa_warming *warming, const fa_interrupt *interrupt,
								 fa_error *error);

#endif
