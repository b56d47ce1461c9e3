/*
 * align.h
 *		From five landmarks to the crop that the classifier was trained on, and the
 *		question whether the decoded view has pixels enough for it.
 */
#ifndef FA_ALIGN_H
#define FA_ALIGN_H

#include "face.h"

#include "../vision/warp.h"

/*
 * The map from pixels of a size x size crop to photo coordinates, so that the
 * landmarks come to lie where the template (fractions of the frame) has them, the
 * crop showing zoom times the frame. Where landmarks are degenerate the box takes
 * their place.
 */
extern fa_affine fa_crop_to_photo(const fa_face *face, const double (*landmark_template)[2],
								  double zoom, int size);
/* The same map to pixels of a view of the photo: what fa_align_crop warps by. */
extern fa_affine fa_crop_to_view(const fa_view *view, const fa_face *face,
								 const double (*landmark_template)[2], double zoom, int size);
/* Photo pixels that one crop pixel shows, along a side. */
extern double fa_affine_scale(fa_affine map);
/* The photo's part that a crop of that size shows. */
extern fa_rect fa_crop_bounds(fa_affine crop_to_photo, int size);

#endif
