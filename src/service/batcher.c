/*
 * batcher.c
 *		Requests of all sessions for the same network, precision and image size become one batch.
 *
 * Two threads meet here. The intake (main.c) calls fa_batcher_add, which copies a request's pixels
 * to the end of an open batch: while the engine runs one batch, the next is filled. The runner,
 * which alone touches engine and models, takes the open batch whose oldest request is the oldest,
 * runs it, and puts every request's share of the outputs into its reply. One mutex guards the list
 * of open batches and the queue of models to load.
 *
 * When does a batch start? At once when it is full, or when nobody else is to be expected: a lone
 * session never waits. Otherwise when it has as many requests as the batch before it, of the
 * same network, or when its oldest has waited batch_delay. So sessions that all wait for the
 * same batch come together in the next one, too.
 *
 * Where the engine runs streams of batches, the next batch of the same kind goes up while the
 * device works on the one before: the runner is asked for it meanwhile, and answers the one before
 * when it is done. Anything else that waits ends the stream. Loading and making room happen
 * between streams, when nothing is at work.
 *
 * When nothing is to be done the runner makes models ready for what is to come (warming.c), and
 * leaves that the moment there is work.
 */
#include "batcher.h"

#include "loader.h"
#include "models.h"
#include "warming.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUESTS 256               /* of a batch */
#define MAX_BYTES ((size_t) 64 << 20)  /* of a batch of more than one request */
#define KEPT_BYTES ((size_t) 16 << 20) /* of a buffer between batches */
#define SPARE_BYTES (4 * KEPT_BYTES)   /* of all buffers of those that are not in use */
#define LOOK_BACK 20                   /* batch delays after which nobody is expected */
#define LOOK_AGAIN 50       /* microseconds between questions whether the device is busy */
#define LONGEST_STREAM 1000 /* batches; then the limit of memory is looked at again */
#define LARGEST_SIDE 16384  /* of an image */
#define MAX_COUNT 65536     /* images of a request */

/* What requests must have in common to share a batch. */
typedef struct batch_key
{
	uint8_t model[FA_SERVICE_KEY];
	uint32_t precision, part, height, width;
} batch_key;

typedef struct share
{
	int slot;
	int count; /* images */
	uint32_t wanted;
	int64_t submitted;
} share;

typedef struct batch
{
	struct batch *next;
	batch_key key;
	share shares[MAX_REQUESTS];
	int requests, count; /* count: images of all */
	uint8_t *pixels;
	size_t capacity;
	int64_t since; /* when the oldest was added */
	/* the runner's */
	int64_t started;
	float *outputs[FA_MAX_OUTPUTS]; /* NULL: the network has no such output */
	char *memory;                   /* of them all */
	size_t memory_size;
} batch;

/* How many requests the latest batch of a part had: what is to be expected of the next. */
typedef struct lately
{
	int requests;
	int64_t when;
} lately;

typedef struct to_load
{
	int slot;
	fa_request request;
} to_load;

struct fa_batcher
{
	fa_ring *ring;
	const fa_engine_interface *interface;
	fa_models *models; /* the runner's */
	pthread_mutex_t lock;
	pthread_cond_t added;
	batch *open, *spare; /* open: oldest first */
	size_t spare_bytes;  /* of the spare ones' buffers */
	to_load loads[FA_RING_MAX_SLOTS + FA_RING_WORKERS];
	int load_count;
	lately lately[2];
	/* the runner's */
	fa_shape *shapes;
	fa_interrupt beat;
	fa_warming warming;
};

/* --- Ends --------------------------------------------------------------------------- */

void
fa_service_refuse(fa_ring *ring, int slot, const fa_error *error)
{
	fa_reply reply = {.status = error->status};

	memcpy(reply.message, error->message, sizeof(reply.message));
	memcpy(reply.detail, error->detail, sizeof(reply.detail));
	if (error->status != FA_NOT_FOUND) /* which is a question's usual answer */
		atomic_fetch_add(&ring->header->failed, 1);
	fa_ring_finish(ring, slot, &reply);
}

static void
show_error(fa_ring *ring, const fa_error *error)
{
	fa_ring_header *header = ring->header;

	snprintf(header->last_error, sizeof(header->last_error), "%s%s%s", error->message,
			 error->detail[0] == '\0' ? "" : ": ", error->detail);
	atomic_store(&header->last_error_time, (int64_t) time(NULL));
}

