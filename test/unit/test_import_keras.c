/*
 * test_import_keras.c
 *		keras-vggface's files, made here with the names and shapes that are published:
 *		every value arrives where it belongs, and what is damaged, wrong, missing or too
 *		much is refused with its reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <hdf5.h>

#include "../../trainer/import_keras.h"

static char path[] = "/tmp/faceattr-test-XXXXXX";

static int
make_path(void **state)
{
	int file = mkstemp(path);

	(void) state;
	H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* layers are looked for before they are made */
	return file < 0 ? -1 : close(file);
}

static int
remove_path(void **state)
{
	(void) state;
	return unlink(path);
}

/* ---- Writing as Keras does -------------------------------------------------------------- */

typedef struct tensor
{
	char layer[40], name[24];
	int rank;
	hsize_t shape[4]; /* filters: height, width, in, out */
} tensor;

typedef struct model
{
	tensor tensors[400];
	int count;
} model;

static void
add(model *m, const char *layer, const char *name, int rank, int k, int in, int out)
{
	tensor *t = &m->tensors[m->count++];

	assert_true(m->count <= 400);
	snprintf(t->layer, sizeof(t->layer), "%s", layer);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->rank = rank;
	t->shape[0] = (hsize_t) (rank == 1 ? out : k);
	t->shape[1] = (hsize_t) k;
	t->shape[2] = (hsize_t) in;
	t->shape[3] = (hsize_t) out;
}

static void
add_convolution(model *m, const char *layer, int k, int in, int out, bool bias)
{
	add(m, layer, "kernel:0", 4, k, in, out);
	if (bias)
		add(m, layer, "bias:0", 1, 0, 0, out);
}

static void
add_normalised(model *m, const char *layer, int k, int in, int out)
{
	char norm[40];

	add_convolution(m, layer, k, in, out, false);
	snprintf(norm, sizeof(norm), "%s/bn", layer);
	add(m, norm, "gamma:0", 1, 0, 0, out);
	add(m, norm, "beta:0", 1, 0, 0, out);
	add(m, norm, "moving_mean:0", 1, 0, 0, out);
	add(m, norm, "moving_variance:0", 1, 0, 0, out);
}

static model *
resnet(bool excitation)
{
	static const int blocks[4] = {3, 4, 6, 3};
	model *m = calloc(1, sizeof(model));
	int in = 64;

	add_normalised(m, "conv1/7x7_s2", 7, 3, 64);
	for (int s = 0; s < 4; s++)
		for (int b = 1; b <= blocks[s]; b++)
		{
			int c = 64 << s;
			char name[32];

#define LAYER(suffix) (snprintf(name, sizeof(name), "conv%d_%d_" suffix, s + 2, b), name)
			add_normalised(m, LAYER("1x1_reduce"), 1, in, c);
			add_normalised(m, LAYER("3x3"), 3, c, c);
			add_normalised(m, LAYER("1x1_increase"), 1, c, 4 * c);
			if (excitation)
			{
				add_convolution(m, LAYER("1x1_down"), 1, 4 * c, c / 4, true);
				add_convolution(m, LAYER("1x1_up"), 1, c / 4, 4 * c, true);
			}
			if (b == 1)
				add_normalised(m, LAYER("1x1_proj"), 1, in, 4 * c);
			in = 4 * c;
		}
	return m;
}

static model *
vgg(void)
{
	static const int convolutions[5] = {2, 2, 3, 3, 3}, channels[5] = {64, 128, 256, 512, 512};
	model *m = calloc(1, sizeof(model));
	int in = 3;

	for (int b = 0; b < 5; b++)
		for (int k = 1; k <= convolutions[b]; k++)
		{
			char name[32];

			snprintf(name, sizeof(name), "conv%d_%d", b + 1, k);
			add_convolution(m, name, 3, in, channels[b], true);
			in = channels[b];
		}
	return m;
}

/* Strings of one length, as numpy writes them, or of any. */
static void
write_strings(hid_t object, const char *key, char (*strings)[80], int count, bool variable)
{
	hsize_t size = (hsize_t) count;
	hid_t space = H5Screate_simple(1, &size, NULL), type = H5Tcopy(H5T_C_S1), attribute;
	const char *pointers[400];

	assert_true(count <= 400);
	for (int i = 0; i < count; i++)
		pointers[i] = strings[i];
	H5Tset_size(type, variable ? H5T_VARIABLE : 80);
	if (!variable)
		H5Tset_strpad(type, H5T_STR_NULLPAD);
	attribute = H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
	if (count > 0)
		H5Awrite(attribute, type, variable ? (const void *) pointers : strings);
	H5Aclose(attribute);
	H5Tclose(type);
	H5Sclose(space);
}

