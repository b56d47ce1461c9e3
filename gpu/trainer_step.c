/*
 * trainer_step.c
 *		A step of the CUDA engine's trainer: both passes, the loss between them and the optimiser,
 *		as one CUDA graph; and the optimiser's step alone. See trainer.h.
 *
 * The two functions of the host are nodes of the graph like any other: they begin when what is
 * before them on the stream is done, and what follows waits for them. They run in a thread of
 * CUDA's while the caller waits for the stream, and so need no lock; nothing of CUDA may be called
 * there. A stream that has failed does not call them.
 */
#include "trainer.h"

#include <math.h>
#include <string.h>

#define LARGEST_SCALE 0x1p24f
#define SMALLEST_SCALE 1.0f
#define GROWTH_STEPS 1000

/* --- The host's part ----------------------------------------------------------------------- */

/* From outputs to their gradients. */
static void CUDART_CB
make_gradients(void *trainer)
{
	fa_trainer *t = trainer;

	fa_gpu_give_outputs(t, t->at_work->outputs);
	if (t->at_work->loss(t->at_work->argument, &t->loss_error) == FA_OK)
		t->loss_error.status = FA_OK;
	fa_gpu_take_gradients(t, t->at_work->gradients);
}

/* After a step that was good, or was left out. */
static void
adapt_scale(fa_trainer *t, bool good)
{
	if (t->type != FA_GPU_FP16)
		return;
	t->good_steps = good ? t->good_steps + 1 : 0;
	if (!good && t->loss_scale > SMALLEST_SCALE)
		t->loss_scale /= 2;
	if (t->good_steps == GROWTH_STEPS)
	{
		t->good_steps = 0;
		if (t->loss_scale < LARGEST_SCALE)
			t->loss_scale *= 2;
	}
}

/* From the gradients' squares, as scaled, to what the optimiser's kernel goes by. */
static void CUDART_CB
size_step(void *trainer)
{
	fa_trainer *t = trainer;
	const fa_update *update = t->update;
	const double *squares = (const double *) (const void *) (t->pinned + t->pinned_squares);
	double sum = 0;
	fa_gpu_step_size size = {
		.optimizer = update->optimizer,
		.learning_rate = update->learning_rate,
		.beta1 = update->beta1,
		.beta2 = update->beta2,
		.epsilon = update->epsilon,
		.weight_decay = update->weight_decay,
		.correction1 = (float) (1.0 - pow(update->beta1, (double) update->step)),
		.correction2 = (float) (1.0 - pow(update->beta2, (double) update->step)),
		.scale = 1.0f / t->gradient_scale,
		.ema = update->ema_decay > 0 ? 1.0f - update->ema_decay : 0};

	for (size_t i = 0; i < fa_gpu_square_sums(t->block_count); i++)
		sum += squares[i];
	t->gradient_norm = (float) (sqrt(sum) / t->gradient_scale);
	if (update->clip_norm > 0 && t->gradient_norm > update->clip_norm)
		size.scale *= update->clip_norm / t->gradient_norm;
	/* one bad batch must not end the training */
	size.skip = t->loss_error.status != FA_OK || !(sum < INFINITY);
	if (t->loss_error.status == FA_OK)
		adapt_scale(t, !size.skip);
	memcpy(t->pinned + t->pinned_step_size, &size, sizeof(size));
}

/* --- On the stream ------------------------------------------------------------------------- */

static fa_status
call_host(fa_trainer *t, cudaHostFn_t function, fa_error *error)
{
	return fa_gpu_status(cudaLaunchHostFunc(t->engine->stream, function, t), "to call the host",
						 error);
}

