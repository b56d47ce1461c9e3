/*
 * weights.c
 *		Parameters on their way to the device; see weights.h.
 */
#include "weights.h"

#include "../src/nn/fold.h"
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What an upload works with. With a NULL block it only measures. */
typedef struct upload
{
	const fa_net *net;
	const fa_weights *weights;
	fa_gpu_type type;
	cudaStream_t stream;
	char *block;
	size_t size;    /* of what has found its place */
	float *host;    /* the parameter that is being made */
	float *staging; /* the same on the device, where it is cast */
	size_t longest; /* values of the longest parameter */
} upload;

static const fa_tensor *
parameter(const upload *u, const fa_op *op, const char *suffix)
{
	char name[2 * FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "%s.%s", op->name, suffix);
	return fa_weights_find(u->weights, name); /* fa_weights_match has seen it */
}

/* A place for so many values, and in the second pass, the values in u->host in it. */
static fa_status
place(upload *u, size_t count, fa_gpu_type type, const void **placed, fa_error *error)
{
	char *to = u->block + u->size;

	u->size += (count * fa_gpu_size(type) + 255) / 256 * 256;
	if (count > u->longest)
		u->longest = count;
	if (u->block == NULL)
		return FA_OK;
	*placed = to;
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(type == FA_GPU_FP32 ? (void *) to : u->staging, u->host,
										 count * sizeof(float), cudaMemcpyHostToDevice, u->stream),
						 "to take weights", error));
	if (type != FA_GPU_FP32)
		FA_TRY(fa_gpu_cast(u->staging, to, count, type, u->stream, error));
	return fa_gpu_status(cudaStreamSynchronize(u->stream), "to take weights", error);
}

static fa_status
place_vector(upload *u, const float *values, int count, const float **placed, fa_error *error)
{
	const void *at = NULL;

	if (u->block != NULL)
	{
		memset(u->host, 0, fa_gpu_padded(count) * sizeof(float));
		memcpy(u->host, values, count * sizeof(float));
	}
	FA_TRY(place(u, fa_gpu_padded(count), FA_GPU_FP32, &at, error));
	*placed = at;
	return FA_OK;
}

/* The filter [out, in, k, k] with each output's gain, in the device's order. */
static fa_status
place_filter(upload *u, const fa_op *op, const float *gain, const void **placed, fa_error *error)
{
	const fa_tensor *t = parameter(u, op, "weight");
	bool depthwise = op->kind == FA_OP_DEPTHWISE;
	size_t out = t->shape[0], in = t->shape[1], k = t->rank == 4 ? t->shape[2] : 1, area = k * k;
	size_t padded = fa_gpu_padded(depthwise ? op->channels : t->shape[1]);
	size_t count = depthwise ? area * padded : fa_gpu_padded(op->channels) * area * padded;

	if (u->block != NULL)
	{
		memset(u->host, 0, count * sizeof(float));
		for (size_t o = 0; o < out; o++)
			for (size_t i = 0; i < in; i++)
				for (size_t p = 0; p < area; p++)
					u->host[depthwise ? p * padded + o : (o * area + p) * padded + i] =
						t->values[(o * in + i) * area + p] * gain[o];
	}
	return place(u, count, depthwise ? FA_GPU_FP32 : u->type, placed, error);
}

static fa_status
place_step(upload *u, const fa_gpu_step *step, fa_gpu_parameters *to, fa_error *error)
{
	const fa_op *op = &u->net->ops[step->op];
	int norm = op->kind == FA_OP_BATCH_NORM ? step->op : step->norm;
	bool has_filter = fa_gpu_is_convolution(op) || op->kind == FA_OP_DEPTHWISE;
	float *gain, *shift;
	fa_status status = FA_OK;

	if (!has_filter && norm < 0)
		return FA_OK;
	gain = malloc(2 * (size_t) op->channels * sizeof(float));
	if (gain == NULL)
		return fa_no_memory(error, 2 * (size_t) op->channels * sizeof(float));
	shift = gain + op->channels;
	for (int c = 0; c < op->channels; c++)
	{
		gain[c] = 1;
		shift[c] = 0;
	}
	if (norm >= 0)
	{
		static const char *const suffixes[4] = {"weight", "bias", "running_mean", "running_var"};
		const float *of[4];

		for (int i = 0; i < 4; i++)
			of[i] = parameter(u, &u->net->ops[norm], suffixes[i])->values;
		fa_norm_affine(of, u->net->ops[norm].epsilon, op->channels, gain, shift);
	}
	if (has_filter && op->bias)
		for (int c = 0; c < op->channels; c++)
			shift[c] += gain[c] * parameter(u, op, "bias")->values[c];
	if (has_filter)
		status = place_filter(u, op, gain, &to->filter, error);
	else
		status = place_vector(u, gain, op->channels, &to->gain, error);
	if (status == FA_OK)
		status = place_vector(u, shift, op->channels, &to->bias, error);
	free(gain);
	return status;
}

static fa_status
place_all(upload *u, const fa_gpu_plan *plan, fa_gpu_parameters *to, fa_error *error)
{
	u->size = 0;
	for (int i = 0; i < plan->step_count; i++)
		FA_TRY(place_step(u, &plan->steps[i], &to[i], error));
	return FA_OK;
}

fa_status
fa_gpu_upload(fa_gpu_weights *to, const fa_net *net, const fa_gpu_plan *plan,
			  const fa_weights *weights, fa_gpu_type type, fa_gpu_memory *memory,
			  cudaStream_t stream, fa_error *error)
{
	upload u = {.net = net, .weights = weights, .type = type, .stream = stream};
	fa_gpu_block staging = {NULL, 0};
	fa_status status;

	to->steps = calloc(plan->step_count + 1, sizeof(fa_gpu_parameters));
	if (to->steps == NULL)
		return fa_no_memory(error, plan->step_count * sizeof(fa_gpu_parameters));
	FA_TRY(place_all(&u, plan, to->steps, error));
	if (u.size == 0)
		return FA_OK;
	u.host = malloc(u.longest * sizeof(float));
	status = u.host == NULL
				 ? fa_no_memory(error, u.longest * sizeof(float))
				 : fa_gpu_take(memory, u.longest * sizeof(float), "for weights", &staging, error);
	if (status == FA_OK)
		status = fa_gpu_take(memory, u.size, "for weights", &to->block, error);
	u.staging = (float *) staging.address;
	u.block = to->block.address;
	if (status == FA_OK)
		status = place_all(&u, plan, to->steps, error);
	fa_gpu_give(memory, &staging);
	free(u.host);
	return status;
}

void
fa_gpu_weights_free(fa_gpu_weights *weights, fa_gpu_memory *memory)
{
	fa_gpu_give(memory, &weights->block);
	free(weights->steps);
	memset(weights, 0, sizeof(*weights));
}
