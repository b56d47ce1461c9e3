/*
 * markup.h
 *		HTML and SVG by pieces: text made safe, data in base64, line charts. Everything
 *		is written to a stream whose errors the caller looks at when it closes it.
 */
#ifndef FA_MARKUP_H
#define FA_MARKUP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Text as content or as an attribute's value in quotes: < > & " ' become entities. */
extern void fa_markup_text(FILE *to, const char *text);
/* RFC 4648, with padding. */
extern void fa_markup_base64(FILE *to, const uint8_t *bytes, size_t length);

typedef struct fa_series
{
	const char *name;
	const char *colour;   /* CSS */
	const double *values; /* one for each x; NAN: none */
} fa_series;

/*
 * A line chart as an <svg> element: `count` points of each series, x ascending. Values of
 * y are named in tooltips with the unit. Nothing is drawn where no value is finite.
 */
extern void fa_markup_chart(FILE *to, const char *title, const char *x_name, const char *unit,
							const double *x, int count, const fa_series *series, int series_count);

#endif
