/*
 * jpeg_cut.h
 *		Parts of a JPEG file as files of their own, cut out of its bits: nothing is
 *		transformed, and outside the parts no coefficient is even looked at. Finding
 *		the way through a file so takes a third of decoding it. Private to src/vision.
 */
#ifndef FA_JPEG_CUT_H
#define FA_JPEG_CUT_H

#include "../fa.h"

typedef struct fa_jpeg_part
{
	/* in: the wanted pixels of the stored image; out: what the part shows, at least those and
	 * the blocks around them, so that upsampled chroma is the same as in the whole */
	int x1, y1, x2, y2;
	uint8_t *bytes; /* out: a JPEG file; malloc'ed, the caller's to free() */
	size_t length;
} fa_jpeg_part;

/*
 * FA_UNSUPPORTED: the file is progressive, or in several scans, or otherwise not of
 * the plain kind; FA_DAMAGED: it is not what it claims to be. No part is left
 * allocated after a failure. A part whose rectangle lies outside the image is
 * FA_INVALID.
 */
extern fa_status fa_jpeg_cut(const uint8_t *bytes, size_t length, fa_jpeg_part *parts, int count,
							 const fa_interrupt *interrupt, fa_error *error);

#endif
