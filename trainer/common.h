/*
 * common.h
 *		What the subcommands that look at photos share: their options, the pipeline
 *		they open, and photos by name from files, folders and archives.
 */
#ifndef FA_COMMON_H
#define FA_COMMON_H

#include "../src/face/face.h"
#include "dataset.h"

#include <argp.h>

typedef struct fa_common
{
	const char *weights; /* directory with yunet_n.safetensors and default.safetensors */
	const char *model;   /* file; NULL: the directory's default.safetensors */
	bool detector_only;
	int threads;
	fa_precision precision;
	/* of fa_face_options: what the command line sets, over the model's own */
	fa_face_options face;
	bool set_detect_size, set_min_score, set_min_face, no_verify;
} fa_common;

/* A child for argp: --weights, --model, --threads, --precision, --detect-size, --min-score ... */
extern const struct argp fa_common_argp;

/*
 * Where the shipped weights are: `given`, or else the environment's FACEATTR_WEIGHTS, or the source
 * tree's, or where `make install` put them. directory has FA_PATH_LENGTH bytes.
 */
#define FA_PATH_LENGTH 4096
extern void fa_weights_directory(const char *given, char *directory);
/* FACEATTR_CUDA, or where the CUDA engine's library is installed; FA_PATH_LENGTH bytes. */
extern void fa_cuda_library(char *path);

extern fa_status fa_common_open(const fa_common *common, fa_pipeline **pipeline,
								fa_face_options *options, fa_error *error);
/* The whole of a file; *bytes is malloc'ed. */
extern fa_status fa_read_file(const char *path, uint8_t **bytes, size_t *length, fa_error *error);
extern fa_status fa_write_file(const char *path, const void *bytes, size_t length, fa_error *error);
/* "faceattr: message: detail" on standard error; returns 1, for main. */
extern int fa_complain(const fa_error *error);

/*
 * A photo in the middle of a white border, a quarter of the photo's size on each
 * side: a face that fills its photo is found more surely there. As PNG;
 * *bordered is malloc'ed. *offset: from the photo's corner to the bordered one's.
 */
extern fa_status fa_add_border(const void *bytes, size_t length, uint8_t **bordered,
							   size_t *bordered_length, double *offset_x, double *offset_y,
							   int *width, int *height, fa_error *error);

/*
 * fa_find_faces, and where there is none once more with a border around the photo. Coordinates
 * are the photo's own.
 */
extern fa_status fa_find_faces_anyhow(fa_pipeline *pipeline, const void *bytes, size_t length,
									  const fa_face_options *options, bool classify,
									  fa_faces *faces, fa_error *error);

/*
 * From here on SIGINT and SIGTERM end a subcommand in its own good time. first_only: a second
 * one has its default effect.
 */
extern void fa_catch_signals(bool first_only);
extern bool fa_signalled(void);
extern const fa_interrupt fa_on_signal; /* the same, to be asked by the core */

#endif
