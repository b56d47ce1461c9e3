/*
 * track.c
 *		Faces from frame to frame; see track.h.
 *
 * A box is four numbers, its centre and the logarithms of its sides, each with a
 * velocity: an alpha-beta filter (Benedict & Bordner 1962) per number, with gains
 * that begin as those of a straight line's least-squares fit and never fall below
 * the steady ones. Overlap is counted on boxes enlarged by a quarter of their side
 * on each side (buffered IoU: Yang et al., C-BIoU, 2023), since a fast small face
 * may leave its own box between two detections.
 */
#include "track.h"

#include "../vision/image.h"
#include "nms.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRACKS 256
#define MIN_OVERLAP 0.1
#define BUFFER 0.25      /* of a side, added on each side before overlaps are counted */
#define STEADY_ALPHA 0.5 /* of the box's filter */
#define COAST 0.25       /* seconds: shown and moving on unseen */
#define FORGET 2.0       /* seconds: an id waits for its face to come back */
#define MEMORY 1.0       /* seconds: time constant of ages and probabilities */
#define AGE_STEP 0.75    /* years: a shown age moves by more, or not at all */
#define LEAD 0.2         /* of probability, that a new label needs over the shown one */

enum
{
	CENTRE_X,
	CENTRE_Y,
	LOG_WIDTH,
	LOG_HEIGHT,
	STATES
};

/* A distribution over a head's classes, smoothed, and the class that is shown of it. */
typedef struct votes
{
	int classes, shown;
	float probabilities[FA_MAX_CLASSES];
} votes;

typedef struct track
{
	int64_t id;
	double state[STATES], velocity[STATES]; /* at `seen`; per second */
	double seen;                            /* seconds of the last detection */
	int updates, missed;                    /* detections that had it; that had not, since */
	double age, age_low, age_high;          /* smoothed */
	int classified;                         /* updates that brought attributes */
	votes gender, race;
	fa_face face; /* the last detection, with the attributes that are shown */
} track;

struct fa_tracker
{
	fa_tracker_options options;
	int width, height;    /* of the frames */
	double now, interval; /* seconds: of the last update, and from the one before */
	int64_t last_id;
	int count, shown_count;
	track tracks[MAX_TRACKS];
	fa_track shown[MAX_TRACKS];
};

/* A track and a face that may belong together. */
typedef struct pair
{
	double overlap;
	int track, face;
} pair;

fa_status
fa_tracker_open(const fa_tracker_options *options, fa_tracker **tracker, fa_error *error)
{
	*tracker = NULL;
	if (options->gender_classes < 0 || options->gender_classes > FA_MAX_CLASSES ||
		options->race_classes < 0 || options->race_classes > FA_MAX_CLASSES)
		return fa_fail(error, FA_INVALID, "tracked heads have at most %d classes", FA_MAX_CLASSES);
	*tracker = calloc(1, sizeof(fa_tracker));
	if (*tracker == NULL)
		return fa_no_memory(error, sizeof(fa_tracker));
	(*tracker)->options = *options;
	(*tracker)->now = -INFINITY;
	return FA_OK;
}

void
fa_tracker_close(fa_tracker *tracker)
{
	free(tracker);
}

int64_t
fa_tracker_count(const fa_tracker *tracker)
{
	return tracker->last_id;
}

/* ---- Boxes --------------------------------------------------------------------------- */

static void
box_to_state(const fa_rect *box, double state[STATES])
{
	state[CENTRE_X] = (box->x1 + box->x2) / 2;
	state[CENTRE_Y] = (box->y1 + box->y2) / 2;
	state[LOG_WIDTH] = log(fmax(box->x2 - box->x1, 1));
	state[LOG_HEIGHT] = log(fmax(box->y2 - box->y1, 1));
}

/* Where the track's box is expected. Unseen for long, it stands still. */
static fa_rect
predict(const fa_tracker *tracker, const track *t, double seconds, double state[STATES])
{
	double ahead = fmin(fmax(seconds - t->seen, 0), COAST + tracker->interval), w, h;

	for (int i = 0; i < STATES; i++)
		state[i] = t->state[i] + t->velocity[i] * ahead;
	w = exp(state[LOG_WIDTH]) / 2;
	h = exp(state[LOG_HEIGHT]) / 2;
	return (fa_rect){state[CENTRE_X] - w, state[CENTRE_Y] - h, state[CENTRE_X] + w,
					 state[CENTRE_Y] + h};
}

