/*
 * test_video.c
 *		Videos read and written: frames, times, colours and orientation of files that
 *		the tests make themselves (YUV4MPEG2: a line of text and plain planes), and
 *		what happens to damaged, hostile and impossible ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../trainer/video.h"
#include "pictures.h"

#define FRAMES 12

static const fa_video_options usual = {.threads = 1, .max_pixels = 1000000};
static char directory[] = "/tmp/test_video_XXXXXX";

static const char *
path_of(const char *name)
{
	static char paths[16][100];
	static int next;

	next = (next + 1) % 16;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", directory, name);
	return paths[next];
}

/* Luma and chroma of a frame's quadrants: left above, right above, left below, right below. */
static void
quadrant(int n, int q, double yuv[3])
{
	static const double chroma[4][2] = {{128, 128}, {100, 160}, {150, 110}, {120, 90}};

	yuv[0] = (q == 0 ? 60 : 150 + 20 * q) + (q == 0 ? 5 * n : 0);
	yuv[1] = chroma[q][0];
	yuv[2] = chroma[q][1];
}

/* ITU-R BT.601, limited range, to RGB. */
static void
expected_rgb(int n, int q, double rgb[3])
{
	double yuv[3], y;

	quadrant(n, q, yuv);
	y = (yuv[0] - 16) * 255 / 219;
	rgb[0] = y + 1.402 * (yuv[2] - 128) * 255 / 224;
	rgb[1] = y - (0.344136 * (yuv[1] - 128) + 0.714136 * (yuv[2] - 128)) * 255 / 224;
	rgb[2] = y + 1.772 * (yuv[1] - 128) * 255 / 224;
	for (int i = 0; i < 3; i++)
		rgb[i] = fmin(fmax(rgb[i], 0), 255);
}

/* FRAMES frames of that size at 25 a second. */
static const char *
make_y4m(const char *name, int width, int height)
{
	const char *path = path_of(name);
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	fprintf(file, "YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n", width, height);
	for (int n = 0; n < FRAMES; n++)
	{
		fputs("FRAME\n", file);
		for (int plane = 0; plane < 3; plane++)
		{
			int w = plane == 0 ? width : (width + 1) / 2;
			int h = plane == 0 ? height : (height + 1) / 2;

			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
				{
					double yuv[3];

					quadrant(n, (2 * x >= w) + 2 * (2 * y >= h), yuv);
					fputc((int) yuv[plane], file);
				}
		}
	}
	fclose(file);
	return path;
}

/* How far the centres of an image's quadrants are from frame n's; order[i]: which one lies there */
static double
worst_colour(const fa_image *image, int n, const int order[4])
{
	double worst = 0;

	for (int i = 0; i < 4; i++)
	{
		size_t x = (size_t) image->width * (i % 2 == 0 ? 1 : 3) / 4;
		size_t y = (size_t) image->height * (i / 2 == 0 ? 1 : 3) / 4;
		const uint8_t *pixel = image->pixels + y * image->stride + 3 * x;
		double rgb[3];

		expected_rgb(n, order[i], rgb);
		for (int c = 0; c < 3; c++)
			worst = fmax(worst, fabs(pixel[c] - rgb[c]));
	}
	return worst;
}

static const int upright[4] = {0, 1, 2, 3};

/*
 * Reads a file, checking times and colours, and writes every frame to another one;
 * returns how many there were. tolerance 0: not a video of ours.
 */
static int
copy_video(const char *in, const char *out, const int order[4], double tolerance, int *width,
		   int *height, fa_video_facts *facts)
{
	fa_video *video;
	fa_error error;
	int frames = 0;

	assert_int_equal(fa_video_open(&video, in, out, &usual, NULL, &error), FA_OK);
	for (;;)
	{
		fa_image *image;
		double seconds;

		assert_int_equal(fa_video_read(video, &image, &seconds, &error), FA_OK);
		if (image == NULL)
			break;
		*width = image->width;
		*height = image->height;
		if (tolerance > 0)
		{
			assert_true(fabs(seconds - frames * 0.04) < 0.001);
			assert_true(worst_colour(image, frames, order) < tolerance);
		}
		frames++;
		assert_int_equal(fa_video_write(video, &error), FA_OK);
	}
	*facts = *fa_video_facts_of(video);
	assert_int_equal(facts->written, frames);
	assert_int_equal(facts->dropped, 0);
	assert_int_equal(fa_video_close(video, &error), FA_OK);
	return frames;
}

