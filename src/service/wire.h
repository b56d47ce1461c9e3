/*
 * wire.h
 *		How photos' and crops' answers lie in a slot's areas: written by photos.c in the service,
 *		read by reader.c in the session, which believes nothing of it.
 *
 * FIND	asks with a photo; the reply is reply.count faces, then as many embeddings of
 *		reply.dimension floats, if they were asked for.
 * CLASSIFY	asks with request.count lengths (uint64; FA_NO_CROP for none), then the crops one after
 *		the other; the reply is count faces, count errors, then the first crop's logits, head after
 *		head, then its embedding, if they were asked for.
 * ANNOTATE	asks with a photo; the reply is the image.
 */
#ifndef FA_WIRE_H
#define FA_WIRE_H

#include "ring.h"

#define FA_NO_CROP UINT64_MAX

/* An fa_face in types for which every pattern of bits is a value. */
typedef struct fa_wire_face
{
	double box[4], landmarks[FA_LANDMARKS][2];
	float score, detect_score, age, age_low, age_high, gender_confidence, race_confidence;
	int32_t gender, race;
	uint8_t classified, has_age, has_gender, has_race;
} fa_wire_face;

typedef struct fa_wire_error
{
	uint32_t status;
	char message[256], detail[256];
} fa_wire_error;

#endif
