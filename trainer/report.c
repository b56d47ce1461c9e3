/*
 * report.c
 *		The HTML report; see report.h.
 */
#include "report.h"

#include "../src/face/attributes.h"
#include "../src/face/statistics.h"
#include "../src/vision/photo.h"
#include "../src/vision/warp.h"
#include "common.h"
#include "markup.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRAINING "#2f6db5"
#define VALIDATION "#c8553d"
#define BINS 21  /* of five years */
#define WORST 12 /* of a kind */
#define THUMBNAIL 96
#define DASH "&ndash;"

/* What the network says of a face, and what the labels do. */
typedef struct verdict
{
	float age, age_label; /* label FA_NO_LABEL: none */
	int seen[FA_HEADS], label[FA_HEADS];
	float confidence[FA_HEADS]; /* of what is seen */
} verdict;

static verdict *
judge_all(const fa_report *r)
{
	verdict *verdicts = calloc((size_t) r->faces->count + 1, sizeof(verdict));

	for (int i = 0; verdicts != NULL && i < r->faces->count; i++)
	{
		verdict *v = &verdicts[i];

		v->age_label = r->logits->targets[FA_HEAD_AGE][i];
		v->age = fa_expected_age(r->logits->logits[FA_HEAD_AGE] + (size_t) i * FA_AGE_CLASSES);
		for (int h = FA_HEAD_GENDER; h < FA_HEADS; h++)
		{
			int classes = fa_heads[h].classes;
			const float *logits = r->logits->logits[h] + (size_t) i * classes;
			float p[FA_MAX_CLASSES];

			fa_calibrated(logits, classes, 1, p);
			v->seen[h] = fa_best_class(logits, classes);
			v->confidence[h] = p[v->seen[h]];
			v->label[h] = (int) r->logits->targets[h][i];
		}
	}
	return verdicts;
}

/* A number with a unit, or a dash where there is none. */
static void
cell(FILE *to, const char *format, double value)
{
	fputs("<td>", to);
	if (isfinite(value))
		fprintf(to, format, value); /* one of the formats below */
	else
		fputs(DASH, to);
	fputs("</td>", to);
}

/* ---- Curves ------------------------------------------------------------------------ */

/* Takes one figure of every epoch; offsets are of a double in fa_epoch. */
static void
chart(FILE *to, const fa_history *history, const char *title, const char *unit, double *room,
	  size_t training, size_t validation)
{
	int n = history->count;
	double *x = room, *first = x + n, *second = first + n;
	bool both = training != validation;
	fa_series series[2] = {{both ? "training" : title, TRAINING, first},
						   {"validation", VALIDATION, second}};

	for (int i = 0; i < n; i++)
	{
		const char *e = (const char *) &history->epochs[i];

		x[i] = history->epochs[i].epoch;
		memcpy(&first[i], e + training, sizeof(double));
		memcpy(&second[i], e + validation, sizeof(double));
	}
	fa_markup_chart(to, title, "epoch", unit, x, n, series, both ? 2 : 1);
}

#define AT(member) offsetof(fa_epoch, member)

static fa_status
curves(FILE *to, const fa_report *r, fa_error *error)
{
	size_t bytes = 3 * sizeof(double) * (size_t) r->history->count;
	double *room = malloc(bytes + 1);

	if (room == NULL)
		return fa_no_memory(error, bytes);
	fputs("<h2>Curves</h2>\n<div class='charts'>", to);
	chart(to, r->history, "Loss, all heads", "", room, AT(training.total),
		  AT(validation.means.total));
	chart(to, r->history, "Age: mean absolute error, years", " years", room,
		  AT(training.score[FA_HEAD_AGE]), AT(validation.means.score[FA_HEAD_AGE]));
	chart(to, r->history, "Gender right, %", " %", room, AT(training.score[FA_HEAD_GENDER]),
		  AT(validation.means.score[FA_HEAD_GENDER]));
	chart(to, r->history, "Race right, %", " %", room, AT(training.score[FA_HEAD_RACE]),
		  AT(validation.means.score[FA_HEAD_RACE]));
	chart(to, r->history, "Persons told apart, %", " %", room, AT(training.score[FA_PERSON]),
		  AT(validation.means.score[FA_PERSON]));
	chart(to, r->history, "Loss of age", "", room, AT(training.loss[FA_HEAD_AGE]),
		  AT(validation.means.loss[FA_HEAD_AGE]));
	chart(to, r->history, "Loss of gender", "", room, AT(training.loss[FA_HEAD_GENDER]),
		  AT(validation.means.loss[FA_HEAD_GENDER]));
	chart(to, r->history, "Loss of race", "", room, AT(training.loss[FA_HEAD_RACE]),
		  AT(validation.means.loss[FA_HEAD_RACE]));
	chart(to, r->history, "Learning rate", "", room, AT(rate), AT(rate));
	fputs(
		"</div>\n<p class='note'>Training figures are of augmented images, with dropout, while the "
		"weights change; validation figures are of plain images and the weights' moving "
		"average.</p>\n",
		to);
	free(room);
	return FA_OK;
}