void
fa_service_die(fa_ring *ring, const fa_error *error)
{
	show_error(ring, error);
	_exit(3);
}

/* --- Intake --------------------------------------------------------------------------- */

static fa_status
check_run(const fa_request *r, fa_error *error)
{
	size_t bytes = 3;

	if (r->precision == FA_PRECISION_AUTO || r->precision > FA_PRECISION_TF32 ||
		r->part > FA_PART_DETECTOR || r->count < 1 || r->count > MAX_COUNT || r->height < 1 ||
		r->height > LARGEST_SIDE || r->width < 1 || r->width > LARGEST_SIDE ||
		!fa_multiply(bytes, (size_t) r->height * r->width, &bytes) ||
		!fa_multiply(bytes, r->count, &bytes) || bytes != r->length || bytes > FA_REQUEST_AREA)
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	return FA_OK;
}

static bool
has_room(const fa_batcher *b, const batch *open, const fa_request *r)
{
	size_t image = (size_t) r->height * r->width * 3;

	return open->requests == 0 ||
		   (open->requests < MAX_REQUESTS &&
			open->count + (int) r->count <= (int) atomic_load(&b->ring->header->batch_size) &&
			(open->count + (size_t) r->count) * image <= MAX_BYTES);
}

/* The open batch that takes it, perhaps a new one at the end of the list; NULL: no memory. */
static batch *
open_batch(fa_batcher *b, const batch_key *key, const fa_request *r)
{
	batch **link = &b->open, *made;

	for (; *link != NULL; link = &(*link)->next)
		if (memcmp(&(*link)->key, key, sizeof(*key)) == 0 && has_room(b, *link, r))
			return *link;
	made = b->spare;
	if (made != NULL)
	{
		b->spare = made->next;
		b->spare_bytes -= made->capacity + made->memory_size;
	}
	else
		made = calloc(1, sizeof(batch));
	if (made == NULL)
		return NULL;
	made->next = NULL;
	made->key = *key;
	made->requests = made->count = 0;
	made->since = fa_ring_now();
	*link = made;
	return made;
}

static fa_status
copy_pixels(const fa_ring *ring, int slot, const fa_request *r, batch *to, fa_error *error)
{
	size_t before = (size_t) to->count * r->height * r->width * 3;

	if (before + r->length > to->capacity)
	{
		size_t capacity = before + r->length + before; /* grows by halves at least */
		uint8_t *larger = realloc(to->pixels, capacity);

		if (larger == NULL)
			return fa_no_memory(error, capacity);
		to->pixels = larger;
		to->capacity = capacity;
	}
	return fa_ring_read(ring, slot, FA_AREA_REQUEST, 0, to->pixels + before, r->length, NULL,
						error);
}

static fa_status
add_run(fa_batcher *b, int slot, const fa_request *r, fa_error *error)
{
	batch_key key = {
		.precision = r->precision, .part = r->part, .height = r->height, .width = r->width};
	batch *to;

	memcpy(key.model, r->model, FA_SERVICE_KEY);
	to = open_batch(b, &key, r);
	if (to == NULL)
		return fa_no_memory(error, sizeof(batch));
	FA_TRY(copy_pixels(b->ring, slot, r, to, error)); /* an empty batch may stay, for the next */
	to->shares[to->requests++] =
		(share){slot, (int) r->count, r->wanted, atomic_load(&b->ring->slot[slot].submitted)};
	to->count += (int) r->count;
	return FA_OK;
}

void
fa_batcher_add(fa_batcher *b, int slot, const fa_request *request)
{
	fa_status status = FA_OK;
	fa_error error;

	if (request->kind == FA_REQUEST_RUN && check_run(request, &error) != FA_OK)
	{
		fa_service_refuse(b->ring, slot, &error);
		return;
	}
	pthread_mutex_lock(&b->lock);
	if (request->kind == FA_REQUEST_RUN)
		status = add_run(b, slot, request, &error);
	else
		/* what is at work is not taken again (fa_ring_take): there is room */
		b->loads[b->load_count++] = (to_load){slot, *request};
	pthread_cond_signal(&b->added);
	pthread_mutex_unlock(&b->lock);
	if (status != FA_OK)
		fa_service_refuse(b->ring, slot, &error);
}

