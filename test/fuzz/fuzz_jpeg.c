/*
 * fuzz_jpeg.c
 *		libFuzzer target: JPEG files, from header to pixels.
 */
#include "fuzz_photo.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= 2 && data[0] == 0xff && data[1] == 0xd8)
		fuzz_photo(data, size);
	return 0;
}
