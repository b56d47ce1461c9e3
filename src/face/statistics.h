/*
 * statistics.h
 *		How well a model does on labelled faces, in figures with their uncertainty: for
 *		the companion program and for SQL. Knows neither models nor label names.
 */
#ifndef FA_STATISTICS_H
#define FA_STATISTICS_H

#include "../fa.h"

#define FA_DECADES 11 /* of age: 0-9, 10-19 ... 100 and above */

/* One labelled face, and what a model said of it. */
typedef struct fa_judgement
{
	/* the truth; -1: no label */
	int gender, race;
	float age;      /* years; of a range the middle */
	float age_most; /* the range's end, or the age */
	/* the model; where a face was not found the rest is not looked at */
	bool found, has_age;
	float predicted_age, age_low, age_high;
	int gender_right, race_right; /* 1 or 0; -1: no label, or no such head */
	float gender_confidence, race_confidence;
} fa_judgement;

/* Those of one race, gender and decade of age; -1: of all. */
typedef struct fa_group
{
	int race, gender, decade;
} fa_group;

/* With the limits of a 95 % interval; all NAN where there is nothing to count. */
typedef struct fa_estimate
{
	double value, low, high;
} fa_estimate;

typedef struct fa_figures
{
	int count, found;
	int ages, genders, races; /* found, labelled, and the model says something */
	/* mean absolute error, years; the interval by bootstrap: percentiles of 1,000 resamples' means
	 */
	fa_estimate age_error;
	double age_bias;     /* mean of prediction - truth, years */
	double age_coverage; /* share of ages within the model's interval */
	/* shares that are right, with Wilson's score interval */
	fa_estimate gender, race;
	/*
	 * Expected calibration error (Guo et al. 2017): difference of confidence and accuracy in 15
	 * equal bins of confidence, weighted by how many fall into each.
	 */
	double gender_calibration, race_calibration;
	/* Of those surely below 18 and 21 years, how many, and the share predicted to be that or more.
	 */
	int minors_18, minors_21;
	fa_estimate false_adult_18, false_adult_21;
} fa_figures;

/* The decade of an age, or -1 for no label. */
extern int fa_decade(float age);
extern bool fa_in_group(const fa_judgement *judgement, fa_group group);

/*
 * The figures of a group. The same judgements in the same order and the same seed give the same
 * ones. FA_NO_MEMORY, FA_INTERRUPTED.
 */
extern fa_status fa_figures_compute(const fa_judgement *judgements, int count, fa_group group,
									uint64_t seed, fa_figures *figures,
									const fa_interrupt *interrupt, fa_error *error);

/* Wilson's score interval at 95 % (Wilson 1927) of `right` among n. */
extern fa_estimate fa_wilson(int right, int n);

#endif
