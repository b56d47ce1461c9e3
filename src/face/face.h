/*
 * face.h
 *		Photo in, faces out: the pipeline detect -> align -> classify, for SQL and
 *		for the companion program alike.
 *
 * A pipeline holds one engine, the detector and one attribute model; it belongs
 * to one thread. All coordinates are pixels of the upright photo.
 */
#ifndef FA_FACE_H
#define FA_FACE_H

#include "../nn/engine.h"
#include "../vision/draw.h"
#include "../vision/photo.h"

#define FA_LANDMARKS                                                                               \
	5 /* the person's right eye, left eye, nose, right and left corner of the mouth,               \
	   * as YuNet orders them: left in the image first */
#define FA_MAX_HEADS 8
#define FA_MAX_CLASSES 256

typedef struct fa_face
{
	fa_rect box;
	double landmarks[FA_LANDMARKS][2];
	float score;                        /* detector's and verification's together, 0 ... 1 */
	float detect_score;                 /* the detector's alone: sqrt(cls * obj) */
	bool classified;                    /* the rest is set */
	bool has_age, has_gender, has_race; /* the model has such a head */
	float age, age_low, age_high;       /* years */
	int gender, race;                   /* classes; labels are the model's */
	float gender_confidence, race_confidence;
} fa_face;

typedef struct fa_faces
{
	fa_face *faces; /* largest first; owned: fa_faces_free */
	int count;
	int width, height; /* of the upright photo */
} fa_faces;

/* What changes the answer. A model's metadata hold the ones it was calibrated with. */
typedef struct fa_face_options
{
	int detect_size;    /* longer side at detection, 160 ... 4096 */
	float min_score;    /* faces below it are not reported */
	float min_face;     /* shorter side of the box in photo pixels: smaller ones are not reported */
	bool verify;        /* the classifier's face / not-a-face output takes part in score */
	int64_t max_pixels; /* photos with more are FA_TOO_LARGE */
	bool one_pass;      /* leave out the pass for faces too large for the first: to compare */
} fa_face_options;

typedef struct fa_bytes
{
	const void *bytes;
	size_t length;
} fa_bytes;

typedef struct fa_pipeline fa_pipeline;

/*
 * Opens an engine and reads <directory>/yunet_n.safetensors and the attribute
 * model's file. Errors begin with the file's path.
 */
extern fa_status fa_pipeline_open(const fa_engine_interface *interface,
								  const fa_engine_options *engine_options, fa_precision precision,
								  const char *directory, const char *model_path,
								  fa_pipeline **pipeline, fa_error *error);
/* The same with the attribute model's file in memory, which is not kept. */
extern fa_status fa_pipeline_open_bytes(const fa_engine_interface *interface,
										const fa_engine_options *engine_options,
										fa_precision precision, const char *directory,
										const fa_bytes *model, fa_pipeline **pipeline,
										fa_error *error);
/*
 * All that a pipeline needs, as one malloc'ed block, and a pipeline that runs straight from a
 * copy of it at a multiple of 64, for memory that processes share: see pack and load_packed in
 * engine.h. The pipeline has an attribute model; the block must outlive what is opened from it.
 */
extern fa_status fa_pipeline_pack(fa_pipeline *pipeline, void **block, size_t *length,
								  fa_error *error);
extern fa_status fa_pipeline_open_packed(const fa_engine_interface *interface,
										 const fa_engine_options *engine_options,
										 fa_precision precision, const void *block, size_t length,
										 fa_pipeline **pipeline, fa_error *error);
extern void fa_pipeline_close(fa_pipeline *pipeline);
extern void fa_pipeline_set_threads(fa_pipeline *pipeline, int threads);
extern const char *fa_pipeline_engine(const fa_pipeline *pipeline); /* "cpu", "cuda" */
extern fa_precision fa_pipeline_precision(const fa_pipeline *pipeline);

/* The options in the model's metadata, and those that faceattr ships with (max_pixels: 100
 * million). */
extern fa_face_options fa_pipeline_options(const fa_pipeline *pipeline);
extern fa_face_options fa_default_options(void);

/* Name of the attribute model's network: "mobilenet_v1". */
extern const char *fa_pipeline_network(const fa_pipeline *pipeline);

/* What a pipeline has done: photos and crops, faces reported of them, seconds in each part. */
typedef struct fa_work
{
	int64_t images, faces;
	double decode; /* with scaling and aligning */
	double detect, classify;
} fa_work;

