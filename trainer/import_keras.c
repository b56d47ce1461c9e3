/*
 * import_keras.c
 *		`faceattr import-keras`: keras-vggface's published weights, see import_keras.h.
 *
 * Keras writes a group for each layer, named in the root's attribute layer_names, with
 * the layer's tensors, named in the group's attribute weight_names. Shapes are compared
 * before anything is read, so that a file cannot ask for more memory than the network has.
 */
#include "import_keras.h"

#include "../src/nn/networks.h"
#include "common.h"
#include "trainer.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_NAMES 4096
#define MAX_NAME_LENGTH 256

/* ---- Lists of names ----------------------------------------------------------------- */

typedef struct names
{
	int count;
	char **names;
} names;

static void
names_free(names *list)
{
	for (int i = 0; i < list->count; i++)
		free(list->names[i]);
	free(list->names);
	memset(list, 0, sizeof(*list));
}

static fa_status
damaged(fa_error *error, const char *what, const char *name)
{
	fa_fail(error, FA_DAMAGED, "is not a file of weights as Keras writes them");
	return fa_detail(error, "%s \"%.150s\".", what, name);
}

/* Strings of fixed length, `size` bytes each, ended by a zero where they are shorter. */
static fa_status
take_names(names *list, const char *bytes, size_t size, hsize_t count, fa_error *error)
{
	list->names = calloc(count + 1, sizeof(char *));
	if (list->names == NULL)
		return fa_no_memory(error, count * sizeof(char *));
	for (hsize_t i = 0; i < count; i++)
	{
		list->names[i] = strndup(bytes + i * size, size);
		if (list->names[i] == NULL)
			return fa_no_memory(error, size);
		list->count++;
	}
	return FA_OK;
}

static fa_status
read_fixed(hid_t attribute, hid_t type, hsize_t count, names *list, fa_error *error)
{
	size_t size = H5Tget_size(type);
	char *bytes;
	fa_status status;

	if (size < 1 || size > MAX_NAME_LENGTH)
		return damaged(error, "Too long are", "the strings of an attribute");
	bytes = calloc(count, size);
	if (bytes == NULL)
		return fa_no_memory(error, count * size);
	if (H5Aread(attribute, type, bytes) < 0)
		status = damaged(error, "There is no reading", "an attribute");
	else
		status = take_names(list, bytes, size, count, error);
	free(bytes);
	return status;
}

/* As newer versions write them. */
static fa_status
read_variable(hid_t attribute, hid_t type, hid_t space, hsize_t count, names *list, fa_error *error)
{
	char **strings = calloc(count, sizeof(char *)), *bytes = calloc(count, MAX_NAME_LENGTH);
	fa_status status;

	if (strings == NULL || bytes == NULL)
		status = fa_no_memory(error, count * MAX_NAME_LENGTH);
	else if (H5Aread(attribute, type, strings) < 0)
		status = damaged(error, "There is no reading", "an attribute");
	else
	{
		for (hsize_t i = 0; i < count; i++)
			snprintf(bytes + i * MAX_NAME_LENGTH, MAX_NAME_LENGTH, "%s",
					 strings[i] == NULL ? "" : strings[i]);
		status = take_names(list, bytes, MAX_NAME_LENGTH, count, error);
		H5Dvlen_reclaim(type, space, H5P_DEFAULT, strings);
	}
	free(strings);
	free(bytes);
	return status;
}

