/*
 * faceattr.h
 *		What the files of this room share: settings, pipelines, the bridge over
 *		which the core is called, and face values.
 *
 * Only this room includes postgres.h. The core allocates with malloc and
 * reports errors as values; nothing here may ereport while core frames are on
 * the stack or while a malloc'ed result has no owner: see core_call.c.
 */
#ifndef FACEATTR_H
#define FACEATTR_H

#include "postgres.h"

#include <signal.h>

#include "access/tupdesc.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/dsm.h"
#include "utils/tuplestore.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "../face/face.h"

/* --- Settings (settings.c) ----------------------------------------------------- */

typedef enum BadImage
{
	BAD_IMAGE_ERROR,
	BAD_IMAGE_WARNING,
	BAD_IMAGE_IGNORE
} BadImage;

typedef enum DeviceChoice
{
	DEVICE_AUTO,
	DEVICE_CPU,
	DEVICE_GPU
} DeviceChoice;

typedef enum RunIn
{
	RUN_IN_AUTO,
	RUN_IN_BACKEND,
	RUN_IN_SERVICE
} RunIn;

typedef enum DecodeIn
{
	DECODE_IN_BACKEND,
	DECODE_IN_SERVICE
} DecodeIn;

extern char *faceattr_model;
extern int faceattr_device;     /* a DeviceChoice */
extern int faceattr_gpu_device; /* its number */
extern int faceattr_gpu_memory; /* MB; 0: no limit */
extern int faceattr_run_in;     /* a RunIn */
extern int faceattr_decode_in;  /* a DecodeIn */
extern int faceattr_batch_size;
extern double faceattr_batch_delay;   /* ms */
extern int faceattr_gpu_idle_timeout; /* s */
extern int faceattr_service_slots;
extern int faceattr_precision; /* an fa_precision */
extern int faceattr_threads;
extern int faceattr_detect_size;
extern double faceattr_min_score;
extern int faceattr_min_face;
extern bool faceattr_verify;
extern int faceattr_max_pixels;
extern int faceattr_on_bad_image;     /* a BadImage */
extern int faceattr_model_cache_size; /* MB */

/* --- Models (models.c) --------------------------------------------------------- */

#define MODEL_KEY PG_SHA256_DIGEST_LENGTH
#define MODEL_NAME 256 /* bytes of a name and its end: 63 characters */

/* What a name stands for in the current statement; palloc'ed. */
typedef struct Model
{
	char *name;
	bool shipped;         /* a file that comes with the extension; else a row of face_model */
	uint8 key[MODEL_KEY]; /* of a row its SHA-256, of a file which file it is and since when */
	Datum weights;        /* a row's bytea, not fetched yet */
} Model;

/* Raises undefined_object where fcinfo's function, its user and snapshot see no such model. */
extern Model faceattr_find_model(FunctionCallInfo fcinfo, const char *name);
/* The weights file, fetched. */
extern bytea *faceattr_model_bytes(const Model *model);
/* Of a shipped model. */
extern char *faceattr_model_path(const Model *model);
extern char *faceattr_weights_directory(void);

/* --- Which engine (device.c) ------------------------------------------------------- */

typedef struct Device
{
	const fa_engine_interface *interface;
	fa_engine_options options;
	fa_precision precision; /* resolved */
	int64 instance;         /* of faceattr-service, which is another each time; 0: it is none */
} Device;

/*
 * What the session's settings choose for the next call. Raises
 * object_not_in_prerequisite_state where they insist on a GPU that cannot be had.
 */
extern Device choose_device(void);
extern bool same_device(const Device *a, const Device *b);
/* The core has returned this error: remembered where it ends the use of a GPU. */
extern void device_failed(const fa_error *error);
/* The latest core call has failed on a GPU, and another choice will be the CPU. */
extern bool device_gave_way(void);
/* What to do about its failure; NULL: it was not a GPU's. */
extern const char *device_hint(void);

/* --- faceattr-service (remote.c) ----------------------------------------------------- */

/*
 * The service, where settings and state choose it for the next call; false: networks run here.
 * Raises object_not_in_prerequisite_state where they insist on a service that cannot be had.
 */
extern bool choose_service(Device *device);
/* Networks run here, but GPUs are the service's. */
extern bool gpus_are_elsewhere(void);
/* The service still has the model of a pipeline that was opened there. */
extern bool service_has(const Model *model, const Device *device);
/* NULL: it gave way, and another choice will be this process. */
extern fa_pipeline *open_in_service(const Model *model, const Device *device);
/* What to do about a failure there; NULL: nothing is known. */
extern const char *service_hint(fa_status status);
/* The core has returned this error: remembered where auto is to do without the service for a while.
 */
extern void service_failed(const fa_error *error);
extern bool service_is_gpu(void);

/* --- What the postmaster is asked for (preload.c) -------------------------------- */

extern void preload(void);

/* --- One copy for all sessions (shared_models.c) ---------------------------------- */

/* A packed pipeline in a segment that this backend has mapped. */
typedef struct SharedModel
{
	int slot;
	dsm_segment *segment; /* NULL: none */
} SharedModel;

typedef enum SharedClaim
{
	SHARED_READY,  /* mapped and pinned */
	SHARED_PACK,   /* publish it, or give it up */
	SHARED_NO_ROOM /* the table is full of models in use */
} SharedClaim;

