/*
 * test_exchange.c
 *		The ring's slots, and a session's requests and replies, without faceattr-service: this
 *		program plays all parts, a stranger's who scribbles and a service's that lies among them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/face/pipeline.h"
#include "../../src/service/client.h"
#include "../../src/service/exchange.h"
#include "../../src/service/wire.h"
#include "../../trainer/common.h"

#define MB ((size_t) 1 << 20)
#define MODEL "weights/default.safetensors"

static fa_error error;

/* A ring that sessions may use. */
static void
open_stage(int slots, fa_ring *stage)
{
	assert_int_equal(fa_ring_create(slots, stage, &error), FA_OK);
	atomic_store(&stage->header->state, FA_SERVICE_READY);
	fa_service_use(stage);
}

static fa_slot_state
state_of(const fa_ring *of, int slot)
{
	return fa_word_state(atomic_load(&of->slot[slot].word));
}

/* Megabytes that the file has. */
static size_t
pages_of(const fa_ring *of)
{
	struct stat facts;

	assert_int_equal(fstat(of->fd, &facts), 0);
	return (size_t) facts.st_blocks / 2048;
}

/* Claimed, submitted and, if that is wanted, taken. */
static fa_claim
submit_one(fa_ring *stage, bool take)
{
	fa_claim claim;
	fa_request request;

	assert_true(fa_ring_claim(stage, &claim));
	assert_true(fa_ring_submit(stage, &claim));
	if (take)
		assert_true(fa_ring_take(stage, claim.slot, &request));
	return claim;
}

/* Who waits is not told of another's answer, nor frees his slot. */
static void
test_slot_of_another(void **state)
{
	fa_ring stage;
	fa_claim one, other;
	fa_request request;
	fa_reply reply = {.length = 7};

	(void) state;
	open_stage(1, &stage);
	assert_true(fa_ring_claim(&stage, &one));
	assert_true(fa_ring_submit(&stage, &one));
	assert_true(fa_ring_take(&stage, 0, &request));
	assert_int_equal(fa_ring_wait(&stage, &one, 1), FA_WAIT_MORE);
	atomic_store(&stage.slot[0].word, 0);
	assert_true(fa_ring_claim(&stage, &other));
	assert_int_equal(fa_ring_wait(&stage, &one, 1), FA_WAIT_LOST);
	assert_false(fa_ring_submit(&stage, &one));
	assert_true(fa_ring_submit(&stage, &other));
	/* which is not at work as long as the other's request is, nor is that one's reply for it */
	assert_false(fa_ring_take(&stage, 0, &request));
	assert_false(fa_ring_finish(&stage, 0, &reply));
	assert_true(fa_ring_take(&stage, 0, &request));
	assert_true(fa_ring_finish(&stage, 0, &reply));
	assert_int_equal(fa_ring_wait(&stage, &one, 1), FA_WAIT_LOST);
	assert_false(fa_ring_release(&stage, &one));
	fa_ring_abandon(&stage, &one);
	assert_int_equal(state_of(&stage, 0), FA_SLOT_DONE);
	assert_int_equal(fa_ring_wait(&stage, &other, 1), FA_WAIT_DONE);
	assert_true(fa_ring_release(&stage, &other));
	assert_int_equal(state_of(&stage, 0), FA_SLOT_FREE);
	fa_ring_close(&stage);
}

typedef struct meddler
{
	fa_ring *stage;
	uint64_t before; /* a state to write over the slot's, when it is submitted ... */
	uint64_t after;  /* ... or, in place of an answer, its whole word */
} meddler;

static void *
meddle(void *argument)
{
	const meddler *m = argument;
	_Atomic uint64_t *word = &m->stage->slot[0].word;

	while (fa_word_state(atomic_load(word)) != FA_SLOT_SUBMITTED)
		usleep(1000);
	if (m->before != 0)
		atomic_store(word, fa_word_with(atomic_load(word), (fa_slot_state) m->before));
	else
		atomic_store(word, m->after);
	return NULL;
}

