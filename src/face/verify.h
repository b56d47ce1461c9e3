/*
 * verify.h
 *		What the classifier's face / not-a-face output does to the detector's score.
 */
#ifndef FA_VERIFY_H
#define FA_VERIFY_H

/*
 * score = detect_score * min(1, P(face) / pivot). Crops that are clearly faces
 * keep the detector's score, so that verification costs no recall; the less a crop
 * looks like one, the more it loses. pivot, 0 < pivot <= 1, comes from the model's
 * metadata and was chosen on validation data.
 */
static inline float
fa_verified_score(float detect_score, float face_probability, float pivot)
{
	return face_probability >= pivot ? detect_score : detect_score * face_probability / pivot;
}

#endif
