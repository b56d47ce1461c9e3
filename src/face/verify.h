/*
 * verify.h
 *		What the classifier's face / not-a-face output does to the detector's score.
 */
#ifndef FA_VERIFY_H
#define FA_VERIFY_H

#include <math.h>

/*
 * score = detect_score * min(1, P(face) / pivot) ^ power. Crops that are clearly faces
 * keep the detector's score, so that verification costs little recall; the less a crop
 * looks like one, the more it loses. A power below 1 lets the detector outvote the
 * classifier where it is very sure: its score says something of its own. 0 < pivot,
 * power <= 1 come from the model's metadata and were chosen on validation data.
 */
typedef struct fa_verification
{
	float pivot, power;
} fa_verification;

static inline float
fa_verified_score(float detect_score, float face_probability, fa_verification v)
{
	if (face_probability >= v.pivot)
		return detect_score;
	return detect_score * powf(face_probability / v.pivot, v.power);
}

#endif
