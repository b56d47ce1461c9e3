/*
 * gpu_paths.c
 *		The half of `make gpu-check` that takes the ways of sessions and of the service: photos in
 *		and faces out, crops that the device cuts out, a stream of batches, packed weights, plans
 *		kept in a directory.
 */
#include "gpu.h"

#include "../src/face/face.h"
#include "random_weights.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCHES 6
#define LARGEST 70 /* images of a batch, which is more than go at once */

/* --- Photos ------------------------------------------------------------------------------------
 */

static uint8_t *
read_photo(const char *name, size_t *length)
{
	char path[256];
	uint8_t *bytes = malloc(4 << 20);
	FILE *file;

	snprintf(path, sizeof(path), "demo/photos/%s", name);
	file = fopen(path, "rb");
	if (file == NULL || bytes == NULL)
	{
		fprintf(stderr, "%s cannot be read\n", path);
		exit(1);
	}
	*length = fread(bytes, 1, 4 << 20, file);
	fclose(file);
	return bytes;
}

static fa_pipeline *
open_pipeline(const fa_engine_interface *interface)
{
	fa_pipeline *pipeline;

	must(fa_pipeline_open(interface, NULL, FA_PRECISION_FP32, "weights",
						  "weights/default.safetensors", &pipeline, &error),
		 &error);
	return pipeline;
}

/* What differs most between two sets of faces. */
typedef struct differences
{
	int others;         /* faces that only one has, or of another gender or race */
	double place;       /* of a corner, by the face's width */
	double age;         /* years */
	double probability; /* or score */
} differences;

static void
compare_faces(const fa_faces *found, const fa_faces *expected, differences *d)
{
	int count = found->count < expected->count ? found->count : expected->count;

	d->others += abs(found->count - expected->count);
	for (int i = 0; i < count; i++)
	{
		const fa_face *f = &found->faces[i], *e = &expected->faces[i];
		double width = e->box.x2 - e->box.x1;

		d->others += f->gender != e->gender || f->race != e->race;
		d->place = fmax(d->place, fabs(f->box.x1 - e->box.x1) / width);
		d->place = fmax(d->place, fabs(f->box.y2 - e->box.y2) / width);
		d->age = fmax(d->age, fabs((double) f->age - (double) e->age));
		d->probability = fmax(d->probability, fabs((double) f->score - (double) e->score));
		d->probability = fmax(d->probability,
							  fabs((double) f->gender_confidence - (double) e->gender_confidence));
		d->probability =
			fmax(d->probability, fabs((double) f->race_confidence - (double) e->race_confidence));
	}
}

/*
 * The faces of the demo's photos in fp32: found, cut out and looked at on the device, by a
 * pipeline of its own and by one from packed weights. The device scales a photo within a level of
 * 256 of what the host makes of it, which moves a box by less than a pixel of the canvas, where
 * the smallest face has ten, and mostly by next to nothing; crops differ by as much.
 */
static void
check_photos(void)
{
	static const char *const names[] = {"portrait.jpg",     "cat.jpg",      "grey.jpg",
										"turned-phone.jpg", "close-up.jpg", "tilted.png"};
	fa_pipeline *host = open_pipeline(&fa_cpu_engine), *own = open_pipeline(gpu), *packed;
	fa_face_options options = fa_pipeline_options(host);
	differences d = {0, 0, 0, 0};
	size_t length;
	void *block;
	int faces = 0;

	if (small)
		options.detect_size = 192;
	must(fa_pipeline_pack(own, &block, &length, &error), &error);
	must(fa_pipeline_open_packed(gpu, NULL, FA_PRECISION_FP32, block, length, &packed, &error),
		 &error);
	for (int i = 0; i < (small ? 2 : 6); i++)
	{
		uint8_t *photo = read_photo(names[i], &length);
		fa_faces expected, found;

		must(fa_find_faces(host, photo, length, &options, true, &expected, NULL, &error), &error);
		faces += expected.count;
		for (int turn = 0; turn < 2; turn++)
		{
			must(fa_find_faces(turn == 0 ? own : packed, photo, length, &options, true, &found,
							   NULL, &error),
				 &error);
			compare_faces(&found, &expected, &d);
			fa_faces_free(&found);
		}
		fa_faces_free(&expected);
		free(photo);
	}
	verdict(faces >= (small ? 1 : 5), "the demo's photos: faces, at least", faces, small ? 1 : 5);
	verdict(d.others == 0, "... that are another's", d.others, 0);
	verdict(d.place <= 0.02, "... corners, in widths", d.place, 0.02);
	verdict(d.age <= 0.5, "... ages, in years", d.age, 0.5);
	verdict(d.probability <= 0.02, "... scores and probabilities", d.probability, 0.02);
	fa_pipeline_close(packed);
	fa_pipeline_close(own);
	fa_pipeline_close(host);
	free(block);
}

