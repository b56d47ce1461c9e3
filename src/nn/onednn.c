/*
 * onednn.c
 *		The only file that knows oneDNN's API and that it has changed; see onednn.h.
 *
 * Version 3 made memory descriptors opaque and dropped operation descriptors;
 * what differs is in the first half, between #if and #endif.
 */
#include "onednn.h"

#include <string.h>
#include <sys/mman.h>

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t md_argument;
#define MD(layout) ((layout)->md)
#else
typedef const dnnl_memory_desc_t *md_argument;
#define MD(layout) (&(layout)->value)
#endif

static fa_status
failed(fa_error *error, const char *what, dnnl_status_t status)
{
	if (status == dnnl_out_of_memory)
		return fa_fail(error, FA_NO_MEMORY, "out of memory in oneDNN (%s)", what);
	fa_fail(error, FA_INTERNAL, "oneDNN could not %s", what);
	return fa_detail(error, "dnnl_status_t %d.", (int) status);
}

/*
 * oneDNN writes code into memory without a look at whether it has got any: too little would be a
 * crash. So before it makes anything there must be some, far more than the code that it writes for
 * a primitive.
 */
#define CODE_ROOM ((size_t) 32 << 20)

static dnnl_status_t
look_for_room(void)
{
	void *room = mmap(NULL, CODE_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		return dnnl_out_of_memory;
	munmap(room, CODE_ROOM);
	return dnnl_success;
}

static dnnl_data_type_t
data_type(fa_act_type type)
{
	return type == FA_ACT_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t
layout_init(fa_layout *layout, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
			dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
	dnnl_status_t status = dnnl_memory_desc_create_with_tag(&layout->md, rank, dims, type, tag);
#else
	dnnl_status_t status = dnnl_memory_desc_init_by_tag(&layout->value, rank, dims, type, tag);
#endif
	layout->set = status == dnnl_success;
	return status;
}

static dnnl_status_t
layout_clone(fa_layout *to, md_argument from)
{
#if DNNL_VERSION_MAJOR >= 3
	dnnl_status_t status = dnnl_memory_desc_clone(&to->md, from);
#else
	dnnl_status_t status = dnnl_success;

	to->value = *from;
#endif
	to->set = status == dnnl_success;
	return status;
}

void
fa_layout_free(fa_layout *layout)
{
#if DNNL_VERSION_MAJOR >= 3
	if (layout->set)
		dnnl_memory_desc_destroy(layout->md);
#endif
	memset(layout, 0, sizeof(*layout));
}

fa_status
fa_layout_write(const fa_layout *layout, void *bytes, size_t *length, fa_error *error)
{
#if DNNL_VERSION_MAJOR < 3
	*length = sizeof(layout->value);
	if (bytes != NULL)
		memcpy(bytes, &layout->value, sizeof(layout->value));
	(void) error;
	return FA_OK;
#elif DNNL_VERSION_MAJOR > 3 || DNNL_VERSION_MINOR >= 4
	dnnl_status_t status = dnnl_memory_desc_get_blob(bytes, length, layout->md);

	return status == dnnl_success ? FA_OK : failed(error, "write a layout", status);
#else
	return fa_fail(error, FA_UNSUPPORTED, "this oneDNN cannot write a layout");
#endif
}

fa_status
fa_layout_read(fa_layout *layout, const void *bytes, size_t length, fa_error *error)
{
#if DNNL_VERSION_MAJOR < 3
	if (length != sizeof(layout->value))
		return fa_fail(error, FA_UNSUPPORTED, "a layout is of another oneDNN");
	memcpy(&layout->value, bytes, length);
	layout->set = true;
	return FA_OK;
#elif DNNL_VERSION_MAJOR > 3 || DNNL_VERSION_MINOR >= 4
	dnnl_status_t status = dnnl_memory_desc_create_with_blob(&layout->md, bytes);

	(void) length;
	layout->set = status == dnnl_success;
	return layout->set ? FA_OK : failed(error, "read a layout", status);
#else
	return fa_fail(error, FA_UNSUPPORTED, "this oneDNN cannot read a layout");
#endif
}

static dnnl_status_t
append_sum(dnnl_post_ops_t ops)
{
#if DNNL_VERSION_MAJOR >= 3
	return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
	return dnnl_post_ops_append_sum(ops, 1.0f);
#endif
}

static dnnl_status_t
append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t algorithm, float alpha, float beta)
{
#if DNNL_VERSION_MAJOR >= 3
	return dnnl_post_ops_append_eltwise(ops, algorithm, alpha, beta);
#else
	return dnnl_post_ops_append_eltwise(ops, 1.0f, algorithm, alpha, beta);
#endif
}

typedef struct conv_layouts
{
	fa_layout source, weights, bias, destination;
	dnnl_dims_t strides, pad_begin, pad_end;
	bool has_bias;
} conv_layouts;

/* The primitive descriptor of a pass; hint: the forward one, for the backward passes. */
static dnnl_status_t
conv_primitive_desc(dnnl_primitive_desc_t *desc, dnnl_engine_t engine, fa_pass pass,
					const conv_layouts *l, const_dnnl_primitive_attr_t attr,
					const_dnnl_primitive_desc_t hint)
{
	dnnl_prop_kind_t kind =
		pass == FA_PASS_INFERENCE ? dnnl_forward_inference : dnnl_forward_training;
	md_argument bias = l->has_bias ? MD(&l->bias) : NULL;

#if DNNL_VERSION_MAJOR >= 3
	dnnl_dims_t dilates = {0, 0};

	switch (pass)
	{
		case FA_PASS_BACKWARD_DATA:
			return dnnl_convolution_backward_data_primitive_desc_create(
				desc, engine, dnnl_convolution_direct, MD(&l->source), MD(&l->weights),
				MD(&l->destination), l->strides, dilates, l->pad_begin, l->pad_end, hint, attr);
		case FA_PASS_BACKWARD_WEIGHTS:
			return dnnl_convolution_backward_weights_primitive_desc_create(
				desc, engine, dnnl_convolution_direct, MD(&l->source), MD(&l->weights), bias,
				MD(&l->destination), l->strides, dilates, l->pad_begin, l->pad_end, hint, attr);
		default:
			return dnnl_convolution_forward_primitive_desc_create(
				desc, engine, kind, dnnl_convolution_direct, MD(&l->source), MD(&l->weights), bias,
				MD(&l->destination), l->strides, dilates, l->pad_begin, l->pad_end, attr);
	}
#else
	dnnl_convolution_desc_t operation;
	dnnl_status_t status;

	switch (pass)
	{
		case FA_PASS_BACKWARD_DATA:
			status = dnnl_convolution_backward_data_desc_init(
				&operation, dnnl_convolution_direct, MD(&l->source), MD(&l->weights),
				MD(&l->destination), l->strides, l->pad_begin, l->pad_end);
			break;
		case FA_PASS_BACKWARD_WEIGHTS:
			status = dnnl_convolution_backward_weights_desc_init(
				&operation, dnnl_convolution_direct, MD(&l->source), MD(&l->weights), bias,
				MD(&l->destination), l->strides, l->pad_begin, l->pad_end);
			break;
		default:
			status = dnnl_convolution_forward_desc_init(
				&operation, kind, dnnl_convolution_direct, MD(&l->source), MD(&l->weights), bias,
				MD(&l->destination), l->strides, l->pad_begin, l->pad_end);
	}
	if (status != dnnl_success)
		return status;
	return dnnl_primitive_desc_create(desc, &operation, attr, engine, hint);
#endif
}

static bool
is_reference_code(const_dnnl_primitive_desc_t desc)
{
	const char *name = NULL;

	return dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, (void *) &name) ==
			   dnnl_success &&
		   name != NULL && strncmp(name, "ref", 3) == 0;
}

