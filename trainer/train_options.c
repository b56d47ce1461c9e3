/*
 * train_options.c
 *		The table of options; see train_options.h.
 */
#include "train_options.h"

#include <argp.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind
{
	TEXT,
	REAL,
	WHOLE,
	CHOICE,
	NUMBERS, /* between commas: from low to high of them */
	FLAG
} kind;

typedef struct row
{
	const char *name, *argument;
	kind kind;
	size_t offset;
	int group;
	const char *doc;
	double low, high; /* both allowed */
	bool free;        /* has no part in the result: not recorded */
	int key;          /* a letter, too */
	const char *const *choices;
} row;

static const char *const tasks[] = {"attributes", "embed", NULL};
static const char *const embed_losses[] = {"triplet", "margin", NULL};
static const char *const schedules[] = {"cosine", "step", "constant", NULL};
static const char *const optimizers[] = {"adamw", "adam", "sgd", NULL};
static const char *const precisions[] = {"auto", "fp32", "bf16", "fp16", "tf32", NULL};
static const char *const devices[] = {"auto", "cpu", "gpu", NULL};
static const char *const metrics[] = {"total", "age", "gender", "race", "person", NULL};

/* clang-format off */
#define ROW(name_, argument_, kind_, member_, group_, doc_, ...) \
	{.name = name_, .argument = argument_, .kind = kind_, \
	 .offset = offsetof(fa_train_options, member_), .group = group_, .doc = doc_, __VA_ARGS__}
