/*
 * loader.c
 *		Threads that decode and augment ahead of the training.
 *
 * A ring of slots, batch k in slot k mod slots. Under the one mutex a worker
 * takes the next number, waits until the slot's previous batch has been consumed,
 * fills the slot without the lock, and marks it ready. The consumer takes batches
 * in order and says when it is done with one. `stop` ends workers
 * wherever they wait. An error is kept in its slot and meets the consumer in turn.
 */
#include "loader.h"

#include "../src/vision/photo.h"
#include "augment.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot
{
	int64_t number; /* of the batch in it, when ready */
	bool ready;
	fa_training_batch batch;
	fa_error error;
} slot;

struct fa_loader
{
	fa_loader_options options;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	pthread_t *threads;
	int thread_count;
	slot *slots;
	int slot_count;
	int64_t next_made, next_taken; /* batch numbers */
	bool stop;
};

int64_t
fa_loader_epoch(const fa_loader_options *options)
{
	return options->faces->count / (options->batch - options->negatives_per_batch);
}

fa_status
fa_decode_sample(const fa_sample *sample, fa_image *image, fa_error *error)
{
	fa_photo photo;
	fa_view view;

	FA_TRY(fa_photo_open(&photo, sample->bytes, sample->length, (int64_t) 100 << 20, error));
	FA_TRY(fa_photo_decode(&photo, 8, &view, NULL, error));
	*image = view.image;
	return FA_OK;
}

/* A permutation of the faces by Fisher and Yates. */
static void
permute(int *order, int count, uint64_t seed, int64_t epoch)
{
	fa_random random = fa_random_at(seed ^ 0x65706f6368u, (uint64_t) epoch);

	for (int i = 0; i < count; i++)
		order[i] = i;
	for (int i = count - 1; i > 0; i--)
	{
		int k = fa_random_below(&random, i + 1), swap = order[i];

		order[i] = order[k];
		order[k] = swap;
	}
}

/* One sample into its place. A damaged image leaves grey and no labels. */
static fa_status
make_sample(const fa_loader_options *o, const fa_sample *sample, bool negative, int64_t position,
			uint8_t *pixels, fa_labels *labels, int *bad, fa_error *error)
{
	fa_random random = fa_random_at(o->seed, (uint64_t) position);
	fa_image crop = {o->size, o->size, 3 * (size_t) o->size, pixels}, chip;
	fa_status status = fa_decode_sample(sample, &chip, error);

	*labels = (fa_labels){FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL};
	if (status == FA_OK)
	{
		status = fa_augment(&chip, o->strength, !negative, &random, &crop, error);
		fa_image_free(&chip);
		*labels = negative ? (fa_labels){FA_NO_LABEL, FA_NO_LABEL, FA_NO_LABEL, 0}
						   : (fa_labels){sample->age, sample->gender, sample->race, 1};
		return status;
	}
	if (status == FA_NO_MEMORY)
		return status;
	memset(pixels, 128, 3 * (size_t) o->size * o->size);
	(*bad)++;
	return FA_OK;
}

static fa_status
make_batch(const fa_loader_options *o, int64_t number, int *order, int64_t *ordered,
		   fa_training_batch *batch, fa_error *error)
{
	int64_t per_epoch = fa_loader_epoch(o), epoch = number / per_epoch;
	int faces = o->batch - o->negatives_per_batch;

	if (*ordered != epoch)
	{
		permute(order, o->faces->count, o->seed, epoch);
		*ordered = epoch;
	}
	batch->bad = 0;
	for (int i = 0; i < o->batch; i++)
	{
		int64_t position = number * o->batch + i;
		bool negative = i >= faces;
		fa_random random = fa_random_at(o->seed ^ 0x6e6567u, (uint64_t) position);
		const fa_sample *sample =
			negative ? &o->negatives->samples[fa_random_below(&random, o->negatives->count)]
					 : &o->faces->samples[order[number % per_epoch * faces + i]];

		FA_TRY(make_sample(o, sample, negative, position,
						   batch->pixels + (size_t) i * o->size * o->size * 3, &batch->labels[i],
						   &batch->bad, error));
	}
	return FA_OK;
}

