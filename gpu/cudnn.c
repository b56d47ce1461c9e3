/*
 * cudnn.c
 *		Convolutions as operation graphs of cuDNN's backend API; see cudnn.h.
 *
 * A graph owns every descriptor made for it. cuDNN may refer to the parts of a
 * descriptor for as long as that lives, so all of them go together, last made first.
 */
#include "cudnn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DESCRIPTORS 192

/* The tensors that addresses are bound to. */
enum
{
	IN = 1,
	FILTER,
	BIAS,
	RESIDUAL,
	OUT,
	VIRTUAL /* and up: what lies between two operations of a graph */
};

struct fa_gpu_graph
{
	fa_gpu_conv_spec spec;
	fa_gpu_target target; /* the caller's */
	cudnnBackendDescriptor_t owned[MAX_DESCRIPTORS];
	int owned_count, virtual_count;
	cudnnBackendDescriptor_t operations;                  /* all of them, finalised */
	cudnnBackendDescriptor_t configs[2 * FA_GPU_CONFIGS]; /* of both modes */
	int config_count;
	int most;                                           /* that each mode is asked for */
	bool fell_back;                                     /* to the second mode */
	cudnnBackendDescriptor_t plans[2 * FA_GPU_CONFIGS]; /* NULL: not made, or given up */
	int chosen;                                         /* of them; -1: none yet */
	cudnnBackendDescriptor_t pack;
};

/* The reason lies in what is installed: what has been asked may well be possible. */
static bool
lacks_part(cudnnStatus_t status)
{
	switch ((int) status)
	{
		case CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH:
		case 1008: /* CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED, of later versions */
		case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER:
		case CUDNN_STATUS_NOT_SUPPORTED_INCOMPATIBLE_CUDART:
		case CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING:
		case CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE:
			return true;
		default:
			return false;
	}
}

static fa_status
status_of(cudnnStatus_t status)
{
	if (lacks_part(status))
		return FA_NOT_FOUND;
	return CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED ? FA_UNSUPPORTED
																	   : FA_INTERNAL;
}

fa_status
fa_gpu_cudnn_status(cudnnStatus_t status, const char *doing, fa_error *error)
{
	char words[200] = "";

	if (status == CUDNN_STATUS_SUCCESS)
		return FA_OK;
	cudnnGetLastErrorString(words, sizeof(words));
	fa_fail(error, status_of(status),
			lacks_part(status) ? "cuDNN is incomplete, or not for this driver; it failed %s: %s"
							   : "cuDNN failed %s: %s",
			doing, cudnnGetErrorString(status));
	return fa_detail(error, "%s", words);
}

void
fa_gpu_keep_compiler(void)
{
	char name[32];

	snprintf(name, sizeof(name), "libnvrtc.so.%d", CUDART_VERSION / 1000);
	(void) dlopen(name, RTLD_NOW); /* for good: a count more in each engine is no harm */
}

/* --- Descriptors ------------------------------------------------------------- */

static fa_status
create(fa_gpu_graph *g, cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor,
	   fa_error *error)
{
	*descriptor = NULL;
	if (g->owned_count == MAX_DESCRIPTORS)
		return fa_fail(error, FA_INTERNAL, "a cuDNN graph has too many parts");
	FA_TRY(fa_gpu_cudnn_status(cudnnBackendCreateDescriptor(type, descriptor),
							   "to make a descriptor", error));
	g->owned[g->owned_count++] = *descriptor;
	return FA_OK;
}

static fa_status
set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
	cudnnBackendAttributeType_t type, int64_t count, const void *values, fa_error *error)
{
	return fa_gpu_cudnn_status(cudnnBackendSetAttribute(descriptor, name, type, count, values),
							   "to set an attribute", error);
}

static fa_status
set_part(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
		 cudnnBackendDescriptor_t part, fa_error *error)
{
	return set(descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part, error);
}

static fa_status
set_double(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, double value,
		   fa_error *error)
{
	return set(descriptor, name, CUDNN_TYPE_DOUBLE, 1, &value, error);
}

static fa_status
finalize(cudnnBackendDescriptor_t descriptor, const char *doing, fa_error *error)
{
	return fa_gpu_cudnn_status(cudnnBackendFinalize(descriptor), doing, error);
}

