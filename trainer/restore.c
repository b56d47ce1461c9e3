/*
 * restore.c
 *		Batch norm put back; see restore.h. The statistics come from running the
 *		folded network with its convolutions as outputs, some at a time.
 */
#include "restore.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT_A_TIME FA_MAX_OUTPUTS

typedef struct moments
{
	double *sum, *square; /* per channel */
	double count;
} moments;

static bool
is_filter(const fa_op *op)
{
	return op->kind == FA_OP_CONVOLUTION || op->kind == FA_OP_DEPTHWISE;
}

static void
add_values(moments *m, const float *values, size_t rows, int channels)
{
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
		{
			double value = values[r * channels + c];

			m->sum[c] += value;
			m->square[c] += value * value;
		}
	m->count += rows;
}

static fa_status
run_images(const fa_engine_interface *interface, fa_model *model, const int *ops, int op_count,
		   const fa_shape *shapes, fa_loader *loader, int image_count, float *const *outputs,
		   moments *all, fa_error *error)
{
	for (int done = 0; done < image_count;)
	{
		const fa_loaded *loaded;
		fa_batch batch;

		FA_TRY(fa_loader_next(loader, &loaded, error));
		batch = (fa_batch){loaded->count, loaded->size, loaded->size, loaded->pixels};
		FA_TRY(interface->run(model, &batch, outputs, NULL, error));
		for (int i = 0; i < op_count; i++)
		{
			const fa_shape *s = &shapes[ops[i]];

			add_values(&all[ops[i]], outputs[i], (size_t) loaded->count * s->height * s->width,
					   s->channels);
		}
		done += loaded->count;
	}
	return FA_OK;
}

/* Runs images through the network with the given operations as outputs. */
static fa_status
measure(const fa_engine_interface *interface, fa_engine *engine, const fa_net *net,
		const fa_weights *weights, const int *ops, int op_count, const fa_loader_options *images,
		int image_count, moments *all, fa_error *error)
{
	fa_net probe = *net; /* shares the operations */
	fa_model *model = NULL;
	fa_loader *loader = NULL;
	fa_shape *shapes = calloc(net->op_count, sizeof(fa_shape));
	float *outputs[AT_A_TIME] = {NULL};
	fa_status status;

	if (shapes == NULL)
		return fa_no_memory(error, net->op_count * sizeof(fa_shape));
	probe.output_count = 0;
	for (int i = 0; i < op_count; i++)
		fa_net_output(&probe, net->ops[ops[i]].name, ops[i]);
	status = fa_net_shapes(net, images->size, images->size, shapes, error);
	if (status == FA_OK)
		status = interface->load(engine, &probe, weights, FA_PRECISION_FP32, &model, error);
	for (int i = 0; i < op_count && status == FA_OK; i++)
	{
		const fa_shape *s = &shapes[ops[i]];
		size_t bytes = (size_t) images->batch * s->height * s->width * s->channels * sizeof(float);

		outputs[i] = malloc(bytes);
		if (outputs[i] == NULL)
			status = fa_no_memory(error, bytes);
	}
	if (status == FA_OK)
		status = fa_loader_open(images, 0, &loader, error);
	if (status == FA_OK)
		status = run_images(interface, model, ops, op_count, shapes, loader, image_count, outputs,
							all, error);
	fa_loader_close(loader);
	for (int i = 0; i < op_count; i++)
		free(outputs[i]);
	if (model != NULL)
		interface->unload(model);
	free(shapes);
	return status;
}

static const fa_tensor *
tensor_of(const fa_weights *weights, const char *op, const char *suffix)
{
	char name[2 * FA_NAME_LENGTH];

	snprintf(name, sizeof(name), "%s.%s", op, suffix);
	return fa_weights_find(weights, name);
}

static fa_status
add_vector(fa_weights *weights, const char *op, const char *suffix, int n, float **values,
		   fa_error *error)
{
	char name[2 * FA_NAME_LENGTH];
	fa_tensor *tensor;

	snprintf(name, sizeof(name), "%s.%s", op, suffix);
	FA_TRY(fa_weights_add(weights, name, 1, &n, &tensor, error));
	*values = tensor->values;
	return FA_OK;
}

