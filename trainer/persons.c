/*
 * persons.c
 *		Batches of persons, the triplet loss, verification; see persons.h.
 */
#include "persons.h"

#include "../src/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PAIRS 100000 /* of one person; as many of two */
#define FOLDS 10

/* ---- Batches ----------------------------------------------------------------------- */

typedef struct image
{
	int person, sample;
} image;

static int
by_person(const void *left, const void *right)
{
	const image *a = left, *b = right;

	return a->person != b->person ? (a->person > b->person) - (a->person < b->person)
								  : (a->sample > b->sample) - (a->sample < b->sample);
}

/* Those of known persons, sorted; returns how many. */
static int
sort_images(const fa_dataset *faces, image *images)
{
	int known = 0;

	for (int i = 0; i < faces->count; i++)
		if (faces->samples[i].label.person >= 0)
			images[known++] = (image){faces->samples[i].label.person, i};
	qsort(images, (size_t) known, sizeof(image), by_person);
	return known;
}

fa_status
fa_persons_open(fa_persons *persons, const fa_dataset *faces, int batch, int64_t steps,
				uint64_t seed, fa_error *error)
{
	size_t room = (size_t) faces->count + 1;
	image *images = malloc(room * sizeof(image));
	int known, kept = 0;

	*persons = (fa_persons){.batch = batch, .steps = steps, .seed = seed};
	persons->samples = malloc(room * sizeof(int));
	persons->first = malloc(room * sizeof(int));
	if (images == NULL || persons->samples == NULL || persons->first == NULL)
	{
		free(images);
		return fa_no_memory(error, room * sizeof(image));
	}
	known = sort_images(faces, images);
	for (int i = 0, end; i < known; i = end)
	{
		for (end = i + 1; end < known && images[end].person == images[i].person;)
			end++;
		if (end - i < 2)
			continue;
		persons->first[persons->count++] = kept;
		for (int k = i; k < end; k++)
			persons->samples[kept++] = images[k].sample;
	}
	persons->first[persons->count] = kept;
	free(images);
	if (batch % FA_PERSON_IMAGES != 0 || batch < 2 * FA_PERSON_IMAGES)
		return fa_fail(error, FA_INVALID,
					   "--batch must be a multiple of %d from %d on: so many images of a person",
					   FA_PERSON_IMAGES, 2 * FA_PERSON_IMAGES);
	if (persons->count < batch / FA_PERSON_IMAGES)
		return fa_fail(error, FA_INVALID,
					   "there are %d persons with two images or more, and a batch has %d",
					   persons->count, batch / FA_PERSON_IMAGES);
	return FA_OK;
}

void
fa_persons_close(fa_persons *persons)
{
	free(persons->samples);
	free(persons->first);
	memset(persons, 0, sizeof(*persons));
}

int
fa_persons_at(const fa_persons *p, int64_t batch, int place)
{
	int64_t epoch = batch / p->steps, within = batch % p->steps;
	int64_t turn = within * (p->batch / FA_PERSON_IMAGES) + place / FA_PERSON_IMAGES;
	uint64_t order = fa_random_seed(p->seed, (uint64_t) epoch, (uint64_t) (turn / p->count)).state;

	return (int) fa_permute(order, (uint32_t) p->count, (uint32_t) (turn % p->count));
}

int
fa_persons_pick(const void *argument, int64_t batch, int place)
{
	const fa_persons *p = argument;
	int person = fa_persons_at(p, batch, place);
	int images = p->first[person + 1] - p->first[person];
	uint64_t choice =
		fa_random_seed(p->seed, (uint64_t) batch, (uint64_t) person + (1ull << 32)).state;

	return p->samples[p->first[person] +
					  (int) fa_permute(choice, (uint32_t) images,
									   (uint32_t) (place % FA_PERSON_IMAGES % images))];
}

/* ---- Triplets ---------------------------------------------------------------------- */

/* unit = embedding / its length; returns the length. */
static double
normalise(const float *embedding, int size, double *unit)
{
	double squares = 1e-12, length;

	for (int i = 0; i < size; i++)
		squares += (double) embedding[i] * embedding[i];
	length = sqrt(squares);
	for (int i = 0; i < size; i++)
		unit[i] = embedding[i] / length;
	return length;
}

static double
distance(const double *a, const double *b, int size)
{
	double squares = 1e-12;

	for (int i = 0; i < size; i++)
		squares += (a[i] - b[i]) * (a[i] - b[i]);
	return sqrt(squares);
}

