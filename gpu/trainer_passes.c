/*
 * trainer_passes.c
 *		The trainer's forward and backward pass; see trainer.h.
 */
#include "trainer.h"

#include <string.h>

#define GOLDEN 0x9e3779b97f4a7c15u /* as in the CPU engine's fa_dropout_key */
#define PER_OPERATION 0xd1b54a32d192ed03u

/* The layer whose tensor holds what an operation reads; NULL: it has no such input. */
static const fa_gpu_layer *
input_of(const fa_trainer *t, int op, int which)
{
	int in = t->net.ops[op].input[which];

	return in < 0 ? NULL : &t->layers[t->layers[in].holder];
}

/* Its statistics and their vectors; frozen where its parameters do not learn. */
static fa_gpu_norm
norm_of(const fa_trainer *t, int op)
{
	const fa_gpu_layer *l = &t->layers[op];

	return (fa_gpu_norm){
		.rows = fa_gpu_pixels(t, op),
		.channels = fa_gpu_channels(t, op),
		.frozen = t->options.batch_norm == FA_BATCH_NORM_FROZEN || !l->trains,
		.momentum = t->options.momentum,
		.epsilon = t->net.ops[op].epsilon,
		.weight = fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 0),
		.bias = fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 1),
		.running_mean = fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 2),
		.running_var = fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 3),
		.saved = l->saved,
		.partials = t->partials,
		.activation = l->activation,
	};
}

static fa_gpu_filter
filter_of(const fa_trainer *t, int op)
{
	const fa_op *o = &t->net.ops[op];

	return (fa_gpu_filter){o->channels, t->shapes[o->input[0]].channels,
						   o->kind == FA_OP_DENSE ? 1 : o->kernel * o->kernel};
}

/* --- Forward ---------------------------------------------------------------------------- */

static fa_status
convolve(const fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0);
	cudaStream_t stream = t->engine->stream;
	fa_gpu_filter filter = filter_of(t, op);
	fa_gpu_window window = fa_gpu_layer_window(t, op);
	const float *bias = o->bias ? fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 1) : NULL;

	FA_TRY(fa_gpu_pack_filter(fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 0), l->filter, &filter,
							  t->type, stream, error));
	if (l->forward != NULL)
		FA_TRY(fa_gpu_graph_execute(l->forward, error));
	else
		FA_TRY(fa_gpu_convolution(in->tensor, l->filter, l->tensor, &window,
								  fa_gpu_channels(t, o->input[0]), t->type, stream, error));
	if ((l->forward != NULL && l->fused) || (bias == NULL && l->activation == FA_GPU_NONE))
		return FA_OK;
	return fa_gpu_affine(l->tensor, NULL, bias, NULL, l->tensor, fa_gpu_pixels(t, op),
						 window.channels, l->activation, t->type, stream, error);
}