/* An exchange fails at once, whatever becomes of its slot, and takes no reply of an earlier one. */
static void
test_exchange_scribbled_over(void **state)
{
	static const meddler meddlers[] = {{NULL, FA_SLOT_DONE, 0},    {NULL, FA_SLOT_CLAIMED, 0},
									   {NULL, FA_SLOT_FREE, 0},    {NULL, 77, 0},
									   {NULL, 0, UINT64_MAX << 8}, {NULL, 0, FA_SLOT_DONE}};
	fa_ring stage;
	fa_claim earlier;
	fa_request request;
	fa_reply reply = {.length = 7};

	(void) state;
	open_stage(1, &stage);
	/* a reply that a later exchange could take for its own */
	assert_true(fa_ring_claim(&stage, &earlier));
	assert_true(fa_ring_submit(&stage, &earlier));
	assert_true(fa_ring_take(&stage, 0, &request));
	assert_true(fa_ring_finish(&stage, 0, &reply));
	assert_true(fa_ring_release(&stage, &earlier));
	for (size_t i = 0; i < sizeof(meddlers) / sizeof(meddlers[0]); i++)
	{
		meddler m = meddlers[i];
		pthread_t thread;
		fa_exchange x;

		m.stage = &stage;
		assert_int_equal(fa_exchange_begin(&x, FA_REQUEST_RUN, 0, NULL, &error), FA_OK);
		assert_int_equal(pthread_create(&thread, NULL, meddle, &m), 0);
		assert_int_equal(fa_exchange_call(&x, NULL, &error), FA_DEVICE_LOST);
		assert_string_equal(error.message, "the memory of faceattr-service is damaged");
		pthread_join(thread, NULL);
		atomic_store(&stage.slot[0].word, 0);
	}
	fa_ring_close(&stage);
}

static void
scribble(fa_ring *stage, int slot, uint64_t owner, uint64_t state)
{
	atomic_store(&stage->slot[slot].word, owner << 32 | UINT64_C(77) << 8 | state);
}

/* By its word a process's own, but not claimed by it: it is found by who looks for a slot. */
static void
test_slots_of_nobody(void **state)
{
	static const fa_slot_state states[] = {FA_SLOT_CLAIMED, FA_SLOT_SUBMITTED, FA_SLOT_RUNNING,
										   FA_SLOT_DONE};
	fa_ring stage;
	fa_claim own, claim;

	(void) state;
	open_stage(2, &stage);
	assert_true(fa_ring_claim(&stage, &own));
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
	{
		scribble(&stage, 1, (uint64_t) getpid(), states[i]);
		assert_false(fa_ring_claim(&stage, &claim));
		assert_int_equal(state_of(&stage, 1), FA_SLOT_ABANDONED);
		assert_false(fa_ring_tidy(&stage, 1));
		assert_true(fa_ring_claim(&stage, &claim));
		assert_true(fa_ring_release(&stage, &claim));
		/* its own it keeps */
		assert_int_equal(state_of(&stage, 0), FA_SLOT_CLAIMED);
	}
	/* another's it leaves alone */
	scribble(&stage, 1, (uint64_t) getppid(), FA_SLOT_DONE);
	assert_false(fa_ring_claim(&stage, &claim));
	assert_int_equal(state_of(&stage, 1), FA_SLOT_DONE);
	/* a worker of the service has one slot, and finds it again whoever is said to have it */
	scribble(&stage, 2, (uint64_t) getppid(), FA_SLOT_DONE);
	assert_false(fa_ring_claim_slot(&stage, 2, &claim));
	assert_false(fa_ring_tidy(&stage, 2));
	assert_true(fa_ring_claim_slot(&stage, 2, &claim));
	fa_ring_close(&stage);
}

