/*
 * reference.c
 *		Every operation by its definition; see reference.h. Nothing here is fast.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "reference.h"

/* What one operation works on. */
typedef struct place
{
	const fa_op *op;
	int n;            /* images */
	fa_shape in, out; /* in: of the first input */
	int top, left;    /* rows and columns of padding before the image */
	const double *x;  /* [n, in.height, in.width, in.channels] */
	const double *x2; /* of the second input */
	double *y;        /* [n, out.height, out.width, out.channels] */
	const double *dy; /* dLoss / dy */
	double *dx, *dx2; /* to which dLoss / dx is added */
	double *p[4];     /* parameters: weight, bias, running mean, running variance */
	double *dp[4];    /* to which their gradients are added */
	bool batch_statistics;
	double momentum;
	const double *mask;
	double *closest_kink;
} place;

size_t
reference_size(const reference *r, int op)
{
	const fa_shape *s = &r->shapes[op];

	return (size_t) r->count * s->height * s->width * s->channels;
}

int
reference_parameter(const reference *r, const char *name)
{
	for (int i = 0; i < r->parameter_count; i++)
		if (strcmp(r->parameters[i].name, name) == 0)
			return i;
	fail_msg("no parameter \"%s\"", name);
	return -1;
}

reference *
reference_open(const fa_net *net, const fa_weights *weights, int count, int height, int width)
{
	reference *r = calloc(1, sizeof(reference));
	fa_error error;

	r->net = net;
	r->count = count;
	r->shapes = calloc((size_t) net->op_count, sizeof(fa_shape));
	assert_int_equal(fa_net_shapes(net, height, width, r->shapes, &error), FA_OK);
	r->tensors = calloc((size_t) net->op_count, sizeof(double *));
	r->gradients = calloc((size_t) net->op_count, sizeof(double *));
	r->masks = calloc((size_t) net->op_count, sizeof(double *));
	r->batch_statistics = calloc((size_t) net->op_count, sizeof(bool));
	for (int i = 0; i < net->op_count; i++)
	{
		r->tensors[i] = calloc(reference_size(r, i), sizeof(double));
		r->gradients[i] = calloc(reference_size(r, i), sizeof(double));
	}
	assert_int_equal(fa_net_parameters(net, &r->parameters, &r->parameter_count, &error), FA_OK);
	r->values = calloc((size_t) r->parameter_count + 1, sizeof(double *));
	r->slopes = calloc((size_t) r->parameter_count + 1, sizeof(double *));
	for (int i = 0; i < r->parameter_count; i++)
	{
		const fa_tensor *tensor = fa_weights_find(weights, r->parameters[i].name);

		assert_non_null(tensor);
		assert_int_equal(tensor->count, r->parameters[i].count);
		r->values[i] = calloc(tensor->count, sizeof(double));
		r->slopes[i] = calloc(tensor->count, sizeof(double));
		for (size_t k = 0; k < tensor->count; k++)
			r->values[i][k] = tensor->values[k];
	}
	return r;
}

void
reference_close(reference *r)
{
	for (int i = 0; i < r->net->op_count; i++)
	{
		free(r->tensors[i]);
		free(r->gradients[i]);
	}
	for (int i = 0; i < r->parameter_count; i++)
	{
		free(r->values[i]);
		free(r->slopes[i]);
	}
	free(r->tensors);
	free(r->gradients);
	free(r->masks);
	free(r->batch_statistics);
	free(r->parameters);
	free(r->values);
	free(r->slopes);
	free(r->shapes);
	free(r);
}

/* Index of value c of the pixel (i, j) of image n. */
static size_t
at(const fa_shape *s, int n, int i, int j, int c)
{
	return (((size_t) n * s->height + i) * s->width + j) * s->channels + c;
}

static bool
inside(const fa_shape *s, int i, int j)
{
	return i >= 0 && i < s->height && j >= 0 && j < s->width;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): declared names cannot stand in parentheses */
#define FOR_EACH_PIXEL(s, count, n, i, j)                                                          \
	for (int n = 0; n < (count); n++)                                                              \
		for (int i = 0; i < (s)->height; i++)                                                      \
			for (int j = 0; j < (s)->width; j++)

#define FOR_EACH_TAP(op, k, l)                                                                     \
	for (int k = 0; k < (op)->kernel; k++)                                                         \
		for (int l = 0; l < (op)->kernel; l++)
/* NOLINTEND(bugprone-macro-parentheses) */

static void
note_kink(const place *a, double distance)
{
	if (distance != 0 && fabs(distance) < *a->closest_kink)
		*a->closest_kink = fabs(distance);
}

/* ---- Convolutions ---------------------------------------------------------------- */