/* Every frame arrives, in time and in colour, and again from what was written of it. */
static void
there_and_back(void **state)
{
	static const int sizes[][2] = {{64, 48}, {65, 49}, {71, 64}, {130, 33}};
	static const char *const names[] = {"out.mp4", "out.mkv", "out.mov", "out.avi"};

	(void) state;
	for (int i = 0; i < 4; i++)
		for (int k = 0; k < 4; k++)
		{
			const char *in = make_y4m("in.y4m", sizes[i][0], sizes[i][1]);
			int width, height;
			fa_video_facts facts;

			assert_int_equal(copy_video(in, path_of(names[k]), upright, 3, &width, &height, &facts),
							 FRAMES);
			assert_int_equal(width, sizes[i][0]);
			assert_int_equal(height, sizes[i][1]);
			assert_true(facts.damaged == 0 && !facts.ended_early && !facts.lost_sound);
			assert_non_null(facts.encoder);
			assert_int_equal(copy_video(path_of(names[k]), path_of("2.mp4"), upright, 12, &width,
										&height, &facts),
							 FRAMES);
			/* odd sizes are rounded up */
			assert_int_equal(width, (sizes[i][0] + 1) / 2 * 2);
			assert_int_equal(height, (sizes[i][1] + 1) / 2 * 2);
		}
}

static void
put_32(uint8_t *at, int32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t) ((uint32_t) value >> (24 - 8 * i));
}

/* The display matrix in an MP4 file's track header: a, b, c, d of x' = a x + c y, y' = b x + d y.
 */
static void
set_matrix(const char *path, int a, int b, int c, int d)
{
	uint8_t *bytes, *header;
	size_t length;
	fa_error error;

	assert_int_equal(fa_read_file(path, &bytes, &length, &error), FA_OK);
	header = memmem(bytes, length, "tkhd", 4);
	assert_non_null(header);
	header += 44; /* name, version, five numbers, reserved ones, layer to volume */
	put_32(header, a * 65536);
	put_32(header + 4, b * 65536);
	put_32(header + 12, c * 65536);
	put_32(header + 16, d * 65536);
	assert_int_equal(fa_write_file(path, bytes, length, &error), FA_OK);
	free(bytes);
}

/* A phone's video comes upright, and is written upright. */
static void
orientation(void **state)
{
	/* matrix, and which stored quadrant is seen where */
	static const int cases[8][8] = {
		{1, 0, 0, 1, 0, 1, 2, 3},   {-1, 0, 0, 1, 1, 0, 3, 2}, {-1, 0, 0, -1, 3, 2, 1, 0},
		{1, 0, 0, -1, 2, 3, 0, 1},  {0, 1, 1, 0, 0, 2, 1, 3},  {0, 1, -1, 0, 2, 0, 3, 1},
		{0, -1, -1, 0, 3, 1, 2, 0}, {0, -1, 1, 0, 1, 3, 0, 2},
	};
	int width, height;
	fa_video_facts facts;

	(void) state;
	for (int i = 0; i < 8; i++)
	{
		const int *m = cases[i];

		copy_video(make_y4m("in.y4m", 96, 64), path_of("turned.mp4"), upright, 3, &width, &height,
				   &facts);
		set_matrix(path_of("turned.mp4"), m[0], m[1], m[2], m[3]);
		assert_int_equal(
			copy_video(path_of("turned.mp4"), path_of("up.mp4"), m + 4, 8, &width, &height, &facts),
			FRAMES);
		assert_int_equal(width, m[0] == 0 ? 64 : 96);
		assert_int_equal(height, m[0] == 0 ? 96 : 64);
		copy_video(path_of("up.mp4"), path_of("2.mp4"), m + 4, 12, &width, &height, &facts);
		assert_int_equal(width, m[0] == 0 ? 64 : 96);
	}
}