/* Since it was opened or this was called last. */
extern fa_work fa_pipeline_take_work(fa_pipeline *pipeline);

/* A head of the attribute model. */
typedef struct fa_head_info
{
	char name[FA_NAME_LENGTH]; /* "age", "gender", "race", "face", or another */
	int classes;
	const char *const *labels; /* classes of them; the pipeline's */
	float temperature;         /* logits are divided by it */
} fa_head_info;

extern int fa_pipeline_head_count(const fa_pipeline *pipeline);
extern const fa_head_info *fa_pipeline_head(const fa_pipeline *pipeline, int index);
extern int fa_pipeline_find_head(const fa_pipeline *pipeline, const char *name); /* -1: none */
/* Label of a face's class: NULL where the face has none. */
extern const char *fa_gender_label(const fa_pipeline *pipeline, const fa_face *face);
extern const char *fa_race_label(const fa_pipeline *pipeline, const fa_face *face);

/*
 * Faces of a photo, largest first. With classify false the attributes stay
 * unset and no verification takes place. Zeroes *faces first.
 */
extern fa_status fa_find_faces(fa_pipeline *pipeline, const void *bytes, size_t length,
							   const fa_face_options *options, bool classify, fa_faces *faces,
							   const fa_interrupt *interrupt, fa_error *error);
extern void fa_faces_free(fa_faces *faces);

/* The same, with attributes, in pixels that are already there: a video's frame. The image is only
 * read. */
extern fa_status fa_find_faces_in(fa_pipeline *pipeline, const fa_image *image,
								  const fa_face_options *options, fa_faces *faces,
								  const fa_interrupt *interrupt, fa_error *error);

/*
 * Attributes of ready crops (any format and size; scaled to the network's
 * input): faces[i] of crops[i], its box the whole crop, its score the
 * verification's. errors[i].status tells of crop i alone; the return value of
 * what ended the call. A crop of NULL bytes is skipped: faces[i] zeroed, errors[i] FA_OK.
 */
extern fa_status fa_classify_crops(fa_pipeline *pipeline, const fa_bytes *crops, int count,
								   int64_t max_pixels, fa_face *faces, fa_error *errors,
								   const fa_interrupt *interrupt, fa_error *error);

/* Calibrated probabilities of one head on one ready crop; probabilities has head.classes elements.
 */
extern fa_status fa_crop_probabilities(fa_pipeline *pipeline, const void *bytes, size_t length,
									   int64_t max_pixels, int head, float *probabilities,
									   const fa_interrupt *interrupt, fa_error *error);

/*
 * Unit-length embeddings, one row of *dimension floats for each face of
 * fa_find_faces, same order. *embeddings is malloc'ed, the caller's to free().
 */
extern fa_status fa_embed_faces(fa_pipeline *pipeline, const void *bytes, size_t length,
								const fa_face_options *options, fa_faces *faces, float **embeddings,
								int *dimension, const fa_interrupt *interrupt, fa_error *error);

/* Values of an embedding. */
extern int fa_pipeline_embedding_size(const fa_pipeline *pipeline);
/* Of a ready crop, with its attributes; embedding has fa_pipeline_embedding_size values. */
extern fa_status fa_embed_crop(fa_pipeline *pipeline, const void *bytes, size_t length,
							   int64_t max_pixels, fa_face *face, float *embedding,
							   const fa_interrupt *interrupt, fa_error *error);

/*
 * The photo, upright, with boxes and labels ("34 ± 5 female Asian"), in the
 * photo's own format or *format. The longer side of what is drawn is the photo's.
 * *annotated is malloc'ed, the caller's to free().
 */
extern fa_status fa_annotate(fa_pipeline *pipeline, const void *bytes, size_t length,
							 const fa_face_options *options, const fa_format *format,
							 uint8_t **annotated, size_t *annotated_length,
							 const fa_interrupt *interrupt, fa_error *error);

/* Its drawing: a face's box and label on an image of the whole photo. */
extern fa_status fa_draw_face(const fa_pipeline *pipeline, fa_image *image, fa_font *font,
							  const fa_face *face, fa_error *error);

/*
 * For the trainer: the aligned crop of a face, size x size, showing `zoom` times
 * the template's frame (1: what the network sees), from an already decoded view.
 */
extern fa_status fa_align_crop(const fa_view *view, const fa_face *face,
							   const double (*landmark_template)[2], double zoom, int size,
							   fa_image *crop, fa_error *error);

#endif
