/*
 * calibrate.c
 *		`faceattr calibrate`: from a training's best weights to a model file. Folds
 *		batch norm in, rounds to fp16, and fits on validation data what the metadata
 *		say: a temperature per head and the quantile of the age interval
 *		(docs/weights-format.md). All is fitted on the rounded weights.
 */
#include "calibrate.h"
#include "common.h"
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
	const char *landmark_template, *licence, *note;
	double pivot, power; /* of verification: src/face/verify.h */
} options;

static const struct argp_option argp_options[] = {
	{"init", 'i', "FILE", 0, "best.safetensors of a training", 1},
	{"output", 'o', "FILE", 0, "The model file to write", 1},
	{"val", OPT_VAL, "TAR|DIR", 0, "Validation chips", 1},
	{"val-labels", OPT_VAL_LABELS, "TSV", 0, "Their labels", 1},
	{"val-negatives", OPT_VAL_NEGATIVES, "TAR|DIR", 0, "Photos without a human face", 1},
	{"detector", OPT_DETECTOR, "DIR", 0, "Where yunet_n.safetensors is (weights)", 1},
	{"template", OPT_TEMPLATE, "X,Y,...", 0, "What `faceattr template' printed", 1},
	{"pivot", OPT_PIVOT, "X", 0,
	 "Crops that are faces with this probability keep the detector's score (0.5); chosen on photos",
	 1},
	{"power", OPT_POWER, "X", 0, "How much the others lose (1); chosen on photos, too", 1},
	{"licence", OPT_LICENCE, "TEXT", 0, "For the metadata", 1},
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
			o->landmark_template = text;
			return 0;
		case OPT_PIVOT:
			o->pivot = atof(text);
			if (!(o->pivot >= 0.0001 && o->pivot <= 1))
				argp_error(state, "--pivot is a probability from 0.0001 to 1");
			return 0;
		case OPT_POWER:
			o->power = atof(text);
			if (!(o->power >= 0.001 && o->power <= 1))
				argp_error(state, "--power is from 0.001 to 1");
			return 0;
		case OPT_LICENCE:
			o->licence = text;
			return 0;
		case OPT_NOTE:
			o->note = text;
			return 0;
		case ARGP_KEY_END:
			if (o->init == NULL || o->output == NULL || o->validation == NULL ||
				o->landmark_template == NULL)
				argp_error(state, "--init, --output, --val and --template are needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

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

static void
round_to_half(fa_weights *weights)
{
	for (int i = 0; i < weights->tensor_count; i++)
		for (size_t k = 0; k < weights->tensors[i].count; k++)
			weights->tensors[i].values[k] = fa_from_half(fa_to_half(weights->tensors[i].values[k]));
}

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

static fa_status
set_metadata(const options *o, fa_weights *weights, const double *temperatures, double quantile,
			 fa_error *error)
{
	fa_face_options face = fa_default_options();
	json_t *heads = json_array();
	char text[32];

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
		json_object_set_new(head, "temperature", json_real(rounded(temperatures[h])));
		json_array_append_new(heads, head);
	}
	FA_TRY(set_json(weights, "heads", heads, error));
	FA_TRY(fa_weights_set(weights, "template", o->landmark_template, error));
	snprintf(text, sizeof(text), "%.4f", quantile);
	FA_TRY(fa_weights_set(weights, "age_quantile", text, error));
	FA_TRY(set_json(weights, "verification",
					json_pack("{s:f, s:f}", "pivot", rounded(o->pivot), "power", rounded(o->power)),
					error));
	FA_TRY(
		set_json(weights, "detection",
				 json_pack("{s:i, s:f, s:f, s:b}", "detect_size", face.detect_size, "min_score",
						   face.min_score, "min_face", face.min_face, "verify", (int) face.verify),
				 error));
	if (o->licence != NULL)
		FA_TRY(fa_weights_set(weights, "licence", o->licence, error));
	if (o->note != NULL)
		FA_TRY(fa_weights_set(weights, "note", o->note, error));
	return fa_weights_set(weights, "made_by", "faceattr train, faceattr calibrate", error);
}

/* Folded, rounded weights with what the training's file says of its network. */
static fa_status
fold(const char *path, fa_weights *folded, const char **network, int *hidden, int *size,
	 fa_error *error)
{
	fa_weights given;
	fa_net training = {0}, use = {0};
	const char *width, *input, *name;
	fa_status status;

	FA_TRY(fa_weights_read(&given, path, error));
	width = fa_weights_get(&given, "hidden");
	input = fa_weights_get(&given, "input");
	name = fa_weights_get(&given, "network");
	name = name == NULL ? "mobilenet_v1" : name;
	*hidden = width == NULL ? 0 : atoi(width);
	*size = input == NULL ? 224 : atoi(input);
	status = fa_heads_read(&given, error);
	if (status == FA_OK)
		status = fa_attribute_net(&training, name, *hidden, true, 0, error);
	if (status == FA_OK)
		status = fa_attribute_net(&use, name, *hidden, false, 0, error);
	if (status == FA_OK)
		status = fa_fold_batch_norm(&training, &given, &use, folded, error);
	if (status == FA_OK)
		round_to_half(folded);
	if (status == FA_OK)
		status = fa_weights_set(folded, "network", name, error);
	*network = fa_weights_get(folded, "network");
	fa_net_free(&training);
	fa_net_free(&use);
	fa_weights_free(&given);
	return status;
}

static fa_status
calibrate(const options *o, fa_error *error)
{
	fa_loader_options loading = {.batch = 16, .workers = 1};
	fa_weights weights = {0};
	fa_dataset faces = {0};
	fa_negatives negatives = {0};
	fa_logits logits = {0};
	fa_engine *engine = NULL;
	double temperatures[FA_HEADS], quantile;
	const char *network = NULL;
	int hidden = 0;
	fa_status status;

	if (!fa_parse_numbers(o->landmark_template, &loading.landmark_template[0][0], 2 * FA_LANDMARKS))
		return fa_fail(error, FA_INVALID, "--template takes ten numbers");
	status = fold(o->init, &weights, &network, &hidden, &loading.size, error);
	if (status == FA_OK)
		status = fa_dataset_read_labelled(&faces, o->validation, o->labels, fa_heads_sets(), error);
	if (status == FA_OK)
		status =
			fa_negatives_read(&negatives, o->negatives, o->detector, 1, FA_PRECISION_AUTO,
							  (const double(*)[2]) loading.landmark_template, 0.5f, 0, 1, error);
	if (status == FA_OK)
		status = fa_cpu_engine.open(1, &engine, error);
	if (status == FA_OK)
	{
		loading.faces = &faces;
		loading.negatives = &negatives;
		status = fa_logits_collect(&fa_cpu_engine, engine, &weights, network, hidden,
								   FA_PRECISION_FP32, &loading, &logits, error);
	}
	if (status == FA_OK)
	{
		for (int h = 0; h < FA_HEADS; h++)
			temperatures[h] = fa_fit_temperature(&logits, h);
		if (negatives.count == 0) /* nothing to fit: as confident as it was trained */
			temperatures[FA_HEAD_FACE] = 1;
		quantile = fa_fit_age_quantile(&logits, temperatures[FA_HEAD_AGE]);
		printf("temperatures: age %.3f, gender %.3f, race %.3f, face %.3f; age quantile %.4f "
			   "covers %.1f %%\n",
			   temperatures[0], temperatures[1], temperatures[2], temperatures[3], quantile,
			   100 * fa_age_coverage(&logits, temperatures[FA_HEAD_AGE], quantile));
		status = set_metadata(o, &weights, temperatures, quantile, error);
	}
	if (status == FA_OK)
		status = fa_weights_write(&weights, o->output, FA_F16, error);
	if (engine != NULL)
		fa_cpu_engine.close(engine);
	fa_logits_free(&logits);
	fa_weights_free(&weights);
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
		"Calibrates a training's best weights on validation data and writes a model file.",
		NULL,
		NULL,
		NULL};
	options o = {.detector = "weights", .pivot = 0.5, .power = 1};
	fa_error error;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	return calibrate(&o, &error) == FA_OK ? 0 : fa_complain(&error);
}