static fa_status
start_layer(const fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0), *other = input_of(t, op, 1);
	const fa_shape *shape = &t->shapes[op];
	const fa_shape *in_shape = o->input[0] >= 0 ? &t->shapes[o->input[0]] : shape;
	int n = t->options.count, channels = fa_gpu_channels(t, op);
	size_t pixels = fa_gpu_pixels(t, op);
	cudaStream_t stream = t->engine->stream;
	fa_gpu_input_form form = {.bgr = t->net.bgr};
	fa_gpu_window window;
	fa_gpu_norm norm;

	switch (o->kind)
	{
		case FA_OP_INPUT:
			memcpy(form.mean, t->net.mean, sizeof(form.mean));
			memcpy(form.scale, t->net.scale, sizeof(form.scale));
			return fa_gpu_input(t->pixels, l->tensor, pixels, &form, t->type, stream, error);
		case FA_OP_CONVOLUTION:
		case FA_OP_DENSE:
			return convolve(t, op, error);
		case FA_OP_DEPTHWISE:
			window = fa_gpu_layer_window(t, op);
			FA_TRY(fa_gpu_pack_depthwise(fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 0), l->filter,
										 o->channels, o->kernel * o->kernel, stream, error));
			return fa_gpu_depthwise(in->tensor, l->filter,
									o->bias ? fa_gpu_parameter(t, FA_STATE_WEIGHTS, op, 1) : NULL,
									l->tensor, &window, l->activation, t->type, stream, error);
		case FA_OP_BATCH_NORM:
			norm = norm_of(t, op);
			return fa_gpu_norm_forward(&norm, in->tensor, l->tensor, t->type, stream, error);
		case FA_OP_RELU:
			return fa_gpu_affine(in->tensor, NULL, NULL, NULL, l->tensor, pixels, channels,
								 FA_GPU_RELU, t->type, stream, error);
		case FA_OP_RELU6:
			return fa_gpu_affine(in->tensor, NULL, NULL, NULL, l->tensor, pixels, channels,
								 FA_GPU_RELU6, t->type, stream, error);
		case FA_OP_SIGMOID:
			return fa_gpu_affine(in->tensor, NULL, NULL, NULL, l->tensor, pixels, channels,
								 FA_GPU_SIGMOID, t->type, stream, error);
		case FA_OP_ADD:
			return fa_gpu_affine(in->tensor, NULL, NULL, other->tensor, l->tensor, pixels, channels,
								 l->activation, t->type, stream, error);
		case FA_OP_MAX_POOL:
			window = fa_gpu_layer_window(t, op);
			return fa_gpu_max_pool(in->tensor, l->tensor, &window, t->type, stream, error);
		case FA_OP_GLOBAL_AVERAGE_POOL:
			return fa_gpu_average_pool(in->tensor, l->tensor, n, in_shape->height * in_shape->width,
									   channels, t->type, stream, error);
		case FA_OP_DROPOUT:
			return fa_gpu_dropout(in->tensor, l->tensor, pixels, shape->channels, o->rate, t->key,
								  (uint64_t) op * PER_OPERATION, t->type, stream, error);
		case FA_OP_SCALE:
			return fa_gpu_scale(in->tensor, other->tensor, NULL, l->tensor, n,
								shape->height * shape->width, channels, FA_GPU_NONE, t->type,
								stream, error);
		case FA_OP_UPSAMPLE:
			return fa_gpu_upsample(in->tensor, l->tensor, n, in_shape->height, in_shape->width,
								   channels, t->type, stream, error);
	}
	return fa_fail(error, FA_INTERNAL, "operation \"%s\" cannot be run", o->name);
}

static size_t
output_values(const fa_trainer *t, int output)
{
	int op = t->net.outputs[output].op;

	return fa_gpu_pixels(t, op) * t->shapes[op].channels;
}

fa_status
fa_gpu_start_forward(fa_trainer *t, fa_error *error)
{
	cudaStream_t stream = t->engine->stream;
	float *to = t->outputs;

	FA_TRY(fa_gpu_status(cudaMemcpyAsync(t->key, t->pinned + t->pinned_key, sizeof(uint64_t),
										 cudaMemcpyHostToDevice, stream),
						 "to take a key", error));
	for (int i = 0; i < t->net.op_count; i++)
		if (!t->layers[i].joined)
			FA_TRY(start_layer(t, i, error));
	for (int i = 0; i < t->net.output_count; i++)
	{
		int op = t->net.outputs[i].op;

		FA_TRY(fa_gpu_output(t->layers[t->layers[op].holder].tensor, to, fa_gpu_pixels(t, op),
							 t->shapes[op].channels, t->type, stream, error));
		to += output_values(t, i);
	}
	return fa_gpu_status(cudaMemcpyAsync(t->pinned + t->pinned_outputs, t->outputs,
										 t->output_values * sizeof(float), cudaMemcpyDeviceToHost,
										 stream),
						 "to give outputs", error);
}

/* --- Backward ----------------------------------------------------------------------------- */

/* Where the gradient of a step's input goes; finished by hand_on. */
static void *
target_of(const fa_trainer *t, int op, int which)
{
	return t->layers[op].adds[which] ? t->spare : input_of(t, op, which)->gradient;
}

static fa_status
hand_on(const fa_trainer *t, int op, int which, fa_error *error)
{
	void *gradient = input_of(t, op, which)->gradient;
	int in = t->net.ops[op].input[which];

	if (!t->layers[op].adds[which])
		return FA_OK;
	return fa_gpu_affine(t->spare, NULL, NULL, gradient, gradient, fa_gpu_pixels(t, in),
						 fa_gpu_channels(t, in), FA_GPU_NONE, t->type, t->engine->stream, error);
}

/* The input's gradient is the step's own. */
static fa_status
pass_on(const fa_trainer *t, int op, int which, fa_error *error)
{
	void *gradient = input_of(t, op, which)->gradient;

	return fa_gpu_affine(t->layers[op].gradient, NULL, NULL,
						 t->layers[op].adds[which] ? gradient : NULL, gradient,
						 fa_gpu_pixels(t, op), fa_gpu_channels(t, op), FA_GPU_NONE, t->type,
						 t->engine->stream, error);
}

