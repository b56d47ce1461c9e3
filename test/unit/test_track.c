/*
 * test_track.c
 *		Tracks of faces that move as we know: ids that stay, boxes that follow, labels
 *		that stand still. What is right is the motion that the test itself made up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "../../src/face/track.h"
#include "pictures.h"

#define FRAME 0.04 /* seconds: 25 frames a second */

static const fa_tracker_options usual = {0.5f, 2, 5};

static fa_tracker *
open_tracker(void)
{
	fa_tracker *tracker;
	fa_error error;

	assert_int_equal(fa_tracker_open(&usual, &tracker, &error), FA_OK);
	return tracker;
}

/* A square face with its centre at (x, y). */
static fa_face
face_at(double x, double y, double side)
{
	fa_face face = {.box = {x - side / 2, y - side / 2, x + side / 2, y + side / 2},
					.score = 0.9f,
					.detect_score = 0.9f,
					.classified = true,
					.has_age = true,
					.has_gender = true,
					.has_race = true,
					.age = 30,
					.age_low = 25,
					.age_high = 36,
					.gender_confidence = 0.9f,
					.race_confidence = 0.8f};

	for (int i = 0; i < FA_LANDMARKS; i++)
	{
		face.landmarks[i][0] = x + (i - 2) * side / 8;
		face.landmarks[i][1] = y + (i - 1) * side / 8;
	}
	return face;
}

static void
update(fa_tracker *tracker, fa_face *faces, int count, double seconds)
{
	fa_faces list = {faces, count, 1000, 1000};
	fa_error error;

	assert_int_equal(fa_tracker_update(tracker, &list, seconds, &error), FA_OK);
}

/* The shown track nearest to a point; its id 0 where none is within 30 pixels. */
static fa_track
shown_near(fa_tracker *tracker, double seconds, double x, double y)
{
	fa_track nearest = {0};
	double least = 30;
	const fa_track *tracks;
	int count = fa_tracker_show(tracker, seconds, &tracks);

	for (int i = 0; i < count; i++)
	{
		const fa_rect *box = &tracks[i].face.box;
		double distance = hypot((box->x1 + box->x2) / 2 - x, (box->y1 + box->y2) / 2 - y);

		if (distance < least)
		{
			least = distance;
			nearest = tracks[i];
		}
	}
	return nearest;
}

static double
centre_x(const fa_track *t)
{
	return (t->face.box.x1 + t->face.box.x2) / 2;
}

/* A face seen once is shown exactly as it was seen. */
static void
first_is_as_seen(void **state)
{
	fa_tracker *tracker = open_tracker();
	fa_face faces[2] = {face_at(300, 200, 90), face_at(700, 210, 120)};
	const fa_track *tracks;

	(void) state;
	faces[0].gender = 1;
	faces[0].race = 3;
	faces[0].age = 41.3f;
	update(tracker, faces, 2, 1.0);
	assert_int_equal(fa_tracker_show(tracker, 1.0, &tracks), 2);
	for (int i = 0; i < 2; i++)
	{
		const fa_face *face = &faces[1 - i], *shown = &tracks[i].face; /* largest first */

		assert_true(fabs(shown->box.x1 - face->box.x1) < 1e-9);
		assert_true(fabs(shown->box.y2 - face->box.y2) < 1e-9);
		assert_true(fabs(shown->landmarks[4][0] - face->landmarks[4][0]) < 1e-9);
		assert_true(shown->age == face->age && shown->age_low == face->age_low);
		assert_int_equal(shown->gender, face->gender);
		assert_int_equal(shown->race, face->race);
		assert_true(shown->gender_confidence == face->gender_confidence);
		assert_true(shown->race_confidence == face->race_confidence);
	}
	assert_int_equal(fa_tracker_count(tracker), 2);
	fa_tracker_close(tracker);
}