static cudnnDataType_t
data_type(fa_gpu_type type)
{
	return type == FA_GPU_FP16   ? CUDNN_DATA_HALF
		   : type == FA_GPU_BF16 ? CUDNN_DATA_BFLOAT16
								 : CUDNN_DATA_FLOAT;
}

/* [n, c, h, w] in cuDNN's order of dimensions, NHWC in memory. */
static fa_status
make_tensor(fa_gpu_graph *g, int64_t id, cudnnDataType_t type, int64_t n, int64_t c, int64_t h,
			int64_t w, cudnnBackendDescriptor_t *tensor, fa_error *error)
{
	int64_t dimensions[4] = {n, c, h, w}, strides[4] = {c * h * w, 1, c * w, c}, alignment = 16;
	bool is_virtual = id >= VIRTUAL;

	FA_TRY(create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, tensor, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dimensions, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment, error));
	FA_TRY(set(*tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual, error));
	return finalize(*tensor, "to make a tensor", error);
}

/* The graph's result if this is its last operation, else an fp32 tensor of the same shape. */
static fa_status
make_result(fa_gpu_graph *g, bool last, cudnnBackendDescriptor_t *tensor, fa_error *error)
{
	const fa_gpu_conv_spec *s = &g->spec;

	return make_tensor(g, last ? OUT : VIRTUAL + g->virtual_count++,
					   last ? data_type(s->type) : CUDNN_DATA_FLOAT, s->n, s->out_c, s->out_h,
					   s->out_w, tensor, error);
}

/* --- Operations ---------------------------------------------------------------- */

/* The padding below or right that gives `out` rows: as above where that will do, as most engines
 * want it.
 */
static int64_t
pad_end(int in, int out, int kernel, int stride, int begin)
{
	int needed = (out - 1) * stride + kernel - in - begin;

	if ((in + 2 * begin - kernel) / stride + 1 == out && in + 2 * begin >= kernel)
		return begin;
	return needed > 0 ? needed : 0;
}

/* What cuDNN calls an operation and its parts, by direction. */
static const struct direction_names
{
	cudnnBackendDescriptorType_t operation;
	cudnnBackendAttributeName_t convolution, in, filter, out, alpha, beta;
} direction_names[] = {
	[FA_GPU_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
						CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
	[FA_GPU_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
							  CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
	[FA_GPU_BACKWARD_FILTER] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
								CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static fa_status
make_convolution(fa_gpu_graph *g, bool last, cudnnBackendDescriptor_t *operation,
				 cudnnBackendDescriptor_t *out, fa_error *error)
{
	const fa_gpu_conv_spec *s = &g->spec;
	cudnnDataType_t type = data_type(s->type), sums = CUDNN_DATA_FLOAT;
	cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
	int64_t dimensions = 2, begin[2] = {s->pad_top, s->pad_left},
			end[2] = {pad_end(s->in_h, s->out_h, s->kernel, s->stride, s->pad_top),
					  pad_end(s->in_w, s->out_w, s->kernel, s->stride, s->pad_left)},
			strides[2] = {s->stride, s->stride}, dilations[2] = {1, 1};
	const struct direction_names *names = &direction_names[s->direction];
	cudnnBackendDescriptor_t in, filter, convolution, op;

	FA_TRY(make_tensor(g, IN, type, s->n, s->in_c, s->in_h, s->in_w, &in, error));
	FA_TRY(make_tensor(g, FILTER, type, s->out_c, s->in_c, s->kernel, s->kernel, &filter, error));
	FA_TRY(make_result(g, last, out, error));

	FA_TRY(create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &convolution, error));
	FA_TRY(
		set(convolution, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums, error));
	FA_TRY(set(convolution, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode,
			   error));
	FA_TRY(set(convolution, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &dimensions,
			   error));
	FA_TRY(
		set(convolution, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, begin, error));
	FA_TRY(set(convolution, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, end, error));
	FA_TRY(set(convolution, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides,
			   error));
	FA_TRY(
		set(convolution, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations, error));
	FA_TRY(finalize(convolution, "to describe a convolution", error));

	FA_TRY(create(g, names->operation, operation, error));
	op = *operation;
	FA_TRY(set_part(op, names->convolution, convolution, error));
	FA_TRY(set_part(op, names->in, in, error));
	FA_TRY(set_part(op, names->filter, filter, error));
	FA_TRY(set_part(op, names->out, *out, error));
	FA_TRY(set_double(op, names->alpha, 1, error));
	FA_TRY(set_double(op, names->beta, 0, error));
	return finalize(op, "to make a convolution", error);
}

/* out = mode(in), or mode(in, other) unless other is NULL. clip: the upper end of a ReLU; 0: none
 */
static fa_status
make_pointwise(fa_gpu_graph *g, cudnnPointwiseMode_t mode, double clip, cudnnBackendDescriptor_t in,
			   cudnnBackendDescriptor_t other, bool last, cudnnBackendDescriptor_t *operation,
			   cudnnBackendDescriptor_t *out, fa_error *error)
{
	cudnnDataType_t type = CUDNN_DATA_FLOAT;
	cudnnBackendDescriptor_t pointwise, op;

	FA_TRY(make_result(g, last, out, error));
	FA_TRY(create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, &pointwise, error));
	FA_TRY(set(pointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, error));
	FA_TRY(set(pointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type, error));
	if (clip > 0)
		FA_TRY(set_double(pointwise, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, clip, error));
	FA_TRY(finalize(pointwise, "to describe a pointwise operation", error));

	FA_TRY(create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, operation, error));
	op = *operation;
	FA_TRY(set_part(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise, error));
	FA_TRY(set_part(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in, error));
	if (other != NULL)
		FA_TRY(set_part(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other, error));
	FA_TRY(set_part(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, *out, error));
	return finalize(op, "to make a pointwise operation", error);
}

