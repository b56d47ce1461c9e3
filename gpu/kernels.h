/*
 * kernels.h
 *		The engine's own kernels: everything that is not a convolution of cuDNN's, and
 *		one that is, for what cuDNN refuses. Each function starts one kernel on a stream
 *		and returns at once. Tensors are as in gpu.h: `channels` is the padded number
 *		unless it says otherwise; parameters are fp32, as is all arithmetic.
 */
#ifndef FA_GPU_KERNELS_H
#define FA_GPU_KERNELS_H

#include "../src/nn/detect.h"
#include "gpu.h"

#ifdef __cplusplus
extern "C"
{
#endif

	/* A window's geometry; what lies outside the input is zero, or never the maximum. */
	typedef struct fa_gpu_window
	{
		int n, in_h, in_w, out_h, out_w, channels;
		int kernel, stride, pad_top, pad_left;
	} fa_gpu_window;

	/* What bytes become: (value - mean) * scale, in the network's channel order. */
	typedef struct fa_gpu_input_form
	{
		bool bgr;
		float mean[3], scale[3];
	} fa_gpu_input_form;

	/* An image on the device: R G B, `stride` bytes from row to row. */
	typedef struct fa_gpu_image
	{
		const uint8_t *pixels;
		size_t stride;
		int width, height;
	} fa_gpu_image;

	/* A crop as fa_warp makes it: the mean of samples x samples values for every pixel. */
	typedef struct fa_gpu_crop
	{
		fa_gpu_image source;
		int samples;
		double a, b, c, d, e, f; /* its fa_affine */
	} fa_gpu_crop;
#define FA_GPU_CROPS 32 /* at once */

	/* FA_UNSUPPORTED where the library has no code for the device. */
	extern fa_status fa_gpu_find_code(fa_error *error);
	/* The pass's canvas, [height, width, 3], R G B */
	extern fa_status fa_gpu_letterbox(const fa_gpu_image *photo, const fa_detect_pass *pass,
									  uint8_t *canvas, cudaStream_t stream, fa_error *error);
	/* [count, height, width, 3], R G B; count at most FA_GPU_CROPS */
	extern fa_status fa_gpu_warp(const fa_gpu_crop *crops, int count, int height, int width,
								 uint8_t *pixels, cudaStream_t stream, fa_error *error);

	/* A detection, and its place among all cells of all passes. */
	typedef struct fa_gpu_candidate
	{
		fa_detection detection;
		int64_t cell;
	} fa_gpu_candidate;

	/* How many have been found, more than there is room for, say, and how many are kept. */
	typedef struct fa_gpu_found
	{
		int found, kept;
	} fa_gpu_found;
#define FA_GPU_CANDIDATES 16384 /* room for them */

	/*
	 * Adds a level's detections: maps [cells, 1], [cells, 1], [cells, 4] and [cells, 10] in fp32.
	 * first: the number of its first cell.
	 */
	extern fa_status fa_gpu_detect(const fa_detect_pass *pass, int stride,
								   const float *const maps[4], float min_score, int64_t first,
								   fa_gpu_candidate *candidates, fa_gpu_found *found,
								   cudaStream_t stream, fa_error *error);
	/* The best FA_DETECT_CANDIDATES of them, best first. */
	extern fa_status fa_gpu_sort(const fa_gpu_candidate *candidates, const fa_gpu_found *found,
								 fa_detection *sorted, cudaStream_t stream, fa_error *error);
	/* Those that no better one suppresses, best first. dropped: a byte for each, zero. */
	extern fa_status fa_gpu_suppress(const fa_detection *sorted, uint8_t *dropped,
									 fa_detection *kept, fa_gpu_found *found, cudaStream_t stream,
									 fa_error *error);

	/* [pixels, 3] R G B -> [pixels, 8], padded with zeros */
	extern fa_status fa_gpu_input(const uint8_t *rgb, void *out, size_t pixels,
								  const fa_gpu_input_form *form, fa_gpu_type type,
								  cudaStream_t stream, fa_error *error);
	/* to the type of activations */
	extern fa_status fa_gpu_cast(const float *in, void *out, size_t count, fa_gpu_type type,
								 cudaStream_t stream, fa_error *error);
	/* [pixels, padded channels] -> fp32 [pixels, channels] without padding */
	extern fa_status fa_gpu_output(const void *in, float *out, size_t pixels, int channels,
								   fa_gpu_type type, cudaStream_t stream, fa_error *error);

	/* filter: fp32 [kernel, kernel, channels] */
	extern fa_status fa_gpu_depthwise(const void *in, const float *filter, const float *bias,
									  void *out, const fa_gpu_window *window,
									  fa_gpu_activation activation, fa_gpu_type type,
									  cudaStream_t stream, fa_error *error);
	/* filter: [window.channels, kernel, kernel, in_channels] of `type`; out has window.channels */
	extern fa_status fa_gpu_convolution(const void *in, const void *filter, void *out,
										const fa_gpu_window *window, int in_channels,
										fa_gpu_type type, cudaStream_t stream, fa_error *error);
	extern fa_status fa_gpu_max_pool(const void *in, void *out, const fa_gpu_window *window,
									 fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* [n, area, channels] -> [n, channels] */
	extern fa_status fa_gpu_average_pool(const void *in, void *out, int n, int area, int channels,
										 fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/*
	 * out = activation(in * gain + shift + added), [pixels, channels]; gain and shift per channel.
	 * Each of gain, shift and added may be NULL; out may be in or added.
	 */
	extern fa_status fa_gpu_affine(const void *in, const float *gain, const float *shift,
								   const void *added, void *out, size_t pixels, int channels,
								   fa_gpu_activation activation, fa_gpu_type type,
								   cudaStream_t stream, fa_error *error);
	/* out = activation(in * factors + added): in [n, area, channels], factors [n, channels] */
	extern fa_status fa_gpu_scale(const void *in, const void *factors, const void *added, void *out,
								  int n, int area, int channels, fa_gpu_activation activation,
								  fa_gpu_type type, cudaStream_t stream, fa_error *error);
	/* [n, height, width, channels], twice as high and wide */
	extern fa_status fa_gpu_upsample(const void *in, void *out, int n, int height, int width,
									 int channels, fa_gpu_type type, cudaStream_t stream,
									 fa_error *error);

#ifdef __cplusplus
}
#endif

#endif
