/*
 * scan.c
 *		Many photos, in order; see scan.h.
 *
 * Photos in flight are a queue in a ring of twice FA_SCAN_PHOTOS places: the older half goes
 * through the engine while threads decode the younger. Every photo is WAITING until a thread, or
 * the caller where there is none free, takes it (DECODING) and leaves it DECODED; then it belongs
 * to the caller again. One mutex guards the states and the queue's ends; `changed` is signalled to
 * the threads when a photo comes, and to the caller when one is decoded. Threads take the oldest
 * first, so that the caller, who needs the oldest, does not wait long. Closing asks them to stop by
 * the interrupt that decoders look at.
 *
 * Where another process reads photos, decoding is all there is to do, and takes a pipeline: then
 * threads take photos only while the caller is in fa_scan_run, which ends when none is at work.
 */
#include "scan.h"

#include "crops.h"
#include "find.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_THREADS 64
#define PATIENCE 10000000 /* nanoseconds between the caller's questions whether to stop */

enum
{
	PLACES = 2 * FA_SCAN_PHOTOS
};

typedef enum photo_state
{
	WAITING,
	DECODING,
	DECODED,
	DONE
} photo_state;

typedef struct scanned_photo
{
	photo_state state;
	void *bytes;
	size_t length, size; /* size: of bytes and view together */
	fa_finding finding;
	fa_work work; /* elsewhere */
} scanned_photo;

struct fa_scan
{
	fa_face_options options;
	bool elsewhere;             /* where photos are read: nothing here looks into one */
	const fa_pipeline *reading; /* elsewhere: by which, for those before group_end */
	uint64_t group_end;
	pthread_t threads[MAX_THREADS];
	int thread_count;
	pthread_mutex_t lock;
	pthread_cond_t changed, decoded;
	bool closing;
	scanned_photo photos[PLACES];
	uint64_t first, end; /* numbers of the oldest and of the next; place: modulo PLACES */
	size_t in_flight;    /* bytes; the caller's */
};

static scanned_photo *
photo_at(fa_scan *scan, uint64_t number)
{
	return &scan->photos[number % PLACES];
}

/* All of it, by a pipeline of one's own as far as work is counted. */
static void
find_elsewhere(const fa_scan *scan, scanned_photo *photo, const fa_interrupt *interrupt)
{
	fa_pipeline own = *scan->reading;
	fa_finding *f = &photo->finding;

	memset(&own.work, 0, sizeof(own.work));
	f->error.status = fa_find(&own, photo->bytes, photo->length, &scan->options, true, &f->faces,
							  NULL, interrupt, &f->error);
	photo->work = own.work;
}

static void
decode(const fa_scan *scan, scanned_photo *photo, const fa_interrupt *interrupt)
{
	fa_finding *f = &photo->finding;

	if (scan->elsewhere)
		find_elsewhere(scan, photo, interrupt);
	else if (f->error.status == FA_OK)
		f->error.status = fa_finding_decode(f, &scan->options, interrupt, &f->error);
}

/* Under the lock: the oldest that waits, as DECODING; NULL: none. */
static scanned_photo *
take_waiting(fa_scan *scan)
{
	uint64_t end = scan->elsewhere ? scan->group_end : scan->end;

	for (uint64_t n = scan->first; n < end; n++)
		if (photo_at(scan, n)->state == WAITING)
		{
			photo_at(scan, n)->state = DECODING;
			return photo_at(scan, n);
		}
	return NULL;
}

static bool
is_closing(void *argument)
{
	fa_scan *scan = argument;
	bool closing;

	pthread_mutex_lock(&scan->lock);
	closing = scan->closing;
	pthread_mutex_unlock(&scan->lock);
	return closing;
}

static void *
work(void *argument)
{
	fa_scan *scan = argument;
	const fa_interrupt interrupt = {is_closing, scan};
	scanned_photo *photo;

	pthread_mutex_lock(&scan->lock);
	while (!scan->closing)
	{
		photo = take_waiting(scan);
		if (photo == NULL)
		{
			pthread_cond_wait(&scan->changed, &scan->lock);
			continue;
		}
		pthread_mutex_unlock(&scan->lock);
		decode(scan, photo, &interrupt);
		pthread_mutex_lock(&scan->lock);
		photo->state = DECODED;
		pthread_cond_signal(&scan->decoded);
	}
	pthread_mutex_unlock(&scan->lock);
	return NULL;
}

