/*
 * photos.c
 *		Threads of the service that read photos and crops for sessions which would rather not: a
 *		decoder that crashes takes the service along, not the server.
 *
 * A thread runs a whole pipeline, the same that a session would, over the engine `service`: it
 * is a client of its own process, with a slot of the ring that is its own, and its batches meet
 * those of the sessions in the batcher. One mutex guards the queue of slots. A thread keeps a
 * few pipelines; they hold no weights.
 *
 * FACEATTR_TEST_CRASH, set for a test, names the first bytes in hexadecimal of a photo that
 * crashes.
 */
#include "photos.h"

#include "../face/pipeline.h"
#include "batcher.h"
#include "client.h"
#include "exchange.h"
#include "wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIPELINES 4 /* of a thread */

typedef struct kept_pipeline
{
	fa_pipeline *pipeline; /* NULL: an unused place */
	uint8_t model[FA_SERVICE_KEY];
	fa_precision precision;
	uint64_t last_use;
} kept_pipeline;

typedef struct job
{
	int slot;
	fa_request request;
} job;

struct fa_photos
{
	fa_ring *ring;
	pthread_mutex_t lock;
	pthread_cond_t added;
	job jobs[FA_RING_MAX_SLOTS]; /* a ring: a slot has one request, so there is room */
	int first, count;
	int threads_started;
	uint8_t crash[64];
	size_t crash_length;
};

/* --- A thread's pipelines ------------------------------------------------------------------- */

static fa_status
pipeline_for(kept_pipeline *kept, const fa_request *r, const fa_interrupt *interrupt,
			 fa_pipeline **pipeline, fa_error *error)
{
	static _Thread_local uint64_t turn;
	kept_pipeline *place = &kept[0];
	fa_precision precision;
	void *block;
	size_t length;
	fa_status status;

	for (int i = 0; i < PIPELINES; i++)
	{
		if (kept[i].pipeline != NULL && kept[i].precision == (fa_precision) r->precision &&
			memcmp(kept[i].model, r->model, FA_SERVICE_KEY) == 0)
		{
			kept[i].last_use = ++turn;
			*pipeline = kept[i].pipeline;
			return FA_OK;
		}
		if (kept[i].last_use < place->last_use)
			place = &kept[i];
	}
	FA_TRY(fa_service_model(r->model, (fa_precision) r->precision, NULL, &precision, &block,
							&length, interrupt, error));
	fa_pipeline_close(place->pipeline);
	place->pipeline = NULL;
	status = fa_pipeline_open_packed(&fa_service_engine, NULL, precision, block, length, pipeline,
									 error);
	free(block);
	if (status != FA_OK)
		return status;
	place->pipeline = *pipeline;
	place->precision = (fa_precision) r->precision;
	memcpy(place->model, r->model, FA_SERVICE_KEY);
	place->last_use = ++turn;
	return FA_OK;
}

/* --- Answers ------------------------------------------------------------------------------- */

static void
write_face(const fa_face *from, fa_wire_face *to)
{
	memset(to, 0, sizeof(*to));
	to->box[0] = from->box.x1;
	to->box[1] = from->box.y1;
	to->box[2] = from->box.x2;
	to->box[3] = from->box.y2;
	memcpy(to->landmarks, from->landmarks, sizeof(to->landmarks));
	to->score = from->score;
	to->detect_score = from->detect_score;
	to->age = from->age;
	to->age_low = from->age_low;
	to->age_high = from->age_high;
	to->gender_confidence = from->gender_confidence;
	to->race_confidence = from->race_confidence;
	to->gender = from->gender;
	to->race = from->race;
	to->classified = from->classified;
	to->has_age = from->has_age;
	to->has_gender = from->has_gender;
	to->has_race = from->has_race;
}

static fa_status
too_large(fa_error *error)
{
	return fa_fail(error, FA_TOO_LARGE, "the answer is too large for faceattr-service");
}

/* What is to be in the reply's area; the caller's to free. */
typedef struct answer
{
	void *bytes;
	size_t length;
} answer;

