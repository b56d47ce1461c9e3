/*
 * nms.c
 *		Non-maximum suppression; see nms.h.
 */
#include "nms.h"

#include <stdlib.h>

double
fa_area(const fa_rect *r)
{
	return (r->x2 - r->x1) * (r->y2 - r->y1);
}

static double
intersection(const fa_rect *a, const fa_rect *b)
{
	double x1 = a->x1 > b->x1 ? a->x1 : b->x1, x2 = a->x2 < b->x2 ? a->x2 : b->x2;
	double y1 = a->y1 > b->y1 ? a->y1 : b->y1, y2 = a->y2 < b->y2 ? a->y2 : b->y2;

	return x1 < x2 && y1 < y2 ? (x2 - x1) * (y2 - y1) : 0.0;
}

double
fa_overlap(const fa_rect *a, const fa_rect *b)
{
	double common = intersection(a, b), all = fa_area(a) + fa_area(b) - common;

	return all > 0 ? common / all : 0.0;
}

static int
by_preference(const void *left, const void *right)
{
	const fa_detection *a = left, *b = right;

	if (a->preference != b->preference)
		return a->preference > b->preference ? -1 : 1;
	/* a total order, so that the result does not depend on qsort */
	if (a->box.y1 != b->box.y1)
		return a->box.y1 < b->box.y1 ? -1 : 1;
	return a->box.x1 < b->box.x1 ? -1 : a->box.x1 > b->box.x1;
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
		{
			const fa_rect *better = &detections[k].box;

			keep = fa_overlap(box, better) <= overlap &&
				   (fa_area(box) > fa_area(better) ||
					intersection(box, better) <= inside * fa_area(box));
		}
		if (keep)
			detections[kept++] = detections[i];
	}
	return kept;
}
