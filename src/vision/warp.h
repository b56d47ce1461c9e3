/*
 * warp.h
 *		Resampling: letterbox for the detector, similarity warp for the crops.
 */
#ifndef FA_WARP_H
#define FA_WARP_H

#include "image.h"

/*
 * An affine map of the plane: (x, y) -> (a x + b y + c, d x + e y + f).
 * Coordinates are continuous (pixel centres at .5).
 */
typedef struct fa_affine
{
	double a, b, c, d, e, f;
} fa_affine;

extern fa_affine fa_affine_compose(fa_affine outer, fa_affine inner); /* outer(inner(p)) */
extern void fa_affine_apply(fa_affine map, double x, double y, double *out_x, double *out_y);

/*
 * The similarity (rotation, uniform scale, translation; no reflection) that
 * takes n points `from` to `to` with least squares (Umeyama 1991). false when
 * the points coincide or are not finite.
 */
extern bool fa_similarity_transform(const double (*from)[2], const double (*to)[2], int n,
									fa_affine *map);

/*
 * Scales the whole of source to width x height in the corner of destination
 * (which may be larger: the rest is filled with the byte `fill`), averaging
 * areas where it shrinks and bilinear where it enlarges. One pass per axis.
 */
extern fa_status fa_letterbox(const fa_image *source, int width, int height, fa_image *destination,
							  uint8_t fill, fa_error *error);

/*
 * Fills the whole of destination: its point p shows source at map(p).
 * Averages the covered area where the map shrinks (scale > 1 source pixel per
 * pixel), bilinear otherwise; beyond the edge the edge pixels repeat.
 */
extern fa_status fa_warp(const fa_image *source, fa_affine map, fa_image *destination,
						 fa_error *error);
/*
 * What fa_warp makes a pixel of width x height of: the mean of *samples x *samples bilinear
 * values. FA_INVALID where the map leads too far.
 */
extern fa_status fa_warp_samples(fa_affine map, int width, int height, int *samples,
								 fa_error *error);

#endif
