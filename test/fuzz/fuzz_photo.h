/*
 * fuzz_photo.h
 *		What the JPEG and PNG fuzzers do with a file: everything that the SQL
 *		functions would, and twice, with and without a user who loses patience.
 *		Aborts where a promise of photo.h is broken; the sanitizers see the rest.
 */
#ifndef FUZZ_PHOTO_H
#define FUZZ_PHOTO_H

#include <stdlib.h>
#include <string.h>

#include "../../src/vision/photo.h"

#define FUZZ_MAX_PIXELS (1 << 20)

static inline void
require(bool condition)
{
	if (!condition)
		abort();
}

static inline bool
countdown(void *argument)
{
	return --*(int *) argument == 0;
}

static inline void
check_result(fa_status status, fa_view *view, const fa_error *error)
{
	if (status != FA_OK)
	{
		require(error->status == status && error->message[0] != '\0');
		require(status != FA_INTERNAL && view->image.pixels == NULL);
		return;
	}
	require(view->image.width >= 1 && view->image.height >= 1);
	for (int y = 0; y < view->image.height; y++) /* all of it is there to be read */
	{
		volatile uint8_t byte = view->image.pixels[(size_t) y * view->image.stride];

		(void) byte;
	}
	fa_image_free(&view->image);
}

static inline void
fuzz_photo(const uint8_t *data, size_t size)
{
	int eighths = (int) (size % 8) + 1, left = (int) (size % 509);
	fa_interrupt interrupt = {countdown, &left};
	fa_photo photo;
	fa_view view;
	fa_error error = {0};
	fa_status status = fa_photo_open(&photo, data, size, FUZZ_MAX_PIXELS, &error), sound;
	fa_photo_part part;
	fa_rect rect;

	if (status != FA_OK)
	{
		require(error.status == status && error.message[0] != '\0');
		return;
	}
	require(photo.width >= 1 && photo.height >= 1);
	require((int64_t) photo.width * photo.height <= FUZZ_MAX_PIXELS);
	require(photo.orientation >= 1 && photo.orientation <= 8);

	sound = fa_photo_decode(&photo, eighths, &view, NULL, &error);
	if (sound == FA_OK)
		require(view.image.width == (photo.width * eighths + 7) / 8 &&
				view.image.height == (photo.height * eighths + 7) / 8);
	check_result(sound, &view, &error);

	rect = (fa_rect){photo.width * 0.3, photo.height * 0.6, photo.width * 0.7, photo.height * 0.9};
	status = fa_photo_decode_region(&photo, rect, 9 - eighths, &view, NULL, &error);
	check_result(status, &view, &error);
	status = fa_photo_decode_region(&photo, rect, 8, &view, &interrupt, &error);
	check_result(status, &view, &error);
	if (fa_photo_cut(&photo, &rect, 1, &part, NULL, &error) == FA_OK)
	{
		status = fa_photo_part_decode(&part, eighths, &view, NULL, &error);
		require(sound != FA_OK || status == FA_OK); /* of a sound photo, a sound part */
		check_result(status, &view, &error);
		fa_photo_part_free(&part);
	}
}

#endif
