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
	double side_shade;   /* and from left to right */
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
			double cover = fmin(right, x + 1) - fmax(left, x);
			double value = light + ink->side_shade * ((x - left) / (right - left) - 0.5);

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

/* A line of the given width, both in fractions of the frame. */
static void
stroke(fa_image *image, fa_frame frame, const double from[2], const double to[2], double width,
	   const ink *ink, fa_random *random)
{
	double dx = to[0] - from[0], dy = to[1] - from[1], length = hypot(dx, dy) + 1e-9;
	double x = -dy / length * width / 2, y = dx / length * width / 2;
	shape s = {.count = 0};

	add_point(&s, frame, from[0] + x, from[1] + y);
	add_point(&s, frame, to[0] + x, to[1] + y);
	add_point(&s, frame, to[0] - x, to[1] - y);
	add_point(&s, frame, from[0] - x, from[1] - y);
	fill(image, &s, ink, random);
}

/*
 * A mask seen from the front or, with turn towards -1 or 1, from a side: the far
 * half is then narrower. Straps run from its corners towards the ears.
 */
void
fa_paint_mask(fa_image *image, fa_frame frame, const double (*landmarks)[2], fa_random *random)
{
	double eyes_x = (landmarks[0][0] + landmarks[1][0]) / 2;
	double eyes_y = (landmarks[0][1] + landmarks[1][1]) / 2;
	double span = landmarks[1][0] - landmarks[0][0];
	double nose_y = landmarks[2][1], mouth_y = (landmarks[3][1] + landmarks[4][1]) / 2;
	double bridge = eyes_y + (nose_y - eyes_y) * fa_random_between(random, 0.15, 1.1);
	double chin = mouth_y + (mouth_y - nose_y) * fa_random_between(random, 0.9, 1.8);
	double cheek = span * fa_random_between(random, 0.75, 1.05); /* half widths */
	double side = span * fa_random_between(random, 0.08, 0.3);
	double jaw = cheek * fa_random_between(random, 0.6, 0.95);
	double ear_y = bridge + (chin - bridge) * fa_random_between(random, 0.1, 0.35);
	double jaw_y = ear_y + (chin - ear_y) * 0.75, low_y = ear_y + (chin - ear_y) * 0.4;
	double turn = fa_random_chance(random, 0.5) ? fa_random_between(random, -1, 1) : 0;
	double x = eyes_x + span * (fa_random_between(random, -0.06, 0.06) + 0.25 * turn);
	double left = turn < 0 ? 1 + 0.45 * turn : 1, right = turn > 0 ? 1 - 0.45 * turn : 1;
	shape s = {.count = 0};
	ink ink = {.shade = fa_random_between(random, -50, 30),
			   .side_shade = fa_random_between(random, -60, 60),
			   .opacity = 1};
	double kind = fa_random_unit(random);

	add_point(&s, frame, x - side * left, bridge);
	add_point(&s, frame, x + side * right, bridge);
	add_point(&s, frame, x + cheek * right, ear_y);
	add_point(&s, frame, x + cheek * right, low_y);
	add_point(&s, frame, x + jaw * right, jaw_y);
	add_point(&s, frame, x + jaw * right * 0.4, chin);
	add_point(&s, frame, x - jaw * left * 0.4, chin);
	add_point(&s, frame, x - jaw * left, jaw_y);
	add_point(&s, frame, x - cheek * left, low_y);
	add_point(&s, frame, x - cheek * left, ear_y);

	if (kind < 0.6) /* white to light blue or green, as surgeons' are */
	{
		double light = fa_random_between(random, 170, 250);

		ink.colour[0] = light - fa_random_between(random, 0, 90);
		ink.colour[1] = light - fa_random_between(random, 0, 25);
		ink.colour[2] = light;
	}
	else if (kind < 0.8) /* black to grey */
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
	if (fa_random_chance(random, 0.6))
	{
		double width = fa_random_between(random, 0.012, 0.03), light = ink.colour[1];
		double ears[2] = {x - (cheek + span * 0.35) * left, x + (cheek + span * 0.35) * right};
		struct ink strap = {.colour = {light, light, light}, .opacity = 0.9};

		for (int e = 0; e < 2; e++)
		{
			double corner = x + (e == 0 ? -cheek * left : cheek * right);
			double ear[2] = {ears[e], eyes_y + span * fa_random_between(random, -0.05, 0.2)};

			stroke(image, frame, (double[]){corner, ear_y}, ear, width, &strap, random);
			stroke(image, frame, (double[]){corner, low_y}, ear, width, &strap, random);
		}
	}
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
fa_paint_cap(fa_image *image, fa_frame frame, const double (*landmarks)[2], fa_random *random)
{
	double eyes_y = (landmarks[0][1] + landmarks[1][1]) / 2;
	double left_y = eyes_y - fa_random_between(random, -0.03, 0.16);
	double right_y = eyes_y - fa_random_between(random, -0.03, 0.16);
	shape s = {.count = 0};
	ink ink = {.shade = fa_random_between(random, -40, 40),
			   .side_shade = fa_random_between(random, -50, 50),
			   .noise = fa_random_between(random, 0, 25),
			   .opacity = fa_random_between(random, 0.85, 1)};

	add_point(&s, frame, -1, -1);
	add_point(&s, frame, 2, -1);
	add_point(&s, frame, 2, right_y);
	add_point(&s, frame, landmarks[1][0], right_y);
	add_point(&s, frame, landmarks[0][0], left_y);
	add_point(&s, frame, -1, left_y);
	if (fa_random_chance(random, 0.6)) /* hair: dark */
	{
		double light = fa_random_between(random, 5, 80);

		for (int c = 0; c < 3; c++)
			ink.colour[c] = light * (1 - 0.2 * c * fa_random_unit(random));
	}
	else
		random_colour(random, ink.colour);
	fill(image, &s, &ink, random);
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
