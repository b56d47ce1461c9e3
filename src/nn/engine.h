/*
 * engine.h
 *		The one interface between networks and hardware: a table of functions.
 *		`cpu` on oneDNN fills it, and `cuda` on cuDNN (gpu/), which cuda.h loads; `service` follows.
 *
 * Three opaque things. An engine is a device. A model is a network with its
 * weights on that device, packed once in one precision; it compiles itself for
 * a batch and image size when it first meets them and keeps a few of those. A
 * trainer is a network with master weights, gradients and optimiser state.
 *
 * None of them is thread-safe; each belongs to one thread at a time. Batches
 * everywhere: a single photo is a batch of one.
 */
#ifndef FA_ENGINE_H
#define FA_ENGINE_H

#include "../vision/augmentation.h"
#include "detect.h"
#include "net.h"
#include "weights.h"

typedef enum fa_precision
{
	FA_PRECISION_AUTO, /* the fastest that the device runs natively: on a CPU bf16, else fp32 */
	FA_PRECISION_FP32,
	FA_PRECISION_BF16,
	FA_PRECISION_FP16, /* of a GPU: 11 bits where bf16 has 8 */
	FA_PRECISION_TF32  /* of a GPU: fp32 in memory, multiplied with 11 bits */
} fa_precision;

typedef struct fa_engine fa_engine;
typedef struct fa_model fa_model;
typedef struct fa_trainer fa_trainer;

/* Of a device that is opened; NULL in its place: one thread, the first device, no more. */
typedef struct fa_engine_options
{
	int threads;            /* of a CPU, from 1 */
	int device;             /* which GPU, from 0 */
	size_t memory_limit;    /* of a GPU's, for weights and arenas together; 0: what it has */
	const char *plan_cache; /* directory in which a GPU's plans are kept, or NULL; copied */
} fa_engine_options;

/* A batch of images of one size: uint8 R G B, NHWC, rows without gaps. */
typedef struct fa_batch
{
	int count, height, width;
	const uint8_t *pixels; /* count * height * width * 3 */
} fa_batch;

/* Batches one after the other, as they come, and where their outputs go. */
typedef struct fa_stream
{
	/*
	 * The next batch, and its outputs as of run; false: there is none now. While busy(device), the
	 * device is at work on the batch before, and waiting for more costs nothing.
	 */
	bool (*next)(void *argument, fa_batch *batch, float *const **outputs,
				 bool (*busy)(void *device), void *device);
	/* The oldest of the batches that have not been told of has its outputs. */
	void (*done)(void *argument);
	void *argument;
} fa_stream;

/* A crop that shows source at map(p) in its point p, as fa_warp makes it. */
typedef struct fa_warped
{
	const fa_image *source;
	fa_affine map;
} fa_warped;

/* What a detector looks for, in passes over one photo. */
typedef struct fa_detect_request
{
	const fa_detect_pass *passes;
	int pass_count;
	const int (*outputs)[4]; /* of the network, per level: cls, obj, bbox, kps */
	float min_score;
} fa_detect_request;

typedef enum fa_batch_norm_mode
{
	FA_BATCH_NORM_TRAINING, /* statistics of the batch; running statistics follow */
	FA_BATCH_NORM_FROZEN    /* running statistics; weight and bias still train */
} fa_batch_norm_mode;

typedef struct fa_trainer_options
{
	int count, height,
		width;              /* the batch that a step takes; smaller last batches are not trained */
	fa_precision precision; /* of activations and their gradients; master weights are fp32 */
	fa_batch_norm_mode batch_norm;
	float momentum;     /* of the running statistics: new = (1 - m) old + m batch; 0.01 say */
	const float *rates; /* per operation: learning-rate factor, 0 freezes; NULL: all 1 */
	uint64_t seed;      /* of dropout */
	/* Forward passes made before, of a training that goes on: dropout goes on with them. */
	uint64_t first_pass;
} fa_trainer_options;

typedef enum fa_optimizer
{
	FA_OPTIMIZER_ADAMW, /* Loshchilov, Hutter 2019 */
	FA_OPTIMIZER_ADAM,  /* Kingma, Ba 2015; weight decay is added to the gradient */
	FA_OPTIMIZER_SGD    /* with momentum beta1: m = beta1 m + g + decay w, w -= rate m */
} fa_optimizer;

/* One step of the optimiser on all parameters, and of their moving average. */
typedef struct fa_update
{
	float learning_rate, beta1, beta2, epsilon, weight_decay;
	float clip_norm; /* gradients are scaled down to this global L2 norm; 0: never */
	float ema_decay; /* 0: no moving average */
	int64_t step;    /* from 1 */
	fa_optimizer optimizer;
} fa_update;

/* A step of training from a batch to the next weights. */
typedef struct fa_training_step
{
	fa_batch batch;                /* as forward's */
	float *const *outputs;         /* as forward's */
	const float *const *gradients; /* as backward's; loss makes the values */
	/*
	 * Makes gradients of outputs, perhaps in a thread of the engine's while the caller waits, and
	 * so without calling the engine. An error leaves the optimiser's step out.
	 */
	fa_status (*loss)(void *argument, fa_error *error);
	void *argument;
	const fa_update *update;
} fa_training_step;

typedef enum fa_trainer_state
{
	FA_STATE_WEIGHTS, /* master weights and running statistics */
	FA_STATE_AVERAGE, /* their exponential moving average */
	FA_STATE_MOMENT1, /* the optimiser's moments; running statistics' entries are zero */
	FA_STATE_MOMENT2,
	FA_STATE_GRADIENTS /* for tests */
} fa_trainer_state;

