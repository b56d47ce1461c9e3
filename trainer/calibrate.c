/*
 * calibrate.c
 *		`faceattr calibrate`, and what the end of a training shares with it; see
 *		calibrate.h. All is fitted on the weights as they will be used: folded and
 *		rounded.
 */
#include "calibrate.h"
#include "common.h"
#include "figures.h"
#include "loss.h"
#include "trainer.h"

#include "../src/face/attributes.h"
#include "../src/nn/fold.h"
#include "../src/nn/half.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COVERAGE 0.8

/* ---- Fitting ----------------------------------------------------------------------- */

/* Mean negative logarithm of the labels' probabilities (Guo et al. 2017). */
static double
negative_log_likelihood(const fa_logits *l, int head, double temperature)
{
	int n = fa_heads[head].classes, labelled = 0;
	double sum = 0;

	for (int i = 0; i < l->count; i++)
	{
		int label = (int) fminf(l->targets[head][i], (float) (n - 1));
		float p[FA_MAX_CLASSES];

		if (label < 0)
			continue;
		fa_calibrated(l->logits[head] + (size_t) i * n, n, (float) temperature, p);
		sum -= log(fmax(p[label], 1e-12));
		labelled++;
	}
	return labelled > 0 ? sum / labelled : 0;
}

/* The likelihood has one maximum over the temperature: golden section on its logarithm. */
double
fa_fit_temperature(const fa_logits *l, int head)
{
	double low = log(0.1), high = log(10), ratio = 0.6180339887498949;

	for (int i = 0; i < 40; i++)
	{
		double a = high - ratio * (high - low), b = low + ratio * (high - low);

		if (negative_log_likelihood(l, head, exp(a)) < negative_log_likelihood(l, head, exp(b)))
			high = b;
		else
			low = a;
	}
	return exp((low + high) / 2);
}

double
fa_age_coverage(const fa_logits *l, double temperature, double q)
{
	int inside = 0, labelled = 0;

	for (int i = 0; i < l->count; i++)
	{
		float p[FA_AGE_CLASSES], age = l->targets[FA_HEAD_AGE][i];

		if (age < 0)
			continue;
		fa_calibrated(l->logits[FA_HEAD_AGE] + (size_t) i * FA_AGE_CLASSES, FA_AGE_CLASSES,
					  (float) temperature, p);
		age = fminf(age, FA_AGE_CLASSES - 1);
		inside += age >= fa_age_quantile(p, FA_AGE_CLASSES, (float) q) &&
				  age <= fa_age_quantile(p, FA_AGE_CLASSES, (float) (1 - q));
		labelled++;
	}
	return labelled > 0 ? (double) inside / labelled : 0;
}

/* The larger q, the narrower the interval: bisection. */
double
fa_fit_age_quantile(const fa_logits *l, double temperature)
{
	double low = 0.0005, high = 0.49;

	for (int i = 0; i < 30; i++)
	{
		double q = (low + high) / 2;

		if (fa_age_coverage(l, temperature, q) > COVERAGE)
			low = q;
		else
			high = q;
	}
	return (low + high) / 2;
}

/* ---- The training's file -------------------------------------------------------------- */

static void
round_to_half(fa_weights *weights)
{
	for (int i = 0; i < weights->tensor_count; i++)
		for (size_t k = 0; k < weights->tensors[i].count; k++)
			weights->tensors[i].values[k] = fa_from_half(fa_to_half(weights->tensors[i].values[k]));
}

/* Metadata "trained" is a JSON list of heads' names; without it all were. */
static void
read_trained(const fa_weights *given, fa_folded *f)
{
	const char *text = fa_weights_get(given, "trained");
	json_t *list = text == NULL ? NULL : json_loads(text, 0, NULL);

	for (int h = 0; h < FA_HEADS; h++)
	{
		f->trained[h] = text == NULL;
		for (size_t i = 0; i < json_array_size(list); i++)
		{
			const char *name = json_string_value(json_array_get(list, i));

			f->trained[h] |= name != NULL && strcmp(name, fa_heads[h].name) == 0;
		}
	}
	json_decref(list);
}