/* What the service is at it does not take again, and what it is not at it ends or frees. */
static void
test_what_the_service_holds(void **state)
{
	fa_ring stage;
	fa_claim claim;
	fa_request request;
	fa_reply reply = {.length = 7};

	(void) state;
	open_stage(1, &stage);
	claim = submit_one(&stage, true);
	assert_true(fa_ring_is_wanted(&stage, 0));
	atomic_store(&stage.slot[0].word, fa_word_with(claim.word, FA_SLOT_SUBMITTED));
	assert_false(fa_ring_take(&stage, 0, &request));
	assert_false(fa_ring_is_wanted(&stage, 0));
	atomic_store(&stage.slot[0].word, fa_word_with(claim.word, FA_SLOT_RUNNING));
	assert_false(fa_ring_tidy(&stage, 0));
	assert_int_equal(state_of(&stage, 0), FA_SLOT_RUNNING);
	assert_true(fa_ring_finish(&stage, 0, &reply));
	assert_true(fa_ring_release(&stage, &claim));

	claim = submit_one(&stage, false);
	atomic_store(&stage.slot[0].word, fa_word_with(claim.word, FA_SLOT_RUNNING));
	assert_false(fa_ring_tidy(&stage, 0));
	assert_int_equal(fa_ring_wait(&stage, &claim, 1), FA_WAIT_DONE);
	assert_int_equal(stage.slot[0].reply.status, FA_DEVICE_LOST);
	assert_true(fa_ring_release(&stage, &claim));

	scribble(&stage, 0, 1, FA_SLOT_ABANDONED);
	assert_false(fa_ring_tidy(&stage, 0));
	assert_int_equal(state_of(&stage, 0), FA_SLOT_FREE);
	scribble(&stage, 0, 1, 99);
	assert_false(fa_ring_tidy(&stage, 0));
	assert_int_equal(state_of(&stage, 0), FA_SLOT_FREE);
	fa_ring_close(&stage);
}

/* The intake sees the next request while it still holds the one before: it is told once more. */
static void
test_next_request_is_not_overlooked(void **state)
{
	fa_ring stage;
	fa_claim claim;
	fa_request request;
	fa_reply reply = {.length = 7};
	uint32_t seen;

	(void) state;
	open_stage(1, &stage);
	submit_one(&stage, true);
	atomic_store(&stage.slot[0].word, 0);
	claim = submit_one(&stage, false);
	seen = atomic_load(&stage.header->doorbell);
	assert_false(fa_ring_take(&stage, 0, &request));
	assert_false(fa_ring_finish(&stage, 0, &reply));
	assert_int_not_equal(atomic_load(&stage.header->doorbell), seen);
	assert_true(fa_ring_take(&stage, 0, &request));
	assert_true(fa_ring_finish(&stage, 0, &reply));
	assert_true(fa_ring_release(&stage, &claim));
	fa_ring_close(&stage);
}

static bool
is_me(uint32_t pid)
{
	return pid == (uint32_t) getpid();
}

static void
test_slots_of_the_dead(void **state)
{
	fa_ring stage;
	pid_t child;
	fa_claim claim;
	int status;

	(void) state;
	open_stage(2, &stage);
	child = fork();
	if (child == 0)
		_exit(fa_ring_claim(&stage, &claim) ? 0 : 1);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 1);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 0);
	/* one's own are not */
	assert_true(fa_ring_claim(&stage, &claim));
	assert_int_equal(claim.slot, 0);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 0);
	assert_true(fa_ring_release(&stage, &claim));
	fa_ring_close(&stage);
}

