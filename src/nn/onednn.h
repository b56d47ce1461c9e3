/*
 * onednn.h
 *		All that we ask of oneDNN, behind a handful of plain functions, so that
 *		versions 2.6 and 3.x differ in onednn.c alone: convolutions in their
 *		three passes, and changing the layout of weights.
 *
 * Activations are plain NHWC; only weights have a layout of oneDNN's choice.
 * Measured on MobileNet's layers with 2.6: NHWC is within 3 % of the blocked
 * layouts in fp32 and bf16, forward and backward, and needs no reorders.
 */
#ifndef FA_ONEDNN_H
#define FA_ONEDNN_H

#include "../fa.h"

#include "libdnnl.h"

typedef enum fa_act_type
{
	FA_ACT_F32,
	FA_ACT_BF16
} fa_act_type;

typedef enum fa_activation
{
	FA_ACTIVATION_NONE,
	FA_ACTIVATION_RELU,
	FA_ACTIVATION_RELU6,
	FA_ACTIVATION_SIGMOID
} fa_activation;

typedef enum fa_pass
{
	FA_PASS_INFERENCE,
	FA_PASS_FORWARD,
	FA_PASS_BACKWARD_DATA,
	FA_PASS_BACKWARD_WEIGHTS
} fa_pass;

/* source [n, in_h, in_w, in_c], destination [n, out_h, out_w, out_c]; a dense layer has 1 x 1
 * images. */
typedef struct fa_conv_spec
{
	int n, in_h, in_w, in_c, out_h, out_w, out_c;
	int kernel, stride, pad_top, pad_left;
	bool depthwise, bias;
	fa_act_type source, weights, destination;
	/* forward passes only: the result is added to what the destination holds, and then activated */
	bool sum;
	fa_activation activation;
} fa_conv_spec;

/* A layout of weights. */
typedef struct fa_layout
{
#if DNNL_VERSION_MAJOR >= 3
	dnnl_memory_desc_t md;
#else
	dnnl_memory_desc_t value;
#endif
	bool set;
} fa_layout;

typedef struct fa_conv
{
	dnnl_primitive_t primitive;
	/* source, weights, bias, destination (or their gradients, by pass), scratchpad */
	dnnl_memory_t source, weights, bias, destination, scratchpad;
	fa_pass pass;
	size_t scratchpad_size, weights_size; /* bytes */
	fa_layout layout;                     /* of the weights, or of their gradient */
	bool reference;                       /* oneDNN had only its slow reference code */
} fa_conv;

extern fa_status fa_onednn_open(dnnl_engine_t *engine, dnnl_stream_t *stream, fa_error *error);
extern bool fa_onednn_has_bf16(void);

/*
 * Creates the primitive. layout: the weights' layout to use, NULL for oneDNN's
 * choice. The weights of a backward-weights pass are the fp32 gradient.
 */
extern fa_status fa_conv_create(fa_conv *conv, dnnl_engine_t engine, fa_pass pass,
								const fa_conv_spec *spec, const fa_layout *layout, fa_error *error);
/* Buffers of later executions; bias may be NULL where the spec has none. */
extern void fa_conv_bind(fa_conv *conv, const void *source, const void *weights, const void *bias,
						 const void *destination, void *scratchpad);
extern fa_status fa_conv_execute(const fa_conv *conv, dnnl_stream_t stream, fa_error *error);
extern void fa_conv_destroy(fa_conv *conv);

/* [out, in, k, k] (or [channels, 1, k, k]) in fp32, the layout of files and masters. */
extern fa_status fa_layout_plain(fa_layout *layout, const fa_conv_spec *spec, fa_error *error);
extern fa_status fa_layout_copy(fa_layout *to, const fa_layout *from, fa_error *error);
extern void fa_layout_free(fa_layout *layout);
/* Bytes that tensors of this layout take. */
extern size_t fa_layout_size(const fa_layout *layout);
/*
 * A layout as bytes that another process with the same oneDNN reads back. bytes NULL:
 * only *length is set. FA_UNSUPPORTED: this oneDNN (3.0 to 3.3) has no such form.
 */
extern fa_status fa_layout_write(const fa_layout *layout, void *bytes, size_t *length,
								 fa_error *error);
extern fa_status fa_layout_read(fa_layout *layout, const void *bytes, size_t length,
								fa_error *error);
/* What the choice of layouts depends on: another number, other layouts. */
extern uint64_t fa_onednn_identity(void);

/* A prepared change of layout. */
typedef struct fa_reorder
{
	dnnl_primitive_t primitive;
	dnnl_memory_t from, to;
} fa_reorder;

extern fa_status fa_reorder_create(fa_reorder *reorder, dnnl_engine_t engine, const fa_layout *from,
								   const fa_layout *to, fa_error *error);
extern fa_status fa_reorder_execute(const fa_reorder *reorder, dnnl_stream_t stream,
									const void *from, void *to, fa_error *error);
extern void fa_reorder_destroy(fa_reorder *reorder);

#endif
