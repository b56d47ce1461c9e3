/*
 * kernels.c
 *		The CPU engine's own loops; see kernels.h.
 *
 * Each kernel is an always-inlined body with the type of the activations as a
 * constant, called once for fp32 and once for bf16 by a function that the
 * compiler clones per instruction set. Channels are the innermost dimension and
 * what the loops vectorise over.
 */
#include "kernels.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && !defined(__clang__)
#define FA_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FA_CLONES
#endif
#define FA_BODY static inline __attribute__((always_inline))

/* Calls body(arguments..., type) with type a constant. */
#define FA_BY_TYPE(type, body, ...)                                                                \
	do                                                                                             \
	{                                                                                              \
		if ((type) == FA_ACT_BF16)                                                                 \
			body(__VA_ARGS__, FA_ACT_BF16);                                                        \
		else                                                                                       \
			body(__VA_ARGS__, FA_ACT_F32);                                                         \
	} while (0)

#define BLOCK_ROWS 64     /* rows summed in fp32 before they join a double */
#define MAX_CHANNELS 4096 /* of a batch norm: checked when a network is compiled */

FA_BODY float
load(const void *data, size_t i, fa_act_type type)
{
	uint32_t bits;
	float value;

	if (type == FA_ACT_F32)
		return ((const float *) data)[i];
	bits = (uint32_t) ((const uint16_t *) data)[i] << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Round to nearest even; values here are finite. */
FA_BODY void
store(void *data, size_t i, float value, fa_act_type type)
{
	uint32_t bits;

	if (type == FA_ACT_F32)
	{
		((float *) data)[i] = value;
		return;
	}
	memcpy(&bits, &value, sizeof(bits));
	((uint16_t *) data)[i] = (uint16_t) ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

FA_BODY float
activate(float value, fa_activation activation)
{
	if (activation == FA_ACTIVATION_RELU || activation == FA_ACTIVATION_RELU6)
		value = value > 0.0f ? value : 0.0f;
	if (activation == FA_ACTIVATION_RELU6)
		value = value < 6.0f ? value : 6.0f;
	return value;
}

static const void *
offset(const void *data, size_t elements, fa_act_type type)
{
	return (const char *) data + elements * fa_act_size(type);
}

static void *
offset_out(void *data, size_t elements, fa_act_type type)
{
	return (char *) data + elements * fa_act_size(type);
}

/* ---- Conversions ------------------------------------------------------------- */

FA_CLONES void
fa_kernel_to_float(const void *in, float *out, size_t count, fa_act_type type)
{
	if (type == FA_ACT_F32)
		memcpy(out, in, count * sizeof(float));
	else
		for (size_t i = 0; i < count; i++)
			out[i] = load(in, i, FA_ACT_BF16);
}

FA_CLONES void
fa_kernel_from_float(const float *in, void *out, size_t count, fa_act_type type)
{
	if (type == FA_ACT_F32)
		memcpy(out, in, count * sizeof(float));
	else
		for (size_t i = 0; i < count; i++)
			store(out, i, in[i], FA_ACT_BF16);
}

FA_BODY void
add_body(const void *left, fa_act_type left_type, const void *right, fa_act_type right_type,
		 void *out, size_t count, fa_act_type type)
{
	for (size_t i = 0; i < count; i++)
		store(out, i, load(left, i, left_type) + load(right, i, right_type), type);
}

FA_CLONES void
fa_kernel_add(const void *left, fa_act_type left_type, const void *right, fa_act_type right_type,
			  void *out, size_t count, fa_act_type type)
{
	if (left_type != type || right_type != type)
		add_body(left, left_type, right, right_type, out, count, type);
	else if (type == FA_ACT_BF16)
		add_body(left, FA_ACT_BF16, right, FA_ACT_BF16, out, count, FA_ACT_BF16);
	else
		add_body(left, FA_ACT_F32, right, FA_ACT_F32, out, count, FA_ACT_F32);
}

void
fa_kernel_accumulate(const void *in, void *out, size_t count, fa_act_type type)
{
	fa_kernel_add(in, type, out, type, out, count, type);
}

/*
 * 16 pixels are 48 bytes, a whole number of vectors: the channel of byte i of
 * such a group is a constant, so the reversal is one shuffle.
 */
FA_BODY void
input_body(const uint8_t *restrict rgb, void *restrict out, size_t pixels, bool bgr,
		   const float *restrict mean, const float *restrict scale, fa_act_type type)
{
	float means[48], scales[48];
	size_t p = 0;

	for (int i = 0; i < 48; i++)
	{
		means[i] = mean[i % 3];
		scales[i] = scale[i % 3];
	}
	for (; p + 16 <= pixels; p += 16)
	{
		uint8_t group[48];

		memcpy(group, rgb + 3 * p, 48);
		if (bgr)
			for (int i = 0; i < 48; i += 3)
			{
				uint8_t red = group[i];

				group[i] = group[i + 2];
				group[i + 2] = red;
			}
		for (int i = 0; i < 48; i++)
			store(out, 3 * p + i, ((float) group[i] - means[i]) * scales[i], type);
	}
	for (; p < pixels; p++)
		for (int c = 0; c < 3; c++)
			store(out, 3 * p + c, ((float) rgb[3 * p + (bgr ? 2 - c : c)] - mean[c]) * scale[c],
				  type);
}

FA_CLONES void
fa_kernel_input(const uint8_t *rgb, void *out, size_t pixels, bool bgr, const float mean[3],
				const float scale[3], fa_act_type type)
{
	FA_BY_TYPE(type, input_body, rgb, out, pixels, bgr, mean, scale);
}

/* ---- Batch norm and activations ---------------------------------------------- */

FA_BODY void
affine_body(const void *in, void *out, size_t rows, int channels, const float *restrict a,
			const float *restrict b, fa_activation activation, fa_act_type type)
{
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
			store(out, r * channels + c,
				  activate(load(in, r * channels + c, type) * a[c] + b[c], activation), type);
}

FA_CLONES static void
affine_rows(const void *in, void *out, size_t rows, int channels, const float *a, const float *b,
			fa_activation activation, fa_act_type type)
{
	if (activation == FA_ACTIVATION_RELU6)
		FA_BY_TYPE(type, affine_body, in, out, rows, channels, a, b, FA_ACTIVATION_RELU6);
	else if (activation == FA_ACTIVATION_RELU)
		FA_BY_TYPE(type, affine_body, in, out, rows, channels, a, b, FA_ACTIVATION_RELU);
	else
		FA_BY_TYPE(type, affine_body, in, out, rows, channels, a, b, FA_ACTIVATION_NONE);
}

void
fa_kernel_affine(const void *in, void *out, size_t rows, int channels, const float *a,
				 const float *b, fa_activation activation, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (size_t r = 0; r < rows; r += BLOCK_ROWS)
	{
		size_t n = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;

		affine_rows(offset(in, r * channels, type), offset_out(out, r * channels, type), n,
					channels, a, b, activation, type);
	}
}

FA_BODY void
sums_body(const void *restrict in, size_t rows, int channels, float *restrict sum,
		  float *restrict square, fa_act_type type)
{
	memset(sum, 0, channels * sizeof(float));
	memset(square, 0, channels * sizeof(float));
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
		{
			float value = load(in, r * channels + c, type);

			sum[c] += value;
			square[c] += value * value;
		}
}

FA_CLONES static void
sums(const void *in, size_t rows, int channels, float *sum, float *square, fa_act_type type)
{
	FA_BY_TYPE(type, sums_body, in, rows, channels, sum, square);
}

void
fa_kernel_statistics(const void *in, size_t rows, int channels, float *mean, float *variance,
					 fa_act_type type)
{
	double total[MAX_CHANNELS] = {0}, total_square[MAX_CHANNELS] = {0};

#pragma omp parallel
	{
		double mine[MAX_CHANNELS], mine_square[MAX_CHANNELS];
		float sum[MAX_CHANNELS], square[MAX_CHANNELS];

		memset(mine, 0, channels * sizeof(double));
		memset(mine_square, 0, channels * sizeof(double));
#pragma omp for schedule(static)
		for (size_t r = 0; r < rows; r += BLOCK_ROWS)
		{
			size_t n = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;

			sums(offset(in, r * channels, type), n, channels, sum, square, type);
			for (int c = 0; c < channels; c++)
			{
				mine[c] += sum[c];
				mine_square[c] += square[c];
			}
		}
		/* in the threads' order: a sum must not depend on who comes first */
#pragma omp for ordered schedule(static, 1)
		for (int thread = 0; thread < omp_get_num_threads(); thread++)
#pragma omp ordered
			for (int c = 0; c < channels; c++)
			{
				total[c] += mine[c];
				total_square[c] += mine_square[c];
			}
	}
	for (int c = 0; c < channels; c++)
	{
		double m = total[c] / rows, v = total_square[c] / rows - m * m;

		mean[c] = (float) m;
		variance[c] = v > 0 ? (float) v : 0.0f;
	}
}

/* Where the activation is flat, no gradient passes. */
FA_BODY float
passed(float gradient, float before, fa_activation activation)
{
	if (activation == FA_ACTIVATION_RELU || activation == FA_ACTIVATION_RELU6)
		gradient = before > 0.0f ? gradient : 0.0f;
	if (activation == FA_ACTIVATION_RELU6)
		gradient = before < 6.0f ? gradient : 0.0f;
	return gradient;
}

FA_BODY void
norm_sums_body(const void *restrict x, const void *restrict dy, size_t rows, int channels,
			   const float *restrict mean, const float *restrict inv_std,
			   const float *restrict weight, const float *restrict bias, float *restrict d_weight,
			   float *restrict d_bias, fa_activation activation, fa_act_type type)
{
	memset(d_weight, 0, channels * sizeof(float));
	memset(d_bias, 0, channels * sizeof(float));
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
		{
			float normal = (load(x, r * channels + c, type) - mean[c]) * inv_std[c];
			float g =
				passed(load(dy, r * channels + c, type), normal * weight[c] + bias[c], activation);

			d_weight[c] += g * normal;
			d_bias[c] += g;
		}
}

FA_BODY void
norm_gradient_body(const void *restrict x, void *restrict dy, size_t rows, int channels,
				   const float *restrict mean, const float *restrict inv_std,
				   const float *restrict weight, const float *restrict bias,
				   const float *restrict mean_weight, const float *restrict mean_bias,
				   fa_activation activation, fa_act_type type)
{
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
		{
			float normal = (load(x, r * channels + c, type) - mean[c]) * inv_std[c];
			float g =
				passed(load(dy, r * channels + c, type), normal * weight[c] + bias[c], activation);

			store(dy, r * channels + c,
				  weight[c] * inv_std[c] * (g - mean_bias[c] - normal * mean_weight[c]), type);
		}
}

#define FA_BY_ACTIVATION(body, activation, type, ...)                                              \
	do                                                                                             \
	{                                                                                              \
		if ((activation) == FA_ACTIVATION_RELU6)                                                   \
			FA_BY_TYPE(type, body, __VA_ARGS__, FA_ACTIVATION_RELU6);                              \
		else if ((activation) == FA_ACTIVATION_RELU)                                               \
			FA_BY_TYPE(type, body, __VA_ARGS__, FA_ACTIVATION_RELU);                               \
		else                                                                                       \
			FA_BY_TYPE(type, body, __VA_ARGS__, FA_ACTIVATION_NONE);                               \
	} while (0)

FA_CLONES static void
norm_sums(const void *x, const void *dy, size_t rows, int channels, const float *mean,
		  const float *inv_std, const float *weight, const float *bias, float *d_weight,
		  float *d_bias, fa_activation activation, fa_act_type type)
{
	FA_BY_ACTIVATION(norm_sums_body, activation, type, x, dy, rows, channels, mean, inv_std, weight,
					 bias, d_weight, d_bias);
}

FA_CLONES static void
norm_gradient(const void *x, void *dy, size_t rows, int channels, const float *mean,
			  const float *inv_std, const float *weight, const float *bias,
			  const float *mean_weight, const float *mean_bias, fa_activation activation,
			  fa_act_type type)
{
	FA_BY_ACTIVATION(norm_gradient_body, activation, type, x, dy, rows, channels, mean, inv_std,
					 weight, bias, mean_weight, mean_bias);
}

void
fa_kernel_batch_norm_backward(const void *x, void *dy, size_t rows, int channels, const float *mean,
							  const float *inv_std, const float *weight, const float *bias,
							  fa_activation activation, bool frozen, float *d_weight, float *d_bias,
							  fa_act_type type)
{
	double total_weight[MAX_CHANNELS] = {0}, total_bias[MAX_CHANNELS] = {0};
	float mean_weight[MAX_CHANNELS], mean_bias[MAX_CHANNELS];

#pragma omp parallel
	{
		double mine_weight[MAX_CHANNELS], mine_bias[MAX_CHANNELS];
		float block_weight[MAX_CHANNELS], block_bias[MAX_CHANNELS];

		memset(mine_weight, 0, channels * sizeof(double));
		memset(mine_bias, 0, channels * sizeof(double));
#pragma omp for schedule(static)
		for (size_t r = 0; r < rows; r += BLOCK_ROWS)
		{
			size_t n = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;

			norm_sums(offset(x, r * channels, type), offset(dy, r * channels, type), n, channels,
					  mean, inv_std, weight, bias, block_weight, block_bias, activation, type);
			for (int c = 0; c < channels; c++)
			{
				mine_weight[c] += block_weight[c];
				mine_bias[c] += block_bias[c];
			}
		}
		/* in the threads' order: a sum must not depend on who comes first */
#pragma omp for ordered schedule(static, 1)
		for (int thread = 0; thread < omp_get_num_threads(); thread++)
#pragma omp ordered
			for (int c = 0; c < channels; c++)
			{
				total_weight[c] += mine_weight[c];
				total_bias[c] += mine_bias[c];
			}
	}
	for (int c = 0; c < channels; c++)
	{
		d_weight[c] = (float) total_weight[c];
		d_bias[c] = (float) total_bias[c];
		mean_weight[c] = frozen ? 0.0f : (float) (total_weight[c] / rows);
		mean_bias[c] = frozen ? 0.0f : (float) (total_bias[c] / rows);
	}
#pragma omp parallel for schedule(static)
	for (size_t r = 0; r < rows; r += BLOCK_ROWS)
	{
		size_t n = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS;

		norm_gradient(offset(x, r * channels, type), offset_out(dy, r * channels, type), n,
					  channels, mean, inv_std, weight, bias, mean_weight, mean_bias, activation,
					  type);
	}
}

FA_BODY void
activation_body(const void *in, void *out, size_t count, fa_activation activation, fa_act_type type)
{
	if (activation == FA_ACTIVATION_SIGMOID)
		for (size_t i = 0; i < count; i++)
			store(out, i, 1.0f / (1.0f + expf(-load(in, i, type))), type);
	else
		for (size_t i = 0; i < count; i++)
			store(out, i, activate(load(in, i, type), activation), type);
}

FA_CLONES void
fa_kernel_activation(const void *in, void *out, size_t count, fa_activation activation,
					 fa_act_type type)
{
	FA_BY_TYPE(type, activation_body, in, out, count, activation);
}

FA_BODY void
activation_backward_body(const void *y, void *dy, size_t count, fa_activation activation,
						 fa_act_type type)
{
	for (size_t i = 0; i < count; i++)
	{
		float value = load(y, i, type), g = load(dy, i, type);

		store(dy, i,
			  activation == FA_ACTIVATION_SIGMOID ? g * value * (1.0f - value)
												  : passed(g, value, activation),
			  type);
	}
}

FA_CLONES void
fa_kernel_activation_backward(const void *y, void *dy, size_t count, fa_activation activation,
							  fa_act_type type)
{
	FA_BY_TYPE(type, activation_backward_body, y, dy, count, activation);
}

/* ---- Pooling ------------------------------------------------------------------- */

/* Input rows and columns that an output's window covers, clipped to the image. */
static void
window_range(int out, int stride, int pad, int kernel, int size, int *first, int *last)
{
	*first = out * stride - pad;
	*last = *first + kernel;
	if (*first < 0)
		*first = 0;
	if (*last > size)
		*last = size;
}

FA_BODY void
max_body(const void *restrict in, void *restrict out, int channels, fa_act_type type)
{
	for (int c = 0; c < channels; c++)
	{
		float a = load(out, c, type), b = load(in, c, type);

		store(out, c, a > b ? a : b, type);
	}
}

FA_CLONES static void
max_row(const void *in, void *out, int channels, fa_act_type type)
{
	FA_BY_TYPE(type, max_body, in, out, channels);
}

void
fa_kernel_max_pool(const void *in, void *out, const fa_pool_window *w, fa_act_type type)
{
#pragma omp parallel for schedule(static) collapse(2)
	for (int n = 0; n < w->n; n++)
		for (int y = 0; y < w->out_h; y++)
			for (int x = 0; x < w->out_w; x++)
			{
				int y1, y2, x1, x2;
				bool first = true;
				void *to = offset_out(
					out, (((size_t) n * w->out_h + y) * w->out_w + x) * w->channels, type);

				window_range(y, w->stride, w->pad_begin, w->kernel, w->in_h, &y1, &y2);
				window_range(x, w->stride, w->pad_begin, w->kernel, w->in_w, &x1, &x2);
				for (int i = y1; i < y2; i++)
					for (int j = x1; j < x2; j++)
					{
						const void *from = offset(
							in, (((size_t) n * w->in_h + i) * w->in_w + j) * w->channels, type);

						if (first)
							memcpy(to, from, w->channels * fa_act_size(type));
						else
							max_row(from, to, w->channels, type);
						first = false;
					}
			}
}

void
fa_kernel_max_pool_backward(const void *in, const void *out, const void *dy, void *dx,
							const fa_pool_window *w, fa_act_type type)
{
	memset(dx, 0, (size_t) w->n * w->in_h * w->in_w * w->channels * fa_act_size(type));
	for (int n = 0; n < w->n; n++)
		for (int y = 0; y < w->out_h; y++)
			for (int x = 0; x < w->out_w; x++)
			{
				size_t o = (((size_t) n * w->out_h + y) * w->out_w + x) * w->channels;
				int y1, y2, x1, x2;

				window_range(y, w->stride, w->pad_begin, w->kernel, w->in_h, &y1, &y2);
				window_range(x, w->stride, w->pad_begin, w->kernel, w->in_w, &x1, &x2);
				for (int c = 0; c < w->channels; c++)
				{
					float maximum = load(out, o + c, type);
					bool found = false;

					for (int i = y1; i < y2 && !found; i++)
						for (int j = x1; j < x2 && !found; j++)
						{
							size_t k = (((size_t) n * w->in_h + i) * w->in_w + j) * w->channels + c;

							found = load(in, k, type) == maximum;
							if (found)
								store(dx, k, load(dx, k, type) + load(dy, o + c, type), type);
						}
				}
			}
}

FA_CLONES void
fa_kernel_average(const void *in, float *out, int n, size_t area, int channels, fa_act_type type)
{
	for (int i = 0; i < n; i++)
	{
		const void *image = offset(in, i * area * channels, type);
		float *sum = out + (size_t) i * channels;

		memset(sum, 0, channels * sizeof(float));
		for (size_t p = 0; p < area; p++)
			for (int c = 0; c < channels; c++)
				sum[c] += type == FA_ACT_BF16 ? load(image, p * channels + c, FA_ACT_BF16)
											  : load(image, p * channels + c, FA_ACT_F32);
		for (int c = 0; c < channels; c++)
			sum[c] /= (float) area;
	}
}

FA_CLONES void
fa_kernel_average_backward(const float *dy, void *dx, int n, size_t area, int channels,
						   fa_act_type type)
{
	for (int i = 0; i < n; i++)
		for (size_t p = 0; p < area; p++)
			for (int c = 0; c < channels; c++)
				store(dx, (i * area + p) * channels + c,
					  dy[(size_t) i * channels + c] / (float) area, type);
}

/* ---- Upsampling ---------------------------------------------------------------- */

void
fa_kernel_upsample(const void *in, void *out, int n, int height, int width, int channels,
				   fa_act_type type)
{
	size_t pixel = channels * fa_act_size(type), row = 2 * width * pixel;

#pragma omp parallel for schedule(static)
	for (int y = 0; y < n * height; y++)
	{
		const char *from = (const char *) in + (size_t) y * width * pixel;
		char *to = (char *) out + (size_t) y * 2 * row;

		for (int x = 0; x < width; x++)
		{
			memcpy(to + (size_t) 2 * x * pixel, from + x * pixel, pixel);
			memcpy(to + (size_t) (2 * x + 1) * pixel, from + x * pixel, pixel);
		}
		memcpy(to + row, to, row);
	}
}

void
fa_kernel_upsample_backward(const void *dy, void *dx, int n, int height, int width, int channels,
							fa_act_type type)
{
	for (int y = 0; y < n * height; y++)
		for (int x = 0; x < width; x++)
			for (int c = 0; c < channels; c++)
			{
				size_t up = ((size_t) 2 * y * 2 * width + 2 * x) * channels + c;
				size_t down = up + (size_t) 2 * width * channels;

				store(dx, ((size_t) y * width + x) * channels + c,
					  load(dy, up, type) + load(dy, up + channels, type) + load(dy, down, type) +
						  load(dy, down + channels, type),
					  type);
			}
}

/* ---- Dropout ------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014): one step from a counter. */
static inline uint64_t
split_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void
fa_kernel_dropout(const void *in, void *out, size_t count, float rate, uint64_t key,
				  fa_act_type type)
{
	uint64_t base = split_mix(key);
	uint32_t threshold = (uint32_t) (rate * 4294967295.0);
	float scale = 1.0f / (1.0f - rate);

	for (size_t i = 0; i < count; i++)
	{
		bool kept = (uint32_t) (split_mix(base + i) >> 32) >= threshold;

		store(out, i, kept ? load(in, i, type) * scale : 0.0f, type);
	}
}
