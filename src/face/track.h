/*
 * track.h
 *		Faces of one video frame after another as tracks: who is who, and boxes and
 *		labels that neither jump nor flicker. Knows no video and no network: faces
 *		come from fa_find_faces_in, times from the caller.
 *
 * A detection belongs to the track whose predicted box it overlaps most, greedily,
 * best pair first. Boxes go through an alpha-beta filter, so that they can be shown
 * for frames on which no detection ran; ages and probabilities are smoothed
 * exponentially, and what is shown of them changes only when it has clearly changed.
 */
#ifndef FA_TRACK_H
#define FA_TRACK_H

#include "face.h"

typedef struct fa_tracker fa_tracker;

/* A face as it is to be shown. Its score and landmarks are the last detection's, these moved along
 * with the box; a gender or race of few votes stays until another one clearly leads. */
typedef struct fa_track
{
	int64_t id; /* from 1; never given to another face */
	fa_face face;
} fa_track;

typedef struct fa_tracker_options
{
	/* a track begins with a face of at least this score; weaker ones keep one alive */
	float birth_score;
	int gender_classes, race_classes; /* of the model's heads; at most FA_MAX_CLASSES, 0: none */
} fa_tracker_options;

extern fa_status fa_tracker_open(const fa_tracker_options *options, fa_tracker **tracker,
								 fa_error *error);
extern void fa_tracker_close(fa_tracker *tracker);

/*
 * The faces that detection found in the frame at `seconds`, which must be finite
 * and not before those of the last call (else FA_INVALID). Beyond the 256 largest
 * faces, none is tracked.
 */
extern fa_status fa_tracker_update(fa_tracker *tracker, const fa_faces *faces, double seconds,
								   fa_error *error);

/*
 * What to draw on the frame at `seconds`, at or after the last update's: returns
 * how many tracks, largest first, in *tracks, which is the tracker's until its next
 * call. A face missed by one detection, or for a quarter of a second, is still shown.
 */
extern int fa_tracker_show(fa_tracker *tracker, double seconds, const fa_track **tracks);

/* How many tracks there have been. */
extern int64_t fa_tracker_count(const fa_tracker *tracker);

#endif
