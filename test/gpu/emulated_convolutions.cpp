/*
 * emulated_convolutions.cpp
 *		Convolutions and pointwise operations on the emulated device, by their definitions; see
 *		emulated_cudnn.h.
 */
#include "emulated_cudnn.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

static double tensor_core_cost = 1, plain_cost = 2;

void
emulated_plan_costs(double tensor_cores, double plain)
{
	tensor_core_cost = tensor_cores;
	plain_cost = plain;
}

size_t
bytes_of(const tensor &t)
{
	return t.count() * (t.type == CUDNN_DATA_FLOAT ? 4 : 2);
}

static float
read(const void *address, size_t i, cudnnDataType_t type)
{
	if (type == CUDNN_DATA_HALF)
		return __half2float(((const __half *) address)[i]);
	if (type == CUDNN_DATA_BFLOAT16)
		return __bfloat162float(((const __nv_bfloat16 *) address)[i]);
	return ((const float *) address)[i];
}

static void
write(void *address, size_t i, cudnnDataType_t type, float value)
{
	if (type == CUDNN_DATA_HALF)
		((__half *) address)[i] = __float2half_rn(value);
	else if (type == CUDNN_DATA_BFLOAT16)
		((__nv_bfloat16 *) address)[i] = __float2bfloat16_rn(value);
	else
		((float *) address)[i] = value;
}

/* Ten bits of fraction, to nearest. */
static float
tf32(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, 4);
	bits = (bits + 0xfff + ((bits >> 13) & 1)) & ~0x1fffu;
	memcpy(&value, &bits, 4);
	return value;
}

typedef std::map<int64_t, std::vector<float>> tensor_values;

/* What it reads has been checked as a whole. */
__attribute__((no_sanitize("address", "undefined"))) static void
read_all(const void *from, cudnnDataType_t type, bool rounds, float *to, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		to[i] = read(from, i, type);
		if (rounds)
			to[i] = tf32(to[i]);
	}
}

static std::vector<float>
load(const tensor &t, const tensor_values &between, const tensor_addresses &addresses, bool rounds)
{
	std::vector<float> loaded;

	if (t.is_virtual)
		return between.at(t.id);
	loaded.resize(t.count());
	emulated_touch(addresses.at(t.id), bytes_of(t), false);
	read_all(addresses.at(t.id), t.type, rounds, loaded.data(), loaded.size());
	return loaded;
}

/*
 * The one loop that takes time: unchecked, what it reads having been checked as a whole; in
 * eight sums, channels being padded to a multiple of that.
 */
__attribute__((no_sanitize("address", "undefined"))) static float
dot(const float *a, const float *b, int64_t count)
{
	float sums[8] = {0}, sum = 0;

	for (int64_t i = 0; i < count; i += 8)
		for (int k = 0; k < 8; k++)
			sums[k] += a[i + k] * b[i + k];
	for (float s : sums)
		sum += s;
	return sum;
}

/* to += factor * from, as unchecked and for the same reason. */
__attribute__((no_sanitize("address", "undefined"))) static void
add(float *to, const float *from, float factor, int64_t count)
{
	for (int64_t i = 0; i < count; i++)
		to[i] += factor * from[i];
}

/*
 * Every product of a convolution once: of pixel x, filter tap w and pixel y, of which one is
 * what is summed up. x, w and y as in the forward convolution.
 */
static void
convolve(const operation &o, const std::vector<float> &first, const std::vector<float> &second,
		 std::vector<float> &result)
{
	const tensor &tx = o.direction == 1 ? o.y : o.x, &ty = o.direction == 0   ? o.y
														   : o.direction == 1 ? o.x
																			  : o.other;
	const tensor &tw = o.direction == 2 ? o.y : o.other;
	int64_t in = tx.size[1], out = ty.size[1], kh = tw.size[2], kw = tw.size[3];

	std::fill(result.begin(), result.end(), 0.0f);
	for (int64_t n = 0; n < ty.size[0]; n++)
		for (int64_t oy = 0; oy < ty.size[2]; oy++)
			for (int64_t ox = 0; ox < ty.size[3]; ox++)
				for (int64_t c = 0; c < out; c++)
				{
					int64_t at = ((n * ty.size[2] + oy) * ty.size[3] + ox) * out + c;

					for (int64_t ky = 0; ky < kh; ky++)
						for (int64_t kx = 0; kx < kw; kx++)
						{
							int64_t iy = oy * o.stride[0] - o.begin[0] + ky;
							int64_t ix = ox * o.stride[1] - o.begin[1] + kx;
							int64_t x = ((n * tx.size[2] + iy) * tx.size[3] + ix) * in;
							int64_t w = ((c * kh + ky) * kw + kx) * in;

							if (iy < 0 || iy >= tx.size[2] || ix < 0 || ix >= tx.size[3])
								continue;
							if (o.direction == 0)
								result[at] += dot(&first[x], &second[w], in);
							else if (o.direction == 1)
								add(&result[x], &second[w], first[at], in);
							else
								add(&result[w], &first[x], second[at], in);
						}
				}
}

static float
pointwise(const operation &o, float x, float other)
{
	switch (o.mode)
	{
		case CUDNN_POINTWISE_ADD:
			return x + other;
		case CUDNN_POINTWISE_RELU_FWD:
			x = x > 0 ? x : 0;
			return o.clip > 0 && x > o.clip ? (float) o.clip : x;
		case CUDNN_POINTWISE_SIGMOID_FWD:
			return 1 / (1 + expf(-x));
		default:
			emulated_complain("a pointwise operation that is not emulated: %d", o.mode);
	}
}

void
execute(const operation_graph &graph, engine_kind engine, const tensor_addresses &addresses,
		void *workspace)
{
	tensor_values between;

	emulated_convolved();
	emulated_spend(engine == TENSOR_CORES ? tensor_core_cost : plain_cost);
	emulated_touch(workspace, WORKSPACE, true);
	memset(workspace, 0xff, WORKSPACE);
	for (const operation &o : graph.operations)
	{
		bool rounds = engine == TENSOR_CORES && o.convolves && o.x.type == CUDNN_DATA_FLOAT;
		std::vector<float> x = load(o.x, between, addresses, rounds), other, y(o.y.count());

		if (o.convolves || o.mode == CUDNN_POINTWISE_ADD)
			other = load(o.other, between, addresses, rounds);
		if (o.convolves)
			convolve(o, x, other, y);
		else /* NHWC: one value a channel repeats */
			for (size_t i = 0; i < y.size(); i++)
				y[i] = pointwise(o, x[i], other.empty() ? 0 : other[i % other.size()]);
		if (o.y.is_virtual)
			between[o.y.id] = y;
		else
		{
			emulated_touch(addresses.at(o.y.id), bytes_of(o.y), true);
			for (size_t i = 0; i < y.size(); i++)
				write(addresses.at(o.y.id), i, o.y.type, y[i]);
		}
	}
}