/* weight: [out, in, k, k]; a dense layer is one with 1 x 1 windows */
static void
convolution(const place *a)
{
	const fa_op *op = a->op;

	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int o = 0; o < a->out.channels; o++)
	{
		double sum = op->bias ? a->p[1][o] : 0;

		for (int c = 0; c < a->in.channels; c++)
			FOR_EACH_TAP(op, k, l)
			{
				int y = i * op->stride - a->top + k, x = j * op->stride - a->left + l;

				if (inside(&a->in, y, x))
					sum += a->x[at(&a->in, n, y, x, c)] *
						   a->p[0][((o * a->in.channels + c) * op->kernel + k) * op->kernel + l];
			}
		a->y[at(&a->out, n, i, j, o)] = sum;
	}
}

static void
convolution_backward(const place *a)
{
	const fa_op *op = a->op;

	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int o = 0; o < a->out.channels; o++)
	{
		double g = a->dy[at(&a->out, n, i, j, o)];

		if (op->bias)
			a->dp[1][o] += g;
		FOR_EACH_TAP(op, k, l)
		{
			int y = i * op->stride - a->top + k, x = j * op->stride - a->left + l;

			if (inside(&a->in, y, x))
				for (int c = 0; c < a->in.channels; c++)
				{
					size_t w = ((o * a->in.channels + c) * op->kernel + k) * op->kernel + l;

					a->dp[0][w] += g * a->x[at(&a->in, n, y, x, c)];
					a->dx[at(&a->in, n, y, x, c)] += g * a->p[0][w];
				}
		}
	}
}

/* weight: [channels, 1, k, k] */
static void
depthwise(const place *a)
{
	const fa_op *op = a->op;

	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
	{
		double sum = op->bias ? a->p[1][c] : 0;

		FOR_EACH_TAP(op, k, l)
		{
			int y = i * op->stride - a->top + k, x = j * op->stride - a->left + l;

			if (inside(&a->in, y, x))
				sum +=
					a->x[at(&a->in, n, y, x, c)] * a->p[0][(c * op->kernel + k) * op->kernel + l];
		}
		a->y[at(&a->out, n, i, j, c)] = sum;
	}
}

static void
depthwise_backward(const place *a)
{
	const fa_op *op = a->op;

	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
	{
		double g = a->dy[at(&a->out, n, i, j, c)];

		if (op->bias)
			a->dp[1][c] += g;
		FOR_EACH_TAP(op, k, l)
		{
			int y = i * op->stride - a->top + k, x = j * op->stride - a->left + l;
			size_t w = (c * op->kernel + k) * op->kernel + l;

			if (inside(&a->in, y, x))
			{
				a->dp[0][w] += g * a->x[at(&a->in, n, y, x, c)];
				a->dx[at(&a->in, n, y, x, c)] += g * a->p[0][w];
			}
		}
	}
}

/* ---- Batch norm (Ioffe, Szegedy 2015) ------------------------------------------------ */

/* Mean and biased variance of channel c: the batch's, or the running ones. */
static void
statistics(const place *a, int c, double *mean, double *variance)
{
	double count = (double) a->n * a->in.height * a->in.width;

	*mean = a->p[2][c];
	*variance = a->p[3][c];
	if (!a->batch_statistics)
		return;
	*mean = *variance = 0;
	FOR_EACH_PIXEL(&a->in, a->n, n, i, j)
	*mean += a->x[at(&a->in, n, i, j, c)] / count;
	FOR_EACH_PIXEL(&a->in, a->n, n, i, j)
	{
		double d = a->x[at(&a->in, n, i, j, c)] - *mean;

		*variance += d * d / count;
	}
}

static void
batch_norm(const place *a)
{
	double count = (double) a->n * a->in.height * a->in.width;

	for (int c = 0; c < a->out.channels; c++)
	{
		double mean, variance;

		statistics(a, c, &mean, &variance);
		FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
		a->y[at(&a->out, n, i, j, c)] =
			(a->x[at(&a->in, n, i, j, c)] - mean) / sqrt(variance + a->op->epsilon) * a->p[0][c] +
			a->p[1][c];
		if (a->batch_statistics)
		{
			/* the running variance is the unbiased estimate */
			double unbiased = count > 1 ? variance * count / (count - 1) : variance;

			a->p[2][c] += a->momentum * (mean - a->p[2][c]);
			a->p[3][c] += a->momentum * (unbiased - a->p[3][c]);
		}
	}
}