/* ---- From here on the versions agree ---------------------------------------- */

static dnnl_status_t
weights_layout(fa_layout *layout, const fa_conv_spec *spec, dnnl_data_type_t type, bool plain)
{
	if (spec->depthwise)
	{
		dnnl_dims_t dims = {spec->out_c, 1, 1, spec->kernel, spec->kernel};

		return layout_init(layout, 5, dims, type, plain ? dnnl_goihw : dnnl_format_tag_any);
	}
	else
	{
		dnnl_dims_t dims = {spec->out_c, spec->in_c, spec->kernel, spec->kernel};

		return layout_init(layout, 4, dims, type, plain ? dnnl_oihw : dnnl_format_tag_any);
	}
}

/*
 * Two faults of oneDNN 2.6's pointwise code, which plain weights keep away. jit_bf16_1x1
 * takes the gradients of an odd number of channels in pairs, the last with its
 * neighbour's. And jit_1x1 for AVX2, where it gathers what a stride leaves over, writes
 * whole vectors of channels past the end of its scratchpad.
 */
static bool
must_be_plain(const fa_conv_spec *spec, fa_pass pass)
{
	if (spec->kernel != 1)
		return false;
	if (spec->stride > 1 && (spec->in_c % 16 != 0 || spec->out_c % 16 != 0))
		return true;
	return pass == FA_PASS_BACKWARD_DATA && spec->weights == FA_ACT_BF16 && spec->out_c % 2 != 0 &&
		   !spec->depthwise;
}

