/*
 * kernels.c
 *		The CPU engine's loops that go value by value or channel by channel: input, sums,
 *		batch norm, factors, activations, dropout; see kernels.h, and pooling.c for those
 *		that move between pixels.
 */
#include "kernel_body.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#define BLOCK_VALUES 16384 /* that a thread takes at a time */
#define BLOCK_ROWS 64      /* rows summed in fp32 before they join a double */

FA_BODY float
activate(float value, fa_activation activation)
{
	if (activation == FA_ACTIVATION_RELU || activation == FA_ACTIVATION_RELU6)
		value = value > 0.0f ? value : 0.0f;
	if (activation == FA_ACTIVATION_RELU6)
		value = value < 6.0f ? value : 6.0f;
	return value;
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
#pragma omp simd
	for (size_t i = 0; i < count; i++)
		store(out, i, load(left, i, left_type) + load(right, i, right_type), type);
}

FA_CLONES static void
add(const void *left, fa_act_type left_type, const void *right, fa_act_type right_type, void *out,
	size_t count, fa_act_type type)
{
	if (left_type != type || right_type != type)
		add_body(left, left_type, right, right_type, out, count, type);
	else if (type == FA_ACT_BF16)
		add_body(left, FA_ACT_BF16, right, FA_ACT_BF16, out, count, FA_ACT_BF16);
	else
		add_body(left, FA_ACT_F32, right, FA_ACT_F32, out, count, FA_ACT_F32);
}

void
fa_kernel_add(const void *left, fa_act_type left_type, const void *right, fa_act_type right_type,
			  void *out, size_t count, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < count; i += BLOCK_VALUES)
		add(offset(left, i, left_type), left_type, offset(right, i, right_type), right_type,
			offset_out(out, i, type), count - i < BLOCK_VALUES ? count - i : BLOCK_VALUES, type);
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

/* ---- Batch norm ---------------------------------------------- */

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

FA_BODY void
affine_body(const void *in, const void *added, void *out, size_t rows, int channels,
			const float *restrict a, const float *restrict b, fa_activation activation,
			fa_act_type type)
{
	for (size_t r = 0; r < rows; r++)
#pragma omp simd
		for (int c = 0; c < channels; c++)
		{
			size_t i = r * channels + c;
			float value = load(in, i, type) * a[c] + b[c];

			if (added != NULL)
				value += load(added, i, type);
			store(out, i, activate(value, activation), type);
		}
}

FA_CLONES static void
affine_rows(const void *in, const void *added, void *out, size_t rows, int channels, const float *a,
			const float *b, fa_activation activation, fa_act_type type)
{
	if (added == NULL)
		FA_BY_ACTIVATION(affine_body, activation, type, in, NULL, out, rows, channels, a, b);
	else
		FA_BY_ACTIVATION(affine_body, activation, type, in, added, out, rows, channels, a, b);
}

