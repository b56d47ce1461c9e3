/*
 * test_persons.c
 *		Batches of persons, the triplet loss against differences and by hand, and
 *		verification accuracy where it is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../trainer/persons.h"
#include "../../src/random.h"

/* ---- Batches ------------------------------------------------------------------------------- */

static fa_dataset
dataset(const int *persons, int count)
{
	fa_dataset faces = {.samples = calloc((size_t) count, sizeof(fa_sample)), .count = count};

	for (int i = 0; i < count; i++)
		faces.samples[i].label.person = persons[i];
	return faces;
}

static void
batches_of_persons(void **state)
{
	/* three persons of 5, 2 and 4 images; one of a single one, two unknown */
	static const int persons[] = {7, 7, 3, FA_NO_LABEL, 7, 9, 9, 3, 100, 9, 7, 9, 7, FA_NO_LABEL};
	const int count = sizeof(persons) / sizeof(persons[0]);
	fa_dataset faces = dataset(persons, count);
	int used[14] = {0}, turns[3] = {0};
	fa_persons p;
	fa_error error;

	(void) state;
	assert_int_equal(fa_persons_open(&p, &faces, 8, 5, 1, &error), FA_OK);
	assert_int_equal(p.count, 3);
	for (int batch = 0; batch < 30; batch++)
		for (int group = 0; group < 2; group++)
		{
			int seen[14] = {0}, first = fa_persons_pick(&p, batch, 4 * group);

			for (int k = 0; k < 4; k++)
			{
				int sample = fa_persons_pick(&p, batch, 4 * group + k);

				assert_in_range(sample, 0, count - 1);
				assert_int_equal(persons[sample], persons[first]);
				seen[sample]++;
				used[sample]++;
			}
			for (int i = 0; i < count; i++) /* twice only where there are but two */
				assert_in_range(seen[i], 0, persons[i] == 3 ? 2 : 1);
			turns[persons[first] == 3 ? 0 : persons[first] == 7 ? 1 : 2]++;
		}
	for (int i = 0; i < count; i++)
		assert_int_equal(used[i] > 0, persons[i] == 3 || persons[i] == 7 || persons[i] == 9);
	/* 10 turns an epoch: each person 3 or 4 times */
	for (int i = 0; i < 3; i++)
		assert_in_range(turns[i], 18, 24);
	fa_persons_close(&p);
	free(faces.samples);
}

static void
too_few_persons(void **state)
{
	static const int persons[] = {1, 1, 2, 2, 3};
	fa_dataset faces = dataset(persons, 5);
	fa_persons p;
	fa_error error;

	(void) state;
	assert_int_equal(fa_persons_open(&p, &faces, 8, 5, 1, &error), FA_OK);
	fa_persons_close(&p);
	assert_int_equal(fa_persons_open(&p, &faces, 12, 5, 1, &error), FA_INVALID);
	fa_persons_close(&p);
	assert_int_equal(fa_persons_open(&p, &faces, 10, 5, 1, &error), FA_INVALID);
	fa_persons_close(&p);
	assert_int_equal(fa_persons_open(&p, &faces, 4, 5, 1, &error), FA_INVALID);
	fa_persons_close(&p);
	free(faces.samples);
}

/* ---- Triplets ------------------------------------------------------------------------------ */

static double
loss_of(const float *embeddings, const int *persons, int count, int size, double margin, int *right)
{
	float *gradients = malloc(sizeof(float) * (size_t) count * (size_t) size);
	double loss;
	fa_error error;

	assert_int_equal(
		fa_triplet_loss(embeddings, persons, count, size, margin, &loss, gradients, right, &error),
		FA_OK);
	free(gradients);
	return loss;
}

