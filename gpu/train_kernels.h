/*
 * train_kernels.h
 *		The kernels of training, beside those of kernels.h, whose conventions they share: one
 *		kernel a call, or a few; parameters and their gradients fp32. Whatever sums over a batch
 *		does so in the same order every time: partial sums by blocks, then these in turn.
 */
#ifndef FA_GPU_TRAIN_KERNELS_H
#define FA_GPU_TRAIN_KERNELS_H

#include "../src/vision/augmentation.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C"
{
#endif

	/* --- Augmentation (augment.cu, jpeg_loss.cu)
	 * --------------------------------------------------- */

	/* An fa_augmented on the device. */
	typedef struct fa_gpu_augmented
	{
		fa_gpu_crop face; /* of `pixels` pixels to a side */
		uint64_t noise_key;
		int pixels, recolours, radius, quality;
		int32_t colours[3][3], offset,
			noise; /* noise: levels per unit of four bytes' sum, 1/65536 */
		float blur;
		uint8_t tones[256];
	} fa_gpu_augmented;

	/*
	 * Where they are on their way, each image with room for size x size pixels but only `pixels` to
	 * a row.
	 */
	typedef struct fa_gpu_studio
	{
		uint8_t *faces;  /* [count][size * size][3] */
		float *blurred;  /* as many */
		uint8_t *planes; /* [count][fa_gpu_plane_bytes(size)] */
	} fa_gpu_studio;

	/* Of an image's luma and its two planes of chroma, half as wide and high. */
	static inline size_t
	fa_gpu_plane_bytes(int size)
	{
		return (size_t) size * size + 2 * (size_t) ((size + 1) / 2) * ((size + 1) / 2);
	}

	/* pixels: [count, size, size, 3]; images: on the device */
	extern fa_status fa_gpu_augment(const fa_gpu_augmented *images, int count, int size,
									fa_blend blend, const fa_gpu_studio *studio, uint8_t *pixels,
									cudaStream_t stream, fa_error *error);
	/* Of it: what a JPEG of their quality makes of the studio's faces that have one. */
	extern fa_status fa_gpu_jpeg_loss(const fa_gpu_augmented *images, int count, int size,
									  const fa_gpu_studio *studio, cudaStream_t stream,
									  fa_error *error);

	/* --- Filters (filter.cu) ------------------------------------------------------------ */

	/* A filter [out, in, kernel, kernel] as the network has it, and padded for the device. */
	typedef struct fa_gpu_filter
	{
		int out, in, area; /* area: kernel * kernel */
	} fa_gpu_filter;

	/* fp32 as the network has it -> [padded out, area, padded in] of `type` */
	extern fa_status fa_gpu_pack_filter(const float *in, void *out, const fa_gpu_filter *filter,
										fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* and back */
	extern fa_status fa_gpu_unpack_filter(const void *in, float *out, const fa_gpu_filter *filter,
										  fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* fp32 [channels, area] -> fp32 [area, padded channels] */
	extern fa_status fa_gpu_pack_depthwise(const float *in, float *out, int channels, int area,
										   cudaStream_t stream, fa_error *error);

	/* --- Sums (sums.cu) --------------------------------------------------------------------- */

	/* Blocks that so many rows of so many padded channels are summed in; partial sums are
	 * blocks * columns. */
	extern int fa_gpu_sum_blocks(size_t rows, int channels);
	/*
	 * out[c * taps + t] = the sum over blocks of partials[block][t][c], for c < channels of the
	 * padded ones.
	 */
	extern fa_status fa_gpu_finish_sums(const float *partials, int blocks, int taps, int channels,
										float *out, cudaStream_t stream, fa_error *error);
	/* partials[block][c]: of rows */
	extern fa_status fa_gpu_column_sums(const void *in, size_t rows, int channels, float *partials,
										fa_gpu_type type, cudaStream_t stream, fa_error *error);

	/* --- Batch norm (norm.cu) ----------------------------------------------------------------- */

	/* What a batch norm works with; vectors of `channels`, the padded number. */
	typedef struct fa_gpu_norm
	{
		size_t rows;
		int channels;
		bool frozen; /* running statistics, which stay */
		float momentum, epsilon;
		const float *weight, *bias;
		float *running_mean, *running_var;
		float *saved;    /* 4 vectors: mean, 1 / deviation, gain, shift; of the last forward pass */
		float *partials; /* 2 * fa_gpu_sum_blocks() * channels */
		fa_gpu_activation activation; /* that has joined it: none, ReLU, ReLU6 */
	} fa_gpu_norm;

	/* Statistics, running ones, and the vectors saved; then out = activation(in * gain + shift). */
	extern fa_status fa_gpu_norm_forward(const fa_gpu_norm *norm, const void *in, void *out,
										 fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/*
	 * Ioffe, Szegedy 2015. dx may be dy, or NULL. means: 2 vectors, overwritten; d_weight and
	 * d_bias, of `real` channels, may be NULL.
	 */
	extern fa_status fa_gpu_norm_backward(const fa_gpu_norm *norm, const void *x, const void *dy,
										  void *dx, float *means, float *d_weight, float *d_bias,
										  int real, fa_gpu_type type, cudaStream_t stream,
										  fa_error *error);

	/* --- Depthwise (depthwise_backward.cu) ------------------------------------------------------
	 */

	extern fa_status fa_gpu_depthwise_backward_data(const void *dy, const float *filter, void *dx,
													const fa_gpu_window *window, fa_gpu_type type,
													cudaStream_t stream, fa_error *error);
	/* partials[block][tap][channel], blocks = fa_gpu_sum_blocks(output pixels, kernel^2 * channels)
	 */
	extern fa_status fa_gpu_depthwise_backward_filter(const void *x, const void *dy,
													  float *partials, const fa_gpu_window *window,
													  fa_gpu_type type, cudaStream_t stream,
													  fa_error *error);

	/* --- Convolution, where cuDNN has no plan (convolution_backward.cu) --------------------------
	 */

	/* As fa_gpu_convolution: window.channels of dy, in_channels of dx. */
	extern fa_status fa_gpu_convolution_backward_data(const void *dy, const void *filter, void *dx,
													  const fa_gpu_window *window, int in_channels,
													  fa_gpu_type type, cudaStream_t stream,
													  fa_error *error);
	extern fa_status fa_gpu_convolution_backward_filter(const void *x, const void *dy,
														void *d_filter, const fa_gpu_window *window,
														int in_channels, fa_gpu_type type,
														cudaStream_t stream, fa_error *error);

	/* --- The rest (pointwise_backward.cu, pooling_backward.cu)
	 * -------------------------------------- */

	/* From the activation's result; dx may be dy. */
	extern fa_status fa_gpu_activation_backward(const void *y, const void *dy, void *dx,
												size_t count, fa_gpu_activation activation,
												fa_gpu_type type, cudaStream_t stream,
												fa_error *error);
	/* The factors' gradient: the sum of in * dy over each image. */
	extern fa_status fa_gpu_scale_backward(const void *in, const void *dy, void *d_factors, int n,
										   int area, int channels, fa_gpu_type type,
										   cudaStream_t stream, fa_error *error);
	/*
	 * As fa_kernel_dropout of the CPU engine: the same values are dropped, which an index without
	 * padding numbers. *key: on the device. In place allowed; backward is the same call.
	 */
	extern fa_status fa_gpu_dropout(const void *in, void *out, size_t pixels, int channels,
									float rate, const uint64_t *key, uint64_t operation,
									fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* fp32 [pixels, channels] * factor -> [pixels, padded channels], padded with zeros */
	extern fa_status fa_gpu_pad(const float *in, void *out, size_t pixels, int channels,
								fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* The first maximum of a window receives its gradient. */
	extern fa_status fa_gpu_max_pool_backward(const void *in, const void *out, const void *dy,
											  void *dx, const fa_gpu_window *window,
											  fa_gpu_type type, cudaStream_t stream,
											  fa_error *error);
	extern fa_status fa_gpu_average_pool_backward(const void *dy, void *dx, int n, int area,
												  int channels, fa_gpu_type type,
												  cudaStream_t stream, fa_error *error);
	/* height, width: of dx, half of dy's */
	extern fa_status fa_gpu_upsample_backward(const void *dy, void *dx, int n, int height,
											  int width, int channels, fa_gpu_type type,
											  cudaStream_t stream, fa_error *error);

	/* --- The optimiser (optimizer.cu)
	 * --------------------------------------------------------------- */

	/* Of every FA_GPU_GROUP values of a block: to what parameter's rules they are subject. */
#define FA_GPU_GROUP 16
	typedef struct fa_gpu_rule
	{
		float rate;   /* factor of the learning rate; 0: these do not learn */
		float decay;  /* factor of the weight decay: 0 or 1 */
		float follow; /* factor of the moving average: 0 where it stays */
	} fa_gpu_rule;

	typedef struct fa_gpu_step_size
	{
		int skip;      /* everything stays as it is */
		int optimizer; /* an fa_optimizer */
		float learning_rate, beta1, beta2, epsilon, weight_decay;
		float correction1, correction2; /* 1 - beta ^ step */
		float scale;                    /* of gradients: clipping, and the loss's scale undone */
		float ema;                      /* 1 - decay of the moving average; 0: none */
	} fa_gpu_step_size;

#define FA_GPU_SQUARES 65536 /* values of which one sum of squares is made */
	static inline size_t
	fa_gpu_square_sums(size_t count)
	{
		return (count + FA_GPU_SQUARES - 1) / FA_GPU_SQUARES;
	}

	/* sums[i]: of values i * FA_GPU_SQUARES and up, of those that learn; partials: count / 256 */
	extern fa_status fa_gpu_squares(const float *gradients, const fa_gpu_rule *rules, size_t count,
									float *partials, double *sums, cudaStream_t stream,
									fa_error *error);
	/* step: on the device */
	extern fa_status fa_gpu_optimize(const fa_gpu_step_size *step, const fa_gpu_rule *rules,
									 float *weights, float *average, float *moment1, float *moment2,
									 const float *gradients, size_t count, cudaStream_t stream,
									 fa_error *error);

#ifdef __cplusplus
}
#endif

#endif