/* Between detections the box goes where the face goes, and after a few it is there to the pixel. */
static void
follows(void **state)
{
	static const int every[] = {1, 3, 8};

	(void) state;
	for (int k = 0; k < 3; k++)
	{
		fa_tracker *tracker = open_tracker();
		double speed = 120, growth = 0.3; /* pixels, and e-foldings, per second */

		for (int n = 0; n < 75; n++)
		{
			double t = n * FRAME, x = 200 + speed * t, side = 80 * exp(growth * t);
			fa_face face = face_at(x, 400, side);
			fa_track shown;

			if (n % every[k] == 0)
				update(tracker, &face, 1, t);
			shown = shown_near(tracker, t, x, 400);
			if (n > 3 * every[k])
			{
				assert_int_equal(shown.id, 1);
				assert_true(fabs(centre_x(&shown) - x) < 1);
				assert_true(fabs((shown.face.box.x2 - shown.face.box.x1) / side - 1) < 0.02);
				assert_true(fabs(shown.face.landmarks[0][0] - face.landmarks[0][0]) < 3);
			}
		}
		fa_tracker_close(tracker);
	}
}

/* A face that stands still and a detector that trembles: the box trembles less. */
static void
jitter_is_smoothed(void **state)
{
	fa_tracker *tracker = open_tracker();
	double seen = 0, shown_noise = 0, moved = 0, moved_seen = 0, last = 300, last_seen = 300;
	uint64_t seed = 7;

	(void) state;
	for (int n = 0; n < 400; n++)
	{
		double noise = ((double) random_u32(&seed) / UINT32_MAX - 0.5) * 8;
		fa_face face = face_at(300 + noise, 300, 100);
		fa_track shown;

		update(tracker, &face, 1, n * FRAME);
		shown = shown_near(tracker, n * FRAME, 300, 300);
		assert_int_equal(shown.id, 1);
		if (n < 20)
			continue;
		seen += noise * noise;
		shown_noise += pow(centre_x(&shown) - 300, 2);
		moved += fabs(centre_x(&shown) - last);
		moved_seen += fabs(300 + noise - last_seen);
		last = centre_x(&shown);
		last_seen = 300 + noise;
	}
	/* an alpha-beta filter passes (2 a^2 + b (2 - 3 a)) / (a (4 - 2 a - b)) of the variance */
	assert_true(fabs(shown_noise / seen - (0.5 + 0.5 / 6) / (0.5 * (3 - 1.0 / 6))) < 0.06);
	assert_true(moved < 0.6 * moved_seen);
	fa_tracker_close(tracker);
}

/* Two faces pass each other, one above the other by a third of a face. */
static void
crossing_faces_keep_their_ids(void **state)
{
	static const int every[] = {1, 3, 5};

	(void) state;
	for (int k = 0; k < 3; k++)
	{
		fa_tracker *tracker = open_tracker();
		fa_face faces[2];

		for (int n = 0; n < 100; n++)
		{
			double t = n * FRAME, left = 200 + 150 * t, right = 800 - 150 * t;

			faces[n & 1] = face_at(left, 400, 100); /* in no fixed order */
			faces[1 - (n & 1)] = face_at(right, 433, 100);
			if (n % every[k] == 0)
				update(tracker, faces, 2, t);
			if (n == 0)
				assert_int_equal(shown_near(tracker, t, left, 400).id, 1);
		}
		assert_int_equal(fa_tracker_count(tracker), 2);
		assert_int_equal(shown_near(tracker, 99 * FRAME, 200 + 150 * 99 * FRAME, 400).id, 1);
		assert_int_equal(shown_near(tracker, 99 * FRAME, 800 - 150 * 99 * FRAME, 433).id, 2);
		fa_tracker_close(tracker);
	}
}