/* clang-format on */
static const row table[] = {
	ROW("data", "TAR|DIR", TEXT, data, 1, "Chips to train on", .key = 'd'),
	ROW("labels", "TSV", TEXT, labels, 1, "Their labels (default: beside the data)", .key = 'l'),
	ROW("val", "TAR|DIR", TEXT, validation, 1, "Chips to validate on"),
	ROW("val-labels", "TSV", TEXT, validation_labels, 1, "Their labels"),
	ROW("dsn", "CONNECTION", TEXT, source.connection, 1,
		"PostgreSQL's connection string, of --query and --publish (default: PG* variables)",
		.free = true),
	ROW("query", "SQL", TEXT, source.query, 1,
		"Rows to train on: image, age (or birth_date and photo_date), gender, race, person; box "
		"where a photo shows several faces; key or id to name rows by"),
	ROW("val-query", "SQL", TEXT, source.validation_query, 1, "Rows to validate on"),
	ROW("val-share", "X", REAL, source.validation_share, 1,
		"Without them: share of the query's rows held back (0.1)", .low = 0.0001, .high = 0.9),
	ROW("crops", NULL, FLAG, source.crops, 1, "The query's images are ready chips, not photos"),
	ROW("photos", NULL, FLAG, source.photos, 1,
		"The data's images are photos: faces are detected and aligned"),
	ROW("gender-labels", "A,B,...", TEXT, source.genders, 1,
		"Names of the classes (as the data have them)"),
	ROW("race-labels", "A,B,...", TEXT, source.races, 1, "The same of race"),
	ROW("cache", "DIR", TEXT, source.cache, 1,
		"Where crops of a query or of photos are kept (the output's directory)", .free = true),
	ROW("cache-size", "MB", REAL, source.cache_megabytes, 1, "Most that they may take (16384)",
		.low = 1, .high = 1e9, .free = true),
	ROW("negatives", "TAR|DIR", TEXT, negatives, 1, "Photos without a human face"),
	ROW("val-negatives", "TAR|DIR", TEXT, negative_validation, 1, "The same for validation"),
	ROW("detector", "DIR", TEXT, detector, 1,
		"Where yunet_n.safetensors is (with the shipped weights)", .free = true),
	ROW("negative-share", "X", REAL, negative_share, 1, "Share of a batch (0.1)", .low = 0,
		.high = 0.9),
	ROW("init", "FILE", TEXT, init, 2,
		"Weights to start from: a model, imported weights, a folded backbone, an earlier "
		"training's "
		"best.safetensors; or random (the shipped model for mobilenet_v1, else random)"),
	ROW("publish", "NAME", TEXT, publish, 2,
		"At the end, publish the model in the database of --dsn under this name; until then "
		"application_name shows the progress there",
		.free = true),
	ROW("output", "DIR", TEXT, output, 2,
		"Where checkpoints, the model, logs and the report go (faceattr-NAME with --publish NAME)",
		.free = true, .key = 'o'),
	ROW("resume", NULL, FLAG, resume, 2, "Go on from DIR/last.safetensors", .free = true),
	ROW("save-every", "MINUTES", REAL, save_minutes, 2,
		"Write a checkpoint that often (5); 0: after every step", .low = 0, .high = 1e6,
		.free = true),
	ROW("task", "NAME", CHOICE, task, 2,
		"attributes, or embed: faces of one `person` near each other (attributes)",
		.choices = tasks),
	ROW("metric", "NAME", CHOICE, metric, 2,
		"What the best weights are best in: total, age, gender, race or person (total; person for "
		"--task embed)",
		.choices = metrics),
	ROW("patience", "N", WHOLE, patience, 2,
		"Stop after N validations without a better one; 0: never (0)", .low = 0, .high = 100000),
	ROW("new-heads", NULL, FLAG, new_heads, 2,
		"Begin with heads at random, even where the weights to start from have some"),
	ROW("network", "NAME", TEXT, network, 3,
		"mobilenet_v1, resnet50, senet50 or vgg16 (mobilenet_v1)"),
	ROW("size", "PIXELS", WHOLE, size, 3, "Side of the network's input (224)", .low = 32,
		.high = 1024),
	ROW("hidden", "N", WHOLE, hidden, 3, "Width of the heads' hidden layer (512)", .low = 0,
		.high = 8192),
	ROW("dropout", "X", REAL, dropout, 3, "Dropout before and after it (0.2)", .low = 0,
		.high = 0.95),
	ROW("freeze", "PART,...", TEXT, freeze, 3,
		"What does not train: all, none, all-but:N layers, stage:N and what is before it, layers' "
		"names or patterns (stage:3; none with --init random and --task embed)"),
	ROW("rates", "PART=X,...", TEXT, rates, 3,
		"Times the learning rate, of parts as for --freeze, or heads (heads=2)"),
	ROW("epochs", "N", WHOLE, epochs, 4, "Length of the training (10)", .low = 1, .high = 100000),
	ROW("minutes", "M", REAL, minutes, 4, "Length as a time, instead", .low = 0, .high = 1e6),
	ROW("head-epochs", "N", WHOLE, head_epochs, 4, "First train the heads alone (1)", .low = 0,
		.high = 100000),
	ROW("batch", "N", WHOLE, batch, 4, "Images in a step (32)", .low = 2, .high = 4096),
	ROW("optimizer", "NAME", CHOICE, optimizer, 4, "adamw, adam or sgd (adamw)",
		.choices = optimizers),
	ROW("sgd-momentum", "X", REAL, sgd_momentum, 4, "Of sgd (0.9)", .low = 0, .high = 0.9999),
	ROW("rate", "X", REAL, rate, 4, "Highest learning rate (3e-4)", .low = 0, .high = 10),
	ROW("schedule", "NAME", CHOICE, schedule, 4,
		"cosine, step or constant, all after a warm-up (cosine)", .choices = schedules),
	ROW("warm-up", "X", REAL, warm_up, 4, "Share of the schedule (0.05)", .low = 0, .high = 1),
	ROW("milestones", "X,...", NUMBERS, milestones, 4,
		"Where the step schedule steps, as shares of it (0.5,0.75)", .low = 1,
		.high = FA_MAX_MILESTONES),
	ROW("step-factor", "X", REAL, step_factor, 4, "What the rate is multiplied by there (0.1)",
		.low = 0, .high = 1),
	ROW("weight-decay", "X", REAL, weight_decay, 4, "(0.05)", .low = 0, .high = 10),
	ROW("clip", "X", REAL, clip, 4, "Largest norm of the gradient; 0: any (5)", .low = 0,
		.high = 1e6),
	ROW("ema", "X", REAL, ema, 4,
		"Decay of the weights' moving average, which is what is validated; 0: none (0.999)",
		.low = 0, .high = 1),
	ROW("momentum", "X", REAL, momentum, 4, "Of batch norm's running statistics (0.02)", .low = 0,
		.high = 1),
	ROW("seed", "N", WHOLE, seed, 4, "(1)", .low = 0, .high = 2147483647),
	ROW("age-sigma", "YEARS", REAL, sigma, 5, "Width of soft age labels (2.5)", .low = 0.01,
		.high = 100),
	ROW("age-error", "X", REAL, age_error, 5, "Weight of the expected age's error (0.1)", .low = 0,
		.high = 1000),
	ROW("smoothing", "X", REAL, smoothing, 5, "Label smoothing of gender and race (0.05)", .low = 0,
		.high = 1),
	ROW("weights", "A,G,R,F", NUMBERS, weights, 5, "Of the losses (1,1,1,0.5)", .low = FA_HEADS,
		.high = FA_HEADS),
	ROW("embed-loss", "NAME", CHOICE, embed_loss, 5,
		"For --task embed: triplet, or margin: a softmax over all persons with an angular margin "
		"(triplet)",
		.choices = embed_losses),
	ROW("margin", "X", REAL, margin, 5, "Of triplets (0.3), or the margin softmax in radians (0.5)",
		.low = 0, .high = 2),
	ROW("scale", "X", REAL, scale, 5, "Of the margin softmax: what cosines are multiplied by (64)",
		.low = 1, .high = 1000),
	ROW("balance", "X", REAL, balance, 5,
		"Rare ages, genders and races weigh more: by their frequency to the power of -X (0)",
		.low = 0, .high = 1),
	ROW("augment", "X|NAME=X,...", TEXT, augmentation, 6,
		"Strength of augmentation, 0: none; or of kinds: flip, shift, scale, rotate, far, colour, "
		"grey, gamma, blur, small, smallest, jpeg, noise, erase, turn, mask, glasses, cap, street "
		"(1)"),
	ROW("mixup", "ALPHA", REAL, mixup, 6,
		"Blend images in pairs, by Beta(ALPHA, ALPHA); 0: none (0)", .low = 0, .high = 2),
	ROW("template", "X,Y,...", NUMBERS, landmark_template, 6,
		"Five landmarks as fractions of a chip (those of the weights to start from)", .low = 10,
		.high = 10),
	ROW("device", "D", CHOICE, device, 7, "auto: a GPU that works, else the CPU; cpu or gpu (auto)",
		.choices = devices, .free = true),
	ROW("precision", "P", CHOICE, precision, 7, "auto, fp32, bf16, and on a GPU fp16 or tf32",
		.choices = precisions),
	ROW("threads", "N", WHOLE, threads, 7, "Of the engine (2)", .low = 1, .high = 1024),
	ROW("workers", "N", WHOLE, workers, 7, "Threads that decode and augment (1)", .low = 1,
		.high = 1024, .free = true),
};