static fa_status
make_room(answer *a, size_t length, fa_error *error)
{
	if (length > FA_REPLY_AREA)
		return too_large(error);
	a->bytes = malloc(length + 1);
	if (a->bytes == NULL)
		return fa_no_memory(error, length);
	a->length = length;
	return FA_OK;
}

static fa_status
find(fa_pipeline *p, const job *j, const void *data, answer *a, fa_reply *reply,
	 const fa_interrupt *interrupt, fa_error *error)
{
	float *embeddings = NULL;
	fa_faces faces;
	size_t dimension = j->request.embed != 0 ? (size_t) p->attributes.embedding_size : 0;
	fa_status status;

	FA_TRY(fa_find(p, data, j->request.length, &j->request.options, j->request.classify != 0,
				   &faces, j->request.embed != 0 ? &embeddings : NULL, interrupt, error));
	status = make_room(a, (size_t) faces.count * (sizeof(fa_wire_face) + dimension * sizeof(float)),
					   error);
	if (status == FA_OK)
	{
		char *to = a->bytes;

		for (int i = 0; i < faces.count; i++)
		{
			fa_wire_face face;

			write_face(&faces.faces[i], &face);
			memcpy(to + (size_t) i * sizeof(face), &face, sizeof(face));
		}
		if (embeddings != NULL)
			memcpy(to + (size_t) faces.count * sizeof(fa_wire_face), embeddings,
				   (size_t) faces.count * dimension * sizeof(float));
		reply->count = (uint32_t) faces.count;
		reply->width = (uint32_t) faces.width;
		reply->height = (uint32_t) faces.height;
		reply->dimension = (uint32_t) dimension;
	}
	free(embeddings);
	fa_faces_free(&faces);
	return status;
}

/* The crops of a request; false: its lengths make no sense. */
static bool
read_crops(const fa_request *r, const char *data, fa_bytes *crops)
{
	size_t at = (size_t) r->count * sizeof(uint64_t);

	if (at > r->length)
		return false;
	for (uint32_t i = 0; i < r->count; i++)
	{
		uint64_t length;

		memcpy(&length, data + i * sizeof(length), sizeof(length));
		crops[i] = (fa_bytes){NULL, 0};
		if (length == FA_NO_CROP)
			continue;
		if (length > r->length - at)
			return false;
		crops[i] = (fa_bytes){data + at, length};
		at += length;
	}
	return true;
}

static void
write_crop_answers(const job *j, const fa_face *faces, const fa_error *errors, char *to)
{
	for (uint32_t i = 0; i < j->request.count; i++)
	{
		fa_wire_face face;

		write_face(&faces[i], &face);
		memcpy(to, &face, sizeof(face));
		to += sizeof(face);
	}
	for (uint32_t i = 0; i < j->request.count; i++)
	{
		fa_wire_error wire = {.status = errors[i].status};

		memcpy(wire.message, errors[i].message, sizeof(wire.message));
		memcpy(wire.detail, errors[i].detail, sizeof(wire.detail));
		memcpy(to, &wire, sizeof(wire));
		to += sizeof(wire);
	}
}

/* With memory for everything in one piece: crops, faces, errors, logits and embedding. */
static fa_status
classify_with(fa_pipeline *p, const job *j, const char *data, fa_bytes *crops, fa_face *faces,
			  fa_error *errors, float *values, answer *a, const fa_interrupt *interrupt,
			  fa_error *error)
{
	const fa_attribute_model *m = &p->attributes;
	float *logits[FA_MAX_HEADS] = {NULL}, *next = values;
	size_t fixed = j->request.count * (sizeof(fa_wire_face) + sizeof(fa_wire_error));

	if (!read_crops(&j->request, data, crops))
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	for (int h = 0; h < m->head_count && j->request.logits != 0; h++)
	{
		logits[h] = next;
		next += m->heads[h].classes;
	}
	FA_TRY(fa_classify(p, crops, (int) j->request.count, j->request.options.max_pixels, faces,
					   errors, j->request.logits != 0 ? logits : NULL,
					   j->request.embed != 0 ? next : NULL, interrupt, error));
	if (j->request.embed != 0)
		next += m->embedding_size;
	FA_TRY(make_room(a, fixed + (size_t) (next - values) * sizeof(float), error));
	write_crop_answers(j, faces, errors, a->bytes);
	memcpy((char *) a->bytes + fixed, values, (size_t) (next - values) * sizeof(float));
	return FA_OK;
}