static void
batch_norm_backward(const place *a)
{
	double count = (double) a->n * a->in.height * a->in.width;

	for (int c = 0; c < a->out.channels; c++)
	{
		double mean, variance, inverse, sum = 0, dot = 0;

		statistics(a, c, &mean, &variance);
		inverse = 1 / sqrt(variance + a->op->epsilon);
		FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
		{
			double g = a->dy[at(&a->out, n, i, j, c)];

			sum += g;
			dot += g * (a->x[at(&a->in, n, i, j, c)] - mean) * inverse;
		}
		a->dp[0][c] += dot;
		a->dp[1][c] += sum;
		FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
		{
			size_t k = at(&a->out, n, i, j, c);
			double g = a->dy[k];

			if (a->batch_statistics) /* mean and variance depend on x as well */
				g -= sum / count + (a->x[k] - mean) * inverse * dot / count;
			a->dx[k] += g * inverse * a->p[0][c];
		}
	}
}

/* ---- Value by value ------------------------------------------------------------------ */

static void
value_by_value(const place *a, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		double x = a->x[i];

		switch (a->op->kind)
		{
			case FA_OP_RELU6:
				note_kink(a, x - 6);
				note_kink(a, x);
				a->y[i] = fmin(6, fmax(0, x));
				break;
			case FA_OP_RELU:
				note_kink(a, x);
				a->y[i] = fmax(0, x);
				break;
			case FA_OP_SIGMOID:
				a->y[i] = 1 / (1 + exp(-x));
				break;
			case FA_OP_DROPOUT:
				a->y[i] = x * (a->mask != NULL ? a->mask[i] : 1);
				break;
			default:
				a->y[i] = x + a->x2[i];
				break;
		}
	}
}

static void
value_by_value_backward(const place *a, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		double x = a->x[i], y = a->y[i], slope = 1;

		switch (a->op->kind)
		{
			case FA_OP_RELU6:
				slope = x > 0 && x < 6;
				break;
			case FA_OP_RELU:
				slope = x > 0;
				break;
			case FA_OP_SIGMOID:
				slope = y * (1 - y);
				break;
			case FA_OP_DROPOUT:
				slope = a->mask != NULL ? a->mask[i] : 1;
				break;
			default:
				a->dx2[i] += a->dy[i];
				break;
		}
		a->dx[i] += slope * a->dy[i];
	}
}

/* ---- Pooling, upsampling ----------------------------------------------------------------- */

/*
 * The place of a window's maximum: the first in rows from the top where several are
 * equal. Padding takes no part.
 */
static size_t
maximum_of(const place *a, int n, int i, int j, int c)
{
	const fa_op *op = a->op;
	bool found = false;
	size_t best = 0;

	FOR_EACH_TAP(op, k, l)
	{
		int y = i * op->stride - a->top + k, x = j * op->stride - a->left + l;
		size_t here;

		if (!inside(&a->in, y, x))
			continue;
		here = at(&a->in, n, y, x, c);
		if (found)
			note_kink(a, a->x[here] - a->x[best]);
		if (!found || a->x[here] > a->x[best])
			best = here;
		found = true;
	}
	assert_true(found);
	return best;
}

static void
max_pool(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
		a->y[at(&a->out, n, i, j, c)] = a->x[maximum_of(a, n, i, j, c)];
}

static void
max_pool_backward(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
		a->dx[maximum_of(a, n, i, j, c)] += a->dy[at(&a->out, n, i, j, c)];
}

static void
global_average(const place *a)
{
	FOR_EACH_PIXEL(&a->in, a->n, n, i, j)
	for (int c = 0; c < a->in.channels; c++)
		a->y[at(&a->out, n, 0, 0, c)] +=
			a->x[at(&a->in, n, i, j, c)] / (a->in.height * a->in.width);
}

static void
global_average_backward(const place *a)
{
	FOR_EACH_PIXEL(&a->in, a->n, n, i, j)
	for (int c = 0; c < a->in.channels; c++)
		a->dx[at(&a->in, n, i, j, c)] +=
			a->dy[at(&a->out, n, 0, 0, c)] / (a->in.height * a->in.width);
}

static void
upsample(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
		a->y[at(&a->out, n, i, j, c)] = a->x[at(&a->in, n, i / 2, j / 2, c)];
}

static void
upsample_backward(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
		a->dx[at(&a->in, n, i / 2, j / 2, c)] += a->dy[at(&a->out, n, i, j, c)];
}

/* ---- Channels by factors ------------------------------------------------------------------ */

static void
scale(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
		a->y[at(&a->out, n, i, j, c)] =
			a->x[at(&a->out, n, i, j, c)] * a->x2[n * a->out.channels + c];
}

static void
scale_backward(const place *a)
{
	FOR_EACH_PIXEL(&a->out, a->n, n, i, j)
	for (int c = 0; c < a->out.channels; c++)
	{
		size_t k = at(&a->out, n, i, j, c), f = (size_t) n * a->out.channels + c;

		a->dx[k] += a->dy[k] * a->x2[f];
		a->dx2[f] += a->dy[k] * a->x[k];
	}
}

/* ---- The network -------------------------------------------------------------------------- */

