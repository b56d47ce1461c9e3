/*
 * half.h
 *		IEEE 754 binary16 and bfloat16 to and from fp32, in integer arithmetic: for
 *		files, not for hot loops.
 */
#ifndef FA_HALF_H
#define FA_HALF_H

#include <stdint.h>
#include <string.h>

static inline float
fa_from_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline float
fa_from_bfloat16(uint16_t half)
{
	return fa_from_bits((uint32_t) half << 16);
}

static inline float
fa_from_half(uint16_t half)
{
	uint32_t sign = (uint32_t) (half & 0x8000) << 16;
	uint32_t exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;

	if (exponent == 0x1f)
		return fa_from_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent != 0)
		return fa_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
	/* zero or subnormal: fraction * 2^-24 is exact in fp32 */
	return sign ? -(float) fraction * 0x1p-24f : (float) fraction * 0x1p-24f;
}

/* Rounds to nearest, ties to even; too large becomes infinity. */
static inline uint16_t
fa_to_half(float value)
{
	uint32_t bits, sign, magnitude, rounded;

	memcpy(&bits, &value, sizeof(bits));
	sign = (bits >> 16) & 0x8000;
	magnitude = bits & 0x7fffffff;
	if (magnitude > 0x7f800000)
		return (uint16_t) (sign | 0x7e00);
	if (magnitude >= 0x477ff000) /* 65520 and above round up to infinity */
		return (uint16_t) (sign | 0x7c00);
	if (magnitude >= 0x38800000) /* normal: 2^-14 and above */
	{
		rounded = magnitude - 0x38000000;
		return (uint16_t) (sign | (rounded + 0xfff + ((rounded >> 13) & 1)) >> 13);
	}
	/* subnormal: adding 0.5 makes the fp32 adder round at 2^-24 */
	value = fa_from_bits(magnitude) + 0.5f;
	memcpy(&rounded, &value, sizeof(rounded));
	return (uint16_t) (sign | (rounded - 0x3f000000));
}

#endif