/* An embedding that was trained alone has no head. */
static bool
has_heads(const fa_folded *f)
{
	bool any = false;

	for (int h = 0; h < FA_HEADS; h++)
		any |= f->trained[h];
	return any;
}

static fa_status
make_net(const fa_folded *f, const char *network, bool training, fa_net *net, fa_error *error)
{
	int size;

	return has_heads(f) ? fa_attribute_net(net, network, f->hidden, training, 0, error)
						: fa_embedding_net(net, network, training, &size, error);
}

static fa_status
read_template(fa_folded *f, const fa_model_facts *facts, fa_error *error)
{
	const char *text = facts->landmark_template != NULL ? facts->landmark_template
														: fa_weights_get(&f->weights, "template");

	if (text == NULL)
	{
		fa_fail(error, FA_INVALID, "the weights do not say which template they were trained with");
		return fa_detail(error, "--template does.");
	}
	if (!fa_parse_numbers(text, &f->landmark_template[0][0], 2 * FA_LANDMARKS))
		return fa_fail(error, FA_INVALID, "a template is ten numbers, not \"%.100s\"", text);
	return fa_weights_set(&f->weights, "template", text, error);
}

static fa_status
fold(const fa_weights *given, fa_folded *f, fa_error *error)
{
	const char *width = fa_weights_get(given, "hidden"), *input = fa_weights_get(given, "input");
	const char *name = fa_weights_get(given, "network");
	fa_net training = {0}, use = {0};
	fa_status status;

	name = name == NULL ? "mobilenet_v1" : name;
	f->hidden = width == NULL ? 0 : atoi(width);
	f->size = input == NULL ? 224 : atoi(input);
	read_trained(given, f);
	FA_TRY(fa_heads_read(given, error));
	status = make_net(f, name, true, &training, error);
	if (status == FA_OK)
		status = make_net(f, name, false, &use, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, given, &use, &f->weights, error);
	fa_net_free(&training);
	fa_net_free(&use);
	FA_TRY(status);
	round_to_half(&f->weights);
	FA_TRY(fa_weights_set(&f->weights, "network", name, error));
	f->network = fa_weights_get(&f->weights, "network");
	return FA_OK;
}

fa_status
fa_fold_training(const char *path, const fa_model_facts *facts, fa_folded *folded, fa_error *error)
{
	fa_weights given;
	fa_status status;

	memset(folded, 0, sizeof(*folded));
	FA_TRY(fa_weights_read(&given, path, error));
	status = fold(&given, folded, error);
	fa_weights_free(&given);
	if (status == FA_OK)
		status = read_template(folded, facts, error);
	return status == FA_OK ? FA_OK : fa_error_in(error, path);
}

/* ---- The model's file ------------------------------------------------------------------- */

/* What was fitted. */
typedef struct fit
{
	double temperatures[FA_HEADS], quantile;
} fit;

static double
rounded(double value)
{
	return round(value * 10000) / 10000;
}

static fa_status
set_json(fa_weights *weights, const char *key, json_t *value, fa_error *error)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6));
	fa_status status =
		text == NULL ? fa_no_memory(error, 0) : fa_weights_set(weights, key, text, error);

	free(text);
	json_decref(value);
	return status;
}

static json_t *
heads_to_json(const bool trained[FA_HEADS], const fit *fitted)
{
	json_t *heads = json_array();

	for (int h = 0; h < FA_HEADS; h++)
	{
		json_t *head = json_object();

		json_object_set_new(head, "name", json_string(fa_heads[h].name));
		if (fa_head_labels[h] == NULL)
			json_object_set_new(head, "classes", json_integer(fa_heads[h].classes));
		else
		{
			json_t *labels = json_array();

			for (int i = 0; i < fa_heads[h].classes; i++)
				json_array_append_new(labels, json_string(fa_head_labels[h][i]));
			json_object_set_new(head, "labels", labels);
		}
		json_object_set_new(head, "temperature", json_real(rounded(fitted->temperatures[h])));
		if (trained[h])
			json_array_append(heads, head);
		json_decref(head);
	}
	return heads;
}

