/*
 * fa.h
 *		What every room of the core shares: errors as values, the question
 *		"should I stop?", a clock, and arithmetic on sizes that cannot overflow.
 *
 * The core (vision, nn, face) never exits, never prints and never jumps. A
 * function that can fail returns an fa_status, FA_OK being zero, and describes
 * the failure in the fa_error that is its last argument (never NULL). Only the
 * failing function writes the error; callers pass it on.
 */
#ifndef FA_H
#define FA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum fa_status
{
	FA_OK = 0,
	FA_INTERRUPTED, /* fa_interrupt said stop */
	FA_NO_MEMORY,
	FA_DAMAGED,     /* the bytes are not what they claim to be */
	FA_UNSUPPORTED, /* sound perhaps, but not something we read or run */
	FA_TOO_LARGE,   /* beyond a limit that a setting names */
	FA_NOT_FOUND,   /* a file, a model, a label */
	FA_INVALID,     /* the caller's argument makes no sense */
	FA_IO,
	FA_INTERNAL,
	FA_DEVICE_LOST /* a GPU failed, and nothing but a new process can use it again */
} fa_status;

typedef struct fa_error
{
	fa_status status;
	char message[256]; /* one lower-case clause: "PNG image is damaged" */
	char detail[256];  /* where and why: "CRC error in chunk IDAT at byte 81"; may be empty */
} fa_error;

/*
 * Asked between rows of a decode and between layers of a network, from the
 * calling thread only. NULL in place of the struct means "never".
 */
typedef struct fa_interrupt
{
	bool (*should_stop)(void *argument);
	void *argument;
} fa_interrupt;

/* Fills *error and returns status, so that a caller can write return fa_fail(...). */
extern fa_status fa_fail(fa_error *error, fa_status status, const char *message, ...)
	__attribute__((format(printf, 3, 4)));
/* Adds the detail to an error that fa_fail has just filled; returns its status. */
extern fa_status fa_detail(fa_error *error, const char *detail, ...)
	__attribute__((format(printf, 2, 3)));
extern fa_status fa_no_memory(fa_error *error, size_t bytes);
/* Puts "path: " before an error's message; returns its status. */
extern fa_status fa_error_in(fa_error *error, const char *path);
/* Exactly count finite numbers between commas and nothing else; false otherwise, or for NULL. */
extern bool fa_parse_numbers(const char *text, double *numbers, int count);
/* A clock that nobody sets: only differences mean something. */
extern double fa_seconds(void);
/* FA_OK, or FA_INTERRUPTED when the caller wants to stop. */
extern fa_status fa_check_interrupt(const fa_interrupt *interrupt, fa_error *error);

/* Passes a failure on, where the function owns nothing that must be freed first. */
#define FA_TRY(call)                                                                               \
	do                                                                                             \
	{                                                                                              \
		fa_status status_ = (call);                                                                \
		if (status_ != FA_OK)                                                                      \
			return status_;                                                                        \
	} while (0)

/* *product = a * b; false on overflow. */
static inline bool
fa_multiply(size_t a, size_t b, size_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* *sum = a + b; false on overflow. */
static inline bool
fa_add(size_t a, size_t b, size_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

#endif
