/*
 * gpu.h
 *		What the CUDA engine's files share: the types on the device, the engine, and
 *		CUDA's errors as values.
 *
 * Tensors on the device are NHWC with the channels padded to a multiple of 8, so that
 * every pixel is aligned for vector loads and tensor cores whatever a layer's width.
 * Padded channels hold numbers that no one uses: filters are zero there.
 */
#ifndef FA_GPU_H
#define FA_GPU_H

#ifdef __cplusplus
extern "C"
{
#endif

#include "../src/fa.h"

#include <cuda_runtime_api.h>

	typedef enum fa_gpu_type
	{
		FA_GPU_FP32,
		FA_GPU_FP16,
		FA_GPU_BF16
	} fa_gpu_type;

	typedef enum fa_gpu_activation
	{
		FA_GPU_NONE,
		FA_GPU_RELU,
		FA_GPU_RELU6,
		FA_GPU_SIGMOID
	} fa_gpu_activation;

#define FA_GPU_CHANNELS 8 /* a pixel's channels are padded to a multiple of this */

	static inline int
	fa_gpu_padded(int channels)
	{
		return (channels + FA_GPU_CHANNELS - 1) / FA_GPU_CHANNELS * FA_GPU_CHANNELS;
	}

	static inline size_t
	fa_gpu_size(fa_gpu_type type)
	{
		return type == FA_GPU_FP32 ? 4 : 2;
	}

	/* FA_OK, or an error that tells CUDA's own name and words for it. */
	extern fa_status fa_gpu_status(cudaError_t code, const char *doing, fa_error *error);

	/*
	 * What is put on the stream between them becomes a graph. started: how that went; *whole is
	 * NULL after a failure.
	 */
	extern fa_status fa_gpu_begin_capture(cudaStream_t stream, fa_error *error);
	extern fa_status fa_gpu_end_capture(cudaStream_t stream, fa_status started,
										cudaGraphExec_t *whole, fa_error *error);

#ifdef __cplusplus
}
#endif

#endif
