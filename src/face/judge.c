/*
 * judge.c
 *		Labels against a model's answer; see judge.h.
 */
#include "judge.h"

#include "nms.h"

#define LEAST_OVERLAP 0.2 /* of a face and its box: heads' boxes are wide, faces' narrow */

int
fa_face_in_box(const fa_faces *faces, const fa_rect *box)
{
	double best = LEAST_OVERLAP;
	int found = -1;

	for (int i = 0; i < faces->count; i++)
	{
		double overlap = fa_overlap(&faces->faces[i].box, box);

		if (overlap >= best)
		{
			best = overlap;
			found = i;
		}
	}
	return found;
}

static fa_status
copy_labels(const fa_pipeline *pipeline, const char *head, fa_labels *labels, fa_error *error)
{
	int index = fa_pipeline_find_head(pipeline, head);
	const fa_head_info *info;

	if (index < 0)
		return FA_OK;
	info = fa_pipeline_head(pipeline, index);
	return fa_labels_copy(&(fa_labels){(char **) info->labels, info->classes}, labels, error);
}

fa_status
fa_model_sets(const fa_pipeline *pipeline, fa_label_sets *sets, fa_error *error)
{
	fa_status status;

	*sets = (fa_label_sets){0};
	FA_TRY(copy_labels(pipeline, "gender", &sets->genders, error));
	status = copy_labels(pipeline, "race", &sets->races, error);
	if (status != FA_OK)
		fa_label_sets_free(sets);
	return status;
}

/* Is the model's class the one of the data's name? -1: no label, no such head, no such name. */
static int
is_right(const fa_labels *data, int label, const fa_labels *model, bool has, int class)
{
	int wanted = label < 0 || !has ? FA_NO_LABEL : fa_labels_find(model, data->names[label]);

	return wanted == FA_NO_LABEL ? -1 : class == wanted;
}

fa_judgement
fa_judge(const fa_label *label, const fa_label_sets *data, const fa_face *face,
		 const fa_label_sets *model)
{
	static const fa_face none;
	const fa_face *f = face != NULL ? face : &none;

	return (fa_judgement){
		.gender = label->gender,
		.race = label->race,
		.age = fa_label_age(label),
		.age_most = label->age_high,
		.found = face != NULL,
		.has_age = f->has_age,
		.predicted_age = f->age,
		.age_low = f->age_low,
		.age_high = f->age_high,
		.gender_right =
			is_right(&data->genders, label->gender, &model->genders, f->has_gender, f->gender),
		.race_right = is_right(&data->races, label->race, &model->races, f->has_race, f->race),
		.gender_confidence = f->gender_confidence,
		.race_confidence = f->race_confidence,
	};
}
