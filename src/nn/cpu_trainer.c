/*
 * cpu_trainer.c
 *		The CPU engine's trainer: opening it, the optimiser's step, its state; see
 *		cpu_trainer.h.
 */
#include "cpu_trainer.h"
#include "optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void
layer_free(fa_layer *l)
{
	fa_conv_destroy(&l->forward);
	fa_conv_destroy(&l->backward_data);
	fa_conv_destroy(&l->backward_weights);
	fa_reorder_destroy(&l->pack_forward);
	fa_reorder_destroy(&l->pack_backward);
	fa_reorder_destroy(&l->unpack_gradient);
	free(l->packed_forward);
	free(l->packed_backward);
	free(l->packed_gradient);
	free(l->folded_bias);
}

void
fa_cpu_trainer_close(fa_trainer *t)
{
	if (t == NULL)
		return;
	for (int i = 0; i < t->net.op_count; i++)
	{
		if (t->layers != NULL)
			layer_free(&t->layers[i]);
		if (t->norms != NULL)
			free(t->norms[i].mean);
		if (t->tensors != NULL && t->owns_tensor[i])
			free(t->tensors[i]);
		if (t->gradients != NULL && t->owns_gradient[i])
			free(t->gradients[i]);
	}
	for (int i = 0; i <= FA_STATE_GRADIENTS; i++)
		free(t->states[i]);
	free(t->layers);
	free(t->norms);
	free(t->tensors);
	free(t->gradients);
	free(t->owns_tensor);
	free(t->owns_gradient);
	free(t->trains);
	free(t->written);
	free(t->scratchpad);
	free(t->spare);
	free(t->rates);
	free(t->shapes);
	free(t->parameters);
	free(t->offsets);
	free(t->first);
	fa_plan_free(&t->plan);
	fa_net_free(&t->net);
	free(t);
}

/* ---- Opening ------------------------------------------------------------------- */

static fa_status
make_blocks(fa_trainer *t, fa_error *error)
{
	FA_TRY(fa_net_parameters(&t->net, &t->parameters, &t->parameter_count, error));
	t->offsets = calloc(t->parameter_count + 1, sizeof(size_t));
	t->first = calloc(t->net.op_count + 1, sizeof(int));
	if (t->offsets == NULL || t->first == NULL)
		return fa_no_memory(error, t->parameter_count * sizeof(size_t));
	for (int i = 0; i < t->net.op_count; i++)
		t->first[i] = -1;
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];

		t->offsets[i] = t->block_count;
		t->block_count += (p->count + 15) / 16 * 16;
		if (t->first[p->op] < 0)
			t->first[p->op] = i;
		t->trains[p->op] = t->rates[p->op] > 0;
	}
	for (int i = 0; i <= FA_STATE_GRADIENTS; i++)
	{
		size_t bytes = t->block_count * sizeof(float);

		t->states[i] = fa_aligned(bytes);
		if (t->states[i] == NULL)
			return fa_no_memory(error, bytes);
		memset(t->states[i], 0, bytes);
	}
	return FA_OK;
}

/* A batch norm or dropout passes its gradient on in the buffer it came in, where nobody else reads.
 */
static bool
shares_gradient(const fa_trainer *t, const fa_step *step)
{
	const fa_op *op = &t->net.ops[step->op];

	return (op->kind == FA_OP_BATCH_NORM || op->kind == FA_OP_DROPOUT) &&
		   t->plan.readers[t->plan.holder[op->input[0]]] == 1;
}

static size_t
tensor_bytes(const fa_trainer *t, int op)
{
	return fa_trainer_count(t, op) * fa_act_size(t->plan.types[op]);
}

static fa_status
make_tensors(fa_trainer *t, fa_error *error)
{
	size_t largest = 1;

	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		size_t bytes = tensor_bytes(t, step->result);

		if (bytes > largest)
			largest = bytes;
		if (fa_adds_in_place(&t->net, step))
		{
			t->tensors[step->result] = t->tensors[step->sum];
			continue;
		}
		t->tensors[step->result] = fa_aligned(bytes + 64);
		t->owns_tensor[step->result] = true;
		if (t->tensors[step->result] == NULL)
			return fa_no_memory(error, bytes);
	}
	t->spare = fa_aligned(largest + 64);
	return t->spare == NULL ? fa_no_memory(error, largest) : FA_OK;
}