/* An attribute that is a list of strings; an empty one may be of any type. */
static fa_status
read_names(hid_t group, const char *key, names *list, fa_error *error)
{
	hid_t attribute = H5Aopen(group, key, H5P_DEFAULT), type, space;
	hssize_t count;
	fa_status status;

	memset(list, 0, sizeof(*list));
	if (attribute < 0)
		return damaged(error, "There is no attribute", key);
	type = H5Aget_type(attribute);
	space = H5Aget_space(attribute);
	count = H5Sget_simple_extent_npoints(space);
	if (count < 0 || count > MAX_NAMES)
		status = damaged(error, "Too many strings in attribute", key);
	else if (count == 0)
		status = FA_OK;
	else if (H5Tget_class(type) != H5T_STRING)
		status = damaged(error, "No strings in attribute", key);
	else if (H5Tis_variable_str(type) > 0)
		status = read_variable(attribute, type, space, (hsize_t) count, list, error);
	else
		status = read_fixed(attribute, type, (hsize_t) count, list, error);
	H5Sclose(space);
	H5Tclose(type);
	H5Aclose(attribute);
	if (status != FA_OK)
		names_free(list);
	return status;
}

static bool
contains(const names *list, const char *name)
{
	for (int i = 0; i < list->count; i++)
		if (strcmp(list->names[i], name) == 0)
			return true;
	return false;
}

/* ---- Layers ------------------------------------------------------------------------- */

/* What only one of the networks has, the first that fits: SE-ResNet has all of ResNet's. */
static const struct
{
	const char *layer, *network;
} signs[] = {
	{"conv2_1_1x1_down", "senet50"},
	{"conv2_1_1x1_reduce", "resnet50"},
	{"conv1_1", "vgg16"},
};

/* The classifiers of identities that files with a "top" end in. */
static const names tops = {4, (char *[]){"classifier", "fc6", "fc7", "fc8"}};

static const struct
{
	const char *keras, *ours;
} tensors[] = {
	{"kernel:0", "weight"},
	{"bias:0", "bias"},
	{"gamma:0", "weight"},
	{"beta:0", "bias"},
	{"moving_mean:0", "running_mean"},
	{"moving_variance:0", "running_var"},
};

/* Our parameter of Keras' tensor of a layer, or NULL. */
static const fa_parameter *
find_parameter(const fa_net *net, const fa_parameter *parameters, int count, const char *layer,
			   const char *tensor)
{
	char name[2 * FA_NAME_LENGTH];

	for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++)
		if (strcmp(tensors[i].keras, tensor) == 0)
			for (int k = 0; k < count; k++)
			{
				bool norm = net->ops[parameters[k].op].kind == FA_OP_BATCH_NORM;

				snprintf(name, sizeof(name), "%.*s.%s", FA_NAME_LENGTH, layer, tensors[i].ours);
				if (norm == (i > 1) && strcmp(parameters[k].name, name) == 0)
					return &parameters[k];
			}
	return NULL;
}

/* Keras' shape of a parameter: a filter is height, width, in, out. */
static int
keras_shape(const fa_parameter *p, hsize_t shape[4])
{
	shape[0] = (hsize_t) p->shape[0];
	if (p->rank == 1)
		return 1;
	shape[0] = (hsize_t) p->shape[2];
	shape[1] = (hsize_t) p->shape[3];
	shape[2] = (hsize_t) p->shape[1];
	shape[3] = (hsize_t) p->shape[0];
	return 4;
}

static fa_status
check_dataset(hid_t dataset, const fa_parameter *p, const char *layer, const char *name,
			  fa_error *error)
{
	hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
	hsize_t expected[4], shape[4] = {0};
	int rank = keras_shape(p, expected), given = H5Sget_simple_extent_ndims(space);
	bool fits = given == rank && H5Sget_simple_extent_dims(space, shape, NULL) == rank &&
				memcmp(shape, expected, rank * sizeof(hsize_t)) == 0;
	bool real = H5Tget_class(type) == H5T_FLOAT;

	H5Sclose(space);
	H5Tclose(type);
	if (fits && real)
		return FA_OK;
	fa_fail(error, FA_INVALID, "tensor \"%.60s\" of layer \"%.60s\" does not fit", name, layer);
	if (!real)
		return fa_detail(error, "It is not of floating-point numbers.");
	if (given != rank)
		return fa_detail(error, "It has %d dimensions, not %d.", given, rank);
	if (rank == 1)
		return fa_detail(error, "It has %llu values, not %llu.", (unsigned long long) shape[0],
						 (unsigned long long) expected[0]);
	return fa_detail(error,
					 "Its shape is %llu x %llu x %llu x %llu, not %llu x %llu x %llu x %llu.",
					 (unsigned long long) shape[0], (unsigned long long) shape[1],
					 (unsigned long long) shape[2], (unsigned long long) shape[3],
					 (unsigned long long) expected[0], (unsigned long long) expected[1],
					 (unsigned long long) expected[2], (unsigned long long) expected[3]);
}

