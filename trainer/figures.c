/*
 * figures.c
 *		Printing an evaluation; see figures.h. Both forms walk over the same groups.
 */
#include "figures.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#define NAME_LENGTH 96

typedef struct evaluation
{
	const fa_judgement *judgements;
	int count;
	const fa_label_sets *sets;
	uint64_t seed;
	const fa_interrupt *interrupt;
} evaluation;

static fa_status
compute(const evaluation *e, fa_group group, fa_figures *figures, fa_error *error)
{
	return fa_figures_compute(e->judgements, e->count, group, e->seed, figures, e->interrupt,
							  error);
}

static const char *
decade_name(int decade, char name[NAME_LENGTH])
{
	snprintf(name, NAME_LENGTH, decade == FA_DECADES - 1 ? "%d+ years" : "%d-%d years", 10 * decade,
			 10 * decade + 9);
	return name;
}

/* Called for the groups that have a member. */
typedef fa_status (*take_group)(void *argument, fa_group group, const fa_figures *figures,
								fa_error *error);

/* All cells of race, gender and decade. */
static fa_status
each_cell(const evaluation *e, take_group take, void *argument, fa_error *error)
{
	fa_figures f;

	for (int r = 0; r < e->sets->races.count; r++)
		for (int g = 0; g < e->sets->genders.count; g++)
			for (int d = 0; d < FA_DECADES; d++)
			{
				fa_group group = {r, g, d};

				FA_TRY(compute(e, group, &f, error));
				if (f.count > 0)
					FA_TRY(take(argument, group, &f, error));
			}
	return FA_OK;
}

/* --- Text ------------------------------------------------------------------------ */

static void
print_interval(const fa_estimate *e, double factor, int digits)
{
	char text[48];

	snprintf(text, sizeof(text), "%.*f (%.*f-%.*f)", digits, factor * e->value, digits,
			 factor * e->low, digits, factor * e->high);
	printf(" %*s", digits == 2 ? 18 : 19, isnan(e->value) ? "-" : text);
}

static void
print_number(double value, int width, int digits)
{
	if (isnan(value))
		printf(" %*s", width, "-");
	else
		printf(" %*.*f", width, digits, value);
}

static void
print_head(void)
{
	printf("%-28s %7s %7s %18s %6s %7s %19s %6s %19s %6s %19s %19s\n", "group", "count", "found",
		   "age error, years", "bias", "inside%", "gender right, %", "ECE%", "race right, %",
		   "ECE%", "<18 seen as adult%", "<21 seen as adult%");
}

static void
print_line(const char *group, const fa_figures *f)
{
	printf("%-28s %7d %7d", group, f->count, f->found);
	print_interval(&f->age_error, 1, 2);
	print_number(f->age_bias, 6, 2);
	print_number(100 * f->age_coverage, 7, 1);
	print_interval(&f->gender, 100, 1);
	print_number(100 * f->gender_calibration, 6, 1);
	print_interval(&f->race, 100, 1);
	print_number(100 * f->race_calibration, 6, 1);
	print_interval(&f->false_adult_18, 100, 1);
	print_interval(&f->false_adult_21, 100, 1);
	putchar('\n');
}

static fa_status
print_cell(void *argument, fa_group group, const fa_figures *figures, fa_error *error)
{
	const fa_label_sets *sets = argument;
	char decade[NAME_LENGTH], name[NAME_LENGTH];

	(void) error;
	decade_name(group.decade, decade);
	snprintf(name, sizeof(name), "%.32s %.32s %.24s", sets->races.names[group.race],
			 sets->genders.names[group.gender], decade);
	print_line(name, figures);
	return FA_OK;
}

fa_status
fa_figures_to_text(const fa_judgement *judgements, int count, int bad, const fa_label_sets *sets,
				   const fa_person_figures *persons, uint64_t seed, const fa_interrupt *interrupt,
				   fa_error *error)
{
	evaluation e = {judgements, count, sets, seed, interrupt};
	fa_figures f;
	char name[NAME_LENGTH];

	FA_TRY(compute(&e, (fa_group){-1, -1, -1}, &f, error));
	print_head();
	print_line("all", &f);
	for (int i = 0; i < sets->races.count; i++)
	{
		FA_TRY(compute(&e, (fa_group){i, -1, -1}, &f, error));
		print_line(sets->races.names[i], &f);
	}
	for (int i = 0; i < sets->genders.count; i++)
	{
		FA_TRY(compute(&e, (fa_group){-1, i, -1}, &f, error));
		print_line(sets->genders.names[i], &f);
	}
	for (int i = 0; i < FA_DECADES; i++)
	{
		FA_TRY(compute(&e, (fa_group){-1, -1, i}, &f, error));
		print_line(decade_name(i, name), &f);
	}
	FA_TRY(each_cell(&e, print_cell, (void *) sets, error));
	if (bad > 0)
		printf("%d images could not be decoded\n", bad);
	if (persons->same > 0)
		printf(
			"persons: %.2f %% of %d pairs told apart; area under the curve %.4f; of the pairs of "
			"one person %.1f %% found at 1 %% false ones, %.1f %% at 0.1 %%\n",
			persons->accuracy, persons->same + persons->other, persons->auc,
			persons->true_accepts_100, persons->true_accepts_1000);
	return FA_OK;
}

