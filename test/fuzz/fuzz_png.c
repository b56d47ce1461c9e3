/*
 * fuzz_png.c
 *		libFuzzer target: PNG files, from header to pixels. Nearly every mutation
 *		breaks a checksum, so all but a few mutants get new ones.
 */
#include "fuzz_photo.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
									  unsigned int seed);
/* libFuzzer's own; absent in a program that only replays files */
extern size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= 4 && memcmp(data, "\x89PNG", 4) == 0)
		fuzz_photo(data, size);
	return 0;
}

/* CRC-32 as the PNG specification gives it (annex D). */
static uint32_t
crc(const uint8_t *bytes, size_t length)
{
	uint32_t c = 0xffffffffu;

	for (size_t i = 0; i < length; i++)
	{
		c ^= bytes[i];
		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
	}
	return ~c;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	size = LLVMFuzzerMutate != NULL ? LLVMFuzzerMutate(data, size, max_size) : size;
	for (size_t at = 8; seed % 16 != 0 && at + 12 <= size;)
	{
		size_t length = (size_t) data[at] << 24 | (size_t) data[at + 1] << 16 |
						(size_t) data[at + 2] << 8 | data[at + 3];
		uint32_t sum;

		if (length > size - at - 12)
			break;
		sum = crc(data + at + 4, 4 + length);
		for (int i = 0; i < 4; i++)
			data[at + 8 + length + (size_t) i] = (uint8_t) (sum >> (24 - 8 * i));
		at += 12 + length;
	}
	return size;
}
