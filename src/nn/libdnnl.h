/*
 * libdnnl.h
 *		oneDNN without linking it: loaded when the first CPU engine is opened, so that a program or
 *		server starts without it, and only what needs it fails. Included in place of dnnl.h; the
 *		functions below have their own names and go through a table.
 */
#ifndef FA_LIBDNNL_H
#define FA_LIBDNNL_H

#include <dnnl.h>

#include "../fa.h"

/* clang-format off */
#define FA_DNNL_COMMON(X) \
	X(dnnl_engine_create) \
	X(dnnl_engine_destroy) \
	X(dnnl_get_effective_cpu_isa) \
	X(dnnl_memory_create) \
	X(dnnl_memory_desc_get_size) \
	X(dnnl_memory_destroy) \
	X(dnnl_memory_set_data_handle) \
	X(dnnl_post_ops_append_eltwise) \
	X(dnnl_post_ops_append_sum) \
	X(dnnl_post_ops_create) \
	X(dnnl_post_ops_destroy) \
	X(dnnl_primitive_attr_create) \
	X(dnnl_primitive_attr_destroy) \
	X(dnnl_primitive_attr_set_post_ops) \
	X(dnnl_primitive_attr_set_scratchpad_mode) \
	X(dnnl_primitive_create) \
	X(dnnl_primitive_desc_destroy) \
	X(dnnl_primitive_desc_query) \
	X(dnnl_primitive_desc_query_md) \
	X(dnnl_primitive_destroy) \
	X(dnnl_primitive_execute) \
	X(dnnl_reorder_primitive_desc_create) \
	X(dnnl_stream_create) \
	X(dnnl_stream_destroy) \
	X(dnnl_stream_wait) \
	X(dnnl_version)

#if DNNL_VERSION_MAJOR >= 3
#define FA_DNNL_OWN(X) \
	X(dnnl_convolution_backward_data_primitive_desc_create) \
	X(dnnl_convolution_backward_weights_primitive_desc_create) \
	X(dnnl_convolution_forward_primitive_desc_create) \
	X(dnnl_memory_desc_clone) \
	X(dnnl_memory_desc_create_with_blob) \
	X(dnnl_memory_desc_create_with_tag) \
	X(dnnl_memory_desc_destroy) \
	X(dnnl_memory_desc_get_blob)
#else
#define FA_DNNL_OWN(X) \
	X(dnnl_convolution_backward_data_desc_init) \
	X(dnnl_convolution_backward_weights_desc_init) \
	X(dnnl_convolution_forward_desc_init) \
	X(dnnl_memory_desc_init_by_tag) \
	X(dnnl_primitive_desc_create)
#endif

#define FA_DNNL_MEMBER(name) __typeof__(name) *(name);
typedef struct fa_dnnl_table
{
	FA_DNNL_COMMON(FA_DNNL_MEMBER)
	FA_DNNL_OWN(FA_DNNL_MEMBER)
} fa_dnnl_table;

extern fa_dnnl_table fa_dnnl;

/* Loads it, for good; FA_IO where it cannot be had. Any number of times. */
extern fa_status fa_dnnl_load(fa_error *error);

#ifndef FA_DNNL_NAMES_ALONE /* libdnnl.c */
#define dnnl_engine_create fa_dnnl.dnnl_engine_create
#define dnnl_engine_destroy fa_dnnl.dnnl_engine_destroy
#define dnnl_get_effective_cpu_isa fa_dnnl.dnnl_get_effective_cpu_isa
#define dnnl_memory_create fa_dnnl.dnnl_memory_create
#define dnnl_memory_desc_get_size fa_dnnl.dnnl_memory_desc_get_size
#define dnnl_memory_destroy fa_dnnl.dnnl_memory_destroy
#define dnnl_memory_set_data_handle fa_dnnl.dnnl_memory_set_data_handle
#define dnnl_post_ops_append_eltwise fa_dnnl.dnnl_post_ops_append_eltwise
#define dnnl_post_ops_append_sum fa_dnnl.dnnl_post_ops_append_sum
#define dnnl_post_ops_create fa_dnnl.dnnl_post_ops_create
#define dnnl_post_ops_destroy fa_dnnl.dnnl_post_ops_destroy
#define dnnl_primitive_attr_create fa_dnnl.dnnl_primitive_attr_create
#define dnnl_primitive_attr_destroy fa_dnnl.dnnl_primitive_attr_destroy
#define dnnl_primitive_attr_set_post_ops fa_dnnl.dnnl_primitive_attr_set_post_ops
#define dnnl_primitive_attr_set_scratchpad_mode fa_dnnl.dnnl_primitive_attr_set_scratchpad_mode
#define dnnl_primitive_create fa_dnnl.dnnl_primitive_create
#define dnnl_primitive_desc_destroy fa_dnnl.dnnl_primitive_desc_destroy
#define dnnl_primitive_desc_query fa_dnnl.dnnl_primitive_desc_query
#define dnnl_primitive_desc_query_md fa_dnnl.dnnl_primitive_desc_query_md
#define dnnl_primitive_destroy fa_dnnl.dnnl_primitive_destroy
#define dnnl_primitive_execute fa_dnnl.dnnl_primitive_execute
#define dnnl_reorder_primitive_desc_create fa_dnnl.dnnl_reorder_primitive_desc_create
#define dnnl_stream_create fa_dnnl.dnnl_stream_create
#define dnnl_stream_destroy fa_dnnl.dnnl_stream_destroy
#define dnnl_stream_wait fa_dnnl.dnnl_stream_wait
#define dnnl_version fa_dnnl.dnnl_version
#define dnnl_convolution_backward_data_primitive_desc_create fa_dnnl.dnnl_convolution_backward_data_primitive_desc_create
#define dnnl_convolution_backward_weights_primitive_desc_create fa_dnnl.dnnl_convolution_backward_weights_primitive_desc_create
#define dnnl_convolution_forward_primitive_desc_create fa_dnnl.dnnl_convolution_forward_primitive_desc_create
#define dnnl_memory_desc_clone fa_dnnl.dnnl_memory_desc_clone
#define dnnl_memory_desc_create_with_blob fa_dnnl.dnnl_memory_desc_create_with_blob
#define dnnl_memory_desc_create_with_tag fa_dnnl.dnnl_memory_desc_create_with_tag
#define dnnl_memory_desc_destroy fa_dnnl.dnnl_memory_desc_destroy
#define dnnl_memory_desc_get_blob fa_dnnl.dnnl_memory_desc_get_blob
#define dnnl_convolution_backward_data_desc_init fa_dnnl.dnnl_convolution_backward_data_desc_init
#define dnnl_convolution_backward_weights_desc_init fa_dnnl.dnnl_convolution_backward_weights_desc_init
#define dnnl_convolution_forward_desc_init fa_dnnl.dnnl_convolution_forward_desc_init
#define dnnl_memory_desc_init_by_tag fa_dnnl.dnnl_memory_desc_init_by_tag
#define dnnl_primitive_desc_create fa_dnnl.dnnl_primitive_desc_create
#endif
/* clang-format on */

#endif
