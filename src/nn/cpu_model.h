/*
 * cpu_model.h
 *		A model of the CPU engine, for the two files that make and run it: cpu_model.c and
 *		cpu_pack.c.
 */
#ifndef FA_CPU_MODEL_H
#define FA_CPU_MODEL_H

#include "cpu.h"

#define FA_MAX_PROGRAMS 8

typedef struct fa_program fa_program;

/* Of a convolution, as oneDNN wants them. */
typedef struct fa_packed_weights
{
	void *data; /* NULL until the first program has chosen their layout */
	fa_layout layout;
	float *bias; /* [channels], or NULL */
} fa_packed_weights;

struct fa_model
{
	fa_engine *engine;
	fa_precision precision;
	fa_net net;
	fa_plan plan;
	fa_weights plain;           /* convolutions' weights until they are packed */
	fa_packed_weights *weights; /* per operation */
	float **norms;              /* per operation: batch norm as gain, then shift */
	bool borrowed;              /* weights and norms lie in a block that is not the model's */
	fa_program *programs[FA_MAX_PROGRAMS];
	uint64_t clock;
};

/* A model without weights. */
extern fa_status fa_cpu_model_new(fa_engine *engine, const fa_net *net, fa_precision precision,
								  fa_model **model, fa_error *error);
/* Makes the program for such a batch, whose pixels are not looked at; all weights are packed then.
 */
extern fa_status fa_cpu_compile(fa_model *model, const fa_batch *batch, fa_error *error);

#endif
