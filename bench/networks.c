/*
 * networks.c
 *		How much longer a network takes than its convolutions alone, which oneDNN
 *		runs in the same precision, one after the other, with their activations and in
 *		whatever layout of weights it likes best: what is left is our own code.
 *
 *	build/bench/networks DIRECTORY_OF_WEIGHTS
 */
#include "random_weights.h"
#include "timing.h"

#include "../src/face/attributes.h"
#include "../src/nn/cpu.h"
#include "../src/nn/networks.h"

#include <string.h>

#define TRIES 51

typedef struct alone
{
	fa_conv *convs;
	int count;
	double operations; /* multiply-adds */
	dnnl_engine_t engine;
	dnnl_stream_t stream;
} alone;

static void *
zeroed(size_t bytes)
{
	void *memory = fa_aligned(bytes);

	if (memory == NULL)
		exit(1);
	return memset(memory, 0, bytes);
}

static size_t
act_size(fa_act_type type)
{
	return type == FA_ACT_BF16 ? 2 : 4;
}

/* All convolutions of the network, each with buffers of its own: source and destination are shared
 * by neighbours, as they would be in any program. */
static alone
make_alone(const fa_net *net, fa_precision precision, int height, int width)
{
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	void *ping = NULL, *pong = NULL;
	size_t largest = 0;
	fa_plan plan;
	fa_error error;
	alone a = {.convs = calloc(net->op_count, sizeof(fa_conv))};

	must(fa_net_shapes(net, height, width, shapes, &error), &error);
	must(fa_plan_make(&plan, net, precision, NULL, &error), &error);
	must(fa_onednn_open(&a.engine, &a.stream, &error), &error);
	for (int i = 0; i < net->op_count; i++)
		if (fa_shape_count(&shapes[i]) * sizeof(float) > largest)
			largest = fa_shape_count(&shapes[i]) * sizeof(float);
	ping = zeroed(largest);
	pong = zeroed(largest);
	for (int i = 0; i < plan.step_count; i++)
	{
		const fa_op *op = &net->ops[plan.steps[i].op];
		fa_conv_spec spec;
		fa_conv *conv = &a.convs[a.count];
		void *swap = ping;

		if (op->kind != FA_OP_CONVOLUTION && op->kind != FA_OP_DEPTHWISE)
			continue;
		spec = fa_step_spec(net, &plan, &plan.steps[i], shapes, 1);
		must(fa_conv_create(conv, a.engine, FA_PASS_INFERENCE, &spec, NULL, &error), &error);
		fa_conv_bind(conv, ping, zeroed(conv->weights_size),
					 spec.bias ? zeroed(spec.out_c * sizeof(float)) : NULL, pong,
					 zeroed(conv->scratchpad_size + act_size(spec.source)));
		ping = pong;
		pong = swap;
		a.operations += (double) spec.out_h * spec.out_w * spec.out_c * spec.kernel * spec.kernel *
						(spec.depthwise ? 1 : spec.in_c);
		a.count++;
	}
	fa_plan_free(&plan);
	free(shapes);
	return a; /* buffers live as long as the program */
}

static void
compare(const char *name, fa_model *model, const fa_net *net, fa_precision precision, int height,
		int width)
{
	alone a = make_alone(net, precision, height, width);
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	fa_batch batch = {.count = 1,
					  .height = height,
					  .width = width,
					  .pixels = zeroed((size_t) height * width * 3)};
	float *outputs[FA_MAX_OUTPUTS] = {NULL};
	double network[TRIES] = {0}, convolutions[TRIES] = {0}, start, n, c;
	fa_error error;

	must(fa_net_shapes(net, height, width, shapes, &error), &error);
	for (int i = 0; i < net->output_count; i++)
		outputs[i] = zeroed(fa_shape_count(&shapes[net->outputs[i].op]) * sizeof(float));
	for (int i = -2; i < TRIES; i++)
	{
		start = now();
		must(fa_cpu_engine.run(model, &batch, outputs, NULL, &error), &error);
		n = now() - start;
		start = now();
		for (int k = 0; k < a.count; k++)
			must(fa_conv_execute(&a.convs[k], a.stream, &error), &error);
		c = now() - start;
		if (i >= 0)
		{
			network[i] = n;
			convolutions[i] = c;
		}
	}
	n = median(network, TRIES);
	c = median(convolutions, TRIES);
	printf("%s %d x %d, %s: %.2f ms, its %d convolutions alone %.2f ms (%.0f GMAC/s): %.2f x\n",
		   name, width, height, precision == FA_PRECISION_BF16 ? "bf16" : "fp32", n, a.count, c,
		   a.operations / c / 1e6, n / c);
	free(shapes);
}

