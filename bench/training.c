/*
 * training.c
 *		How much longer a step of training takes than its convolutions alone, forward and
 *		backward, which oneDNN runs in the same precision, one after the other, in
 *		whatever layout of weights it likes best: what is left is batch norm, sums,
 *		pooling, packing and the optimiser, our own code.
 *
 *	build/bench/training THREADS BATCH [NETWORK...]
 */
#include "random_weights.h"
#include "timing.h"

#include "../src/nn/cpu.h"
#include "../src/nn/networks.h"

#include <string.h>

#define TRIES 5
#define SIDE 224

/* Milliseconds that have passed: there may be several threads. */
static double
elapsed(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

static void *
zeroed(size_t bytes)
{
	void *memory = fa_aligned(bytes + 64);

	if (memory == NULL)
		exit(1);
	return memset(memory, 0, bytes + 64);
}

/* The passes of all convolutions, in the order in which a step takes them. */
typedef struct bare
{
	fa_conv *convs;
	int count;
	double operations; /* multiply-adds */
	dnnl_engine_t engine;
	dnnl_stream_t stream;
} bare;

static void
add_pass(bare *b, fa_pass pass, const fa_conv_spec *spec, void *source, void *destination)
{
	fa_conv *conv = &b->convs[b->count++];
	fa_error error;

	must(fa_conv_create(conv, b->engine, pass, spec, NULL, &error), &error);
	fa_conv_bind(conv, source, zeroed(conv->weights_size),
				 spec->bias ? zeroed(spec->out_c * sizeof(float)) : NULL, destination,
				 zeroed(conv->scratchpad_size));
	b->operations += (double) spec->n * spec->out_h * spec->out_w * spec->out_c * spec->kernel *
					 spec->kernel * (spec->depthwise ? 1 : spec->in_c);
}

static bare
make_bare(const fa_net *net, const float *rates, fa_precision precision, int batch)
{
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	bare b = {.convs = calloc(3 * (size_t) net->op_count, sizeof(fa_conv))};
	void **tensors = calloc(net->op_count, sizeof(void *));
	fa_plan plan;
	fa_error error;

	must(fa_net_shapes(net, SIDE, SIDE, shapes, &error), &error);
	must(fa_plan_make(&plan, net, precision, rates, &error), &error);
	must(fa_onednn_open(&b.engine, &b.stream, &error), &error);
	for (int i = 0; i < plan.step_count; i++)
		tensors[plan.steps[i].result] =
			zeroed(fa_shape_count(&shapes[plan.steps[i].result]) * batch *
				   fa_act_size(plan.types[plan.steps[i].result]));
	for (int way = 0; way < 2; way++)
		for (int k = 0; k < plan.step_count; k++)
		{
			const fa_step *step = &plan.steps[way == 0 ? k : plan.step_count - 1 - k];
			const fa_op *op = &net->ops[step->op];
			fa_conv_spec spec;
			void *in, *out = tensors[step->result];

			if (op->kind != FA_OP_CONVOLUTION && op->kind != FA_OP_DEPTHWISE)
				continue;
			in = tensors[plan.holder[op->input[0]]];
			spec = fa_step_spec(net, &plan, step, shapes, batch);
			if (way == 0)
				add_pass(&b, FA_PASS_FORWARD, &spec, in, out);
			if (way == 1 && rates[step->op] > 0)
				add_pass(&b, FA_PASS_BACKWARD_WEIGHTS, &spec, in, out);
			if (way == 1 && plan.learns[plan.holder[op->input[0]]])
				add_pass(&b, FA_PASS_BACKWARD_DATA, &spec, in, out);
		}
	fa_plan_free(&plan);
	free(tensors);
	free(shapes);
	return b; /* the tensors live as long as the program */
}

static void
compare(fa_engine *engine, const char *name, bool last_stage, fa_precision precision, int batch)
{
	static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}, {"face", 2}};
	fa_net net;
	fa_weights weights;
	fa_trainer *trainer;
	fa_trainer_options options = {
		.count = batch,
		.height = SIDE,
		.width = SIDE,
		.precision = precision,
		.batch_norm = FA_BATCH_NORM_TRAINING,
		.momentum = 0.01f,
	};
	fa_update update = {.learning_rate = 1e-4f,
						.beta1 = 0.9f,
						.beta2 = 0.999f,
						.epsilon = 1e-8f,
						.weight_decay = 0.05f,
						.clip_norm = 5,
						.ema_decay = 0.999f};
	fa_batch images = {batch, SIDE, SIDE, zeroed((size_t) batch * SIDE * SIDE * 3)};
	float *outputs[FA_MAX_OUTPUTS] = {NULL}, *gradients[FA_MAX_OUTPUTS] = {NULL};
	double steps[TRIES] = {0}, convolutions[TRIES] = {0};
	float *rates, norm;
	fa_error error;
	bare b;

	must(fa_net_by_name(name, &net, heads, 4, 512, true, 0.2f, &error), &error);
	rates = calloc(net.op_count, sizeof(float));
	for (int i = 0; i < net.op_count; i++) /* stage 5, or block 5, or blocks 12 and 13; and heads */
		rates[i] = !last_stage || strncmp(net.ops[i].name, "conv5", 5) == 0 ||
				   strstr(net.ops[i].name, "w_12") != NULL ||
				   strstr(net.ops[i].name, "w_13") != NULL || net.ops[i].kind == FA_OP_DENSE;
	options.rates = rates;
	for (size_t i = 0; i < (size_t) batch * SIDE * SIDE * 3; i++)
		((uint8_t *) images.pixels)[i] = (uint8_t) (i * 2654435761u >> 24);
	for (int i = 1; i < net.output_count; i++)
	{
		outputs[i] = zeroed((size_t) batch * heads[i - 1].classes * sizeof(float));
		gradients[i] = zeroed((size_t) batch * heads[i - 1].classes * sizeof(float));
		for (int k = 0; k < batch * heads[i - 1].classes; k++)
			gradients[i][k] = (k % 3 - 1) * 1e-3f;
	}
	weights = random_weights(&net);
	must(fa_cpu_engine.trainer_open(engine, &net, &weights, &options, &trainer, &error), &error);
	fa_weights_free(&weights);
	b = make_bare(&net, rates, precision, batch);
	for (int i = -1; i < TRIES; i++)
	{
		double start = elapsed(), middle;

		must(fa_cpu_engine.forward(trainer, &images, outputs, &error), &error);
		must(fa_cpu_engine.backward(trainer, (const float *const *) gradients, &error), &error);
		update.step = i + 2;
		must(fa_cpu_engine.update(trainer, &update, &norm, &error), &error);
		middle = elapsed();
		for (int k = 0; k < b.count; k++)
			must(fa_conv_execute(&b.convs[k], b.stream, &error), &error);
		if (i >= 0)
		{
			steps[i] = middle - start;
			convolutions[i] = elapsed() - middle;
		}
	}
	printf("%s, %s, %s, batch %d: %.0f ms, its convolutions alone %.0f ms (%.0f GMAC/s): %.2f x\n",
		   name, last_stage ? "last stage" : "all layers",
		   precision == FA_PRECISION_BF16 ? "bf16" : "fp32", batch, median(steps, TRIES),
		   median(convolutions, TRIES), b.operations / median(convolutions, TRIES) / 1e6,
		   median(steps, TRIES) / median(convolutions, TRIES));
	fflush(stdout);
	for (int k = 0; k < b.count; k++)
		fa_conv_destroy(&b.convs[k]);
	fa_cpu_engine.trainer_close(trainer);
	fa_net_free(&net);
	free(rates);
}

int
main(int argc, char **argv)
{
	static char *all[] = {"mobilenet_v1", "resnet50", "senet50", "vgg16"};
	char **names = argc > 3 ? argv + 3 : all;
	int count = argc > 3 ? argc - 3 : 4;
	fa_engine *engine;
	fa_error error;

	if (argc < 3 || atoi(argv[1]) < 1 || atoi(argv[2]) < 1)
	{
		fprintf(stderr, "usage: %s THREADS BATCH [NETWORK...]\n", argv[0]);
		return 2;
	}
	must(fa_cpu_engine.open(&(fa_engine_options){.threads = atoi(argv[1])}, &engine, &error),
		 &error);
	fa_cpu_use_threads(engine);
	for (int i = 0; i < count; i++)
		for (int bf16 = 0; bf16 < 2; bf16++)
			for (int last = 0; last < 2; last++)
				if (!bf16 || fa_onednn_has_bf16())
					compare(engine, names[i], last != 0,
							bf16 ? FA_PRECISION_BF16 : FA_PRECISION_FP32, atoi(argv[2]));
	fa_cpu_engine.close(engine);
	return 0;
}