/* ---- Confusion --------------------------------------------------------------------- */

/* counts[truth * n + seen]; a cell is darker the larger its share of the row. */
static void
confusion(FILE *to, const char *title, const int *counts, const char *const *names, int n)
{
	fputs("<table class='confusion'><caption>", to);
	fa_markup_text(to, title);
	fputs("</caption><tr><th>is \\ seen as</th>", to);
	for (int i = 0; i < n; i++)
	{
		fputs("<th>", to);
		fa_markup_text(to, names[i]);
		fputs("</th>", to);
	}
	fputs("<th>faces</th></tr>\n", to);
	for (int truth = 0; truth < n; truth++)
	{
		int sum = 0;

		for (int seen = 0; seen < n; seen++)
			sum += counts[truth * n + seen];
		fputs("<tr><th>", to);
		fa_markup_text(to, names[truth]);
		fputs("</th>", to);
		for (int seen = 0; seen < n; seen++)
		{
			double share = sum > 0 ? (double) counts[truth * n + seen] / sum : 0;

			fprintf(to, "<td style='background:rgba(%s,%.2f)' title='%d of %d'>",
					truth == seen ? "47,109,181" : "200,85,61", 0.75 * share,
					counts[truth * n + seen], sum);
			if (counts[truth * n + seen] > 0)
				fprintf(to, "%.1f %%", 100 * share);
			fputs("</td>", to);
		}
		fprintf(to, "<td>%d</td></tr>\n", sum);
	}
	fputs("</table>\n", to);
}

static const char *const decade_names[FA_DECADES] = {
	"0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90-99", "100+"};

static void
confusions(FILE *to, const fa_report *r, const verdict *verdicts)
{
	int counts[FA_DECADES * FA_DECADES];

	fputs("<h2>Confusion</h2>\n<div class='tables'>", to);
	for (int h = FA_HEAD_GENDER; h <= FA_HEAD_RACE; h++)
	{
		memset(counts, 0, sizeof(counts));
		for (int i = 0; i < r->faces->count; i++)
			if (verdicts[i].label[h] >= 0)
				counts[verdicts[i].label[h] * fa_heads[h].classes + verdicts[i].seen[h]]++;
		confusion(to, fa_heads[h].name, counts, fa_head_labels[h], fa_heads[h].classes);
	}
	memset(counts, 0, sizeof(counts));
	for (int i = 0; i < r->faces->count; i++)
		if (verdicts[i].age_label >= 0)
			counts[fa_decade(verdicts[i].age_label) * FA_DECADES + fa_decade(verdicts[i].age)]++;
	confusion(to, "age, by decade", counts, decade_names, FA_DECADES);
	fputs("</div>\n", to);
}

/* ---- Age error by age --------------------------------------------------------------- */

