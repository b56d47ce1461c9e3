/*
 * device.cuh
 *		What the kernels share: eight channels at a time as fp32, activations, and the
 *		launch. Kernels are written so that a host compiler takes them as well: the tests
 *		run them on an emulated device, which brings its own FA_LAUNCH and looks at every value
 *		that is read.
 */
#ifndef FA_GPU_DEVICE_CUH
#define FA_GPU_DEVICE_CUH

#include "kernels.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>

#define FA_THREADS 256 /* of a block */

#ifdef __CUDACC__
#define FA_LAUNCH(kernel, blocks, threads, stream, ...)                                            \
	kernel<<<blocks, threads, 0, stream>>>(__VA_ARGS__)
#endif

/* `launch` once with T as the type that `type` names. */
#define FA_BY_TYPE(type, launch)                                                                   \
	do                                                                                             \
	{                                                                                              \
		if ((type) == FA_GPU_FP16)                                                                 \
		{                                                                                          \
			typedef __half T;                                                                      \
			launch;                                                                                \
		}                                                                                          \
		else if ((type) == FA_GPU_BF16)                                                            \
		{                                                                                          \
			typedef __nv_bfloat16 T;                                                               \
			launch;                                                                                \
		}                                                                                          \
		else                                                                                       \
		{                                                                                          \
			typedef float T;                                                                       \
			launch;                                                                                \
		}                                                                                          \
	} while (0)

#define FA_LAUNCHED(error) fa_gpu_status(cudaGetLastError(), "to start a kernel", error)

static inline unsigned
fa_blocks(size_t threads)
{
	return (unsigned) ((threads + FA_THREADS - 1) / FA_THREADS);
}

/* The index of a thread among all. */
#define FA_INDEX ((size_t) blockIdx.x * blockDim.x + threadIdx.x)

__device__ inline float
fa_to_float(float value)
{
	return value;
}

__device__ inline float
fa_to_float(__half value)
{
	return __half2float(value);
}

__device__ inline float
fa_to_float(__nv_bfloat16 value)
{
	return __bfloat162float(value);
}

__device__ inline void
fa_from_float(float value, float *to)
{
	*to = value;
}

__device__ inline void
fa_from_float(float value, __half *to)
{
	const __half half = __float2half_rn(value); /* or GCC does not see the store (emulation.h) */

	*to = half;
}

__device__ inline void
fa_from_float(float value, __nv_bfloat16 *to)
{
	const __nv_bfloat16 half = __float2bfloat16_rn(value);

	*to = half;
}

/* Eight values as the memory system likes them: 16 bytes at a time. */
template <typename T> struct alignas(16) fa_eight
{
	T values[8];
};

template <typename T>
__device__ inline void
fa_load(const T *from, float values[8])
{
	const fa_eight<T> eight = *reinterpret_cast<const fa_eight<T> *>(from);

	for (int i = 0; i < 8; i++)
		values[i] = fa_to_float(eight.values[i]);
}

template <typename T>
__device__ inline void
fa_store(T *to, const float values[8])
{
	fa_eight<T> eight;

	for (int i = 0; i < 8; i++)
		fa_from_float(values[i], &eight.values[i]);
	*reinterpret_cast<fa_eight<T> *>(to) = eight;
}

__device__ inline float
fa_activate(float x, fa_gpu_activation activation)
{
	switch (activation)
	{
		case FA_GPU_RELU:
			return fmaxf(x, 0.0f);
		case FA_GPU_RELU6:
			return fminf(fmaxf(x, 0.0f), 6.0f);
		case FA_GPU_SIGMOID:
			return 1.0f / (1.0f + expf(-x));
		default:
			return x;
	}
}

/* Steele, Lea, Flood 2014: the number after x of a sequence that src/random.h has, too. */
__device__ inline uint64_t
fa_split_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Where a thread of a kernel with one thread for every eight channels of every pixel is. */
struct fa_place
{
	int channel, x, y, n;
};

__device__ inline bool
fa_place_of(size_t index, int n, int height, int width, int channels, fa_place *place)
{
	int groups = channels / FA_GPU_CHANNELS;

	place->channel = (int) (index % groups) * FA_GPU_CHANNELS;
	index /= groups;
	place->x = (int) (index % width);
	index /= width;
	place->y = (int) (index % height);
	place->n = (int) (index / height);
	return place->n < n;
}

__device__ inline size_t
fa_offset(int n, int y, int x, int channel, int height, int width, int channels)
{
	return (((size_t) n * height + y) * width + x) * channels + channel;
}

#endif
