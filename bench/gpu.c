/*
 * gpu.c
 *		The CUDA engine on the GPU that is here: whether it is right, and how fast. Run by
 * bench/gpu-run for `make gpu-check` and `make gpu-bench`; knows no PostgreSQL.
 *
 *		bench/gpu check|bench LIBRARY [small]
 *
 * check compares with the CPU engine in fp32: probabilities of all networks, precisions and
 * batches, odd shapes, gradients and steps of training; and (gpu_paths.c) the demo's photos, crops,
 * streams, packed weights and plans that are kept; whether answers repeat, whether what was opened
 * can be closed and opened again. bench measures elapsed time, medians of several. Both print
 * Markdown. small: sizes for an emulated device. Exit status: 0, 1 where something is wrong, 77
 * where there is no GPU.
 */
#include "gpu.h"

#include "../src/nn/cuda.h"
#include "../src/nn/networks.h"
#include "random_weights.h"

#define NETWORKS ((int) (sizeof(networks) / sizeof(networks[0])))
#define TRIES 7

static const fa_head heads[] = {{"age", 101}, {"gender", 2}, {"race", 5}, {"face", 2}};
static const struct
{
	const char *name;
	int side;
} networks[] = {{"mobilenet_v1", 224}, {"resnet50", 200}, {"senet50", 200}, {"vgg16", 224}};

/* The largest difference of a probability from the CPU's in fp32; fp16's is the issue's own. */
static const struct
{
	fa_precision precision;
	const char *name;
	double tolerance, gradient;
} precisions[] = {{FA_PRECISION_FP32, "fp32", 1e-3, 1e-2},
				  {FA_PRECISION_TF32, "tf32", 2e-2, 0.1},
				  {FA_PRECISION_FP16, "fp16", 2e-2, 0.1},
				  {FA_PRECISION_BF16, "bf16", 6e-2, 0.5}};

const fa_engine_interface *gpu;
fa_engine *engine, *cpu;
bool small;
static int failures;
fa_error error;

static double
milliseconds(void)
{
	return fa_seconds() * 1e3;
}

void
verdict(bool good, const char *what, double value, double limit)
{
	printf("| %s | %.2g | %.2g | %s |\n", what, value, limit, good ? "right" : "**wrong**");
	failures += !good;
}

uint8_t *
noise(size_t bytes)
{
	uint8_t *pixels = malloc(bytes);
	uint32_t seed = 1;

	if (pixels == NULL)
		exit(1);
	for (size_t i = 0; i < bytes; i++)
	{
		seed = seed * 1664525u + 1013904223u;
		pixels[i] = (uint8_t) (seed >> 24);
	}
	return pixels;
}

void
build(const char *name, fa_net *net)
{
	must(fa_net_by_name(name, net, heads, 4, 0, strcmp(name, "vgg16") != 0, 0, &error), &error);
}

size_t
output_size(const fa_net *net, int output, int height, int width)
{
	fa_shape *shapes = calloc((size_t) net->op_count, sizeof(fa_shape)), s;

	must(fa_net_shapes(net, height, width, shapes, &error), &error);
	s = shapes[net->outputs[output].op];
	free(shapes);
	return (size_t) s.height * s.width * s.channels;
}

static void
softmax(const float *logits, double *p, size_t n)
{
	double highest = logits[0], sum = 0;

	for (size_t i = 1; i < n; i++)
		highest = fmax(highest, logits[i]);
	for (size_t i = 0; i < n; i++)
		sum += p[i] = exp(logits[i] - highest);
	for (size_t i = 0; i < n; i++)
		p[i] /= sum;
}

double
difference(const float *a, const float *b, size_t each, int count, bool head)
{
	double worst = 0, largest = 1e-6;

	for (size_t i = 0; i < each * (size_t) count && !head; i++)
		largest = fmax(largest, fabs(b[i]));
	for (int n = 0; n < count; n++)
	{
		double p[1024], q[1024];

		if (head)
		{
			softmax(a + (size_t) n * each, p, each);
			softmax(b + (size_t) n * each, q, each);
		}
		for (size_t i = 0; i < each; i++)
			worst = fmax(worst, head ? fabs(p[i] - q[i])
									 : fabs(a[(size_t) n * each + i] - b[(size_t) n * each + i]) /
										   largest);
	}
	return worst;
}

void
run(const fa_engine_interface *interface, fa_model *model, const fa_batch *batch, float **outputs)
{
	must(interface->run(model, batch, outputs, NULL, &error), &error);
}

