/*
 * detect.h
 *		From YuNet's maps to faces: the arithmetic, one cell and one pair of boxes at a
 *		time. src/face/detector.c and nms.c run it on the CPU, gpu/detect.cu on the device,
 *		so that both find the same.
 */
#ifndef FA_DETECT_H
#define FA_DETECT_H

#include "../vision/image.h"

#include <float.h>
#include <math.h>

#ifdef __CUDACC__
#define FA_BOTH __host__ __device__ static inline
#else
#define FA_BOTH static inline
#endif

#define FA_DETECT_LEVELS 3        /* of strides 8, 16 and 32 */
#define FA_DETECT_LARGE 240       /* pixels: larger faces suit the pass for large ones */
#define FA_DETECT_SMALLEST 100    /* and below this it has no say */
#define FA_DETECT_CANDIDATES 4000 /* enter suppression; a full stadium has fewer faces */
#define FA_DETECT_OVERLAP 0.45    /* at most, of two faces; as YuNet's authors evaluate */
#define FA_DETECT_INSIDE 0.85     /* at most, of a face within a better, larger one */

typedef struct fa_detection
{
	fa_rect box; /* photo pixels */
	double landmarks[5][2];
	float score;
	float preference; /* what suppression goes by: score, and which pass suits the size */
} fa_detection;

/* One look at a photo: how it lies on a canvas that the network sees. */
typedef struct fa_detect_pass
{
	int canvas_width, canvas_height; /* multiples of 32 */
	int x, y, width, height;         /* of the photo on it, scaled as fa_letterbox does */
	uint8_t fill;                    /* of the rest */
	bool large;                      /* for large faces */
	double scale;                    /* pixels here of one pixel of the usual canvas */
	double photo_x, photo_y;         /* photo pixels per pixel here */
} fa_detect_pass;

/*
 * A cell's detection; false: none. cls, obj: its score is sqrt(cls * obj); box: the centre's
 * offset and the size's logarithm, in strides from the cell's corner; points: five offsets.
 */
FA_BOTH bool
fa_detect_cell(const fa_detect_pass *p, int stride, int cell, float cls, float obj,
			   const float box[4], const float points[10], float min_score, fa_detection *d)
{
	int x = cell % (p->canvas_width / stride), y = cell / (p->canvas_width / stride);
	float product = cls * obj;
	double cx, cy, w, h, size;

	if (!(product >= min_score * min_score))
		return false;
	cx = (x + (double) box[0]) * stride;
	cy = (y + (double) box[1]) * stride;
	w = exp(fmin((double) box[2], 8.0)) * stride;
	h = exp(fmin((double) box[3], 8.0)) * stride;
	size = sqrt(w * h) / p->scale;
	if (!(fabs(cx) <= DBL_MAX && fabs(cy) <= DBL_MAX && size <= DBL_MAX) ||
		(p->large && size < FA_DETECT_SMALLEST))
		return false;
	d->score = sqrtf(product);
	d->preference = d->score + (p->large == (size > FA_DETECT_LARGE) ? 1.0f : 0.0f);
	d->box.x1 = (cx - w / 2 - p->x) * p->photo_x;
	d->box.y1 = (cy - h / 2 - p->y) * p->photo_y;
	d->box.x2 = (cx + w / 2 - p->x) * p->photo_x;
	d->box.y2 = (cy + h / 2 - p->y) * p->photo_y;
	for (size_t k = 0; k < 5; k++)
	{
		d->landmarks[k][0] = ((x + (double) points[2 * k]) * stride - p->x) * p->photo_x;
		d->landmarks[k][1] = ((y + (double) points[2 * k + 1]) * stride - p->y) * p->photo_y;
	}
	return true;
}

FA_BOTH double
fa_rect_area(const fa_rect *r)
{
	return (r->x2 - r->x1) * (r->y2 - r->y1);
}

FA_BOTH double
fa_rect_intersection(const fa_rect *a, const fa_rect *b)
{
	double x1 = a->x1 > b->x1 ? a->x1 : b->x1, x2 = a->x2 < b->x2 ? a->x2 : b->x2;
	double y1 = a->y1 > b->y1 ? a->y1 : b->y1, y2 = a->y2 < b->y2 ? a->y2 : b->y2;

	return x1 < x2 && y1 < y2 ? (x2 - x1) * (y2 - y1) : 0.0;
}

/* Intersection over union, 0 ... 1. */
FA_BOTH double
fa_rect_overlap(const fa_rect *a, const fa_rect *b)
{
	double common = fa_rect_intersection(a, b);
	double all = fa_rect_area(a) + fa_rect_area(b) - common;

	return all > 0 ? common / all : 0.0;
}

/* Below 0: a before b; 0 of boxes that no one can tell apart. */
FA_BOTH int
fa_detection_compare(const fa_detection *a, const fa_detection *b)
{
	if (a->preference != b->preference)
		return a->preference > b->preference ? -1 : 1;
	/* so that the result does not depend on the order of what is compared */
	if (a->box.y1 != b->box.y1)
		return a->box.y1 < b->box.y1 ? -1 : 1;
	return a->box.x1 < b->box.x1 ? -1 : a->box.x1 > b->box.x1;
}

/* A better detection leaves no room for another. */
FA_BOTH bool
fa_detection_suppresses(const fa_rect *better, const fa_rect *box, double overlap, double inside)
{
	return fa_rect_overlap(box, better) > overlap ||
		   (fa_rect_area(box) <= fa_rect_area(better) &&
			fa_rect_intersection(box, better) > inside * fa_rect_area(box));
}

#endif
