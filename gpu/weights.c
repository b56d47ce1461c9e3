/*
 * weights.c
 *		Parameters on their way to the device; see weights.h.
 *
 * Where each lies follows from the network alone; what it is, from the weights.
 */
#include "weights.h"

#include "../src/nn/fold.h"
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a step has: both filter and bias, or gain and bias, or nothing. */
static bool
has_filter(const fa_op *op)
{
	return fa_gpu_is_convolution(op) || op->kind == FA_OP_DEPTHWISE;
}

static bool
has_parameters(const fa_op *op)
{
	return has_filter(op) || op->kind == FA_OP_BATCH_NORM;
}

/* Of a filter as it lies on the device. */
typedef struct filter_shape
{
	size_t out, in, area; /* as the network has them; in: 1 of depthwise ones */
	size_t padded;        /* channels in its last dimension */
	size_t count;         /* values */
	fa_gpu_type type;
} filter_shape;

static filter_shape
shape_of(const fa_net *net, const fa_op *op, fa_gpu_type type)
{
	bool depthwise = op->kind == FA_OP_DEPTHWISE;
	size_t k = op->kind == FA_OP_DENSE ? 1 : (size_t) op->kernel;
	filter_shape s = {.out = (size_t) op->channels,
					  .in = depthwise ? 1 : (size_t) net->ops[op->input[0]].channels,
					  .area = k * k,
					  .type = depthwise ? FA_GPU_FP32 : type};

	s.padded = (size_t) fa_gpu_padded(depthwise ? op->channels : (int) s.in);
	s.count = (depthwise ? 1 : (size_t) fa_gpu_padded(op->channels)) * s.area * s.padded;
	return s;
}

/* --- Where they lie ------------------------------------------------------------------- */

/* The next place; of NULL, while it is only measured, NULL. */
static void *
reserve(char *block, size_t *size, size_t bytes)
{
	char *place = block == NULL ? NULL : block + *size;

	*size += (bytes + 255) / 256 * 256;
	return place;
}

/* Of all steps, in a block; the bytes that they take. */
static size_t
lay_out(const fa_net *net, const fa_gpu_plan *plan, fa_gpu_type type, char *block,
		fa_gpu_parameters *steps)
{
	size_t size = 0;

	for (int i = 0; i < plan->step_count; i++)
	{
		const fa_op *op = &net->ops[plan->steps[i].op];
		size_t vector = fa_gpu_padded(op->channels) * sizeof(float);
		filter_shape s;

		if (!has_parameters(op))
			continue;
		if (has_filter(op))
		{
			s = shape_of(net, op, type);
			steps[i].filter = reserve(block, &size, s.count * fa_gpu_size(s.type));
		}
		else
			steps[i].gain = reserve(block, &size, vector);
		steps[i].bias = reserve(block, &size, vector);
	}
	return size;
}

/* Places for all steps, in memory of the device. */
static fa_status
make_block(fa_gpu_weights *to, const fa_net *net, const fa_gpu_plan *plan, fa_gpu_type type,
		   fa_gpu_memory *memory, fa_error *error)
{
	size_t size;

	to->steps = calloc(plan->step_count + 1, sizeof(fa_gpu_parameters));
	if (to->steps == NULL)
		return fa_no_memory(error, plan->step_count * sizeof(fa_gpu_parameters));
	size = lay_out(net, plan, type, NULL, to->steps);
	if (size == 0)
		return FA_OK;
	FA_TRY(fa_gpu_take(memory, size, "for weights", &to->block, error));
	lay_out(net, plan, type, to->block.address, to->steps);
	return FA_OK;
}

/* --- What they are -------------------------------------------------------------------- */

/* What an upload works with. */
typedef struct upload
{
	const fa_net *net;
	const fa_weights *weights;
	fa_gpu_type type;
	cudaStream_t stream;
	float *host;    /* the parameter that is being made, zeros at first */
	float *staging; /* the same on the device, where it is cast */
} upload;

static const fa_tensor *
parameter(const upload *u, const fa_op *op, const char *suffix)
{
	char name[2 * FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "%s.%s", op->name, suffix);
	return fa_weights_find(u->weights, name); /* fa_weights_match has seen it */
}

/* The values in u->host to their place, and zeros into u->host. */
static fa_status
send(upload *u, size_t count, fa_gpu_type type, const void *place, fa_error *error)
{
	void *to = (void *) place; /* the engine's own: nobody else writes it */
	fa_status status =
		fa_gpu_status(cudaMemcpyAsync(type == FA_GPU_FP32 ? to : u->staging, u->host,
									  count * sizeof(float), cudaMemcpyHostToDevice, u->stream),
					  "to take weights", error);
	cudaError_t ended;

	if (status == FA_OK && type != FA_GPU_FP32)
		status = fa_gpu_cast(u->staging, to, count, type, u->stream, error);
	ended = cudaStreamSynchronize(u->stream);
	memset(u->host, 0, count * sizeof(float));
	FA_TRY(status);
	return fa_gpu_status(ended, "to take weights", error);
}