static fa_status
classify(fa_pipeline *p, const job *j, const char *data, answer *a, const fa_interrupt *interrupt,
		 fa_error *error)
{
	size_t count = j->request.count;
	size_t floats = (size_t) FA_MAX_HEADS * FA_MAX_CLASSES + (size_t) p->attributes.embedding_size;
	fa_status status = FA_NO_MEMORY;
	fa_bytes *crops;
	fa_face *faces;
	fa_error *errors;
	float *values;

	if (count > FA_REPLY_AREA / (2 * (sizeof(fa_wire_face) + sizeof(fa_wire_error))))
		return too_large(error);
	crops = calloc(count + 1, sizeof(fa_bytes));
	faces = calloc(count + 1, sizeof(fa_face));
	errors = calloc(count + 1, sizeof(fa_error));
	values = calloc(floats, sizeof(float));
	if (crops == NULL || faces == NULL || errors == NULL || values == NULL)
		fa_no_memory(error, count * sizeof(fa_error));
	else
		status = classify_with(p, j, data, crops, faces, errors, values, a, interrupt, error);
	free(crops);
	free(faces);
	free(errors);
	free(values);
	return status;
}

static fa_status
annotate(fa_pipeline *p, const job *j, const void *data, answer *a, const fa_interrupt *interrupt,
		 fa_error *error)
{
	fa_format format = (fa_format) j->request.format;
	uint8_t *image;

	if (j->request.format != -1 && format != FA_FORMAT_JPEG && format != FA_FORMAT_PNG)
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	FA_TRY(fa_annotate(p, data, j->request.length, &j->request.options,
					   j->request.format == -1 ? NULL : &format, &image, &a->length, interrupt,
					   error));
	a->bytes = image;
	return a->length <= FA_REPLY_AREA ? FA_OK : too_large(error);
}

/* --- A thread ----------------------------------------------------------------------------------
 */

typedef struct worker
{
	fa_photos *photos;
	int slot; /* that it works on */
	int own;  /* by which it asks the batcher */
	kept_pipeline kept[PIPELINES];
} worker;

/* The session has given up. */
static bool
is_abandoned(void *argument)
{
	const worker *w = argument;
	const fa_ring *ring = w->photos->ring;

	/* while it waits for the batcher it is the batcher whose heart must beat */
	if (fa_word_state(atomic_load(&ring->slot[w->own].word)) == FA_SLOT_FREE)
		atomic_fetch_add(&ring->header->beat, 1);
	return !fa_ring_is_wanted(ring, w->slot);
}

/* data: a copy, which nobody can change while a decoder is at it. */
static fa_status
look_at(worker *w, const job *j, const char *data, answer *a, fa_reply *reply,
		const fa_interrupt *interrupt, fa_error *error)
{
	const fa_photos *photos = w->photos;
	fa_pipeline *pipeline;
	fa_status status;

	if (photos->crash_length > 0 && j->request.length >= photos->crash_length &&
		memcmp(data, photos->crash, photos->crash_length) == 0)
		raise(SIGSEGV);
	FA_TRY(pipeline_for(w->kept, &j->request, interrupt, &pipeline, error));
	fa_pipeline_take_work(pipeline);
	switch ((fa_request_kind) j->request.kind)
	{
		case FA_REQUEST_FIND:
			status = find(pipeline, j, data, a, reply, interrupt, error);
			break;
		case FA_REQUEST_CLASSIFY:
			status = classify(pipeline, j, data, a, interrupt, error);
			break;
		default:
			status = annotate(pipeline, j, data, a, interrupt, error);
	}
	reply->work = fa_pipeline_take_work(pipeline);
	return status;
}

