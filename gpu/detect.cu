/*
 * detect.cu
 *		From YuNet's maps to faces on the device, by the arithmetic of src/nn/detect.h:
 *		cells with a score high enough, sorted, and those that no better one suppresses.
 */
#include "device.cuh"

__global__ void
detect(fa_detect_pass pass, int stride, const float *cls, const float *obj, const float *boxes,
	   const float *points, float min_score, long long first, fa_gpu_candidate *candidates,
	   fa_gpu_found *found)
{
	int cell = (int) FA_INDEX, place;
	fa_gpu_candidate c;

	if (cell >= (pass.canvas_width / stride) * (pass.canvas_height / stride))
		return;
	if (!fa_detect_cell(&pass, stride, cell, cls[cell], obj[cell], boxes + 4 * (size_t) cell,
						points + 10 * (size_t) cell, min_score, &c.detection))
		return;
	c.cell = first + cell;
	place = atomicAdd(&found->found, 1);
	if (place < FA_GPU_CANDIDATES)
		candidates[place] = c;
}

/* Each counts those before it: there are few, and they come in any order. */
__global__ void
sort(const fa_gpu_candidate *candidates, const fa_gpu_found *found, fa_detection *sorted)
{
	int i = (int) FA_INDEX, count = found->found, place = 0;

	if (i >= count || count > FA_GPU_CANDIDATES) /* too many: the host asks in another way */
		return;
	for (int k = 0; k < count; k++)
	{
		int order = fa_detection_compare(&candidates[k].detection, &candidates[i].detection);

		place += order < 0 || (order == 0 && candidates[k].cell < candidates[i].cell);
	}
	if (place < FA_DETECT_CANDIDATES)
		sorted[place] = candidates[i].detection;
}

/* One block: from the best on, each that is left drops those that it suppresses. */
__global__ void
suppress(const fa_detection *sorted, uint8_t *dropped, fa_detection *kept, fa_gpu_found *found)
{
	int count = found->found, kept_count = 0;

	if (count > FA_GPU_CANDIDATES)
		return;
	count = count < FA_DETECT_CANDIDATES ? count : FA_DETECT_CANDIDATES;
	for (int i = 0; i < count; i++)
	{
		__syncthreads();
		if (dropped[i])
			continue;
		if (threadIdx.x == 0)
			kept[kept_count] = sorted[i];
		kept_count++;
		for (int k = i + 1 + (int) threadIdx.x; k < count; k += FA_THREADS)
			if (fa_detection_suppresses(&sorted[i].box, &sorted[k].box, FA_DETECT_OVERLAP,
										FA_DETECT_INSIDE))
				dropped[k] = 1;
	}
	if (threadIdx.x == 0)
		found->kept = kept_count;
}

fa_status
fa_gpu_detect(const fa_detect_pass *pass, int stride, const float *const maps[4], float min_score,
			  int64_t first, fa_gpu_candidate *candidates, fa_gpu_found *found, cudaStream_t stream,
			  fa_error *error)
{
	size_t cells = (size_t) (pass->canvas_width / stride) * (pass->canvas_height / stride);

	FA_LAUNCH(detect, fa_blocks(cells), FA_THREADS, stream, *pass, stride, maps[0], maps[1],
			  maps[2], maps[3], min_score, (long long) first, candidates, found);
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_sort(const fa_gpu_candidate *candidates, const fa_gpu_found *found, fa_detection *sorted,
			cudaStream_t stream, fa_error *error)
{
	FA_LAUNCH(sort, fa_blocks(FA_GPU_CANDIDATES), FA_THREADS, stream, candidates, found, sorted);
	return FA_LAUNCHED(error);
}

fa_status
fa_gpu_suppress(const fa_detection *sorted, uint8_t *dropped, fa_detection *kept,
				fa_gpu_found *found, cudaStream_t stream, fa_error *error)
{
	FA_LAUNCH(suppress, 1, FA_THREADS, stream, sorted, dropped, kept, found);
	return FA_LAUNCHED(error);
}
