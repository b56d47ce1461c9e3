/*
 * test_labels.c
 *		Ages, UTKFace's file names and sets of labels, as they come and as they
 *		should not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../src/face/label_reader.h"

static void
ages(void **state)
{
	static const struct
	{
		const char *text;
		bool good;
		float low, high;
	} cases[] = {
		{"34", true, 34, 34},
		{"34.5", true, 34.5f, 34.5f},
		{"0", true, 0, 0},
		{"150", true, 150, 150},
		{"", true, -1, -1},
		{"20-29", true, 20, 29},
		{"more than 70", true, 70, 90},
		{"70+", true, 70, 90},
		{"140+", true, 140, 150},
		{"[20,30)", true, 20, 29},
		{"[20,30]", true, 20, 30},
		{"(20,30)", true, 21, 29},
		{"[70,)", true, 70, 90},
		{"(,3)", true, 0, 2},
		{"(,)", true, -1, -1},
		{"empty", true, -1, -1},
		{"151", false, -1, -1},
		{"-1", false, -1, -1},
		{"nan", false, -1, -1},
		{"inf", false, -1, -1},
		{"young", false, -1, -1},
		{"34 years", false, -1, -1},
		{"29-20", false, -1, -1},
		{"20-", false, -1, -1},
		{"20-29x", false, -1, -1},
		{"2.5-3", false, -1, -1},
		{"[20,30", false, -1, -1},
		{"[20,30)x", false, -1, -1},
		{"[20", false, -1, -1},
		{"[", false, -1, -1},
		{"[-5,3)", false, -1, -1},
		{"[20,200)", false, -1, -1},
		{"[2,b)", false, -1, -1},
		{"more than ", false, -1, -1},
		{"more than x", false, -1, -1},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		float low, high;

		if (fa_parse_age(cases[i].text, &low, &high) != cases[i].good || low != cases[i].low ||
			high != cases[i].high)
			fail_msg("\"%s\" gives %g to %g", cases[i].text, low, high);
	}
}

/* Its names as they are, the published malformed ones among them. */
static void
utkface_names(void **state)
{
	static const struct
	{
		const char *name;
		bool is, complete;
		float age;
		int gender, race;
	} cases[] = {
		{"26_1_3_20170119172125746.jpg.chip.jpg", true, true, 26, 1, 3},
		{"part1/100_0_0_20170112213500903.jpg.chip.jpg", true, true, 100, 0, 0},
		{"24_0_1_20170116220224657 .jpg.chip.jpg", true, true, 24, 0, 1},
		{"55_0_0_20170116232725357jpg.chip.jpg", true, true, 55, 0, 0},
		{"44_1_4_20170116235150272.pg.chip.jpg", true, true, 44, 1, 4},
		{"61_1_20170109142408075.jpg.chip.jpg", true, false, 61, 1, -1},
		{"53__0_20170116184028385.jpg.chip.jpg", true, false, 53, -1, 0},
		{"39_3_1_20170116174525125.jpg.chip.jpg", true, false, 39, -1, 1},
		{"200_0_0_20170116174525125.jpg.chip.jpg", true, false, -1, 0, 0},
		{"20_0_7_20170116174525125.jpg.chip.jpg", true, false, 20, 0, -1},
		{"20_0_12_20170116174525125.jpg.chip.jpg", true, false, 20, 0, -1},
		{"1.jpg", false, false, -1, -1, -1},
		{"portrait.jpg", false, false, -1, -1, -1},
		{"_1_2_3.jpg", false, false, -1, -1, -1},
		{"", false, false, -1, -1, -1},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		float age;
		int gender, race;
		bool complete;
		bool is = fa_parse_utkface_name(cases[i].name, &age, &gender, &race, &complete);

		if (is != cases[i].is || complete != cases[i].complete || age != cases[i].age ||
			gender != cases[i].gender || race != cases[i].race)
			fail_msg("\"%s\" gives %g %d %d", cases[i].name, age, gender, race);
	}
}

static void
a_dictionary_numbers_what_comes(void **state)
{
	fa_dictionary dictionary = {0};
	fa_error error;
	char name[16];
	int number;

	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		snprintf(name, sizeof(name), "%d", i * 7 % 5000);
		assert_int_equal(fa_dictionary_add(&dictionary, name, &number, &error), FA_OK);
		assert_string_equal(dictionary.names[number], name);
		assert_int_equal(number, i % 5000);
	}
	assert_int_equal(dictionary.count, 5000);
	fa_dictionary_free(&dictionary);
}

/* The set for names seen, and the classes of them. */
static void
check_set(const char *seen, const char *given, const char *names, const int *classes)
{
	fa_dictionary dictionary = {0};
	fa_labels labels, given_labels = {0};
	char copy[256], joined[256] = "";
	int *result, number, count = 0;
	fa_error error;

	if (given != NULL)
		assert_int_equal(fa_labels_parse(given, "--labels", &given_labels, &error), FA_OK);
	snprintf(copy, sizeof(copy), "%s", seen);
	for (char *name = strtok(copy, ","); name != NULL; name = strtok(NULL, ","))
		assert_int_equal(fa_dictionary_add(&dictionary, name, &number, &error), FA_OK);
	assert_int_equal(fa_labels_settle(&dictionary, given != NULL ? &given_labels : NULL,
									  &fa_usual_races, "race", &labels, &result, &error),
					 FA_OK);
	for (int i = 0; i < labels.count; i++)
	{
		strcat(joined, i > 0 ? "," : "");
		strcat(joined, labels.names[i]);
	}
	assert_string_equal(joined, names);
	for (; count < dictionary.count; count++)
		assert_int_equal(result[count], classes[count]);
	free(result);
	fa_labels_free(&labels);
	fa_labels_free(&given_labels);
	fa_dictionary_free(&dictionary);
}

