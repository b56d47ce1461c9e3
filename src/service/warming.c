/*
 * warming.c
 *		Networks that have been compiled for what sessions will ask of them; see warming.h.
 *
 * An engine compiles a network for a size of batch when it first meets it. On a GPU that takes
 * seconds, where plans have to be tried out first, and everybody waits. So the detector has run
 * before the service is ready, and a model when it has been loaded, each with one black image: what
 * fails, fails there. When there is nothing to do, batches of 2, 4 and 8 of the model follow, which
 * the faces of one photo make. Larger ones are of work in bulk, to which a few seconds matter
 * little. That costs the device memory, so it is not done where memory is limited. It is left the
 * moment there is work, and gone on with later: what has been tried out is known by then.
 */
#include "warming.h"

#include <stdlib.h>
#include <string.h>

#define USUAL_SIDE 640 /* of a photo at detection */
#define SMALLEST 2
#define LARGEST 8

/* Runs a model on black images, whose outputs nobody wants. */
static fa_status
warm_up(const fa_warming *w, fa_model *model, int count, int height, int width,
		const fa_interrupt *interrupt, fa_error *error)
{
	size_t pixels = (size_t) count * height * width;
	uint8_t *black = calloc(pixels, 3);
	fa_batch batch = {count, height, width, black};
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	fa_status status;

	if (black == NULL)
		return fa_no_memory(error, pixels * 3);
	status = w->interface->run(model, &batch, outputs, interrupt, error);
	free(black);
	return status;
}

fa_status
fa_warm_up_detector(fa_warming *w, fa_precision precision, const fa_interrupt *beat,
					fa_error *error)
{
	fa_model *detector;

	FA_TRY(fa_models_detector(w->models, precision, &detector, error));
	return warm_up(w, detector, 1, USUAL_SIDE, USUAL_SIDE, beat, error);
}

fa_status
fa_warm_up_model(fa_warming *w, fa_served_model *model, const fa_interrupt *beat, fa_error *error)
{
	const fa_attribute_model *a = &model->attributes;
	fa_status status;

	do
		status = warm_up(w, a->model, 1, a->height, a->width, beat, error);
	while (status == FA_NO_MEMORY && fa_models_make_room(w->models, model));
	/* a CPU compiles in no time */
	if (status == FA_OK && w->interface->run_stream != NULL && w->count < FA_WARMING_MODELS)
	{
		fa_to_warm *more = &w->more[w->count++];

		memcpy(more->key, model->key, FA_SERVICE_KEY);
		more->precision = model->precision;
	}
	return status;
}

bool
fa_warming_has_more(const fa_warming *w)
{
	return w->count > 0 && atomic_load(&w->ring->header->device_memory) == 0;
}

/* A model that this fails for, or that has left, is let be. */
fa_status
fa_warm_up_more(fa_warming *w, const fa_interrupt *interrupt, fa_error *error)
{
	fa_to_warm *first = &w->more[0];
	int size = w->next_size > 0 ? w->next_size : SMALLEST;
	fa_served_model *model = fa_models_on_device(w->models, first->key, first->precision);
	fa_status status = FA_OK;

	if (model != NULL)
		status = warm_up(w, model->attributes.model, size, model->attributes.height,
						 model->attributes.width, interrupt, error);
	if (status == FA_INTERRUPTED)
		return status;
	w->next_size = 2 * size;
	if (model == NULL || status != FA_OK || w->next_size > LARGEST)
	{
		w->next_size = 0;
		memmove(first, first + 1, (size_t) --w->count * sizeof(*first));
	}
	return status;
}