/* [height, width, in, out] to [out, in, height, width] */
static void
transpose(const float *from, float *to, const fa_parameter *p)
{
	size_t out = (size_t) p->shape[0], in = (size_t) p->shape[1];
	size_t taps = (size_t) p->shape[2] * p->shape[3];

	for (size_t t = 0; t < taps; t++)
		for (size_t i = 0; i < in; i++)
			for (size_t o = 0; o < out; o++)
				to[(o * in + i) * taps + t] = from[(t * in + i) * out + o];
}

static fa_status
read_dataset(hid_t dataset, const fa_parameter *p, const char *layer, const char *name,
			 fa_weights *weights, fa_error *error)
{
	bool variance = strcmp(name, "moving_variance:0") == 0;
	fa_tensor *tensor;
	float *values;
	fa_status status;

	FA_TRY(check_dataset(dataset, p, layer, name, error));
	values = malloc(p->count * sizeof(float));
	if (values == NULL)
		return fa_no_memory(error, p->count * sizeof(float));
	if (H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
		status = damaged(error, "There is no reading tensor", name);
	else
		status = fa_weights_add(weights, p->name, p->rank, p->shape, &tensor, error);
	for (size_t k = 0; k < p->count && status == FA_OK; k++)
		if (!isfinite(values[k]) || (variance && values[k] < 0))
		{
			fa_fail(error, FA_INVALID, "tensor \"%.60s\" of layer \"%.60s\" has impossible values",
					name, layer);
			status = fa_detail(error, "The first is %g.", values[k]);
		}
	if (status == FA_OK && p->rank == 4)
		transpose(values, tensor->values, p);
	else if (status == FA_OK)
		memcpy(tensor->values, values, p->count * sizeof(float));
	free(values);
	return status;
}

/* One tensor by its name in weight_names: "layer/kernel:0", of which the last part counts. */
static fa_status
read_tensor(hid_t group, const fa_net *net, const fa_parameter *parameters, int count,
			const char *layer, const char *path, fa_weights *weights, fa_error *error)
{
	const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
	const fa_parameter *p = find_parameter(net, parameters, count, layer, name);
	hid_t dataset;
	fa_status status;

	if (p == NULL)
		return fa_fail(error, FA_INVALID, "network \"%s\" has no layer \"%.60s\" with a \"%.60s\"",
					   net->name, layer, name);
	dataset = H5Dopen2(group, path, H5P_DEFAULT);
	if (dataset < 0)
		return damaged(error, "There is no tensor", path);
	status = read_dataset(dataset, p, layer, name, weights, error);
	H5Dclose(dataset);
	return status;
}

static fa_status
read_layer(hid_t root, const fa_net *net, const fa_parameter *parameters, int count,
		   const char *layer, fa_weights *weights, fa_error *error)
{
	hid_t group = H5Gopen2(root, layer, H5P_DEFAULT);
	names paths;
	fa_status status;

	if (group < 0)
		return damaged(error, "There is no layer", layer);
	status = read_names(group, "weight_names", &paths, error);
	for (int i = 0; status == FA_OK && i < paths.count; i++)
		status = read_tensor(group, net, parameters, count, layer, paths.names[i], weights, error);
	names_free(&paths);
	H5Gclose(group);
	return status;
}

/* ---- The file ----------------------------------------------------------------------- */

static fa_status
read_layers(hid_t root, const names *layers, fa_weights *weights, fa_error *error)
{
	const char *network = NULL;
	fa_parameter *parameters = NULL;
	int count = 0;
	fa_net net;
	fa_status status;

	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]) && network == NULL; i++)
		if (contains(layers, signs[i].layer))
			network = signs[i].network;
	if (network == NULL)
		return fa_fail(error, FA_UNSUPPORTED, "is none of keras-vggface's networks");
	FA_TRY(fa_net_by_name(network, &net, NULL, 0, 0, true, 0, error));
	status = fa_net_parameters(&net, &parameters, &count, error);
	for (int i = 0; status == FA_OK && i < layers->count; i++)
		if (!contains(&tops, layers->names[i]))
			status = read_layer(root, &net, parameters, count, layers->names[i], weights, error);
	if (status == FA_OK)
		status = fa_weights_match(weights, &net, false, error);
	if (status == FA_OK)
		status = fa_weights_set(weights, "network", network, error);
	if (status == FA_OK)
		status = fa_weights_set(weights, "made_by", "faceattr import-keras", error);
	if (status == FA_OK)
		status = fa_weights_set(weights, "licence", "that of the imported weights", error);
	free(parameters);
	fa_net_free(&net);
	return status;
}

