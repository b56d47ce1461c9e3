/*
 * device_test.c
 *		See device_test.h.
 */
#include "device_test.h"

#include <sys/wait.h>
#include <unistd.h>

#define MAX_IMAGES 300

void
reset_device(void)
{
	emulated_device(90);
	emulated_plans(EMULATED_ALL);
	emulated_spoil_plans(0);
	emulated_refuse(0, 0);
	emulated_plan_costs(1, 2);
	emulated_schedule(EMULATED_LAZY);
	emulated_omit_wait(0);
	emulated_memory(0);
	emulated_fail(0);
}

const fa_engine_interface *
cuda(void)
{
	return fa_cuda_engine(sizeof(fa_engine_interface));
}

fa_engine *
open_engine(const fa_engine_options *options)
{
	fa_engine *engine;
	fa_error error;

	if (cuda()->open(options, &engine, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return engine;
}

void
close_engine(fa_engine *engine)
{
	cuda()->close(engine);
	assert_int_equal(emulated_alive(), 0);
}

void
small_net(fa_net *net)
{
	fa_error error;
	int op = begin_net(net), sum;

	op = fa_net_convolution(net, "one", op, 12, 3, 2, FA_PAD_SAME, 0, true);
	op = sum = fa_net_unary(net, FA_OP_RELU6, "relu", op);
	op = fa_net_depthwise(net, "two", op, 3, 1, 1, 1, false);
	op = fa_net_batch_norm(net, "norm", op, 1e-3f);
	op = fa_net_convolution(net, "three", op, 12, 1, 1, 0, 0, false);
	op = fa_net_sum(net, "sum", op, sum);
	op = fa_net_unary(net, FA_OP_GLOBAL_AVERAGE_POOL, "pool", op);
	fa_net_output(net, "logits", fa_net_dense(net, "dense", op, SMALL_VALUES));
	assert_int_equal(fa_net_finish(net, &error), FA_OK);
}

fa_model *
load_small(fa_engine *engine, fa_precision precision)
{
	fa_net net;
	fa_weights weights;
	fa_model *model;
	fa_error error;

	small_net(&net);
	weights = random_weights(&net, 5);
	if (cuda()->load(engine, &net, &weights, precision, &model, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	fa_weights_free(&weights);
	fa_net_free(&net);
	return model;
}

static float *
run_on(const fa_engine_interface *interface, fa_model *model, int count)
{
	uint8_t *pixels = random_pixels(count, SMALL_SIDE, SMALL_SIDE, 3);
	float *values = calloc((size_t) count * SMALL_VALUES, sizeof(float));
	fa_batch batch = {count, SMALL_SIDE, SMALL_SIDE, pixels};
	fa_error error;

	if (interface->run(model, &batch, (float *[]){values}, NULL, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	free(pixels);
	return values;
}

float *
run_small(fa_model *model, int count)
{
	return run_on(cuda(), model, count);
}

float *
expect_small(int count)
{
	fa_net net;
	fa_weights weights;
	fa_engine *cpu;
	fa_model *model;
	fa_error error;
	float *values;

	small_net(&net);
	weights = random_weights(&net, 5);
	assert_int_equal(fa_cpu_engine.open(NULL, &cpu, &error), FA_OK);
	assert_int_equal(fa_cpu_engine.load(cpu, &net, &weights, FA_PRECISION_FP32, &model, &error),
					 FA_OK);
	values = run_on(&fa_cpu_engine, model, count);
	fa_cpu_engine.unload(model);
	fa_cpu_engine.close(cpu);
	fa_weights_free(&weights);
	fa_net_free(&net);
	return values;
}

void
assert_close(const float *values, const float *expected, int count, double tolerance)
{
	for (int i = 0; i < count * SMALL_VALUES; i++)
		if (!(fabsf(values[i] - expected[i]) <= tolerance * fmaxf(1, fabsf(expected[i]))))
			fail_msg("value %d is %g, not %g", i, (double) values[i], (double) expected[i]);
}

bool
survives(void (*test)(int argument), int argument, char *words, size_t size)
{
	int channel[2], status;
	size_t length = 0;
	ssize_t got;
	pid_t child;

	fflush(NULL);
	assert_int_equal(pipe(channel), 0);
	child = fork();
	if (child == 0)
	{
		signal(SIGABRT, SIG_DFL);
		dup2(channel[1], 2);
		close(channel[0]);
		close(channel[1]);
		test(argument);
		_exit(0);
	}
	close(channel[1]);
	while ((got = read(channel[0], words + length, size - 1 - length)) > 0)
		length += (size_t) got;
	words[length] = '\0';
	while (length == size - 1 && read(channel[0], words, 1) > 0) /* the rest is of no interest */
		;
	close(channel[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
