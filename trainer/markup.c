/*
 * markup.c
 *		Text, base64 and charts; see markup.h.
 */
#include "markup.h"

#include <math.h>
#include <stdbool.h>

#define WIDTH 480
#define HEIGHT 250
#define LEFT 54
#define RIGHT 14
#define TOP 40
#define BOTTOM 40

void
fa_markup_text(FILE *to, const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		switch (*c)
		{
			case '<':
				fputs("&lt;", to);
				break;
			case '>':
				fputs("&gt;", to);
				break;
			case '&':
				fputs("&amp;", to);
				break;
			case '"':
				fputs("&quot;", to);
				break;
			case '\'':
				fputs("&#39;", to);
				break;
			default:
				/* a control character is no text in HTML */
				fputc((unsigned char) *c < ' ' && *c != '\n' && *c != '\t' ? '?' : *c, to);
		}
}

void
fa_markup_base64(FILE *to, const uint8_t *bytes, size_t length)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < length; i += 3)
	{
		size_t left = length - i;
		uint32_t three = (uint32_t) bytes[i] << 16 | (left > 1 ? (uint32_t) bytes[i + 1] << 8 : 0) |
						 (left > 2 ? bytes[i + 2] : 0);

		fputc(digits[three >> 18], to);
		fputc(digits[three >> 12 & 63], to);
		fputc(left > 1 ? digits[three >> 6 & 63] : '=', to);
		fputc(left > 2 ? digits[three & 63] : '=', to);
	}
}

/* ---- Charts ------------------------------------------------------------------------ */

/* An axis: from low to high, with a tick every `step`. */
typedef struct axis
{
	double low, high, step;
} axis;

/* 1, 2 or 5 times a power of ten, about a fifth of the range. */
static axis
make_axis(double low, double high)
{
	double raw, power;
	axis a;

	if (high - low < 1e-9 * fmax(fabs(high), 1))
	{
		low -= fmax(fabs(low) / 10, 1e-3);
		high += fmax(fabs(high) / 10, 1e-3);
	}
	raw = (high - low) / 5;
	power = pow(10, floor(log10(raw)));
	a.step = power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
	a.low = a.step * floor(low / a.step + 1e-9);
	a.high = a.step * ceil(high / a.step - 1e-9);
	return a;
}

static double
place(const axis *a, double value, double from, double to)
{
	return from + (value - a->low) / (a->high - a->low) * (to - from);
}

static void
draw_axes(FILE *to, const axis *x, const axis *y, const char *x_name)
{
	for (int i = 0; i <= lround((y->high - y->low) / y->step); i++)
	{
		double value = y->low + i * y->step, at = place(y, value, HEIGHT - BOTTOM, TOP);

		fprintf(to, "<line class='grid' x1='%d' x2='%d' y1='%.1f' y2='%.1f'/>", LEFT, WIDTH - RIGHT,
				at, at);
		fprintf(to, "<text class='tick' x='%d' y='%.1f' text-anchor='end'>%.4g</text>", LEFT - 6,
				at + 4, fabs(value) < y->step / 1e6 ? 0 : value);
	}
	for (int i = 0; i <= lround((x->high - x->low) / x->step); i++)
	{
		double value = x->low + i * x->step;

		fprintf(to, "<text class='tick' x='%.1f' y='%d' text-anchor='middle'>%.4g</text>",
				place(x, value, LEFT, WIDTH - RIGHT), HEIGHT - BOTTOM + 16,
				fabs(value) < x->step / 1e6 ? 0 : value);
	}
	fprintf(to, "<text class='tick' x='%d' y='%d' text-anchor='middle'>",
			(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
	fa_markup_text(to, x_name);
	fputs("</text>", to);
}

static void
draw_series(FILE *to, const axis *x_axis, const axis *y_axis, const char *unit, const double *x,
			int count, const fa_series *s)
{
	bool drawing = false;

	fprintf(to, "<path fill='none' stroke='%s' stroke-width='2' d='", s->colour);
	for (int i = 0; i < count; i++)
	{
		if (isfinite(s->values[i]))
			fprintf(to, "%c%.1f %.1f", drawing ? 'L' : 'M',
					place(x_axis, x[i], LEFT, WIDTH - RIGHT),
					place(y_axis, s->values[i], HEIGHT - BOTTOM, TOP));
		drawing = isfinite(s->values[i]);
	}
	fputs("'/>", to);
	for (int i = 0; i < count; i++)
		if (isfinite(s->values[i]))
		{
			fprintf(to, "<circle r='%s' fill='%s' cx='%.1f' cy='%.1f'><title>",
					count > 60 ? "1.5" : "3", s->colour, place(x_axis, x[i], LEFT, WIDTH - RIGHT),
					place(y_axis, s->values[i], HEIGHT - BOTTOM, TOP));
			fa_markup_text(to, s->name);
			fprintf(to, ", %.4g: %.5g", x[i], s->values[i]);
			fa_markup_text(to, unit);
			fputs("</title></circle>", to);
		}
}

void
fa_markup_chart(FILE *to, const char *title, const char *x_name, const char *unit, const double *x,
				int count, const fa_series *series, int series_count)
{
	double low = INFINITY, high = -INFINITY, legend = LEFT;
	axis x_axis, y_axis;

	for (int s = 0; s < series_count; s++)
		for (int i = 0; i < count; i++)
			if (isfinite(series[s].values[i]))
			{
				low = fmin(low, series[s].values[i]);
				high = fmax(high, series[s].values[i]);
			}
	if (low > high)
		return;
	fprintf(to, "<svg viewBox='0 0 %d %d' width='%d' role='img'><text class='title' x='%d' y='15'>",
			WIDTH, HEIGHT, WIDTH, LEFT);
	fa_markup_text(to, title);
	fputs("</text>", to);
	x_axis = make_axis(fmin(x[0], count > 1 ? x[0] : 0), x[count - 1]);
	y_axis = make_axis(low, high);
	draw_axes(to, &x_axis, &y_axis, x_name);
	for (int s = 0; s < series_count; s++)
	{
		draw_series(to, &x_axis, &y_axis, unit, x, count, &series[s]);
		if (series_count == 1) /* the title says it */
			continue;
		fprintf(to,
				"<rect x='%.0f' y='25' width='14' height='3' fill='%s'/>"
				"<text class='tick' x='%.0f' y='30'>",
				legend, series[s].colour, legend + 18);
		fa_markup_text(to, series[s].name);
		fputs("</text>", to);
		legend += 90;
	}
	fputs("</svg>\n", to);
}