static fa_status
bias_backward(const fa_trainer *t, int op, fa_error *error)
{
	size_t rows = fa_gpu_pixels(t, op);
	int channels = fa_gpu_channels(t, op);

	FA_TRY(fa_gpu_column_sums(t->layers[op].gradient, rows, channels, t->partials, t->type,
							  t->engine->stream, error));
	return fa_gpu_finish_sums(
		t->partials, fa_gpu_sum_blocks(rows, channels), 1, t->net.ops[op].channels,
		fa_gpu_parameter(t, FA_STATE_GRADIENTS, op, 1), t->engine->stream, error);
}

static fa_status
convolution_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0);
	int in_channels = fa_gpu_channels(t, t->net.ops[op].input[0]);
	cudaStream_t stream = t->engine->stream;
	fa_gpu_window window = fa_gpu_layer_window(t, op);
	fa_gpu_filter filter = filter_of(t, op);

	if (l->trains)
	{
		if (l->backward_filter != NULL)
			FA_TRY(fa_gpu_graph_execute(l->backward_filter, error));
		else
			FA_TRY(fa_gpu_convolution_backward_filter(in->tensor, l->gradient, t->d_filter, &window,
													  in_channels, t->type, stream, error));
		FA_TRY(fa_gpu_unpack_filter(t->d_filter, fa_gpu_parameter(t, FA_STATE_GRADIENTS, op, 0),
									&filter, t->type, stream, error));
	}
	if (!in->learns)
		return FA_OK;
	if (l->backward_data != NULL)
		FA_TRY(fa_gpu_graph_execute(l->backward_data, error));
	else
		FA_TRY(fa_gpu_convolution_backward_data(l->gradient, l->filter, target_of(t, op, 0),
												&window, in_channels, t->type, stream, error));
	return hand_on(t, op, 0, error);
}

static fa_status
depthwise_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0);
	cudaStream_t stream = t->engine->stream;
	fa_gpu_window window = fa_gpu_layer_window(t, op);
	int taps = o->kernel * o->kernel;

	if (l->trains)
	{
		FA_TRY(fa_gpu_depthwise_backward_filter(in->tensor, l->gradient, t->partials, &window,
												t->type, stream, error));
		FA_TRY(fa_gpu_finish_sums(
			t->partials, fa_gpu_sum_blocks(fa_gpu_pixels(t, op), taps * window.channels), taps,
			o->channels, fa_gpu_parameter(t, FA_STATE_GRADIENTS, op, 0), stream, error));
	}
	if (!in->learns)
		return FA_OK;
	FA_TRY(fa_gpu_depthwise_backward_data(l->gradient, l->filter, target_of(t, op, 0), &window,
										  t->type, stream, error));
	return hand_on(t, op, 0, error);
}

static fa_status
norm_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0);
	fa_gpu_norm norm = norm_of(t, op);
	float *d_weight = l->trains ? fa_gpu_parameter(t, FA_STATE_GRADIENTS, op, 0) : NULL;
	float *d_bias = l->trains ? fa_gpu_parameter(t, FA_STATE_GRADIENTS, op, 1) : NULL;

	FA_TRY(fa_gpu_norm_backward(&norm, in->tensor, l->gradient,
								in->learns ? target_of(t, op, 0) : NULL, t->means, d_weight, d_bias,
								t->net.ops[op].channels, t->type, t->engine->stream, error));
	return in->learns ? hand_on(t, op, 0, error) : FA_OK;
}

static fa_status
scale_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0), *factors = input_of(t, op, 1);
	int n = t->options.count, area = t->shapes[op].height * t->shapes[op].width;
	int channels = fa_gpu_channels(t, op);
	cudaStream_t stream = t->engine->stream;

	if (in->learns)
	{
		FA_TRY(fa_gpu_scale(l->gradient, factors->tensor, NULL, target_of(t, op, 0), n, area,
							channels, FA_GPU_NONE, t->type, stream, error));
		FA_TRY(hand_on(t, op, 0, error));
	}
	if (!factors->learns)
		return FA_OK;
	FA_TRY(fa_gpu_scale_backward(in->tensor, l->gradient, target_of(t, op, 1), n, area, channels,
								 t->type, stream, error));
	return hand_on(t, op, 1, error);
}