static fa_status
make_gradients(fa_trainer *t, fa_error *error)
{
	for (int i = t->plan.step_count - 1; i >= 0; i--)
	{
		const fa_step *step = &t->plan.steps[i];
		int result = step->result;

		if (!t->plan.learns[result])
			continue;
		if (t->gradients[result] == NULL)
		{
			t->gradients[result] = fa_aligned(tensor_bytes(t, result) + 64);
			t->owns_gradient[result] = true;
			if (t->gradients[result] == NULL)
				return fa_no_memory(error, tensor_bytes(t, result));
		}
		if (shares_gradient(t, step))
			t->gradients[t->plan.holder[t->net.ops[step->op].input[0]]] = t->gradients[result];
	}
	return FA_OK;
}

static fa_status
make_layer(fa_trainer *t, int index, size_t *scratchpad, fa_error *error)
{
	const fa_step *step = &t->plan.steps[index];
	const fa_op *op = &t->net.ops[step->op];
	int in = t->plan.holder[op->input[0]];
	fa_layer *l = &t->layers[index];
	fa_conv_spec spec = fa_step_spec(&t->net, &t->plan, step, t->shapes, t->options.count);
	dnnl_engine_t dnnl = t->engine->dnnl;
	fa_layout plain;
	fa_status status;

	FA_TRY(fa_layout_plain(&plain, &spec, error));
	status = fa_conv_create(&l->forward, dnnl, FA_PASS_FORWARD, &spec, NULL, error);
	if (status == FA_OK)
		status = fa_reorder_create(&l->pack_forward, dnnl, &plain, &l->forward.layout, error);
	l->packed_forward = fa_aligned(l->forward.weights_size);
	if (status == FA_OK && t->plan.learns[in])
	{
		status = fa_conv_create(&l->backward_data, dnnl, FA_PASS_BACKWARD_DATA, &spec, NULL, error);
		if (status == FA_OK)
			status =
				fa_reorder_create(&l->pack_backward, dnnl, &plain, &l->backward_data.layout, error);
		l->packed_backward = fa_aligned(l->backward_data.weights_size);
	}
	if (status == FA_OK && t->trains[step->op])
	{
		status = fa_conv_create(&l->backward_weights, dnnl, FA_PASS_BACKWARD_WEIGHTS, &spec, NULL,
								error);
		if (status == FA_OK)
			status = fa_reorder_create(&l->unpack_gradient, dnnl, &l->backward_weights.layout,
									   &plain, error);
		l->packed_gradient = fa_aligned(l->backward_weights.weights_size);
	}
	fa_layout_free(&plain);
	if (step->norm >= 0)
		l->folded_bias = fa_aligned(op->channels * sizeof(float));
	if (status == FA_OK &&
		(l->packed_forward == NULL || (t->plan.learns[in] && l->packed_backward == NULL) ||
		 (t->trains[step->op] && l->packed_gradient == NULL) ||
		 (step->norm >= 0 && l->folded_bias == NULL)))
		status = fa_no_memory(error, l->forward.weights_size);
	if (l->forward.scratchpad_size > *scratchpad)
		*scratchpad = l->forward.scratchpad_size;
	if (l->backward_data.scratchpad_size > *scratchpad)
		*scratchpad = l->backward_data.scratchpad_size;
	if (l->backward_weights.scratchpad_size > *scratchpad)
		*scratchpad = l->backward_weights.scratchpad_size;
	return status;
}

