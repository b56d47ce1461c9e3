/*
 * test_report.c
 *		The report's pieces and its figures, counted by hand from a few invented
 *		verdicts; text of others in it; and the history that it is drawn from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../trainer/markup.h"
#include "../../trainer/report.h"
#include "pictures.h"

static char *
written(void (*write)(FILE *to, const void *what, size_t length), const void *what, size_t length)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	write(to, what, length);
	fclose(to);
	return text;
}

static void
write_text(FILE *to, const void *what, size_t length)
{
	(void) length;
	fa_markup_text(to, what);
}

static void
write_base64(FILE *to, const void *what, size_t length)
{
	fa_markup_base64(to, what, length);
}

static void
text_is_escaped(void **state)
{
	char *text = written(write_text, "<b a='1'>\"x\" & \x01\xc3\xa4</b>", 0);

	(void) state;
	assert_string_equal(text, "&lt;b a=&#39;1&#39;&gt;&quot;x&quot; &amp; ?\xc3\xa4&lt;/b&gt;");
	free(text);
}

/* RFC 4648, section 10 */
static void
base64(void **state)
{
	static const char *const pairs[][2] = {{"", ""},
										   {"f", "Zg=="},
										   {"fo", "Zm8="},
										   {"foo", "Zm9v"},
										   {"foob", "Zm9vYg=="},
										   {"fooba", "Zm9vYmE="},
										   {"foobar", "Zm9vYmFy"},
										   {"\xff\xef\xfe", "/+/+"}};

	(void) state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		char *text = written(write_base64, pairs[i][0], strlen(pairs[i][0]));

		assert_string_equal(text, pairs[i][1]);
		free(text);
	}
}

/* ---- The report -------------------------------------------------------------------------- */

#define FACES 4

/* Logits that are sure of a class. */
static void
say(fa_logits *l, int head, int face, int class)
{
	int n = fa_heads[head].classes;

	for (int i = 0; i < n; i++)
		l->logits[head][face * n + i] = i == class ? 30 : 0;
}

static char *
read_whole(const char *path)
{
	uint8_t *bytes;
	char *text;
	size_t length;
	fa_error error;

	assert_int_equal(fa_read_file(path, &bytes, &length, &error), FA_OK);
	text = calloc(length + 1, 1);
	memcpy(text, bytes, length);
	free(bytes);
	return text;
}

static void
check_contains(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no \"%s\" in the report", part);
}

static void
figures_and_pictures(void **state)
{
	/* labels, and what is seen */
	static const int genders[FACES][2] = {{0, 0}, {0, 1}, {1, 1}, {FA_NO_LABEL, 1}};
	static const int races[FACES][2] = {{0, 0}, {0, 3}, {2, 2}, {2, 2}};
	static const int ages[FACES][2] = {{20, 25}, {24, 22}, {61, 61}, {FA_NO_LABEL, 7}};
	char path[] = "/tmp/report.XXXXXX", *html;
	picture jpeg = make_jpeg(&(jpeg_kind){.width = 40, .height = 40, .stored = JCS_YCbCr});
	fa_sample samples[FACES];
	fa_dataset faces = {.samples = samples, .count = FACES};
	fa_logits logits = {.count = FACES};
	fa_epoch epochs[2] = {
		{.step = 10, .epoch = 1, .rate = 0.1, .training.total = 3, .validation.means.total = 2.5},
		{.step = 20, .epoch = 2, .rate = 0.05, .training.total = 2, .validation.means.total = NAN}};
	fa_history history = {epochs, 2};
	fa_scores scores = {.means = {.total = 1.5, .score = {2.375, 66.5, 75, NAN, NAN}},
						.reject = NAN};
	json_t *options = json_pack("{s:s, s:n, s:f}", "data", "<script>alert('x')</script>", "labels",
								"rate", 0.0004);
	fa_report report = {"the <best>", options, &history, &scores, &logits, &faces};
	fa_error error;

	(void) state;
	for (int i = 0; i < FACES; i++)
		samples[i] = (fa_sample){.file = "plain.jpg", .bytes = jpeg.bytes, .length = jpeg.length};
	samples[1].file = "x' onerror='alert(1)'><script>.jpg";
	for (int h = 0; h < FA_HEADS; h++)
	{
		logits.logits[h] = calloc((size_t) FACES * fa_heads[h].classes, sizeof(float));
		logits.targets[h] = calloc(FACES, sizeof(float));
	}
	for (int i = 0; i < FACES; i++)
	{
		logits.targets[FA_HEAD_AGE][i] = (float) ages[i][0];
		logits.targets[FA_HEAD_GENDER][i] = (float) genders[i][0];
		logits.targets[FA_HEAD_RACE][i] = (float) races[i][0];
		say(&logits, FA_HEAD_AGE, i, ages[i][1]);
		say(&logits, FA_HEAD_GENDER, i, genders[i][1]);
		say(&logits, FA_HEAD_RACE, i, races[i][1]);
	}
	close(mkstemp(path));
	assert_int_equal(fa_report_write(&report, path, &error), FA_OK);
	html = read_whole(path);

	/* nothing of others is taken for markup, nothing comes from elsewhere */
	assert_null(strstr(html, "<script"));
	assert_null(strstr(html, "onerror='"));
	assert_null(strstr(html, "http:"));
	assert_null(strstr(html, "https:"));
	check_contains(html, "&lt;script&gt;alert(&#39;x&#39;)");
	check_contains(html, "the &lt;best&gt;");
	assert_null(strstr(html, "pairs told apart"));
	check_contains(html, "<td>2.375</td><td>66.50 %</td><td>75.00 %</td>");

	/* of two men one is seen as a woman; of two Whites one as an Indian */
	check_contains(html, "title='1 of 2'>50.0 %");
	check_contains(html, "title='2 of 2'>100.0 %");
	/* absolute errors of 5, 2 and 0 years; bias of 5, -2, 0 */
	check_contains(
		html, "<th>all</th><td>4</td><td>2.33</td><td>+1.00</td><td>66.7 %</td><td>75.0 %</td>");
	check_contains(
		html, "<th>male</th><td>2</td><td>3.50</td><td>+1.50</td><td>50.0 %</td><td>50.0 %</td>");
	check_contains(
		html,
		"<th>Asian</th><td>2</td><td>0.00</td><td>+0.00</td><td>100.0 %</td><td>100.0 %</td>");
	check_contains(html, "<th>20-29 years</th><td>2</td><td>3.50</td>");
	assert_null(strstr(html, "<th>Black</th><td>0"));
	/* the curve has both losses of the first epoch, and a gap */
	check_contains(html, "training, 1: 3<");
	check_contains(html, "validation, 1: 2.5<");
	check_contains(html, "training, 2: 2<");
	assert_true(strstr(html, "validation, 2: ") > strstr(html, "</svg>"));
	/* two wrong ages, a wrong gender and a wrong race have pictures */
	check_contains(html, "is 20<br>seen as 25");
	check_contains(html, "is 24<br>seen as 22");
	check_contains(html, "is male<br>seen as female, 100 %");
	check_contains(html, "is White<br>seen as Indian, 100 %");
	{
		int pictures = 0;

		for (const char *at = html; (at = strstr(at, "data:image/jpeg;base64,/9j/")) != NULL; at++)
			pictures++;
		assert_int_equal(pictures, 4);
	}
	free(html);
	unlink(path);
	for (int h = 0; h < FA_HEADS; h++)
	{
		free(logits.logits[h]);
		free(logits.targets[h]);
	}
	json_decref(options);
	free(jpeg.bytes);
}

