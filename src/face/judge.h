/*
 * judge.h
 *		From a labelled image and what a model says of it to a judgement, of which statistics.h
 *		makes figures: for the companion program and for SQL.
 */
#ifndef FA_JUDGE_H
#define FA_JUDGE_H

#include "face.h"
#include "label_reader.h"
#include "statistics.h"

/*
 * Which of the faces lies in the box, by intersection over union, a fifth at least; -1: none.
 */
extern int fa_face_in_box(const fa_faces *faces, const fa_rect *box);

/* The labels of a model's heads, to be freed; those of heads that it lacks are empty. */
extern fa_status fa_model_sets(const fa_pipeline *pipeline, fa_label_sets *sets, fa_error *error);

/*
 * label: classes of `data`, the data's sets; face: NULL where none was found; model: the
 * model's sets. A class is right when both call it by one name.
 */
extern fa_judgement fa_judge(const fa_label *label, const fa_label_sets *data, const fa_face *face,
							 const fa_label_sets *model);

#endif
