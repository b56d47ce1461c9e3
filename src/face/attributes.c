/*
 * attributes.c
 *		Attribute models: their metadata, checked before use, and calibration; see
 *		attributes.h.
 */
#include "attributes.h"

#include "../nn/networks.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT 1024

static fa_status bad(fa_error *error, const char *what, ...) __attribute__((format(printf, 2, 3)));

static fa_status
bad(fa_error *error, const char *what, ...)
{
	va_list arguments;
	char text[200];

	va_start(arguments, what);
	vsnprintf(text, sizeof(text), what, arguments);
	va_end(arguments);
	fa_fail(error, FA_DAMAGED, "weights file has unusable metadata");
	return fa_detail(error, "%s.", text);
}

/* ---- Metadata -------------------------------------------------------------------- */

static fa_status
add_label(fa_attribute_model *m, const char *label, fa_error *error)
{
	char *copy = strdup(label);

	if (copy == NULL)
		return fa_no_memory(error, strlen(label));
	m->labels[m->label_count++] = copy;
	return FA_OK;
}

/* {"name":…, "classes":… | "labels":[…], "temperature":…} */
static fa_status
read_head(fa_attribute_model *m, const json_t *value, fa_error *error)
{
	fa_head_info *head = &m->heads[m->head_count];
	const char *name = json_string_value(json_object_get(value, "name"));
	const json_t *labels = json_object_get(value, "labels");
	double temperature = json_number_value(json_object_get(value, "temperature"));
	json_int_t classes = json_is_array(labels)
							 ? (json_int_t) json_array_size(labels)
							 : json_integer_value(json_object_get(value, "classes"));

	if (name == NULL || *name == '\0' || strlen(name) >= FA_NAME_LENGTH)
		return bad(error, "A head has no name, or too long a one");
	if (strcmp(name, "age") == 0 && labels != NULL)
		return bad(error, "Head \"age\" has labels, but its classes are years");
	if (classes < 2 || classes > FA_MAX_CLASSES)
		return bad(error, "Head \"%s\" has %lld classes; 2 to %d are possible", name,
				   (long long) classes, FA_MAX_CLASSES);
	if (!isfinite(temperature) || temperature < 0.01 || temperature > 100)
		return bad(error, "Head \"%s\" has no temperature between 0.01 and 100", name);
	for (int i = 0; i < m->head_count; i++)
		if (strcmp(m->heads[i].name, name) == 0)
			return bad(error, "Head \"%s\" is there twice", name);
	snprintf(head->name, sizeof(head->name), "%s", name);
	head->classes = (int) classes;
	head->temperature = (float) temperature;
	head->labels = (const char *const *) m->labels + m->label_count;
	for (int i = 0; i < head->classes; i++)
	{
		char number[16];
		const char *label = json_string_value(json_array_get(labels, (size_t) i));

		if (labels != NULL && label == NULL)
			return bad(error, "Label %d of head \"%s\" is no string", i, name);
		snprintf(number, sizeof(number), "%d", i);
		FA_TRY(add_label(m, label != NULL ? label : number, error));
	}
	m->head_count++;
	return FA_OK;
}

static fa_status
read_heads(fa_attribute_model *m, const fa_weights *weights, fa_error *error)
{
	const char *text = fa_weights_get(weights, "heads");
	json_t *heads = text == NULL ? NULL : json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	size_t count = (size_t) FA_MAX_HEADS * FA_MAX_CLASSES;
	fa_status status = FA_OK;

	if (!json_is_array(heads) || json_array_size(heads) > FA_MAX_HEADS)
		status = bad(error, "\"heads\" is no JSON array of up to %d heads", FA_MAX_HEADS);
	else
	{
		m->labels = calloc(count, sizeof(char *));
		if (m->labels == NULL)
			status = fa_no_memory(error, count * sizeof(char *));
		for (size_t i = 0; i < json_array_size(heads) && status == FA_OK; i++)
			status = read_head(m, json_array_get(heads, i), error);
	}
	json_decref(heads);
	return status;
}

/* A member that must be a number in a range where it is there at all. */
static fa_status
read_number(const json_t *object, const char *key, double low, double high, double *number,
			fa_error *error)
{
	const json_t *value = json_object_get(object, key);

	if (value == NULL)
		return FA_OK;
	if (!json_is_number(value) || !(json_number_value(value) >= low) ||
		!(json_number_value(value) <= high))
		return bad(error, "\"%s\" is no number from %g to %g", key, low, high);
	*number = json_number_value(value);
	return FA_OK;
}