/* ---- The history ---------------------------------------------------------------------------- */

static void
history_goes_on(void **state)
{
	char path[] = "/tmp/history.XXXXXX", *text;
	fa_epoch e = {.epoch = 1, .seconds = 1.5, .rate = 1.0 / 3, .metric = 2, .best = true};
	fa_history history;
	fa_error error;
	FILE *file;

	(void) state;
	close(mkstemp(path));
	assert_int_equal(fa_history_open(&history, path, -1, &error), FA_OK);
	e.validation.means.score[FA_HEAD_AGE] = 4.25;
	e.training.loss[FA_HEAD_RACE] = 0.5;
	e.validation.reject = NAN;
	for (e.step = 10; e.step <= 30; e.step += 10)
		assert_int_equal(fa_history_add(&history, path, &e, &error), FA_OK);
	fa_history_free(&history);
	file = fopen(path, "a"); /* killed within a line */
	fputs("{\"step\": 40, \"epo", file);
	fclose(file);

	assert_int_equal(fa_history_open(&history, path, 20, &error), FA_OK);
	assert_int_equal(history.count, 2);
	assert_int_equal(history.epochs[1].step, 20);
	assert_float_equal(history.epochs[1].rate, 1.0 / 3, 0);
	assert_float_equal(history.epochs[1].validation.means.score[FA_HEAD_AGE], 4.25, 0);
	assert_float_equal(history.epochs[1].training.loss[FA_HEAD_RACE], 0.5, 0);
	assert_true(isnan(history.epochs[1].validation.reject));
	assert_true(history.epochs[1].best);
	e.step = 21;
	assert_int_equal(fa_history_add(&history, path, &e, &error), FA_OK);
	fa_history_free(&history);
	text = read_whole(path);
	assert_non_null(strstr(text, "\"step\":21"));
	assert_null(strstr(text, "\"step\":30"));
	free(text);

	file = fopen(path, "a");
	fputs("[1]\n", file);
	fclose(file);
	assert_int_equal(fa_history_open(&history, path, 100, &error), FA_DAMAGED);
	fa_history_free(&history);
	assert_non_null(strstr(error.message, "line 4"));
	unlink(path);
	assert_int_equal(fa_history_open(&history, path, 100, &error), FA_OK);
	assert_int_equal(history.count, 0);
	fa_history_free(&history);
	unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_escaped),
		cmocka_unit_test(base64),
		cmocka_unit_test(figures_and_pictures),
		cmocka_unit_test(history_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
