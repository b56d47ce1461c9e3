/*
 * kernel_body.h
 *		How kernels are written, for kernels.c and pooling.c alone.
 *
 * Each kernel is an always-inlined body with the type of the activations as a
 * constant, called once for fp32 and once for bf16 by a function that the
 * compiler clones per instruction set. Channels are the innermost dimension and
 * what the loops vectorise over.
 */
#ifndef FA_KERNEL_BODY_H
#define FA_KERNEL_BODY_H

#include "kernels.h"

#include <string.h>

#if defined(__x86_64__) && !defined(__clang__)
#define FA_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FA_CLONES
#endif
#define FA_BODY static inline __attribute__((always_inline))

/* Calls body(arguments..., type) with type a constant. */
#define FA_BY_TYPE(type, body, ...)                                                                \
	do                                                                                             \
	{                                                                                              \
		if ((type) == FA_ACT_BF16)                                                                 \
			body(__VA_ARGS__, FA_ACT_BF16);                                                        \
		else                                                                                       \
			body(__VA_ARGS__, FA_ACT_F32);                                                         \
	} while (0)

FA_BODY float
load(const void *data, size_t i, fa_act_type type)
{
	uint32_t bits;
	float value;

	if (type == FA_ACT_F32)
		return ((const float *) data)[i];
	bits = (uint32_t) ((const uint16_t *) data)[i] << 16;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* Round to nearest even; values here are finite. */
FA_BODY void
store(void *data, size_t i, float value, fa_act_type type)
{
	uint32_t bits;

	if (type == FA_ACT_F32)
	{
		((float *) data)[i] = value;
		return;
	}
	memcpy(&bits, &value, sizeof(bits));
	((uint16_t *) data)[i] = (uint16_t) ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline const void *
offset(const void *data, size_t elements, fa_act_type type)
{
	return (const char *) data + elements * fa_act_size(type);
}

static inline void *
offset_out(void *data, size_t elements, fa_act_type type)
{
	return (char *) data + elements * fa_act_size(type);
}

#endif