/* The operations of spec one after the other, as a graph. */
static fa_status
make_operations(fa_gpu_graph *g, fa_error *error)
{
	const fa_gpu_conv_spec *s = &g->spec;
	cudnnBackendDescriptor_t *graph = &g->operations;
	bool activates = s->fused && s->activation != FA_GPU_NONE, adds = s->fused && s->residual;
	cudnnBackendDescriptor_t operations[4], tensor, other;
	int count = 0;

	FA_TRY(make_convolution(g, !s->fused, &operations[count++], &tensor, error));
	if (s->fused)
	{
		FA_TRY(make_tensor(g, BIAS, CUDNN_DATA_FLOAT, 1, s->out_c, 1, 1, &other, error));
		FA_TRY(make_pointwise(g, CUDNN_POINTWISE_ADD, 0, tensor, other, !adds && !activates,
							  &operations[count++], &tensor, error));
	}
	if (adds)
	{
		FA_TRY(make_tensor(g, RESIDUAL, data_type(s->type), s->n, s->out_c, s->out_h, s->out_w,
						   &other, error));
		FA_TRY(make_pointwise(g, CUDNN_POINTWISE_ADD, 0, tensor, other, !activates,
							  &operations[count++], &tensor, error));
	}
	if (activates)
		FA_TRY(make_pointwise(g,
							  s->activation == FA_GPU_SIGMOID ? CUDNN_POINTWISE_SIGMOID_FWD
															  : CUDNN_POINTWISE_RELU_FWD,
							  s->activation == FA_GPU_RELU6 ? 6 : 0, tensor, NULL, true,
							  &operations[count++], &tensor, error));
	FA_TRY(create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, graph, error));
	FA_TRY(set(*graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
			   operations, error));
	if (g->target.handle != NULL)
		FA_TRY(set(*graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1,
				   &g->target.handle, error));
	return finalize(*graph, "to make an operation graph", error);
}

/* --- Configurations ------------------------------------------------------------- */

