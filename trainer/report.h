/*
 * report.h
 *		A training's report: one HTML file that needs nothing else, neither network nor
 *		script. Curves over the epochs, confusion matrices, age error by age, figures by
 *		group, and the images that were judged worst.
 */
#ifndef FA_REPORT_H
#define FA_REPORT_H

#include "history.h"

#include <jansson.h>

typedef struct fa_report
{
	const char *what;      /* whose figures these are: "the best weights" */
	const json_t *options; /* of the training */
	const fa_history *history;
	const fa_scores *scores;
	/* The first faces->count are of the faces, in their order; NULL: of an embedding. */
	const fa_logits *logits;
	const fa_dataset *faces;
} fa_report;

/* Replaces the file at once: whoever looks meanwhile sees the one before. */
extern fa_status fa_report_write(const fa_report *report, const char *path, fa_error *error);

#endif