/* Different for every tensor and place in it, and a variance never negative. */
static float
value_of(const tensor *t, size_t index)
{
	uint32_t hash = 2166136261u;

	for (const char *c = t->layer; *c != '\0'; c++)
		hash = (hash ^ (uint8_t) *c) * 16777619u;
	for (const char *c = t->name; *c != '\0'; c++)
		hash = (hash ^ (uint8_t) *c) * 16777619u;
	return (float) ((hash + 2654435761u * (uint32_t) index) >> 8) / 16777216.0f;
}

static size_t
values_of(const tensor *t)
{
	size_t count = 1;

	for (int i = 0; i < t->rank; i++)
		count *= t->shape[i];
	return count;
}

/* filled: with real values; else with zeros that take no room. type: of the datasets. */
static void
write_tensor(hid_t group, const tensor *t, const char *name, bool filled, hid_t type)
{
	hid_t links = H5Pcreate(H5P_LINK_CREATE);
	hid_t space = H5Screate_simple(t->rank, t->shape, NULL), dataset;

	H5Pset_create_intermediate_group(links, 1);
	dataset = H5Dcreate2(group, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(dataset >= 0);
	if (filled)
	{
		float *values = malloc(values_of(t) * sizeof(float));

		for (size_t k = 0; k < values_of(t); k++)
			values[k] = value_of(t, k);
		H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
		free(values);
	}
	H5Dclose(dataset);
	H5Sclose(space);
	H5Pclose(links);
}

/* What a case below changes. */
typedef struct change
{
	bool filled, variable; /* values, and strings of any length */
	bool whole_model;      /* weights in a group of their own */
	bool no_attribute;     /* layer_names is missing */
	bool twice;            /* the first layer is listed twice */
	hid_t type;
	const char *extra;    /* a layer with a kernel that the network lacks */
	const char *unlisted; /* a layer that layer_names leaves out */
	float poison;         /* the first value of the first tensor, if not 0 */
} change;

static void
write_layer(hid_t root, const model *m, int first, const change *c)
{
	hid_t links = H5Pcreate(H5P_LINK_CREATE), group;
	const char *layer = m->tensors[first].layer;
	char names[8][80];
	int count = 0;

	H5Pset_create_intermediate_group(links, 1);
	/* "a/bn" may have been there first, as a group within "a" */
	group = H5Lexists(root, layer, H5P_DEFAULT) > 0
				? H5Gopen2(root, layer, H5P_DEFAULT)
				: H5Gcreate2(root, layer, links, H5P_DEFAULT, H5P_DEFAULT);
	assert_true(group >= 0);
	for (int i = first; i < m->count && strcmp(m->tensors[i].layer, layer) == 0; i++)
	{
		snprintf(names[count], sizeof(names[count]), "%s/%s", layer, m->tensors[i].name);
		write_tensor(group, &m->tensors[i], names[count++], c->filled, c->type);
	}
	write_strings(group, "weight_names", names, count, c->variable);
	H5Gclose(group);
	H5Pclose(links);
}

static void
write_file(const model *m, change c)
{
	hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), root = file;
	char(*names)[80] = calloc(400, 80);
	int count = 0;

	if (c.type == 0)
		c.type = H5T_NATIVE_FLOAT;
	if (c.whole_model)
		root = H5Gcreate2(file, "model_weights", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	for (int i = 0; i < m->count; i++)
	{
		if (i > 0 && strcmp(m->tensors[i].layer, m->tensors[i - 1].layer) == 0)
			continue;
		write_layer(root, m, i, &c);
		if (c.unlisted == NULL || strcmp(c.unlisted, m->tensors[i].layer) != 0)
			snprintf(names[count++], 80, "%s", m->tensors[i].layer);
	}
	if (c.extra != NULL)
	{
		model extra = {.count = 0};

		add_convolution(&extra, c.extra, 1, 2, 2, true);
		write_layer(root, &extra, 0, &c);
		snprintf(names[count++], 80, "%s", c.extra);
	}
	if (c.twice)
		memcpy(names[count++], names[0], 80);
	/* layers without tensors */
	for (int i = 0; i < 3; i++)
	{
		static const char *const others[] = {"input_1", "activation_1", "avg_pool"};
		hid_t group = H5Gcreate2(root, others[i], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

		write_strings(group, "weight_names", names, 0, c.variable);
		H5Gclose(group);
		snprintf(names[count++], 80, "%s", others[i]);
	}
	if (!c.no_attribute)
		write_strings(root, "layer_names", names, count, c.variable);
	if (c.poison != 0)
	{
		char name[160];
		const tensor *t = &m->tensors[m->count - 1];
		float *values = calloc(values_of(t), sizeof(float));
		hid_t dataset;

		snprintf(name, sizeof(name), "%s/%s/%s", t->layer, t->layer, t->name);
		dataset = H5Dopen2(root, name, H5P_DEFAULT);
		values[values_of(t) / 2] = c.poison;
		H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
		H5Dclose(dataset);
		free(values);
	}
	if (root != file)
		H5Gclose(root);
	H5Fclose(file);
	free(names);
}

/* ---- Whole files -------------------------------------------------------------------------- */

static const char *
our_suffix(const char *keras)
{
	static const char *const pairs[][2] = {{"kernel:0", "weight"},
										   {"bias:0", "bias"},
										   {"gamma:0", "weight"},
										   {"beta:0", "bias"},
										   {"moving_mean:0", "running_mean"},
										   {"moving_variance:0", "running_var"}};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (strcmp(pairs[i][0], keras) == 0)
			return pairs[i][1];
	return NULL;
}

/* Ours is [out, in, height, width]. */
static void
check_tensor(const fa_weights *weights, const tensor *t)
{
	size_t h = t->shape[0], w = t->shape[1], in = t->shape[2], out = t->shape[3];
	const fa_tensor *ours;
	char name[100];

	snprintf(name, sizeof(name), "%s.%s", t->layer, our_suffix(t->name));
	ours = fa_weights_find(weights, name);
	if (ours == NULL)
		fail_msg("%s is missing", name);
	assert_int_equal(ours->count, values_of(t));
	if (t->rank == 1)
		for (size_t k = 0; k < ours->count; k++)
			assert_true(ours->values[k] == value_of(t, k));
	else
		for (size_t y = 0; y < h; y++)
			for (size_t x = 0; x < w; x++)
				for (size_t i = 0; i < in; i++)
					for (size_t o = 0; o < out; o++)
						if (ours->values[((o * in + i) * h + y) * w + x] !=
							value_of(t, ((y * w + x) * in + i) * out + o))
							fail_msg("%s: a value is not where it belongs", name);
}

static void
check_file(model *m, const char *network, change c)
{
	fa_weights weights;
	fa_error error;

	c.filled = true;
	write_file(m, c);
	if (fa_import_keras(&weights, path, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	assert_string_equal(fa_weights_get(&weights, "network"), network);
	assert_int_equal(weights.tensor_count, m->count);
	for (int i = 0; i < m->count; i++)
		check_tensor(&weights, &m->tensors[i]);
	fa_weights_free(&weights);
	free(m);
}

static void
all_networks(void **state)
{
	(void) state;
	check_file(resnet(false), "resnet50", (change){.variable = false});
	check_file(resnet(true), "senet50", (change){.variable = true});
	check_file(vgg(), "vgg16", (change){.whole_model = true});
}

/* Double precision is rounded; the classifier of a file with a top is left out. */
static void
other_forms(void **state)
{
	(void) state;
	check_file(vgg(), "vgg16", (change){.type = H5T_NATIVE_DOUBLE, .extra = "fc6"});
}

/* ---- Files that are refused ------------------------------------------------------------------ */

static void
check_refused(fa_status expected, const char *reason, const char *what)
{
	fa_weights weights;
	fa_error error;
	fa_status status = fa_import_keras(&weights, path, &error);

	if (status != expected || strncmp(error.message, path, strlen(path)) != 0 ||
		(strstr(error.message, reason) == NULL && strstr(error.detail, reason) == NULL))
		fail_msg("%s: status %d, %s: %s", what, (int) status, error.message, error.detail);
	assert_int_equal(weights.tensor_count, 0);
	assert_null(weights.tensors);
}

/* Writes the model with one tensor changed, or left out where rank is 0. */
static void
check_wrong_tensor(const char *layer, const char *name, tensor wrong, fa_status status,
				   const char *reason)
{
	model *m = vgg();
	bool found = false;

	for (int i = 0; i < m->count && !found; i++)
	{
		tensor *t = &m->tensors[i];

		if (strcmp(t->layer, layer) != 0 || strcmp(t->name, name) != 0)
			continue;
		found = true;
		if (wrong.rank == 0)
		{
			memmove(t, t + 1, (size_t) (m->count - i - 1) * sizeof(tensor));
			m->count--;
			break;
		}
		t->rank = wrong.rank;
		memcpy(t->shape, wrong.shape, sizeof(t->shape));
		if (wrong.name[0] != '\0')
			memcpy(t->name, wrong.name, sizeof(t->name));
	}
	assert_true(found);
	write_file(m, (change){.filled = false});
	check_refused(status, reason, layer);
	free(m);
}

static void
wrong_layers(void **state)
{
	model *m;

	(void) state;
	check_wrong_tensor("conv3_2", "bias:0", (tensor){.rank = 0}, FA_INVALID, "\"conv3_2.bias\"");
	check_wrong_tensor("conv3_2", "bias:0", (tensor){.rank = 1, .shape = {255}}, FA_INVALID,
					   "255 values, not 256");
	check_wrong_tensor("conv3_2", "bias:0", (tensor){.rank = 2, .shape = {256, 1}}, FA_INVALID,
					   "2 dimensions");
	check_wrong_tensor("conv1_1", "kernel:0", (tensor){.rank = 4, .shape = {3, 3, 64, 3}},
					   FA_INVALID, "3 x 3 x 64 x 3, not 3 x 3 x 3 x 64");
	/* far more than memory, if it were read */
	check_wrong_tensor("conv1_1", "kernel:0",
					   (tensor){.rank = 4, .shape = {1 << 20, 1 << 20, 1 << 8, 1 << 8}}, FA_INVALID,
					   "\"conv1_1\"");
	check_wrong_tensor("conv5_3", "bias:0", (tensor){.rank = 1, .shape = {512}, .name = "gamma:0"},
					   FA_INVALID, "\"gamma:0\"");
	check_wrong_tensor("conv5_3", "bias:0", (tensor){.rank = 1, .shape = {512}, .name = "bias"},
					   FA_INVALID, "\"bias\"");

	m = vgg();
	write_file(m, (change){.unlisted = "conv4_1"});
	check_refused(FA_INVALID, "conv4_1", "a layer left out");
	write_file(m, (change){.extra = "conv6_1"});
	check_refused(FA_INVALID, "conv6_1", "a layer too many");
	write_file(m, (change){.twice = true});
	check_refused(FA_INVALID, "conv1_1", "a layer twice");
	write_file(m, (change){.type = H5T_NATIVE_INT});
	check_refused(FA_INVALID, "floating-point", "integers");
	write_file(m, (change){.no_attribute = true});
	check_refused(FA_DAMAGED, "layer_names", "no list of layers");
	write_file(m, (change){.poison = NAN});
	check_refused(FA_INVALID, "impossible", "not a number");
	write_file(m, (change){.poison = INFINITY});
	check_refused(FA_INVALID, "impossible", "infinity");
	free(m);

	m = resnet(false); /* whose last tensor is a moving variance */
	m->count -= 5;     /* of the last block, conv5_3 */
	write_file(m, (change){.variable = true});
	check_refused(FA_INVALID, "conv5_3_1x1_increase", "the last layer missing");
	free(m);
	m = resnet(false);
	write_file(m, (change){.poison = -0.5f});
	check_refused(FA_INVALID, "moving_variance", "a negative variance");
	free(m);

	m = calloc(1, sizeof(model));
	add_convolution(m, "block1_conv1", 3, 3, 64, true);
	write_file(m, (change){.filled = true});
	check_refused(FA_UNSUPPORTED, "keras-vggface", "another network");
	free(m);
}

/* A file cut short anywhere, other files, none. */
static void
damaged_files(void **state)
{
	model *m = vgg();
	FILE *file;
	long length;

	(void) state;
	for (int i = 0; i < 16; i++)
	{
		write_file(m, (change){.filled = false});
		file = fopen(path, "r+b");
		fseek(file, 0, SEEK_END);
		length = ftell(file);
		fclose(file);
		assert_int_equal(truncate(path, length * i / 16), 0);
		check_refused(FA_DAMAGED, "HDF5", "cut short");
	}
	free(m);
	file = fopen(path, "wb");
	fprintf(file, "no HDF5 at all, but long enough to have held the beginning of such a file");
	fclose(file);
	check_refused(FA_DAMAGED, "HDF5", "a text");
	assert_int_equal(unlink(path), 0);
	check_refused(FA_NOT_FOUND, "read", "no file");
	file = fopen(path, "wb");
	fclose(file);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_networks),
		cmocka_unit_test(other_forms),
		cmocka_unit_test(wrong_layers),
		cmocka_unit_test(damaged_files),
	};

	return cmocka_run_group_tests(tests, make_path, remove_path);
}
