/*
 * models.h
 *		The models that the service has: by key and precision, least recently used leaving. All of
 *		it belongs to the thread that runs networks (batcher.c); only the rows that it shows in the
 *		ring's header are read by others.
 *
 * On a GPU a model may leave the device and stay known: its file is kept in the host's memory and
 * goes up again when it is asked for. On a CPU it is known as long as it is loaded.
 */
#ifndef FA_SERVICE_MODELS_H
#define FA_SERVICE_MODELS_H

#include "../face/attributes.h"
#include "ring.h"

typedef struct fa_models fa_models;

typedef struct fa_served_model
{
	bool used;
	uint8_t key[FA_SERVICE_KEY];
	fa_precision precision;
	void *file; /* NULL: on a CPU */
	size_t file_length;
	fa_attribute_model attributes; /* .model NULL: not on the device */
	int64_t last_use;
	uint64_t images;
} fa_served_model;

/* Reads the detector's weights from the directory. Engine and ring outlive it. */
extern fa_status fa_models_open(const fa_engine_interface *interface, fa_engine *engine,
								const char *directory, fa_ring *ring, fa_models **models,
								fa_error *error);
extern void fa_models_close(fa_models *models);

/* The model on the device; NULL file: FA_NOT_FOUND where it is not known. */
extern fa_status fa_models_get(fa_models *models, const uint8_t key[FA_SERVICE_KEY],
							   fa_precision precision, const fa_bytes *file,
							   fa_served_model **model, fa_error *error);
/* The model if it is on the device, or NULL; not a use of it. */
extern fa_served_model *fa_models_on_device(fa_models *models, const uint8_t key[FA_SERVICE_KEY],
											fa_precision precision);
/* The detector's network on the device; its net for the outputs' shapes. */
extern fa_status fa_models_detector(fa_models *models, fa_precision precision, fa_model **model,
									fa_error *error);
extern const fa_net *fa_models_detector_net(const fa_models *models);
/*
 * Takes the least recently used off the device, but not the one that is about to run; false: there
 * is no other.
 */
extern bool fa_models_make_room(fa_models *models, const fa_served_model *but);
/* Shows memory and use in the header. */
extern void fa_models_show(fa_models *models);

#endif