/* The engine gives the same answer every time, in the precision that spec asks for. */
static fa_status
is_wanted(const fa_gpu_graph *g, cudnnBackendDescriptor_t engine, bool *wanted, fa_error *error)
{
	cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
	int64_t count = 0;

	FA_TRY(fa_gpu_cudnn_status(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
														CUDNN_TYPE_NUMERICAL_NOTE,
														CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count,
														notes),
							   "to ask for an engine's notes", error));
	*wanted = true;
	for (int64_t i = 0; i < count; i++)
		if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
			notes[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION ||
			(g->spec.type == FA_GPU_FP32 &&
			 (notes[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
			  (notes[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && !g->spec.tf32))))
			*wanted = false;
	return FA_OK;
}

/* A configuration's engine: the graph's, to be asked. */
static fa_status
engine_of(fa_gpu_graph *g, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t *engine,
		  fa_error *error)
{
	int64_t count = 0;

	FA_TRY(create(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR, engine, error));
	return fa_gpu_cudnn_status(cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
														CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
														engine),
							   "to ask for an engine", error);
}

/* Adds what the heuristics offer; FA_UNSUPPORTED where they offer nothing. */
static fa_status
find_configs(fa_gpu_graph *g, cudnnBackendHeurMode_t mode, fa_error *error)
{
	cudnnBackendDescriptor_t heuristics, found[FA_GPU_CONFIGS];
	int64_t count = 0;

	FA_TRY(create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristics, error));
	FA_TRY(set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->operations, error));
	FA_TRY(set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode, error));
	if (g->target.handle == NULL)
		FA_TRY(set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->target.described, error));
	FA_TRY(finalize(heuristics, "to choose engines", error));
	for (int i = 0; i < g->most; i++)
		FA_TRY(create(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &found[i], error));
	FA_TRY(fa_gpu_cudnn_status(cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
														CUDNN_TYPE_BACKEND_DESCRIPTOR, g->most,
														&count, found),
							   "to list engines", error));
	for (int64_t i = 0; i < count && i < g->most; i++)
	{
		cudnnBackendDescriptor_t engine;
		bool wanted;

		FA_TRY(engine_of(g, found[i], &engine, error));
		FA_TRY(is_wanted(g, engine, &wanted, error));
		if (wanted)
			g->configs[g->config_count++] = found[i];
	}
	return FA_OK;
}

/* A graph with its operations described, and nothing asked yet; NULL after a failure. */
static fa_status
make_graph(const fa_gpu_conv_spec *spec, const fa_gpu_target *target, fa_gpu_graph **graph,
		   fa_error *error)
{
	fa_gpu_graph *g = *graph = calloc(1, sizeof(fa_gpu_graph));

	if (g == NULL)
		return fa_no_memory(error, sizeof(fa_gpu_graph));
	g->spec = *spec;
	g->target = *target;
	g->chosen = -1;
	return make_operations(g, error);
}

fa_status
fa_gpu_graph_more(fa_gpu_graph *g, int *count, fa_error *error)
{
	fa_status status = FA_OK;

	if (!g->fell_back)
		status = find_configs(g, CUDNN_HEUR_MODE_FALLBACK, error);
	g->fell_back = true;
	*count = g->config_count;
	return status;
}

/*
 * Mode A's configurations; without any, those of last resort. FA_UNSUPPORTED: none, as far as
 * cuDNN could answer.
 */
static fa_status
find_any_configs(fa_gpu_graph *g, int *count, fa_error *error)
{
	fa_status status = find_configs(g, CUDNN_HEUR_MODE_A, error);
	fa_error own;

	*count = g->config_count;
	if (*count == 0 && (status == FA_OK || status == FA_UNSUPPORTED))
		status = fa_gpu_graph_more(g, count, error);
	else if (*count == 0)
		fa_gpu_graph_more(g, count, &own); /* and if that has none, A's error counts */
	return *count > 0 ? FA_OK : status;
}

fa_status
fa_gpu_graph_create(const fa_gpu_conv_spec *spec, const fa_gpu_target *target, int most,
					fa_gpu_graph **graph, int *count, fa_error *error)
{
	fa_status status = make_graph(spec, target, graph, error);

	*count = 0;
	if (status == FA_OK)
	{
		(*graph)->most = most;
		status = find_any_configs(*graph, count, error);
	}
	if (status == FA_UNSUPPORTED) /* an answer, too */
		return FA_OK;
	if (status != FA_OK)
	{
		fa_gpu_graph_destroy(*graph);
		*graph = NULL;
	}
	return status;
}