static void
filter_box(const fa_tracker *tracker, track *t, const fa_rect *box, double seconds)
{
	double measured[STATES], expected[STATES], elapsed = seconds - t->seen, n = ++t->updates;
	/* of the n-th point of a line's fit; n = 1 takes the measurement as it is */
	double alpha = fmax(2 * (2 * n - 1) / (n * (n + 1)), STEADY_ALPHA);
	double beta = fmax(6 / (n * (n + 1)), STEADY_ALPHA * STEADY_ALPHA / (2 - STEADY_ALPHA));

	box_to_state(box, measured);
	predict(tracker, t, seconds, expected);
	for (int i = 0; i < STATES; i++)
	{
		double surprise = measured[i] - expected[i];

		if (n == 1)
		{
			t->state[i] = measured[i];
			continue;
		}
		t->state[i] = expected[i] + alpha * surprise;
		if (elapsed > 0)
			t->velocity[i] += beta * surprise / elapsed;
	}
	/* found again after a while: how it moved before says nothing now */
	if (t->missed > 1 && elapsed > COAST)
	{
		memset(t->velocity, 0, sizeof(t->velocity));
		memcpy(t->state, measured, sizeof(measured));
		t->updates = 1;
	}
}

static fa_rect
buffered(fa_rect box)
{
	double w = (box.x2 - box.x1) * BUFFER, h = (box.y2 - box.y1) * BUFFER;

	return (fa_rect){box.x1 - w, box.y1 - h, box.x2 + w, box.y2 + h};
}

/* ---- Attributes ------------------------------------------------------------------------ */

/*
 * Of the class's probability only this is known, so the rest of it is spread evenly
 * over the others: exact for two classes.
 */
static void
vote(votes *v, int class, float confidence, double share)
{
	float rest = v->classes > 1 ? (1 - confidence) / (float) (v->classes - 1) : 0;
	int best = 0;

	for (int i = 0; i < v->classes; i++)
	{
		float probability = i == class ? confidence : rest;

		v->probabilities[i] += (float) share * (probability - v->probabilities[i]);
		if (v->probabilities[i] > v->probabilities[best])
			best = i;
	}
	if (share == 1 || v->probabilities[best] > v->probabilities[v->shown] + LEAD)
		v->shown = best;
}

static double
half_interval(const fa_face *face)
{
	return (face->age_high - face->age_low) / 2;
}

/* Smooths what the new face says into the track, then puts what is to be shown into the face. */
static void
smooth_attributes(track *t, fa_face *face, double elapsed)
{
	/* the mean of what there is, until that is worth more than a time constant */
	double share = fmax(1.0 / (t->classified + 1), 1 - exp(-elapsed / MEMORY));
	fa_face smoothed = *face;

	if (!face->classified)
		return;
	if (face->has_age)
	{
		t->age += share * (face->age - t->age);
		t->age_low += share * (face->age_low - t->age_low);
		t->age_high += share * (face->age_high - t->age_high);
		smoothed.age = (float) t->age;
		smoothed.age_low = (float) t->age_low;
		smoothed.age_high = (float) t->age_high;
		if (t->classified > 0 && fabs(smoothed.age - t->face.age) <= AGE_STEP &&
			fabs(half_interval(&smoothed) - half_interval(&t->face)) <= AGE_STEP)
		{
			smoothed.age = t->face.age;
			smoothed.age_low = t->face.age_low;
			smoothed.age_high = t->face.age_high;
		}
	}
	if (face->has_gender && face->gender < t->gender.classes)
	{
		vote(&t->gender, face->gender, face->gender_confidence, share);
		smoothed.gender = t->gender.shown;
		smoothed.gender_confidence = t->gender.probabilities[t->gender.shown];
	}
	if (face->has_race && face->race < t->race.classes)
	{
		vote(&t->race, face->race, face->race_confidence, share);
		smoothed.race = t->race.shown;
		smoothed.race_confidence = t->race.probabilities[t->race.shown];
	}
	t->classified++;
	*face = smoothed;
}

/* ---- Tracks ------------------------------------------------------------------------------ */

static void
take(const fa_tracker *tracker, track *t, const fa_face *seen, double seconds)
{
	fa_face face = *seen;

	smooth_attributes(t, &face, seconds - t->seen);
	filter_box(tracker, t, &face.box, seconds);
	t->face = face;
	t->seen = seconds;
	t->missed = 0;
}

static int
by_overlap(const void *left, const void *right)
{
	const pair *a = left, *b = right;

	if (a->overlap != b->overlap)
		return a->overlap < b->overlap ? 1 : -1;
	return a->track != b->track ? a->track - b->track : a->face - b->face;
}

