/*
 * align.c
 *		Alignment by a similarity transform; see align.h.
 */
#include "align.h"

#include <math.h>

fa_affine
fa_crop_to_photo(const fa_face *face, const double (*landmark_template)[2], double zoom, int size)
{
	double points[FA_LANDMARKS][2];
	fa_affine map;
	double side;

	for (int i = 0; i < FA_LANDMARKS; i++)
		for (int k = 0; k < 2; k++)
			points[i][k] = ((landmark_template[i][k] - 0.5) / zoom + 0.5) * size;
	if (fa_similarity_transform((const double(*)[2]) points, face->landmarks, FA_LANDMARKS, &map))
		return map;
	/* YuNet's boxes run from the hairline to the chin: some 0.7 of the frame's height */
	side = fmax(face->box.y2 - face->box.y1, 1) / 0.7 * zoom;
	return (fa_affine){
		.a = side / size,
		.c = (face->box.x1 + face->box.x2 - side) / 2,
		.e = side / size,
		.f = (face->box.y1 + face->box.y2 - side) / 2,
	};
}

double
fa_affine_scale(fa_affine map)
{
	return sqrt(fabs(map.a * map.e - map.b * map.d));
}

fa_rect
fa_crop_bounds(fa_affine map, int size)
{
	fa_rect bounds = {INFINITY, INFINITY, -INFINITY, -INFINITY};

	for (int i = 0; i < 4; i++)
	{
		double x, y;

		fa_affine_apply(map, i & 1 ? size : 0, i & 2 ? size : 0, &x, &y);
		bounds.x1 = fmin(bounds.x1, x);
		bounds.y1 = fmin(bounds.y1, y);
		bounds.x2 = fmax(bounds.x2, x);
		bounds.y2 = fmax(bounds.y2, y);
	}
	return bounds;
}

fa_affine
fa_crop_to_view(const fa_view *view, const fa_face *face, const double (*landmark_template)[2],
				double zoom, int size)
{
	fa_affine to_view = {view->scale_x,           0, -view->x * view->scale_x, 0, view->scale_y,
						 -view->y * view->scale_y};

	return fa_affine_compose(to_view, fa_crop_to_photo(face, landmark_template, zoom, size));
}

fa_status
fa_align_crop(const fa_view *view, const fa_face *face, const double (*landmark_template)[2],
			  double zoom, int size, fa_image *crop, fa_error *error)
{
	fa_affine map = fa_crop_to_view(view, face, landmark_template, zoom, size);

	FA_TRY(fa_image_alloc(crop, size, size, error));
	if (fa_warp(&view->image, map, crop, error) != FA_OK)
	{
		fa_image_free(crop);
		return error->status;
	}
	return FA_OK;
}
