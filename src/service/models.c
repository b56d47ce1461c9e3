/*
 * models.c
 *		The models that the service has; see models.h.
 */
#include "models.h"

#include "../nn/networks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRECISIONS (FA_PRECISION_TF32 + 1)
#define IN_USE                                                                                     \
	60000000 /* microseconds: a session may still count on a model that it used so lately */

struct fa_models
{
	const fa_engine_interface *interface;
	fa_engine *engine;
	fa_ring *ring;
	fa_weights detector_weights;
	fa_net detector_net;
	fa_model *detectors[PRECISIONS];
	fa_served_model models[FA_RING_MODELS];
};

static bool
has_own_memory(const fa_models *m)
{
	return strcmp(m->interface->name, "cpu") != 0;
}

fa_status
fa_models_open(const fa_engine_interface *interface, fa_engine *engine, const char *directory,
			   fa_ring *ring, fa_models **models, fa_error *error)
{
	fa_models *opened = calloc(1, sizeof(fa_models));
	char path[4096];
	fa_status status;

	*models = NULL;
	if (opened == NULL)
		return fa_no_memory(error, sizeof(fa_models));
	opened->interface = interface;
	opened->engine = engine;
	opened->ring = ring;
	snprintf(path, sizeof(path), "%s/yunet_n.safetensors", directory);
	status = fa_weights_read(&opened->detector_weights, path, error);
	if (status == FA_OK)
		status = fa_net_yunet_n(&opened->detector_net, error);
	if (status == FA_OK)
		status = fa_weights_match(&opened->detector_weights, &opened->detector_net, true, error);
	if (status != FA_OK)
	{
		fa_models_close(opened);
		return status;
	}
	*models = opened;
	return FA_OK;
}

static void
leave_device(fa_models *m, fa_served_model *model)
{
	if (model->attributes.model != NULL)
		m->interface->unload(model->attributes.model);
	model->attributes.model = NULL;
}

static void
forget(fa_models *m, fa_served_model *model)
{
	leave_device(m, model);
	fa_attribute_model_close(m->interface, &model->attributes);
	free(model->file);
	memset(model, 0, sizeof(*model));
}

void
fa_models_close(fa_models *m)
{
	if (m == NULL)
		return;
	for (int i = 0; i < FA_RING_MODELS; i++)
		if (m->models[i].used)
			forget(m, &m->models[i]);
	for (int i = 0; i < PRECISIONS; i++)
		if (m->detectors[i] != NULL)
			m->interface->unload(m->detectors[i]);
	fa_net_free(&m->detector_net);
	fa_weights_free(&m->detector_weights);
	free(m);
}

static size_t
memory_of(const fa_models *m, const fa_served_model *model)
{
	return model->attributes.model == NULL ? 0 : m->interface->memory(model->attributes.model);
}

/* Bytes of the host's: files, or on a CPU the models themselves. */
static uint64_t
host_memory(const fa_models *m)
{
	uint64_t bytes = 0;

	for (int i = 0; i < FA_RING_MODELS; i++)
		bytes += has_own_memory(m) ? m->models[i].file_length : memory_of(m, &m->models[i]);
	return bytes;
}

/* The least recently used, of those on the device or of all; NULL: none but `but`. */
static fa_served_model *
oldest(fa_models *m, const fa_served_model *but, bool on_device)
{
	fa_served_model *found = NULL;

	for (int i = 0; i < FA_RING_MODELS; i++)
	{
		fa_served_model *model = &m->models[i];

		/* cppcheck-suppress nullPointerRedundantCheck ; no model is at NULL */
		if (model->used && model != but && (!on_device || model->attributes.model != NULL) &&
			(found == NULL || model->last_use < found->last_use))
			found = model;
	}
	return found;
}

bool
fa_models_make_room(fa_models *m, const fa_served_model *but)
{
	fa_served_model *victim = has_own_memory(m) ? oldest(m, but, true) : NULL;

	if (victim == NULL)
		return false;
	leave_device(m, victim);
	return true;
}

/*
 * The device's limit may be another since the last time. The engine keeps to it by itself, and
 * needs help only where models would have to leave.
 */
static void
follow_device_limit(fa_models *m, const fa_served_model *but)
{
	size_t limit = atomic_load(&m->ring->header->device_memory);

	if (m->interface->set_memory_limit == NULL)
		return;
	while (!m->interface->set_memory_limit(m->engine, limit))
		if (!fa_models_make_room(m, but))
			break;
}