/* Reads whatever a file has to give; it must end, and say why where it fails. */
static void
survive(const char *path, fa_video_facts *facts)
{
	fa_video *video;
	fa_error error = {.message = ""};
	fa_status status = fa_video_open(&video, path, path_of("survived.mkv"), &usual, NULL, &error);

	memset(facts, 0, sizeof(*facts));
	assert_true((status == FA_OK) == (video != NULL));
	for (int frames = 0; status == FA_OK; frames++)
	{
		fa_image *image;
		double seconds;

		assert_in_range(frames, 0, 1000);
		status = fa_video_read(video, &image, &seconds, &error);
		if (status == FA_OK && image == NULL)
			break;
		if (status == FA_OK)
			status = fa_video_write(video, &error);
	}
	if (status != FA_OK)
		assert_true(status == error.status && error.message[0] != '\0');
	if (video != NULL)
	{
		*facts = *fa_video_facts_of(video);
		fa_video_close(video, &error);
		assert_true((access(path_of("survived.mkv"), F_OK) == 0) == (facts->written > 0));
	}
	unlink(path_of("survived.mkv"));
}

static void
truncated(void **state)
{
	static const char *const names[] = {"out.mp4", "out.mkv", "in.y4m"};
	int width, height;
	fa_video_facts facts;
	bool early = false;

	(void) state;
	for (int k = 0; k < 3; k++)
	{
		uint8_t *bytes;
		size_t length;
		fa_error error;

		make_y4m("in.y4m", 64, 48);
		if (k < 2)
			copy_video(path_of("in.y4m"), path_of(names[k]), upright, 3, &width, &height, &facts);
		assert_int_equal(fa_read_file(path_of(names[k]), &bytes, &length, &error), FA_OK);
		for (size_t i = 0; i < 24; i++)
		{
			size_t cut = length * i / 24;

			assert_int_equal(fa_write_file(path_of("cut"), bytes, cut, &error), FA_OK);
			survive(path_of("cut"), &facts);
			assert_in_range(facts.written, 0, FRAMES);
			if (k == 0 && i < 12) /* its table of contents comes last */
				assert_int_equal(facts.written, 0);
			early |= facts.written > 0 && facts.written < FRAMES;
		}
		free(bytes);
	}
	assert_true(early);
}

static void
damaged(void **state)
{
	static const char *const names[] = {"out.mp4", "out.mkv", "out.avi", "in.y4m"};
	int width, height;
	fa_video_facts facts;
	uint64_t seed = 17;

	(void) state;
	for (int k = 0; k < 4; k++)
	{
		uint8_t *bytes, *copy;
		size_t length;
		fa_error error;
		int64_t damage = 0;

		make_y4m("in.y4m", 64, 48);
		if (k < 3)
			copy_video(path_of("in.y4m"), path_of(names[k]), upright, 3, &width, &height, &facts);
		assert_int_equal(fa_read_file(path_of(names[k]), &bytes, &length, &error), FA_OK);
		copy = malloc(length);
		for (int round = 0; round < 60; round++)
		{
			memcpy(copy, bytes, length);
			for (int i = 0; i < 1 << round % 5; i++)
				copy[random_u32(&seed) % length] ^= (uint8_t) (1 << random_u32(&seed) % 8);
			assert_int_equal(fa_write_file(path_of("broken"), copy, length, &error), FA_OK);
			survive(path_of("broken"), &facts);
			damage += facts.damaged;
		}
		if (k < 3)
			assert_true(damage > 0); /* some of it hit the pictures, and was told */
		free(copy);
		free(bytes);
	}
}

