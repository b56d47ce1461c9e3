/*
 * heads.c
 *		The heads' names and labels; see heads.h.
 */
#include "heads.h"

const fa_head fa_heads[FA_HEADS] = {
	{"age", FA_AGE_CLASSES}, {"gender", FA_GENDERS}, {"race", FA_RACES}, {"face", 2}};

static const char *const genders[FA_GENDERS] = {"male", "female"};
static const char *const races[FA_RACES] = {"White", "Black", "Asian", "Indian", "Other"};
static const char *const faces[2] = {"no", "yes"};

const char *const *const fa_head_labels[FA_HEADS] = {NULL, genders, races, faces};
