/*
 * pipeline.h
 *		What pipeline.c shares with the rest of its room.
 */
#ifndef FA_PIPELINE_H
#define FA_PIPELINE_H

#include "face.h"

/* FA_INVALID names the option that is out of range. */
extern fa_status fa_face_options_check(const fa_face_options *options, fa_error *error);

#endif