/* `faceattr template` */
const fa_numbers fa_usual_template = {
	10, {0.2985, 0.2945, 0.6850, 0.2910, 0.4965, 0.5125, 0.3250, 0.6835, 0.6685, 0.6800}};

#define ROWS ((int) (sizeof(table) / sizeof(table[0])))
#define FIRST_KEY 256 /* of options without a letter */

static void *
member(const fa_train_options *options, const row *r)
{
	return (char *) options + r->offset;
}

static void
set_numbers(fa_numbers *numbers, const char *text, const row *r, struct argp_state *state)
{
	int count = 1;

	for (const char *c = text; *c != '\0'; c++)
		count += *c == ',';
	if (count < r->low || count > r->high || !fa_parse_numbers(text, numbers->values, count))
		argp_error(state, "--%s takes %g%s numbers", r->name, r->high,
				   r->low < r->high ? " or fewer" : "");
	numbers->count = count;
}

static void
set(fa_train_options *options, const row *r, char *text, struct argp_state *state)
{
	void *to = member(options, r);
	double number;
	int choice = 0;

	switch (r->kind)
	{
		case TEXT:
			*(const char **) to = text;
			return;
		case FLAG:
			*(bool *) to = true;
			return;
		case NUMBERS:
			set_numbers(to, text, r, state);
			return;
		case CHOICE:
			while (r->choices[choice] != NULL && strcmp(r->choices[choice], text) != 0)
				choice++;
			if (r->choices[choice] == NULL)
				argp_error(state, "--%s does not know \"%s\"", r->name, text);
			*(int *) to = choice;
			return;
		case REAL:
		case WHOLE:
			if (!fa_parse_numbers(text, &number, 1) || number < r->low || number > r->high ||
				(r->kind == WHOLE && number != floor(number)))
				argp_error(state, "--%s: %s is no %snumber from %g to %.10g", r->name, text,
						   r->kind == WHOLE ? "whole " : "", r->low, r->high);
			if (r->kind == WHOLE)
				*(int *) to = (int) number;
			else
				*(double *) to = number;
			return;
	}
}