fa_status
fa_gpu_cudnn_check(const fa_gpu_target *target, fa_error *error)
{
	static const fa_gpu_conv_spec usual = {.n = 1,
										   .in_h = 8,
										   .in_w = 8,
										   .in_c = 64,
										   .out_h = 8,
										   .out_w = 8,
										   .out_c = 64,
										   .kernel = 3,
										   .stride = 1,
										   .pad_top = 1,
										   .pad_left = 1,
										   .type = FA_GPU_FP16};
	fa_gpu_graph *graph;
	fa_error own;
	int count;

	if (fa_gpu_graph_create(&usual, target, 1, &graph, &count, &own) == FA_OK)
		fa_gpu_graph_destroy(graph);
	else if (own.status == FA_NOT_FOUND)
	{
		*error = own;
		return FA_NOT_FOUND;
	}
	return FA_OK;
}

/* --- Plans ------------------------------------------------------------------------- */

fa_status
fa_gpu_graph_try(fa_gpu_graph *g, int index, size_t *workspace, fa_error *error)
{
	cudnnBackendDescriptor_t plan;
	int64_t bytes = 0, count = 0;

	FA_TRY(create(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan, error));
	FA_TRY(set_part(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, g->configs[index], error));
	FA_TRY(set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->target.handle,
			   error));
	FA_TRY(finalize(plan, "to make an execution plan", error));
	FA_TRY(
		fa_gpu_cudnn_status(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
													 CUDNN_TYPE_INT64, 1, &count, &bytes),
							"to ask for a workspace's size", error));
	*workspace = (size_t) bytes;
	g->plans[index] = plan;
	g->chosen = index;
	return FA_OK;
}

void
fa_gpu_graph_select(fa_gpu_graph *g, int index)
{
	g->chosen = index;
}

static void
destroy_early(fa_gpu_graph *g, cudnnBackendDescriptor_t descriptor)
{
	int i = 0;

	while (g->owned[i] != descriptor)
		i++;
	memmove(&g->owned[i], &g->owned[i + 1], (g->owned_count - i - 1) * sizeof(g->owned[0]));
	g->owned_count--;
	cudnnBackendDestroyDescriptor(descriptor);
}

void
fa_gpu_graph_keep(fa_gpu_graph *g, int index)
{
	g->chosen = index;
	for (int i = 0; i < g->config_count; i++)
		if (i != index && g->plans[i] != NULL)
		{
			destroy_early(g, g->plans[i]);
			g->plans[i] = NULL;
		}
}

const fa_gpu_conv_spec *
fa_gpu_graph_spec(const fa_gpu_graph *g)
{
	return &g->spec;
}

/* --- Plans made before ------------------------------------------------------------- */

static fa_status
get(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
	cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values, fa_error *error)
{
	return fa_gpu_cudnn_status(
		cudnnBackendGetAttribute(descriptor, name, type, wanted, count, values),
		"to tell a plan's making", error);
}

fa_status
fa_gpu_graph_choice(fa_gpu_graph *g, fa_gpu_choice *choice, fa_error *error)
{
	cudnnBackendDescriptor_t config = g->configs[g->chosen], engine, knobs[FA_GPU_MAX_KNOBS];
	int64_t count = 0, one;

	memset(choice, 0, sizeof(*choice));
	FA_TRY(engine_of(g, config, &engine, error));
	FA_TRY(get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one, &choice->engine,
			   error));
	/* cuDNN does not tell how many there are before it is given room for all */
	for (int i = 0; i < FA_GPU_MAX_KNOBS; i++)
		FA_TRY(create(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i], error));
	FA_TRY(get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
			   FA_GPU_MAX_KNOBS, &count, knobs, error));
	for (int64_t i = 0; i < count && i < FA_GPU_MAX_KNOBS; i++)
	{
		cudnnBackendKnobType_t type;

		FA_TRY(get(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &one, &type,
				   error));
		choice->knobs[i][0] = type;
		FA_TRY(get(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one,
				   &choice->knobs[i][1], error));
		choice->knob_count++;
	}
	for (int i = 0; i < FA_GPU_MAX_KNOBS; i++)
		destroy_early(g, knobs[i]);
	return FA_OK;
}