/* --- The runner: beats ---------------------------------------------------------------- */

static bool
never_stop(void *argument)
{
	fa_batcher *b = argument;

	atomic_fetch_add(&b->ring->header->beat, 1);
	return false;
}

/* --- The runner: loading -----------------------------------------------------------------
 */

static void
load_next(fa_batcher *b, const to_load *l)
{
	fa_reply reply = {.status = FA_OK};
	fa_served_model *fresh = NULL;
	fa_error error;
	fa_status status =
		fa_load(b->ring, b->models, l->slot, &l->request, &b->beat, &reply, &fresh, &error);

	if (status == FA_OK && fresh != NULL)
		status = fa_warm_up_model(&b->warming, fresh, &b->beat, &error);
	if (status == FA_OK)
	{
		fa_ring_finish(b->ring, l->slot, &reply);
		return;
	}
	if (status != FA_NOT_FOUND)
		show_error(b->ring, &error);
	fa_service_refuse(b->ring, l->slot, &error);
	if (status == FA_DEVICE_LOST)
		fa_service_die(b->ring, &error);
}

/* --- The runner: batches ------------------------------------------------------------------- */

/* The network of a batch, on the device, and the floats of each of its outputs for one image. */
static fa_status
network(fa_batcher *b, const batch *of, fa_served_model **served, fa_model **model,
		size_t sizes[FA_MAX_OUTPUTS], fa_error *error)
{
	const fa_net *net = fa_models_detector_net(b->models);
	const fa_attribute_model *a;

	memset(sizes, 0, FA_MAX_OUTPUTS * sizeof(sizes[0]));
	*served = NULL;
	if (of->key.part == FA_PART_DETECTOR)
	{
		FA_TRY(fa_net_shapes(net, (int) of->key.height, (int) of->key.width, b->shapes, error));
		for (int i = 0; i < net->output_count; i++)
		{
			const fa_shape *shape = &b->shapes[net->outputs[i].op];

			sizes[i] = (size_t) shape->height * shape->width * shape->channels;
		}
		return fa_models_detector(b->models, (fa_precision) of->key.precision, model, error);
	}
	FA_TRY(fa_models_get(b->models, of->key.model, (fa_precision) of->key.precision, NULL, served,
						 error));
	a = &(*served)->attributes;
	if (of->key.height != (uint32_t) a->height || of->key.width != (uint32_t) a->width)
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	for (int i = 0; i < a->head_count; i++)
		sizes[a->outputs[i]] = (size_t) a->heads[i].classes;
	sizes[a->embedding] = (size_t) a->embedding_size;
	*model = a->model;
	return FA_OK;
}

static fa_status
make_outputs(batch *of, const size_t sizes[FA_MAX_OUTPUTS], fa_error *error)
{
	size_t each = 0, place = 0;

	for (int i = 0; i < FA_MAX_OUTPUTS; i++)
		each += sizes[i] * sizeof(float);
	if (each * (size_t) of->count > of->memory_size)
	{
		free(of->memory);
		of->memory_size = 0;
		of->memory = malloc(each * (size_t) of->count);
		if (of->memory == NULL)
			return fa_no_memory(error, each * (size_t) of->count);
		of->memory_size = each * (size_t) of->count;
	}
	for (int i = 0; i < FA_MAX_OUTPUTS; i++)
	{
		of->outputs[i] = sizes[i] == 0 ? NULL : (float *) (void *) (of->memory + place);
		place += sizes[i] * (size_t) of->count * sizeof(float);
	}
	return FA_OK;
}

static fa_status
run_pieces(fa_batcher *b, const batch *of, fa_served_model *served, fa_model *model,
		   const size_t sizes[FA_MAX_OUTPUTS], fa_error *error)
{
	size_t image = (size_t) of->key.height * of->key.width * 3;
	int at_most = b->interface->batch;

	for (int done = 0; done < of->count;)
	{
		int n = of->count - done < at_most ? of->count - done : at_most;
		fa_batch piece = {n, (int) of->key.height, (int) of->key.width, of->pixels + done * image};
		float *outputs[FA_MAX_OUTPUTS];
		fa_status status;

		for (int i = 0; i < FA_MAX_OUTPUTS; i++)
			outputs[i] = sizes[i] == 0 ? NULL : of->outputs[i] + done * sizes[i];
		status = b->interface->run(model, &piece, outputs, &b->beat, error);
		if (status == FA_NO_MEMORY && fa_models_make_room(b->models, served))
			continue;
		if (status == FA_NO_MEMORY && n > 1)
		{
			at_most = n / 2;
			continue;
		}
		FA_TRY(status);
		done += n;
	}
	return FA_OK;
}