/* What was not said follows from the installation and from the rest. */
static void
complete(fa_train_options *o, struct argp_state *state)
{
	fa_weights_directory(o->detector, o->weights_directory);
	o->detector = o->weights_directory;
	if (o->init == NULL && strcmp(o->network, "mobilenet_v1") == 0)
	{
		char directory[FA_PATH_LENGTH];

		fa_weights_directory(NULL, directory);
		snprintf(o->default_init, sizeof(o->default_init), "%s/default.safetensors", directory);
		o->init = o->default_init;
	}
	else if (o->init != NULL && strcmp(o->init, "random") == 0)
		o->init = NULL;
	if (o->freeze == NULL) /* what has learnt from millions of faces knows edges and noses */
		o->freeze = o->init != NULL && o->task == FA_TASK_ATTRIBUTES ? "stage:3" : "none";
	if (o->output != NULL)
		return;
	if (o->publish == NULL || strchr(o->publish, '/') != NULL || strlen(o->publish) > 63)
		argp_error(state, "--output is needed");
	snprintf(o->default_output, sizeof(o->default_output), "faceattr-%s",
			 o->publish != NULL ? o->publish : "");
	o->output = o->default_output;
}

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	fa_train_options *o = state->input;
	fa_error error;

	for (int i = 0; i < ROWS; i++)
		if (key == (table[i].key != 0 ? table[i].key : FIRST_KEY + i))
		{
			set(o, &table[i], text, state);
			return 0;
		}
	if (key != ARGP_KEY_END)
		return ARGP_ERR_UNKNOWN;
	if (o->source.query == NULL ? o->data == NULL || o->validation == NULL
								: o->data != NULL || o->validation != NULL)
		argp_error(state, "either --data and --val are needed, or --query");
	if (o->source.crops && o->source.photos)
		argp_error(state, "--crops and --photos exclude each other");
	if (o->source.query == NULL && o->source.validation_query != NULL)
		argp_error(state, "--val-query needs --query");
	if (o->source.query == NULL && o->publish == NULL && o->source.connection != NULL)
		argp_error(state, "--dsn is for --query and --publish");
	if (o->task == FA_TASK_EMBED && (o->mixup > 0 || o->balance > 0 || o->negatives != NULL))
		argp_error(state, "--task embed takes no --mixup, --balance and --negatives");
	if (o->task != FA_TASK_EMBED && o->embed_loss != FA_EMBED_TRIPLET)
		argp_error(state, "--embed-loss needs --task embed");
	if (o->embed_loss == FA_EMBED_MARGIN && o->margin > 1.5)
		argp_error(state, "--margin is an angle here, of 1.5 radians at most");
	if (o->margin < 0)
		o->margin = o->embed_loss == FA_EMBED_MARGIN ? 0.5 : 0.3;
	if (o->task == FA_TASK_EMBED)
	{
		o->metric = FA_METRIC_PERSON;
		o->head_epochs = 0;
	}
	if (o->augmentation != NULL && fa_augment_parse(&o->augment, o->augmentation, &error) != FA_OK)
		argp_error(state, "--augment: %s", error.message);
	complete(o, state);
	return 0;
}