static fa_status
make_layers(fa_trainer *t, fa_error *error)
{
	size_t scratchpad = 1;

	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		const fa_op *op = &t->net.ops[step->op];

		if (fa_is_convolution(op))
			FA_TRY(make_layer(t, i, &scratchpad, error));
		else if (op->kind == FA_OP_BATCH_NORM)
		{
			fa_norm *n = &t->norms[i];

			n->mean = fa_aligned(4 * (size_t) op->channels * sizeof(float));
			if (n->mean == NULL)
				return fa_no_memory(error, 4 * (size_t) op->channels * sizeof(float));
			n->inv_std = n->mean + op->channels;
			n->scale = n->inv_std + op->channels;
			n->shift = n->scale + op->channels;
		}
	}
	t->scratchpad = fa_aligned(scratchpad);
	if (t->scratchpad == NULL)
		return fa_no_memory(error, scratchpad);
	for (int i = 0; i < t->plan.step_count; i++)
	{
		const fa_step *step = &t->plan.steps[i];
		const fa_op *op = &t->net.ops[step->op];
		fa_layer *l = &t->layers[i];
		const void *bias, *d_bias;

		if (!fa_is_convolution(op))
			continue;
		bias = step->norm >= 0 ? l->folded_bias
			   : op->bias      ? fa_parameter_values(t, FA_STATE_WEIGHTS, step->op, 1)
							   : NULL;
		d_bias = op->bias ? fa_parameter_values(t, FA_STATE_GRADIENTS, step->op, 1) : NULL;
		fa_conv_bind(&l->forward, fa_trainer_tensor(t, op->input[0]), l->packed_forward, bias,
					 t->tensors[step->result], t->scratchpad);
		if (t->trains[step->op])
			fa_conv_bind(&l->backward_weights, fa_trainer_tensor(t, op->input[0]),
						 l->packed_gradient, d_bias, t->gradients[step->result], t->scratchpad);
	}
	return FA_OK;
}

static fa_status
open_trainer(fa_trainer *t, const fa_net *net, const fa_weights *weights,
			 const fa_trainer_options *options, fa_error *error)
{
	fa_precision precision;
	int n = net->op_count;

	FA_TRY(fa_cpu_engine.resolve_precision(t->engine, options->precision, &precision, error));
	FA_TRY(fa_weights_match(weights, net, true, error));
	FA_TRY(fa_net_copy(&t->net, net, error));
	t->options = *options;
	t->rates = calloc(n + 1, sizeof(float));
	t->shapes = calloc(n + 1, sizeof(fa_shape));
	t->layers = calloc(n + 1, sizeof(fa_layer));
	t->norms = calloc(n + 1, sizeof(fa_norm));
	t->tensors = calloc(n + 1, sizeof(void *));
	t->gradients = calloc(n + 1, sizeof(void *));
	t->owns_tensor = calloc(n + 1, sizeof(bool));
	t->owns_gradient = calloc(n + 1, sizeof(bool));
	t->trains = calloc(n + 1, sizeof(bool));
	t->written = calloc(n + 1, sizeof(bool));
	if (t->rates == NULL || t->shapes == NULL || t->layers == NULL || t->norms == NULL ||
		t->tensors == NULL || t->gradients == NULL || t->owns_tensor == NULL ||
		t->owns_gradient == NULL || t->trains == NULL || t->written == NULL)
		return fa_no_memory(error, n * sizeof(fa_layer));
	for (int i = 0; i < n; i++)
		t->rates[i] = options->rates == NULL ? 1.0f : options->rates[i];
	t->options.rates = NULL;
	FA_TRY(fa_plan_make(&t->plan, net, precision, t->rates, error));
	t->passes = options->first_pass;
	FA_TRY(fa_net_shapes(net, options->height, options->width, t->shapes, error));
	FA_TRY(make_blocks(t, error));
	FA_TRY(make_tensors(t, error));
	FA_TRY(make_gradients(t, error));
	FA_TRY(make_layers(t, error));
	FA_TRY(fa_cpu_write_state(t, FA_STATE_WEIGHTS, weights, error));
	return fa_cpu_write_state(t, FA_STATE_AVERAGE, weights, error);
}