typedef struct fa_engine_interface
{
	const char *name; /* "cpu" */
	/* Images that a run had best have, where there are as many; no more than 64. */
	int batch;

	/* A message in *error says why an engine cannot be had here. */
	fa_status (*open)(const fa_engine_options *options, fa_engine **engine, fa_error *error);
	void (*close)(fa_engine *engine);
	/* "NVIDIA H100, driver 13.0, cuDNN 9.19" (optional). */
	void (*describe)(const fa_engine *engine, char *text, size_t size);
	/* Changes the number of threads of later calls. */
	void (*set_threads)(fa_engine *engine, int threads);
	/* What AUTO means here; a precision that the device lacks is FA_UNSUPPORTED. */
	fa_status (*resolve_precision)(fa_engine *engine, fa_precision wanted, fa_precision *precision,
								   fa_error *error);

	/* Net and weights are copied as needed: the caller may free both afterwards. */
	fa_status (*load)(fa_engine *engine, const fa_net *net, const fa_weights *weights,
					  fa_precision precision, fa_model **model, fa_error *error);
	void (*unload)(fa_model *model);
	/* Bytes that it holds of the device's memory: weights, and arenas of what is compiled. */
	size_t (*memory)(const fa_model *model);
	/*
	 * Changes memory_limit of an open engine, nothing being at work; what can be made again gives
	 * way. false: models take more than that, and some should be unloaded (optional).
	 */
	bool (*set_memory_limit)(fa_engine *engine, size_t limit);
	/*
	 * For memory that processes share; both or none (optional). pack: a loaded model's
	 * weights, as the engine wants them for single images of height x width, in one
	 * malloc'ed block that may lie anywhere. load_packed: a model that runs straight from
	 * such a block, which is only read, begins at a multiple of 64 and outlives the model;
	 * FA_UNSUPPORTED where another library or processor has made it, FA_DAMAGED where it
	 * does not fit the network.
	 */
	fa_status (*pack)(fa_model *model, int height, int width, void **block, size_t *length,
					  fa_error *error);
	fa_status (*load_packed)(fa_engine *engine, const fa_net *net, fa_precision precision,
							 const void *block, size_t length, fa_model **model, fa_error *error);
	/*
	 * Runs the network: outputs[i], of net.outputs[i], receives
	 * count * height_i * width_i * channels_i floats, NHWC; a NULL outputs[i]
	 * is not wanted. Asks interrupt between layers.
	 */
	fa_status (*run)(fa_model *model, const fa_batch *batch, float *const *outputs,
					 const fa_interrupt *interrupt, fa_error *error);

	/*
	 * Runs one batch after the other, all of one image size: the next one's pixels go up while
	 * the device works on the one before. No more than two are at work. After an
	 * error, those that have not been told of have no outputs (optional).
	 */
	fa_status (*run_stream)(fa_model *model, const fa_stream *stream, const fa_interrupt *interrupt,
							fa_error *error);

	/* On crops that the device itself cuts out, within a level of fa_warp's (optional). */
	fa_status (*run_warped)(fa_model *model, const fa_warped *crops, int count, int height,
							int width, float *const *outputs, const fa_interrupt *interrupt,
							fa_error *error);
	/*
	 * YuNet's passes over a photo and suppression, all on the device (optional): *detections is
	 * malloc'ed, best first, the caller's. *count -1: there are more than it has room for, and
	 * run must tell.
	 */
	fa_status (*detect)(fa_model *model, const fa_image *photo, const fa_detect_request *request,
						fa_detection **detections, int *count, const fa_interrupt *interrupt,
						fa_error *error);

	/* Training: all of these or none (optional). */
	fa_status (*trainer_open)(fa_engine *engine, const fa_net *net, const fa_weights *weights,
							  const fa_trainer_options *options, fa_trainer **trainer,
							  fa_error *error);
	void (*trainer_close)(fa_trainer *trainer);
	/*
	 * Makes a batch of the trainer's size from images, augmented and blended, on the device
	 * itself: for the next forward, whose pixels are then NULL. pixels, if it isn't NULL, receives
	 * the batch, which is fa_augmentation_apply's but for rounding (optional).
	 */
	fa_status (*augment)(fa_trainer *trainer, const fa_augmented *images, fa_blend blend,
						 uint8_t *pixels, fa_error *error);
	/* As run, in training mode (dropout, batch statistics); keeps what backward needs. */
	fa_status (*forward)(fa_trainer *trainer, const fa_batch *batch, float *const *outputs,
						 fa_error *error);
	/*
	 * gradients[i]: dLoss / d outputs[i], NULL for zero. Overwrites the parameters'
	 * gradients. Only after forward, once.
	 */
	fa_status (*backward)(fa_trainer *trainer, const float *const *gradients, fa_error *error);
	fa_status (*update)(fa_trainer *trainer, const fa_update *update, float *gradient_norm,
						fa_error *error);
	/* All three with the loss between them: for a GPU, one piece of work. */
	fa_status (*step)(fa_trainer *trainer, const fa_training_step *step, float *gradient_norm,
					  fa_error *error);
	/* Copies a state out to (tensors are added) or in from weights, by parameter names. */
	fa_status (*read_state)(fa_trainer *trainer, fa_trainer_state state, fa_weights *weights,
							fa_error *error);
	fa_status (*write_state)(fa_trainer *trainer, fa_trainer_state state, const fa_weights *weights,
							 fa_error *error);
} fa_engine_interface;

extern const fa_engine_interface fa_cpu_engine;

#endif
