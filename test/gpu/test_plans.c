/*
 * test_plans.c
 *		Every operation graph that the engine makes of every network, asked of cuDNN's
 *		heuristics for every architecture, which needs neither a GPU nor a driver: each must
 *		have at least one engine, with all that is fused. Prints TAP.
 *
 * A device is its properties in JSON. Each is asked in a process of its own: cuDNN
 * remembers answers without regard to the device. Graphs that several networks have are asked
 * once, each in all batch classes that the engine runs it in, and in the sizes of batches that
 * trainings have.
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
#define MAX_SIZES 32

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

/* Of trainings, whose batches are not padded: --batch, the default being 32 */
static const int trained[] = {2, 8, 16, 24, 32, 48, 64, 96, 100, 128, 192, 256};

/* What photos of 1:1, 4:3, 3:2 and 16:9 are seen on at detect_size 640, either way up. */
static const int canvases[][2] = {{640, 640}, {640, 480}, {640, 448}, {640, 384}};

static fa_gpu_conv_spec graphs[MAX_GRAPHS]; /* n is to be filled in */
static int sizes[MAX_GRAPHS][MAX_SIZES];    /* of batches, ended by 0 */
static int graph_count;

static void
must(fa_status status, const fa_error *error)
{
	if (status == FA_OK)
		return;
	printf("Bail out! %s: %s\n", error->message, error->detail);
	exit(1);
}

/* The graph, if it is not there yet, and batches that it is asked in. */
static void
add_graph(const fa_gpu_conv_spec *spec, const int *batches, int count)
{
	int k = 0;

	while (k < graph_count && memcmp(&graphs[k], spec, sizeof(*spec)) != 0)
		k++;
	if (k == MAX_GRAPHS)
		abort();
	if (k == graph_count)
		graphs[graph_count++] = *spec;
	for (int i = 0; i < count; i++)
	{
		int at = 0;

		while (sizes[k][at] != 0 && sizes[k][at] != batches[i])
			at++;
		if (at == MAX_SIZES - 1)
			abort();
		sizes[k][at] = batches[i];
	}
}

/* Those of a network's inference, in every class of batches. */
static void
add_inference(const fa_net *net, int height, int width)
{
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	int classes[MAX_SIZES], count = 0;
	fa_gpu_plan plan;
	fa_error error;

	for (int n = 1; n <= fa_gpu_batch_class(FA_GPU_MAX_BATCH, height, width); n *= 2)
		classes[count++] = n;
	must(fa_net_shapes(net, height, width, shapes, &error), &error);
	must(fa_gpu_plan_make(&plan, net, &error), &error);
	for (int i = 0; i < plan.step_count; i++)
		if (fa_gpu_is_convolution(&net->ops[plan.steps[i].op]))
		{
			fa_gpu_conv_spec spec =
				fa_gpu_step_spec(net, &plan.steps[i], shapes, 0, FA_PRECISION_FP32);

			add_graph(&spec, classes, count);
		}
	fa_gpu_plan_free(&plan);
	free(shapes);
}

/*
 * Those of a training of all of a network (trainer.h), in which nothing but bias and activation
 * is fused.
 */
static void
add_training(const fa_net *net, int side)
{
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
		spec.residual = false;
		if (step->norm >= 0 || step->sum >= 0)
			spec.activation = FA_GPU_NONE;
		spec.fused = net->ops[step->op].bias || spec.activation != FA_GPU_NONE;
		add_graph(&spec, trained, LENGTH(trained));
		spec.fused = false;
		spec.activation = FA_GPU_NONE; /* which is not a bare convolution's */
		for (int d = FA_GPU_BACKWARD_DATA; d <= FA_GPU_BACKWARD_FILTER; d++)
		{
			/* nothing learns before the first layer */
			if (d == FA_GPU_BACKWARD_DATA &&
				net->ops[net->ops[step->op].input[0]].kind == FA_OP_INPUT)
				continue;
			spec.direction = (fa_gpu_direction) d;
			add_graph(&spec, trained, LENGTH(trained));
		}
	}
	fa_gpu_plan_free(&plan);
	free(shapes);
}

/* A photo's canvas, and the one for large faces, as src/face/detector.c lays them out. */
static void
add_canvas(const fa_net *net, int height, int width)
{
	add_inference(net, height, width);
	add_inference(net, height * 4 / 10 / 32 * 32, width * 4 / 10 / 32 * 32);
}