/* The farthest image of the anchor's person and the nearest of another; -1: none. */
static void
hardest(const double *units, const int *persons, int count, int size, int anchor, int *own,
		int *other, double *own_distance, double *other_distance)
{
	*own = *other = -1;
	for (int i = 0; i < count; i++)
	{
		double d;

		if (i == anchor)
			continue;
		d = distance(units + (size_t) i * size, units + (size_t) anchor * size, size);
		if (persons[i] == persons[anchor] && (*own < 0 || d > *own_distance))
		{
			*own = i;
			*own_distance = d;
		}
		else if (persons[i] != persons[anchor] && (*other < 0 || d < *other_distance))
		{
			*other = i;
			*other_distance = d;
		}
	}
}

/* slopes of units += factor * d distance(a, b) */
static void
pull(const double *units, double *slopes, int size, int a, int b, double factor)
{
	for (int i = 0; i < size; i++)
	{
		double d = factor * (units[(size_t) a * size + i] - units[(size_t) b * size + i]);

		slopes[(size_t) a * size + i] += d;
		slopes[(size_t) b * size + i] -= d;
	}
}

fa_status
fa_triplet_loss(const float *embeddings, const int *persons, int count, int size, double margin,
				double *loss, float *gradients, int *right, fa_error *error)
{
	size_t values = (size_t) count * size;
	double *units = malloc(values * sizeof(double)), *slopes = calloc(values, sizeof(double));
	double *lengths = malloc((size_t) count * sizeof(double));

	*loss = 0;
	*right = 0;
	if (units == NULL || slopes == NULL || lengths == NULL)
	{
		free(units);
		free(slopes);
		free(lengths);
		return fa_no_memory(error, values * sizeof(double));
	}
	for (int i = 0; i < count; i++)
		lengths[i] = normalise(embeddings + (size_t) i * size, size, units + (size_t) i * size);
	for (int i = 0; i < count; i++)
	{
		double near = 0, far = 0;
		int own, other;

		hardest(units, persons, count, size, i, &own, &other, &near, &far);
		if (own < 0 || other < 0)
			continue;
		*right += near < far;
		if (margin + near - far <= 0)
			continue;
		*loss += (margin + near - far) / count;
		pull(units, slopes, size, i, own, 1 / (near * count));
		pull(units, slopes, size, i, other, -1 / (far * count));
	}
	/* through the scaling: (slope - unit (unit . slope)) / length */
	for (int i = 0; i < count; i++)
	{
		const double *unit = units + (size_t) i * size, *slope = slopes + (size_t) i * size;
		double along = 0;

		for (int k = 0; k < size; k++)
			along += unit[k] * slope[k];
		for (int k = 0; k < size; k++)
			gradients[(size_t) i * size + k] = (float) ((slope[k] - unit[k] * along) / lengths[i]);
	}
	free(units);
	free(slopes);
	free(lengths);
	return FA_OK;
}

/* ---- Verification ------------------------------------------------------------------ */

typedef struct pair
{
	double cosine;
	int fold;
	bool same;
} pair;

static int
by_cosine(const void *left, const void *right)
{
	const pair *a = left, *b = right;

	return (a->cosine > b->cosine) - (a->cosine < b->cosine);
}

static double
cosine(const float *a, const float *b, int size)
{
	double dot = 0, aa = 1e-12, bb = 1e-12;

	for (int i = 0; i < size; i++)
	{
		dot += (double) a[i] * b[i];
		aa += (double) a[i] * a[i];
		bb += (double) b[i] * b[i];
	}
	return dot / sqrt(aa * bb);
}

/* Of one person: all, or a sample of them (Vitter's algorithm R). Returns how many. */
static int
choose_same(const int *persons, int count, fa_random *random, int (*chosen)[2])
{
	int64_t seen = 0;

	for (int i = 0; i < count; i++)
		for (int k = i + 1; k < count; k++)
		{
			int64_t at = seen;

			if (persons[i] < 0 || persons[i] != persons[k])
				continue;
			if (seen++ >= MAX_PAIRS)
				at = (int64_t) (fa_random_unit(random) * (double) seen);
			if (at < MAX_PAIRS)
			{
				chosen[at][0] = i;
				chosen[at][1] = k;
			}
		}
	return seen < MAX_PAIRS ? (int) seen : MAX_PAIRS;
}

