/*
 * test_dataset.c
 *		Data as training reads them: archives, directories, tables of labels and caches of
 *		crops; sound ones, and damaged ones of every kind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../trainer/crop_cache.h"
#include "pictures.h"

static char directory[] = "/tmp/faceattr-dataset-XXXXXX";
static char path_buffer[256];

static const char *
in_directory(const char *name)
{
	snprintf(path_buffer, sizeof(path_buffer), "%s/%s", directory, name);
	return path_buffer;
}

static void
write_file(const char *name, const char *text)
{
	FILE *file = fopen(in_directory(name), "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
	fclose(file);
}

static void
run(const char *format)
{
	char command[1024];

	snprintf(command, sizeof(command), "cd %s && %s", directory, format);
	assert_int_equal(system(command), 0);
}

static int
make_files(void **state)
{
	(void) state;
	assert_non_null(mkdtemp(directory));
	run("mkdir -p faces/train && rm -rf faces/train/*");
	write_file("faces/b.jpg", "bbb");
	write_file("faces/a.jpg", "a");
	write_file("faces/train/1.jpg", "one");
	write_file("faces/.hidden", "h");
	write_file("faces/labels.tsv", "t");
	write_file("faces/labels.csv", "t");
	run("tar cf faces.tar -C faces . && gzip -k faces.tar");
	return 0;
}

static int
remove_files(void **state)
{
	(void) state;
	run("rm -rf ../$(basename $PWD)");
	return 0;
}

static void
check_files(const char *name)
{
	fa_dataset dataset;
	fa_error error;

	assert_int_equal(fa_dataset_read(&dataset, in_directory(name), NULL, &error), FA_OK);
	assert_int_equal(dataset.count, 3);
	assert_string_equal(dataset.samples[0].file, "a.jpg");
	assert_string_equal(dataset.samples[1].file, "b.jpg");
	assert_string_equal(dataset.samples[2].file, "train/1.jpg");
	assert_int_equal(dataset.samples[1].length, 3);
	assert_memory_equal(dataset.samples[1].bytes, "bbb", 3);
	assert_float_equal(dataset.samples[1].zoom, 1, 0);
	assert_float_equal(dataset.samples[1].label.age_low, FA_NO_LABEL, 0);
	assert_ptr_equal(fa_dataset_find(&dataset, "train/1.jpg"), &dataset.samples[2]);
	assert_null(fa_dataset_find(&dataset, "c.jpg"));
	fa_dataset_free(&dataset);
}

static void
archives_and_directories_hold_the_same(void **state)
{
	(void) state;
	check_files("faces");
	check_files("faces.tar");
	check_files("faces.tar.gz");
}

static void
refused(const char *name, fa_status expected, const char *message)
{
	fa_dataset dataset;
	fa_error error;

	assert_int_equal(fa_dataset_read(&dataset, in_directory(name), NULL, &error), expected);
	assert_non_null(strstr(error.message, message));
	assert_int_equal(dataset.count, 0);
	assert_null(dataset.samples);
}

static void
damaged_archives(void **state)
{
	(void) state;
	run("mkdir -p empty && tar cf empty.tar -C empty . && echo text >text.tar");
	run("head -c 2200 faces.tar >cut.tar && head -c 200 faces.tar.gz >cut.tar.gz");
	run("cd faces && tar cf ../twice.tar a.jpg && tar rf ../twice.tar a.jpg");
	refused("none.tar", FA_NOT_FOUND, "none.tar");
	refused("empty", FA_INVALID, "no file");
	refused("empty.tar", FA_INVALID, "no file");
	refused("text.tar", FA_DAMAGED, "text.tar");
	refused("cut.tar", FA_DAMAGED, "cut.tar");
	refused("cut.tar.gz", FA_DAMAGED, "cut.tar.gz");
	refused("twice.tar", FA_INVALID, "twice");
}

static fa_status
read_table(const char *text, fa_dataset *dataset, fa_error *error)
{
	char table[256];

	write_file("table", text);
	snprintf(table, sizeof(table), "%s", in_directory("table"));
	return fa_dataset_read_labelled(dataset, in_directory("faces"), table, NULL, error);
}

static void
tables(void **state)
{
	fa_dataset d;
	fa_error error;

	(void) state;
	assert_int_equal(read_table("note\trace\tfile\tage\tgender\n"
								"x\t4\tb.jpg\t34.5\t1\r\n"
								"\n"
								"\t\ttrain/1.jpg\t\t0\n",
								&d, &error),
					 FA_OK);
	assert_float_equal(d.samples[0].label.age_low, FA_NO_LABEL, 0); /* without a line */
	assert_int_equal(d.samples[0].label.gender, FA_NO_LABEL);
	assert_float_equal(d.samples[1].label.age_low, 34.5, 0);
	assert_int_equal(d.samples[1].label.gender, 1);
	assert_int_equal(d.samples[1].label.race, 4);
	assert_float_equal(d.samples[2].label.age_low, FA_NO_LABEL, 0);
	assert_int_equal(d.samples[2].label.gender, 0);
	assert_int_equal(d.samples[2].label.race, FA_NO_LABEL);
	assert_int_equal(d.sets.races.count, 5);
	assert_string_equal(d.sets.genders.names[1], "female");
	fa_dataset_free(&d);
}