static void
age_by_age(FILE *to, const fa_report *r, const verdict *verdicts)
{
	double x[BINS], error[BINS] = {0}, bias[BINS] = {0}, count[BINS] = {0};
	fa_series errors[2] = {{"absolute", VALIDATION, error}, {"bias", TRAINING, bias}};
	fa_series faces = {"faces", TRAINING, count};

	for (int i = 0; i < r->faces->count; i++)
	{
		const verdict *v = &verdicts[i];
		int bin = (int) fmin(v->age_label / 5, BINS - 1);

		if (v->age_label < 0)
			continue;
		error[bin] += fabsf(v->age - v->age_label);
		bias[bin] += v->age - v->age_label;
		count[bin]++;
	}
	for (int i = 0; i < BINS; i++)
	{
		x[i] = 5 * i + 2.5;
		error[i] = count[i] > 0 ? error[i] / count[i] : NAN;
		bias[i] = count[i] > 0 ? bias[i] / count[i] : NAN;
	}
	fputs("<h2>Age error by age</h2>\n<div class='charts'>", to);
	fa_markup_chart(to, "Mean error in years, by age", "age", " years", x, BINS, errors, 2);
	fa_markup_chart(to, "Faces to validate on, by age", "age", "", x, BINS, &faces, 1);
	fputs("</div>\n", to);
}

/* ---- Groups ------------------------------------------------------------------------ */

/* A row over the faces of a group: those of one class of a head, of a decade, or all. */
static void
group(FILE *to, const fa_report *r, const verdict *verdicts, const char *name, int head, int class)
{
	double error = 0, bias = 0;
	int faces = 0, ages = 0, right[FA_HEADS] = {0}, labelled[FA_HEADS] = {0};

	for (int i = 0; i < r->faces->count; i++)
	{
		const verdict *v = &verdicts[i];

		if (class >= 0 &&
			(head == FA_HEAD_AGE ? v->age_label < 0 || fa_decade(v->age_label) != class
								 : v->label[head] != class))
			continue;
		faces++;
		if (v->age_label >= 0)
		{
			ages++;
			error += fabsf(v->age - v->age_label);
			bias += v->age - v->age_label;
		}
		for (int h = FA_HEAD_GENDER; h <= FA_HEAD_RACE; h++)
		{
			labelled[h] += v->label[h] >= 0;
			right[h] += v->label[h] >= 0 && v->label[h] == v->seen[h];
		}
	}
	if (faces == 0)
		return;
	fputs("<tr><th>", to);
	fa_markup_text(to, name);
	fprintf(to, "</th><td>%d</td>", faces);
	cell(to, "%.2f", error / ages);
	cell(to, "%+.2f", bias / ages);
	cell(to, "%.1f %%", 100.0 * right[FA_HEAD_GENDER] / labelled[FA_HEAD_GENDER]);
	cell(to, "%.1f %%", 100.0 * right[FA_HEAD_RACE] / labelled[FA_HEAD_RACE]);
	fputs("</tr>\n", to);
}

static void
groups(FILE *to, const fa_report *r, const verdict *verdicts)
{
	fputs("<h2>Groups</h2>\n<table><tr><th>group</th><th>faces</th><th>age error, years</th>"
		  "<th>age bias, years</th><th>gender right</th><th>race right</th></tr>\n",
		  to);
	group(to, r, verdicts, "all", FA_HEAD_AGE, -1);
	for (int h = FA_HEAD_GENDER; h <= FA_HEAD_RACE; h++)
		for (int c = 0; c < fa_heads[h].classes; c++)
			group(to, r, verdicts, fa_head_labels[h][c], h, c);
	for (int d = 0; d < FA_DECADES; d++)
	{
		char name[32];

		snprintf(name, sizeof(name), "%s years", decade_names[d]);
		group(to, r, verdicts, name, FA_HEAD_AGE, d);
	}
	fputs("</table>\n", to);
}

/* ---- Worst examples ---------------------------------------------------------------- */

/* How wrong a verdict is in a head; 0: right, or not labelled. */
static double
wrongness(const verdict *v, int head)
{
	if (head == FA_HEAD_AGE)
		return v->age_label < 0 ? 0 : fabsf(v->age - v->age_label);
	return v->label[head] < 0 || v->label[head] == v->seen[head] ? 0 : v->confidence[head];
}

