/*
 * nms.c
 *		Non-maximum suppression; see nms.h.
 */
#include "nms.h"

#include <stdlib.h>

double
fa_area(const fa_rect *r)
{
	return fa_rect_area(r);
}

double
fa_overlap(const fa_rect *a, const fa_rect *b)
{
	return fa_rect_overlap(a, b);
}

static int
by_preference(const void *left, const void *right)
{
	return fa_detection_compare(left, right);
}

int
fa_non_max_suppression(fa_detection *detections, int count, int limit, double overlap,
					   double inside)
{
	int kept = 0;

	if (count > 1)
		qsort(detections, (size_t) count, sizeof(fa_detection), by_preference);
	count = count > limit ? limit : count;
	for (int i = 0; i < count; i++)
	{
		const fa_rect *box = &detections[i].box;
		bool keep = true;

		for (int k = 0; k < kept && keep; k++)
			keep = !fa_detection_suppresses(&detections[k].box, box, overlap, inside);
		if (keep)
			detections[kept++] = detections[i];
	}
	return kept;
}
