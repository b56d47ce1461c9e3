/*
 * reader.c
 *		For faceattr.decode_in = service: whole photos and crops go to the service, and faces come
 *		back; see wire.h. Every value is checked against what the pipeline can say.
 */
#include "client.h"

#include "../face/pipeline.h"
#include "exchange.h"
#include "wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What the service's part took, added to what the pipeline has done. */
static void
add_work(fa_pipeline *p, const fa_reply *reply, int64_t images, int64_t faces)
{
	const fa_work *w = &reply->work;
	double sum = w->decode + w->detect + w->classify;

	p->work.images += images;
	p->work.faces += faces;
	if (!(w->decode >= 0 && w->detect >= 0 && w->classify >= 0 && sum < 1e6))
		return;
	p->work.decode += w->decode;
	p->work.detect += w->detect;
	p->work.classify += w->classify;
}

static fa_status
begin(fa_exchange *x, const fa_pipeline *p, fa_request_kind kind, size_t length,
	  const fa_interrupt *interrupt, fa_error *error)
{
	FA_TRY(fa_exchange_begin(x, kind, length, interrupt, error));
	fa_service_name_model(p, x->request.model);
	x->request.precision = p->precision;
	return FA_OK;
}

/* What a face can be. */
typedef struct bounds
{
	double width, height, pixels; /* of the image, at most */
	float min_score;
	bool classified;
} bounds;

/* false of what is no number, too. */
static bool
is_within(double low, double value, double high)
{
	return value >= low && value <= high;
}

static bool
is_somewhere(const fa_wire_face *f, const bounds *b)
{
	const double *box = f->box;
	double sum = 0;

	for (int i = 0; i < FA_LANDMARKS; i++)
		sum += f->landmarks[i][0] + f->landmarks[i][1];
	return isfinite(sum) && is_within(0, box[0], box[2]) && is_within(0, box[1], box[3]) &&
		   box[0] < box[2] && box[2] <= b->width && box[1] < box[3] && box[3] <= b->height &&
		   (box[2] - box[0]) * (box[3] - box[1]) <= b->pixels &&
		   is_within(b->min_score, f->score, f->detect_score) && f->detect_score <= 1;
}

/* Years; an expected value may be beyond the last class by what rounding makes of it. */
static bool
is_age(const fa_wire_face *f, int classes)
{
	return is_within(0, f->age_low, f->age) && is_within(f->age, f->age_high, classes - 0.99);
}

/* Of a head that the model has, and of none that it lacks. */
static bool
is_label(int has, int label, float confidence, const fa_attribute_model *m, int head)
{
	if (has != (head >= 0))
		return false;
	return has == 0 ||
		   (label >= 0 && label < m->heads[head].classes && is_within(0, confidence, 1));
}

static bool
has_attributes(const fa_wire_face *f, const fa_attribute_model *m)
{
	return f->has_age == (m->age >= 0) && (m->age < 0 || is_age(f, m->heads[m->age].classes)) &&
		   is_label(f->has_gender, f->gender, f->gender_confidence, m, m->gender) &&
		   is_label(f->has_race, f->race, f->race_confidence, m, m->race);
}

/* false: this is no face of the pipeline's, and of such an image. */
static bool
read_face(const fa_pipeline *p, const fa_wire_face *from, const bounds *b, fa_face *to)
{
	memset(to, 0, sizeof(*to));
	if (!is_somewhere(from, b) || from->classified != b->classified)
		return false;
	to->box = (fa_rect){from->box[0], from->box[1], from->box[2], from->box[3]};
	memcpy(to->landmarks, from->landmarks, sizeof(to->landmarks));
	to->score = from->score;
	to->detect_score = from->detect_score;
	if (!b->classified)
		return true;
	if (!has_attributes(from, &p->attributes))
		return false;
	to->classified = true;
	to->has_age = from->has_age;
	to->has_gender = from->has_gender;
	to->has_race = from->has_race;
	to->age = from->age;
	to->age_low = from->age_low;
	to->age_high = from->age_high;
	to->gender = from->gender;
	to->race = from->race;
	to->gender_confidence = from->gender_confidence;
	to->race_confidence = from->race_confidence;
	return true;
}

static bool
is_unit_length(const float *values, size_t n)
{
	double squares = 0;

	for (size_t i = 0; i < n; i++)
		squares += (double) values[i] * values[i];
	return fabs(squares - 1) < 1e-3;
}

