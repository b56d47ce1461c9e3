/*
 * photos.c
 *		How long photos take, on one core, and how much of that is decoding:
 *		a small photo by stages, and large ones beside libjpeg-turbo alone.
 *
 * Photos are made of the demo's portrait, on a canvas, with the noise of a sensor
 * so that files are as large as a camera's.
 *
 *	build/bench/photos DIRECTORY_OF_WEIGHTS
 */
#include "timing.h"

#include "../src/face/detector.h"
#include "../src/face/face.h"
#include "../src/vision/warp.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include <jpeglib.h>

#define TRIES 101
#define LARGE 50 /* photos */
#define LARGE_TRIES 3

/* --- Photos to measure with ------------------------------------------------------ */

typedef struct scene
{
	int width, height;
	int people;      /* 1 ... 4, side by side */
	double portrait; /* side of each portrait, in pixels; the face is a quarter of it high */
	unsigned seed;   /* of positions and noise */
	double noise;    /* amplitude, in steps of 0 ... 255 */
} scene;

/* A file's bytes, malloc'ed. */
static unsigned char *
read_bytes(const char *path, size_t *length)
{
	FILE *file = fopen(path, "rb");
	unsigned char *bytes;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) <= 0)
	{
		perror(path);
		exit(1);
	}
	rewind(file);
	bytes = malloc((size_t) size);
	if (bytes == NULL || fread(bytes, 1, (size_t) size, file) != (size_t) size)
	{
		perror(path);
		exit(1);
	}
	fclose(file);
	*length = (size_t) size;
	return bytes;
}

/* demo/photos/portrait.jpg, decoded. */
static fa_image
read_portrait(void)
{
	size_t length;
	unsigned char *bytes = read_bytes("demo/photos/portrait.jpg", &length);
	fa_photo photo;
	fa_view view;
	fa_error error;

	must(fa_photo_open(&photo, bytes, length, INT64_MAX, &error), &error);
	must(fa_photo_decode(&photo, 8, &view, NULL, &error), &error);
	free(bytes);
	return view.image;
}

/* xorshift32 (Marsaglia 2003): 0 ... 1 */
static double
random_number(unsigned *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state / 4294967296.0;
}

/* The scene as JPEG of quality 90, malloc'ed. */
static unsigned char *
make_scene(const scene *what, const fa_image *portrait, size_t *length)
{
	unsigned state = what->seed * 2654435761u + 1;
	int side = (int) what->portrait;
	fa_image canvas, person;
	unsigned char *bytes;
	fa_error error;

	must(fa_image_alloc(&canvas, what->width, what->height, &error), &error);
	must(fa_image_alloc(&person, side, side, &error), &error);
	must(fa_letterbox(portrait, side, side, &person, 0, &error), &error);

	/* A wall with soft stripes, so that a decoder meets low frequencies everywhere. */
	for (int y = 0; y < canvas.height; y++)
		for (int x = 0; x < canvas.width; x++)
			for (int c = 0; c < 3; c++)
				canvas.pixels[(size_t) y * canvas.stride + 3 * (size_t) x + c] =
					(uint8_t) (120 + 20 * c + 30 * sin(x * 0.01 + c) + 20 * cos(y * 0.013));
	for (int i = 0; i < what->people; i++)
	{
		int room_x = canvas.width / what->people - side, room_y = canvas.height - side;
		int x = i * canvas.width / what->people +
				(int) (random_number(&state) * (room_x > 0 ? room_x : 0));
		int y = (int) (random_number(&state) * (room_y > 0 ? room_y : 0));
		int rows = side < canvas.height - y ? side : canvas.height - y;
		int columns = side < canvas.width - x ? side : canvas.width - x;

		for (int row = 0; row < rows; row++)
			memcpy(canvas.pixels + (size_t) (y + row) * canvas.stride + 3 * (size_t) x,
				   person.pixels + (size_t) row * person.stride, 3 * (size_t) columns);
	}
	for (size_t i = 0; i < (size_t) canvas.height * canvas.stride; i++)
	{
		double value =
			canvas.pixels[i] + what->noise * (random_number(&state) + random_number(&state) - 1);

		canvas.pixels[i] = (uint8_t) fmin(fmax(value, 0), 255);
	}
	must(fa_photo_encode(&canvas, FA_FORMAT_JPEG, 90, &bytes, length, NULL, &error), &error);
	fa_image_free(&canvas);
	fa_image_free(&person);
	return bytes;
}

/* --- Measurements ----------------------------------------------------------------- */

static int
find(fa_pipeline *pipeline, const unsigned char *bytes, size_t length, bool classify)
{
	fa_face_options options = fa_default_options();
	fa_faces faces;
	fa_error error;
	int count;

	must(fa_find_faces(pipeline, bytes, length, &options, classify, &faces, NULL, &error), &error);
	count = faces.count;
	fa_faces_free(&faces);
	return count;
}

