/*
 * kernels.h
 *		The CPU engine's own loops: everything that is not a convolution. Tensors
 *		are NHWC, seen as rows x channels; `type` is that of the activations, while
 *		parameters and their gradients are fp32. Backward kernels overwrite their
 *		result unless they say "adds".
 *
 * Compiled for AVX-512, AVX2 and plain x86-64 alike, the processor choosing when
 * the library is loaded.
 */
#ifndef FA_KERNELS_H
#define FA_KERNELS_H

#include "onednn.h"

#define FA_MAX_CHANNELS                                                                            \
	4096 /* of a batch norm in training, and of a scale: fa_plan_make checks                       \
		  */

/* A window's geometry, as in fa_op. */
typedef struct fa_pool_window
{
	int n, in_h, in_w, out_h, out_w, channels;
	int kernel, stride, pad_top, pad_left;
} fa_pool_window;

static inline size_t
fa_act_size(fa_act_type type)
{
	return type == FA_ACT_BF16 ? 2 : 4;
}

extern void fa_kernel_to_float(const void *in, float *out, size_t count, fa_act_type type);
extern void fa_kernel_from_float(const float *in, void *out, size_t count, fa_act_type type);
/* out += in */
extern void fa_kernel_accumulate(const void *in, void *out, size_t count, fa_act_type type);

/* bytes R G B -> (value - mean) * scale in the network's channel order */
extern void fa_kernel_input(const uint8_t *rgb, void *out, size_t pixels, bool bgr,
							const float mean[3], const float scale[3], fa_act_type type);

/*
 * out = activation(in * a + b + added), a and b per channel, `added` of in's shape and type or
 * NULL; in place allowed. Activations: none, ReLU, ReLU6.
 */
extern void fa_kernel_affine(const void *in, const void *added, void *out, size_t rows,
							 int channels, const float *a, const float *b, fa_activation activation,
							 fa_act_type type);
/* mean and biased variance over the rows */
extern void fa_kernel_statistics(const void *in, size_t rows, int channels, float *mean,
								 float *variance, fa_act_type type);

/*
 * Backward of y = activation((x - mean) * inv_std * weight + bias), activation
 * none, ReLU or ReLU6. dx may be dy. frozen: mean and inv_std are
 * constants; else they came from x (Ioffe, Szegedy 2015).
 */
extern void fa_kernel_batch_norm_backward(const void *x, const void *dy, void *dx, size_t rows,
										  int channels, const float *mean, const float *inv_std,
										  const float *weight, const float *bias,
										  fa_activation activation, bool frozen, float *d_weight,
										  float *d_bias, fa_act_type type);

/*
 * out = activation(in * factors + added): in [n, area, channels], factors [n, channels] of a
 * type of their own, `added` of in's shape and type or NULL; in place allowed.
 */
extern void fa_kernel_scale(const void *in, const void *factors, fa_act_type factors_type,
							const void *added, void *out, int n, size_t area, int channels,
							fa_activation activation, fa_act_type type);
/* The factors' gradient: the sum of in * dy over each image. */
extern void fa_kernel_scale_backward(const void *in, const void *dy, void *d_factors,
									 fa_act_type factors_type, int n, size_t area, int channels,
									 fa_act_type type);

extern void fa_kernel_activation(const void *in, void *out, size_t count, fa_activation activation,
								 fa_act_type type);
/* From the activation's result y; dx may be dy. */
extern void fa_kernel_activation_backward(const void *y, const void *dy, void *dx, size_t count,
										  fa_activation activation, fa_act_type type);

/* padding never wins a maximum */
extern void fa_kernel_max_pool(const void *in, void *out, const fa_pool_window *window,
							   fa_act_type type);
/* dx is zeroed first; the first maximum of a window receives its gradient */
extern void fa_kernel_max_pool_backward(const void *in, const void *out, const void *dy, void *dx,
										const fa_pool_window *window, fa_act_type type);

/* [n, area, channels] -> fp32 [n, channels] */
extern void fa_kernel_average(const void *in, float *out, int n, size_t area, int channels,
							  fa_act_type type);
extern void fa_kernel_average_backward(const float *dy, void *dx, int n, size_t area, int channels,
									   fa_act_type type);

extern void fa_kernel_add(const void *left, fa_act_type left_type, const void *right,
						  fa_act_type right_type, void *out, size_t count, fa_act_type type);
/* in: [n, height, width, channels]; out twice as high and wide */
extern void fa_kernel_upsample(const void *in, void *out, int n, int height, int width,
							   int channels, fa_act_type type);
extern void fa_kernel_upsample_backward(const void *dy, void *dx, int n, int height, int width,
										int channels, fa_act_type type);

/*
 * Zeroes a share `rate` of the values and scales the rest by 1 / (1 - rate).
 * Which ones follows from key and index alone, so that backward (the same call
 * on the gradient) needs no stored mask. In place allowed.
 */
extern void fa_kernel_dropout(const void *in, void *out, size_t count, float rate, uint64_t key,
							  fa_act_type type);

#endif