/* Who is a session is for the server to say: a process of that number is not enough. */
static void
test_slots_of_strangers(void **state)
{
	static const fa_slot_state states[] = {FA_SLOT_CLAIMED, FA_SLOT_SUBMITTED, FA_SLOT_DONE,
										   (fa_slot_state) 99};
	fa_ring stage;

	(void) state;
	open_stage(4, &stage);
	for (int i = 0; i < 4; i++)
		scribble(&stage, i, i % 2 == 0 ? 1 : (uint64_t) getppid(), states[i]);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(state_of(&stage, i), FA_SLOT_FREE);
	scribble(&stage, 0, 1, FA_SLOT_RUNNING);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 1);
	assert_int_equal(state_of(&stage, 0), FA_SLOT_ABANDONED);
	scribble(&stage, 1, (uint64_t) getpid(), FA_SLOT_SUBMITTED);
	assert_int_equal(fa_ring_reclaim(&stage, is_me), 0);
	/* and with the service all that it could have had is gone */
	scribble(&stage, 2, (uint64_t) getpid(), 99);
	assert_int_equal(fa_ring_settle(&stage, FA_DEVICE_LOST, "it died", ""), 1);
	assert_int_equal(state_of(&stage, 0), FA_SLOT_FREE);
	assert_int_equal(state_of(&stage, 1), FA_SLOT_DONE);
	assert_int_equal(state_of(&stage, 2), FA_SLOT_FREE);
	fa_ring_close(&stage);
}

/* --- Memory ---------------------------------------------------------------------------------- */

/* What cannot fail later: the pages of all slots. */
static void
test_head_is_there(void **state)
{
	fa_ring stage;
	struct stat facts;

	(void) state;
	open_stage(FA_RING_MAX_SLOTS, &stage);
	assert_int_equal(fstat(stage.fd, &facts), 0);
	assert_true((size_t) facts.st_blocks * 512 >= FA_RING_MAX_SLOTS * sizeof(fa_slot));
	fa_ring_close(&stage);
}

/* What a service leaves that died while it wrote a large reply. */
static void
test_memory_of_half_a_reply(void **state)
{
	char *data = calloc(64, MB);
	fa_ring stage;
	fa_claim claim;
	fa_request request;

	(void) state;
	open_stage(2, &stage);
	for (int i = 0; i < 2; i++)
	{
		assert_true(fa_ring_claim(&stage, &claim));
		assert_true(fa_ring_submit(&stage, &claim));
		assert_true(fa_ring_take(&stage, i, &request));
		assert_int_equal(fa_ring_write(&stage, i, FA_AREA_REPLY, 0, data, 64 * MB, NULL, &error),
						 FA_OK);
		if (i == 1)
			fa_ring_abandon(&stage, &claim);
	}
	assert_true(pages_of(&stage) > 120);
	assert_int_equal(fa_ring_settle(&stage, FA_DEVICE_LOST, "it died", ""), 1);
	assert_int_equal(state_of(&stage, 0), FA_SLOT_DONE);
	assert_int_equal(state_of(&stage, 1), FA_SLOT_FREE);
	assert_true(pages_of(&stage) <= 5);
	fa_ring_close(&stage);
	free(data);
}

/* --- Answers that make no sense ------------------------------------------------------------------
 */

/* A service that answers once, with this. */
typedef struct script
{
	fa_ring *stage;
	fa_reply reply;
	const void *bytes; /* of the reply's area */
	size_t length;
	bool detector; /* reply.length is the detector's */
} script;

static void *
answer_once(void *argument)
{
	const script *s = argument;
	fa_request request;
	fa_error own;

	fa_reply reply = s->reply;

	while (!fa_ring_take(s->stage, 0, &request))
		usleep(1000);
	for (size_t stride = 8; s->detector && stride <= 32; stride *= 2)
		reply.length += request.height / stride * (request.width / stride) * 16 * sizeof(float);
	assert_int_equal(fa_ring_write(s->stage, 0, FA_AREA_REPLY, 0, s->bytes, s->length, NULL, &own),
					 FA_OK);
	assert_true(fa_ring_finish(s->stage, 0, &reply));
	return NULL;
}

