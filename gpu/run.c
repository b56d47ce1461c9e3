/*
 * run.c
 *		Batches through a model: in parts, so that the pixels of the next part are on their
 *		way while the device works on the one before; the next part may be another batch's.
 *
 * Two streams: `copies` takes pixels up, `stream` does everything else. Each part has one of
 * two slots of pinned memory. A part's pixels go up once the first step of the part before
 * has read its own (`taken`), and are read once they are there (`uploaded`); its outputs
 * are in its slot when its `done` comes, for which the host waits one part later. When
 * fa_cuda_run and its like return nothing is at work.
 */
#include "photos.h"

#include <string.h>

/* What is run: pixels, or crops of pictures. */
typedef struct feed
{
	int count, height, width;
	const uint8_t *pixels;
	const fa_warped *crops; /* if there are no pixels */
	float *const *outputs;
} feed;

/* Of a feed, at work. */
typedef struct part
{
	fa_gpu_program *program; /* NULL: none */
	int first, count;        /* images */
	bool last;               /* of its feed */
	float *const *outputs;   /* the feed's */
} part;

/* Parts that follow each other. */
typedef struct flow
{
	fa_model *model;
	const fa_stream *stream; /* to be told of feeds that are done, or NULL */
	part before;             /* the latest, at work */
	int number;              /* parts so far */
} flow;

static size_t
outputs_place(const fa_gpu_program *p)
{
	return (p->pixels_size + 255) / 256 * 256;
}