static void
conv_layouts_free(conv_layouts *l)
{
	fa_layout_free(&l->source);
	fa_layout_free(&l->weights);
	fa_layout_free(&l->bias);
	fa_layout_free(&l->destination);
}

static dnnl_status_t
conv_layouts_init(conv_layouts *l, const fa_conv_spec *spec, fa_pass pass, const fa_layout *layout)
{
	dnnl_dims_t source = {spec->n, spec->in_c, spec->in_h, spec->in_w};
	dnnl_dims_t destination = {spec->n, spec->out_c, spec->out_h, spec->out_w};
	dnnl_dims_t bias = {spec->out_c};
	dnnl_data_type_t weights =
		pass == FA_PASS_BACKWARD_WEIGHTS ? dnnl_f32 : data_type(spec->weights);
	dnnl_status_t status;

	memset(l, 0, sizeof(*l));
	l->has_bias = spec->bias && pass != FA_PASS_BACKWARD_DATA;
	l->strides[0] = l->strides[1] = spec->stride;
	l->pad_begin[0] = spec->pad_top;
	l->pad_begin[1] = spec->pad_left;
	/* oneDNN wants the padding that makes the sizes agree, which may be negative */
	l->pad_end[0] = (spec->out_h - 1) * spec->stride + spec->kernel - spec->in_h - spec->pad_top;
	l->pad_end[1] = (spec->out_w - 1) * spec->stride + spec->kernel - spec->in_w - spec->pad_left;

	status = layout_init(&l->source, 4, source, data_type(spec->source), dnnl_nhwc);
	if (status == dnnl_success)
		status =
			layout_init(&l->destination, 4, destination, data_type(spec->destination), dnnl_nhwc);
	if (status == dnnl_success)
		status = layout_init(&l->bias, 1, bias, dnnl_f32, dnnl_x);
	if (status == dnnl_success)
		status = layout != NULL
					 ? layout_clone(&l->weights, MD(layout))
					 : weights_layout(&l->weights, spec, weights, must_be_plain(spec, pass));
	return status;
}

static dnnl_status_t
append_activation(dnnl_post_ops_t ops, fa_activation activation)
{
	switch (activation)
	{
		case FA_ACTIVATION_RELU:
			return append_eltwise(ops, dnnl_eltwise_relu, 0.0f, 0.0f);
		case FA_ACTIVATION_RELU6:
			return append_eltwise(ops, dnnl_eltwise_clip, 0.0f, 6.0f);
		case FA_ACTIVATION_SIGMOID:
			return append_eltwise(ops, dnnl_eltwise_logistic, 0.0f, 0.0f);
		case FA_ACTIVATION_NONE:
			break;
	}
	return dnnl_success;
}

static dnnl_status_t
conv_attributes(dnnl_primitive_attr_t *attr, bool sum, fa_activation activation)
{
	dnnl_post_ops_t ops = NULL;
	dnnl_status_t status = dnnl_primitive_attr_create(attr);

	if (status == dnnl_success)
		status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
	if (status == dnnl_success)
		status = dnnl_post_ops_create(&ops);
	if (status == dnnl_success && sum)
		status = append_sum(ops);
	if (status == dnnl_success)
		status = append_activation(ops, activation);
	if (status == dnnl_success)
		status = dnnl_primitive_attr_set_post_ops(*attr, ops);
	if (ops != NULL)
		dnnl_post_ops_destroy(ops);
	return status;
}

static dnnl_status_t
make_memory(dnnl_memory_t *memory, md_argument md, dnnl_engine_t engine)
{
	return dnnl_memory_create(memory, md, engine, DNNL_MEMORY_NONE);
}