static void
open_pipelines(fa_ring *stage, fa_pipeline **own, fa_pipeline **remote)
{
	static const uint8_t key[FA_SERVICE_KEY] = {7};
	script s = {.stage = stage, .reply = {.count = FA_PRECISION_FP32}};
	fa_precision resolved;
	pthread_t thread;
	void *block;
	size_t length;

	assert_int_equal(
		fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_FP32, "weights", MODEL, own, &error),
		FA_OK);
	s.bytes = (*own)->attributes.metadata;
	s.length = s.reply.length = (*own)->attributes.metadata_length;
	assert_int_equal(
		fa_ring_sum(key, FA_PRECISION_FP32, s.bytes, s.length, &s.reply.sum, NULL, &error), FA_OK);
	assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
	assert_int_equal(
		fa_service_model(key, FA_PRECISION_FP32, NULL, &resolved, &block, &length, NULL, &error),
		FA_OK);
	pthread_join(thread, NULL);
	assert_int_equal(
		fa_pipeline_open_packed(&fa_service_engine, NULL, resolved, block, length, remote, &error),
		FA_OK);
	free(block);
	fa_service_read_there(*remote, true);
}

#define DETECTORS 1 /* bytes: as many as the detector's outputs have */

typedef struct lie
{
	int kind; /* what the reply is full of */
	uint64_t length;
	float value; /* what its area is full of */
} lie;

static void
test_answers_that_make_no_sense(void **state)
{
	/* of the right length, no numbers and what no sigmoid says; and of wrong ones */
	static const lie lies[] = {{0, DETECTORS, NAN},
							   {0, DETECTORS, INFINITY},
							   {0, DETECTORS, 1.5f},
							   {0, DETECTORS, -0.1f},
							   {1, 3, 1},
							   {2, UINT64_MAX, 1},
							   {3, 0, 0},
							   {6, 0, 0}};
	static float values[1 << 20];
	fa_face_options options;
	fa_pipeline *own, *remote;
	fa_ring stage;
	uint8_t *bytes;
	size_t length;

	(void) state;
	open_stage(1, &stage);
	open_pipelines(&stage, &own, &remote);
	options = fa_pipeline_options(remote);
	assert_int_equal(fa_read_file("demo/photos/portrait.jpg", &bytes, &length, &error), FA_OK);
	for (int there = 0; there < 2; there++)
		for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++)
		{
			script s = {.stage = &stage, .bytes = values, .length = sizeof(values)};
			pthread_t thread;
			fa_faces faces;

			for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
				values[k] = lies[i].value;
			memset(&s.reply, lies[i].kind, sizeof(s.reply));
			s.reply.status = lies[i].kind == 3 ? 77 : FA_OK;
			s.detector = lies[i].length == DETECTORS;
			s.reply.length = s.detector ? 0 : lies[i].length;
			fa_service_read_there(remote, there == 1);
			assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
			assert_int_equal(
				fa_find_faces(remote, bytes, length, &options, true, &faces, NULL, &error),
				FA_DEVICE_LOST);
			pthread_join(thread, NULL);
			while (fa_ring_tidy(&stage, 0))
				;
			assert_int_equal(state_of(&stage, 0), FA_SLOT_FREE);
		}
	free(bytes);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
	fa_ring_close(&stage);
}

/* A face of a photo of 100 x 80, as the default model could see it. */
static fa_wire_face
good_face(bool classified)
{
	fa_wire_face face = {.box = {10, 20, 40, 60.5}, .score = 0.75f, .detect_score = 0.8f};

	for (int i = 0; i < FA_LANDMARKS; i++)
		face.landmarks[i][0] = face.landmarks[i][1] = 30;
	if (!classified)
		return face;
	face.classified = face.has_age = face.has_gender = face.has_race = 1;
	face.age = 30;
	face.age_low = 25;
	face.age_high = 36;
	face.gender_confidence = 0.9f;
	face.race_confidence = 0.5f;
	face.race = 4;
	return face;
}

