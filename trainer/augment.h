/*
 * augment.h
 *		What a camera, a detector and a thumbnail maker do to faces, done at random
 *		to training images: a face in use is small, tilted, blurred, masked or
 *		compressed to bits, while the data's are clean.
 *
 * Called by the loader's threads; no state is shared.
 */
#ifndef FA_AUGMENT_H
#define FA_AUGMENT_H

#include "../src/vision/augmentation.h"
#include "../src/random.h"

/*
 * Probabilities are 0 ... 1. `strength` multiplies the probabilities (of all but the
 * flip) and the widths of ranges; 0 switches everything off but the flip.
 */
typedef struct fa_augment_options
{
	double strength;
	double flip;
	double shift, scale, rotate; /* every image: share of the side, log of the factor, degrees */
	double far;                  /* probability of three times as much of these */
	double colour; /* probability of a change of brightness, contrast, saturation ... */
	double grey;
	double gamma;
	double blur;
	double small;    /* as a small face enlarged: ... */
	double smallest; /* ... from a crop of at least this many pixels */
	double jpeg;     /* compressed again at quality 10 ... 89 */
	double noise;
	double erase; /* a rectangle painted over */
	double turn;  /* the head, up to 70 degrees to a side */
	double mask;  /* a face mask from the nose to below the chin */
	double glasses;
	double cap;    /* hair or a cap down to the brows */
	double street; /* instead of all these, what people in streets look like */
} fa_augment_options;

extern const fa_augment_options fa_augment_defaults;
extern const fa_augment_options fa_augment_none;

/* "0.5", a strength, or "rotate=15,jpeg=0": members by name, from 0 on. FA_INVALID. */
extern fa_status fa_augment_parse(fa_augment_options *options, const char *text, fa_error *error);

/*
 * Paints image->source, as options say, and draws into image->how what else is to be done to make
 * size x size pixels of it: of the centre 1 / zoom of the square that source is stretched to,
 * where the five landmarks lie at the template's places (fractions of the frame).
 */
extern fa_status fa_augment(fa_augmented *image, double zoom, const double (*landmark_template)[2],
							const fa_augment_options *options, fa_random *random, int size,
							fa_error *error);

#endif
