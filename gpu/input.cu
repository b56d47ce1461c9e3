/*
 * input.cu
 *		Bytes become the network's input: normalised, in its channel order, padded.
 */
#include "device.cuh"

template <typename T>
__global__ void
input(const uint8_t *rgb, T *out, size_t pixels, fa_gpu_input_form form)
{
	size_t pixel = FA_INDEX;
	float values[8] = {0, 0, 0, 0, 0, 0, 0, 0};

	if (pixel >= pixels)
		return;
	for (int c = 0; c < 3; c++)
		values[c] = (rgb[pixel * 3 + (form.bgr ? 2 - c : c)] - form.mean[c]) * form.scale[c];
	fa_store(out + pixel * FA_GPU_CHANNELS, values);
}

fa_status
fa_gpu_input(const uint8_t *rgb, void *out, size_t pixels, const fa_gpu_input_form *form,
			 fa_gpu_type type, cudaStream_t stream, fa_error *error)
{
	FA_BY_TYPE(type, FA_LAUNCH(input<T>, fa_blocks(pixels), FA_THREADS, stream, rgb, (T *) out,
							   pixels, *form));
	return FA_LAUNCHED(error);
}