/* A member of a face, and what it cannot be. */
typedef struct spoilt
{
	size_t place;
	double value;
	enum
	{
		DOUBLE,
		FLOAT,
		INT,
		BYTE
	} type;
} spoilt;

#define OF(member) offsetof(fa_wire_face, member)

static const spoilt spoils[] = {{OF(box[2]), 10, DOUBLE},
								{OF(box[3]), 80.5, DOUBLE},
								{OF(box[0]), -1, DOUBLE},
								{OF(box[1]), NAN, DOUBLE},
								{OF(landmarks[4][1]), INFINITY, DOUBLE},
								{OF(score), 0.49, FLOAT}, /* below min_score */
								{OF(score), NAN, FLOAT},
								{OF(detect_score), 0.7, FLOAT}, /* verification never adds to it */
								{OF(detect_score), 1.5, FLOAT},
								{OF(classified), 0, BYTE},
								{OF(has_age), 0, BYTE},
								{OF(has_race), 0, BYTE},
								{OF(age), -5, FLOAT},
								{OF(age), 1e30, FLOAT},
								{OF(age_low), 31, FLOAT},
								{OF(age_low), -1, FLOAT},
								{OF(age_high), 29, FLOAT},
								{OF(age_high), 101, FLOAT},
								{OF(gender), 2, INT},
								{OF(race), -1, INT},
								{OF(gender_confidence), 1.01, FLOAT},
								{OF(race_confidence), NAN, FLOAT}};

static fa_wire_face
bad_face(const spoilt *s)
{
	fa_wire_face face = good_face(true);
	char *at = (char *) &face + s->place;
	float real = (float) s->value;
	int32_t whole = s->type == INT || s->type == BYTE ? (int32_t) s->value : 0;

	switch (s->type)
	{
		case DOUBLE:
			memcpy(at, &s->value, sizeof(double));
			break;
		case FLOAT:
			memcpy(at, &real, sizeof(real));
			break;
		case INT:
			memcpy(at, &whole, sizeof(whole));
			break;
		default:
			*at = (char) whole;
	}
	return face;
}

static fa_status
find_there(fa_ring *stage, fa_pipeline *remote, bool classify, const fa_wire_face *face,
		   uint32_t width, const float *embedding, fa_faces *faces)
{
	size_t dimension = embedding == NULL ? 0 : (size_t) fa_pipeline_embedding_size(remote);
	char *bytes = calloc(1, sizeof(*face) + dimension * sizeof(float));
	fa_face_options options = fa_pipeline_options(remote);
	script s = {.stage = stage,
				.reply = {.length = sizeof(*face) + dimension * sizeof(float),
						  .count = 1,
						  .width = width,
						  .height = 80,
						  .dimension = (uint32_t) dimension},
				.bytes = bytes,
				.length = sizeof(*face) + dimension * sizeof(float)};
	float *embeddings = NULL;
	pthread_t thread;
	fa_status status;

	memcpy(bytes, face, sizeof(*face));
	if (embedding != NULL)
		memcpy(bytes + sizeof(*face), embedding, dimension * sizeof(float));
	options.min_score = 0.5f;
	assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
	status = fa_find(remote, "photo", 5, &options, classify, faces,
					 embedding == NULL ? NULL : &embeddings, NULL, &error);
	pthread_join(thread, NULL);
	assert_int_equal(state_of(stage, 0), FA_SLOT_FREE);
	free(embeddings);
	free(bytes);
	return status;
}