/* Missed once it stays in view, missed for a second it is hidden, and comes back as itself. */
static void
lost_and_found(void **state)
{
	fa_tracker *tracker = open_tracker();
	fa_face face = face_at(500, 500, 80), stranger = face_at(200, 200, 80);
	double t = 0;

	(void) state;
	for (int n = 0; n < 10; n++, t += 0.1)
		update(tracker, &face, 1, t);
	update(tracker, NULL, 0, t);
	assert_int_equal(shown_near(tracker, t, 500, 500).id, 1);
	t += 0.1;
	update(tracker, NULL, 0, t);
	assert_int_equal(shown_near(tracker, t, 500, 500).id, 1); /* 0.2 s: still */
	for (int n = 0; n < 8; n++)
		update(tracker, NULL, 0, t += 0.1);
	assert_int_equal(shown_near(tracker, t, 500, 500).id, 0);
	face = face_at(510, 495, 80);
	update(tracker, &face, 1, t += 0.1);
	assert_int_equal(shown_near(tracker, t, 510, 495).id, 1);
	assert_true(fabs(shown_near(tracker, t, 510, 495).face.box.x1 - face.box.x1) < 1e-9);

	/* gone for longer, another one is another one */
	for (int n = 0; n < 30; n++)
		update(tracker, &stranger, 1, t += 0.1);
	update(tracker, &face, 1, t += 0.1);
	assert_int_equal(shown_near(tracker, t, 510, 495).id, 3);
	fa_tracker_close(tracker);
}

/* A face whose score wavers around the threshold begins once and does not blink. */
static void
weak_detections_keep_alive(void **state)
{
	fa_tracker *tracker = open_tracker();
	fa_face face = face_at(500, 500, 80);

	(void) state;
	face.score = 0.4f;
	for (int n = 0; n < 10; n++)
		update(tracker, &face, 1, n * FRAME);
	assert_int_equal(fa_tracker_count(tracker), 0);
	for (int n = 10; n < 100; n++)
	{
		face.score = n == 10 ? 0.5f : 0.35f;
		update(tracker, &face, 1, n * FRAME);
		assert_int_equal(shown_near(tracker, n * FRAME, 500, 500).id, 1);
	}
	fa_tracker_close(tracker);
}

/* What the network says wavers; what is shown is the truth, and stands still. */
static void
labels_do_not_flicker(void **state)
{
	fa_tracker *tracker = open_tracker();
	int age_changes = 0, label_changes = 0, last_age = -1, last_gender = -1, last_race = -1;
	uint64_t seed = 11;

	(void) state;
	for (int n = 0; n < 300; n++)
	{
		fa_face face = face_at(400, 400, 100);
		fa_track shown;
		int age;

		face.age = 34.5f + ((float) random_u32(&seed) / (float) UINT32_MAX - 0.5f) * 6;
		face.age_low = face.age - 5;
		face.age_high = face.age + 6;
		/* one frame in four is wrong, and unsure */
		face.gender = random_u32(&seed) % 4 == 0;
		face.gender_confidence = face.gender == 1 ? 0.6f : 0.9f;
		face.race = random_u32(&seed) % 4 == 0 ? (int) (random_u32(&seed) % 5) : 2;
		face.race_confidence = face.race == 2 ? 0.8f : 0.5f;
		update(tracker, &face, 1, n * FRAME);
		shown = shown_near(tracker, n * FRAME, 400, 400);
		age = (int) lround(shown.face.age);
		assert_true(shown.face.age_low <= shown.face.age && shown.face.age <= shown.face.age_high);
		if (n >= 25)
		{
			age_changes += age != last_age;
			label_changes += shown.face.gender != last_gender || shown.face.race != last_race;
			assert_int_equal(shown.face.gender, 0);
			assert_int_equal(shown.face.race, 2);
			assert_true(fabsf(shown.face.age - 34.5f) < 2);
			/* 0.75 * 0.9 + 0.25 * 0.4 */
			assert_true(fabsf(shown.face.gender_confidence - 0.775f) < 0.15f);
		}
		last_age = age;
		last_gender = shown.face.gender;
		last_race = shown.face.race;
	}
	assert_true(age_changes <= 4);
	assert_int_equal(label_changes, 0);

	/* when it really changes, it follows: within two seconds */
	for (int n = 300; n < 350; n++)
	{
		fa_face face = face_at(400, 400, 100);

		face.age = 60;
		face.gender = 1;
		face.race = 4;
		update(tracker, &face, 1, n * FRAME);
	}
	{
		fa_track shown = shown_near(tracker, 350 * FRAME, 400, 400);

		assert_int_equal(shown.face.gender, 1);
		assert_int_equal(shown.face.race, 4);
		assert_true(shown.face.age > 56);
	}
	fa_tracker_close(tracker);
}

