/*
 * fuzz_exif.c
 *		libFuzzer target: the reader of EXIF's orientation.
 */
#include <stdlib.h>

#include "../../src/vision/exif.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int orientation = fa_exif_orientation(data, size);

	if (orientation < 1 || orientation > 8)
		abort();
	return 0;
}