fa_status
fa_conv_create(fa_conv *conv, dnnl_engine_t engine, fa_pass pass, const fa_conv_spec *spec,
			   const fa_layout *layout, fa_error *error)
{
	conv_layouts l;
	dnnl_primitive_attr_t attr = NULL;
	dnnl_primitive_desc_t forward = NULL, desc = NULL;
	dnnl_status_t status;
	md_argument weights, scratchpad;
	bool backward = pass == FA_PASS_BACKWARD_DATA || pass == FA_PASS_BACKWARD_WEIGHTS;

	memset(conv, 0, sizeof(*conv));
	conv->pass = pass;
	status = look_for_room();
	if (status != dnnl_success)
		return failed(error, "create a convolution", status);
	status = conv_layouts_init(&l, spec, pass, layout);
	if (status == dnnl_success)
		status = conv_attributes(&attr, !backward && spec->sum,
								 backward ? FA_ACTIVATION_NONE : spec->activation);
	if (status == dnnl_success && backward)
	{
		/* the hint wants weights of the forward type, in whatever layout */
		conv_layouts f;

		status = conv_layouts_init(&f, spec, FA_PASS_FORWARD, NULL);
		if (status == dnnl_success)
			status = conv_primitive_desc(&forward, engine, FA_PASS_FORWARD, &f, NULL, NULL);
		conv_layouts_free(&f);
	}
	if (status == dnnl_success)
		status = conv_primitive_desc(&desc, engine, pass, &l, attr, forward);
	if (status == dnnl_success)
		status = dnnl_primitive_create(&conv->primitive, desc);
	if (status == dnnl_success)
	{
		conv->reference = is_reference_code(desc);
		weights = dnnl_primitive_desc_query_md(
			desc,
			pass == FA_PASS_BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md,
			0);
		scratchpad = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
		conv->weights_size = dnnl_memory_desc_get_size(weights);
		conv->scratchpad_size = dnnl_memory_desc_get_size(scratchpad);
		status = layout_clone(&conv->layout, weights);
		if (status == dnnl_success)
			status = make_memory(&conv->weights, weights, engine);
		if (status == dnnl_success)
			status = make_memory(&conv->scratchpad, scratchpad, engine);
	}
	if (status == dnnl_success)
		status = make_memory(&conv->source, MD(&l.source), engine);
	if (status == dnnl_success)
		status = make_memory(&conv->destination, MD(&l.destination), engine);
	if (status == dnnl_success && l.has_bias)
		status = make_memory(&conv->bias, MD(&l.bias), engine);

	if (desc != NULL)
		dnnl_primitive_desc_destroy(desc);
	if (forward != NULL)
		dnnl_primitive_desc_destroy(forward);
	if (attr != NULL)
		dnnl_primitive_attr_destroy(attr);
	conv_layouts_free(&l);
	if (status != dnnl_success)
	{
		fa_conv_destroy(conv);
		return failed(error, "create a convolution", status);
	}
	return FA_OK;
}

static void
set_handle(dnnl_memory_t memory, const void *data)
{
	if (memory != NULL)
		dnnl_memory_set_data_handle(memory, (void *) data);
}

void
fa_conv_bind(fa_conv *conv, const void *source, const void *weights, const void *bias,
			 const void *destination, void *scratchpad)
{
	set_handle(conv->source, source);
	set_handle(conv->weights, weights);
	set_handle(conv->bias, bias);
	set_handle(conv->destination, destination);
	set_handle(conv->scratchpad, scratchpad);
}

fa_status
fa_conv_execute(const fa_conv *conv, dnnl_stream_t stream, fa_error *error)
{
	dnnl_exec_arg_t arguments[5];
	int n = 0;
	dnnl_status_t status;
	bool data = conv->pass == FA_PASS_BACKWARD_DATA;
	bool weights = conv->pass == FA_PASS_BACKWARD_WEIGHTS;

#define ARGUMENT(key, value) (arguments[n].arg = (key), arguments[n++].memory = (value))
	ARGUMENT(data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, conv->source);
	ARGUMENT(weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, conv->weights);
	if (conv->bias != NULL)
		ARGUMENT(weights ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS, conv->bias);
	ARGUMENT(data || weights ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST, conv->destination);
	ARGUMENT(DNNL_ARG_SCRATCHPAD, conv->scratchpad);
#undef ARGUMENT
	status = dnnl_primitive_execute(conv->primitive, stream, n, arguments);
	if (status == dnnl_success)
		status = dnnl_stream_wait(stream);
	return status == dnnl_success ? FA_OK : failed(error, "run a convolution", status);
}

