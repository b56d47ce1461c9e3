/*
 * gpu.h
 *		What the two halves of `make gpu-check` share: gpu.c compares networks and trainings,
 *		gpu_paths.c the ways in which sessions and the service use them.
 */
#ifndef BENCH_GPU_H
#define BENCH_GPU_H

#include "../src/nn/engine.h"

extern const fa_engine_interface *gpu;
extern fa_engine *engine, *cpu; /* one of each, open */
extern bool small;              /* an emulated device */
extern fa_error error;

/* A row of the report. */
extern void verdict(bool good, const char *what, double value, double limit);
/* Random bytes, malloc'ed. */
extern uint8_t *noise(size_t bytes);
extern void build(const char *name, fa_net *net);
/* Floats of an output for one image. */
extern size_t output_size(const fa_net *net, int output, int height, int width);
/* Zeros for all outputs of a batch, malloc'ed. */
extern float **make_outputs(const fa_net *net, const fa_batch *batch);
extern void free_outputs(const fa_net *net, float **outputs);
/*
 * The largest difference: of probabilities where an output is a head's, else of values by their
 * size.
 */
extern double difference(const float *a, const float *b, size_t each, int count, bool head);
extern void run(const fa_engine_interface *interface, fa_model *model, const fa_batch *batch,
				float **outputs);

extern void check_paths(void);

#endif