extern Size shared_models_size(void);
extern void shared_models_attach(void *memory, bool found);
extern bool shared_models_enabled(void);
/* Waits for whoever packs it. Pins last until `statement` is reset or deleted. */
extern SharedClaim shared_model_claim(const Model *model, const Device *device,
									  MemoryContext statement, SharedModel *claimed);
/* After SHARED_PACK: copies the block; false, with a warning: it stays the session's own. */
extern bool shared_model_publish(const Model *model, const void *block, Size size,
								 MemoryContext statement, SharedModel *published);
extern void shared_model_give_up(void);
/* Pins a mapped one again; false: it has left. */
extern bool shared_model_pin(const SharedModel *model, MemoryContext statement);
/* Where it is mapped, for reading only. */
extern fa_bytes shared_model_block(const SharedModel *model);
extern void shared_model_detach(SharedModel *model);

/* A row of the view faceattr_stat_models. */
typedef struct ModelRow
{
	const char *name;
	const uint8 *key;
	const char *engine;
	fa_precision precision;
	const char *location;
	int64 size;
	int pins;
	int64 hits;
	TimestampTz last_use; /* 0: never */
} ModelRow;

extern void shared_models_rows(Tuplestorestate *rows, TupleDesc desc);
extern void model_row(Tuplestorestate *rows, TupleDesc desc, const ModelRow *row);

/* --- Pipelines (pipeline.c) ---------------------------------------------------- */

/* What one SQL call runs with: a pipeline, and all that decides its answer. */
typedef struct Run
{
	fa_pipeline *pipeline; /* the cache's */
	fa_face_options options;
	BadImage on_bad_image;
} Run;

/* model NULL: as the session's settings say. Else as the model's own metadata say. */
extern Run faceattr_run(FunctionCallInfo fcinfo, const text *model);

/* --- Calling the core (core_call.c) -------------------------------------------- */

typedef struct CoreCall
{
	fa_interrupt interrupt; /* to hand to the core */
	fa_error error;         /* to be filled by the core */
	sigset_t signals;       /* the backend's mask */
	bool thrown;            /* an error waits on elog's stack until the core has returned */
	MemoryContext context;
} CoreCall;

/* Between these two, and only there, core functions run. */
extern void core_enter(CoreCall *call);
/* Raises what interrupted the call, if anything did; else returns status. */
extern fa_status core_leave(CoreCall *call, fa_status status);

/*
 * A palloc'ed copy of length bytes of the core's, after header bytes of room.
 * The malloc'ed original is freed, also when memory runs out.
 */
extern void *core_take(void *original, size_t header, size_t length);

/* Raises an error that is not about an image: settings, the machine. */
extern _Noreturn void raise_core_error(const fa_error *error);
/* The model's own file or row, checked before, cannot be used. */
extern _Noreturn void raise_model_error(fa_error *error, const Model *model);
/* Weights that a user has given cannot be used. */
extern _Noreturn void raise_weights_error(const fa_error *error);
/* An error about an image: raised, or warned of, or ignored. */
extern void report_image_error(const fa_error *error, BadImage on_bad_image);

/* --- Face values (face_type.c) ------------------------------------------------- */

/* The composite type "face" in the schema of the function that runs. */
typedef struct FaceType
{
	Oid oid;
	TupleDesc desc; /* pinned until face_type_close */
} FaceType;

extern Oid face_type_oid(FunctionCallInfo fcinfo);
extern FaceType face_type_open(FunctionCallInfo fcinfo);
extern void face_type_close(FaceType *type);

/* A face as a row; without landmarks where the image was a ready crop. */
extern Datum face_datum(const FaceType *type, const fa_pipeline *pipeline, const fa_face *face,
						bool landmarks);
extern Datum face_array_datum(const FaceType *type, const fa_pipeline *pipeline,
							  const fa_face *faces, int count);

/* --- Counters (stat.c) ----------------------------------------------------------- */

/* In the order of the columns of view faceattr_stat. */
typedef enum Stat
{
	STAT_IMAGES,     /* photos and crops */
	STAT_GPU_IMAGES, /* those of them that a GPU has looked at */
	STAT_FACES,
	STAT_DAMAGED,
	STAT_UNSUPPORTED,
	STAT_TOO_LARGE,
	STAT_OTHER_ERRORS,
	STAT_DECODE_TIME, /* microseconds, from here on */
	STAT_DETECT_TIME,
	STAT_CLASSIFY_TIME,
	STATS
} Stat;

extern Size stat_shared_size(void);
extern void stat_attach(void *memory, bool found);
/* Counts for the session, until attached. */
extern void stat_init(void);
/* An image could not be read. */
extern void stat_error(fa_status status);
/* Counts what the pipeline has done since the last time. */
extern void stat_work(fa_pipeline *pipeline);

/* --- From a photo to faces (functions.c) ---------------------------------------- */

typedef struct Faces
{
	fa_face *faces; /* palloc'ed, largest first */
	int count;
} Faces;

/* false: a bad image was passed over. */
extern bool find_faces(const Run *run, const bytea *image, bool classify, Faces *faces);

/* The one row of a function that returns a record. */
extern Datum row_result(FunctionCallInfo fcinfo, Datum *values, bool *nulls);
/* The result of one that returns a set of them, to be filled before it returns. */
extern ReturnSetInfo *materialized_rows(FunctionCallInfo fcinfo);

#endif