/* --- A model's other ways ------------------------------------------------------------------------
 */

/* A network with random weights and a batch for it. */
typedef struct scene
{
	fa_net net;
	fa_weights weights;
	fa_batch batch;
	float **outputs, **expected;
} scene;

static scene
begin(const char *name, int count, int side)
{
	scene s = {.batch = {count, side, side, noise((size_t) count * side * side * 3)}};

	build(name, &s.net);
	s.weights = random_weights(&s.net);
	s.outputs = make_outputs(&s.net, &s.batch);
	s.expected = make_outputs(&s.net, &s.batch);
	return s;
}

static void
end(scene *s)
{
	free_outputs(&s->net, s->outputs);
	free_outputs(&s->net, s->expected);
	fa_weights_free(&s->weights);
	fa_net_free(&s->net);
	free((void *) s->batch.pixels);
}

static double
worst(const scene *s)
{
	double most = 0;

	for (int i = 0; i < s->net.output_count; i++)
	{
		size_t each = output_size(&s->net, i, s->batch.height, s->batch.width);

		most = fmax(most,
					difference(s->outputs[i], s->expected[i], each, s->batch.count, each <= 101));
	}
	return most;
}

/* To the last bit: the same plans have done it. */
static bool
same(const scene *s)
{
	for (int i = 0; i < s->net.output_count; i++)
		if (memcmp(s->outputs[i], s->expected[i],
				   output_size(&s->net, i, s->batch.height, s->batch.width) *
					   (size_t) s->batch.count * sizeof(float)) != 0)
			return false;
	return true;
}

/* Crops of one picture, turned, shrunk and enlarged: cut out by fa_warp for the CPU. */
static void
check_warped(void)
{
	int side = small ? 33 : 224, count = small ? 3 : LARGEST, wide = 2 * side;
	scene s = begin("mobilenet_v1", count, side);
	fa_image picture = {wide, wide, 3 * (size_t) wide, noise((size_t) wide * wide * 3)};
	fa_warped *crops = calloc((size_t) count, sizeof(fa_warped));
	fa_model *model;

	for (int i = 0; i < count && crops != NULL; i++)
	{
		double scale = 0.4 + 2.0 * i / count, angle = i;
		fa_affine map = {scale * cos(angle), -scale * sin(angle), side,
						 scale * sin(angle), scale * cos(angle),  side};
		fa_image crop = {side, side, 3 * (size_t) side,
						 (uint8_t *) s.batch.pixels + (size_t) i * side * side * 3};

		crops[i] = (fa_warped){&picture, map};
		must(fa_warp(&picture, map, &crop, &error), &error);
	}
	must(fa_cpu_engine.load(cpu, &s.net, &s.weights, FA_PRECISION_FP32, &model, &error), &error);
	run(&fa_cpu_engine, model, &s.batch, s.expected);
	fa_cpu_engine.unload(model);
	must(gpu->load(engine, &s.net, &s.weights, FA_PRECISION_FP32, &model, &error), &error);
	for (int turn = 0; turn < 3; turn++)
		must(gpu->run_warped(model, crops, count, side, side, s.outputs, NULL, &error), &error);
	/* pixels may differ by a level of 256, hardly more than fp16's last bit of them */
	verdict(worst(&s) <= 2e-2, "crops that the device cuts out", worst(&s), 2e-2);
	gpu->unload(model);
	free(crops);
	free(picture.pixels);
	end(&s);
}

/* Batches of a block of images, one after the other. */
typedef struct river
{
	const scene *of;
	int given, done, images;
	float *outputs[BATCHES][FA_MAX_OUTPUTS];
} river;

static const int counts[BATCHES] = {16, 16, 3, 32, 2, 1};

static bool
give_next(void *argument, fa_batch *batch, float *const **outputs, bool (*busy)(void *device),
		  void *device)
{
	river *r = argument;
	const scene *s = r->of;
	int count = r->given < BATCHES ? counts[r->given] : 0;

	(void) busy;
	(void) device;
	if (r->given == BATCHES || r->images + count > s->batch.count)
		return false;
	*batch =
		(fa_batch){count, s->batch.height, s->batch.width,
				   s->batch.pixels + (size_t) r->images * s->batch.height * s->batch.width * 3};
	for (int i = 0; i < s->net.output_count; i++)
		r->outputs[r->given][i] =
			s->outputs[i] +
			(size_t) r->images * output_size(&s->net, i, s->batch.height, s->batch.width);
	*outputs = r->outputs[r->given++];
	r->images += count;
	return true;
}