fa_status
fa_scan_open(const fa_pipeline *pipeline, const fa_face_options *options, int threads,
			 fa_scan **scan, fa_error *error)
{
	pthread_condattr_t monotonic;
	fa_scan *opened;

	*scan = NULL;
	FA_TRY(fa_face_options_check(options, error));
	opened = calloc(1, sizeof(fa_scan));
	if (opened == NULL)
		return fa_no_memory(error, sizeof(fa_scan));
	opened->options = *options;
	opened->elsewhere = pipeline->reader != NULL;
	pthread_mutex_init(&opened->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&opened->changed, NULL);
	pthread_cond_init(&opened->decoded, &monotonic);
	pthread_condattr_destroy(&monotonic);
	/* fewer threads than wanted are no failure: the caller decodes what is left */
	while (opened->thread_count < threads && opened->thread_count < MAX_THREADS &&
		   pthread_create(&opened->threads[opened->thread_count], NULL, work, opened) == 0)
		opened->thread_count++;
	*scan = opened;
	return FA_OK;
}

static void
free_photo(fa_scan *scan, scanned_photo *photo)
{
	scan->in_flight -= photo->size;
	fa_finding_free(&photo->finding);
	free(photo->bytes);
	memset(photo, 0, sizeof(*photo));
}

void
fa_scan_close(fa_scan *scan)
{
	if (scan == NULL)
		return;
	pthread_mutex_lock(&scan->lock);
	scan->closing = true;
	pthread_cond_broadcast(&scan->changed);
	pthread_mutex_unlock(&scan->lock);
	for (int i = 0; i < scan->thread_count; i++)
		pthread_join(scan->threads[i], NULL);
	for (uint64_t n = scan->first; n < scan->end; n++)
		free_photo(scan, photo_at(scan, n));
	pthread_cond_destroy(&scan->changed);
	pthread_cond_destroy(&scan->decoded);
	pthread_mutex_destroy(&scan->lock);
	free(scan);
}

int
fa_scan_count(const fa_scan *scan)
{
	return (int) (scan->end - scan->first);
}

/* Without threads there is nothing to be ahead of, nor where photos are read elsewhere. */
bool
fa_scan_wants(const fa_scan *scan)
{
	int count = fa_scan_count(scan);
	bool ahead = scan->thread_count > 0 && !scan->elsewhere;

	return count == 0 ||
		   (count < (ahead ? PLACES : FA_SCAN_PHOTOS) && scan->in_flight < FA_SCAN_BYTES);
}

fa_status
fa_scan_push(fa_scan *scan, const void *bytes, size_t length, fa_error *error)
{
	scanned_photo photo = {.bytes = malloc(length + 1), .length = length, .size = length};

	if (photo.bytes == NULL)
		return fa_no_memory(error, length);
	memcpy(photo.bytes, bytes, length);
	if (!scan->elsewhere && fa_finding_open(&photo.finding, photo.bytes, length, &scan->options,
											&photo.finding.error) == FA_OK)
		photo.size += fa_finding_size(&photo.finding, &scan->options);
	scan->in_flight += photo.size;
	pthread_mutex_lock(&scan->lock);
	*photo_at(scan, scan->end++) = photo;
	pthread_cond_signal(&scan->changed);
	pthread_mutex_unlock(&scan->lock);
	return FA_OK;
}

/* Waits until the photo is decoded, decoding it, or another that waits, oneself where nobody has.
 */
static fa_status
make_decoded(fa_scan *scan, scanned_photo *photo, const fa_interrupt *interrupt, fa_error *error)
{
	fa_status status = FA_OK;

	pthread_mutex_lock(&scan->lock);
	while (photo->state < DECODED && status == FA_OK)
	{
		scanned_photo *mine = take_waiting(scan);
		struct timespec until;

		if (mine == NULL)
		{
			clock_gettime(CLOCK_MONOTONIC, &until);
			until.tv_nsec += PATIENCE;
			until.tv_sec += until.tv_nsec / 1000000000;
			until.tv_nsec %= 1000000000;
			pthread_cond_timedwait(&scan->decoded, &scan->lock, &until);
		}
		pthread_mutex_unlock(&scan->lock);
		if (mine != NULL)
			decode(scan, mine, interrupt);
		status = fa_check_interrupt(interrupt, error);
		pthread_mutex_lock(&scan->lock);
		if (mine != NULL)
			mine->state = DECODED;
	}
	pthread_mutex_unlock(&scan->lock);
	if (status == FA_OK && photo->finding.error.status != FA_OK &&
		!fa_is_photos_own(photo->finding.error.status))
	{
		*error = photo->finding.error;
		status = error->status;
	}
	return status;
}

static void
add_work(fa_work *to, const fa_work *more)
{
	to->images += more->images;
	to->faces += more->faces;
	to->decode += more->decode;
	to->detect += more->detect;
	to->classify += more->classify;
}