/* TensorFlow's SAME: as many pixels as the stride goes into them, and the odd one last. */
static int
padding(const fa_op *op, int in, int out)
{
	int needed = (out - 1) * op->stride + op->kernel - in;

	if (op->pad_begin != FA_PAD_SAME)
		return op->pad_begin;
	return needed > 0 ? needed / 2 : 0;
}

static place
place_of(reference *r, int index)
{
	const fa_op *op = &r->net->ops[index];
	int left = op->input[0], right = op->input[1], k = 0;
	place a = {
		.op = op,
		.n = r->count,
		.out = r->shapes[index],
		.y = r->tensors[index],
		.dy = r->gradients[index],
		.batch_statistics = r->batch_statistics[index],
		.momentum = r->momentum,
		.mask = r->masks[index],
		.closest_kink = &r->closest_kink,
	};

	if (left >= 0)
	{
		a.in = r->shapes[left];
		a.x = r->tensors[left];
		a.dx = r->gradients[left];
		a.top = padding(op, a.in.height, a.out.height);
		a.left = padding(op, a.in.width, a.out.width);
	}
	if (right >= 0)
	{
		a.x2 = r->tensors[right];
		a.dx2 = r->gradients[right];
	}
	for (int i = 0; i < r->parameter_count; i++)
		if (r->parameters[i].op == index)
		{
			a.p[k] = r->values[i];
			a.dp[k++] = r->slopes[i];
		}
	return a;
}

static void
input(reference *r, int index, const uint8_t *pixels)
{
	const fa_net *net = r->net;

	for (size_t i = 0; i < reference_size(r, index); i++)
	{
		size_t c = i % 3;

		r->tensors[index][i] =
			((double) pixels[net->bgr ? i - c + 2 - c : i] - net->mean[c]) * net->scale[c];
	}
}

void
reference_forward(reference *r, const uint8_t *pixels)
{
	r->closest_kink = HUGE_VAL;
	for (int i = 0; i < r->net->op_count; i++)
	{
		place a = place_of(r, i);

		memset(a.y, 0, reference_size(r, i) * sizeof(double));
		switch (a.op->kind)
		{
			case FA_OP_INPUT:
				input(r, i, pixels);
				break;
			case FA_OP_CONVOLUTION:
			case FA_OP_DENSE:
				convolution(&a);
				break;
			case FA_OP_DEPTHWISE:
				depthwise(&a);
				break;
			case FA_OP_BATCH_NORM:
				batch_norm(&a);
				break;
			case FA_OP_RELU:
			case FA_OP_RELU6:
			case FA_OP_SIGMOID:
			case FA_OP_DROPOUT:
			case FA_OP_ADD:
				value_by_value(&a, reference_size(r, i));
				break;
			case FA_OP_MAX_POOL:
				max_pool(&a);
				break;
			case FA_OP_GLOBAL_AVERAGE_POOL:
				global_average(&a);
				break;
			case FA_OP_UPSAMPLE:
				upsample(&a);
				break;
			case FA_OP_SCALE:
				scale(&a);
				break;
		}
	}
}

void
reference_backward(reference *r, const float *const *gradients)
{
	for (int i = 0; i < r->net->op_count; i++)
		memset(r->gradients[i], 0, reference_size(r, i) * sizeof(double));
	for (int i = 0; i < r->parameter_count; i++)
		memset(r->slopes[i], 0, r->parameters[i].count * sizeof(double));
	for (int i = 0; i < r->net->output_count; i++)
		for (size_t k = 0; gradients[i] != NULL && k < reference_size(r, r->net->outputs[i].op);
			 k++)
			r->gradients[r->net->outputs[i].op][k] += gradients[i][k];
	for (int i = r->net->op_count - 1; i >= 0; i--)
	{
		place a = place_of(r, i);

		switch (a.op->kind)
		{
			case FA_OP_INPUT:
				break;
			case FA_OP_CONVOLUTION:
			case FA_OP_DENSE:
				convolution_backward(&a);
				break;
			case FA_OP_DEPTHWISE:
				depthwise_backward(&a);
				break;
			case FA_OP_BATCH_NORM:
				batch_norm_backward(&a);
				break;
			case FA_OP_RELU:
			case FA_OP_RELU6:
			case FA_OP_SIGMOID:
			case FA_OP_DROPOUT:
			case FA_OP_ADD:
				value_by_value_backward(&a, reference_size(r, i));
				break;
			case FA_OP_MAX_POOL:
				max_pool_backward(&a);
				break;
			case FA_OP_GLOBAL_AVERAGE_POOL:
				global_average_backward(&a);
				break;
			case FA_OP_UPSAMPLE:
				upsample_backward(&a);
				break;
			case FA_OP_SCALE:
				scale_backward(&a);
				break;
		}
	}
}
