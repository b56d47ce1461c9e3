/*
 * fa.c
 *		Filling in errors, and the small things beside; see fa.h.
 */
#include "fa.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

fa_status
fa_fail(fa_error *error, fa_status status, const char *message, ...)
{
	va_list arguments;

	error->status = status;
	error->detail[0] = '\0';
	va_start(arguments, message);
	vsnprintf(error->message, sizeof(error->message), message, arguments);
	va_end(arguments);
	return status;
}

fa_status
fa_detail(fa_error *error, const char *detail, ...)
{
	va_list arguments;

	va_start(arguments, detail);
	vsnprintf(error->detail, sizeof(error->detail), detail, arguments);
	va_end(arguments);
	return error->status;
}

fa_status
fa_no_memory(fa_error *error, size_t bytes)
{
	fa_fail(error, FA_NO_MEMORY, "out of memory");
	return fa_detail(error, "Failed on a request of %zu bytes.", bytes);
}

fa_status
fa_check_interrupt(const fa_interrupt *interrupt, fa_error *error)
{
	if (interrupt != NULL && interrupt->should_stop(interrupt->argument))
		return fa_fail(error, FA_INTERRUPTED, "interrupted");
	return FA_OK;
}

fa_status
fa_error_in(fa_error *error, const char *path)
{
	char message[sizeof(error->message)];

	memcpy(message, error->message, sizeof(message));
	snprintf(error->message, sizeof(error->message), "%.150s: %.100s", path, message);
	return error->status;
}

double
fa_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

bool
fa_parse_numbers(const char *text, double *numbers, int count)
{
	for (int i = 0; i < count && text != NULL; i++)
	{
		char *end;

		numbers[i] = strtod(text, &end);
		if (end == text || !isfinite(numbers[i]) || *end != (i == count - 1 ? '\0' : ','))
			return false;
		text = end + 1;
	}
	return text != NULL;
}