/* A request's part of the outputs that it wants, one after the other. */
static fa_status
write_outputs(fa_batcher *b, const batch *of, const share *s, size_t first,
			  const size_t sizes[FA_MAX_OUTPUTS], fa_reply *reply, fa_error *error)
{
	for (int i = 0; i < FA_MAX_OUTPUTS; i++)
	{
		size_t bytes = sizes[i] * (size_t) s->count * sizeof(float);

		if ((s->wanted & UINT32_C(1) << i) == 0 || bytes == 0)
			continue;
		FA_TRY(fa_ring_write(b->ring, s->slot, FA_AREA_REPLY, reply->length,
							 of->outputs[i] + first * sizes[i], bytes, &b->beat, error));
		reply->length += bytes;
	}
	return FA_OK;
}

static void
hand_out(fa_batcher *b, const batch *of, const size_t sizes[FA_MAX_OUTPUTS])
{
	size_t first = 0;

	for (int r = 0; r < of->requests; r++)
	{
		const share *s = &of->shares[r];
		fa_reply reply = {.status = FA_OK};
		fa_error error;

		if (write_outputs(b, of, s, first, sizes, &reply, &error) == FA_OK)
			fa_ring_finish(b->ring, s->slot, &reply);
		else
			fa_service_refuse(b->ring, s->slot, &error);
		first += (size_t) s->count;
	}
}

/* 0: one image, 1: two, 2: up to four ... */
static int
fill_bin(int count)
{
	int bin = 0;

	while (bin < FA_RING_FILL_BINS - 1 && 1 << bin < count)
		bin++;
	return bin;
}

/* --- The runner: when --------------------------------------------------------------------------
 */

/* Under the lock: microseconds until the batch may start; 0: now. */
static int64_t
time_left(const fa_batcher *b, const batch *open, int64_t now)
{
	const lately *l = &b->lately[open->key.part];
	int64_t delay = atomic_load(&b->ring->header->batch_delay);

	if (open->count >= (int) atomic_load(&b->ring->header->batch_size) ||
		open->requests >= l->requests || now - l->when > LOOK_BACK * delay ||
		now - open->since >= delay)
		return 0;
	return delay - (now - open->since);
}

/*
 * Under the lock: takes the batch that starts now out of the list; NULL: wait so long (< 0: for
 * ever), or not at all (0), since it is not of the one kind that is asked for.
 */
static batch *
take_batch(fa_batcher *b, const batch_key *kind, int64_t *wait)
{
	int64_t now = fa_ring_now();

	*wait = -1;
	for (batch **link = &b->open; *link != NULL; link = &(*link)->next)
	{
		batch *open = *link;
		int64_t left = open->requests == 0 ? -1 : time_left(b, open, now);

		if (left == 0 && kind != NULL && memcmp(kind, &open->key, sizeof(*kind)) != 0)
		{
			*wait = 0;
			return NULL;
		}
		if (left == 0)
		{
			*link = open->next;
			return open;
		}
		if (left > 0 && (*wait < 0 || left < *wait))
			*wait = left;
	}
	return NULL;
}

/* Under the lock. */
static void
give_back(fa_batcher *b, batch *done)
{
	bool room = b->spare_bytes + done->capacity + done->memory_size <= SPARE_BYTES;

	b->lately[done->key.part] = (lately){done->requests, fa_ring_now()};
	if (done->capacity > KEPT_BYTES || !room)
	{
		free(done->pixels);
		done->pixels = NULL;
		done->capacity = 0;
	}
	if (done->memory_size > KEPT_BYTES || !room)
	{
		free(done->memory);
		done->memory = NULL;
		done->memory_size = 0;
	}
	b->spare_bytes += done->capacity + done->memory_size;
	done->next = b->spare;
	b->spare = done;
}