static void
triplets_by_finite_differences(void **state)
{
	enum
	{
		COUNT = 8,
		SIZE = 6
	};
	static const int persons[COUNT] = {1, 1, 1, 2, 2, 3, 3, 4};
	float embeddings[COUNT * SIZE], gradients[COUNT * SIZE];
	fa_error error;

	(void) state;
	for (int trial = 0; trial < 20; trial++)
	{
		fa_random random = fa_random_seed(11, (uint64_t) trial, 0);
		double loss;
		int right, kinks = 0;

		for (int i = 0; i < COUNT * SIZE; i++)
			embeddings[i] = (float) fa_random_normal(&random) * (1 + trial % 3);
		assert_int_equal(fa_triplet_loss(embeddings, persons, COUNT, SIZE, 0.5, &loss, gradients,
										 &right, &error),
						 FA_OK);
		assert_true(loss > 0);
		for (int i = 0; i < COUNT * SIZE; i++)
		{
			const float h = 2e-3f, kept = embeddings[i];
			double up, down;
			int ignored;

			embeddings[i] = kept + h;
			up = loss_of(embeddings, persons, COUNT, SIZE, 0.5, &ignored);
			embeddings[i] = kept - h;
			down = loss_of(embeddings, persons, COUNT, SIZE, 0.5, &ignored);
			embeddings[i] = kept;
			/* another image may become the hardest between the two points */
			kinks += fabs(gradients[i] - (up - down) / (2 * (double) h)) > 1e-3;
		}
		assert_in_range(kinks, 0, 4);
	}
}

/* On the unit circle, at 0, 60 and 180 degrees: chords of 1, sqrt(3) and 2. */
static void
triplets_by_hand(void **state)
{
	static const int persons[] = {5, 5, 6}, others[] = {5, 6, 5};
	const float embeddings[] = {2, 0, 1, sqrtf(3), -3, 0};
	int right;

	(void) state;
	assert_float_equal(loss_of(embeddings, persons, 3, 2, 0.3, &right), 0, 0);
	assert_int_equal(right, 2);
	assert_float_equal(loss_of(embeddings, persons, 3, 2, 1, &right), (2 - sqrt(3)) / 3, 1e-6);
	assert_float_equal(loss_of(embeddings, persons, 3, 2, 2, &right), (1 + 3 - sqrt(3)) / 3, 1e-6);
	assert_float_equal(loss_of(embeddings, others, 3, 2, 0.3, &right), (1.3 + 2.3 - sqrt(3)) / 3,
					   1e-6);
	assert_int_equal(right, 0);
	/* one person, or all different: nothing to learn */
	assert_float_equal(loss_of(embeddings, (const int[]){1, 1, 1}, 3, 2, 1, &right), 0, 0);
	assert_float_equal(loss_of(embeddings, (const int[]){1, 2, 3}, 3, 2, 1, &right), 0, 0);
	assert_int_equal(right, 0);
}

/* ---- Verification --------------------------------------------------------------------------- */

static double
accuracy_of(const float *embeddings, const int *persons, int count, int size)
{
	fa_person_figures figures;
	fa_error error;

	assert_int_equal(fa_verify_persons(embeddings, persons, count, size, 1, &figures, &error),
					 FA_OK);
	return figures.accuracy;
}