static void *
work(void *argument)
{
	fa_loader *loader = argument;
	int *order = malloc(loader->options.faces->count * sizeof(int));
	int64_t ordered = -1;

	pthread_mutex_lock(&loader->mutex);
	while (!loader->stop)
	{
		int64_t number = loader->next_made;
		slot *s = &loader->slots[number % loader->slot_count];

		if (number >= loader->next_taken + loader->slot_count)
		{
			pthread_cond_wait(&loader->changed, &loader->mutex);
			continue;
		}
		loader->next_made++;
		s->number = number;
		s->ready = false;
		s->error.status = FA_OK;
		pthread_mutex_unlock(&loader->mutex);
		if (order == NULL)
			fa_no_memory(&s->error, loader->options.faces->count * sizeof(int));
		else
			make_batch(&loader->options, number, order, &ordered, &s->batch, &s->error);
		pthread_mutex_lock(&loader->mutex);
		s->ready = true;
		pthread_cond_broadcast(&loader->changed);
	}
	pthread_mutex_unlock(&loader->mutex);
	free(order);
	return NULL;
}

void
fa_loader_close(fa_loader *loader)
{
	if (loader == NULL)
		return;
	pthread_mutex_lock(&loader->mutex);
	loader->stop = true;
	pthread_cond_broadcast(&loader->changed);
	pthread_mutex_unlock(&loader->mutex);
	for (int i = 0; i < loader->thread_count; i++)
		pthread_join(loader->threads[i], NULL);
	for (int i = 0; i < loader->slot_count && loader->slots != NULL; i++)
	{
		free(loader->slots[i].batch.pixels);
		free(loader->slots[i].batch.labels);
	}
	pthread_mutex_destroy(&loader->mutex);
	pthread_cond_destroy(&loader->changed);
	free(loader->slots);
	free(loader->threads);
	free(loader);
}

fa_status
fa_loader_open(const fa_loader_options *options, int64_t first, fa_loader **loader, fa_error *error)
{
	size_t pixels = (size_t) options->batch * options->size * options->size * 3;
	fa_loader *l;

	*loader = NULL;
	if (fa_loader_epoch(options) < 1)
		return fa_fail(error, FA_INVALID, "there are fewer images than a batch takes");
	l = calloc(1, sizeof(fa_loader));
	if (l == NULL)
		return fa_no_memory(error, sizeof(fa_loader));
	l->options = *options;
	l->next_made = l->next_taken = first;
	pthread_mutex_init(&l->mutex, NULL);
	pthread_cond_init(&l->changed, NULL);
	l->slot_count = 2 * options->workers + 1;
	l->slots = calloc(l->slot_count, sizeof(slot));
	l->threads = calloc(options->workers, sizeof(pthread_t));
	error->status = FA_OK;
	if (l->slots == NULL || l->threads == NULL)
		fa_no_memory(error, l->slot_count * sizeof(slot));
	for (int i = 0; i < l->slot_count && error->status == FA_OK; i++)
	{
		l->slots[i].batch.pixels = malloc(pixels);
		l->slots[i].batch.labels = malloc(options->batch * sizeof(fa_labels));
		if (l->slots[i].batch.pixels == NULL || l->slots[i].batch.labels == NULL)
			fa_no_memory(error, pixels);
	}
	for (int i = 0; i < options->workers && error->status == FA_OK; i++)
	{
		if (pthread_create(&l->threads[i], NULL, work, l) != 0)
			fa_fail(error, FA_NO_MEMORY, "could not start a thread");
		else
			l->thread_count++;
	}
	if (error->status != FA_OK)
	{
		fa_loader_close(l);
		return error->status;
	}
	*loader = l;
	return FA_OK;
}

fa_status
fa_loader_next(fa_loader *loader, const fa_training_batch **batch, fa_error *error)
{
	int64_t number;
	slot *s;

	pthread_mutex_lock(&loader->mutex);
	number = loader->next_taken;
	s = &loader->slots[number % loader->slot_count];
	while (!(s->ready && s->number == number))
		pthread_cond_wait(&loader->changed, &loader->mutex);
	pthread_mutex_unlock(&loader->mutex);
	if (s->error.status != FA_OK)
	{
		*error = s->error;
		return error->status;
	}
	*batch = &s->batch;
	return FA_OK;
}

void
fa_loader_done(fa_loader *loader)
{
	pthread_mutex_lock(&loader->mutex);
	loader->slots[loader->next_taken % loader->slot_count].ready = false;
	loader->next_taken++;
	pthread_cond_broadcast(&loader->changed);
	pthread_mutex_unlock(&loader->mutex);
}
