/*
 * test_plans.c
 *		Every operation graph that the engine makes of every network, asked of cuDNN's
 *		heuristics for every architecture, which needs neither a GPU nor a driver: each must
 *		have at least one engine, with all that is fused. Prints TAP.
 *
 * A device is its properties in JSON. Each is asked in a process of its own: cuDNN
 * remembers answers without regard to the device. A graph is asked in one batch class, each
 * in another; FA_PLANS=all asks in all of them, which takes a quarter of an hour.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../gpu/plan.h"
#include "../../src/nn/networks.h"

#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))
#define MAX_GRAPHS 4096

typedef struct device
{
	int architecture;
	const char *name;
	int processors;
	int shared;  /* kB of a processor that a block may have */
	int threads; /* of a processor */
	int blocks;  /* of a processor */
	int cache;   /* MB, second level */
	int memory;  /* GB */
} device;

static const device devices[] = {
	{75, "T4", 40, 64, 1024, 16, 4, 16},          {80, "A100", 108, 163, 2048, 32, 40, 80},
	{86, "A10", 72, 99, 1536, 16, 6, 24},         {89, "L4", 58, 99, 1536, 24, 48, 24},
	{90, "H100", 132, 227, 2048, 32, 50, 80},     {100, "B200", 148, 227, 2048, 32, 126, 180},
	{120, "RTX 5090", 170, 99, 1536, 24, 96, 32},
};

static const struct
{
	const char *name;
	fa_precision precision;
	int from; /* the first architecture that has it */
} precisions[] = {
	{"fp16", FA_PRECISION_FP16, 75},
	{"bf16", FA_PRECISION_BF16, 80},
	{"tf32", FA_PRECISION_TF32, 80},
	{"fp32", FA_PRECISION_FP32, 75},
};

/* A training's batch, of the classes asked */
#define LARGEST_TRAINED 128

static fa_gpu_conv_spec graphs[MAX_GRAPHS]; /* n is to be filled in */
static int largest[MAX_GRAPHS];             /* the largest class that its networks run in */
static int graph_count;

static void
must(fa_status status, const fa_error *error)
{
	if (status == FA_OK)
		return;
	printf("Bail out! %s: %s\n", error->message, error->detail);
	exit(1);
}

static void
add_graph(const fa_gpu_conv_spec *spec, int class)
{
	int k = 0;

	while (k < graph_count && memcmp(&graphs[k], spec, sizeof(*spec)) != 0)
		k++;
	if (k == MAX_GRAPHS)
		abort();
	if (k == graph_count)
		graphs[graph_count++] = *spec;
	if (largest[k] < class)
		largest[k] = class;
}

/*
 * Adds the graphs of a network that are not there yet: those of inference, or those of a
 * training of all of it (trainer.h), in which nothing but bias and activation is fused.
 */
static void
add_graphs(const fa_net *net, int side, bool training)
{
	int class = fa_gpu_batch_class(training ? LARGEST_TRAINED : FA_GPU_MAX_BATCH, side, side);
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	fa_gpu_plan plan;
	fa_error error;

	must(fa_net_shapes(net, side, side, shapes, &error), &error);
	must(fa_gpu_plan_make(&plan, net, &error), &error);
	for (int i = 0; i < plan.step_count; i++)
	{
		const fa_gpu_step *step = &plan.steps[i];
		fa_gpu_conv_spec spec;

		if (!fa_gpu_is_convolution(&net->ops[step->op]))
			continue;
		spec = fa_gpu_step_spec(net, step, shapes, 0, FA_PRECISION_FP32);
		if (!training)
		{
			add_graph(&spec, class);
			continue;
		}
		spec.residual = false;
		if (step->norm >= 0 || step->sum >= 0)
			spec.activation = FA_GPU_NONE;
		spec.fused = net->ops[step->op].bias || spec.activation != FA_GPU_NONE;
		add_graph(&spec, class);
		spec.fused = false;
		for (int d = FA_GPU_BACKWARD_DATA; d <= FA_GPU_BACKWARD_FILTER; d++)
		{
			/* nothing learns before the first layer */
			if (d == FA_GPU_BACKWARD_DATA &&
				net->ops[net->ops[step->op].input[0]].kind == FA_OP_INPUT)
				continue;
			spec.direction = (fa_gpu_direction) d;
			add_graph(&spec, class);
		}
	}
	fa_gpu_plan_free(&plan);
	free(shapes);
}

static void
add_networks(void)
{
	static const char *const names[] = {"mobilenet_v1", "resnet50", "senet50", "vgg16"};
	static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}, {"face", 2}};
	fa_error error;
	fa_net net;

	for (int i = 0; i < LENGTH(names); i++)
		for (int hidden = 0; hidden <= 256; hidden += 256)
		{
			must(fa_net_by_name(names[i], &net, heads, LENGTH(heads), hidden, i < 3, 0, &error),
				 &error);
			add_graphs(&net, 224, false);
			add_graphs(&net, 224, true);
			fa_net_free(&net);
		}
	must(fa_net_yunet_n(&net, &error), &error);
	add_graphs(&net, 640, false);
	fa_net_free(&net);
}

