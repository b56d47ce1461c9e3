/*
 * run.c
 *		Batches through a model: in parts, so that the pixels of the next part are on their
 *		way while the device works on the one before.
 *
 * Two streams: `copies` takes pixels up, `stream` does everything else. Each part has one of
 * two slots of pinned memory. A part's pixels go up once the first step of the part before
 * has read its own (`taken`), and are read once they are there (`uploaded`); its outputs
 * are in its slot when its `done` comes, for which the host waits one part later. When
 * fa_cuda_run returns nothing is at work.
 */
#include "photos.h"

#include <string.h>

/* What is run: pixels, or crops of pictures. */
typedef struct feed
{
	int count, height, width;
	const uint8_t *pixels;
	const fa_warped *crops; /* if there are no pixels */
} feed;

/* Of a batch, at work. */
typedef struct part
{
	fa_gpu_program *program; /* NULL: none */
	int first, count;        /* images */
} part;

static size_t
outputs_place(const fa_gpu_program *p)
{
	return (p->pixels_size + 255) / 256 * 256;
}

/* Room in both slots for the parts of a batch, of which none is larger than the first. */
static fa_status
reserve_slots(fa_engine *engine, const fa_gpu_program *p, fa_error *error)
{
	size_t size = outputs_place(p) + p->outputs_size;

	for (int i = 0; i < 2; i++)
	{
		fa_gpu_slot *slot = &engine->slots[i];

		if (slot->size >= size)
			continue;
		if (slot->pinned != NULL)
			cudaFreeHost(slot->pinned);
		*slot = (fa_gpu_slot){.done = slot->done};
		FA_TRY(fa_gpu_status(cudaMallocHost((void **) &slot->pinned, size),
							 "to give memory of the host", error));
		slot->size = size;
	}
	return FA_OK;
}

/* A part's pixels, by way of its slot, into the arena. Images that pad it are black. */
static fa_status
upload(fa_engine *engine, const fa_gpu_program *p, fa_gpu_slot *slot, const uint8_t *pixels,
	   size_t size, fa_error *error)
{
	memcpy(slot->pinned, pixels, size);
	memset(slot->pinned + size, 0, p->pixels_size - size);
	FA_TRY(fa_gpu_status(cudaStreamWaitEvent(engine->copies, engine->taken, 0),
						 "to wait for a batch", error));
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(p->arena.address + p->pixels, slot->pinned, p->pixels_size,
										 cudaMemcpyHostToDevice, engine->copies),
						 "to take pixels", error));
	FA_TRY(
		fa_gpu_status(cudaEventRecord(engine->uploaded, engine->copies), "to take pixels", error));
	return fa_gpu_status(cudaStreamWaitEvent(engine->stream, engine->uploaded, 0),
						 "to wait for pixels", error);
}

/* A part's pixels, from where they are into the arena. */
static fa_status
feed_part(fa_engine *engine, const fa_gpu_program *p, fa_gpu_slot *slot, const feed *from,
		  const part *work, fa_error *error)
{
	size_t image = (size_t) p->height * p->width * 3;

	if (from->pixels == NULL)
		return fa_gpu_warp_part(engine, p, from->crops + work->first, work->count, error);
	return upload(engine, p, slot, from->pixels + work->first * image, work->count * image, error);
}

/* From the pixels in the arena to the outputs in the slot. */
static fa_status
start_part(fa_model *model, fa_gpu_program *p, fa_gpu_slot *slot, const fa_interrupt *interrupt,
		   fa_error *error)
{
	fa_engine *engine = model->engine;

	FA_TRY(fa_gpu_program_input(model, p, error));
	FA_TRY(fa_gpu_status(cudaEventRecord(engine->taken, engine->stream), "to take pixels", error));
	FA_TRY(fa_gpu_program_start(model, p, interrupt, error));
	FA_TRY(fa_gpu_status(cudaMemcpyAsync(slot->pinned + outputs_place(p),
										 p->arena.address + p->outputs, p->outputs_size,
										 cudaMemcpyDeviceToHost, engine->stream),
						 "to give outputs", error));
	return fa_gpu_status(cudaEventRecord(slot->done, engine->stream), "to give outputs", error);
}

