/*
 * loader.c
 *		The threads and the ring of batches between them and the consumer; see
 *		loader.h. One lock guards the ring's counters and the error; the pixels of a
 *		slot belong to the thread that took it, and after the last to the consumer.
 */
#include "loader.h"

#include "../src/vision/photo.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define AHEAD 4 /* batches in the ring */

typedef struct slot
{
	fa_loaded loaded;
	int done; /* images made */
} slot;

struct fa_loader
{
	fa_loader_options options;
	int64_t steps;      /* batches of an epoch */
	int64_t taken;      /* batch that the consumer holds or waits for next */
	bool holding;       /* it holds `taken` */
	int64_t next_batch; /* next image to make */
	int next_image;
	int damaged;
	const char *first_damaged;
	bool stop;
	fa_error error; /* of a thread; status FA_OK: none */
	slot ring[AHEAD];
	pthread_mutex_t lock;
	pthread_cond_t room, ready;
	pthread_t *threads;
	int thread_count;
};

static int
negatives_per_batch(const fa_loader_options *options)
{
	if (options->negatives == NULL || options->negatives->count == 0)
		return 0;
	return (int) (options->negative_share * options->batch + 0.5);
}

static int
negative_count(const fa_loader_options *options)
{
	return options->negatives == NULL ? 0 : options->negatives->count;
}

int64_t
fa_loader_steps(const fa_loader_options *options)
{
	int faces = options->batch - negatives_per_batch(options);

	if (!options->shuffle)
		return ((int64_t) options->faces->count + negative_count(options) + options->batch - 1) /
			   options->batch;
	return faces > 0 ? options->faces->count / faces : 0;
}

static int
batch_count(const fa_loader *loader, int64_t batch)
{
	const fa_loader_options *o = &loader->options;
	int64_t left = (int64_t) o->faces->count + negative_count(o) - batch * o->batch;

	return o->shuffle || left > o->batch ? o->batch : (int) left;
}

/*
 * Which image comes at a place of a batch: a face, or the negative of index
 * - 1 - result. Negatives: most are the detector's finds, which verification will see; the
 * others are background.
 */
static int
choose(const fa_loader *loader, int64_t batch, int place, fa_random *random)
{
	const fa_loader_options *o = &loader->options;
	int faces = o->batch - negatives_per_batch(o);
	int64_t epoch = batch / loader->steps, within = batch % loader->steps;

	if (!o->shuffle)
	{
		int64_t index = batch * o->batch + place;

		return index < o->faces->count ? (int) index : (int) (o->faces->count - 1 - index);
	}
	if (o->pick != NULL)
		return o->pick(o->pick_argument, batch, place);
	if (place < faces)
		return (int) fa_permute(fa_random_seed(o->seed, (uint64_t) epoch, UINT64_MAX).state,
								(uint32_t) o->faces->count, (uint32_t) (within * faces + place));
	if (o->negatives->finds > 0 &&
		(o->negatives->finds == o->negatives->count || fa_random_chance(random, 0.7)))
		return -1 - fa_random_below(random, o->negatives->finds);
	return -1 - (o->negatives->finds +
				 fa_random_below(random, o->negatives->count - o->negatives->finds));
}

/* Decodes a face as small as will do. */
static fa_status
decode_face(const fa_sample *sample, int size, fa_image *image, fa_error *error)
{
	fa_photo photo;
	fa_view view;
	int shorter, eighths;

	FA_TRY(fa_photo_open(&photo, sample->bytes, sample->length, fa_default_options().max_pixels,
						 error));
	shorter = photo.width < photo.height ? photo.width : photo.height;
	eighths = (int) ((8 * (int64_t) size + shorter - 1) / shorter);
	FA_TRY(fa_photo_decode(&photo, eighths > 8 ? 8 : eighths, &view, NULL, error));
	*image = view.image;
	return FA_OK;
}

/* What stands for a face that cannot be decoded: grey, all over. */
static fa_status
grey_image(fa_image *image, fa_error *error)
{
	FA_TRY(fa_image_alloc(image, 1, 1, error));
	memset(image->pixels, 128, 3);
	return FA_OK;
}

static fa_status
copy_image(const fa_image *from, fa_image *to, fa_error *error)
{
	FA_TRY(fa_image_alloc(to, from->width, from->height, error));
	for (int y = 0; y < from->height; y++)
		memcpy(to->pixels + y * to->stride, from->pixels + y * from->stride,
			   (size_t) from->width * 3);
	return FA_OK;
}

static void
note_damaged(fa_loader *loader, const fa_sample *sample)
{
	pthread_mutex_lock(&loader->lock);
	if (loader->damaged++ == 0)
		loader->first_damaged = sample->file;
	pthread_mutex_unlock(&loader->lock);
}