/* As FairFace publishes its labels, with a name that begins with the directory. */
static void
fairface(void **state)
{
	fa_dataset d;
	fa_error error;

	(void) state;
	assert_int_equal(read_table("\xef\xbb\xbf"
								"file,age,gender,race,service_test\n"
								"train/1.jpg,50-59,Male,East Asian,True\n"
								"val/a.jpg,more than 70,Female,\"Latino_Hispanic\",False\n"
								"b.jpg,0-2,\"Female\",\"Middle \"\"Eastern\"\"\",False\n",
								&d, &error),
					 FA_OK);
	assert_float_equal(d.samples[2].label.age_low, 50, 0);
	assert_float_equal(d.samples[2].label.age_high, 59, 0);
	assert_int_equal(d.samples[2].label.gender, 0);
	assert_string_equal(d.sets.races.names[d.samples[2].label.race], "East Asian");
	assert_float_equal(d.samples[0].label.age_low, 70, 0);
	assert_int_equal(d.samples[0].label.gender, 1);
	assert_string_equal(d.sets.races.names[d.samples[0].label.race], "Latino_Hispanic");
	assert_float_equal(d.samples[1].label.age_high, 2, 0);
	assert_string_equal(d.sets.races.names[d.samples[1].label.race], "Middle \"Eastern\"");
	assert_int_equal(d.sets.races.count, 3);
	fa_dataset_free(&d);
}

static void
bad_tables(void **state)
{
	static const struct
	{
		const char *text, *message;
	} cases[] = {
		{"", "empty"},
		{"age\n1\n", "no column \"file\""},
		{"file\tname\na.jpg\tx\n", "no column \"age\""},
		{"file\tage\tage\na.jpg\t1\t2\n", "column \"age\" comes twice"},
		{"file\tage\na.jpg\tyoung\n", "line 2: \"young\" is no age"},
		{"file\tage\na.jpg\t151\n", "line 2: \"151\" is no age"},
		{"file\tage\na.jpg\t1\nc.jpg\t1\n", "line 3: the data hold no file \"c.jpg\""},
		{"file\tage\na.jpg\t1\na.jpg\t1\n", "line 3: file \"a.jpg\" comes twice"},
		{"age\tfile\n1\n", "line 2: there is no value for \"file\""},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		fa_dataset d;
		fa_error error;

		assert_int_equal(read_table(cases[i].text, &d, &error), FA_INVALID);
		if (strstr(error.message, cases[i].message) == NULL)
			fail_msg("%s: %s", cases[i].message, error.message);
		assert_int_equal(d.count, 0);
	}
}

static void
labels_from_utkfaces_names(void **state)
{
	fa_dataset d;
	fa_error error;

	(void) state;
	run("mkdir -p utk && touch utk/26_1_3_20170119172125746.jpg.chip.jpg "
		"utk/61_1_20170109142408075.jpg.chip.jpg utk/other.jpg");
	assert_int_equal(fa_dataset_read_labelled(&d, in_directory("utk"), NULL, NULL, &error), FA_OK);
	assert_float_equal(d.samples[0].label.age_low, 26, 0);
	assert_int_equal(d.samples[0].label.gender, 1);
	assert_int_equal(d.samples[0].label.race, 3);
	assert_float_equal(d.samples[1].label.age_low, 61, 0);
	assert_int_equal(d.samples[1].label.race, FA_NO_LABEL);
	assert_float_equal(d.samples[2].label.age_low, FA_NO_LABEL, 0);
	assert_int_equal(d.unusable, 2);
	assert_non_null(strstr(d.first_unusable, "61_1_2017"));
	fa_dataset_free(&d);
	/* other names need a table */
	assert_int_equal(fa_dataset_read_labelled(&d, in_directory("faces"), NULL, NULL, &error),
					 FA_NOT_FOUND);
	assert_non_null(strstr(error.message, "faces.tsv"));
}

/* --- Caches of crops --- */

static const fa_label_sets sets = {{(char *[]){"male", "female"}, 2},
								   {(char *[]){"Elf", "Dwarf", "Orc"}, 3}};

static fa_sample
cached_sample(int i, char *name, char *bytes)
{
	snprintf(name, 32, "row %d", i);
	snprintf(bytes, 32, "image %d", i);
	return (fa_sample){
		.file = name,
		.bytes = (uint8_t *) bytes,
		.length = strlen(bytes),
		.label = {20, 29, i % 2, i % 3, i},
		.zoom = 1.25f,
	};
}

/* Added in an order that is not theirs. */
static void
make_cache(const char *name, int count)
{
	fa_crop_cache *cache;
	fa_error error;

	assert_int_equal(fa_crop_cache_create(in_directory(name), 1 << 20, &cache, &error), FA_OK);
	for (int i = 0; i < count; i++)
	{
		char file[32], bytes[32];
		int number = i * 7 % count;
		fa_sample sample = cached_sample(number, file, bytes);

		assert_int_equal(fa_crop_cache_add(cache, &sample, number, &error), FA_OK);
	}
	assert_int_equal(fa_crop_cache_finish(cache, NULL, &sets, "SELECT 1", &error), FA_OK);
}

