/*
 * paint.c
 *		Masks, glasses and patches; see paint.h. All are convex polygons filled row
 *		by row, with the ends of a row blended by how much they cover.
 */
#include "paint.h"

#define MAX_POINTS 24

typedef struct shape
{
	double points[MAX_POINTS][2]; /* pixels */
	int count;
} shape;

typedef struct ink
{
	double colour[3];
	double shade;        /* change of brightness from the top row to the bottom */
	double stripes;      /* contrast of horizontal folds */
	double stripe_width; /* pixels */
	double noise;        /* amplitude */
	double opacity;
} ink;

static void
add_point(shape *s, fa_frame frame, double x, double y)
{
	s->points[s->count][0] = frame.left + x * frame.width;
	s->points[s->count][1] = frame.top + y * frame.height;
	s->count++;
}

/* The part of the line y that the polygon covers. */
static bool
row_extent(const shape *s, double y, double *left, double *right)
{
	bool hit = false;

	for (int i = 0; i < s->count; i++)
	{
		const double *p = s->points[i], *q = s->points[(i + 1) % s->count];
		double x;

		if ((p[1] <= y) == (q[1] <= y))
			continue;
		x = p[0] + (q[0] - p[0]) * (y - p[1]) / (q[1] - p[1]);
		*left = hit ? fmin(*left, x) : x;
		*right = hit ? fmax(*right, x) : x;
		hit = true;
	}
	return hit;
}

static uint8_t
clamp_byte(double value)
{
	return (uint8_t) fmin(255, fmax(0, value + 0.5));
}

static void
fill(fa_image *image, const shape *s, const ink *ink, fa_random *random)
{
	double top = image->height, bottom = 0;

	for (int i = 0; i < s->count; i++)
	{
		top = fmin(top, s->points[i][1]);
		bottom = fmax(bottom, s->points[i][1]);
	}
	for (int y = (int) fmax(0, top); y < image->height && y < bottom; y++)
	{
		uint8_t *row = image->pixels + (size_t) y * image->stride;
		double left, right, light = ink->shade * ((y - top) / (bottom - top) - 0.5);

		if (!row_extent(s, y + 0.5, &left, &right))
			continue;
		if (ink->stripes > 0)
			light += ink->stripes * sin(2 * M_PI * y / ink->stripe_width);
		for (int x = (int) fmax(0, left); x < image->width && x < right; x++)
		{
			double cover = fmin(right, x + 1) - fmax(left, x), value = light;

			if (ink->noise > 0)
				value += fa_random_between(random, -ink->noise, ink->noise);
			cover = ink->opacity * fmin(1, fmax(0, cover));
			for (int c = 0; c < 3; c++)
				row[3 * x + c] =
					clamp_byte(row[3 * x + c] * (1 - cover) + (ink->colour[c] + value) * cover);
		}
	}
}

static void
random_colour(fa_random *random, double colour[3])
{
	for (int c = 0; c < 3; c++)
		colour[c] = fa_random_between(random, 0, 255);
}