static void
describe(const device *d, fa_gpu_target *target)
{
	char json[2048];
	fa_error error;

	snprintf(json, sizeof(json),
			 "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
			 "\"regsPerBlock\":65536,\"multiProcessorCount\":%d,\"warpSize\":32,"
			 "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,"
			 "\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":65536,"
			 "\"maxCtasPerSM\":%d,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,"
			 "\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,"
			 "\"smClockRateKHz\":1700000,\"memClockRateKHz\":2600000,\"l2CacheSize\":%d,"
			 "\"deviceName\":\"%s\",\"deviceVer\":%d,\"driverVer\":13000,\"deviceId\":0,"
			 "\"cudaDeviceId\":0,\"totalGlobalMem\":%lld}",
			 d->processors, d->shared << 10, d->architecture < 80 ? 0 : 1024, d->blocks, d->threads,
			 d->cache << 20, d->name, d->architecture * 10, (long long) d->memory << 30);
	must(fa_gpu_describe(json, target, &error), &error);
}

/* The best engine and its knobs, as plan_cache.c keeps them, make the same choice again. */
static void
make_again(const fa_gpu_conv_spec *spec, const fa_gpu_target *target, fa_gpu_graph *graph)
{
	fa_gpu_choice kept, again;
	fa_gpu_graph *copy;
	size_t workspace;
	fa_error error;

	fa_gpu_graph_keep(graph, 0);
	must(fa_gpu_graph_choice(graph, &kept, &error), &error);
	must(fa_gpu_graph_restore(spec, target, &kept, &copy, &workspace, &error), &error);
	fa_gpu_graph_keep(copy, 0);
	must(fa_gpu_graph_choice(copy, &again, &error), &error);
	if (memcmp(&kept, &again, sizeof(kept)) != 0)
	{
		printf("Bail out! engine %d with %d knobs is not made again\n", (int) kept.engine,
			   kept.knob_count);
		exit(1);
	}
	fa_gpu_graph_destroy(copy);
}

/*
 * The first `count` graphs on one device in one precision; the number of those without an
 * engine, which are named unless name is NULL.
 */
static int
ask(const fa_gpu_target *target, const char *name, fa_precision precision, int count, bool all,
	int *asked)
{
	int without = 0;

	for (int i = 0; i < count; i++)
	{
		int classes = 1, chosen;

		while (1 << classes <= largest[i])
			classes++;
		chosen = i % classes;
		for (int c = all ? 0 : chosen; c < (all ? classes : chosen + 1); c++)
		{
			fa_gpu_conv_spec spec = graphs[i];
			fa_gpu_graph *graph;
			fa_error error;
			int engines;

			spec.n = 1 << c;
			spec.type = fa_gpu_type_of(precision);
			spec.tf32 = precision == FA_PRECISION_TF32;
			must(fa_gpu_graph_create(&spec, target, &graph, &engines, &error), &error);
			if (engines > 0)
				make_again(&spec, target, graph);
			fa_gpu_graph_destroy(graph);
			++*asked;
			if (engines > 0)
				continue;
			without++;
			if (name != NULL)
				printf(
					"# %s: no engine for %d x %d x %d x %d -> %d x %d x %d, kernel %d, stride %d, "
					"activation %d, direction %d%s\n",
					name, spec.n, spec.in_h, spec.in_w, spec.in_c, spec.out_h, spec.out_w,
					spec.out_c, spec.kernel, spec.stride, spec.activation, spec.direction,
					spec.residual ? ", residual" : "");
		}
	}
	return without;
}

/* In a process of its own; its last words are its numbers. */
static int
ask_device(const device *d, bool all, int first)
{
	fa_gpu_target target;
	int test = first;
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child != 0)
		return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	describe(d, &target);
	for (int p = 0; p < LENGTH(precisions); p++)
	{
		double start = fa_seconds();
		int asked = 0, without;

		if (d->architecture < precisions[p].from)
			continue;
		without =
			ask(&target, precisions[p].name, precisions[p].precision, graph_count, all, &asked);
		printf("%sok %d - sm_%d, %s: %d graphs of %d have an engine (%.1f s)\n",
			   without == 0 ? "" : "not ", test++, d->architecture, precisions[p].name,
			   asked - without, asked, fa_seconds() - start);
		fflush(stdout);
	}
	if (d->architecture < 80) /* what it lacks: cuDNN can say no */
	{
		int asked = 0, without = ask(&target, NULL, FA_PRECISION_BF16, 8, false, &asked);

		printf("%sok %d - sm_%d, bf16: none of %d graphs has an engine\n",
			   without == asked ? "" : "not ", test, d->architecture, asked);
	}
	fa_gpu_target_free(&target);
	fflush(stdout);
	_exit(0);
}

int
main(void)
{
	const char *which = getenv("FA_PLANS");
	bool all = which != NULL && strcmp(which, "all") == 0;
	int test = 1, died = 0;

	add_networks();
	for (int i = 0; i < LENGTH(devices); i++)
	{
		died += ask_device(&devices[i], all, test) != 0;
		for (int p = 0; p < LENGTH(precisions); p++)
			test += devices[i].architecture >= precisions[p].from;
		test += devices[i].architecture < 80;
	}
	printf("# %d graphs, %d architectures\n1..%d\n", graph_count, LENGTH(devices), test - 1);
	return died > 0;
}