/* A small JPEG of an image as a data: URI; an image that cannot be decoded has no picture. */
static fa_status
thumbnail(FILE *to, const fa_sample *sample, fa_error *error)
{
	fa_photo photo;
	fa_view view = {0};
	fa_image small = {0};
	uint8_t *jpeg = NULL;
	size_t length;
	fa_status status;

	status = fa_photo_open(&photo, sample->bytes, sample->length, fa_default_options().max_pixels,
						   error);
	if (status == FA_OK)
		status = fa_photo_decode(&photo, 8, &view, NULL, error);
	if (status == FA_OK)
		status = fa_image_alloc(&small, THUMBNAIL, THUMBNAIL, error);
	if (status == FA_OK)
		status = fa_warp(&view.image,
						 (fa_affine){(double) view.image.width / THUMBNAIL, 0, 0, 0,
									 (double) view.image.height / THUMBNAIL, 0},
						 &small, error);
	if (status == FA_OK)
		status = fa_photo_encode(&small, FA_FORMAT_JPEG, 85, &jpeg, &length, NULL, error);
	if (status == FA_OK)
	{
		fputs("<img alt='' width='96' height='96' src='data:image/jpeg;base64,", to);
		fa_markup_base64(to, jpeg, length);
		fputs("'>", to);
	}
	free(jpeg);
	fa_image_free(&small);
	fa_image_free(&view.image);
	return status == FA_NO_MEMORY ? status : FA_OK;
}

static fa_status
worst_of(FILE *to, const fa_report *r, const verdict *verdicts, int head, fa_error *error)
{
	double bound = INFINITY;
	int last = -1;

	fputs("<h3>", to);
	fa_markup_text(to, fa_heads[head].name);
	fputs("</h3>\n<div class='examples'>", to);
	for (int k = 0; k < WORST; k++)
	{
		const verdict *v;
		double wrong = 0;
		int worst = -1;

		/* the next in the order of (wrongness falling, index rising) */
		for (int i = 0; i < r->faces->count; i++)
		{
			double w = wrongness(&verdicts[i], head);

			if (w > wrong && (w < bound || (w == bound && i > last)))
			{
				wrong = w;
				worst = i;
			}
		}
		if (worst < 0)
			break;
		bound = wrong;
		last = worst;
		v = &verdicts[worst];
		fputs("<figure title='", to);
		fa_markup_text(to, r->faces->samples[worst].file);
		fputs("'>", to);
		FA_TRY(thumbnail(to, &r->faces->samples[worst], error));
		fputs("<figcaption>", to);
		if (head == FA_HEAD_AGE)
			fprintf(to, "is %.0f<br>seen as %.0f", v->age_label, v->age);
		else
		{
			fputs("is ", to);
			fa_markup_text(to, fa_head_labels[head][v->label[head]]);
			fputs("<br>seen as ", to);
			fa_markup_text(to, fa_head_labels[head][v->seen[head]]);
			fprintf(to, ", %.0f %%", 100 * v->confidence[head]);
		}
		fputs("</figcaption></figure>\n", to);
	}
	fputs("</div>\n", to);
	return FA_OK;
}

/* ---- The whole --------------------------------------------------------------------- */

static const char style[] =
	"body{font:15px/1.45 system-ui,sans-serif;max-width:1020px;margin:2em auto;padding:0 1em;"
	"color:#222;background:#fff}h1{font-size:1.6em}h2{margin-top:1.6em;border-bottom:1px solid "
	"#ddd}"
	"table{border-collapse:collapse;margin:.6em 0}caption{text-align:left;font-weight:600}"
	"th,td{padding:.2em .6em;text-align:right;border-bottom:1px solid #eee}th{font-weight:500}"
	"th:first-child{text-align:left}.confusion{font-size:13px}.confusion td{min-width:3.2em}"
	".charts,.tables,.examples{display:flex;flex-wrap:wrap;gap:1em 1.5em}.note{color:#666}"
	"svg{max-width:100%;height:auto}svg .title{font:600 14px system-ui,sans-serif}"
	"svg .tick{font:11px system-ui,sans-serif;fill:#555}svg .grid{stroke:#e4e4e4}"
	".options{font-size:13px}.options td{text-align:left}"
	"figure{margin:0;width:96px}figcaption{font-size:12px;color:#444;overflow-wrap:anywhere}"
	"img{border-radius:4px}code{font-size:13px}td "
	"code{white-space:pre-wrap;overflow-wrap:anywhere}";