static void
test_faces_that_cannot_be(void **state)
{
	fa_ring stage;
	fa_pipeline *own, *remote;
	fa_wire_face face = good_face(true);
	float *embedding;
	fa_faces faces;

	(void) state;
	open_stage(1, &stage);
	open_pipelines(&stage, &own, &remote);
	assert_int_equal(find_there(&stage, remote, true, &face, 100, NULL, &faces), FA_OK);
	assert_int_equal(faces.count, 1);
	assert_true(faces.faces[0].box.y2 == 60.5 && faces.faces[0].age == 30 &&
				faces.faces[0].race == 4 && faces.faces[0].score == 0.75f);
	fa_faces_free(&faces);
	for (size_t i = 0; i <= sizeof(spoils) / sizeof(spoils[0]); i++)
	{
		if (i == 0)
			memset(&face, 0, sizeof(face));
		else
			face = bad_face(&spoils[i - 1]);
		assert_int_equal(find_there(&stage, remote, true, &face, 100, NULL, &faces),
						 FA_DEVICE_LOST);
		assert_string_equal(error.detail, "A face is out of range.");
		assert_null(faces.faces);
	}
	/* as asked: not classified; and of a photo that can be */
	face = good_face(true);
	assert_int_equal(find_there(&stage, remote, false, &face, 100, NULL, &faces), FA_DEVICE_LOST);
	assert_int_equal(find_there(&stage, remote, true, &face, 0, NULL, &faces), FA_DEVICE_LOST);
	assert_int_equal(find_there(&stage, remote, true, &face, 10000000, NULL, &faces),
					 FA_DEVICE_LOST);
	face = good_face(false);
	assert_int_equal(find_there(&stage, remote, false, &face, 100, NULL, &faces), FA_OK);
	fa_faces_free(&faces);

	face = good_face(true);
	embedding = calloc((size_t) fa_pipeline_embedding_size(remote), sizeof(float));
	assert_int_equal(find_there(&stage, remote, true, &face, 100, embedding, &faces),
					 FA_DEVICE_LOST);
	embedding[1] = 1.1f;
	assert_int_equal(find_there(&stage, remote, true, &face, 100, embedding, &faces),
					 FA_DEVICE_LOST);
	embedding[1] = -1;
	assert_int_equal(find_there(&stage, remote, true, &face, 100, embedding, &faces), FA_OK);
	fa_faces_free(&faces);
	free(embedding);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
	fa_ring_close(&stage);
}

static fa_status
classify_there(fa_ring *stage, fa_pipeline *remote, const void *crop, const fa_wire_face *face,
			   const fa_wire_error *wire, fa_face *to, fa_error *own)
{
	char bytes[sizeof(*face) + sizeof(*wire)];
	script s = {.stage = stage,
				.reply = {.length = sizeof(bytes)},
				.bytes = bytes,
				.length = sizeof(bytes)};
	pthread_t thread;
	fa_status status;

	memcpy(bytes, face, sizeof(*face));
	memcpy(bytes + sizeof(*face), wire, sizeof(*wire));
	assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
	status = fa_classify_crops(remote, &(fa_bytes){crop, 4}, 1, 100000, to, own, NULL, &error);
	pthread_join(thread, NULL);
	return status;
}

static void
test_crops_that_cannot_be(void **state)
{
	static const fa_wire_face nothing;
	fa_ring stage;
	fa_pipeline *own, *remote;
	fa_wire_face face = good_face(true);
	fa_wire_error none = {.status = FA_OK}, bad = {FA_DAMAGED, "it is damaged", ""};
	fa_face to;
	fa_error of;

	(void) state;
	open_stage(1, &stage);
	open_pipelines(&stage, &own, &remote);
	face.box[0] = face.box[1] = 0;
	assert_int_equal(classify_there(&stage, remote, "crop", &face, &none, &to, &of), FA_OK);
	assert_true(to.classified && to.age == 30 && of.status == FA_OK);
	assert_int_equal(classify_there(&stage, remote, "crop", &nothing, &bad, &to, &of), FA_OK);
	assert_false(to.classified);
	assert_string_equal(of.message, "it is damaged");
	assert_int_equal(classify_there(&stage, remote, NULL, &nothing, &none, &to, &of), FA_OK);
	/* neither face nor error; a face that is not all of the crop, or of one too large */
	assert_int_equal(classify_there(&stage, remote, "crop", &nothing, &none, &to, &of),
					 FA_DEVICE_LOST);
	face.box[0] = 1;
	assert_int_equal(classify_there(&stage, remote, "crop", &face, &none, &to, &of),
					 FA_DEVICE_LOST);
	face.box[0] = 0;
	face.box[2] = 1e6;
	assert_int_equal(classify_there(&stage, remote, "crop", &face, &none, &to, &of),
					 FA_DEVICE_LOST);
	/* an error of no crop, one without words, one that is none of a crop's */
	assert_int_equal(classify_there(&stage, remote, NULL, &nothing, &bad, &to, &of),
					 FA_DEVICE_LOST);
	bad.message[0] = '\0';
	assert_int_equal(classify_there(&stage, remote, "crop", &nothing, &bad, &to, &of),
					 FA_DEVICE_LOST);
	bad = (fa_wire_error){FA_INTERRUPTED, "interrupted", ""};
	assert_int_equal(classify_there(&stage, remote, "crop", &nothing, &bad, &to, &of),
					 FA_DEVICE_LOST);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
	fa_ring_close(&stage);
}