static void
note_done(void *argument)
{
	((river *) argument)->done++;
}

/* A stream's batches have the very answers that they have one by one. */
static void
check_stream(void)
{
	int side = small ? 33 : 200;
	scene s = begin(small ? "mobilenet_v1" : "resnet50", small ? 35 : LARGEST, side);
	river r = {.of = &s};
	fa_stream stream = {give_next, note_done, &r};
	fa_model *model;

	must(gpu->load(engine, &s.net, &s.weights, FA_PRECISION_AUTO, &model, &error), &error);
	for (int turn = 0; turn < 3; turn++)
	{
		r = (river){.of = &s};
		must(gpu->run_stream(model, &stream, NULL, &error), &error);
	}
	s.batch.count = r.images;
	for (int i = 0, first = 0; i < r.given; first += counts[i++])
	{
		fa_batch one = {counts[i], side, side, s.batch.pixels + (size_t) first * side * side * 3};
		float *outputs[FA_MAX_OUTPUTS];

		for (int k = 0; k < s.net.output_count; k++)
			outputs[k] = s.expected[k] + (size_t) first * output_size(&s.net, k, side, side);
		run(gpu, model, &one, outputs);
	}
	verdict(r.given > 2 && r.done == r.given && same(&s), "a stream of batches: the same bits",
			worst(&s), 0);
	gpu->unload(model);
	end(&s);
}

/* Packed, at another place in memory, and on another engine: the same weights. */
static void
check_packed(void)
{
	scene s = begin("mobilenet_v1", 2, small ? 33 : 224);
	fa_model *model, *again;
	void *block, *copy;
	size_t length;

	must(gpu->load(engine, &s.net, &s.weights, FA_PRECISION_AUTO, &model, &error), &error);
	must(gpu->pack(model, s.batch.height, s.batch.width, &block, &length, &error), &error);
	run(gpu, model, &s.batch, s.expected);
	gpu->unload(model);
	copy = aligned_alloc(64, (length + 63) / 64 * 64);
	if (copy == NULL)
		exit(1);
	memcpy(copy, block, length);
	free(block);
	must(gpu->load_packed(engine, &s.net, FA_PRECISION_AUTO, copy, length, &again, &error), &error);
	run(gpu, again, &s.batch, s.outputs);
	verdict(same(&s), "packed weights: the same bits", worst(&s), 0);
	gpu->unload(again);
	free(copy);
	end(&s);
}

/* The one file in a directory; false: there is none, or there are several. */
static bool
only_file(const char *directory, char path[512], struct stat *info)
{
	DIR *dir = opendir(directory);
	struct dirent *e;
	int count = 0;

	while (dir != NULL && (e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.')
		{
			snprintf(path, 512, "%s/%s", directory, e->d_name);
			count++;
		}
	if (dir != NULL)
		closedir(dir);
	return count == 1 && stat(path, info) == 0;
}

/*
 * A second engine reads the plans that the first has kept, finds nothing to add (the file is not
 * replaced), and so gives the same bits.
 */
static void
check_plans(void)
{
	char directory[] = "/tmp/faceattr-plans-XXXXXX", path[512] = "";
	scene s = begin("mobilenet_v1", small ? 1 : 16, small ? 33 : 224);
	struct stat before = {0}, after = {0};
	bool kept = true;

	if (mkdtemp(directory) == NULL)
		exit(1);
	for (int turn = 0; turn < 2; turn++)
	{
		const fa_engine_options options = {.plan_cache = directory};
		fa_engine *other;
		fa_model *model;

		must(gpu->open(&options, &other, &error), &error);
		must(gpu->load(other, &s.net, &s.weights, FA_PRECISION_AUTO, &model, &error), &error);
		run(gpu, model, &s.batch, turn == 0 ? s.expected : s.outputs);
		gpu->unload(model);
		gpu->close(other);
		kept = only_file(directory, path, turn == 0 ? &before : &after) && kept;
	}
	verdict(kept, "plans are kept in one file", kept, 1);
	verdict(before.st_ino == after.st_ino && before.st_mtime == after.st_mtime,
			"... and read again", before.st_ino == after.st_ino, 1);
	verdict(same(&s), "... with the same bits", worst(&s), 0);
	unlink(path);
	rmdir(directory);
	end(&s);
}

void
check_paths(void)
{
	check_warped();
	check_stream();
	check_packed();
	check_plans();
	check_photos();
}
