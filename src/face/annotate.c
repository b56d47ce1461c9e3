/*
 * annotate.c
 *		The how-old.net picture: the upright photo with a box and a label per face.
 */
#include "pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const fa_colour ink = {255, 255, 255};
static const fa_colour male = {38, 110, 190}, female = {190, 60, 110}, other = {70, 70, 80};

/* "34 ± 5 female Asian", of what the model says. */
static void
make_label(const fa_pipeline *pipeline, const fa_face *face, char *text, size_t size)
{
	const char *gender = fa_gender_label(pipeline, face), *race = fa_race_label(pipeline, face);
	int length = 0;

	text[0] = '\0';
	if (face->has_age)
		length = snprintf(text, size, "%.0f \xc2\xb1 %.0f", face->age,
						  fmax((face->age_high - face->age_low) / 2, 1));
	if (length < (int) size && gender != NULL)
		length +=
			snprintf(text + length, size - (size_t) length, "%s%s", length > 0 ? " " : "", gender);
	if (length < (int) size && race != NULL)
		snprintf(text + length, size - (size_t) length, "%s%s", length > 0 ? " " : "", race);
}

fa_status
fa_draw_face(const fa_pipeline *pipeline, fa_image *image, fa_font *font, const fa_face *face,
			 fa_error *error)
{
	double side = fmax(image->width, image->height);
	double width = face->box.x2 - face->box.x1;
	double size = fmin(fmax(0.16 * width, 0.011 * side), 0.05 * side);
	fa_colour colour = !face->has_gender ? other : face->gender == 0 ? male : female;
	char text[256];

	make_label(pipeline, face, text, sizeof(text));
	fa_draw_box(image, face->box, fmax(0.12 * size, 1.5), colour);
	return fa_draw_label(image, font, text, fmax(size, 9), face->box, ink, colour, error);
}

fa_status
fa_annotate(fa_pipeline *pipeline, const void *bytes, size_t length, const fa_face_options *options,
			const fa_format *format, uint8_t **annotated, size_t *annotated_length,
			const fa_interrupt *interrupt, fa_error *error)
{
	fa_faces faces;
	fa_photo photo;
	fa_view view = {0};
	fa_font *font = NULL;
	fa_status status;

	*annotated = NULL;
	*annotated_length = 0;
	if (pipeline->reader != NULL)
		return pipeline->reader->annotate(pipeline, bytes, length, options, format, annotated,
										  annotated_length, interrupt, error);
	FA_TRY(fa_find_faces(pipeline, bytes, length, options, true, &faces, interrupt, error));
	status = fa_photo_open(&photo, bytes, length, options->max_pixels, error);
	if (status == FA_OK)
		status = fa_photo_decode(&photo, 8, &view, interrupt, error);
	if (status == FA_OK)
		status = fa_font_open(NULL, &font, error);
	/* the largest first, so that small faces' labels lie on top */
	for (int i = 0; i < faces.count && status == FA_OK; i++)
	{
		status = fa_check_interrupt(interrupt, error);
		if (status == FA_OK)
			status = fa_draw_face(pipeline, &view.image, font, &faces.faces[i], error);
	}
	if (status == FA_OK)
		status = fa_photo_encode(&view.image, format != NULL ? *format : photo.format, 92,
								 annotated, annotated_length, interrupt, error);
	fa_font_close(font);
	fa_image_free(&view.image);
	fa_faces_free(&faces);
	return status;
}