/* An answer may be as it should, be nonsense, which `wrong` tells of, or not be had: *error. */
typedef struct answer
{
	fa_exchange *x;
	const fa_pipeline *pipeline;
	const fa_interrupt *interrupt;
	fa_error *error;
} answer;

static fa_status
nonsense(const answer *a, const char *wrong)
{
	return fa_exchange_nonsense(a->x, wrong, a->error);
}

static fa_status
read_bytes(const answer *a, void *to, size_t length)
{
	return fa_exchange_read(a->x, to, length, a->interrupt, a->error);
}

static fa_status
read_floats(const answer *a, float *to, size_t n, const char *wrong)
{
	FA_TRY(read_bytes(a, to, n * sizeof(float)));
	return fa_all_finite(to, n) ? FA_OK : nonsense(a, wrong);
}

static fa_status
no_room(const answer *a, size_t bytes)
{
	fa_exchange_give_up(a->x);
	return fa_no_memory(a->error, bytes);
}

#define FACES 64 /* read at once */

static fa_status
read_found(const answer *a, const bounds *b, fa_faces *faces)
{
	const fa_reply *r = &a->x->reply;
	fa_wire_face some[FACES];

	for (uint32_t i = 0; i < r->count; i++)
	{
		if (i % FACES == 0)
			FA_TRY(read_bytes(
				a, some, (r->count - i < FACES ? r->count - i : FACES) * sizeof(fa_wire_face)));
		if (!read_face(a->pipeline, &some[i % FACES], b, &faces->faces[i]))
			return nonsense(a, "A face is out of range.");
	}
	return FA_OK;
}

/* The reply to FIND. */
static fa_status
read_faces(const answer *a, fa_faces *faces, float **embeddings)
{
	const fa_reply *r = &a->x->reply;
	const fa_request *asked = &a->x->request;
	const bounds b = {.width = r->width,
					  .height = r->height,
					  .pixels = (double) r->width * r->height,
					  .min_score = asked->options.min_score,
					  .classified = asked->classify};
	size_t dimension = embeddings == NULL ? 0 : (size_t) a->pipeline->attributes.embedding_size;
	size_t each = sizeof(fa_wire_face) + dimension * sizeof(float);

	if (r->count > r->length / each || r->length != r->count * each || r->dimension != dimension ||
		r->count > INT32_MAX)
		return nonsense(a, "The number of faces does not fit the reply.");
	if (r->width < 1 || r->height < 1 || r->width > INT32_MAX || r->height > INT32_MAX ||
		b.pixels > (double) asked->options.max_pixels)
		return nonsense(a, "The photo has no such size.");
	faces->faces = calloc(r->count + 1, sizeof(fa_face));
	if (embeddings != NULL)
		*embeddings = malloc(r->count * dimension * sizeof(float) + 1);
	if (faces->faces == NULL || (embeddings != NULL && *embeddings == NULL))
		return no_room(a, r->length);
	faces->count = (int) r->count;
	faces->width = (int) r->width;
	faces->height = (int) r->height;
	FA_TRY(read_found(a, &b, faces));
	if (embeddings != NULL)
		FA_TRY(read_floats(a, *embeddings, r->count * dimension, "An embedding is not finite."));
	for (uint32_t i = 0; i < r->count && embeddings != NULL; i++)
		if (!is_unit_length(*embeddings + i * dimension, dimension))
			return nonsense(a, "An embedding is of another length.");
	return fa_exchange_end(a->x, a->error);
}

static fa_status
find(fa_pipeline *p, const void *bytes, size_t length, const fa_face_options *options,
	 bool classify, fa_faces *faces, float **embeddings, const fa_interrupt *interrupt,
	 fa_error *error)
{
	fa_exchange x;
	const answer a = {&x, p, interrupt, error};

	FA_TRY(fa_face_options_check(options, error));
	FA_TRY(begin(&x, p, FA_REQUEST_FIND, length, interrupt, error));
	x.request.options = *options;
	x.request.classify = classify;
	x.request.embed = embeddings != NULL;
	FA_TRY(fa_exchange_write(&x, bytes, length, interrupt, error));
	FA_TRY(fa_exchange_call(&x, interrupt, error));
	if (read_faces(&a, faces, embeddings) == FA_OK)
	{
		add_work(p, &x.reply, 1, faces->count);
		return FA_OK;
	}
	fa_faces_free(faces);
	if (embeddings != NULL)
	{
		free(*embeddings);
		*embeddings = NULL;
	}
	return error->status;
}