/* Room in both slots. */
static fa_status
reserve_slots(fa_engine *engine, size_t size, fa_error *error)
{

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

/* The slot of a part; the one before has the other. */
static fa_gpu_slot *
slot_of(const flow *f, int number)
{
	return &f->model->engine->slots[number % 2];
}

/* Waits for the latest part, if there is one at work, and hands its outputs over. */
static fa_status
finish_part(flow *f, part *work, const fa_gpu_slot *slot, fa_error *error)
{
	const fa_gpu_program *p = work->program;
	const float *values;

	if (p == NULL)
		return FA_OK;
	work->program = NULL;
	FA_TRY(fa_gpu_status(cudaEventSynchronize(slot->done), "to run a network", error));
	values = (const void *) (slot->pinned + outputs_place(p));
	for (int i = 0; i < f->model->net.output_count; i++)
	{
		size_t size = fa_gpu_output_values(f->model, p, i), each = size / p->count;

		if (work->outputs[i] != NULL)
			memcpy(work->outputs[i] + work->first * each, values,
				   work->count * each * sizeof(float));
		values += size;
	}
	if (work->last && f->stream != NULL)
		f->stream->done(f->stream->argument);
	return FA_OK;
}

static fa_status
finish_latest(flow *f, fa_error *error)
{
	return finish_part(f, &f->before, slot_of(f, f->number + 1), error);
}

/* A program and a slot for images of this class. Nothing may be at work where these come and go. */
static fa_status
prepare_part(flow *f, int class, const feed *from, const fa_interrupt *interrupt,
			 fa_gpu_program **p, fa_error *error)
{
	const fa_gpu_slot *slot = slot_of(f, f->number);
	size_t size;

	*p = fa_gpu_find_program(f->model, class, from->height, from->width);
	if (*p == NULL)
	{
		FA_TRY(finish_latest(f, error));
		FA_TRY(fa_gpu_add_program(f->model, class, from->height, from->width, interrupt, p, error));
	}
	size = outputs_place(*p) + (*p)->outputs_size;
	if (slot->size >= size)
		return FA_OK;
	FA_TRY(finish_latest(f, error));
	return reserve_slots(f->model->engine, size, error);
}

/* All parts of a feed; the last is left at work. */
static fa_status
start_feed(flow *f, const feed *from, const fa_interrupt *interrupt, fa_error *error)
{
	fa_engine *engine = f->model->engine;
	part work = {.outputs = from->outputs};

	if (from->count < 1)
		return fa_fail(error, FA_INVALID, "a batch needs at least one image");
	if (from->pixels == NULL)
		FA_TRY(fa_gpu_reserve_photos(engine, from->crops, from->count,
									 fa_gpu_batch_class(from->count, from->height, from->width),
									 error));
	for (; work.first < from->count; work.first += work.count)
	{
		int rest = from->count - work.first;
		int class = fa_gpu_batch_class(rest, from->height, from->width);
		fa_gpu_slot *slot = slot_of(f, f->number);
		part before;

		FA_TRY(prepare_part(f, class, from, interrupt, &work.program, error));
		work.count = rest < class ? rest : class;
		work.last = work.count == rest;
		FA_TRY(feed_part(engine, work.program, slot, from, &work, error));
		FA_TRY(start_part(f->model, work.program, slot, interrupt, error));
		before = f->before;
		f->before = work;
		f->number++;
		FA_TRY(finish_part(f, &before, slot_of(f, f->number), error));
	}
	return FA_OK;
}

/* Whether the latest part is at work. */
static bool
busy(void *device)
{
	const flow *f = device;

	if (f->before.program == NULL ||
		cudaEventQuery(slot_of(f, f->number + 1)->done) != cudaErrorNotReady)
		return false;
	cudaGetLastError(); /* or the next kernel would be thought to have failed */
	return true;
}

/* All feeds, until there is none. */
static fa_status
run_stream(flow *f, const fa_interrupt *interrupt, fa_error *error)
{
	const fa_stream *s = f->stream;
	fa_batch batch;
	float *const *outputs;

	for (;;)
	{
		while (s->next(s->argument, &batch, &outputs, busy, f))
		{
			feed from = {batch.count, batch.height, batch.width, batch.pixels, NULL, outputs};

			FA_TRY(start_feed(f, &from, interrupt, error));
		}
		if (f->before.program == NULL)
			return FA_OK;
		FA_TRY(finish_latest(f, error)); /* upon which there may be more */
	}
}

/* After a failure too: what has been started must not outlive the call. */
static fa_status
end_flow(flow *f, fa_status status, fa_error *error)
{
	fa_engine *engine = f->model->engine;
	cudaError_t copied = cudaStreamSynchronize(engine->copies);
	cudaError_t ended = cudaStreamSynchronize(engine->stream);

	fa_gpu_tidy_photos(engine);
	/* which know better than cuDNN why something could not be started */
	FA_TRY(fa_gpu_status(copied, "to take pixels", error));
	FA_TRY(fa_gpu_status(ended, "to run a network", error));
	return status;
}

static fa_status
run_feed(fa_model *model, const feed *from, const fa_interrupt *interrupt, fa_error *error)
{
	flow f = {.model = model};
	fa_status status = start_feed(&f, from, interrupt, error);

	if (status == FA_OK)
		status = finish_latest(&f, error);
	return end_flow(&f, status, error);
}

fa_status
fa_cuda_run(fa_model *model, const fa_batch *batch, float *const *outputs,
			const fa_interrupt *interrupt, fa_error *error)
{
	feed from = {batch->count, batch->height, batch->width, batch->pixels, NULL, outputs};

	return run_feed(model, &from, interrupt, error);
}

fa_status
fa_cuda_run_stream(fa_model *model, const fa_stream *stream, const fa_interrupt *interrupt,
				   fa_error *error)
{
	flow f = {.model = model, .stream = stream};

	return end_flow(&f, run_stream(&f, interrupt, error), error);
}

fa_status
fa_cuda_run_warped(fa_model *model, const fa_warped *crops, int count, int height, int width,
				   float *const *outputs, const fa_interrupt *interrupt, fa_error *error)
{
	feed from = {count, height, width, NULL, crops, outputs};

	return run_feed(model, &from, interrupt, error);
}