/* From gradients to the next weights. */
static fa_status
start_update(fa_trainer *t, fa_error *error)
{
	cudaStream_t stream = t->engine->stream;

	FA_TRY(fa_gpu_squares(t->states[FA_STATE_GRADIENTS], t->rules, t->block_count, t->partials,
						  t->squares, stream, error));
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(t->pinned + t->pinned_squares, t->squares,
										 fa_gpu_square_sums(t->block_count) * sizeof(double),
										 cudaMemcpyDeviceToHost, stream),
						 "to give a norm", error));
	FA_TRY(call_host(t, size_step, error));
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(t->step_size, t->pinned + t->pinned_step_size,
										 sizeof(fa_gpu_step_size), cudaMemcpyHostToDevice, stream),
						 "to take a step's size", error));
	return fa_gpu_optimize(t->step_size, t->rules, t->states[FA_STATE_WEIGHTS],
						   t->states[FA_STATE_AVERAGE], t->states[FA_STATE_MOMENT1],
						   t->states[FA_STATE_MOMENT2], t->states[FA_STATE_GRADIENTS],
						   t->block_count, stream, error);
}

static fa_status
start_step(fa_trainer *t, fa_error *error)
{
	FA_TRY(fa_gpu_start_forward(t, error));
	FA_TRY(call_host(t, make_gradients, error));
	FA_TRY(fa_gpu_start_backward(t, error));
	return start_update(t, error);
}

static fa_status
capture_step(fa_trainer *t, fa_error *error)
{
	cudaStream_t stream = t->engine->stream;

	FA_TRY(fa_gpu_begin_capture(stream, error));
	return fa_gpu_end_capture(stream, start_step(t, error), &t->whole, error);
}

/* Piece by piece the first time, and as a graph from the second on, if there can be one. */
static fa_status
run_step(fa_trainer *t, fa_error *error)
{
	fa_error own;

	if (t->stepped && t->whole == NULL && capture_step(t, &own) != FA_OK)
		t->stepped = false; /* another try next time */
	if (t->whole != NULL)
		return fa_gpu_status(cudaGraphLaunch(t->whole, t->engine->stream), "to start a graph",
							 error);
	FA_TRY(start_step(t, error));
	t->stepped = true;
	return FA_OK;
}

void
fa_gpu_expect_gradients(fa_trainer *t, const float *const *gradients)
{
	unsigned given = 0;

	for (int i = 0; i < t->net.output_count; i++)
		given |= gradients[i] == NULL ? 0 : 1u << i;
	if (given == t->given)
		return;
	if (t->whole != NULL)
		cudaGraphExecDestroy(t->whole);
	t->whole = NULL;
	t->stepped = false;
	t->given = given;
}

static fa_status
check_update(const fa_update *update, fa_error *error)
{
	return update->step < 1 ? fa_fail(error, FA_INVALID, "steps count from 1") : FA_OK;
}

fa_status
fa_cuda_step(fa_trainer *t, const fa_training_step *step, float *gradient_norm, fa_error *error)
{
	fa_status status;
	cudaError_t ended;

	FA_TRY(check_update(step->update, error));
	fa_gpu_expect_gradients(t, step->gradients);
	t->at_work = step;
	t->update = step->update;
	t->loss_error.status = FA_OK;
	status = fa_gpu_take_batch(t, &step->batch, error);
	if (status == FA_OK)
		status = run_step(t, error);
	/* after a failure too: what has been started must not outlive this call */
	ended = cudaStreamSynchronize(t->engine->stream);
	FA_TRY(status);
	FA_TRY(fa_gpu_status(ended, "to take a step", error));
	*gradient_norm = t->gradient_norm;
	if (t->loss_error.status != FA_OK)
		*error = t->loss_error;
	return t->loss_error.status;
}

fa_status
fa_cuda_update(fa_trainer *t, const fa_update *update, float *gradient_norm, fa_error *error)
{
	fa_status status;
	cudaError_t ended;

	FA_TRY(check_update(update, error));
	t->update = update;
	t->loss_error.status = FA_OK;
	status = start_update(t, error);
	ended = cudaStreamSynchronize(t->engine->stream);
	FA_TRY(status);
	FA_TRY(fa_gpu_status(ended, "to take a step", error));
	*gradient_norm = t->gradient_norm;
	return FA_OK;
}