static void
decode(const unsigned char *bytes, size_t length)
{
	fa_photo photo;
	fa_view view;
	fa_error error;

	must(fa_photo_open(&photo, bytes, length, INT64_MAX, &error), &error);
	must(fa_photo_decode(&photo, fa_detector_eighths(&photo, 640), &view, NULL, &error), &error);
	fa_image_free(&view.image);
}

/* What any program would do to decode at 2/8, and no more. */
static void
libjpeg_alone(const unsigned char *bytes, size_t length)
{
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	unsigned char *row;

	jpeg.err = jpeg_std_error(&errors); /* exits on errors, of which our own files have none */
	jpeg_create_decompress(&jpeg);
	jpeg_mem_src(&jpeg, bytes, length);
	jpeg_read_header(&jpeg, TRUE);
	jpeg.scale_num = 2;
	jpeg.scale_denom = 8;
	jpeg_start_decompress(&jpeg);
	row = malloc((size_t) jpeg.output_width * jpeg.output_components);
	while (jpeg.output_scanline < jpeg.output_height)
		jpeg_read_scanlines(&jpeg, &row, 1);
	jpeg_finish_decompress(&jpeg);
	jpeg_destroy_decompress(&jpeg);
	free(row);
}

static void
small_photo(fa_pipeline *pipeline, const fa_image *portrait)
{
	scene what = {.width = 640, .height = 480, .people = 1, .portrait = 480, .seed = 1, .noise = 8};
	double decoding[TRIES] = {0}, detecting[TRIES] = {0}, all[TRIES] = {0}, start;
	double d, f, t;
	size_t length;
	unsigned char *bytes = make_scene(&what, portrait, &length);
	int faces = find(pipeline, bytes, length, true);

	for (int i = 0; i < TRIES; i++)
	{
		start = now();
		decode(bytes, length);
		decoding[i] = now() - start;
		start = now();
		find(pipeline, bytes, length, false);
		detecting[i] = now() - start;
		start = now();
		find(pipeline, bytes, length, true);
		all[i] = now() - start;
	}
	d = median(decoding, TRIES);
	f = median(detecting, TRIES);
	t = median(all, TRIES);
	printf("640 x 480, %d face, %zu kB: decode %.1f ms, detect %.1f ms, classify %.1f ms, total "
		   "%.1f ms\n",
		   faces, length / 1024, d, f - d, t - f, t);
	free(bytes);
}

/* people 0: one to four, by turns */
static void
large_photos(fa_pipeline *pipeline, const fa_image *portrait, int people)
{
	double alone = 0, detection = 0, ours = 0, size = 0;
	int faces = 0;

	for (int i = 0; i < LARGE; i++)
	{
		int n = people > 0 ? people : 1 + i % 4;
		scene what = {.width = 4000,
					  .height = 3000,
					  .people = n,
					  .portrait = 300 + (i * 37 % 50) / 49.0 *
											(4000.0 / n - 300 < 2700 ? 4000.0 / n - 300 : 2700),
					  .seed = 100 + i,
					  .noise = 8};
		size_t length;
		unsigned char *bytes = make_scene(&what, portrait, &length);
		double a[LARGE_TRIES] = {0}, b[LARGE_TRIES] = {0}, c[LARGE_TRIES] = {0}, start;

		size += (double) length;
		faces += find(pipeline, bytes, length, true); /* compiles for this size */
		for (int k = 0; k < LARGE_TRIES; k++)
		{
			start = now();
			libjpeg_alone(bytes, length);
			a[k] = now() - start;
			start = now();
			find(pipeline, bytes, length, false);
			b[k] = now() - start;
			start = now();
			find(pipeline, bytes, length, true);
			c[k] = now() - start;
		}
		alone += median(a, LARGE_TRIES);
		detection += median(b, LARGE_TRIES);
		ours += median(c, LARGE_TRIES);
		free(bytes);
	}
	printf("%d photos of 12 MP, %.1f MB and %.1f faces each: %.1f ms a photo, of which decoding "
		   "and detection %.1f "
		   "ms; libjpeg-turbo at 2/8 alone %.1f ms: %.2f x\n",
		   LARGE, size / LARGE / 1e6, (double) faces / LARGE, ours / LARGE, detection / LARGE,
		   alone / LARGE, ours / alone);
}

int
main(int argc, char **argv)
{
	fa_pipeline *pipeline;
	fa_image portrait = read_portrait();
	char path[4096];
	fa_error error;

	if (argc != 2)
	{
		fprintf(stderr, "usage: %s DIRECTORY_OF_WEIGHTS\n", argv[0]);
		return 2;
	}
	snprintf(path, sizeof(path), "%s/default.safetensors", argv[1]);
	must(
		fa_pipeline_open(&fa_cpu_engine, NULL, FA_PRECISION_AUTO, argv[1], path, &pipeline, &error),
		&error);
	printf("precision: %s\n",
		   fa_pipeline_precision(pipeline) == FA_PRECISION_BF16 ? "bf16" : "fp32");
	small_photo(pipeline, &portrait);
	large_photos(pipeline, &portrait, 1);
	large_photos(pipeline, &portrait, 0);
	fa_pipeline_close(pipeline);
	fa_image_free(&portrait);
	return 0;
}