/* A network that cannot decide: the label is one or the other for seconds. */
static void
doubt_does_not_flicker(void **state)
{
	fa_tracker *tracker = open_tracker();
	int changes = 0, last = -1;
	uint64_t seed = 5;

	(void) state;
	for (int n = 0; n < 1000; n++)
	{
		fa_face face = face_at(400, 400, 100);
		fa_track shown;

		face.gender = (int) (random_u32(&seed) % 2);
		face.gender_confidence = 0.8f;
		update(tracker, &face, 1, n * FRAME);
		shown = shown_near(tracker, n * FRAME, 400, 400);
		changes += n > 25 && shown.face.gender != last;
		last = shown.face.gender;
	}
	assert_true(changes <= 8); /* in 40 seconds */
	fa_tracker_close(tracker);
}

/* Boxes are clipped to the frame, wild numbers do no harm, and times run forwards. */
static void
hostile_input(void **state)
{
	static const double wild[] = {-1e300, -1e6, -3, 0, 0.5, 3, 999, 1e6, 1e300};
	fa_tracker *tracker = open_tracker();
	fa_face *many = calloc(5000, sizeof(fa_face));
	fa_faces list = {many, 5000, 1000, 1000};
	const fa_track *tracks;
	fa_error error;
	double t = 0;
	int n = sizeof(wild) / sizeof(wild[0]), count;

	(void) state;
	for (int round = 0; round < 20; round++)
	{
		for (int i = 0; i < 5000; i++)
		{
			int a = (i + round) % n, b = (i / n) % n;

			many[i] = face_at(50, 50, 20);
			many[i].box = (fa_rect){fmin(wild[a], wild[b]), fmin(wild[b], wild[(a + b) % n]),
									fmax(wild[a], wild[b]), fmax(wild[b], wild[(a + b) % n])};
			many[i].gender = i % 300;
			many[i].race = i % 300;
			many[i].age = i % 3 == 0 ? NAN : 1e30f;
		}
		t += round % 2 * 0.1;
		assert_int_equal(fa_tracker_update(tracker, &list, t, &error), FA_OK);
		count = fa_tracker_show(tracker, t + 0.05, &tracks);
		assert_in_range(count, 0, 256);
		for (int i = 0; i < count; i++)
		{
			assert_true(tracks[i].face.box.x1 >= 0 && tracks[i].face.box.x2 <= 1000);
			assert_true(tracks[i].face.box.y1 < tracks[i].face.box.y2);
		}
	}
	assert_int_equal(fa_tracker_update(tracker, &list, t - 1, &error), FA_INVALID);
	assert_int_equal(fa_tracker_update(tracker, &list, NAN, &error), FA_INVALID);
	fa_tracker_close(tracker);
	fa_tracker_close(NULL);
	assert_int_equal(
		fa_tracker_open(&(fa_tracker_options){0.5f, FA_MAX_CLASSES + 1, 5}, &tracker, &error),
		FA_INVALID);
	free(many);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_is_as_seen),      cmocka_unit_test(follows),
		cmocka_unit_test(jitter_is_smoothed),    cmocka_unit_test(crossing_faces_keep_their_ids),
		cmocka_unit_test(lost_and_found),        cmocka_unit_test(weak_detections_keep_alive),
		cmocka_unit_test(labels_do_not_flicker), cmocka_unit_test(doubt_does_not_flicker),
		cmocka_unit_test(hostile_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