static void
summary(FILE *to, const fa_report *r)
{
	const fa_scores *s = r->scores;
	const struct
	{
		const char *name, *format;
		double value;
	} figures[] = {
		{"loss", "%.4f", s->means.total},
		{"pairs told apart", "%.2f %%", s->means.score[FA_PERSON]},
		{"age error, years", "%.3f", s->means.score[FA_HEAD_AGE]},
		{"gender right", "%.2f %%", s->means.score[FA_HEAD_GENDER]},
		{"race right", "%.2f %%", s->means.score[FA_HEAD_RACE]},
		{"faces kept", "%.2f %%", s->face},
		{"others rejected", "%.2f %%", s->reject},
	};

	fputs("<h1>faceattr: report of a training</h1>\n<p>Figures, but for the curves, are of ", to);
	fa_markup_text(to, r->what);
	fprintf(to, ", on %d faces to validate on.</p>\n<table><tr>", r->faces->count);
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		if (isfinite(figures[i].value))
			fprintf(to, "<th>%s</th>", figures[i].name);
	fputs("</tr><tr>", to);
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		if (isfinite(figures[i].value))
			cell(to, figures[i].format, figures[i].value);
	fputs("</tr></table>\n", to);
}

static void
option_table(FILE *to, const json_t *options)
{
	const char *key;
	json_t *value;

	fputs("<h2>Options</h2>\n<table class='options'>", to);
	json_object_foreach((json_t *) options, key, value)
	{
		char *text;

		if (json_is_null(value))
			continue;
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
		fputs("<tr><th>--", to);
		fa_markup_text(to, key);
		fputs("</th><td><code>", to);
		if (text != NULL)
			fa_markup_text(to, json_is_string(value) ? json_string_value(value) : text);
		fputs("</code></td></tr>\n", to);
		free(text);
	}
	fputs("</table>\n", to);
}

static fa_status
judgements(FILE *to, const fa_report *r, fa_error *error)
{
	verdict *verdicts = judge_all(r);
	fa_status status = FA_OK;

	if (verdicts == NULL)
		return fa_no_memory(error, (size_t) r->faces->count * sizeof(verdict));
	confusions(to, r, verdicts);
	age_by_age(to, r, verdicts);
	groups(to, r, verdicts);
	fputs("<h2>Judged worst</h2>\n<p class='note'>The largest errors of age, and the wrong "
		  "answers that the network was surest of. Some of them are wrong labels.</p>\n",
		  to);
	for (int h = FA_HEAD_AGE; h <= FA_HEAD_RACE && status == FA_OK; h++)
		status = worst_of(to, r, verdicts, h, error);
	free(verdicts);
	return status;
}

static fa_status
write_html(FILE *to, const fa_report *r, fa_error *error)
{
	fa_status status;

	fprintf(to,
			"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
			"<meta name='viewport' content='width=device-width'>"
			"<meta http-equiv='Content-Security-Policy' "
			"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
			"<title>faceattr: report of a training</title><style>%s</style></head><body>\n",
			style);
	summary(to, r);
	status = curves(to, r, error);
	if (status == FA_OK && r->logits != NULL)
		status = judgements(to, r, error);
	option_table(to, r->options);
	fputs("</body></html>\n", to);
	return status;
}

fa_status
fa_report_write(const fa_report *report, const char *path, fa_error *error)
{
	char part[4096];
	FILE *file;
	bool whole;
	fa_status status;

	if (snprintf(part, sizeof(part), "%s.part", path) >= (int) sizeof(part))
		return fa_fail(error, FA_INVALID, "the report's path is too long");
	file = fopen(part, "we");
	if (file == NULL)
		return fa_fail(error, FA_IO, "%s: %s", part, strerror(errno));
	status = write_html(file, report, error);
	whole = !ferror(file);
	if (fclose(file) != 0)
		whole = false;
	if (status == FA_OK && (!whole || rename(part, path) != 0))
		status = fa_fail(error, FA_IO, "%s: %s", path, strerror(errno));
	if (status != FA_OK)
		remove(part);
	return status;
}