static fa_status
read_detection(fa_attribute_model *m, const json_t *object, fa_error *error)
{
	double size = m->options.detect_size, score = m->options.min_score;
	double face = m->options.min_face;
	const json_t *verify = json_object_get(object, "verify");

	FA_TRY(read_number(object, "detect_size", 160, 4096, &size, error));
	FA_TRY(read_number(object, "min_score", 0, 1, &score, error));
	FA_TRY(read_number(object, "min_face", 0, 1e6, &face, error));
	if (verify != NULL && !json_is_boolean(verify))
		return bad(error, "\"verify\" is neither true nor false");
	m->options.detect_size = (int) size;
	m->options.min_score = (float) score;
	m->options.min_face = (float) face;
	m->options.verify = verify == NULL || json_is_true(verify);
	return FA_OK;
}

/* An optional JSON object among the metadata, read by `read`. */
static fa_status
read_verification(fa_attribute_model *m, const json_t *object, fa_error *error)
{
	double pivot = m->verification.pivot, power = m->verification.power;

	FA_TRY(read_number(object, "pivot", 1e-6, 1, &pivot, error));
	FA_TRY(read_number(object, "power", 1e-3, 1, &power, error));
	m->verification = (fa_verification){(float) pivot, (float) power};
	return FA_OK;
}

static fa_status
read_object(fa_attribute_model *m, const fa_weights *weights, const char *key,
			fa_status (*read)(fa_attribute_model *, const json_t *, fa_error *), fa_error *error)
{
	const char *text = fa_weights_get(weights, key);
	json_t *object = text == NULL ? NULL : json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	fa_status status = FA_OK;

	if (text != NULL)
		status = json_is_object(object) ? read(m, object, error)
										: bad(error, "\"%s\" is no JSON object", key);
	json_decref(object);
	return status;
}

static int
find_head(const fa_attribute_model *m, const char *name)
{
	for (int i = 0; i < m->head_count; i++)
		if (strcmp(m->heads[i].name, name) == 0)
			return i;
	return -1;
}

static fa_status
read_metadata(fa_attribute_model *m, const fa_weights *weights, int *hidden, fa_error *error)
{
	const char *input = fa_weights_get(weights, "input");
	double quantile = 0.1, width = 0;

	if (input == NULL || sscanf(input, "%dx%d", &m->height, &m->width) != 2 || m->height < 32 ||
		m->width < 32 || m->height > MAX_INPUT || m->width > MAX_INPUT)
		return bad(error, "\"input\" is no size from 32x32 to %dx%d", MAX_INPUT, MAX_INPUT);
	if (fa_weights_get(weights, "hidden") != NULL &&
		(!fa_parse_numbers(fa_weights_get(weights, "hidden"), &width, 1) || width < 0 ||
		 width > 65536))
		return bad(error, "\"hidden\" is no width");
	*hidden = (int) width;
	if (!fa_parse_numbers(fa_weights_get(weights, "template"), &m->landmark_template[0][0],
						  2 * FA_LANDMARKS))
		return bad(error, "\"template\" is not ten numbers");
	if (fa_weights_get(weights, "age_quantile") != NULL &&
		(!fa_parse_numbers(fa_weights_get(weights, "age_quantile"), &quantile, 1) || quantile < 0 ||
		 quantile >= 0.5))
		return bad(error, "\"age_quantile\" is no number from 0 to 0.5");
	m->age_quantile = (float) quantile;
	m->verification = (fa_verification){.pivot = 0.5f, .power = 1};
	m->options = fa_default_options();
	FA_TRY(read_object(m, weights, "detection", read_detection, error));
	FA_TRY(read_object(m, weights, "verification", read_verification, error));
	FA_TRY(read_heads(m, weights, error));
	m->age = find_head(m, "age");
	m->gender = find_head(m, "gender");
	m->race = find_head(m, "race");
	m->face = find_head(m, "face");
	if (m->face >= 0 && m->heads[m->face].classes != 2)
		return bad(error, "Head \"face\" has not two classes");
	return FA_OK;
}