/* --- JSON ------------------------------------------------------------------------ */

static json_t *
number(double value)
{
	return isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null();
}

/* The value, and NAME_interval beside it. */
static void
set_estimate(json_t *json, const char *name, const fa_estimate *estimate, double factor)
{
	char interval[NAME_LENGTH];

	snprintf(interval, sizeof(interval), "%s_interval", name);
	json_object_set_new(json, name, number(factor * estimate->value));
	json_object_set_new(
		json, interval,
		json_pack("[o, o]", number(factor * estimate->low), number(factor * estimate->high)));
}

static json_t *
to_json(const fa_figures *f)
{
	json_t *json = json_object();

	json_object_set_new(json, "count", json_integer(f->count));
	json_object_set_new(json, "found", json_integer(f->found));
	json_object_set_new(json, "not_found", json_integer(f->count - f->found));
	set_estimate(json, "age_mae", &f->age_error, 1);
	json_object_set_new(json, "age_bias", number(f->age_bias));
	json_object_set_new(json, "age_interval_coverage", number(100 * f->age_coverage));
	set_estimate(json, "gender_accuracy", &f->gender, 100);
	json_object_set_new(json, "gender_calibration_error", number(100 * f->gender_calibration));
	set_estimate(json, "race_accuracy", &f->race, 100);
	json_object_set_new(json, "race_calibration_error", number(100 * f->race_calibration));
	json_object_set_new(json, "below_18", json_integer(f->minors_18));
	set_estimate(json, "false_adult_rate_18", &f->false_adult_18, 100);
	json_object_set_new(json, "below_21", json_integer(f->minors_21));
	set_estimate(json, "false_adult_rate_21", &f->false_adult_21, 100);
	return json;
}

fa_status
fa_figures_total(const fa_judgement *judgements, int count, uint64_t seed, json_t **json,
				 fa_error *error)
{
	fa_figures f;

	FA_TRY(fa_figures_compute(judgements, count, (fa_group){-1, -1, -1}, seed, &f, NULL, error));
	*json = to_json(&f);
	return FA_OK;
}

typedef struct cells
{
	const fa_label_sets *sets;
	json_t *array;
} cells;

static fa_status
add_cell(void *argument, fa_group group, const fa_figures *figures, fa_error *error)
{
	cells *c = argument;
	json_t *json = to_json(figures);

	(void) error;
	json_object_set_new(json, "race", json_string(c->sets->races.names[group.race]));
	json_object_set_new(json, "gender", json_string(c->sets->genders.names[group.gender]));
	json_object_set_new(json, "decade", json_integer(10 * (json_int_t) group.decade));
	json_array_append_new(c->array, json);
	return FA_OK;
}

static fa_status
add_groups(const evaluation *e, json_t *json, fa_error *error)
{
	json_t *races = json_object(), *genders = json_object(), *decades = json_object();
	cells c = {e->sets, json_array()};
	fa_figures f;

	json_object_set_new(json, "race", races);
	json_object_set_new(json, "gender", genders);
	json_object_set_new(json, "decade", decades);
	json_object_set_new(json, "groups", c.array);
	for (int i = 0; i < e->sets->races.count; i++)
	{
		FA_TRY(compute(e, (fa_group){i, -1, -1}, &f, error));
		json_object_set_new(races, e->sets->races.names[i], to_json(&f));
	}
	for (int i = 0; i < e->sets->genders.count; i++)
	{
		FA_TRY(compute(e, (fa_group){-1, i, -1}, &f, error));
		json_object_set_new(genders, e->sets->genders.names[i], to_json(&f));
	}
	for (int i = 0; i < FA_DECADES; i++)
	{
		char name[NAME_LENGTH];

		snprintf(name, sizeof(name), "%d", 10 * i);
		FA_TRY(compute(e, (fa_group){-1, -1, i}, &f, error));
		json_object_set_new(decades, name, to_json(&f));
	}
	return each_cell(e, add_cell, &c, error);
}

fa_status
fa_figures_to_json(const fa_judgement *judgements, int count, int bad, const fa_label_sets *sets,
				   const fa_person_figures *persons, uint64_t seed, const fa_interrupt *interrupt,
				   fa_error *error)
{
	evaluation e = {judgements, count, sets, seed, interrupt};
	fa_figures f;
	json_t *json;
	fa_status status;

	FA_TRY(compute(&e, (fa_group){-1, -1, -1}, &f, error));
	json = to_json(&f);
	json_object_set_new(json, "bad_images", json_integer(bad));
	if (persons->same > 0)
		json_object_set_new(
			json, "persons",
			json_pack("{s:i, s:i, s:o, s:f, s:o, s:o}", "same_pairs", persons->same, "other_pairs",
					  persons->other, "accuracy", number(persons->accuracy), "auc", persons->auc,
					  "true_accept_rate_at_1_percent", number(persons->true_accepts_100),
					  "true_accept_rate_at_0.1_percent", number(persons->true_accepts_1000)));
	status = add_groups(&e, json, error);
	if (status == FA_OK)
	{
		json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
		putchar('\n');
	}
	json_decref(json);
	return status;
}