static void
refused(void **state)
{
	const char *in = make_y4m("in.y4m", 64, 48);
	fa_video_options small = usual;
	fa_video *video;
	fa_error error;

	(void) state;
	assert_int_equal(fa_video_open(&video, in, path_of("x.txt"), &usual, NULL, &error), FA_INVALID);
	assert_null(video);
	assert_int_equal(fa_video_open(&video, in, path_of("x.jpg"), &usual, NULL, &error), FA_INVALID);
	assert_int_equal(fa_video_open(&video, in, path_of("no/x.mp4"), &usual, NULL, &error),
					 FA_NOT_FOUND);
	assert_non_null(strstr(error.message, "no/x.mp4"));
	assert_int_equal(
		fa_video_open(&video, path_of("none.mp4"), path_of("x.mp4"), &usual, NULL, &error),
		FA_NOT_FOUND);
	small.max_pixels = 64 * 48 - 1;
	assert_int_equal(fa_video_open(&video, in, path_of("x.mp4"), &small, NULL, &error),
					 FA_TOO_LARGE);
	/* a playlist would have us open other files */
	assert_int_equal(
		fa_write_file(path_of("list.mp4"), "ffconcat version 1.0\nfile in.y4m\n", 33, &error),
		FA_OK);
	assert_int_equal(
		fa_video_open(&video, path_of("list.mp4"), path_of("x.mp4"), &usual, NULL, &error), FA_IO);
	assert_int_equal(fa_write_file(path_of("list.m3u8"),
								   "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nin.y4m\n"
								   "#EXT-X-ENDLIST\n",
								   66, &error),
					 FA_OK);
	assert_int_equal(
		fa_video_open(&video, path_of("list.m3u8"), path_of("x.mp4"), &usual, NULL, &error), FA_IO);
	/* nor is a name an address */
	assert_int_equal(
		fa_video_open(&video, "http://127.0.0.1:9/x.mp4", path_of("x.mp4"), &usual, NULL, &error),
		FA_NOT_FOUND);
	assert_int_not_equal(access(path_of("x.mp4"), F_OK), 0);
	assert_int_equal(fa_video_close(NULL, &error), FA_OK);
}

static bool
after_a_while(void *argument)
{
	return *(int *) argument >= 5;
}

/* Told to stop, it stops, and what is there can be played. */
static void
interrupted(void **state)
{
	int width, height, frames = 0;
	fa_interrupt interrupt = {after_a_while, &frames};
	fa_video_facts facts;
	fa_status status;
	fa_video *video;
	fa_error error;

	(void) state;
	assert_int_equal(fa_video_open(&video, make_y4m("in.y4m", 64, 48), path_of("short.mp4"), &usual,
								   &interrupt, &error),
					 FA_OK);
	do
	{
		fa_image *image;
		double seconds;

		status = fa_video_read(video, &image, &seconds, &error);
		if (status == FA_OK)
		{
			assert_non_null(image);
			assert_int_equal(fa_video_write(video, &error), FA_OK);
			frames++;
		}
	} while (status == FA_OK);
	assert_int_equal(status, FA_INTERRUPTED);
	assert_int_equal(fa_video_close(video, &error), FA_OK);
	assert_int_equal(
		copy_video(path_of("short.mp4"), path_of("2.mp4"), upright, 12, &width, &height, &facts),
		5);
}

/* Live, a frame waits for its time; who takes 0.3 seconds for a frame of 0.04 misses some. */
static void
live(void **state)
{
	fa_video_options options = usual;

	(void) state;
	options.live = true;
	for (int slow = 0; slow < 2; slow++)
	{
		double start = fa_seconds(), last = -1;
		fa_video_facts facts;
		fa_video *video;
		fa_error error;

		assert_int_equal(fa_video_open(&video, make_y4m("in.y4m", 64, 48), path_of("live.mp4"),
									   &options, NULL, &error),
						 FA_OK);
		for (;;)
		{
			fa_image *image;
			double seconds;

			assert_int_equal(fa_video_read(video, &image, &seconds, &error), FA_OK);
			if (image == NULL)
				break;
			assert_true(seconds > last);
			last = seconds;
			assert_int_equal(fa_video_write(video, &error), FA_OK);
			if (slow)
				nanosleep(&(struct timespec){0, 300000000}, NULL);
		}
		facts = *fa_video_facts_of(video);
		assert_int_equal(facts.written + facts.dropped, FRAMES);
		assert_true(fa_seconds() - start >= (slow ? 0.6 : 0.04 * (FRAMES - 1)));
		if (slow)
			assert_in_range(facts.written, 1, 4);
		assert_int_equal(fa_video_close(video, &error), FA_OK);
	}
}

static int
make_directory(void **state)
{
	(void) state;
	return mkdtemp(directory) == NULL;
}

static int
remove_directory(void **state)
{
	char command[100];

	(void) state;
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back), cmocka_unit_test(orientation),
		cmocka_unit_test(truncated),      cmocka_unit_test(damaged),
		cmocka_unit_test(refused),        cmocka_unit_test(interrupted),
		cmocka_unit_test(live),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