/*
 * The age to learn from a range is one of its years, another in every epoch: on average the
 * target is spread evenly over the range.
 */
static float
draw_age(const fa_label *label, bool middle, fa_random *random)
{
	if (middle || label->age_low == label->age_high)
		return fa_label_age(label);
	return label->age_low +
		   (float) fa_random_below(random, (int) (label->age_high - label->age_low) + 1);
}

/* Draws what happens to an image, and does it if that is the loader's; owns the image. */
static fa_status
finish_image(fa_loader *loader, fa_loaded *loaded, int place, fa_augmented *image, double zoom,
			 const fa_augment_options *augment, fa_random *random, fa_error *error)
{
	const fa_loader_options *o = &loader->options;
	fa_status status =
		fa_augment(image, zoom, o->landmark_template, augment, random, o->size, error);

	if (status == FA_OK && o->drawn_only)
	{
		fa_image_free(&loaded->images[place].source); /* of the batch that was here before */
		loaded->images[place] = *image;
		return FA_OK;
	}
	if (status == FA_OK)
		status = fa_augmentation_apply(
			image, o->size, loaded->pixels + (size_t) place * o->size * o->size * 3, error);
	fa_image_free(&image->source);
	return status;
}

static fa_status
make_image(fa_loader *loader, int64_t batch, int place, fa_error *error)
{
	const fa_loader_options *o = &loader->options;
	fa_loaded *loaded = &loader->ring[batch % AHEAD].loaded;
	fa_random random = fa_random_seed(o->seed, (uint64_t) batch, (uint64_t) place);
	int chosen = choose(loader, batch, place, &random);
	fa_augment_options augment = o->augment;
	fa_augmented image;
	double zoom = 1;
	fa_status status;

	for (int h = 0; h < FA_HEADS; h++)
		loaded->targets[h][place] = FA_NO_LABEL;
	if (chosen >= 0)
	{
		const fa_sample *sample = &o->faces->samples[chosen];

		status = decode_face(sample, (int) ceil(sample->zoom * o->size), &image.source, error);
		if (status != FA_OK && status != FA_NO_MEMORY)
		{
			note_damaged(loader, sample);
			FA_TRY(grey_image(&image.source, error));
			return finish_image(loader, loaded, place, &image, 1, &fa_augment_none, &random, error);
		}
		loaded->targets[FA_HEAD_AGE][place] = draw_age(&sample->label, !o->shuffle, &random);
		loaded->targets[FA_HEAD_GENDER][place] = (float) sample->label.gender;
		loaded->targets[FA_HEAD_RACE][place] = (float) sample->label.race;
		zoom = sample->zoom;
		loaded->targets[FA_HEAD_FACE][place] = 1;
	}
	else
	{
		status = copy_image(&o->negatives->crops[-1 - chosen], &image.source, error);
		loaded->targets[FA_HEAD_FACE][place] = 0;
		zoom = FA_NEGATIVE_ZOOM;
		/* animals wear no masks: what is worn speaks for a face */
		augment.street = augment.mask = augment.glasses = 0;
	}
	if (status != FA_OK)
		return status;
	return finish_image(loader, loaded, place, &image, zoom, &augment, &random, error);
}

static void *
work(void *argument)
{
	fa_loader *loader = argument;

	pthread_mutex_lock(&loader->lock);
	for (;;)
	{
		int64_t batch;
		int place;
		fa_error error;
		fa_status status;

		while (!loader->stop && loader->next_batch >= loader->taken + AHEAD)
			pthread_cond_wait(&loader->room, &loader->lock);
		if (loader->stop || (!loader->options.shuffle && loader->next_batch >= loader->steps))
			break;
		batch = loader->next_batch;
		place = loader->next_image++;
		if (place == 0)
		{
			loader->ring[batch % AHEAD].done = 0;
			loader->ring[batch % AHEAD].loaded.count = batch_count(loader, batch);
			loader->ring[batch % AHEAD].loaded.size = loader->options.size;
		}
		if (loader->next_image == loader->ring[batch % AHEAD].loaded.count)
		{
			loader->next_batch++;
			loader->next_image = 0;
		}
		pthread_mutex_unlock(&loader->lock);
		status = make_image(loader, batch, place, &error);
		pthread_mutex_lock(&loader->lock);
		if (status != FA_OK && loader->error.status == FA_OK)
			loader->error = error;
		loader->ring[batch % AHEAD].done++;
		pthread_cond_signal(&loader->ready);
	}
	pthread_mutex_unlock(&loader->lock);
	return NULL;
}