#define USUAL "White,Black,Asian,Indian,Other"

static void
sets_follow_from_the_data(void **state)
{
	(void) state;
	check_set("", NULL, USUAL, NULL);
	check_set("black,WHITE", NULL, USUAL, (int[]){1, 0});
	check_set("4,0", NULL, USUAL, (int[]){4, 0});
	check_set("6,0", NULL, "0,1,2,3,4,5,6", (int[]){6, 0});
	/* FairFace's */
	check_set("White,East Asian,Middle Eastern,Latino_Hispanic,Southeast Asian,Black,Indian", NULL,
			  "Black,East Asian,Indian,Latino_Hispanic,Middle Eastern,Southeast Asian,White",
			  (int[]){6, 1, 4, 3, 5, 0, 2});
	check_set("elf,Elf,Dwarf", NULL, "Dwarf,elf", (int[]){1, 1, 0});
	check_set("elf,300", NULL, "300,elf", (int[]){1, 0});
}

static void
or_are_given(void **state)
{
	(void) state;
	check_set("elf,2,Orc,dwarf,3", "Dwarf, Elf ,Troll", "Dwarf,Elf,Troll",
			  (int[]){1, 2, -1, 0, -1});
}

static void
given_sets_are_checked(void **state)
{
	static const char *const bad[] = {"", "A", "A,,B", "A,B,a", "A,B,"};
	fa_labels labels;
	fa_error error;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		assert_int_equal(fa_labels_parse(bad[i], "--race-labels", &labels, &error), FA_INVALID);
		assert_non_null(strstr(error.message, "--race-labels"));
		assert_int_equal(labels.count, 0);
	}
}

static void
too_many_labels(void **state)
{
	fa_label_reader reader = {0};
	fa_label_sets sets;
	fa_label label;
	fa_error error;
	char name[16];

	(void) state;
	for (int i = 0; i < 257; i++)
	{
		snprintf(name, sizeof(name), "race %d", i);
		assert_int_equal(fa_label_reader_add(&reader, NULL, NULL, name, NULL, &label, &error),
						 FA_OK);
	}
	assert_int_equal(fa_label_reader_settle(&reader, NULL, &sets, &error), FA_TOO_LARGE);
	assert_non_null(strstr(error.message, "race"));
	fa_label_reader_free(&reader);
}

static void
a_reader_counts_what_is_no_label(void **state)
{
	fa_label_sets given = {0}, sets;
	fa_label_reader reader = {0};
	fa_label labels[3];
	fa_error error;

	(void) state;
	assert_int_equal(fa_labels_parse("Elf,Dwarf", "--race-labels", &given.races, &error), FA_OK);
	assert_int_equal(
		fa_label_reader_add(&reader, "[20,30)", "Female", "dwarf", "Gimli", &labels[0], &error),
		FA_OK);
	assert_int_equal(fa_label_reader_add(&reader, "old", "", "Orc", NULL, &labels[1], &error),
					 FA_OK);
	assert_int_equal(fa_label_reader_add(&reader, NULL, "male", NULL, "Gimli", &labels[2], &error),
					 FA_OK);
	assert_int_equal(fa_label_reader_settle(&reader, &given, &sets, &error), FA_OK);
	for (int i = 0; i < 3; i++)
		fa_label_reader_apply(&reader, &labels[i]);
	assert_float_equal(fa_label_age(&labels[0]), 24.5, 0);
	assert_int_equal(labels[0].gender, 1);
	assert_int_equal(labels[0].race, 1);
	assert_int_equal(labels[0].person, 0);
	assert_float_equal(fa_label_age(&labels[1]), FA_NO_LABEL, 0);
	assert_int_equal(labels[1].gender, FA_NO_LABEL);
	assert_int_equal(labels[1].race, FA_NO_LABEL);
	assert_int_equal(labels[1].person, FA_NO_LABEL);
	assert_int_equal(labels[2].gender, 0);
	assert_int_equal(labels[2].person, 0);
	assert_int_equal(reader.unusable, 2);
	assert_string_equal(reader.first_unusable, "age \"old\"");
	fa_label_sets_free(&given);
	fa_label_sets_free(&sets);
	fa_label_reader_free(&reader);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ages),
		cmocka_unit_test(utkface_names),
		cmocka_unit_test(a_dictionary_numbers_what_comes),
		cmocka_unit_test(sets_follow_from_the_data),
		cmocka_unit_test(or_are_given),
		cmocka_unit_test(given_sets_are_checked),
		cmocka_unit_test(too_many_labels),
		cmocka_unit_test(a_reader_counts_what_is_no_label),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