static void
compare_classifier(fa_engine *engine, fa_precision precision, const char *directory)
{
	fa_attribute_model model;
	fa_head heads[FA_MAX_HEADS] = {0};
	char path[4096];
	fa_error error;
	fa_net net;

	snprintf(path, sizeof(path), "%s/default.safetensors", directory);
	must(fa_attribute_model_open(&fa_cpu_engine, engine, precision, path, &model, &error), &error);
	for (int i = 0; i < model.head_count; i++)
	{
		snprintf(heads[i].name, sizeof(heads[i].name), "%s", model.heads[i].name);
		heads[i].classes = model.heads[i].classes;
	}
	/* The width of the hidden layer doesn't matter here: dense layers count as the rest. */
	must(fa_net_mobilenet_v1(&net, heads, model.head_count, 512, false, 0, &error), &error);
	compare("mobilenet_v1", model.model, &net, precision, model.height, model.width);
	fa_net_free(&net);
	fa_attribute_model_close(&fa_cpu_engine, &model);
}

static void
compare_detector(fa_engine *engine, fa_precision precision, const char *directory)
{
	fa_weights weights = {0};
	fa_model *model;
	char path[4096];
	fa_error error;
	fa_net net;

	snprintf(path, sizeof(path), "%s/yunet_n.safetensors", directory);
	must(fa_weights_read(&weights, path, &error), &error);
	must(fa_net_yunet_n(&net, &error), &error);
	must(fa_cpu_engine.load(engine, &net, &weights, precision, &model, &error), &error);
	fa_weights_free(&weights);
	compare("yunet_n", model, &net, precision, 480, 640);
	fa_cpu_engine.unload(model);
	fa_net_free(&net);
}

/* The larger classifiers, whose trained weights do not come with us. */
static void
compare_large(fa_engine *engine, fa_precision precision, const char *name)
{
	static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}, {"face", 2}};
	fa_weights weights;
	fa_model *model;
	fa_error error;
	fa_net net;

	must(fa_net_by_name(name, &net, heads, 4, 512, false, 0, &error), &error);
	weights = random_weights(&net);
	must(fa_cpu_engine.load(engine, &net, &weights, precision, &model, &error), &error);
	fa_weights_free(&weights);
	compare(name, model, &net, precision, 224, 224);
	fa_cpu_engine.unload(model);
	fa_net_free(&net);
}

int
main(int argc, char **argv)
{
	fa_precision precisions[] = {FA_PRECISION_FP32, FA_PRECISION_BF16};
	fa_engine *engine;
	fa_error error;

	if (argc != 2)
	{
		fprintf(stderr, "usage: %s DIRECTORY_OF_WEIGHTS\n", argv[0]);
		return 2;
	}
	must(fa_cpu_engine.open(NULL, &engine, &error), &error);
	fa_cpu_use_threads(engine);
	for (size_t i = 0; i < sizeof(precisions) / sizeof(*precisions); i++)
	{
		if (precisions[i] == FA_PRECISION_BF16 && !fa_onednn_has_bf16())
		{
			printf("bf16: not on this processor\n");
			continue;
		}
		compare_detector(engine, precisions[i], argv[1]);
		compare_classifier(engine, precisions[i], argv[1]);
		compare_large(engine, precisions[i], "resnet50");
		compare_large(engine, precisions[i], "senet50");
		compare_large(engine, precisions[i], "vgg16");
	}
	fa_cpu_engine.close(engine);
	return 0;
}