/* A model has the heads that were trained, and no others. */
static void
drop_untrained(fa_weights *weights, const bool trained[FA_HEADS])
{
	int kept = 0;

	for (int i = 0; i < weights->tensor_count; i++)
	{
		fa_tensor *tensor = &weights->tensors[i];
		bool drop = false;

		for (int h = 0; h < FA_HEADS; h++)
		{
			size_t length = strlen(fa_heads[h].name);

			drop |= !trained[h] && strncmp(tensor->name, fa_heads[h].name, length) == 0 &&
					tensor->name[length] == '.';
		}
		if (drop)
		{
			free(tensor->name);
			free(tensor->values);
		}
		else
			weights->tensors[kept++] = *tensor;
	}
	weights->tensor_count = kept;
}

static fa_status
set_verification(const fa_model_facts *facts, fa_weights *weights, fa_error *error)
{
	if (facts->pivot == 0 && facts->power == 0 && fa_weights_get(weights, "verification") != NULL)
		return FA_OK;
	return set_json(weights, "verification",
					json_pack("{s:f, s:f}", "pivot", facts->pivot > 0 ? rounded(facts->pivot) : 0.5,
							  "power", facts->power > 0 ? rounded(facts->power) : 1.0),
					error);
}

static fa_status
set_metadata(fa_folded *f, const fa_model_facts *facts, const fit *fitted, fa_error *error)
{
	fa_face_options face = fa_default_options();
	fa_weights *weights = &f->weights;
	char text[32];

	FA_TRY(set_json(weights, "heads", heads_to_json(f->trained, fitted), error));
	snprintf(text, sizeof(text), "%.4f", fitted->quantile);
	FA_TRY(fa_weights_set(weights, "age_quantile", text, error));
	FA_TRY(set_verification(facts, weights, error));
	FA_TRY(
		set_json(weights, "detection",
				 json_pack("{s:i, s:f, s:f, s:b}", "detect_size", face.detect_size, "min_score",
						   face.min_score, "min_face", face.min_face, "verify", (int) face.verify),
				 error));
	if (facts->licence != NULL)
		FA_TRY(fa_weights_set(weights, "licence", facts->licence, error));
	if (facts->note != NULL)
		FA_TRY(fa_weights_set(weights, "note", facts->note, error));
	return fa_weights_set(weights, "made_by", "faceattr train, faceattr calibrate", error);
}

/* ---- Its figures ---------------------------------------------------------------------- */

/* What the model says of the images, judged as `faceattr evaluate` judges it. */
static fa_status
measure(const fa_folded *f, const fit *fitted, const fa_logits *l, const fa_dataset *faces,
		json_t **metrics, fa_error *error)
{
	fa_attribute_model model = {.age_quantile = (float) fitted->quantile};
	int *const indexes[FA_HEADS] = {&model.age, &model.gender, &model.race, &model.face};
	fa_judgement *judgements = malloc((size_t) faces->count * sizeof(*judgements));
	fa_status status;

	if (judgements == NULL)
		return fa_no_memory(error, (size_t) faces->count * sizeof(*judgements));
	for (int h = 0; h < FA_HEADS; h++)
	{
		model.heads[h].classes = fa_heads[h].classes;
		model.heads[h].temperature = (float) rounded(fitted->temperatures[h]);
		*indexes[h] = f->trained[h] ? h : -1;
	}
	for (int i = 0; i < faces->count; i++)
	{
		const fa_label *label = &faces->samples[i].label;
		float *logits[FA_HEADS], is_face;
		fa_face face = {0};

		for (int h = 0; h < FA_HEADS; h++)
			logits[h] = l->logits[h] + (size_t) i * fa_heads[h].classes;
		fa_set_attributes(&model, logits, &face, &is_face);
		judgements[i] = (fa_judgement){
			.gender = label->gender,
			.race = label->race,
			.age = fa_label_age(label),
			.age_most = label->age_high,
			.found = true,
			.has_age = face.has_age,
			.predicted_age = face.age,
			.age_low = face.age_low,
			.age_high = face.age_high,
			.gender_right =
				face.has_gender && label->gender >= 0 ? face.gender == label->gender : -1,
			.race_right = face.has_race && label->race >= 0 ? face.race == label->race : -1,
			.gender_confidence = face.gender_confidence,
			.race_confidence = face.race_confidence,
		};
	}
	status = fa_figures_total(judgements, faces->count, 1, metrics, error);
	free(judgements);
	return status;
}