static void
add_networks(void)
{
	static const struct
	{
		const char *name;
		bool batch_norm;
		int side;
	} networks[] = {{"mobilenet_v1", true, 224}, {"resnet50", true, 224}, {"resnet50", true, 200},
					{"senet50", true, 224},      {"senet50", true, 200},  {"vgg16", false, 224}};
	static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}, {"face", 2}};
	fa_error error;
	fa_net net;

	for (int i = 0; i < LENGTH(networks); i++)
		for (int hidden = 0; hidden <= 256; hidden += 256)
		{
			must(fa_net_by_name(networks[i].name, &net, heads, LENGTH(heads), hidden,
								networks[i].batch_norm, 0, &error),
				 &error);
			add_inference(&net, networks[i].side, networks[i].side);
			add_training(&net, networks[i].side);
			fa_net_free(&net);
		}
	must(fa_net_yunet_n(&net, &error), &error);
	for (int i = 0; i < LENGTH(canvases); i++)
	{
		add_canvas(&net, canvases[i][0], canvases[i][1]);
		add_canvas(&net, canvases[i][1], canvases[i][0]);
	}
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
 * What is found of engines; the graph with the first of them is *graph. Each that is listed takes
 * its time, up to 10 ms: the first alone will do, mostly.
 */
static int
find_engines(const fa_gpu_conv_spec *spec, const fa_gpu_target *target, fa_gpu_graph **graph)
{
	int engines;
	fa_error error;

	must(fa_gpu_graph_create(spec, target, 1, graph, &engines, &error), &error);
	if (engines > 0)
		return engines;
	fa_gpu_graph_destroy(*graph);
	must(fa_gpu_graph_create(spec, target, FA_GPU_CONFIGS, graph, &engines, &error), &error);
	return engines;
}

static void
name_graph(const char *name, const fa_gpu_conv_spec *s)
{
	printf("# %s: no engine for %d x %d x %d x %d -> %d x %d x %d, kernel %d, stride %d, "
		   "activation %d, direction %d%s\n",
		   name, s->n, s->in_h, s->in_w, s->in_c, s->out_h, s->out_w, s->out_c, s->kernel,
		   s->stride, s->activation, s->direction, s->residual ? ", residual" : "");
}

/*
 * The first `count` graphs on one device in one precision; the number of those without an
 * engine, which are named unless name is NULL.
 */
static int
ask(const fa_gpu_target *target, const char *name, fa_precision precision, int count, int *asked)
{
	int without = 0;

	for (int i = 0; i < count; i++)
		for (int k = 0; sizes[i][k] != 0; k++)
		{
			fa_gpu_conv_spec spec = graphs[i];
			fa_gpu_graph *graph;
			int engines;

			spec.n = sizes[i][k];
			spec.type = fa_gpu_type_of(precision);
			spec.tf32 = precision == FA_PRECISION_TF32;
			engines = find_engines(&spec, target, &graph);
			if (engines > 0 && k == i % 5) /* in one of its sizes, not the same of all */
				make_again(&spec, target, graph);
			fa_gpu_graph_destroy(graph);
			++*asked;
			if (engines > 0)
				continue;
			without++;
			if (name != NULL)
				name_graph(name, &spec);
		}
	return without;
}

/* In a process of its own; its last words are its numbers. */
static int
ask_device(const device *d, int first)
{
	fa_gpu_target target;
	int test = first;
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child != 0)
		return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
	fa_gpu_keep_compiler();
	describe(d, &target);
	for (int p = 0; p < LENGTH(precisions); p++)
	{
		double start = fa_seconds();
		int asked = 0, without;

		if (d->architecture < precisions[p].from)
			continue;
		without = ask(&target, precisions[p].name, precisions[p].precision, graph_count, &asked);
		printf("%sok %d - sm_%d, %s: %d graphs of %d have an engine (%.1f s)\n",
			   without == 0 ? "" : "not ", test++, d->architecture, precisions[p].name,
			   asked - without, asked, fa_seconds() - start);
		fflush(stdout);
	}
	if (d->architecture < 80) /* what it lacks: cuDNN can say no */
	{
		int asked = 0, without = ask(&target, NULL, FA_PRECISION_BF16, 2, &asked);

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
	int test = 1, died = 0;

	add_networks();
	for (int i = 0; i < LENGTH(devices); i++)
	{
		died += ask_device(&devices[i], test) != 0;
		for (int p = 0; p < LENGTH(precisions); p++)
			test += devices[i].architecture >= precisions[p].from;
		test += devices[i].architecture < 80;
	}
	printf("# %d graphs, %d architectures\n1..%d\n", graph_count, LENGTH(devices), test - 1);
	return died > 0;
}