void
fa_kernel_affine(const void *in, const void *added, void *out, size_t rows, int channels,
				 const float *a, const float *b, fa_activation activation, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (size_t r = 0; r < rows; r += BLOCK_ROWS)
	{
		size_t n = rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS, at = r * channels;

		affine_rows(offset(in, at, type), added == NULL ? NULL : offset(added, at, type),
					offset_out(out, at, type), n, channels, a, b, activation, type);
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
	double total[FA_MAX_CHANNELS] = {0}, total_square[FA_MAX_CHANNELS] = {0};

#pragma omp parallel
	{
		double mine[FA_MAX_CHANNELS], mine_square[FA_MAX_CHANNELS];
		float sum[FA_MAX_CHANNELS], square[FA_MAX_CHANNELS];

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
norm_gradient_body(const void *restrict x, const void *dy, void *dx, size_t rows, int channels,
				   const float *restrict mean, const float *restrict inv_std,
				   const float *restrict weight, const float *restrict bias,
				   const float *restrict mean_weight, const float *restrict mean_bias,
				   fa_activation activation, fa_act_type type)
{
	for (size_t r = 0; r < rows; r++)
#pragma omp simd
		for (int c = 0; c < channels; c++)
		{
			float normal = (load(x, r * channels + c, type) - mean[c]) * inv_std[c];
			float g =
				passed(load(dy, r * channels + c, type), normal * weight[c] + bias[c], activation);

			store(dx, r * channels + c,
				  weight[c] * inv_std[c] * (g - mean_bias[c] - normal * mean_weight[c]), type);
		}
}

FA_CLONES static void
norm_sums(const void *x, const void *dy, size_t rows, int channels, const float *mean,
		  const float *inv_std, const float *weight, const float *bias, float *d_weight,
		  float *d_bias, fa_activation activation, fa_act_type type)
{
	FA_BY_ACTIVATION(norm_sums_body, activation, type, x, dy, rows, channels, mean, inv_std, weight,
					 bias, d_weight, d_bias);
}

FA_CLONES static void
norm_gradient(const void *x, const void *dy, void *dx, size_t rows, int channels, const float *mean,
			  const float *inv_std, const float *weight, const float *bias,
			  const float *mean_weight, const float *mean_bias, fa_activation activation,
			  fa_act_type type)
{
	FA_BY_ACTIVATION(norm_gradient_body, activation, type, x, dy, dx, rows, channels, mean, inv_std,
					 weight, bias, mean_weight, mean_bias);
}

void
fa_kernel_batch_norm_backward(const void *x, const void *dy, void *dx, size_t rows, int channels,
							  const float *mean, const float *inv_std, const float *weight,
							  const float *bias, fa_activation activation, bool frozen,
							  float *d_weight, float *d_bias, fa_act_type type)
{
	double total_weight[FA_MAX_CHANNELS] = {0}, total_bias[FA_MAX_CHANNELS] = {0};
	float mean_weight[FA_MAX_CHANNELS], mean_bias[FA_MAX_CHANNELS];

#pragma omp parallel
	{
		double mine_weight[FA_MAX_CHANNELS], mine_bias[FA_MAX_CHANNELS];
		float block_weight[FA_MAX_CHANNELS], block_bias[FA_MAX_CHANNELS];

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

		norm_gradient(offset(x, r * channels, type), offset(dy, r * channels, type),
					  offset_out(dx, r * channels, type), n, channels, mean, inv_std, weight, bias,
					  mean_weight, mean_bias, activation, type);
	}
}

/* ---- Channels by factors ----------------------------------------------------------- */

void
fa_kernel_scale(const void *in, const void *factors, fa_act_type factors_type, const void *added,
				void *out, int n, size_t area, int channels, fa_activation activation,
				fa_act_type type)
{
	static const float zeros[FA_MAX_CHANNELS];
	size_t blocks = (area + BLOCK_ROWS - 1) / BLOCK_ROWS;

#pragma omp parallel for schedule(static)
	for (size_t k = 0; k < n * blocks; k++)
	{
		size_t image = k / blocks, r = k % blocks * BLOCK_ROWS;
		size_t rows = area - r < BLOCK_ROWS ? area - r : BLOCK_ROWS;
		size_t at = (image * area + r) * channels;
		float of_image[FA_MAX_CHANNELS];

		fa_kernel_to_float(offset(factors, image * channels, factors_type), of_image, channels,
						   factors_type);
		affine_rows(offset(in, at, type), added == NULL ? NULL : offset(added, at, type),
					offset_out(out, at, type), rows, channels, of_image, zeros, activation, type);
	}
}

FA_BODY void
products_body(const void *restrict a, const void *restrict b, size_t rows, int channels,
			  float *restrict sum, fa_act_type type)
{
	memset(sum, 0, channels * sizeof(float));
	for (size_t r = 0; r < rows; r++)
		for (int c = 0; c < channels; c++)
			sum[c] += load(a, r * channels + c, type) * load(b, r * channels + c, type);
}

FA_CLONES static void
products(const void *a, const void *b, size_t rows, int channels, float *sum, fa_act_type type)
{
	FA_BY_TYPE(type, products_body, a, b, rows, channels, sum);
}

void
fa_kernel_scale_backward(const void *in, const void *dy, void *d_factors, fa_act_type factors_type,
						 int n, size_t area, int channels, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (int image = 0; image < n; image++)
	{
		float total[FA_MAX_CHANNELS] = {0}, block[FA_MAX_CHANNELS];

		for (size_t r = 0; r < area; r += BLOCK_ROWS)
		{
			size_t rows = area - r < BLOCK_ROWS ? area - r : BLOCK_ROWS;
			size_t at = (image * area + r) * channels;

			products(offset(in, at, type), offset(dy, at, type), rows, channels, block, type);
			for (int c = 0; c < channels; c++)
				total[c] += block[c];
		}
		fa_kernel_from_float(total, offset_out(d_factors, (size_t) image * channels, factors_type),
							 channels, factors_type);
	}
}

/* ---- Activations ------------------------------------------------------------------- */

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
activation_backward_body(const void *y, const void *dy, void *dx, size_t count,
						 fa_activation activation, fa_act_type type)
{
#pragma omp simd
	for (size_t i = 0; i < count; i++)
	{
		float value = load(y, i, type), g = load(dy, i, type);

		store(dx, i,
			  activation == FA_ACTIVATION_SIGMOID ? g * value * (1.0f - value)
												  : passed(g, value, activation),
			  type);
	}
}

FA_CLONES static void
activation_backward(const void *y, const void *dy, void *dx, size_t count, fa_activation activation,
					fa_act_type type)
{
	FA_BY_TYPE(type, activation_backward_body, y, dy, dx, count, activation);
}

void
fa_kernel_activation_backward(const void *y, const void *dy, void *dx, size_t count,
							  fa_activation activation, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (size_t i = 0; i < count; i += BLOCK_VALUES)
		activation_backward(offset(y, i, type), offset(dy, i, type), offset_out(dx, i, type),
							count - i < BLOCK_VALUES ? count - i : BLOCK_VALUES, activation, type);
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