static fa_status
answer_job(worker *w, const job *j, fa_reply *reply, fa_error *error)
{
	const fa_interrupt interrupt = {is_abandoned, w};
	const fa_ring *ring = w->photos->ring;
	answer a = {NULL, 0};
	char *data;
	fa_status status;

	if (j->request.length > FA_REQUEST_AREA || j->request.precision > FA_PRECISION_TF32)
		return fa_fail(error, FA_INVALID, "a request to faceattr-service makes no sense");
	data = malloc(j->request.length + 1);
	if (data == NULL)
		return fa_no_memory(error, j->request.length);
	status =
		fa_ring_read(ring, j->slot, FA_AREA_REQUEST, 0, data, j->request.length, &interrupt, error);
	if (status == FA_OK)
		status = look_at(w, j, data, &a, reply, &interrupt, error);
	free(data);
	if (status == FA_OK)
		status =
			fa_ring_write(ring, j->slot, FA_AREA_REPLY, 0, a.bytes, a.length, &interrupt, error);
	free(a.bytes);
	reply->length = a.length;
	return status;
}

static void *
work(void *argument)
{
	fa_photos *photos = argument;
	worker *w = calloc(1, sizeof(worker));
	fa_reply reply;
	fa_error error;
	job j;

	if (w == NULL)
	{
		fa_no_memory(&error, sizeof(worker));
		fa_service_die(photos->ring, &error);
		return NULL; /* for cppcheck, which goes on */
	}
	w->photos = photos;
	pthread_mutex_lock(&photos->lock);
	w->own = photos->ring->slots + photos->threads_started++;
	fa_exchange_own_slot(w->own);
	for (;;)
	{
		while (photos->count == 0)
			pthread_cond_wait(&photos->added, &photos->lock);
		j = photos->jobs[photos->first];
		photos->first = (photos->first + 1) % FA_RING_MAX_SLOTS;
		photos->count--;
		pthread_mutex_unlock(&photos->lock);
		w->slot = j.slot;
		memset(&reply, 0, sizeof(reply));
		if (answer_job(w, &j, &reply, &error) == FA_OK)
			fa_ring_finish(photos->ring, j.slot, &reply);
		else
			fa_service_refuse(photos->ring, j.slot, &error);
		atomic_fetch_add(&photos->ring->header->beat, 1);
		pthread_mutex_lock(&photos->lock);
	}
	return NULL;
}

void
fa_photos_add(fa_photos *photos, int slot, const fa_request *request)
{
	pthread_mutex_lock(&photos->lock);
	photos->jobs[(photos->first + photos->count++) % FA_RING_MAX_SLOTS] = (job){slot, *request};
	pthread_cond_signal(&photos->added);
	pthread_mutex_unlock(&photos->lock);
}

static void
read_crash(fa_photos *photos)
{
	const char *hex = getenv("FACEATTR_TEST_CRASH");
	unsigned byte;

	while (hex != NULL && photos->crash_length < sizeof(photos->crash) &&
		   sscanf(hex, "%2x", &byte) == 1)
	{
		photos->crash[photos->crash_length++] = (uint8_t) byte;
		hex += strnlen(hex, 2);
	}
}

fa_status
fa_photos_start(fa_ring *ring, int threads, fa_photos **photos, fa_error *error)
{
	fa_photos *p = calloc(1, sizeof(fa_photos));

	*photos = p;
	if (p == NULL)
		return fa_no_memory(error, sizeof(fa_photos));
	p->ring = ring;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->added, NULL);
	read_crash(p);
	for (int i = 0; i < threads && i < FA_RING_WORKERS; i++)
	{
		pthread_t thread;

		if (pthread_create(&thread, NULL, work, p) != 0)
			return fa_fail(error, FA_INTERNAL, "no thread could be started");
		pthread_detach(thread);
	}
	return FA_OK;
}