/* ---- calibrate.h ------------------------------------------------------------------------ */

static fit
fit_all(const fa_folded *f, const fa_logits *logits, bool negatives)
{
	fit fitted = {.quantile = 0.1};

	for (int h = 0; h < FA_HEADS; h++)
	{
		bool labelled = false;

		for (int i = 0; i < logits->count; i++)
			labelled |= logits->targets[h][i] >= 0;
		if (h == FA_HEAD_FACE)
			labelled &= negatives;
		/* nothing to fit: as confident as it was trained */
		fitted.temperatures[h] = labelled && f->trained[h] ? fa_fit_temperature(logits, h) : 1;
		if (labelled && f->trained[h] && h == FA_HEAD_AGE)
			fitted.quantile = fa_fit_age_quantile(logits, fitted.temperatures[h]);
	}
	return fitted;
}

/* Temperatures and the quantile, and what they come to. */
static fa_status
fit_and_measure(const fa_folded *f, fa_engine *engine, const fa_loader_options *validation,
				fit *fitted, json_t **metrics, fa_error *error)
{
	fa_logits logits;
	fa_status status = FA_OK;

	FA_TRY(fa_logits_collect(&fa_cpu_engine, engine, &f->weights, f->network, f->hidden,
							 FA_PRECISION_FP32, validation, &logits, error));
	*fitted =
		fit_all(f, &logits, validation->negatives != NULL && validation->negatives->count > 0);
	if (metrics != NULL)
		status = measure(f, fitted, &logits, validation->faces, metrics, error);
	fa_logits_free(&logits);
	FA_TRY(status);
	fprintf(stderr, "temperatures:");
	for (int h = 0; h < FA_HEADS; h++)
		if (f->trained[h])
			fprintf(stderr, " %s %.3f", fa_heads[h].name, fitted->temperatures[h]);
	fprintf(stderr, "; age quantile %.4f\n", fitted->quantile);
	return FA_OK;
}

fa_status
fa_calibrate(fa_folded *f, const fa_model_facts *facts, fa_engine *engine,
			 const fa_loader_options *validation, const char *output, json_t **metrics,
			 fa_error *error)
{
	fit fitted = {.quantile = 0.1};
	fa_engine *own = NULL;
	fa_status status = FA_OK;

	if (has_heads(f) && engine == NULL)
	{
		FA_TRY(fa_cpu_engine.open(NULL, &own, error));
		engine = own;
	}
	if (has_heads(f))
		status = fit_and_measure(f, engine, validation, &fitted, metrics, error);
	fa_cpu_engine.close(own);
	FA_TRY(status);
	status = set_metadata(f, facts, &fitted, error);
	if (status == FA_OK)
	{
		drop_untrained(&f->weights, f->trained);
		status = fa_weights_write(&f->weights, output, FA_F16, error);
	}
	if (status != FA_OK && metrics != NULL)
	{
		json_decref(*metrics);
		*metrics = NULL;
	}
	return status;
}

/* ---- The subcommand --------------------------------------------------------------------- */

enum
{
	OPT_VAL = 256,
	OPT_VAL_LABELS,
	OPT_VAL_NEGATIVES,
	OPT_TEMPLATE,
	OPT_PIVOT,
	OPT_POWER,
	OPT_LICENCE,
	OPT_NOTE,
	OPT_DETECTOR
};

typedef struct options
{
	const char *init, *output, *validation, *labels, *negatives, *detector;
	fa_model_facts facts;
} options;