static void
sleep_until_added(fa_batcher *b, int64_t microseconds)
{
	struct timespec until;

	if (microseconds < 0)
	{
		pthread_cond_wait(&b->added, &b->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long) (microseconds % 1000000) * 1000;
	until.tv_sec += (time_t) (microseconds / 1000000) + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&b->added, &b->lock, &until);
}

/* --- The runner: running -----------------------------------------------------------------------
 */

/* Answers a batch's requests, and the batch is free again. */
static void
end_batch(fa_batcher *b, batch *of, const size_t sizes[FA_MAX_OUTPUTS], fa_status status,
		  const fa_error *error)
{
	fa_ring_header *header = b->ring->header;

	for (int i = 0; i < of->requests; i++)
		atomic_fetch_add(&header->wait_time, (uint64_t) (of->started - of->shares[i].submitted));
	atomic_fetch_add(&header->run_time, (uint64_t) (fa_ring_now() - of->started));
	never_stop(b);
	if (status == FA_OK)
	{
		atomic_fetch_add(&header->images, (uint64_t) of->count);
		atomic_fetch_add(&header->batches, 1); /* by which the supervisor knows that it works */
		atomic_fetch_add(&header->fill[fill_bin(of->count)], 1);
		hand_out(b, of, sizes);
	}
	else
	{
		show_error(b->ring, error);
		for (int i = 0; i < of->requests; i++)
			fa_service_refuse(b->ring, of->shares[i].slot, error);
		if (status == FA_DEVICE_LOST)
			fa_service_die(b->ring, error);
	}
	fa_models_show(b->models);
	pthread_mutex_lock(&b->lock);
	give_back(b, of);
	pthread_mutex_unlock(&b->lock);
}

/* A stream of batches of one kind. */
typedef struct flight
{
	fa_batcher *b;
	batch *first;      /* to be begun with */
	batch *batches[2]; /* at work, by their number */
	int started, ended;
	batch_key kind;
	int requests; /* of the latest */
	fa_served_model *served;
	const size_t *sizes;
} flight;

static void
begin_batch(batch *of, fa_served_model *served)
{
	of->started = fa_ring_now();
	if (served != NULL)
		served->images += (uint64_t) of->count;
}

/* Of the same kind, if it is next: as long as the device is busy, one is worth waiting for. */
static batch *
wait_for_batch(flight *f, bool (*busy)(void *device), void *device)
{
	fa_batcher *b = f->b;
	int64_t until = fa_ring_now() + atomic_load(&b->ring->header->batch_delay), wait;
	batch *of = NULL;

	pthread_mutex_lock(&b->lock);
	while (b->load_count == 0 && f->started < LONGEST_STREAM &&
		   (of = take_batch(b, &f->kind, &wait)) == NULL && wait != 0 && f->requests > 1 &&
		   fa_ring_now() < until && busy(device))
		sleep_until_added(b, LOOK_AGAIN);
	pthread_mutex_unlock(&b->lock);
	return of;
}

static bool
next_batch(void *argument, fa_batch *pixels, float *const **outputs, bool (*busy)(void *device),
		   void *device)
{
	flight *f = argument;
	batch *of = f->first != NULL ? f->first : wait_for_batch(f, busy, device);
	fa_error error;

	f->first = NULL;
	if (of == NULL)
		return false;
	begin_batch(of, f->served);
	f->requests = of->requests;
	if (make_outputs(of, f->sizes, &error) != FA_OK)
	{
		end_batch(f->b, of, f->sizes, error.status, &error);
		return false;
	}
	*pixels = (fa_batch){of->count, (int) of->key.height, (int) of->key.width, of->pixels};
	*outputs = of->outputs;
	f->batches[f->started++ % 2] = of;
	return true;
}

static void
batch_done(void *argument)
{
	static const fa_error none;
	flight *f = argument;

	end_batch(f->b, f->batches[f->ended++ % 2], f->sizes, FA_OK, &none);
}

/* What the stream leaves after an error ends with it, but for memory's: then in smaller pieces. */
static void
run_stream(fa_batcher *b, batch *first, fa_served_model *served, fa_model *model,
		   const size_t sizes[FA_MAX_OUTPUTS])
{
	flight f = {.b = b, .first = first, .kind = first->key, .served = served, .sizes = sizes};
	fa_stream stream = {next_batch, batch_done, &f};
	fa_error error;
	fa_status status = b->interface->run_stream(model, &stream, &b->beat, &error);
	bool again = status == FA_NO_MEMORY;

	while (f.ended < f.started)
	{
		batch *of = f.batches[f.ended++ % 2];

		if (again)
			status = run_pieces(b, of, served, model, sizes, &error);
		end_batch(b, of, sizes, status, &error);
	}
}