static double
cosine_of(const float *a, const float *b, int size)
{
	double dot = 0, aa = 0, bb = 0;

	for (int i = 0; i < size; i++)
	{
		dot += (double) a[i] * b[i];
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	return dot / sqrt(aa * bb);
}

/* The share of all pairs of one person that are more alike than a pair of two, over all pairs. */
static void
curve_by_brute_force(void **state)
{
	enum
	{
		COUNT = 1200,
		SIZE = 8
	};
	float *embeddings = malloc(COUNT * SIZE * sizeof(float));
	double *same = malloc(COUNT * 2 * sizeof(double)),
		   *other = malloc(COUNT * COUNT * sizeof(double));
	fa_random random = fa_random_seed(9, 0, 0);
	int persons[COUNT], same_count = 0, other_count = 0;
	double above = 0;
	fa_person_figures figures;
	fa_error error;

	(void) state;
	for (int i = 0; i < COUNT; i++)
	{
		persons[i] = i / 4;
		for (int k = 0; k < SIZE; k++)
		{
			fa_random own = fa_random_seed(10, (uint64_t) (i / 4), (uint64_t) k);

			embeddings[i * SIZE + k] =
				(float) (fa_random_normal(&own) + 0.7 * fa_random_normal(&random));
		}
	}
	for (int i = 0; i < COUNT; i++)
		for (int k = i + 1; k < COUNT; k++)
		{
			double c = cosine_of(embeddings + i * SIZE, embeddings + k * SIZE, SIZE);

			if (persons[i] == persons[k])
				same[same_count++] = c;
			else
				other[other_count++] = c;
		}
	assert_int_equal(fa_verify_persons(embeddings, persons, COUNT, SIZE, 1, &figures, &error),
					 FA_OK);
	assert_int_equal(figures.same, same_count);
	assert_int_equal(figures.other, same_count);
	for (int i = 0; i < same_count; i++)
		for (int k = 0; k < other_count; k++)
			above += same[i] > other[k];
	/* the others are a sample of as many as there are pairs of one person */
	assert_float_equal(figures.auc, above / same_count / other_count, 0.015);
	for (int tenths = 1; tenths <= 10; tenths += 9)
	{
		int found = 0;
		double share = tenths == 1 ? figures.true_accepts_1000 : figures.true_accepts_100;

		for (int i = 0; i < same_count; i++)
		{
			int more = 0;

			for (int k = 0; k < other_count; k++)
				more += other[k] >= same[i];
			found += more <= tenths * other_count / 1000;
		}
		assert_float_equal(share, 100.0 * found / same_count, tenths == 1 ? 20 : 8);
	}
	assert_true(figures.true_accepts_1000 <= figures.true_accepts_100);
	free(embeddings);
	free(same);
	free(other);
}

static void
verification(void **state)
{
	enum
	{
		COUNT = 600,
		SIZE = 16
	};
	float *embeddings = malloc(COUNT * SIZE * sizeof(float));
	fa_random random = fa_random_seed(5, 0, 0);
	int persons[COUNT], shuffled[COUNT];

	(void) state;
	for (int i = 0; i < COUNT; i++)
	{
		persons[i] = i / 4;
		for (int k = 0; k < SIZE; k++)
		{
			fa_random own = fa_random_seed(6, (uint64_t) (i / 4), (uint64_t) k);

			/* a direction of the person's own, of any length, and some noise */
			embeddings[i * SIZE + k] =
				(float) ((1 + i % 4) * (fa_random_normal(&own) + 0.05 * fa_random_normal(&random)));
		}
	}
	assert_true(accuracy_of(embeddings, persons, COUNT, SIZE) > 99);
	/* labels that have nothing to do with the images: a coin */
	for (int i = 0; i < COUNT; i++)
		shuffled[i] = (int) fa_permute(8, COUNT, (uint32_t) i) / 4;
	assert_float_equal(accuracy_of(embeddings, shuffled, COUNT, SIZE), 50, 8);
	/* nothing to tell apart, or nothing known */
	assert_true(isnan(accuracy_of(embeddings, persons, 4, SIZE)));
	for (int i = 0; i < COUNT; i++)
		shuffled[i] = i;
	assert_true(isnan(accuracy_of(embeddings, shuffled, COUNT, SIZE)));
	for (int i = 0; i < COUNT; i++)
		shuffled[i] = FA_NO_LABEL;
	assert_true(isnan(accuracy_of(embeddings, shuffled, COUNT, SIZE)));
	/* all alike: no threshold is better than a coin */
	for (int i = 0; i < COUNT * SIZE; i++)
		embeddings[i] = 1;
	assert_float_equal(accuracy_of(embeddings, persons, COUNT, SIZE), 50, 8);
	free(embeddings);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_of_persons),
		cmocka_unit_test(too_few_persons),
		cmocka_unit_test(triplets_by_finite_differences),
		cmocka_unit_test(triplets_by_hand),
		cmocka_unit_test(verification),
		cmocka_unit_test(curve_by_brute_force),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