void
fa_paint_mask(fa_image *image, fa_frame frame, const double (*landmarks)[2], fa_random *random)
{
	double eyes_x = (landmarks[0][0] + landmarks[1][0]) / 2;
	double eyes_y = (landmarks[0][1] + landmarks[1][1]) / 2;
	double span = landmarks[1][0] - landmarks[0][0];
	double nose_y = landmarks[2][1], mouth_y = (landmarks[3][1] + landmarks[4][1]) / 2;
	double bridge = eyes_y + (nose_y - eyes_y) * fa_random_between(random, 0.3, 1.15);
	double chin = mouth_y + (mouth_y - nose_y) * fa_random_between(random, 0.9, 1.7);
	double cheek = span * fa_random_between(random, 0.82, 1.05); /* half widths */
	double side = span * fa_random_between(random, 0.08, 0.3);
	double jaw = cheek * fa_random_between(random, 0.6, 0.95);
	double ear_y = bridge + (chin - bridge) * fa_random_between(random, 0.1, 0.35);
	double shift = span * fa_random_between(random, -0.06, 0.06);
	shape s = {.count = 0};
	ink ink = {.shade = fa_random_between(random, -50, 30), .opacity = 1};
	double kind = fa_random_unit(random);

	add_point(&s, frame, eyes_x + shift - side, bridge);
	add_point(&s, frame, eyes_x + shift + side, bridge);
	add_point(&s, frame, eyes_x + shift + cheek, ear_y);
	add_point(&s, frame, eyes_x + shift + cheek, ear_y + (chin - ear_y) * 0.4);
	add_point(&s, frame, eyes_x + shift + jaw, ear_y + (chin - ear_y) * 0.75);
	add_point(&s, frame, eyes_x + shift + jaw * 0.4, chin);
	add_point(&s, frame, eyes_x + shift - jaw * 0.4, chin);
	add_point(&s, frame, eyes_x + shift - jaw, ear_y + (chin - ear_y) * 0.75);
	add_point(&s, frame, eyes_x + shift - cheek, ear_y + (chin - ear_y) * 0.4);
	add_point(&s, frame, eyes_x + shift - cheek, ear_y);

	if (kind < 0.4) /* white to light blue or green, as surgeons' are */
	{
		double light = fa_random_between(random, 170, 250);

		ink.colour[0] = light - fa_random_between(random, 0, 90);
		ink.colour[1] = light - fa_random_between(random, 0, 25);
		ink.colour[2] = light;
	}
	else if (kind < 0.65) /* black to grey */
	{
		double light = fa_random_between(random, 10, 110);

		for (int c = 0; c < 3; c++)
			ink.colour[c] = light + fa_random_between(random, -8, 8);
	}
	else
		random_colour(random, ink.colour);
	if (fa_random_chance(random, 0.5))
	{
		ink.stripes = fa_random_between(random, 3, 14);
		ink.stripe_width = frame.height * fa_random_between(random, 0.04, 0.12);
	}
	if (fa_random_chance(random, 0.2))
		ink.noise = fa_random_between(random, 5, 60);
	fill(image, &s, &ink, random);
}

void
fa_paint_glasses(fa_image *image, fa_frame frame, const double (*landmarks)[2], fa_random *random)
{
	double span = landmarks[1][0] - landmarks[0][0];
	double wide = span * fa_random_between(random, 0.28, 0.45);
	double high = wide * fa_random_between(random, 0.6, 1.0);
	double drop = span * fa_random_between(random, -0.05, 0.12);
	double bridge = landmarks[0][1] + drop - high * 0.4;
	shape bar = {.count = 0};
	ink ink = {.shade = fa_random_between(random, -30, 60),
			   .opacity = fa_random_between(random, 0.75, 1)};

	if (fa_random_chance(random, 0.8))
	{
		double light = fa_random_between(random, 0, 70);

		for (int c = 0; c < 3; c++)
			ink.colour[c] = light + fa_random_between(random, 0, 15);
	}
	else
		random_colour(random, ink.colour);
	for (int eye = 0; eye < 2; eye++)
	{
		shape lens = {.count = 0};

		for (int i = 0; i < MAX_POINTS; i++)
		{
			double angle = 2 * M_PI * i / MAX_POINTS;

			add_point(&lens, frame, landmarks[eye][0] + wide * cos(angle),
					  landmarks[eye][1] + drop + high * sin(angle));
		}
		fill(image, &lens, &ink, random);
	}
	add_point(&bar, frame, landmarks[0][0] - wide, bridge);
	add_point(&bar, frame, landmarks[1][0] + wide, bridge);
	add_point(&bar, frame, landmarks[1][0] + wide, bridge + high * 0.25);
	add_point(&bar, frame, landmarks[0][0] - wide, bridge + high * 0.25);
	fill(image, &bar, &ink, random);
}

void
fa_paint_patch(fa_image *image, fa_frame frame, fa_random *random)
{
	double area = fa_random_log_between(random, 0.02, 0.2);
	double aspect = fa_random_log_between(random, 0.4, 2.5);
	double wide = fmin(0.9, sqrt(area * aspect)), high = fmin(0.9, sqrt(area / aspect));
	double x = fa_random_between(random, 0, 1 - wide), y = fa_random_between(random, 0, 1 - high);
	shape s = {.count = 0};
	ink ink = {.opacity = 1};

	add_point(&s, frame, x, y);
	add_point(&s, frame, x + wide, y);
	add_point(&s, frame, x + wide, y + high);
	add_point(&s, frame, x, y + high);
	random_colour(random, ink.colour);
	if (fa_random_chance(random, 0.3))
		ink.noise = 128;
	fill(image, &s, &ink, random);
}