float **
make_outputs(const fa_net *net, const fa_batch *batch)
{
	float **outputs = calloc(FA_MAX_OUTPUTS, sizeof(float *));

	for (int i = 0; outputs != NULL && i < net->output_count; i++)
		outputs[i] =
			calloc((size_t) batch->count * output_size(net, i, batch->height, batch->width),
				   sizeof(float));
	return outputs;
}

void
free_outputs(const fa_net *net, float **outputs)
{
	for (int i = 0; i < net->output_count; i++)
		free(outputs[i]);
	free(outputs);
}

/* --- Check ---------------------------------------------------------------------------------- */

/* One batch in all precisions, twice each. */
static void
check_batch(const char *name, const fa_net *net, const fa_weights *weights, const fa_batch *batch)
{
	float **expected = make_outputs(net, batch), **outputs = make_outputs(net, batch);
	float **again = make_outputs(net, batch);
	fa_model *model;

	must(fa_cpu_engine.load(cpu, net, weights, FA_PRECISION_FP32, &model, &error), &error);
	run(&fa_cpu_engine, model, batch, expected);
	fa_cpu_engine.unload(model);
	for (size_t k = 0; k < sizeof(precisions) / sizeof(precisions[0]); k++)
	{
		double worst = 0;
		bool repeats = true;
		fa_precision resolved;
		char what[160];

		if (gpu->resolve_precision(engine, precisions[k].precision, &resolved, &error) != FA_OK)
			continue;
		must(gpu->load(engine, net, weights, precisions[k].precision, &model, &error), &error);
		for (int turn = 0; turn < 3; turn++) /* as steps, captured, launched */
			run(gpu, model, batch, turn == 0 ? outputs : again);
		for (int i = 0; i < net->output_count; i++)
		{
			size_t each = output_size(net, i, batch->height, batch->width);
			bool head = each <= 101;

			worst = fmax(worst, difference(outputs[i], expected[i], each, batch->count, head));
			repeats = repeats && memcmp(outputs[i], again[i],
										each * (size_t) batch->count * sizeof(float)) == 0;
		}
		snprintf(what, sizeof(what), "%s, %d x %d x %d, %s", name, batch->count, batch->height,
				 batch->width, precisions[k].name);
		verdict(worst <= precisions[k].tolerance, what, worst, precisions[k].tolerance);
		if (!repeats)
			verdict(false, "... the same answer again", 0, 0);
		gpu->unload(model);
	}
	free_outputs(net, expected);
	free_outputs(net, outputs);
	free_outputs(net, again);
}

