/*
 * nms.h
 *		Non-maximum suppression: of detections that overlap, the best stays.
 */
#ifndef FA_NMS_H
#define FA_NMS_H

#include "../nn/detect.h"

extern double fa_area(const fa_rect *rect);
/* Intersection over union, 0 ... 1. */
extern double fa_overlap(const fa_rect *a, const fa_rect *b);

/*
 * Sorts by preference, keeps at most `limit` of the best, drops every detection
 * that overlaps a better one by more than `overlap`, or that has more than
 * `inside` of its area within a better, larger one. Returns how many remain, in
 * front, best first.
 */
extern int fa_non_max_suppression(fa_detection *detections, int count, int limit, double overlap,
								  double inside);

#endif