static fa_status
annotate_there(fa_ring *stage, fa_pipeline *remote, const char *photo, const fa_format *format,
			   const char *image)
{
	script s = {.stage = stage,
				.reply = {.length = strlen(image)},
				.bytes = image,
				.length = strlen(image)};
	fa_face_options options = fa_pipeline_options(remote);
	pthread_t thread;
	uint8_t *annotated;
	size_t length;
	fa_status status;

	assert_int_equal(pthread_create(&thread, NULL, answer_once, &s), 0);
	status = fa_annotate(remote, photo, strlen(photo), &options, format, &annotated, &length, NULL,
						 &error);
	pthread_join(thread, NULL);
	free(annotated);
	return status;
}

static void
test_images_that_cannot_be(void **state)
{
	static const char jpeg[] = "\xff\xd8\xff\xe0 and so on", png[] = "\x89PNG\r\n\x1a\n and so on";
	static const fa_format as_jpeg = FA_FORMAT_JPEG, as_png = FA_FORMAT_PNG;
	fa_ring stage;
	fa_pipeline *own, *remote;

	(void) state;
	open_stage(1, &stage);
	open_pipelines(&stage, &own, &remote);
	assert_int_equal(annotate_there(&stage, remote, jpeg, NULL, jpeg), FA_OK);
	assert_int_equal(annotate_there(&stage, remote, png, NULL, png), FA_OK);
	assert_int_equal(annotate_there(&stage, remote, png, &as_jpeg, jpeg), FA_OK);
	assert_int_equal(annotate_there(&stage, remote, jpeg, NULL, png), FA_DEVICE_LOST);
	assert_int_equal(annotate_there(&stage, remote, png, &as_png, jpeg), FA_DEVICE_LOST);
	assert_int_equal(annotate_there(&stage, remote, jpeg, NULL, "<svg>"), FA_DEVICE_LOST);
	assert_int_equal(annotate_there(&stage, remote, jpeg, NULL, ""), FA_DEVICE_LOST);
	fa_pipeline_close(own);
	fa_pipeline_close(remote);
	fa_ring_close(&stage);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slot_of_another),
		cmocka_unit_test(test_exchange_scribbled_over),
		cmocka_unit_test(test_slots_of_nobody),
		cmocka_unit_test(test_what_the_service_holds),
		cmocka_unit_test(test_next_request_is_not_overlooked),
		cmocka_unit_test(test_slots_of_the_dead),
		cmocka_unit_test(test_slots_of_strangers),
		cmocka_unit_test(test_head_is_there),
		cmocka_unit_test(test_memory_of_half_a_reply),
		cmocka_unit_test(test_answers_that_make_no_sense),
		cmocka_unit_test(test_faces_that_cannot_be),
		cmocka_unit_test(test_crops_that_cannot_be),
		cmocka_unit_test(test_images_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