/* --- Ready crops -------------------------------------------------------------------------- */

#define CROPS 64 /* of a request */

/* Lengths, then bytes; false: too much for one request. */
static bool
crops_length(const fa_bytes *crops, int count, size_t *length)
{
	*length = (size_t) count * sizeof(uint64_t);
	for (int i = 0; i < count; i++)
		if (crops[i].bytes != NULL && !fa_add(*length, crops[i].length, length))
			return false;
	return *length <= FA_REQUEST_AREA;
}

static fa_status
write_crops(fa_exchange *x, const fa_bytes *crops, int count, const fa_interrupt *interrupt,
			fa_error *error)
{
	uint64_t lengths[CROPS];

	for (int i = 0; i < count; i++)
		lengths[i] = crops[i].bytes == NULL ? FA_NO_CROP : crops[i].length;
	FA_TRY(fa_exchange_write(x, lengths, (size_t) count * sizeof(lengths[0]), interrupt, error));
	for (int i = 0; i < count; i++)
		if (crops[i].bytes != NULL)
			FA_TRY(fa_exchange_write(x, crops[i].bytes, crops[i].length, interrupt, error));
	return FA_OK;
}

/* false: no error that spoils one crop only. */
static bool
read_error(const fa_wire_error *from, fa_error *to)
{
	memset(to, 0, sizeof(*to));
	if (from->status > FA_INTERNAL || from->status == FA_INTERRUPTED ||
		from->status == FA_NO_MEMORY || from->status == FA_DEVICE_LOST ||
		(from->status != FA_OK && from->message[0] == '\0'))
		return false;
	to->status = (fa_status) from->status;
	fa_ring_text(to->message, sizeof(to->message), from->message, sizeof(from->message));
	fa_ring_text(to->detail, sizeof(to->detail), from->detail, sizeof(from->detail));
	return true;
}

/* What has become of a crop: a face that is all of it, or an error, or nothing where none was sent.
 */
static bool
read_crop(const answer *a, bool sent, const fa_wire_face *from, const fa_wire_error *error,
		  fa_face *to, fa_error *own)
{
	const bounds b = {.width = INT32_MAX,
					  .height = INT32_MAX,
					  .pixels = (double) a->x->request.options.max_pixels,
					  .classified = true};

	memset(to, 0, sizeof(*to));
	if (!read_error(error, own) || (!sent && own->status != FA_OK))
		return false;
	if (!sent || own->status != FA_OK)
		return true;
	return from->box[0] == 0 && from->box[1] == 0 && read_face(a->pipeline, from, &b, to);
}

/* The reply to CLASSIFY. */
static fa_status
read_crops(const answer *a, const fa_bytes *crops, int count, fa_face *faces, fa_error *errors,
		   float *const *logits, float *embedding, int *found)
{
	const fa_attribute_model *m = &a->pipeline->attributes;
	size_t expected = (size_t) count * (sizeof(fa_wire_face) + sizeof(fa_wire_error));
	fa_wire_face some[CROPS];

	for (int h = 0; h < m->head_count && logits != NULL; h++)
		expected += (size_t) m->heads[h].classes * sizeof(float);
	if (embedding != NULL)
		expected += (size_t) m->embedding_size * sizeof(float);
	if (a->x->reply.length != expected)
		return nonsense(a, "The reply is of another length.");
	FA_TRY(read_bytes(a, some, (size_t) count * sizeof(some[0])));
	for (int i = 0; i < count; i++)
	{
		fa_wire_error wire;

		FA_TRY(read_bytes(a, &wire, sizeof(wire)));
		if (!read_crop(a, crops[i].bytes != NULL, &some[i], &wire, &faces[i], &errors[i]))
			return nonsense(a, "A crop's face or error is out of range.");
		*found += faces[i].classified;
	}
	for (int h = 0; h < m->head_count && logits != NULL; h++)
		FA_TRY(read_floats(a, logits[h], (size_t) m->heads[h].classes, "Logits are not finite."));
	if (embedding != NULL)
		FA_TRY(
			read_floats(a, embedding, (size_t) m->embedding_size, "An embedding is not finite."));
	if (embedding != NULL && faces[0].classified &&
		!is_unit_length(embedding, (size_t) m->embedding_size))
		return nonsense(a, "An embedding is of another length.");
	return fa_exchange_end(a->x, a->error);
}

