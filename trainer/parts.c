/*
 * parts.c
 *		From the names of parts to rates of operations; see parts.h.
 */
#include "parts.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 256 /* of an input: a map of 256 / 2^n has been halved n times */

static bool
is_layer(const fa_op *op)
{
	return op->kind == FA_OP_CONVOLUTION || op->kind == FA_OP_DEPTHWISE || op->kind == FA_OP_DENSE;
}

/* The layer that an operation's weights belong to; -1: it has none. */
static int
layer_of(const fa_net *net, int op)
{
	int before;

	if (is_layer(&net->ops[op]))
		return op;
	if (net->ops[op].kind != FA_OP_BATCH_NORM)
		return -1;
	before = net->ops[op].input[0];
	return before >= 0 && is_layer(&net->ops[before]) ? before : op;
}

static bool
in_backbone(const fa_net *net, int op)
{
	int embedding = fa_net_find_output(net, "embedding");

	return embedding < 0 || op <= net->outputs[embedding].op;
}

static void
set(const fa_net *net, int layer, float rate, float *rates)
{
	for (int i = 0; i < net->op_count; i++)
		if (layer_of(net, i) == layer)
			rates[i] = rate;
}

static void
set_backbone(const fa_net *net, int but, float rate, float *rates)
{
	int last = 0, count = 0;

	for (int i = 0; i < net->op_count && in_backbone(net, i); i++)
		last += layer_of(net, i) == i;
	for (int i = 0; i < net->op_count && in_backbone(net, i); i++)
		if (layer_of(net, i) == i && count++ < last - but)
			set(net, i, rate, rates);
}

/* How often the map has been halved; what is 1 x 1 belongs to the map that it was averaged from. */
static int
stage_of(const fa_net *net, const fa_shape *shapes, int op)
{
	while (shapes[op].height == 1 && net->ops[op].input[0] >= 0)
		op = net->ops[op].input[0];
	return (int) lround(log2((double) SIDE / shapes[op].height));
}

static fa_status
set_stages(const fa_net *net, int stage, float rate, float *rates, fa_error *error)
{
	fa_shape *shapes = calloc((size_t) net->op_count, sizeof(fa_shape));
	fa_status status;

	if (shapes == NULL)
		return fa_no_memory(error, (size_t) net->op_count * sizeof(fa_shape));
	status = fa_net_shapes(net, SIDE, SIDE, shapes, error);
	for (int i = 0; status == FA_OK && i < net->op_count && in_backbone(net, i); i++)
		if (layer_of(net, i) == i && stage_of(net, shapes, i) <= stage)
			set(net, i, rate, rates);
	free(shapes);
	return status;
}

static fa_status
set_named(const fa_net *net, const char *pattern, float rate, float *rates, fa_error *error)
{
	bool any = false;

	for (int i = 0; i < net->op_count; i++)
		if (layer_of(net, i) == i && fnmatch(pattern, net->ops[i].name, 0) == 0)
		{
			set(net, i, rate, rates);
			any = true;
		}
	if (!any)
		return fa_fail(error, FA_INVALID, "network \"%s\" has no layer \"%s\"", net->name, pattern);
	return FA_OK;
}

/* "name:N" with a whole number from 0 on */
static bool
counted(const char *part, const char *name, int *count)
{
	size_t length = strlen(name);
	double number;

	if (strncmp(part, name, length) != 0 || part[length] != ':' ||
		!fa_parse_numbers(part + length + 1, &number, 1) || number < 0 || number > 100000 ||
		number != floor(number))
		return false;
	*count = (int) number;
	return true;
}

static fa_status
set_part(const fa_net *net, const char *part, float rate, float *rates, fa_error *error)
{
	int count;

	if (strcmp(part, "none") == 0)
		return FA_OK;
	if (strcmp(part, "all") == 0)
		set_backbone(net, 0, rate, rates);
	else if (counted(part, "all-but", &count))
		set_backbone(net, count, rate, rates);
	else if (counted(part, "stage", &count))
		return set_stages(net, count, rate, rates, error);
	else if (strcmp(part, "heads") == 0)
	{
		for (int i = 0; i < net->op_count; i++)
			if (!in_backbone(net, i) && layer_of(net, i) >= 0)
				rates[i] = rate;
	}
	else
		return set_named(net, part, rate, rates, error);
	return FA_OK;
}

/* Every part between commas; with `valued` each ends in =X, else the rate is 0. */
static fa_status
set_parts(const fa_net *net, const char *text, bool valued, float *rates, fa_error *error)
{
	char *copy = strdup(text), *next = NULL;
	fa_status status = copy == NULL ? fa_no_memory(error, strlen(text)) : FA_OK;

	for (char *part = copy == NULL ? NULL : strtok_r(copy, ",", &next);
		 part != NULL && status == FA_OK; part = strtok_r(NULL, ",", &next))
	{
		char *value = valued ? strrchr(part, '=') : NULL;
		double rate = 0;

		if (value != NULL)
			*value++ = '\0';
		if (valued && (!fa_parse_numbers(value, &rate, 1) || rate < 0 || rate > 1000))
			status = fa_fail(error, FA_INVALID,
							 "the rate of part \"%s\" is no number from 0 to 1000", part);
		else
			status = set_part(net, part, (float) rate, rates, error);
	}
	free(copy);
	return status;
}

fa_status
fa_parts_rates(const fa_net *net, const char *rates_text, const char *freeze, float *rates,
			   fa_error *error)
{
	for (int i = 0; i < net->op_count; i++)
		rates[i] = 1;
	if (rates_text != NULL)
		FA_TRY(set_parts(net, rates_text, true, rates, error));
	return freeze == NULL ? FA_OK : set_parts(net, freeze, false, rates, error);
}

void
fa_parts_count(const fa_net *net, const float *rates, int *layers, int *training)
{
	*layers = *training = 0;
	for (int i = 0; i < net->op_count; i++)
		if (layer_of(net, i) == i)
		{
			++*layers;
			*training += rates[i] > 0;
		}
}