/* What has one input, no parameters, and nothing to do where that does not learn. */
static fa_status
plain_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	const fa_gpu_layer *l = &t->layers[op], *in = input_of(t, op, 0);
	const fa_shape *shape = &t->shapes[op], *in_shape = &t->shapes[o->input[0]];
	int n = t->options.count, channels = fa_gpu_channels(t, op);
	size_t pixels = fa_gpu_pixels(t, op);
	cudaStream_t stream = t->engine->stream;
	void *to = target_of(t, op, 0);
	fa_gpu_window window;

	switch (o->kind)
	{
		case FA_OP_RELU:
			FA_TRY(fa_gpu_activation_backward(l->tensor, l->gradient, to, pixels * channels,
											  FA_GPU_RELU, t->type, stream, error));
			break;
		case FA_OP_RELU6:
			FA_TRY(fa_gpu_activation_backward(l->tensor, l->gradient, to, pixels * channels,
											  FA_GPU_RELU6, t->type, stream, error));
			break;
		case FA_OP_SIGMOID:
			FA_TRY(fa_gpu_activation_backward(l->tensor, l->gradient, to, pixels * channels,
											  FA_GPU_SIGMOID, t->type, stream, error));
			break;
		case FA_OP_MAX_POOL:
			window = fa_gpu_layer_window(t, op);
			FA_TRY(fa_gpu_max_pool_backward(in->tensor, l->tensor, l->gradient, to, &window,
											t->type, stream, error));
			break;
		case FA_OP_GLOBAL_AVERAGE_POOL:
			FA_TRY(fa_gpu_average_pool_backward(l->gradient, to, n,
												in_shape->height * in_shape->width, channels,
												t->type, stream, error));
			break;
		case FA_OP_UPSAMPLE:
			FA_TRY(fa_gpu_upsample_backward(l->gradient, to, n, in_shape->height, in_shape->width,
											channels, t->type, stream, error));
			break;
		case FA_OP_DROPOUT:
			FA_TRY(fa_gpu_dropout(l->gradient, to, pixels, shape->channels, o->rate, t->key,
								  (uint64_t) op * PER_OPERATION, t->type, stream, error));
			break;
		default:
			return fa_fail(error, FA_INTERNAL, "operation \"%s\" cannot be trained", o->name);
	}
	return hand_on(t, op, 0, error);
}

static fa_status
layer_backward(const fa_trainer *t, int op, fa_error *error)
{
	const fa_op *o = &t->net.ops[op];
	const fa_gpu_layer *l = &t->layers[op];

	if (l->activation != FA_GPU_NONE && o->kind != FA_OP_BATCH_NORM)
		FA_TRY(fa_gpu_activation_backward(l->tensor, l->gradient, l->gradient,
										  fa_gpu_pixels(t, op) * fa_gpu_channels(t, op),
										  l->activation, t->type, t->engine->stream, error));
	if (l->trains && o->bias && o->kind != FA_OP_BATCH_NORM)
		FA_TRY(bias_backward(t, op, error));
	switch (o->kind)
	{
		case FA_OP_CONVOLUTION:
		case FA_OP_DENSE:
			return convolution_backward(t, op, error);
		case FA_OP_DEPTHWISE:
			return depthwise_backward(t, op, error);
		case FA_OP_BATCH_NORM:
			return norm_backward(t, op, error);
		case FA_OP_SCALE:
			return scale_backward(t, op, error);
		case FA_OP_ADD:
			for (int k = 0; k < 2; k++)
				if (input_of(t, op, k)->learns)
					FA_TRY(pass_on(t, op, k, error));
			return FA_OK;
		default:
			return input_of(t, op, 0)->learns ? plain_backward(t, op, error) : FA_OK;
	}
}

/* Two outputs may be the same tensor: the first one's gradient is written, others' are added. */
static fa_status
start_output(const fa_trainer *t, int output, const float *from, bool given, fa_error *error)
{
	int op = t->net.outputs[output].op, holder = t->layers[op].holder;
	void *gradient = t->layers[holder].gradient, *to = gradient;
	cudaStream_t stream = t->engine->stream;
	bool adds = false;

	if (!t->layers[holder].learns)
		return FA_OK;
	for (int i = 0; i < output; i++)
		if (t->layers[t->net.outputs[i].op].holder == holder)
			adds = true;
	if (!given)
		return adds ? FA_OK
					: fa_gpu_status(
						  cudaMemsetAsync(gradient, 0, fa_gpu_tensor_bytes(t, holder), stream),
						  "to write zeros", error);
	if (adds)
		to = t->spare;
	FA_TRY(
		fa_gpu_pad(from, to, fa_gpu_pixels(t, op), t->shapes[op].channels, t->type, stream, error));
	if (!adds)
		return FA_OK;
	return fa_gpu_affine(to, NULL, NULL, gradient, gradient, fa_gpu_pixels(t, op),
						 fa_gpu_channels(t, op), FA_GPU_NONE, t->type, stream, error);
}