void
fa_train_options_parse(fa_train_options *options, int argc, char **argv)
{
	struct argp_option rows[ROWS + 1] = {{0}};
	struct argp parser = {
		rows, parse_option,
		NULL, "Fine-tunes the attribute network on labelled faces, and makes a model of it.",
		NULL, NULL,
		NULL};

	*options = (fa_train_options){
		.source = {.validation_share = 0.1, .cache_megabytes = 16384},
		.rates = "heads=2",
		.negative_share = 0.1,
		.size = 224,
		.batch = 32,
		.network = "mobilenet_v1",
		.hidden = 512,
		.epochs = 10,
		.head_epochs = 1,
		.threads = 2,
		.workers = 1,
		.save_minutes = 5,
		.rate = 3e-4,
		.warm_up = 0.05,
		.milestones = {2, {0.5, 0.75}},
		.step_factor = 0.1,
		.sgd_momentum = 0.9,
		.weight_decay = 0.05,
		.clip = 5,
		.ema = 0.999,
		.dropout = 0.2,
		.momentum = 0.02,
		.seed = 1,
		.sigma = 2.5,
		.age_error = 0.1,
		.smoothing = 0.05,
		.margin = -1,
		.scale = 64,
		.weights = {FA_HEADS, {1, 1, 1, 0.5}},
		.augment = fa_augment_defaults,
	};
	for (int i = 0; i < ROWS; i++)
		rows[i] = (struct argp_option){
			table[i].name,     table[i].key != 0 ? table[i].key : FIRST_KEY + i,
			table[i].argument, 0,
			table[i].doc,      table[i].group};
	argp_parse(&parser, argc, argv, 0, NULL, options);
}

static json_t *
value(const fa_train_options *options, const row *r)
{
	const void *at = member(options, r);
	json_t *list;

	switch (r->kind)
	{
		case TEXT:
			return *(const char *const *) at == NULL ? json_null()
													 : json_string(*(const char *const *) at);
		case REAL:
			return json_real(*(const double *) at);
		case WHOLE:
			return json_integer(*(const int *) at);
		case CHOICE:
			return json_string(r->choices[*(const int *) at]);
		case FLAG:
			return json_boolean(*(const bool *) at);
		case NUMBERS:
			list = json_array();
			for (int i = 0; i < ((const fa_numbers *) at)->count; i++)
				json_array_append_new(list, json_real(((const fa_numbers *) at)->values[i]));
			return list;
	}
	return NULL;
}

json_t *
fa_train_options_json(const fa_train_options *options)
{
	json_t *record = json_object();

	for (int i = 0; i < ROWS && record != NULL; i++)
		if (!table[i].free &&
			json_object_set_new(record, table[i].name, value(options, &table[i])) != 0)
		{
			json_decref(record);
			record = NULL;
		}
	return record;
}

void
fa_train_options_differences(const fa_train_options *options, const json_t *record, char *text,
							 size_t size)
{
	json_t *mine = fa_train_options_json(options);
	size_t length = 0;

	text[0] = '\0';
	for (int i = 0; i < ROWS && mine != NULL; i++)
		if (!table[i].free && length < size &&
			!json_equal(json_object_get(mine, table[i].name),
						json_object_get(record, table[i].name)))
			length += (size_t) snprintf(text + length, size - length, "%s--%s",
										length > 0 ? ", " : "", table[i].name);
	json_decref(mine);
}

fa_schedule
fa_train_schedule(const fa_train_options *options)
{
	fa_schedule schedule = {.kind = (fa_schedule_kind) options->schedule,
							.rate = options->rate,
							.warm_up = options->warm_up,
							.milestone_count = options->milestones.count,
							.factor = options->step_factor};

	memcpy(schedule.milestones, options->milestones.values, sizeof(schedule.milestones));
	return schedule;
}

void
fa_train_losses(const fa_train_options *options, fa_loss_options losses[FA_HEADS])
{
	for (int h = 0; h < FA_HEADS; h++)
		losses[h] = (fa_loss_options){.weight = (float) options->weights.values[h]};
	losses[FA_HEAD_AGE].sigma = (float) options->sigma;
	losses[FA_HEAD_AGE].expectation = (float) options->age_error;
	losses[FA_HEAD_GENDER].smoothing = losses[FA_HEAD_RACE].smoothing = (float) options->smoothing;
}