/* A whole model has its weights in a group of their own. */
static hid_t
open_weights(hid_t file)
{
	bool model =
		H5Aexists(file, "layer_names") <= 0 && H5Lexists(file, "model_weights", H5P_DEFAULT) > 0;

	return H5Gopen2(file, model ? "model_weights" : "/", H5P_DEFAULT);
}

fa_status
fa_import_keras(fa_weights *weights, const char *path, fa_error *error)
{
	hid_t file, root = -1;
	names layers = {0};
	fa_status status;

	memset(weights, 0, sizeof(*weights));
	if (access(path, R_OK) != 0)
	{
		fa_fail(error, FA_NOT_FOUND, "cannot be read");
		return fa_error_in(error, path);
	}
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* errors are ours to tell */
	file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	if (file >= 0)
		root = open_weights(file);
	if (root < 0)
		status = fa_fail(error, FA_DAMAGED, "is not an HDF5 file, or a damaged one");
	else
		status = read_names(root, "layer_names", &layers, error);
	if (status == FA_OK)
		status = read_layers(root, &layers, weights, error);
	names_free(&layers);
	if (root >= 0)
		H5Gclose(root);
	if (file >= 0)
		H5Fclose(file);
	if (status != FA_OK)
	{
		fa_weights_free(weights);
		fa_error_in(error, path);
	}
	return status;
}

/* ---- The subcommand ------------------------------------------------------------------- */

typedef struct options
{
	const char *input, *output;
} options;

static const struct argp_option argp_options[] = {
	{"output", 'o', "FILE", 0, "The safetensors file to write", 0}, {0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;

	switch (key)
	{
		case 'o':
			o->output = text;
			return 0;
		case ARGP_KEY_ARG:
			if (o->input != NULL)
				argp_usage(state);
			o->input = text;
			return 0;
		case ARGP_KEY_END:
			if (o->input == NULL || o->output == NULL)
				argp_error(state, "a file to import and --output are needed");
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

int
faceattr_import_keras(int argc, char **argv)
{
	static const struct argp parser = {
		argp_options,
		parse_option,
		"FILE.h5",
		"Turns weights published by keras-vggface (resnet50, senet50, vgg16) into safetensors, to "
		"start a training from.",
		NULL,
		NULL,
		NULL};
	options o = {0};
	fa_weights weights;
	size_t values = 0;
	fa_error error;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	if (fa_import_keras(&weights, o.input, &error) != FA_OK ||
		fa_weights_write(&weights, o.output, FA_F32, &error) != FA_OK)
	{
		fa_weights_free(&weights);
		return fa_complain(&error);
	}
	for (int i = 0; i < weights.tensor_count; i++)
		values += weights.tensors[i].count;
	printf("%s: %s, %d tensors of %zu values\n", o.output, fa_weights_get(&weights, "network"),
		   weights.tensor_count, values);
	fa_weights_free(&weights);
	return 0;
}