fa_status
fa_gpu_start_backward(fa_trainer *t, fa_error *error)
{
	const float *from = t->output_gradients;

	FA_TRY(fa_gpu_status(cudaMemcpyAsync(t->output_gradients, t->pinned + t->pinned_outputs,
										 t->output_values * sizeof(float), cudaMemcpyHostToDevice,
										 t->engine->stream),
						 "to take gradients", error));
	for (int i = 0; i < t->net.output_count; i++)
	{
		FA_TRY(start_output(t, i, from, (t->given & 1u << i) != 0, error));
		from += output_values(t, i);
	}
	for (int i = t->net.op_count - 1; i >= 0; i--)
		if (t->layers[i].reached)
			FA_TRY(layer_backward(t, i, error));
	return FA_OK;
}

/* --- Passes --------------------------------------------------------------------------------- */

/* Its pixels go up, if they are not there yet; the key of its dropout is told. */
fa_status
fa_gpu_take_batch(fa_trainer *t, const fa_batch *batch, fa_error *error)
{
	size_t pixels = (size_t) t->options.count * t->options.height * t->options.width * 3;
	uint64_t key;

	if (batch->count != t->options.count || batch->height != t->options.height ||
		batch->width != t->options.width)
		return fa_fail(error, FA_INVALID, "the trainer was opened for batches of another size");
	if (batch->pixels == NULL && !t->augmented)
		return fa_fail(error, FA_INVALID, "there are no pixels");
	t->augmented = false;
	t->ran_forward = false;
	t->passes++;
	key = t->options.seed + t->passes * GOLDEN;
	memcpy(t->pinned + t->pinned_key, &key, sizeof(key));
	if (batch->pixels == NULL)
		return FA_OK;
	memcpy(t->pinned, batch->pixels, pixels);
	return fa_gpu_status(
		cudaMemcpyAsync(t->pixels, t->pinned, pixels, cudaMemcpyHostToDevice, t->engine->stream),
		"to take pixels", error);
}

/* What a forward pass has left in pinned memory. */
void
fa_gpu_give_outputs(const fa_trainer *t, float *const *outputs)
{
	const float *from = (const float *) (const void *) (t->pinned + t->pinned_outputs);

	for (int i = 0; i < t->net.output_count; i++)
	{
		if (outputs[i] != NULL)
			memcpy(outputs[i], from, output_values(t, i) * sizeof(float));
		from += output_values(t, i);
	}
}

/* What a backward pass finds in pinned memory: multiplied by the loss's scale. */
void
fa_gpu_take_gradients(fa_trainer *t, const float *const *gradients)
{
	float *to = (float *) (void *) (t->pinned + t->pinned_outputs);

	for (int i = 0; i < t->net.output_count; i++)
	{
		size_t count = output_values(t, i);

		for (size_t k = 0; k < count; k++)
			to[k] = gradients[i] == NULL ? 0 : gradients[i][k] * t->loss_scale;
		to += count;
	}
	t->gradient_scale = t->loss_scale;
}

fa_status
fa_cuda_forward(fa_trainer *t, const fa_batch *batch, float *const *outputs, fa_error *error)
{
	fa_status status = fa_gpu_take_batch(t, batch, error);
	cudaError_t ended;

	if (status == FA_OK)
		status = fa_gpu_start_forward(t, error);
	/* after a failure too: what has been started must not outlive this call */
	ended = cudaStreamSynchronize(t->engine->stream);
	FA_TRY(status);
	FA_TRY(fa_gpu_status(ended, "to run a network", error));
	fa_gpu_give_outputs(t, outputs);
	t->ran_forward = true;
	return FA_OK;
}

fa_status
fa_cuda_backward(fa_trainer *t, const float *const *gradients, fa_error *error)
{
	cudaError_t ended;
	fa_status status;

	if (!t->ran_forward)
		return fa_fail(error, FA_INVALID, "backward needs a forward pass before it");
	t->ran_forward = false;
	fa_gpu_expect_gradients(t, gradients);
	fa_gpu_take_gradients(t, gradients);
	status = fa_gpu_start_backward(t, error);
	ended = cudaStreamSynchronize(t->engine->stream);
	FA_TRY(status);
	return fa_gpu_status(ended, "to run a network backwards", error);
}