/* The choice as the graph's one configuration. */
static fa_status
make_config(fa_gpu_graph *g, const fa_gpu_choice *choice, fa_error *error)
{
	cudnnBackendDescriptor_t engine, knobs[FA_GPU_MAX_KNOBS], config;
	bool wanted;

	FA_TRY(create(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine, error));
	FA_TRY(set_part(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->operations, error));
	FA_TRY(
		set(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &choice->engine, error));
	if (g->target.handle == NULL)
		FA_TRY(set_part(engine, CUDNN_ATTR_ENGINE_DEVICEPROP, g->target.described, error));
	FA_TRY(finalize(engine, "to find an engine again", error));
	FA_TRY(is_wanted(g, engine, &wanted, error));
	if (!wanted)
		return fa_fail(error, FA_UNSUPPORTED, "a cuDNN engine is not precise enough");
	for (int i = 0; i < choice->knob_count; i++)
	{
		cudnnBackendKnobType_t type = (cudnnBackendKnobType_t) choice->knobs[i][0];

		FA_TRY(create(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[i], error));
		FA_TRY(
			set(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type, error));
		FA_TRY(set(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
				   &choice->knobs[i][1], error));
		FA_TRY(finalize(knobs[i], "to set an engine's knob", error));
	}
	FA_TRY(create(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config, error));
	FA_TRY(set_part(config, CUDNN_ATTR_ENGINECFG_ENGINE, engine, error));
	if (choice->knob_count > 0)
		FA_TRY(set(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
				   choice->knob_count, knobs, error));
	FA_TRY(finalize(config, "to set an engine's knobs", error));
	g->configs[g->config_count++] = config;
	return FA_OK;
}

fa_status
fa_gpu_graph_restore(const fa_gpu_conv_spec *spec, const fa_gpu_target *target,
					 const fa_gpu_choice *choice, fa_gpu_graph **graph, size_t *workspace,
					 fa_error *error)
{
	fa_status status = make_graph(spec, target, graph, error);

	if (status == FA_OK)
		status = make_config(*graph, choice, error);
	/* a device that is only described has engines, and no plans */
	if (status == FA_OK && target->handle != NULL)
		status = fa_gpu_graph_try(*graph, 0, workspace, error);
	if (status != FA_OK)
	{
		fa_gpu_graph_destroy(*graph);
		*graph = NULL;
	}
	return status;
}

fa_status
fa_gpu_graph_bind(fa_gpu_graph *g, const void *in, const void *filter, const void *bias,
				  const void *residual, void *out, void *workspace, fa_error *error)
{
	int64_t ids[5] = {IN, FILTER, OUT, BIAS, RESIDUAL};
	const void *addresses[5] = {in, filter, out, bias, residual};
	int count = !g->spec.fused ? 3 : g->spec.residual ? 5 : 4;

	FA_TRY(create(g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &g->pack, error));
	FA_TRY(set(g->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids, error));
	FA_TRY(set(g->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
			   addresses, error));
	FA_TRY(
		set(g->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace, error));
	return finalize(g->pack, "to bind addresses", error);
}

fa_status
fa_gpu_graph_execute(const fa_gpu_graph *g, fa_error *error)
{
	return fa_gpu_cudnn_status(cudnnBackendExecute(g->target.handle, g->plans[g->chosen], g->pack),
							   "to run a convolution", error);
}

void
fa_gpu_graph_destroy(fa_gpu_graph *g)
{
	if (g == NULL)
		return;
	while (g->owned_count > 0)
		cudnnBackendDestroyDescriptor(g->owned[--g->owned_count]);
	free(g);
}

/* --- Devices that are not there ------------------------------------------------------ */

fa_status
fa_gpu_describe(const char *json, fa_gpu_target *target, fa_error *error)
{
	fa_status status;

	memset(target, 0, sizeof(*target));
	FA_TRY(fa_gpu_cudnn_status(
		cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &target->described),
		"to describe a device", error));
	status = set(target->described, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
				 (int64_t) strlen(json) + 1, json, error);
	if (status == FA_OK)
		status = finalize(target->described, "to describe a device", error);
	if (status != FA_OK)
		fa_gpu_target_free(target);
	return status;
}

void
fa_gpu_target_free(fa_gpu_target *target)
{
	if (target->described != NULL)
		cudnnBackendDestroyDescriptor(target->described);
	target->described = NULL;
}