/* ---- Opening ----------------------------------------------------------------------- */

void
fa_attribute_model_close(const fa_engine_interface *interface, fa_attribute_model *m)
{
	if (m->model != NULL)
		interface->unload(m->model);
	for (int i = 0; i < m->label_count; i++)
		free(m->labels[i]);
	free(m->labels);
	free(m->metadata);
	memset(m, 0, sizeof(*m));
}

static fa_status
build(fa_net *net, const char *network, const fa_head *heads, int head_count, int hidden,
	  fa_error *error)
{
	char why[sizeof(error->message)];

	if (network == NULL)
		return bad(error, "\"network\" is missing");
	if (fa_net_by_name(network, net, heads, head_count, hidden, false, 0, error) == FA_OK)
		return FA_OK;
	if (error->status == FA_NO_MEMORY)
		return FA_NO_MEMORY;
	memcpy(why, error->message, sizeof(why));
	why[0] = (char) toupper((unsigned char) why[0]);
	return bad(error, "%s", why);
}

static fa_status
keep_metadata(fa_attribute_model *m, const fa_weights *weights, fa_error *error)
{
	size_t length = 0;
	char *end;

	for (int i = 0; i < weights->metadata_count; i++)
		length += strlen(weights->metadata[i].key) + strlen(weights->metadata[i].value) + 2;
	end = m->metadata = malloc(length + 1);
	if (end == NULL)
		return fa_no_memory(error, length);
	m->metadata_length = length;
	for (int i = 0; i < weights->metadata_count; i++)
	{
		end = stpcpy(end, weights->metadata[i].key) + 1;
		end = stpcpy(end, weights->metadata[i].value) + 1;
	}
	return FA_OK;
}

/* packed NULL: the weights are all there; else only their metadata. */
static fa_status
open_model(const fa_engine_interface *interface, fa_engine *engine, fa_precision precision,
		   const fa_weights *weights, const fa_bytes *packed, fa_attribute_model *m,
		   fa_error *error)
{
	fa_head heads[FA_MAX_HEADS];
	fa_net net;
	int hidden = 0;
	fa_status status;

	FA_TRY(read_metadata(m, weights, &hidden, error));
	for (int i = 0; i < m->head_count; i++)
	{
		memcpy(heads[i].name, m->heads[i].name, FA_NAME_LENGTH);
		heads[i].classes = m->heads[i].classes;
	}
	FA_TRY(build(&net, fa_weights_get(weights, "network"), heads, m->head_count, hidden, error));
	snprintf(m->network, sizeof(m->network), "%s", net.name);
	m->embedding = fa_net_find_output(&net, "embedding");
	m->embedding_size = net.ops[net.outputs[m->embedding].op].channels;
	for (int i = 0; i < m->head_count; i++)
		m->outputs[i] = fa_net_find_output(&net, m->heads[i].name);
	status = keep_metadata(m, weights, error);
	if (status == FA_OK && packed == NULL)
		status = fa_weights_match(weights, &net, false, error);
	if (status == FA_OK)
		status = packed == NULL
					 ? interface->load(engine, &net, weights, precision, &m->model, error)
					 : interface->load_packed(engine, &net, precision, packed->bytes,
											  packed->length, &m->model, error);
	fa_net_free(&net);
	return status;
}

fa_status
fa_attribute_model_open(const fa_engine_interface *interface, fa_engine *engine,
						fa_precision precision, const char *path, fa_attribute_model *model,
						fa_error *error)
{
	fa_weights weights;
	fa_status status;

	memset(model, 0, sizeof(*model));
	FA_TRY(fa_weights_read(&weights, path, error));
	status = open_model(interface, engine, precision, &weights, NULL, model, error);
	fa_weights_free(&weights);
	if (status != FA_OK)
	{
		fa_error_in(error, path);
		fa_attribute_model_close(interface, model);
	}
	return status;
}

fa_status
fa_attribute_model_open_bytes(const fa_engine_interface *interface, fa_engine *engine,
							  fa_precision precision, const fa_bytes *bytes,
							  fa_attribute_model *model, fa_error *error)
{
	fa_weights weights = {0};
	fa_status status;

	memset(model, 0, sizeof(*model));
	FA_TRY(fa_weights_parse(&weights, bytes->bytes, bytes->length, error));
	status = open_model(interface, engine, precision, &weights, NULL, model, error);
	fa_weights_free(&weights);
	if (status != FA_OK)
		fa_attribute_model_close(interface, model);
	return status;
}