/* Of two persons, at random; false where that takes too long: there is but one person. */
static bool
choose_other(const int *persons, int count, fa_random *random, int chosen[2])
{
	for (int tries = 0; tries < 10000; tries++)
	{
		chosen[0] = fa_random_below(random, count);
		chosen[1] = fa_random_below(random, count);
		if (persons[chosen[0]] >= 0 && persons[chosen[1]] >= 0 &&
			persons[chosen[0]] != persons[chosen[1]])
			return true;
	}
	return false;
}

/*
 * Pairs sorted by cosine: how many of a fold are right with the threshold that is best for the
 * others. A threshold after i pairs calls those other, the rest the same.
 */
static int
right_in_fold(const pair *pairs, int count, int fold)
{
	int train_right = 0, best = 0, test_right = 0, best_test = 0;

	for (int i = 0; i < count; i++)
		*(pairs[i].fold == fold ? &test_right : &train_right) += pairs[i].same;
	best = train_right;
	best_test = test_right;
	for (int i = 0; i < count; i++)
	{
		*(pairs[i].fold == fold ? &test_right : &train_right) += pairs[i].same ? -1 : 1;
		if (i + 1 < count && pairs[i + 1].cosine == pairs[i].cosine)
			continue;
		if (train_right > best)
		{
			best = train_right;
			best_test = test_right;
		}
	}
	return best_test;
}

/*
 * Area under the receiver's operating characteristic, by the rank sum (Mann, Whitney 1947);
 * pairs that are alike to the bit count half. Pairs are sorted by cosine, half of them the same.
 */
static double
area_under_curve(const pair *pairs, int same)
{
	double others = 0, area = 0; /* before the tie */

	for (int i = 0, end; i < 2 * same; i = end)
	{
		double tied_same = 0, tied_others = 0;

		for (end = i; end < 2 * same && pairs[end].cosine == pairs[i].cosine; end++)
			*(pairs[end].same ? &tied_same : &tied_others) += 1;
		area += tied_same * (others + tied_others / 2);
		others += tied_others;
	}
	return area / ((double) same * same);
}

/* Per cent of the same that lie above a threshold which `wrong` of the others pass, at most. */
static double
true_accepts(const pair *pairs, int same, int wrong)
{
	int found = 0, best = 0, accepted = 0;

	for (int i = 2 * same - 1; i >= 0 && accepted <= wrong; i--)
	{
		*(pairs[i].same ? &found : &accepted) += 1;
		if (accepted <= wrong && (i == 0 || pairs[i - 1].cosine != pairs[i].cosine))
			best = found;
	}
	return 100.0 * best / same;
}

fa_status
fa_verify_persons(const float *embeddings, const int *persons, int count, int size, uint64_t seed,
				  fa_person_figures *figures, fa_error *error)
{
	fa_random random = fa_random_seed(seed, 5, 0);
	int(*chosen)[2] = malloc(sizeof(int[2]) * MAX_PAIRS);
	pair *pairs = malloc(sizeof(pair) * 2 * MAX_PAIRS);
	int same, right = 0;
	bool enough = true;

	*figures = (fa_person_figures){
		.accuracy = NAN, .auc = NAN, .true_accepts_100 = NAN, .true_accepts_1000 = NAN};
	if (chosen == NULL || pairs == NULL)
	{
		free(chosen);
		free(pairs);
		return fa_no_memory(error, sizeof(pair) * 2 * MAX_PAIRS);
	}
	same = choose_same(persons, count, &random, chosen);
	for (int i = 0; i < 2 * same && enough; i++)
	{
		int other[2], *two = i < same ? chosen[i] : other;

		enough = i < same || choose_other(persons, count, &random, other);
		if (enough)
			pairs[i] = (pair){cosine(embeddings + (size_t) two[0] * size,
									 embeddings + (size_t) two[1] * size, size),
							  fa_random_below(&random, FOLDS), i < same};
	}
	if (enough && same > 0)
	{
		qsort(pairs, 2 * (size_t) same, sizeof(pair), by_cosine);
		for (int fold = 0; fold < FOLDS; fold++)
			right += right_in_fold(pairs, 2 * same, fold);
		*figures = (fa_person_figures){
			.same = same,
			.other = same,
			.accuracy = 100.0 * right / (2 * same),
			.auc = area_under_curve(pairs, same),
			.true_accepts_100 = true_accepts(pairs, same, same / 100),
			.true_accepts_1000 = true_accepts(pairs, same, same / 1000),
		};
	}
	free(chosen);
	free(pairs);
	return FA_OK;
}