static fa_status
send_vector(upload *u, const float *values, int count, const float *place, fa_error *error)
{
	memcpy(u->host, values, count * sizeof(float));
	return send(u, fa_gpu_padded(count), FA_GPU_FP32, place, error);
}

/* The filter [out, in, k, k] with each output's gain, in the device's order. */
static fa_status
send_filter(upload *u, const fa_op *op, const float *gain, const void *place, fa_error *error)
{
	const float *values = parameter(u, op, "weight")->values;
	filter_shape s = shape_of(u->net, op, u->type);
	bool depthwise = op->kind == FA_OP_DEPTHWISE;

	for (size_t o = 0; o < s.out; o++)
		for (size_t i = 0; i < s.in; i++)
			for (size_t p = 0; p < s.area; p++)
				u->host[depthwise ? p * s.padded + o : (o * s.area + p) * s.padded + i] =
					values[(o * s.in + i) * s.area + p] * gain[o];
	return send(u, s.count, s.type, place, error);
}

static fa_status
send_step(upload *u, const fa_gpu_step *step, const fa_gpu_parameters *to, fa_error *error)
{
	const fa_op *op = &u->net->ops[step->op];
	int norm = op->kind == FA_OP_BATCH_NORM ? step->op : step->norm;
	float *gain, *shift;
	fa_status status;

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
	if (has_filter(op) && op->bias)
		for (int c = 0; c < op->channels; c++)
			shift[c] += gain[c] * parameter(u, op, "bias")->values[c];
	status = has_filter(op) ? send_filter(u, op, gain, to->filter, error)
							: send_vector(u, gain, op->channels, to->gain, error);
	if (status == FA_OK)
		status = send_vector(u, shift, op->channels, to->bias, error);
	free(gain);
	return status;
}

/* Values of the longest parameter. */
static size_t
longest(const fa_net *net, const fa_gpu_plan *plan)
{
	size_t most = 0;

	for (int i = 0; i < plan->step_count; i++)
	{
		const fa_op *op = &net->ops[plan->steps[i].op];
		size_t count = has_filter(op) ? shape_of(net, op, FA_GPU_FP32).count : 0;

		if (has_parameters(op) && count < (size_t) fa_gpu_padded(op->channels))
			count = fa_gpu_padded(op->channels);
		most = count > most ? count : most;
	}
	return most;
}

fa_status
fa_gpu_upload(fa_gpu_weights *to, const fa_net *net, const fa_gpu_plan *plan,
			  const fa_weights *weights, fa_gpu_type type, fa_gpu_memory *memory,
			  cudaStream_t stream, fa_error *error)
{
	size_t bytes = longest(net, plan) * sizeof(float);
	upload u = {.net = net, .weights = weights, .type = type, .stream = stream};
	fa_gpu_block staging;
	fa_status status;

	FA_TRY(make_block(to, net, plan, type, memory, error));
	if (to->block.address == NULL)
		return FA_OK;
	u.host = calloc(1, bytes);
	if (u.host == NULL)
		return fa_no_memory(error, bytes);
	status = fa_gpu_take(memory, bytes, "for weights", &staging, error);
	u.staging = (void *) staging.address;
	if (status == FA_OK) /* what lies between two parameters, too: pack.c copies all */
		status = fa_gpu_status(cudaMemsetAsync(to->block.address, 0, to->block.size, stream),
							   "to take weights", error);
	for (int i = 0; i < plan->step_count && status == FA_OK; i++)
		if (has_parameters(&net->ops[plan->steps[i].op]))
			status = send_step(&u, &plan->steps[i], &to->steps[i], error);
	cudaStreamSynchronize(stream); /* after a failure, too */
	fa_gpu_give(memory, &staging);
	free(u.host);
	return status;
}

fa_status
fa_gpu_upload_packed(fa_gpu_weights *to, const fa_net *net, const fa_gpu_plan *plan,
					 const void *packed, size_t size, fa_gpu_type type, fa_gpu_memory *memory,
					 cudaStream_t stream, fa_error *error)
{
	cudaError_t started, ended;

	FA_TRY(make_block(to, net, plan, type, memory, error));
	if (size != to->block.size)
		return fa_fail(error, FA_DAMAGED, "packed weights do not fit the network");
	if (size == 0)
		return FA_OK;
	started = cudaMemcpyAsync(to->block.address, packed, size, cudaMemcpyHostToDevice, stream);
	ended = cudaStreamSynchronize(stream);
	FA_TRY(fa_gpu_status(started, "to take weights", error));
	return fa_gpu_status(ended, "to take weights", error);
}

void
fa_gpu_weights_free(fa_gpu_weights *weights, fa_gpu_memory *memory)
{
	fa_gpu_give(memory, &weights->block);
	free(weights->steps);
	memset(weights, 0, sizeof(*weights));
}
