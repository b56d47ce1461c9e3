/*
 * tune.c
 *		Trying plans out; see tune.h.
 *
 * Each candidate runs on zeros in memory of its own. Where that cannot be had, or a clock,
 * the first plan that works is used, and not remembered: the next engine may do better.
 */
#include "tune.h"

#include <math.h>

#define CANDIDATES 3 /* of the heuristics' list, best first */
#define EXECUTIONS 3 /* that are timed, after one that is not */

typedef struct stopwatch
{
	cudaEvent_t start, stop;
} stopwatch;

static void
stopwatch_free(stopwatch *watch)
{
	if (watch->start != NULL)
		cudaEventDestroy(watch->start);
	if (watch->stop != NULL)
		cudaEventDestroy(watch->stop);
}

static fa_status
stopwatch_init(stopwatch *watch, fa_error *error)
{
	*watch = (stopwatch){NULL, NULL};
	FA_TRY(fa_gpu_status(cudaEventCreate(&watch->start), "to make a clock", error));
	return fa_gpu_status(cudaEventCreate(&watch->stop), "to make a clock", error);
}

static size_t
rounded(size_t size)
{
	return (size + 255) / 256 * 256;
}

/* Binds the graph to zeros and a workspace in one block. */
static fa_status
bind_zeros(const fa_gpu_tuner *t, fa_gpu_graph *graph, size_t workspace, fa_gpu_block *block,
		   fa_error *error)
{
	const fa_gpu_conv_spec *s = fa_gpu_graph_spec(graph);
	size_t each = fa_gpu_size(s->type);
	size_t in = rounded((size_t) s->n * s->in_h * s->in_w * s->in_c * each);
	size_t filter = rounded((size_t) s->out_c * s->kernel * s->kernel * s->in_c * each);
	size_t bias = rounded(s->out_c * sizeof(float));
	size_t out = rounded((size_t) s->n * s->out_h * s->out_w * s->out_c * each);
	size_t inputs = in + filter + bias + out; /* the last one: the residual */
	char *at;

	FA_TRY(fa_gpu_take(t->memory, inputs + out + workspace, "for trying plans out", block, error));
	at = block->address;
	/* `out`, too: backwards it is what is read */
	FA_TRY(fa_gpu_status(cudaMemsetAsync(at, 0, inputs + out, t->stream), "to write zeros", error));
	return fa_gpu_graph_bind(graph, at, at + in, at + in + filter, at + in + filter + bias,
							 at + inputs, at + inputs + out, error);
}

static fa_status
time_bound(const fa_gpu_tuner *t, const fa_gpu_graph *graph, const stopwatch *watch, float *time,
		   fa_error *error)
{
	FA_TRY(fa_gpu_graph_execute(graph, error));
	FA_TRY(fa_gpu_status(cudaEventRecord(watch->start, t->stream), "to start a clock", error));
	for (int i = 0; i < EXECUTIONS; i++)
		FA_TRY(fa_gpu_graph_execute(graph, error));
	FA_TRY(fa_gpu_status(cudaEventRecord(watch->stop, t->stream), "to stop a clock", error));
	FA_TRY(fa_gpu_status(cudaEventSynchronize(watch->stop), "to try a plan out", error));
	return fa_gpu_status(cudaEventElapsedTime(time, watch->start, watch->stop), "to read a clock",
						 error);
}

/* Milliseconds that the graph's plan takes. */
static fa_status
time_plan(const fa_gpu_tuner *t, fa_gpu_graph *graph, size_t workspace, const stopwatch *watch,
		  float *time, fa_error *error)
{
	fa_gpu_block block = {NULL, 0};
	fa_status status = bind_zeros(t, graph, workspace, &block, error);
	cudaError_t ended;

	if (status == FA_OK)
		status = time_bound(t, graph, watch, time, error);
	/* whatever has been started must not outlive its memory */
	ended = cudaStreamSynchronize(t->stream);
	if (status == FA_OK)
		status = fa_gpu_status(ended, "to try a plan out", error);
	fa_gpu_give(t->memory, &block);
	return status;
}

/*
 * Plans of the first few configurations from `from` on that become any; *made: which. What becomes
 * none on one device may on another: the next one is tried, whatever is said.
 */
static int
make_plans(fa_gpu_graph *graph, int from, int count, int *made, size_t *sizes, fa_error *error)
{
	int made_count = 0;

	for (int i = from; i < count && made_count < CANDIDATES; i++)
		if (fa_gpu_graph_try(graph, i, &sizes[made_count], error) == FA_OK)
			made[made_count++] = i;
	return made_count;
}

/*
 * Makes plans of the first few configurations and keeps the fastest; *sure: it is known to be.
 * FA_UNSUPPORTED: none becomes a plan.
 */
static fa_status
choose(const fa_gpu_tuner *t, fa_gpu_graph *graph, int count, size_t *workspace, bool *sure,
	   fa_error *error)
{
	size_t sizes[CANDIDATES];
	int made[CANDIDATES], made_count = make_plans(graph, 0, count, made, sizes, error), best = 0;
	float fastest = INFINITY;
	stopwatch watch;
	int all;

	if (made_count == 0 && fa_gpu_graph_more(graph, &all, error) == FA_OK)
		made_count = make_plans(graph, count, all, made, sizes, error);
	if (made_count == 0)
		return fa_fail(error, FA_UNSUPPORTED, "cuDNN has no plan for a convolution");
	*sure = made_count == 1 || stopwatch_init(&watch, error) == FA_OK;
	for (int i = 0; i < made_count && made_count > 1 && *sure; i++)
	{
		float time = INFINITY;

		fa_gpu_graph_select(graph, made[i]);
		*sure = time_plan(t, graph, sizes[i], &watch, &time, error) == FA_OK;
		if (time < fastest)
		{
			fastest = time;
			best = i;
		}
	}
	if (made_count > 1)
		stopwatch_free(&watch);
	if (!*sure)
		best = 0;
	*workspace = sizes[best];
	fa_gpu_graph_keep(graph, made[best]);
	return FA_OK;
}

fa_status
fa_gpu_tuned_graph(const fa_gpu_tuner *t, const fa_gpu_conv_spec *spec, fa_gpu_graph **graph,
				   size_t *workspace, fa_error *error)
{
	const fa_gpu_choice *known = fa_gpu_plan_cache_find(t->cache, spec);
	fa_gpu_choice choice = {.engine = -1};
	bool sure = true;
	fa_status status;
	fa_error own;
	int count;

	*graph = NULL;
	if (known != NULL && known->engine < 0)
		return FA_OK;
	if (known != NULL &&
		fa_gpu_graph_restore(spec, t->target, known, graph, workspace, &own) == FA_OK)
		return FA_OK;
	status = fa_gpu_graph_create(spec, t->target, FA_GPU_CONFIGS, graph, &count, &own);
	if (status == FA_NO_MEMORY)
	{
		*error = own;
		return status;
	}
	/*
	 * Whatever keeps cuDNN from an answer, the caller can do without, this time; not without the
	 * device, if that is why.
	 */
	if (status != FA_OK)
		return fa_gpu_status(cudaStreamSynchronize(t->stream), "to plan a convolution", error);
	if (count == 0 || choose(t, *graph, count, workspace, &sure, &own) != FA_OK)
	{
		fa_gpu_graph_destroy(*graph);
		*graph = NULL;
		sure = count == 0; /* a plan may fail for want of memory */
	}
	else if (sure)
		sure = fa_gpu_graph_choice(*graph, &choice, &own) == FA_OK;
	if (sure)
		fa_gpu_plan_cache_add(t->cache, spec, &choice);
	return FA_OK;
}
