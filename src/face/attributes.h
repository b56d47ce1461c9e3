/*
 * attributes.h
 *		An attribute model: a network with heads, and what its file's metadata say
 *		of them; and from logits to calibrated attributes.
 */
#ifndef FA_ATTRIBUTES_H
#define FA_ATTRIBUTES_H

#include "face.h"
#include "verify.h"

typedef struct fa_attribute_model
{
	fa_model *model;
	char network[FA_NAME_LENGTH];
	int height, width;             /* of its input */
	int embedding, embedding_size; /* output, channels */
	fa_head_info heads[FA_MAX_HEADS];
	int outputs[FA_MAX_HEADS]; /* of each head */
	int head_count;
	int age, gender, race, face; /* indexes of these heads, or -1 */
	double landmark_template[FA_LANDMARKS][2];
	float age_quantile; /* the interval is from here to 1 - here */
	fa_verification verification;
	fa_face_options options;
	char **labels; /* all heads' labels; owned */
	int label_count;
	char *metadata; /* the file's: keys and values, each ended by a zero byte; owned */
	size_t metadata_length;
} fa_attribute_model;

/* Reads and checks a file (docs/weights-format.md). Errors begin with the path. */
extern fa_status fa_attribute_model_open(const fa_engine_interface *interface, fa_engine *engine,
										 fa_precision precision, const char *path,
										 fa_attribute_model *model, fa_error *error);
/* The same of a file held in memory, which is not kept. */
extern fa_status fa_attribute_model_open_bytes(const fa_engine_interface *interface,
											   fa_engine *engine, fa_precision precision,
											   const fa_bytes *bytes, fa_attribute_model *model,
											   fa_error *error);
/* The same of its metadata and weights that are packed already (engine.h). */
extern fa_status fa_attribute_model_open_packed(const fa_engine_interface *interface,
												fa_engine *engine, fa_precision precision,
												const fa_bytes *metadata, const fa_bytes *packed,
												fa_attribute_model *model, fa_error *error);
extern void fa_attribute_model_close(const fa_engine_interface *interface,
									 fa_attribute_model *model);

/* Softmax of logits / temperature; probabilities may be the logits. */
extern void fa_calibrated(const float *logits, int classes, float temperature,
						  float *probabilities);
/*
 * Where the distribution's cumulated probability reaches q. Class k stands for
 * ages from k to k + 1 and the probability is spread evenly over them, less half a
 * year, so that class k alone has median k. 0 ... classes - 1.
 */
extern float fa_age_quantile(const float *probabilities, int classes, float q);
/* Fills the attributes of a face from all heads' logits, heads[i] of them at logits[i]. */
extern void fa_set_attributes(const fa_attribute_model *model, float *const *logits, fa_face *face,
							  float *face_probability);

#endif