void
fa_conv_destroy(fa_conv *conv)
{
	dnnl_memory_t memories[] = {conv->source, conv->weights, conv->bias, conv->destination,
								conv->scratchpad};

	for (size_t i = 0; i < sizeof(memories) / sizeof(memories[0]); i++)
		if (memories[i] != NULL)
			dnnl_memory_destroy(memories[i]);
	if (conv->primitive != NULL)
		dnnl_primitive_destroy(conv->primitive);
	fa_layout_free(&conv->layout);
	memset(conv, 0, sizeof(*conv));
}

fa_status
fa_layout_plain(fa_layout *layout, const fa_conv_spec *spec, fa_error *error)
{
	dnnl_status_t status;

	memset(layout, 0, sizeof(*layout));
	status = weights_layout(layout, spec, dnnl_f32, true);
	return status == dnnl_success ? FA_OK : failed(error, "describe weights", status);
}

fa_status
fa_layout_copy(fa_layout *to, const fa_layout *from, fa_error *error)
{
	dnnl_status_t status;

	memset(to, 0, sizeof(*to));
	status = layout_clone(to, MD(from));
	return status == dnnl_success ? FA_OK : failed(error, "describe weights", status);
}

size_t
fa_layout_size(const fa_layout *layout)
{
	return dnnl_memory_desc_get_size(MD(layout));
}

uint64_t
fa_onednn_identity(void)
{
	const dnnl_version_t *version = dnnl_version();

	return (uint64_t) dnnl_get_effective_cpu_isa() << 32 ^ (uint64_t) version->major << 20 ^
		   (uint64_t) version->minor << 10 ^ (uint64_t) version->patch;
}

fa_status
fa_reorder_create(fa_reorder *reorder, dnnl_engine_t engine, const fa_layout *from,
				  const fa_layout *to, fa_error *error)
{
	dnnl_primitive_desc_t desc = NULL;
	dnnl_status_t status;

	memset(reorder, 0, sizeof(*reorder));
	status = look_for_room();
	if (status == dnnl_success)
		status = dnnl_reorder_primitive_desc_create(&desc, MD(from), engine, MD(to), engine, NULL);
	if (status == dnnl_success)
		status = dnnl_primitive_create(&reorder->primitive, desc);
	if (status == dnnl_success)
		status = make_memory(&reorder->from, MD(from), engine);
	if (status == dnnl_success)
		status = make_memory(&reorder->to, MD(to), engine);
	if (desc != NULL)
		dnnl_primitive_desc_destroy(desc);
	if (status != dnnl_success)
	{
		fa_reorder_destroy(reorder);
		return failed(error, "create a reorder", status);
	}
	return FA_OK;
}

fa_status
fa_reorder_execute(const fa_reorder *reorder, dnnl_stream_t stream, const void *from, void *to,
				   fa_error *error)
{
	dnnl_exec_arg_t arguments[2] = {{DNNL_ARG_FROM, reorder->from}, {DNNL_ARG_TO, reorder->to}};
	dnnl_status_t status;

	set_handle(reorder->from, from);
	set_handle(reorder->to, to);
	status = dnnl_primitive_execute(reorder->primitive, stream, 2, arguments);
	if (status == dnnl_success)
		status = dnnl_stream_wait(stream);
	return status == dnnl_success ? FA_OK : failed(error, "reorder weights", status);
}

void
fa_reorder_destroy(fa_reorder *reorder)
{
	if (reorder->from != NULL)
		dnnl_memory_destroy(reorder->from);
	if (reorder->to != NULL)
		dnnl_memory_destroy(reorder->to);
	if (reorder->primitive != NULL)
		dnnl_primitive_destroy(reorder->primitive);
	memset(reorder, 0, sizeof(*reorder));
}

fa_status
fa_onednn_open(dnnl_engine_t *engine, dnnl_stream_t *stream, fa_error *error)
{
	dnnl_status_t status;

	FA_TRY(fa_dnnl_load(error));
	status = dnnl_engine_create(engine, dnnl_cpu, 0);
	if (status != dnnl_success)
		return failed(error, "open the CPU", status);
	status = dnnl_stream_create(stream, *engine, dnnl_stream_default_flags);
	if (status != dnnl_success)
	{
		dnnl_engine_destroy(*engine);
		*engine = NULL;
		return failed(error, "open a stream", status);
	}
	return FA_OK;
}

bool
fa_onednn_has_bf16(void)
{
	fa_error error;
	dnnl_cpu_isa_t isa;

	if (fa_dnnl_load(&error) != FA_OK) /* opening an engine will say so */
		return false;
	isa = dnnl_get_effective_cpu_isa();
	return (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}