static void
a_cache_gives_back_what_it_got(void **state)
{
	fa_dataset d;
	fa_error error;

	(void) state;
	make_cache("good.crops", 5000);
	assert_true(fa_is_crop_cache(in_directory("good.crops")));
	assert_false(fa_is_crop_cache(in_directory("faces.tar")));
	assert_int_equal(fa_crop_cache_open(in_directory("good.crops"), "SELECT 1", &d, &error), FA_OK);
	assert_int_equal(d.count, 5000);
	for (int i = 0; i < d.count; i++)
	{
		char file[32], bytes[32];
		fa_sample wanted = cached_sample(i, file, bytes);
		const fa_sample *sample = &d.samples[i];

		assert_string_equal(sample->file, file);
		assert_int_equal(sample->length, wanted.length);
		assert_memory_equal(sample->bytes, bytes, wanted.length);
		assert_memory_equal(&sample->label, &wanted.label, sizeof(fa_label));
		assert_float_equal(sample->zoom, 1.25, 0);
	}
	assert_string_equal(d.sets.races.names[2], "Orc");
	fa_dataset_free(&d);
	assert_int_equal(fa_crop_cache_open(in_directory("good.crops"), "SELECT 2", &d, &error),
					 FA_INVALID);
	assert_int_equal(fa_dataset_read_labelled(&d, in_directory("good.crops"), NULL, NULL, &error),
					 FA_OK);
	fa_dataset_free(&d);
}

static void
a_full_cache_says_so(void **state)
{
	char file[32], bytes[32];
	fa_sample sample = cached_sample(1, file, bytes);
	fa_crop_cache *cache;
	fa_error error;

	(void) state;
	/* two of "row 1", a zero and "image 1" */
	assert_int_equal(fa_crop_cache_create(in_directory("full.crops"), 26, &cache, &error), FA_OK);
	assert_int_equal(fa_crop_cache_add(cache, &sample, 0, &error), FA_OK);
	assert_int_equal(fa_crop_cache_add(cache, &sample, 1, &error), FA_OK);
	assert_int_equal(fa_crop_cache_add(cache, &sample, 2, &error), FA_TOO_LARGE);
	assert_non_null(strstr(error.detail, "2 faces"));
	fa_crop_cache_abandon(cache);
	assert_int_not_equal(access(in_directory("full.crops"), F_OK), 0);
	assert_int_not_equal(access(in_directory("full.crops.part"), F_OK), 0);
	assert_int_equal(fa_crop_cache_create("/nowhere/at/all", 26, &cache, &error), FA_IO);
}

/* Cut at any length, or with any byte changed: an error, or data that are within the file. */
static void
a_damaged_cache(void **state)
{
	uint8_t *bytes = malloc(1 << 16);
	uint64_t seed = 5;
	size_t length;
	FILE *file;
	fa_dataset d;
	fa_error error;

	(void) state;
	make_cache("small.crops", 20);
	file = fopen(in_directory("small.crops"), "rb");
	length = fread(bytes, 1, 1 << 16, file);
	fclose(file);
	for (int i = 0; i < 3000; i++)
	{
		size_t at = random_u32(&seed) % length, kept = i < (int) length ? (size_t) i : length;
		uint8_t was = bytes[at];

		bytes[at] = i < (int) length ? was : (uint8_t) random_u32(&seed);
		file = fopen(in_directory("hurt.crops"), "wb");
		fwrite(bytes, 1, kept, file);
		fclose(file);
		bytes[at] = was;
		if (fa_crop_cache_open(in_directory("hurt.crops"), NULL, &d, &error) == FA_OK)
		{
			size_t sum = 0;

			assert_int_equal(kept, length);
			for (int k = 0; k < d.count; k++)
			{
				sum += strlen(d.samples[k].file);
				for (size_t b = 0; b < d.samples[k].length; b++)
					sum += d.samples[k].bytes[b];
				assert_in_range(d.samples[k].label.gender + 1, 0, 2);
				assert_in_range(d.samples[k].label.race + 1, 0, 3);
			}
			assert_true(sum > 0);
			fa_dataset_free(&d);
		}
		else
			assert_int_equal(d.count, 0);
	}
	free(bytes);
	assert_int_equal(fa_crop_cache_open(in_directory("none.crops"), NULL, &d, &error),
					 FA_NOT_FOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(archives_and_directories_hold_the_same),
		cmocka_unit_test(damaged_archives),
		cmocka_unit_test(tables),
		cmocka_unit_test(fairface),
		cmocka_unit_test(bad_tables),
		cmocka_unit_test(labels_from_utkfaces_names),
		cmocka_unit_test(a_cache_gives_back_what_it_got),
		cmocka_unit_test(a_full_cache_says_so),
		cmocka_unit_test(a_damaged_cache),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
