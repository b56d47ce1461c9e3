/*
 * optimizer.cu
 *		A step of the optimiser on all parameters at once, and of their moving average; and the
 *		squares of the gradients before it. The formulas are those of src/nn/optimizer.c.
 */
#include "device.cuh"
#include "train_kernels.h"

#include "../src/nn/engine.h"

/* A block of 256 threads takes 65,536 values; thread t every 256th of them. */
__global__ void
squares(const float *gradients, const fa_gpu_rule *rules, size_t count, float *partials)
{
	size_t first = (size_t) blockIdx.x * FA_GPU_SQUARES + threadIdx.x;
	float sum = 0;

	for (size_t i = first; i < count && i < first + FA_GPU_SQUARES; i += FA_THREADS)
	{
		float g = fa_to_float(gradients[i]);

		if (rules[i / FA_GPU_GROUP].rate > 0)
			sum += g * g;
	}
	partials[FA_INDEX] = sum;
}

__global__ void
finish_squares(const float *partials, int blocks, double *sums)
{
	int block = (int) FA_INDEX;
	double sum = 0;

	if (block >= blocks)
		return;
	for (int i = 0; i < FA_THREADS; i++)
		sum += fa_to_float(partials[(size_t) block * FA_THREADS + i]);
	sums[block] = sum;
}

__global__ void
optimize(const fa_gpu_step_size *step, const fa_gpu_rule *rules, float *weights, float *average,
		 float *moment1, float *moment2, const float *gradients, size_t count)
{
	size_t i = FA_INDEX;
	fa_gpu_step_size s = *step;
	fa_gpu_rule rule;
	float rate, decay, w, m, v, g;

	if (i >= count || s.skip)
		return;
	rule = rules[i / FA_GPU_GROUP];
	rate = s.learning_rate * rule.rate;
	decay = s.weight_decay * rule.decay;
	w = fa_to_float(weights[i]);
	if (rule.rate > 0)
	{
		g = fa_to_float(gradients[i]) * s.scale;
		m = fa_to_float(moment1[i]);
		if (s.optimizer != FA_OPTIMIZER_ADAMW)
			g += decay * w;
		if (s.optimizer == FA_OPTIMIZER_SGD)
		{
			m = s.beta1 * m + g;
			w -= rate * m;
		}
		else
		{
			v = fa_to_float(moment2[i]);
			m = s.beta1 * m + (1.0f - s.beta1) * g;
			v = s.beta2 * v + (1.0f - s.beta2) * g * g;
			w -= (s.optimizer == FA_OPTIMIZER_ADAMW ? rate * decay * w : 0.0f) +
				 rate * (m / s.correction1) / (sqrtf(v / s.correction2) + s.epsilon);
			moment2[i] = v;
		}
		moment1[i] = m;
		weights[i] = w;
	}
	if (s.ema > 0 && rule.follow > 0)
		average[i] += s.ema * (w - fa_to_float(average[i]));
}

fa_status
fa_gpu_squares(const float *gradients, const fa_gpu_rule *rules, size_t count, float *partials,
			   double *sums, cudaStream_t stream, fa_error *error)
{
	unsigned blocks = (unsigned) fa_gpu_square_sums(count);

	FA_LAUNCH(squares, blocks, FA_THREADS, stream, gradients, rules, count, partials);
	FA_TRY(FA_LAUNCHED(error));
	FA_LAUNCH(finish_squares, fa_blocks(blocks), FA_THREADS, stream, partials, (int) blocks, sums);
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_optimize(const fa_gpu_step_size *step, const fa_gpu_rule *rules, float *weights,
				float *average, float *moment1, float *moment2, const float *gradients,
				size_t count, cudaStream_t stream, fa_error *error)
{
	FA_LAUNCH(optimize, fa_blocks(count), FA_THREADS, stream, step, rules, weights, average,
			  moment1, moment2, gradients, count);
	return FA_LAUNCHED(error);
}
