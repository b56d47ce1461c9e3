/*
 * statistics.c
 *		Errors, accuracies and their intervals; see statistics.h.
 */
#include "statistics.h"

#include "../random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NORMAL_975 1.959963984540054 /* the normal distribution's 97.5 % quantile */
#define RESAMPLES 1000
#define BINS 15

int
fa_decade(float age)
{
	return age < 0 ? -1 : (int) fminf(age / 10, FA_DECADES - 1);
}

bool
fa_in_group(const fa_judgement *j, fa_group group)
{
	return (group.race < 0 || j->race == group.race) &&
		   (group.gender < 0 || j->gender == group.gender) &&
		   (group.decade < 0 || fa_decade(j->age) == group.decade);
}

fa_estimate
fa_wilson(int right, int n)
{
	double z = NORMAL_975, p, scale, middle, half;

	if (n == 0)
		return (fa_estimate){NAN, NAN, NAN};
	p = (double) right / n;
	scale = 1 + z * z / n;
	middle = (p + z * z / (2.0 * n)) / scale;
	half = z / scale * sqrt(p * (1 - p) / n + z * z / (4.0 * n * n));
	/* at the ends the formula's 0 and 1 are not quite met in floating point */
	return (fa_estimate){p, right == 0 ? 0 : middle - half, right == n ? 1 : middle + half};
}

static double
mean(double sum, int count)
{
	return count > 0 ? sum / count : NAN;
}

/* --- Bootstrap ------------------------------------------------------------------- */

static int
compare(const void *left, const void *right)
{
	double a = *(const double *) left, b = *(const double *) right;

	return a < b ? -1 : a > b;
}

/* Of sorted values, between neighbours linearly. */
static double
quantile(const double *values, int count, double q)
{
	double place = q * (count - 1);
	int below = (int) place;

	if (below >= count - 1)
		return values[count - 1];
	return values[below] + (place - below) * (values[below + 1] - values[below]);
}

/* The mean with its bootstrap interval (Efron 1979). */
static fa_status
bootstrap(const float *values, int count, uint64_t seed, fa_estimate *estimate,
		  const fa_interrupt *interrupt, fa_error *error)
{
	double means[RESAMPLES], sum = 0;
	fa_random random = {seed};

	*estimate = (fa_estimate){NAN, NAN, NAN};
	if (count == 0)
		return FA_OK;
	for (int i = 0; i < count; i++)
		sum += values[i];
	for (int r = 0; r < RESAMPLES; r++)
	{
		double resampled = 0;

		FA_TRY(fa_check_interrupt(interrupt, error));
		for (int i = 0; i < count; i++)
			resampled += values[(fa_random_bits(&random) >> 32) * (uint64_t) count >> 32];
		means[r] = resampled / count;
	}
	qsort(means, RESAMPLES, sizeof(double), compare);
	*estimate = (fa_estimate){sum / count, quantile(means, RESAMPLES, 0.025),
							  quantile(means, RESAMPLES, 0.975)};
	return FA_OK;
}

/* --- Sums over a group ------------------------------------------------------------ */

typedef struct bins
{
	double confidence[BINS];
	int right[BINS];
} bins;

static void
add_to_bin(bins *b, float confidence, int right)
{
	int bin = (int) (confidence * BINS);

	bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
	b->confidence[bin] += confidence;
	b->right[bin] += right;
}

/* In a bin of n the difference of means, times n / count: the difference of sums / count. */
static double
calibration_error(const bins *b, int count)
{
	double sum = 0;

	for (int i = 0; i < BINS; i++)
		sum += fabs(b->confidence[i] - b->right[i]);
	return mean(sum, count);
}

typedef struct sums
{
	double difference;
	int covered, gender_right, race_right, adult_18, adult_21;
	bins gender, race;
} sums;

/* *error_of_age: where the next one goes. */
static void
add(fa_figures *f, sums *s, float *error_of_age, const fa_judgement *j)
{
	f->count++;
	if (!j->found)
		return;
	f->found++;
	if (j->age >= 0 && j->has_age)
	{
		double difference = (double) j->predicted_age - j->age;

		error_of_age[f->ages++] = (float) fabs(difference);
		s->difference += difference;
		s->covered += j->age >= j->age_low && j->age <= j->age_high;
		f->minors_18 += j->age_most < 18;
		s->adult_18 += j->age_most < 18 && j->predicted_age >= 18;
		f->minors_21 += j->age_most < 21;
		s->adult_21 += j->age_most < 21 && j->predicted_age >= 21;
	}
	if (j->gender_right >= 0)
	{
		f->genders++;
		s->gender_right += j->gender_right;
		add_to_bin(&s->gender, j->gender_confidence, j->gender_right);
	}
	if (j->race_right >= 0)
	{
		f->races++;
		s->race_right += j->race_right;
		add_to_bin(&s->race, j->race_confidence, j->race_right);
	}
}

fa_status
fa_figures_compute(const fa_judgement *judgements, int count, fa_group group, uint64_t seed,
				   fa_figures *figures, const fa_interrupt *interrupt, fa_error *error)
{
	float *errors = malloc(((size_t) count + 1) * sizeof(float));
	sums s = {0};
	fa_status status;

	memset(figures, 0, sizeof(*figures));
	if (errors == NULL)
		return fa_no_memory(error, ((size_t) count + 1) * sizeof(float));
	for (int i = 0; i < count; i++)
		if (fa_in_group(&judgements[i], group))
			add(figures, &s, errors, &judgements[i]);
	status = bootstrap(errors, figures->ages, seed, &figures->age_error, interrupt, error);
	free(errors);
	figures->age_bias = mean(s.difference, figures->ages);
	figures->age_coverage = mean(s.covered, figures->ages);
	figures->gender = fa_wilson(s.gender_right, figures->genders);
	figures->race = fa_wilson(s.race_right, figures->races);
	figures->gender_calibration = calibration_error(&s.gender, figures->genders);
	figures->race_calibration = calibration_error(&s.race, figures->races);
	figures->false_adult_18 = fa_wilson(s.adult_18, figures->minors_18);
	figures->false_adult_21 = fa_wilson(s.adult_21, figures->minors_21);
	return status;
}