/* Within the host's limit, as far as others than `but` can be spared. */
static void
keep_host_limit(fa_models *m, const fa_served_model *but)
{
	uint64_t limit = atomic_load(&m->ring->header->model_memory);
	fa_served_model *victim;

	while (host_memory(m) > limit && (victim = oldest(m, but, false)) != NULL &&
		   victim->last_use < fa_ring_now() - IN_USE)
		forget(m, victim);
}

static fa_status
put_on_device(fa_models *m, fa_served_model *model, const fa_bytes *file, fa_error *error)
{
	fa_status status;

	for (;;)
	{
		fa_attribute_model_close(m->interface, &model->attributes);
		status = fa_attribute_model_open_bytes(m->interface, m->engine, model->precision, file,
											   &model->attributes, error);
		if (status != FA_NO_MEMORY || !fa_models_make_room(m, model))
			return status;
	}
}

static fa_served_model *
find(fa_models *m, const uint8_t *key, fa_precision precision)
{
	for (int i = 0; i < FA_RING_MODELS; i++)
		if (m->models[i].used && m->models[i].precision == precision &&
			memcmp(m->models[i].key, key, FA_SERVICE_KEY) == 0)
			return &m->models[i];
	return NULL;
}

static fa_status
load(fa_models *m, const uint8_t *key, fa_precision precision, const fa_bytes *file,
	 fa_served_model **model, fa_error *error)
{
	fa_served_model *place = NULL;
	fa_status status;

	for (int i = 0; i < FA_RING_MODELS && place == NULL; i++)
		if (!m->models[i].used)
			place = &m->models[i];
	if (place == NULL)
	{
		place = oldest(m, NULL, false);
		forget(m, place);
	}
	place->used = true;
	memcpy(place->key, key, FA_SERVICE_KEY);
	place->precision = precision;
	if (has_own_memory(m))
	{
		place->file = malloc(file->length);
		if (place->file == NULL)
		{
			forget(m, place);
			return fa_no_memory(error, file->length);
		}
		memcpy(place->file, file->bytes, file->length);
		place->file_length = file->length;
	}
	status = put_on_device(
		m, place, place->file == NULL ? file : &(fa_bytes){place->file, place->file_length}, error);
	if (status != FA_OK)
		forget(m, place);
	else
		*model = place;
	return status;
}

fa_status
fa_models_get(fa_models *m, const uint8_t key[FA_SERVICE_KEY], fa_precision precision,
			  const fa_bytes *file, fa_served_model **model, fa_error *error)
{
	*model = find(m, key, precision);
	if (*model == NULL && file == NULL)
		return fa_fail(error, FA_NOT_FOUND, "faceattr-service does not have the model");
	follow_device_limit(m, *model);
	if (*model == NULL)
		FA_TRY(load(m, key, precision, file, model, error));
	else if ((*model)->attributes.model == NULL)
		FA_TRY(put_on_device(m, *model, &(fa_bytes){(*model)->file, (*model)->file_length}, error));
	(*model)->last_use = fa_ring_now();
	keep_host_limit(m, *model);
	fa_models_show(m);
	return FA_OK;
}

fa_served_model *
fa_models_on_device(fa_models *m, const uint8_t key[FA_SERVICE_KEY], fa_precision precision)
{
	fa_served_model *model = find(m, key, precision);

	return model == NULL || model->attributes.model == NULL ? NULL : model;
}

fa_status
fa_models_detector(fa_models *m, fa_precision precision, fa_model **model, fa_error *error)
{
	fa_status status = FA_OK;

	follow_device_limit(m, NULL);
	if (m->detectors[precision] == NULL)
		do
			status = m->interface->load(m->engine, &m->detector_net, &m->detector_weights,
										precision, &m->detectors[precision], error);
		while (status == FA_NO_MEMORY && fa_models_make_room(m, NULL));
	*model = m->detectors[precision];
	return status;
}

const fa_net *
fa_models_detector_net(const fa_models *models)
{
	return &models->detector_net;
}

void
fa_models_show(fa_models *m)
{
	for (int i = 0; i < FA_RING_MODELS; i++)
	{
		const fa_served_model *model = &m->models[i];
		fa_shown_model *shown = &m->ring->header->models[i];

		memcpy(shown->key, model->key, FA_SERVICE_KEY);
		shown->precision = model->precision;
		shown->memory = memory_of(m, model);
		shown->images = model->images;
		shown->last_use = model->last_use;
		shown->resident = !model->used ? 0 : model->attributes.model == NULL ? 1 : 2;
	}
}