/* Threads leave signals to the main thread. */
static fa_status
start_threads(fa_loader *loader, fa_error *error)
{
	sigset_t all, before;
	int workers = loader->options.workers > 0 ? loader->options.workers : 1;

	loader->threads = calloc((size_t) workers, sizeof(pthread_t));
	if (loader->threads == NULL)
		return fa_no_memory(error, (size_t) workers * sizeof(pthread_t));
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (loader->thread_count < workers &&
		   pthread_create(&loader->threads[loader->thread_count], NULL, work, loader) == 0)
		loader->thread_count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (loader->thread_count == 0)
		return fa_fail(error, FA_INTERNAL, "no thread could be started");
	return FA_OK;
}

fa_status
fa_loader_open(const fa_loader_options *options, int64_t first, fa_loader **loader, fa_error *error)
{
	size_t pixels;
	fa_loader *opened;
	fa_status status = FA_OK;

	*loader = NULL;
	if (options->batch < 1 || options->size < 1 || fa_loader_steps(options) < 1)
		return fa_fail(error, FA_INVALID, "there are too few images for a batch of %d",
					   options->batch);
	if (!fa_multiply((size_t) options->batch * 3, (size_t) options->size * options->size, &pixels))
		return fa_fail(error, FA_TOO_LARGE, "the batch is too large");
	opened = calloc(1, sizeof(*opened));
	if (opened == NULL)
		return fa_no_memory(error, sizeof(*opened));
	opened->options = *options;
	opened->steps = fa_loader_steps(options);
	opened->taken = opened->next_batch = first;
	pthread_mutex_init(&opened->lock, NULL);
	pthread_cond_init(&opened->room, NULL);
	pthread_cond_init(&opened->ready, NULL);
	for (int i = 0; i < AHEAD && status == FA_OK; i++)
	{
		fa_loaded *loaded = &opened->ring[i].loaded;

		if (options->drawn_only)
			loaded->images = calloc((size_t) options->batch, sizeof(fa_augmented));
		else
			loaded->pixels = malloc(pixels);
		loaded->targets[0] = malloc((size_t) FA_HEADS * options->batch * sizeof(float));
		if ((loaded->pixels == NULL && loaded->images == NULL) || loaded->targets[0] == NULL)
			status = fa_no_memory(error, pixels);
		for (int h = 1; h < FA_HEADS && status == FA_OK; h++)
			loaded->targets[h] = loaded->targets[0] + (size_t) h * options->batch;
	}
	if (status == FA_OK)
		status = start_threads(opened, error);
	if (status != FA_OK)
	{
		fa_loader_close(opened);
		return status;
	}
	*loader = opened;
	return FA_OK;
}

fa_status
fa_loader_next(fa_loader *loader, const fa_loaded **loaded, fa_error *error)
{
	slot *slot;
	fa_status status;

	*loaded = NULL;
	pthread_mutex_lock(&loader->lock);
	if (loader->holding)
	{
		loader->holding = false;
		loader->ring[loader->taken % AHEAD].done = 0;
		loader->taken++;
		pthread_cond_broadcast(&loader->room);
	}
	if (!loader->options.shuffle && loader->taken >= loader->steps)
	{
		pthread_mutex_unlock(&loader->lock);
		return FA_OK;
	}
	slot = &loader->ring[loader->taken % AHEAD];
	while (loader->error.status == FA_OK && slot->done < batch_count(loader, loader->taken))
		pthread_cond_wait(&loader->ready, &loader->lock);
	status = loader->error.status;
	if (status != FA_OK)
		*error = loader->error;
	else
	{
		loader->holding = true;
		*loaded = &slot->loaded;
	}
	pthread_mutex_unlock(&loader->lock);
	return status;
}

int
fa_loader_damaged(fa_loader *loader, const char **first)
{
	int damaged;

	pthread_mutex_lock(&loader->lock);
	damaged = loader->damaged;
	*first = loader->first_damaged;
	pthread_mutex_unlock(&loader->lock);
	return damaged;
}

void
fa_loader_close(fa_loader *loader)
{
	if (loader == NULL)
		return;
	pthread_mutex_lock(&loader->lock);
	loader->stop = true;
	pthread_cond_broadcast(&loader->room);
	pthread_mutex_unlock(&loader->lock);
	for (int i = 0; i < loader->thread_count; i++)
		pthread_join(loader->threads[i], NULL);
	for (int i = 0; i < AHEAD; i++)
	{
		fa_loaded *loaded = &loader->ring[i].loaded;

		for (int k = 0; k < loader->options.batch && loaded->images != NULL; k++)
			fa_image_free(&loaded->images[k].source);
		free(loaded->images);
		free(loaded->pixels);
		free(loaded->targets[0]);
	}
	pthread_cond_destroy(&loader->ready);
	pthread_cond_destroy(&loader->room);
	pthread_mutex_destroy(&loader->lock);
	free(loader->threads);
	free(loader);
}
