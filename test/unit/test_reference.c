/*
 * test_reference.c
 *		The judge judged: the reference's gradients against differences of its own
 *		forward pass in double precision, where nothing blurs them; and its networks
 *		against outputs computed elsewhere, which lie beside the pretrained weights.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/nn/networks.h"
#include "pretrained.h"
#include "random_net.h"
#include "reference.h"

#define COUNT 2
#define HEIGHT 7
#define WIDTH 6

/* sum of gradients * outputs: its derivative by an output is that output's gradient */
static double
loss(reference *r, const uint8_t *pixels, float *const *gradients)
{
	double sum = 0;

	reference_forward(r, pixels);
	for (int i = 0; i < r->net->output_count; i++)
		for (size_t k = 0; k < reference_size(r, r->net->outputs[i].op); k++)
			sum += gradients[i][k] * r->tensors[r->net->outputs[i].op][k];
	return sum;
}

/* Returns how many gradients it compared; 0 where a kink was too near. */
static int
check_gradients(uint64_t seed, bool batch_statistics)
{
	const double h = 1e-6;
	fa_net net;
	fa_weights weights;
	reference *r;
	uint8_t *pixels = random_pixels(COUNT, HEIGHT, WIDTH, seed);
	float *gradients[FA_MAX_OUTPUTS];
	double **masks;
	int checked = 0;

	random_net(&net, &seed, HEIGHT, WIDTH);
	weights = random_weights(&net, seed);
	r = reference_open(&net, &weights, COUNT, HEIGHT, WIDTH);
	masks = calloc((size_t) net.op_count, sizeof(double *));
	for (int i = 0; i < net.op_count; i++)
	{
		r->batch_statistics[i] = batch_statistics;
		r->masks[i] = masks[i] = calloc(reference_size(r, i), sizeof(double));
		for (size_t k = 0; k < reference_size(r, i); k++)
			masks[i][k] = random_below(&seed, 4) == 0 ? 0 : 4.0 / 3;
	}
	for (int i = 0; i < net.output_count; i++)
	{
		size_t count = reference_size(r, net.outputs[i].op);

		gradients[i] = malloc(count * sizeof(float));
		for (size_t k = 0; k < count; k++)
			gradients[i][k] = (float) random_between(&seed, -1, 1);
	}
	loss(r, pixels, gradients);
	if (r->closest_kink > 1e-4)
	{
		double largest = 1;

		reference_backward(r, (const float *const *) gradients);
		for (int i = 0; i < r->parameter_count; i++)
			for (size_t k = 0; k < r->parameters[i].count; k++)
				largest = fmax(largest, fabs(r->slopes[i][k]));
		for (int i = 0; i < r->parameter_count; i++)
			for (size_t k = 0; k < r->parameters[i].count && r->parameters[i].trainable;
				 k += 1 + r->parameters[i].count / 5)
			{
				double *value = &r->values[i][k], kept = *value, up, down;

				*value = kept + h;
				up = loss(r, pixels, gradients);
				*value = kept - h;
				down = loss(r, pixels, gradients);
				*value = kept;
				if (fabs((up - down) / (2 * h) - r->slopes[i][k]) > 1e-6 * largest)
					fail_msg("%s[%zu]: %.9g by differences, %.9g", r->parameters[i].name, k,
							 (up - down) / (2 * h), r->slopes[i][k]);
				checked++;
			}
	}
	for (int i = 0; i < net.op_count; i++)
		free(masks[i]);
	for (int i = 0; i < net.output_count; i++)
		free(gradients[i]);
	free(masks);
	free(pixels);
	reference_close(r);
	fa_weights_free(&weights);
	fa_net_free(&net);
	return checked;
}

static void
gradients_by_differences(void **state)
{
	int checked = 0;

	(void) state;
	for (uint64_t seed = 1; seed <= 200; seed++)
		checked += check_gradients(seed, seed % 2 == 0);
	if (checked < 1000)
		fail_msg("only %d gradients compared", checked);
}

/* ---- Networks against outputs computed elsewhere ------------------------------------- */

/*
 * One image of a network's reference file, which names its tensors as the network
 * does its outputs. Largest difference over largest value, for each output.
 */
static void
check_network(const fa_net *net, fa_weights *weights, const char *name, int side)
{
	fa_weights expected = pretrained(name);
	const fa_tensor *rgb;
	uint8_t *pixels = malloc((size_t) side * side * 3);
	reference *r;

	rgb = fa_weights_find(&expected, "rgb");
	for (int i = 0; i < side * side * 3; i++)
		pixels[i] = (uint8_t) rgb->values[i];
	r = reference_open(net, weights, 1, side, side);
	reference_forward(r, pixels);
	for (int i = 0; i < net->output_count; i++)
	{
		const fa_tensor *output = fa_weights_find(&expected, net->outputs[i].name);
		const double *values = r->tensors[net->outputs[i].op];
		double largest = 0, difference = 0;

		assert_non_null(output);
		for (size_t k = 0; k < reference_size(r, net->outputs[i].op); k++)
		{
			largest = fmax(largest, fabs(output->values[k]));
			difference = fmax(difference, fabs(values[k] - output->values[k]));
		}
		/* the others computed in fp32 */
		if (!(difference < 2e-5 * largest))
			fail_msg("%s differs by %g of %g", net->outputs[i].name, difference, largest);
	}
	reference_close(r);
	free(pixels);
	fa_weights_free(weights);
	fa_weights_free(&expected);
}

static void
mobilenet_as_elsewhere(void **state)
{
	fa_weights weights = pretrained("mobilenet_v1_vggface2"); /* skips before anything is owned */
	fa_net net;
	fa_error error;

	(void) state;
	assert_int_equal(fa_net_mobilenet_v1(&net, NULL, 0, 0, false, 0, &error), FA_OK);
	check_network(&net, &weights, "mobilenet_v1_vggface2.reference", 224);
	fa_net_free(&net);
}

static void
yunet_as_elsewhere(void **state)
{
	fa_weights weights = pretrained("yunet_n"); /* skips before anything is owned */
	fa_net net;
	fa_error error;

	(void) state;
	assert_int_equal(fa_net_yunet_n(&net, &error), FA_OK);
	check_network(&net, &weights, "yunet_n.reference", 512);
	fa_net_free(&net);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gradients_by_differences),
		cmocka_unit_test(mobilenet_as_elsewhere),
		cmocka_unit_test(yunet_as_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
