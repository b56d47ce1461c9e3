/*
 * pooling.c
 *		The CPU engine's loops over windows and maps: pooling and upsampling; see kernels.h.
 */
#include "kernel_body.h"

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

				window_range(y, w->stride, w->pad_top, w->kernel, w->in_h, &y1, &y2);
				window_range(x, w->stride, w->pad_left, w->kernel, w->in_w, &x1, &x2);
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

/* One window, CHUNK channels at a time; what is left of the gradient after its maximum is 0. */
FA_BODY void
max_backward_body(const void *restrict in, const void *restrict out, const void *restrict dy,
				  void *restrict dx, int height, int width, size_t row, int channels,
				  fa_act_type type)
{
	enum
	{
		CHUNK = 64
	};

	for (int first = 0; first < channels; first += CHUNK)
	{
		int n = channels - first < CHUNK ? channels - first : CHUNK;
		float maximum[CHUNK], left[CHUNK];

		for (int c = 0; c < n; c++)
		{
			maximum[c] = load(out, first + c, type);
			left[c] = load(dy, first + c, type);
		}
		for (int y = 0; y < height; y++)
			for (int x = 0; x < width; x++)
				for (int c = 0; c < n; c++)
				{
					size_t k = y * row + (size_t) x * channels + first + c;
					bool found = load(in, k, type) == maximum[c];

					store(dx, k, load(dx, k, type) + (found ? left[c] : 0.0f), type);
					left[c] = found ? 0.0f : left[c];
				}
	}
}

FA_CLONES static void
max_backward(const void *in, const void *out, const void *dy, void *dx, int height, int width,
			 size_t row, int channels, fa_act_type type)
{
	FA_BY_TYPE(type, max_backward_body, in, out, dy, dx, height, width, row, channels);
}

void
fa_kernel_max_pool_backward(const void *in, const void *out, const void *dy, void *dx,
							const fa_pool_window *w, fa_act_type type)
{
	memset(dx, 0, (size_t) w->n * w->in_h * w->in_w * w->channels * fa_act_size(type));
#pragma omp parallel for schedule(static)
	for (int n = 0; n < w->n; n++)
		for (int y = 0; y < w->out_h; y++)
			for (int x = 0; x < w->out_w; x++)
			{
				size_t o = (((size_t) n * w->out_h + y) * w->out_w + x) * w->channels, i;
				int y1, y2, x1, x2;

				window_range(y, w->stride, w->pad_top, w->kernel, w->in_h, &y1, &y2);
				window_range(x, w->stride, w->pad_left, w->kernel, w->in_w, &x1, &x2);
				i = (((size_t) n * w->in_h + y1) * w->in_w + x1) * w->channels;
				max_backward(offset(in, i, type), offset(out, o, type), offset(dy, o, type),
							 offset_out(dx, i, type), y2 - y1, x2 - x1,
							 (size_t) w->in_w * w->channels, w->channels, type);
			}
}

FA_BODY void
average_body(const void *restrict image, float *restrict mean, size_t area, int channels,
			 fa_act_type type)
{
	memset(mean, 0, channels * sizeof(float));
	for (size_t p = 0; p < area; p++)
		for (int c = 0; c < channels; c++)
			mean[c] += load(image, p * channels + c, type);
	for (int c = 0; c < channels; c++)
		mean[c] /= (float) area;
}

FA_CLONES static void
average(const void *image, float *mean, size_t area, int channels, fa_act_type type)
{
	FA_BY_TYPE(type, average_body, image, mean, area, channels);
}

void
fa_kernel_average(const void *in, float *out, int n, size_t area, int channels, fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (int i = 0; i < n; i++)
		average(offset(in, i * area * channels, type), out + (size_t) i * channels, area, channels,
				type);
}

FA_BODY void
average_backward_body(const float *restrict dy, void *restrict dx, size_t area, int channels,
					  fa_act_type type)
{
	for (size_t p = 0; p < area; p++)
		for (int c = 0; c < channels; c++)
			store(dx, p * channels + c, dy[c] / (float) area, type);
}

FA_CLONES static void
average_backward(const float *dy, void *dx, size_t area, int channels, fa_act_type type)
{
	FA_BY_TYPE(type, average_backward_body, dy, dx, area, channels);
}

void
fa_kernel_average_backward(const float *dy, void *dx, int n, size_t area, int channels,
						   fa_act_type type)
{
#pragma omp parallel for schedule(static)
	for (int i = 0; i < n; i++)
		average_backward(dy + (size_t) i * channels, offset_out(dx, i * area * channels, type),
						 area, channels, type);
}

/* ---- Upsampling ---------------------------------------------------------------- */

void
fa_kernel_upsample(const void *in, void *out, int n, int height, int width, int channels,
				   fa_act_type type)
{
	size_t pixel = channels * fa_act_size(type), row = 2 * (size_t) width * pixel;

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
				size_t up = ((size_t) 2 * y * 2 * width + (size_t) 2 * x) * channels + c;
				size_t down = up + (size_t) 2 * width * channels;

				store(dx, ((size_t) y * width + x) * channels + c,
					  load(dy, up, type) + load(dy, up + channels, type) + load(dy, down, type) +
						  load(dy, down + channels, type),
					  type);
			}
}