static void
check_inference(void)
{
	static const int counts[] = {1, 3, 16, 70};
	static const int sizes[][2] = {{96, 160}, {640, 480}, {32, 32}};
	fa_weights weights;
	fa_net net;

	for (int i = 0; i < NETWORKS; i++)
	{
		int side = small ? 33 : networks[i].side;
		uint8_t *pixels = noise((size_t) 70 * side * side * 3);

		build(networks[i].name, &net);
		weights = random_weights(&net);
		for (int k = 0; k < (small ? 2 : 4); k++)
			check_batch(networks[i].name, &net, &weights,
						&(fa_batch){counts[k], side, side, pixels});
		fa_weights_free(&weights);
		fa_net_free(&net);
		free(pixels);
	}
	must(fa_net_yunet_n(&net, &error), &error);
	weights = random_weights(&net);
	for (int k = 0; k < 3; k++)
	{
		int height = small ? 32 * (k + 1) : sizes[k][0], width = small ? 64 : sizes[k][1];
		uint8_t *pixels = noise((size_t) 2 * height * width * 3);

		check_batch("yunet_n", &net, &weights, &(fa_batch){2, height, width, pixels});
		free(pixels);
	}
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* |a - b| / |b| over all parameters of a state. */
static double
state_distance(const fa_engine_interface *interfaces[2], fa_trainer *trainers[2],
			   fa_trainer_state state)
{
	fa_weights states[2] = {{0}};
	double difference = 0, norm = 1e-30;

	for (int k = 0; k < 2; k++)
		must(interfaces[k]->read_state(trainers[k], state, &states[k], &error), &error);
	for (int i = 0; i < states[0].tensor_count; i++)
		for (size_t k = 0; k < states[0].tensors[i].count; k++)
		{
			float a = states[1].tensors[i].values[k], b = states[0].tensors[i].values[k];

			difference += pow((double) a - b, 2);
			norm += (double) b * b;
		}
	fa_weights_free(&states[0]);
	fa_weights_free(&states[1]);
	return sqrt(difference / norm);
}

/* Gradients are there already, or the outputs are their own. */
static fa_status
no_loss(void *argument, fa_error *why)
{
	(void) argument;
	(void) why;
	return FA_OK;
}

static void
check_training(const char *name, fa_precision precision, const char *precision_name,
			   double tolerance)
{
	int side = small ? 33 : 96, count = small ? 2 : 8;
	fa_batch batch = {count, side, side, noise((size_t) count * side * side * 3)};
	const fa_engine_interface *interfaces[2] = {&fa_cpu_engine, gpu};
	fa_engine *engines[2] = {cpu, engine};
	fa_trainer *trainers[2];
	fa_trainer_options options = {.count = count,
								  .height = side,
								  .width = side,
								  .batch_norm = FA_BATCH_NORM_FROZEN,
								  .momentum = 0.01f};
	/* at first weights stay, so that gradients can be compared */
	fa_update update = {.beta1 = 0.9f, .step = 1, .optimizer = FA_OPTIMIZER_SGD};
	float **outputs, norms[2];
	const float *gradients[FA_MAX_OUTPUTS] = {NULL};
	fa_training_step step = {batch, NULL, gradients, no_loss, NULL, &update};
	fa_weights weights;
	fa_net net;
	char what[160];
	double distance;

	build(name, &net);
	weights = random_weights(&net);
	step.outputs = outputs = make_outputs(&net, &batch);
	for (int i = 0; i < net.output_count; i++)
	{
		size_t n = (size_t) count * output_size(&net, i, side, side);
		float *gradient = malloc(n * sizeof(float));

		for (size_t k = 0; k < n; k++)
			gradient[k] = (float) ((double) k / (double) n - 0.5) * 0.01f;
		gradients[i] = gradient;
	}
	for (int k = 0; k < 2; k++)
	{
		options.precision = k == 0 ? FA_PRECISION_FP32 : precision;
		must(
			interfaces[k]->trainer_open(engines[k], &net, &weights, &options, &trainers[k], &error),
			&error);
		for (int turn = 0; turn < 3; turn++) /* a GPU's third is a graph */
			must(interfaces[k]->step(trainers[k], &step, &norms[k], &error), &error);
	}
	distance = state_distance(interfaces, trainers, FA_STATE_GRADIENTS);
	snprintf(what, sizeof(what), "%s, gradients, %s", name, precision_name);
	verdict(distance <= tolerance, what, distance, tolerance);
	update.learning_rate = 1e-3f;
	for (int k = 0; k < 2; k++)
		must(interfaces[k]->step(trainers[k], &step, &norms[k], &error), &error);
	distance = state_distance(interfaces, trainers, FA_STATE_WEIGHTS);
	snprintf(what, sizeof(what), "%s, weights after a step, %s", name, precision_name);
	verdict(distance <= tolerance, what, distance, tolerance);
	for (int k = 0; k < 2; k++)
		interfaces[k]->trainer_close(trainers[k]);
	for (int i = 0; i < net.output_count; i++)
		free((void *) gradients[i]);
	free_outputs(&net, outputs);
	free((void *) batch.pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* Faces out of noise, half of them small, with everything that is done to them; `jpeg`: that, too.
 */
static fa_augmented *
draw_images(int count, int side, bool jpeg)
{
	int wide = side + side / 2;
	fa_augmented *images = calloc((size_t) count, sizeof(fa_augmented));

	if (images == NULL)
		exit(1);
	for (int i = 0; i < count; i++)
	{
		fa_augmentation *how = &images[i].how;
		double scale;

		images[i].source =
			(fa_image){wide, wide, (size_t) wide * 3, noise((size_t) wide * wide * 3)};
		how->pixels = i % 2 == 0 ? side : side / 2;
		scale = 1.2 * side / how->pixels;
		how->frame = (fa_affine){scale, 0.1 * i / count, i, -0.1 * i / count, scale, 3};
		how->recolours = true;
		how->offset = 32768;
		for (int c = 0; c < 3; c++)
			how->colours[c][c] = 60000 - 200 * i;
		for (int k = 0; k < 256; k++)
			how->tones[k] = (uint8_t) k;
		how->blur = 0.5 + 2.0 * i / count;
		how->noise = 5;
		how->noise_key = (uint64_t) i;
		how->quality = jpeg ? 20 + i % 60 : 0;
	}
	return images;
}

static void
free_images(fa_augmented *images, int count)
{
	for (int i = 0; i < count; i++)
		fa_image_free(&images[i].source);
	free(images);
}

/* The share of values that are more than a level away from the host's. */
static void
check_augmentation(bool jpeg, double tolerance)
{
	int side = small ? 33 : 200, count = small ? 2 : 32;
	size_t each = (size_t) side * side * 3, differ = 0;
	fa_trainer_options options = {
		.count = count, .height = side, .width = side, .precision = FA_PRECISION_FP32};
	fa_augmented *images = draw_images(count, side, jpeg);
	uint8_t *pixels = noise(count * each), *expected = noise(each);
	fa_trainer *trainer;
	fa_weights weights;
	fa_net net;

	build("mobilenet_v1", &net);
	weights = random_weights(&net);
	must(gpu->trainer_open(engine, &net, &weights, &options, &trainer, &error), &error);
	must(gpu->augment(trainer, images, (fa_blend){256, 0}, pixels, &error), &error);
	for (int i = 0; i < count; i++)
	{
		must(fa_augmentation_apply(&images[i], side, expected, &error), &error);
		for (size_t k = 0; k < each; k++)
			differ += abs(pixels[i * each + k] - expected[k]) > 1;
	}
	verdict((double) differ <= tolerance * (double) (count * each),
			jpeg ? "augmented images, with JPEG's loss" : "augmented images",
			(double) differ / (double) (count * each), tolerance);
	gpu->trainer_close(trainer);
	free_images(images, count);
	free(pixels);
	free(expected);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

/* An engine with next to no memory says so, and the next one works. */
static void
check_memory(void)
{
	const fa_engine_options options = {.memory_limit = 1 << 20};
	fa_weights weights;
	fa_engine *other;
	fa_model *model;
	fa_status status;
	fa_net net;

	build("resnet50", &net);
	weights = random_weights(&net);
	must(gpu->open(&options, &other, &error), &error);
	status = gpu->load(other, &net, &weights, FA_PRECISION_AUTO, &model, &error);
	verdict(status == FA_NO_MEMORY, "a limit of 1 MB is told of", status, FA_NO_MEMORY);
	gpu->close(other);
	fa_weights_free(&weights);
	fa_net_free(&net);
}

static void
check(void)
{
	printf("| | difference from the CPU in fp32 | at most | |\n|---|---|---|---|\n");
	check_inference();
	for (int i = 0; i < NETWORKS; i++)
		for (size_t k = 0; k < sizeof(precisions) / sizeof(precisions[0]); k++)
		{
			fa_precision resolved;

			if ((small && k > 0) ||
				gpu->resolve_precision(engine, precisions[k].precision, &resolved, &error) != FA_OK)
				continue;
			check_training(networks[i].name, precisions[k].precision, precisions[k].name,
						   precisions[k].gradient);
		}
	check_augmentation(false, 0.001);
	check_augmentation(true, 0.1); /* roundings that fall the other way change whole blocks */
	check_memory();
	check_paths();
	for (int i = 0; i < 3; i++)
	{
		gpu->close(engine);
		must(gpu->open(NULL, &engine, &error), &error);
	}
	printf("\n%d wrong\n", failures);
}

/* --- Bench -------------------------------------------------------------------------------------
 */

/* Images a second, or milliseconds of a batch of one. */
static double
time_inference(const char *name, int side, int count, fa_precision precision)
{
	fa_batch batch = {count, side, side, noise((size_t) count * side * side * 3)};
	int repeat = small ? 1 : count == 1 ? 200 : 20;
	int tries = small ? 1 : TRIES;
	double times[TRIES] = {0};
	float **outputs;
	fa_weights weights;
	fa_model *model;
	fa_net net;

	build(name, &net);
	weights = random_weights(&net);
	outputs = make_outputs(&net, &batch);
	must(gpu->load(engine, &net, &weights, precision, &model, &error), &error);
	for (int i = 0; i < (small ? 1 : 3); i++)
		run(gpu, model, &batch, outputs);
	for (int i = 0; i < tries; i++)
	{
		double start = milliseconds();

		for (int k = 0; k < repeat; k++)
			run(gpu, model, &batch, outputs);
		times[i] = (milliseconds() - start) / repeat;
	}
	gpu->unload(model);
	free_outputs(&net, outputs);
	free((void *) batch.pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
	return median(times, tries);
}

static double
time_training(const char *name, int side, int count, fa_precision precision, bool augments)
{
	fa_augmented *images = draw_images(count, side, true);
	fa_batch batch = {count, side, side, noise((size_t) count * side * side * 3)};
	fa_trainer_options options = {.count = count,
								  .height = side,
								  .width = side,
								  .precision = precision,
								  .batch_norm = FA_BATCH_NORM_TRAINING,
								  .momentum = 0.01f};
	fa_update update = {.learning_rate = 1e-4f,
						.beta1 = 0.9f,
						.beta2 = 0.999f,
						.epsilon = 1e-8f,
						.weight_decay = 0.05f,
						.clip_norm = 5,
						.ema_decay = 0.999f};
	int steps = small ? 1 : 10, tries = small ? 1 : TRIES;
	double times[TRIES] = {0};
	float **outputs, norm;
	fa_trainer *trainer;
	fa_weights weights;
	fa_net net;

	build(name, &net);
	weights = random_weights(&net);
	outputs = make_outputs(&net, &batch);
	must(gpu->trainer_open(engine, &net, &weights, &options, &trainer, &error), &error);
	for (int i = -1; i < tries; i++)
	{
		double start = milliseconds();

		for (int k = 0; k < (i < 0 && !small ? 3 : steps); k++)
		{
			fa_training_step step = {batch,   outputs, (const float *const *) outputs,
									 no_loss, NULL,    &update};

			update.step++;
			if (augments)
			{
				must(gpu->augment(trainer, images, (fa_blend){200, 1}, NULL, &error), &error);
				step.batch.pixels = NULL;
			}
			must(gpu->step(trainer, &step, &norm, &error), &error);
		}
		if (i >= 0)
			times[i] = (milliseconds() - start) / steps;
	}
	gpu->trainer_close(trainer);
	free_outputs(&net, outputs);
	free((void *) batch.pixels);
	fa_weights_free(&weights);
	fa_net_free(&net);
	free_images(images, count);
	return median(times, tries);
}

static void
bench(void)
{
	int batch = small ? 2 : 256, one, side = small ? 33 : 0;

	printf("| | measured | at least | aim |\n|---|---|---|---|\n");
	one = side != 0 ? side : 200;
	printf("| resnet50 200 x 200 fp16, batch 256 | %.0f /s | 20,000 /s | 45,000 /s |\n",
		   batch * 1e3 / time_inference("resnet50", one, batch, FA_PRECISION_FP16));
	printf("| resnet50 200 x 200 fp16, batch 1 | %.2f ms | 1.2 ms | 0.5 ms |\n",
		   time_inference("resnet50", one, 1, FA_PRECISION_FP16));
	one = side != 0 ? side : 224;
	printf("| mobilenet_v1 224 x 224 fp16, batch 256 | %.0f /s | 40,000 /s | 120,000 /s |\n",
		   batch * 1e3 / time_inference("mobilenet_v1", one, batch, FA_PRECISION_FP16));
	for (int augments = 0; augments < 2; augments++)
		printf("| training resnet50 200 x 200, all layers, fp16, batch 64%s | %.0f /s | 2,000 /s | "
			   "4,000 /s |\n",
			   augments ? ", augmented and blended on the GPU" : "",
			   (small ? 2 : 64) * 1e3 /
				   time_training("resnet50", small ? 33 : 200, small ? 2 : 64,
								 /* random weights overflow fp16, which the emulated device takes
									for rubbish */
								 small ? FA_PRECISION_FP32 : FA_PRECISION_FP16, augments != 0));
}

int
main(int argc, char **argv)
{
	char device[256] = "";
	fa_status status;

	if (argc < 3 || (strcmp(argv[1], "check") != 0 && strcmp(argv[1], "bench") != 0))
	{
		fprintf(stderr, "Usage: %s check|bench LIBRARY [small]\n", argv[0]);
		return 64;
	}
	small = argc > 3;
	status = fa_cuda_engine_load(argv[2], &gpu, &error);
	if (status == FA_OK)
		status = gpu->open(NULL, &engine, &error);
	if (status != FA_OK)
	{
		fprintf(stderr, "no GPU: %s: %s\n", error.message, error.detail);
		return 77;
	}
	must(fa_cpu_engine.open(&(fa_engine_options){.threads = small ? 1 : 8}, &cpu, &error), &error);
	gpu->describe(engine, device, sizeof(device));
	printf("%s\n\n", device);
	if (strcmp(argv[1], "check") == 0)
		check();
	else
		bench();
	gpu->close(engine);
	fa_cpu_engine.close(cpu);
	return failures > 0;
}