/* Under the lock. */
static bool
is_decoding(const fa_scan *scan, int count)
{
	for (int i = 0; i < count; i++)
		if (scan->photos[(scan->first + (uint64_t) i) % PLACES].state == DECODING)
			return true;
	return false;
}

/*
 * Where photos are read elsewhere: as many at a time as there are threads, and only during a run,
 * since the next one may have another pipeline.
 */
static fa_status
run_elsewhere(fa_scan *scan, fa_pipeline *pipeline, int count, const fa_interrupt *interrupt,
			  fa_error *error)
{
	fa_status status = FA_OK;

	pthread_mutex_lock(&scan->lock);
	scan->reading = pipeline;
	scan->group_end = scan->first + (uint64_t) count;
	pthread_cond_broadcast(&scan->changed);
	pthread_mutex_unlock(&scan->lock);
	for (int i = 0; i < count && status == FA_OK; i++)
	{
		scanned_photo *photo = photo_at(scan, scan->first + (uint64_t) i);

		status = make_decoded(scan, photo, interrupt, error);
		add_work(&pipeline->work, &photo->work);
	}
	pthread_mutex_lock(&scan->lock);
	scan->group_end = scan->first;
	scan->closing = scan->closing || status != FA_OK;
	while (is_decoding(scan, count)) /* what has failed is asked to stop */
		pthread_cond_wait(&scan->decoded, &scan->lock);
	scan->reading = NULL;
	pthread_mutex_unlock(&scan->lock);
	return status;
}

static fa_status
run_here(fa_scan *scan, fa_pipeline *pipeline, fa_finding **findings, int count,
		 const fa_interrupt *interrupt, fa_error *error)
{
	int together = pipeline->interface->batch, from = 0;

	for (int i = 0; i < count; i++)
	{
		scanned_photo *photo = photo_at(scan, scan->first + (uint64_t) i);
		double since = fa_seconds();

		FA_TRY(make_decoded(scan, photo, interrupt, error));
		fa_add_time(&pipeline->work.decode, &since);
		pipeline->work.images++;
		if (i + 1 - from == together || i + 1 == count)
		{
			FA_TRY(fa_findings_detect(findings + from, i + 1 - from, pipeline, &scan->options, true,
									  false, interrupt, error));
			from = i + 1;
		}
	}
	FA_TRY(fa_findings_classify(findings, count, pipeline, &scan->options, interrupt, error));
	for (int i = 0; i < count; i++)
		pipeline->work.faces += findings[i]->error.status == FA_OK ? findings[i]->faces.count : 0;
	return FA_OK;
}

fa_status
fa_scan_run(fa_scan *scan, fa_pipeline *pipeline, int *done, const fa_interrupt *interrupt,
			fa_error *error)
{
	int count = fa_scan_count(scan) < FA_SCAN_PHOTOS ? fa_scan_count(scan) : FA_SCAN_PHOTOS;
	fa_finding *findings[FA_SCAN_PHOTOS] = {NULL};

	*done = 0;
	if (scan->elsewhere != (pipeline->reader != NULL))
		return fa_fail(error, FA_INVALID, "where photos are read has changed during a scan");
	for (int i = 0; i < count; i++)
		findings[i] = &photo_at(scan, scan->first + (uint64_t) i)->finding;
	if (!scan->elsewhere)
		FA_TRY(run_here(scan, pipeline, findings, count, interrupt, error));
	else
		FA_TRY(run_elsewhere(scan, pipeline, count, interrupt, error));
	pthread_mutex_lock(&scan->lock);
	for (int i = 0; i < count; i++)
		photo_at(scan, scan->first + (uint64_t) i)->state = DONE;
	pthread_mutex_unlock(&scan->lock);
	*done = count;
	return FA_OK;
}

fa_status
fa_scan_take(fa_scan *scan, fa_faces *faces, fa_error *error)
{
	scanned_photo *photo = photo_at(scan, scan->first);
	fa_finding *f = &photo->finding;
	fa_status status = f->error.status;

	memset(faces, 0, sizeof(*faces));
	if (scan->first == scan->end || photo->state != DONE)
		return fa_fail(error, FA_INVALID, "no photo is done");
	if (status == FA_OK)
	{
		*faces = f->faces;
		memset(&f->faces, 0, sizeof(f->faces));
	}
	else
		*error = f->error;
	/* out of the queue first: a freed place looks like one that waits to be decoded */
	pthread_mutex_lock(&scan->lock);
	scan->first++;
	pthread_mutex_unlock(&scan->lock);
	free_photo(scan, photo);
	return status;
}