/* Gives faces to tracks, best overlap first; taken[] says which faces found one. */
static fa_status
associate(fa_tracker *tracker, const fa_face *faces, int count, double seconds, bool *taken,
		  fa_error *error)
{
	size_t bytes = (size_t) tracker->count * (size_t) count * sizeof(pair);
	pair *pairs = malloc(bytes + 1);
	bool matched[MAX_TRACKS] = {false};
	int pair_count = 0;

	if (pairs == NULL)
		return fa_no_memory(error, bytes);
	for (int i = 0; i < tracker->count; i++)
	{
		double state[STATES];
		fa_rect expected = buffered(predict(tracker, &tracker->tracks[i], seconds, state));

		for (int k = 0; k < count; k++)
		{
			fa_rect box = buffered(faces[k].box);
			double overlap = fa_overlap(&expected, &box);

			if (overlap >= MIN_OVERLAP)
				pairs[pair_count++] = (pair){overlap, i, k};
		}
	}
	qsort(pairs, (size_t) pair_count, sizeof(pair), by_overlap);
	for (int i = 0; i < pair_count; i++)
	{
		const pair *p = &pairs[i];

		if (matched[p->track] || taken[p->face])
			continue;
		matched[p->track] = taken[p->face] = true;
		take(tracker, &tracker->tracks[p->track], &faces[p->face], seconds);
	}
	free(pairs);
	for (int i = 0; i < tracker->count; i++)
		if (!matched[i])
			tracker->tracks[i].missed++;
	return FA_OK;
}

fa_status
fa_tracker_update(fa_tracker *tracker, const fa_faces *faces, double seconds, fa_error *error)
{
	int count = faces->count < MAX_TRACKS ? faces->count : MAX_TRACKS, kept = 0;
	bool taken[MAX_TRACKS] = {false};

	if (!isfinite(seconds) || seconds < tracker->now)
		return fa_fail(error, FA_INVALID, "frames must come in the order of their times");
	tracker->interval = isfinite(tracker->now) ? seconds - tracker->now : 0;
	tracker->now = seconds;
	FA_TRY(associate(tracker, faces->faces, count, seconds, taken, error));
	tracker->width = faces->width;
	tracker->height = faces->height;
	for (int i = 0; i < tracker->count; i++)
		if (seconds - tracker->tracks[i].seen <= FORGET)
			tracker->tracks[kept++] = tracker->tracks[i];
	tracker->count = kept;
	for (int i = 0; i < count && tracker->count < MAX_TRACKS; i++)
	{
		track *t = &tracker->tracks[tracker->count];

		if (taken[i] || !(faces->faces[i].score >= tracker->options.birth_score))
			continue;
		memset(t, 0, sizeof(*t));
		t->id = ++tracker->last_id;
		t->seen = seconds;
		t->gender.classes = tracker->options.gender_classes;
		t->race.classes = tracker->options.race_classes;
		take(tracker, t, &faces->faces[i], seconds);
		tracker->count++;
	}
	return FA_OK;
}

/* The face of a track, moved to where it is at `seconds`; false where nothing of it is in view. */
static bool
show(const fa_tracker *tracker, const track *t, double seconds, fa_face *face)
{
	double state[STATES], seen[STATES];
	fa_rect box = predict(tracker, t, seconds, state);

	*face = t->face;
	box_to_state(&t->face.box, seen);
	for (int i = 0; i < FA_LANDMARKS; i++)
		for (int k = 0; k < 2; k++)
			face->landmarks[i][k] = state[k] + (face->landmarks[i][k] - seen[k]) *
												   exp(state[LOG_WIDTH + k] - seen[LOG_WIDTH + k]);
	face->box = (fa_rect){fmax(box.x1, 0), fmax(box.y1, 0), fmin(box.x2, tracker->width),
						  fmin(box.y2, tracker->height)};
	return face->box.x1 < face->box.x2 && face->box.y1 < face->box.y2;
}

static int
by_size(const void *left, const void *right)
{
	const fa_track *a = left, *b = right;
	double difference = fa_area(&b->face.box) - fa_area(&a->face.box);

	if (difference != 0)
		return difference > 0 ? 1 : -1;
	return (a->id > b->id) - (a->id < b->id);
}

int
fa_tracker_show(fa_tracker *tracker, double seconds, const fa_track **tracks)
{
	tracker->shown_count = 0;
	for (int i = 0; i < tracker->count; i++)
	{
		const track *t = &tracker->tracks[i];
		fa_track *shown = &tracker->shown[tracker->shown_count];

		if (t->missed > 1 && seconds - t->seen > COAST)
			continue;
		if (!show(tracker, t, seconds, &shown->face))
			continue;
		shown->id = t->id;
		tracker->shown_count++;
	}
	qsort(tracker->shown, (size_t) tracker->shown_count, sizeof(fa_track), by_size);
	*tracks = tracker->shown;
	return tracker->shown_count;
}