static fa_status
classify_some(fa_pipeline *p, const fa_bytes *crops, int count, int64_t max_pixels, fa_face *faces,
			  fa_error *errors, float *const *logits, float *embedding,
			  const fa_interrupt *interrupt, fa_error *error)
{
	fa_exchange x;
	const answer a = {&x, p, interrupt, error};
	size_t length;
	int found = 0;

	if (!crops_length(crops, count, &length))
		return fa_fail(error, FA_TOO_LARGE, "these crops are too large for faceattr-service");
	FA_TRY(begin(&x, p, FA_REQUEST_CLASSIFY, length, interrupt, error));
	x.request.options = fa_default_options();
	x.request.options.max_pixels = max_pixels;
	x.request.count = (uint32_t) count;
	x.request.logits = logits != NULL;
	x.request.embed = embedding != NULL;
	FA_TRY(write_crops(&x, crops, count, interrupt, error));
	FA_TRY(fa_exchange_call(&x, interrupt, error));
	FA_TRY(read_crops(&a, crops, count, faces, errors, logits, embedding, &found));
	add_work(p, &x.reply, count, found);
	return FA_OK;
}

static fa_status
classify(fa_pipeline *p, const fa_bytes *crops, int count, int64_t max_pixels, fa_face *faces,
		 fa_error *errors, float *const *logits, float *embedding, const fa_interrupt *interrupt,
		 fa_error *error)
{
	if (p->attributes.model == NULL)
		return fa_fail(error, FA_INVALID, "no attribute model is loaded");
	for (int i = 0; i < count; i += CROPS)
		FA_TRY(classify_some(p, crops + i, count - i < CROPS ? count - i : CROPS, max_pixels,
							 faces + i, errors + i, i == 0 ? logits : NULL,
							 i == 0 ? embedding : NULL, interrupt, error));
	return FA_OK;
}

/* --- Annotated photos ------------------------------------------------------------------------ */

static bool
is_image(const void *bytes, size_t length, fa_format format)
{
	static const char jpeg[] = "\xff\xd8\xff", png[] = "\x89PNG\r\n\x1a\n";
	const char *magic = format == FA_FORMAT_PNG ? png : jpeg;

	return length > strlen(magic) && memcmp(bytes, magic, strlen(magic)) == 0;
}

static fa_status
read_image(const answer *a, fa_format format, uint8_t **image, size_t *length)
{
	*length = a->x->reply.length;
	*image = malloc(*length + 1);
	if (*image == NULL)
		return no_room(a, *length);
	FA_TRY(read_bytes(a, *image, *length));
	if (!is_image(*image, *length, format))
		return nonsense(a, "It is no image of that format.");
	return fa_exchange_end(a->x, a->error);
}

static fa_status
annotate(fa_pipeline *p, const void *bytes, size_t length, const fa_face_options *options,
		 const fa_format *format, uint8_t **annotated, size_t *annotated_length,
		 const fa_interrupt *interrupt, fa_error *error)
{
	fa_exchange x;
	const answer a = {&x, p, interrupt, error};
	fa_format wanted = format == NULL ? FA_FORMAT_JPEG : *format; /* NULL: as the photo is */

	FA_TRY(fa_face_options_check(options, error));
	FA_TRY(begin(&x, p, FA_REQUEST_ANNOTATE, length, interrupt, error));
	x.request.options = *options;
	x.request.format = format == NULL ? -1 : (int32_t) *format;
	FA_TRY(fa_exchange_write(&x, bytes, length, interrupt, error));
	FA_TRY(fa_exchange_call(&x, interrupt, error));
	if (format == NULL)
		wanted = is_image(bytes, length, FA_FORMAT_PNG) ? FA_FORMAT_PNG : FA_FORMAT_JPEG;
	if (read_image(&a, wanted, annotated, annotated_length) == FA_OK)
	{
		add_work(p, &x.reply, 1, 0);
		return FA_OK;
	}
	free(*annotated);
	*annotated = NULL;
	return error->status;
}

static const fa_reader reader = {find, classify, annotate};

void
fa_service_read_there(fa_pipeline *pipeline, bool there)
{
	pipeline->reader = there ? &reader : NULL;
}