static void
run_batch(fa_batcher *b, batch *of)
{
	size_t sizes[FA_MAX_OUTPUTS];
	fa_served_model *served;
	fa_model *model;
	fa_error error;
	fa_status status = network(b, of, &served, &model, sizes, &error);

	if (status == FA_OK && b->interface->run_stream != NULL)
	{
		run_stream(b, of, served, model, sizes);
		return;
	}
	begin_batch(of, status == FA_OK ? served : NULL);
	if (status == FA_OK)
		status = make_outputs(of, sizes, &error);
	if (status == FA_OK)
		status = run_pieces(b, of, served, model, sizes, &error);
	end_batch(b, of, sizes, status, &error);
}

/* --- The runner: idle
 * -----------------------------------------------------------------------------
 */

/* An interrupt's question. */
static bool
there_is_work(void *argument)
{
	fa_batcher *b = argument;
	bool work;

	never_stop(b);
	pthread_mutex_lock(&b->lock);
	work = b->load_count > 0;
	for (const batch *open = b->open; open != NULL && !work; open = open->next)
		work = open->requests > 0;
	pthread_mutex_unlock(&b->lock);
	return work;
}

/* A model is made ready for more; without the lock. */
static void
use_idle_time(fa_batcher *b)
{
	fa_interrupt interrupt = {there_is_work, b};
	fa_error error;

	if (fa_warm_up_more(&b->warming, &interrupt, &error) == FA_DEVICE_LOST)
		fa_service_die(b->ring, &error);
	fa_models_show(b->models);
}

fa_status
fa_batcher_warm_up(fa_batcher *b, fa_precision fastest, fa_error *error)
{
	return fa_warm_up_detector(&b->warming, fastest, &b->beat, error);
}

void
fa_batcher_run(fa_batcher *b)
{
	batch *taken;
	int64_t wait;

	pthread_mutex_lock(&b->lock);
	for (;;)
	{
		if (b->load_count > 0)
		{
			to_load next = b->loads[0];

			memmove(b->loads, b->loads + 1, --b->load_count * sizeof(b->loads[0]));
			pthread_mutex_unlock(&b->lock);
			load_next(b, &next);
			never_stop(b);
			pthread_mutex_lock(&b->lock);
		}
		else if ((taken = take_batch(b, NULL, &wait)) != NULL)
		{
			pthread_mutex_unlock(&b->lock);
			run_batch(b, taken);
			pthread_mutex_lock(&b->lock);
		}
		else if (wait < 0 && fa_warming_has_more(&b->warming))
		{
			pthread_mutex_unlock(&b->lock);
			use_idle_time(b);
			pthread_mutex_lock(&b->lock);
		}
		else
			sleep_until_added(b, wait);
	}
}

void
fa_batcher_close(fa_batcher *b)
{
	if (b == NULL)
		return;
	fa_models_close(b->models);
	free(b->shapes);
	free(b);
}

fa_status
fa_batcher_open(const fa_engine_interface *interface, fa_engine *engine, const char *directory,
				fa_ring *ring, fa_batcher **batcher, fa_error *error)
{
	fa_batcher *b = calloc(1, sizeof(fa_batcher));
	pthread_condattr_t monotonic;
	fa_status status;

	*batcher = NULL;
	if (b == NULL)
		return fa_no_memory(error, sizeof(fa_batcher));
	b->ring = ring;
	b->interface = interface;
	b->beat = (fa_interrupt){never_stop, b};
	status = fa_models_open(interface, engine, directory, ring, &b->models, error);
	if (status == FA_OK)
	{
		b->shapes = malloc(fa_models_detector_net(b->models)->op_count * sizeof(fa_shape));
		if (b->shapes == NULL)
			status = fa_no_memory(error, sizeof(fa_shape));
	}
	if (status != FA_OK)
	{
		fa_batcher_close(b);
		return status;
	}
	b->warming = (fa_warming){.interface = interface, .models = b->models, .ring = ring};
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->added, &monotonic);
	*batcher = b;
	return FA_OK;
}