fa_status
fa_cpu_trainer_open(fa_engine *engine, const fa_net *net, const fa_weights *weights,
					const fa_trainer_options *options, fa_trainer **trainer, fa_error *error)
{
	fa_trainer *t;

	*trainer = NULL;
	if (options->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	t = calloc(1, sizeof(fa_trainer));
	if (t == NULL)
		return fa_no_memory(error, sizeof(fa_trainer));
	t->engine = engine;
	fa_cpu_use_threads(engine);
	if (open_trainer(t, net, weights, options, error) != FA_OK)
	{
		fa_cpu_trainer_close(t);
		return error->status;
	}
	*trainer = t;
	return FA_OK;
}

/* ---- Update ------------------------------------------------------------------------ */

static void
follow(float *average, const float *w, size_t count, float part)
{
#pragma omp parallel for simd schedule(static)
	for (size_t i = 0; i < count; i++)
		average[i] += part * (w[i] - average[i]);
}

fa_status
fa_cpu_update(fa_trainer *t, const fa_update *update, float *gradient_norm, fa_error *error)
{
	double squares = 0;
	float norm, scale = 1.0f;

	if (update->step < 1)
		return fa_fail(error, FA_INVALID, "steps count from 1");
	fa_cpu_use_threads(t->engine);
	for (int i = 0; i < t->parameter_count; i++)
		if (t->trains[t->parameters[i].op])
			squares += fa_sum_of_squares(t->states[FA_STATE_GRADIENTS] + t->offsets[i],
										 t->parameters[i].count);
	norm = *gradient_norm = (float) sqrt(squares);
	if (!(squares < INFINITY)) /* one bad batch must not end the training */
		return FA_OK;
	if (update->clip_norm > 0 && norm > update->clip_norm)
		scale = update->clip_norm / norm;
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];
		size_t at = t->offsets[i];
		float *w = t->states[FA_STATE_WEIGHTS] + at;

		if (!t->trains[p->op]) /* nor does its average move */
			continue;
		if (p->trainable)
			fa_optimize(update, update->learning_rate * t->rates[p->op], p->decay, scale, w,
						t->states[FA_STATE_MOMENT1] + at, t->states[FA_STATE_MOMENT2] + at,
						t->states[FA_STATE_GRADIENTS] + at, p->count);
		if (update->ema_decay > 0)
			follow(t->states[FA_STATE_AVERAGE] + at, w, p->count, 1.0f - update->ema_decay);
	}
	for (int i = 0; i < t->plan.step_count; i++)
		if (t->trains[t->plan.steps[i].op])
			t->layers[i].packed = false;
	return FA_OK;
}

fa_status
fa_cpu_step(fa_trainer *t, const fa_training_step *step, float *gradient_norm, fa_error *error)
{
	FA_TRY(fa_cpu_forward(t, &step->batch, step->outputs, error));
	FA_TRY(step->loss(step->argument, error));
	FA_TRY(fa_cpu_backward(t, step->gradients, error));
	return fa_cpu_update(t, step->update, gradient_norm, error);
}

/* ---- State ------------------------------------------------------------------------- */

fa_status
fa_cpu_read_state(fa_trainer *t, fa_trainer_state state, fa_weights *weights, fa_error *error)
{
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];
		fa_tensor *tensor;

		FA_TRY(fa_weights_add(weights, p->name, p->rank, p->shape, &tensor, error));
		memcpy(tensor->values, t->states[state] + t->offsets[i], p->count * sizeof(float));
	}
	return FA_OK;
}

fa_status
fa_cpu_write_state(fa_trainer *t, fa_trainer_state state, const fa_weights *weights,
				   fa_error *error)
{
	FA_TRY(fa_weights_match(weights, &t->net, true, error));
	for (int i = 0; i < t->parameter_count; i++)
	{
		const fa_parameter *p = &t->parameters[i];

		memcpy(t->states[state] + t->offsets[i], fa_weights_find(weights, p->name)->values,
			   p->count * sizeof(float));
	}
	for (int i = 0; i < t->plan.step_count; i++)
		t->layers[i].packed = false;
	t->ran_forward = false;
	return FA_OK;
}
