/*
 * figures.h
 *		An evaluation's figures for all groups, as a table or as JSON, on standard output.
 */
#ifndef FA_FIGURES_H
#define FA_FIGURES_H

#include "../src/face/statistics.h"
#include "persons.h"
#include "../src/face/label_reader.h"

#include <jansson.h>

/* Of all together, with the names and units of fa_figures_to_json's; *json is the caller's. */
extern fa_status fa_figures_total(const fa_judgement *judgements, int count, uint64_t seed,
								  json_t **json, fa_error *error);

/*
 * In total, by race, by gender, by decade of age, and (JSON: "groups") by all three, where there
 * are any. bad: images that could not be decoded, which count nowhere. persons: how well they are
 * told apart, where that is known; else of no pairs. Shares are printed in per
 * cent; intervals hold 95 %.
 */
extern fa_status fa_figures_to_text(const fa_judgement *judgements, int count, int bad,
									const fa_label_sets *sets, const fa_person_figures *persons,
									uint64_t seed, const fa_interrupt *interrupt, fa_error *error);
extern fa_status fa_figures_to_json(const fa_judgement *judgements, int count, int bad,
									const fa_label_sets *sets, const fa_person_figures *persons,
									uint64_t seed, const fa_interrupt *interrupt, fa_error *error);

#endif