/* The batch norm after the operation of that name, or NULL. */
static const fa_op *
norm_after(const fa_net *net, const char *name)
{
	for (int i = 0; i < net->op_count; i++)
		if (net->ops[i].kind == FA_OP_BATCH_NORM &&
			strcmp(net->ops[net->ops[i].input[0]].name, name) == 0)
			return &net->ops[i];
	return NULL;
}

/* One filter with its batch norm, by the formula in restore.h; without one, as it is. */
static fa_status
restore_filter(const fa_op *op, const fa_op *norm, const fa_weights *folded, const moments *m,
			   fa_weights *restored, fa_error *error)
{
	const fa_tensor *weight = tensor_of(folded, op->name, "weight");
	const fa_tensor *bias = tensor_of(folded, op->name, "bias");
	size_t per_channel = weight->count / op->channels;
	float *filter, *gain, *shift, *running_mean, *running_var;
	fa_tensor *added;

	FA_TRY(fa_weights_add(restored, weight->name, weight->rank, weight->shape, &added, error));
	filter = added->values; /* the tensor itself moves when another is added */
	if (norm == NULL)
	{
		memcpy(filter, weight->values, weight->count * sizeof(float));
		FA_TRY(add_vector(restored, op->name, "bias", op->channels, &shift, error));
		memcpy(shift, bias->values, bias->count * sizeof(float));
		return FA_OK;
	}
	FA_TRY(add_vector(restored, norm->name, "weight", op->channels, &gain, error));
	FA_TRY(add_vector(restored, norm->name, "bias", op->channels, &shift, error));
	FA_TRY(add_vector(restored, norm->name, "running_mean", op->channels, &running_mean, error));
	FA_TRY(add_vector(restored, norm->name, "running_var", op->channels, &running_var, error));
	for (int c = 0; c < op->channels; c++)
	{
		double mean = m->sum[c] / m->count;
		double variance = m->square[c] / m->count - mean * mean;
		double deviation = sqrt(fmax(variance, 1e-4)); /* a channel that is always 0 stays so */

		for (size_t i = 0; i < per_channel; i++)
			filter[c * per_channel + i] = (float) (weight->values[c * per_channel + i] / deviation);
		running_mean[c] = (float) ((mean - bias->values[c]) / deviation);
		running_var[c] = 1.0f;
		gain[c] = (float) (deviation * sqrt(1.0 + norm->epsilon));
		shift[c] = (float) mean;
	}
	return FA_OK;
}

fa_status
fa_restore_batch_norm(const fa_engine_interface *interface, fa_engine *engine, const fa_net *from,
					  const fa_weights *folded, const fa_net *to, const fa_loader_options *images,
					  int image_count, fa_weights *restored, fa_error *error)
{
	moments *all = calloc(from->op_count, sizeof(moments));
	int *filters = calloc(from->op_count, sizeof(int)), filter_count = 0;
	fa_loader_options plain = *images;
	fa_status status = FA_OK;

	memset(restored, 0, sizeof(*restored));
	plain.shuffle = true; /* from all over the data */
	plain.negatives = NULL;
	plain.batch = 8;
	plain.augment = fa_augment_none;
	if (all == NULL || filters == NULL)
		status = fa_no_memory(error, from->op_count * sizeof(moments));
	for (int i = 0; i < from->op_count && status == FA_OK; i++)
		if (is_filter(&from->ops[i]))
		{
			filters[filter_count++] = i;
			all[i].sum = calloc(2 * (size_t) from->ops[i].channels, sizeof(double));
			all[i].square = all[i].sum + from->ops[i].channels;
			if (all[i].sum == NULL)
				status = fa_no_memory(error, from->ops[i].channels * sizeof(double));
		}
	for (int i = 0; i < filter_count && status == FA_OK; i += AT_A_TIME)
		status = measure(interface, engine, from, folded, filters + i,
						 filter_count - i < AT_A_TIME ? filter_count - i : AT_A_TIME, &plain,
						 image_count, all, error);
	for (int i = 0; i < filter_count && status == FA_OK; i++)
		status = restore_filter(&from->ops[filters[i]], norm_after(to, from->ops[filters[i]].name),
								folded, &all[filters[i]], restored, error);
	for (int i = 0; i < from->op_count && all != NULL; i++)
		free(all[i].sum);
	free(all);
	free(filters);
	if (status != FA_OK)
		fa_weights_free(restored);
	return status;
}
