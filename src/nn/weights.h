/*
 * weights.h
 *		Named tensors with metadata, and their file form: safetensors.
 *
 * The reader trusts nothing: header length, JSON, dtypes, shapes, offsets,
 * overlaps, gaps and names are checked before anything is used, and every
 * message names the tensor it speaks of.
 */
#ifndef FA_WEIGHTS_H
#define FA_WEIGHTS_H

#include "net.h"

#define FA_MAX_RANK 4

typedef struct fa_tensor
{
	char *name;
	int rank; /* 0 ... FA_MAX_RANK */
	int shape[FA_MAX_RANK];
	size_t count;  /* product of the shape; at least 1 */
	float *values; /* fp16, bf16 and uint8 files are widened; always finite */
} fa_tensor;

typedef struct fa_metadata
{
	char *key, *value; /* UTF-8 */
} fa_metadata;

/* Owns all it points to; zero-initialise before first use. */
typedef struct fa_weights
{
	fa_tensor *tensors;
	int tensor_count;
	fa_metadata *metadata;
	int metadata_count;
} fa_weights;

typedef enum fa_dtype
{
	FA_F32,
	FA_F16
} fa_dtype;

/*
 * Parses a safetensors file held in memory (which is not kept). FA_DAMAGED with
 * the reason. Limits: header at most 1 MB, 4,096 tensors, rank 4; dtypes F32,
 * F16, BF16, U8; values must be finite; no gaps, no overlaps (the format's own rule).
 */
extern fa_status fa_weights_parse(fa_weights *weights, const void *bytes, size_t length,
								  fa_error *error);
/* The same from a file (FA_NOT_FOUND, FA_IO). Errors begin with the path. */
extern fa_status fa_weights_read(fa_weights *weights, const char *path, fa_error *error);
/*
 * Writes a file: to a temporary name beside it, fsync, rename; so the path
 * always holds a whole file. FA_INVALID if a value would not be finite in dtype.
 */
extern fa_status fa_weights_write(const fa_weights *weights, const char *path, fa_dtype dtype,
								  fa_error *error);
extern void fa_weights_free(fa_weights *weights);

/* NULL when there is none of that name. */
extern const fa_tensor *fa_weights_find(const fa_weights *weights, const char *name);
extern const char *fa_weights_get(const fa_weights *weights, const char *key);
/* Adds a tensor of undefined values (name must be new), or sets a metadata value (replacing). */
extern fa_status fa_weights_add(fa_weights *weights, const char *name, int rank, const int *shape,
								fa_tensor **tensor, fa_error *error);
extern fa_status fa_weights_set(fa_weights *weights, const char *key, const char *value,
								fa_error *error);

/*
 * Checks that weights hold every parameter of net in its shape, and nothing
 * else unless `extra` allows it; FA_INVALID names the first that does not fit.
 */
extern fa_status fa_weights_match(const fa_weights *weights, const fa_net *net, bool extra,
								  fa_error *error);

#endif
