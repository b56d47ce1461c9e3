/*
 * exif.h
 *		The one thing wanted from EXIF: which way up the photo is.
 */
#ifndef FA_EXIF_H
#define FA_EXIF_H

#include <stddef.h>
#include <stdint.h>

/*
 * The orientation, 1..8, from an EXIF block that starts with its TIFF header
 * ("II" or "MM"): tag 0x0112 of the first directory (EXIF 2.32, 4.6.4 A). 1
 * where it is absent, out of range, or the block makes no sense. Reads nothing
 * outside the length bytes.
 */
extern int fa_exif_orientation(const uint8_t *tiff, size_t length);

#endif