static const struct argp_option argp_options[] = {
	{"init", 'i', "FILE", 0, "best.safetensors of a training", 1},
	{"output", 'o', "FILE", 0, "The model file to write", 1},
	{"val", OPT_VAL, "TAR|DIR", 0, "Validation chips", 1},
	{"val-labels", OPT_VAL_LABELS, "TSV", 0, "Their labels", 1},
	{"val-negatives", OPT_VAL_NEGATIVES, "TAR|DIR", 0, "Photos without a human face", 1},
	{"detector", OPT_DETECTOR, "DIR", 0, "Where yunet_n.safetensors is (with the shipped weights)",
	 1},
	{"template", OPT_TEMPLATE, "X,Y,...", 0,
	 "What `faceattr template' printed (what the training was told)", 1},
	{"pivot", OPT_PIVOT, "X", 0,
	 "Crops that are faces with this probability keep the detector's score; chosen on photos (what "
	 "the training started from says, or 0.5)",
	 1},
	{"power", OPT_POWER, "X", 0, "How much the others lose (the same, or 1)", 1},
	{"licence", OPT_LICENCE, "TEXT", 0, "For the metadata (that of what the training started from)",
	 1},
	{"note", OPT_NOTE, "TEXT", 0, "For the metadata: how the weights were made", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;

	switch (key)
	{
		case 'i':
			o->init = text;
			return 0;
		case 'o':
			o->output = text;
			return 0;
		case OPT_VAL:
			o->validation = text;
			return 0;
		case OPT_VAL_LABELS:
			o->labels = text;
			return 0;
		case OPT_VAL_NEGATIVES:
			o->negatives = text;
			return 0;
		case OPT_DETECTOR:
			o->detector = text;
			return 0;
		case OPT_TEMPLATE:
			o->facts.landmark_template = text;
			return 0;
		case OPT_PIVOT:
			o->facts.pivot = atof(text);
			if (!(o->facts.pivot >= 0.0001 && o->facts.pivot <= 1))
				argp_error(state, "--pivot is a probability from 0.0001 to 1");
			return 0;
		case OPT_POWER:
			o->facts.power = atof(text);
			if (!(o->facts.power >= 0.001 && o->facts.power <= 1))
				argp_error(state, "--power is from 0.001 to 1");
			return 0;
		case OPT_LICENCE:
			o->facts.licence = text;
			return 0;
		case OPT_NOTE:
			o->facts.note = text;
			return 0;
		case ARGP_KEY_END:
			if (o->init == NULL || o->output == NULL || o->validation == NULL)
				argp_error(state, "--init, --output and --val are needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

static fa_status
run(const options *o, fa_error *error)
{
	fa_loader_options loading = {.workers = 1};
	fa_folded folded;
	fa_dataset faces = {0};
	fa_negatives negatives = {0};
	fa_engine *engine = NULL;
	char detector[FA_PATH_LENGTH];
	fa_status status;

	fa_weights_directory(o->detector, detector);
	status = fa_fold_training(o->init, &o->facts, &folded, error);
	if (status == FA_OK)
		status = fa_dataset_read_labelled(&faces, o->validation, o->labels, fa_heads_sets(), error);
	if (status == FA_OK)
		status =
			fa_negatives_read(&negatives, o->negatives, detector, 1, FA_PRECISION_AUTO,
							  (const double(*)[2]) folded.landmark_template, 0.5f, 0, 1, error);
	if (status == FA_OK)
		status = fa_cpu_engine.open(NULL, &engine, error);
	if (status == FA_OK)
	{
		memcpy(loading.landmark_template, folded.landmark_template,
			   sizeof(loading.landmark_template));
		loading.faces = &faces;
		loading.negatives = &negatives;
		loading.size = folded.size;
		status = fa_calibrate(&folded, &o->facts, engine, &loading, o->output, NULL, error);
	}
	if (engine != NULL)
		fa_cpu_engine.close(engine);
	fa_weights_free(&folded.weights);
	fa_dataset_free(&faces);
	fa_negatives_free(&negatives);
	return status;
}

int
faceattr_calibrate(int argc, char **argv)
{
	static const struct argp parser = {
		argp_options,
		parse_option,
		NULL,
		"Calibrates a training's best weights on other data than its own, or with other facts in "
		"the metadata, and writes a model file: `faceattr train' ends with the same.",
		NULL,
		NULL,
		NULL};
	options o = {.init = NULL};
	fa_error error;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	return run(&o, &error) == FA_OK ? 0 : fa_complain(&error);
}