/* Keys and values, each ended by a zero byte. */
static fa_status
parse_metadata(const fa_bytes *bytes, fa_weights *weights, fa_error *error)
{
	const char *at = bytes->bytes, *end = at + bytes->length;

	while (at < end)
	{
		const char *value = memchr(at, 0, (size_t) (end - at));

		if (value == NULL || ++value == end || memchr(value, 0, (size_t) (end - value)) == NULL)
			return bad(error, "The packed metadata end too early");
		FA_TRY(fa_weights_set(weights, at, value, error));
		at = value + strlen(value) + 1;
	}
	return FA_OK;
}

fa_status
fa_attribute_model_open_packed(const fa_engine_interface *interface, fa_engine *engine,
							   fa_precision precision, const fa_bytes *metadata,
							   const fa_bytes *packed, fa_attribute_model *model, fa_error *error)
{
	fa_weights weights = {0};
	fa_status status;

	memset(model, 0, sizeof(*model));
	status = parse_metadata(metadata, &weights, error);
	if (status == FA_OK)
		status = open_model(interface, engine, precision, &weights, packed, model, error);
	fa_weights_free(&weights);
	if (status != FA_OK)
		fa_attribute_model_close(interface, model);
	return status;
}

/* ---- From logits to attributes --------------------------------------------------- */

void
fa_calibrated(const float *logits, int classes, float temperature, float *probabilities)
{
	double highest = logits[0], total = 0;

	for (int i = 1; i < classes; i++)
		highest = logits[i] > highest ? logits[i] : highest;
	for (int i = 0; i < classes; i++)
	{
		double e = exp((logits[i] - highest) / temperature);

		probabilities[i] = (float) e;
		total += e;
	}
	for (int i = 0; i < classes; i++)
		probabilities[i] = (float) (probabilities[i] / total);
}

float
fa_age_quantile(const float *probabilities, int classes, float q)
{
	double before = 0, age = classes - 1;

	for (int i = 0; i < classes; i++)
	{
		if (before + probabilities[i] >= q && probabilities[i] > 0)
		{
			age = i + (q - before) / probabilities[i] - 0.5;
			break;
		}
		before += probabilities[i];
	}
	return (float) fmin(fmax(age, 0), classes - 1);
}

static int
most_likely(const float *probabilities, int classes)
{
	int best = 0;

	for (int i = 1; i < classes; i++)
		if (probabilities[i] > probabilities[best])
			best = i;
	return best;
}

void
fa_set_attributes(const fa_attribute_model *m, float *const *logits, fa_face *face,
				  float *face_probability)
{
	float p[FA_MAX_CLASSES];

	face->classified = true;
	face->has_age = m->age >= 0;
	face->has_gender = m->gender >= 0;
	face->has_race = m->race >= 0;
	*face_probability = 1;
	if (face->has_age)
	{
		int classes = m->heads[m->age].classes;
		double expected = 0;

		fa_calibrated(logits[m->age], classes, m->heads[m->age].temperature, p);
		for (int i = 0; i < classes; i++)
			expected += (double) i * p[i];
		face->age = (float) expected;
		/* a skewed distribution's mean may lie beyond its quantiles */
		face->age_low = fminf(fa_age_quantile(p, classes, m->age_quantile), face->age);
		face->age_high = fmaxf(fa_age_quantile(p, classes, 1 - m->age_quantile), face->age);
	}
	if (face->has_gender)
	{
		fa_calibrated(logits[m->gender], m->heads[m->gender].classes,
					  m->heads[m->gender].temperature, p);
		face->gender = most_likely(p, m->heads[m->gender].classes);
		face->gender_confidence = p[face->gender];
	}
	if (face->has_race)
	{
		fa_calibrated(logits[m->race], m->heads[m->race].classes, m->heads[m->race].temperature, p);
		face->race = most_likely(p, m->heads[m->race].classes);
		face->race_confidence = p[face->race];
	}
	if (m->face >= 0)
	{
		fa_calibrated(logits[m->face], 2, m->heads[m->face].temperature, p);
		*face_probability = p[1];
	}
}