/* Waits for a part and hands its outputs over. */
static fa_status
finish_part(fa_model *model, part *work, const fa_gpu_slot *slot, float *const *outputs,
			fa_error *error)
{
	const fa_gpu_program *p = work->program;
	const float *values;

	if (p == NULL)
		return FA_OK;
	work->program = NULL;
	FA_TRY(fa_gpu_status(cudaEventSynchronize(slot->done), "to run a network", error));
	values = (const void *) (slot->pinned + outputs_place(p));
	for (int i = 0; i < model->net.output_count; i++)
	{
		size_t size = fa_gpu_output_values(model, p, i), each = size / p->count;

		if (outputs[i] != NULL)
			memcpy(outputs[i] + work->first * each, values, work->count * each * sizeof(float));
		values += size;
	}
	return FA_OK;
}

/* The slot of a part; the one before has the other. */
static int
slot_of(int number)
{
	return number % 2;
}

static fa_status
run_parts(fa_model *model, const feed *from, float *const *outputs, const fa_interrupt *interrupt,
		  fa_error *error)
{
	fa_engine *engine = model->engine;
	part before = {NULL, 0, 0};
	int number = 0;

	if (from->pixels == NULL)
		FA_TRY(fa_gpu_reserve_photos(engine, from->crops, from->count,
									 fa_gpu_batch_class(from->count, from->height, from->width),
									 error));
	for (int done = 0; done < from->count; done += before.count, number++)
	{
		int rest = from->count - done;
		int class = fa_gpu_batch_class(rest, from->height, from->width);
		fa_gpu_program *p = fa_gpu_find_program(model, class, from->height, from->width);
		fa_gpu_slot *slot = &engine->slots[slot_of(number)];
		part work = {NULL, done, rest < class ? rest : class};

		if (p == NULL) /* nothing may be at work where programs come and go */
		{
			FA_TRY(
				finish_part(model, &before, &engine->slots[slot_of(number + 1)], outputs, error));
			FA_TRY(
				fa_gpu_add_program(model, class, from->height, from->width, interrupt, &p, error));
		}
		if (number == 0)
			FA_TRY(reserve_slots(engine, p, error));
		FA_TRY(feed_part(engine, p, slot, from, &work, error));
		FA_TRY(start_part(model, p, slot, interrupt, error));
		work.program = p;
		FA_TRY(finish_part(model, &before, &engine->slots[slot_of(number + 1)], outputs, error));
		before = work;
	}
	return finish_part(model, &before, &engine->slots[slot_of(number + 1)], outputs, error);
}

static fa_status
run_feed(fa_model *model, const feed *from, float *const *outputs, const fa_interrupt *interrupt,
		 fa_error *error)
{
	cudaError_t copied, ended;
	fa_status status;

	if (from->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	status = run_parts(model, from, outputs, interrupt, error);
	/* after a failure too: what has been started must not outlive this call */
	copied = cudaStreamSynchronize(model->engine->copies);
	ended = cudaStreamSynchronize(model->engine->stream);
	fa_gpu_tidy_photos(model->engine);
	/* which know better than cuDNN why something could not be started */
	FA_TRY(fa_gpu_status(copied, "to take pixels", error));
	FA_TRY(fa_gpu_status(ended, "to run a network", error));
	return status;
}

fa_status
fa_cuda_run(fa_model *model, const fa_batch *batch, float *const *outputs,
			const fa_interrupt *interrupt, fa_error *error)
{
	feed from = {batch->count, batch->height, batch->width, batch->pixels, NULL};

	return run_feed(model, &from, outputs, interrupt, error);
}

fa_status
fa_cuda_run_warped(fa_model *model, const fa_warped *crops, int count, int height, int width,
				   float *const *outputs, const fa_interrupt *interrupt, fa_error *error)
{
	feed from = {count, height, width, NULL, crops};

	return run_feed(model, &from, outputs, interrupt, error);
}
