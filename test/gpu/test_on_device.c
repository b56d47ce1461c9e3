/*
 * test_on_device.c
 *		Whole pipelines on the emulated device: weights in a block that processes share,
 *		photos that are scaled, cut and searched on the device as the CPU does it.
 */
#include "device_test.h"

#include "../../gpu/kernels.h"
#include "../../gpu/program.h"
#include "../../src/face/face.h"
#include "../../src/face/nms.h"
#include "../unit/pictures.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

static int
setup(void **state)
{
	(void) state;
	reset_device();
	return 0;
}

/* --- Packed weights --------------------------------------------------------------------- */

/* A copy that ends where memory that cannot be read begins; itself it cannot be written. */
typedef struct copy
{
	char *map, *bytes;
	size_t map_length;
} copy;

static copy
read_only_copy(const void *bytes, size_t length)
{
	size_t pages = (length + 4095) / 4096 * 4096;
	copy c = {.map_length = pages + 4096};

	c.map = mmap(NULL, c.map_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(c.map != MAP_FAILED);
	c.bytes = c.map + pages - (length + 63) / 64 * 64;
	memcpy(c.bytes, bytes, length);
	assert_int_equal(mprotect(c.map, pages, PROT_READ), 0);
	assert_int_equal(mprotect(c.map + pages, 4096, PROT_NONE), 0);
	return c;
}

static void
test_packed(void **state)
{
	static const fa_precision precisions[] = {FA_PRECISION_FP32, FA_PRECISION_TF32,
											  FA_PRECISION_FP16, FA_PRECISION_BF16};
	fa_engine *engine = open_engine(NULL);
	fa_net net;

	(void) state;
	small_net(&net);
	for (int i = 0; i < LENGTH(precisions); i++)
	{
		fa_model *own = load_small(engine, precisions[i]), *shared;
		float *expected = run_small(own, 3), *values;
		fa_error error;
		size_t length;
		void *block;
		copy c;

		assert_int_equal(cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error), FA_OK);
		c = read_only_copy(block, length);
		free(block);
		assert_int_equal(
			cuda()->load_packed(engine, &net, precisions[i], c.bytes, length, &shared, &error),
			FA_OK);
		munmap(c.map, c.map_length); /* it is on the device */
		values = run_small(shared, 3);
		assert_memory_equal(values, expected, 3 * SMALL_VALUES * sizeof(float));
		free(values);
		free(expected);
		cuda()->unload(own);
		cuda()->unload(shared);
	}
	fa_net_free(&net);
	close_engine(engine);
}

static fa_status
open_part(fa_engine *engine, const fa_net *net, fa_precision precision, const void *bytes,
		  size_t length)
{
	copy c = read_only_copy(bytes, length);
	fa_model *model;
	fa_error error = {0};
	fa_status status = cuda()->load_packed(engine, net, precision, c.bytes, length, &model, &error);

	assert_int_equal(status, error.status);
	if (status == FA_OK)
		cuda()->unload(model);
	munmap(c.map, c.map_length);
	return status;
}

static void
test_packed_refusals(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *own = load_small(engine, FA_PRECISION_FP32);
	fa_net net, other;
	fa_error error;
	size_t length;
	void *block;
	char *bytes;

	(void) state;
	small_net(&net);
	small_net(&other);
	other.ops[1].pad_begin = 1;
	assert_int_equal(cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error), FA_OK);
	bytes = block;
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length), FA_OK);
	assert_int_equal(open_part(engine, &other, FA_PRECISION_FP32, bytes, length), FA_DAMAGED);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP16, bytes, length), FA_DAMAGED);
	/* fp32's weights are tf32's */
	assert_int_equal(open_part(engine, &net, FA_PRECISION_TF32, bytes, length), FA_OK);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, 0), FA_UNSUPPORTED);
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, 63), FA_UNSUPPORTED);
	for (size_t cut = 1; cut < length - 64; cut += length / 37)
		assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length - cut),
						 FA_DAMAGED);
	/* any byte of the header */
	for (int at = 0; at < 40; at++)
	{
		bytes[at] ^= 0x40;
		assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length),
						 at < 16 ? FA_UNSUPPORTED : FA_DAMAGED);
		bytes[at] ^= 0x40;
	}
	/* both lengths, so that they agree */
	((uint64_t *) block)[2] -= 256;
	((uint64_t *) block)[4] -= 256;
	assert_int_equal(open_part(engine, &net, FA_PRECISION_FP32, bytes, length), FA_DAMAGED);
	free(block);
	cuda()->unload(own);
	fa_net_free(&net);
	fa_net_free(&other);
	close_engine(engine);
}

/* Each call fails once, in turn. */
static void
test_packed_failures(void **state)
{
	int alive, errors = 0;
	fa_net net;

	(void) state;
	small_net(&net);
	for (int n = 1;; n++)
	{
		fa_engine *engine;
		fa_model *own, *shared = NULL;
		fa_error error = {0};
		fa_status status;
		size_t length;
		void *block;

		emulated_fail(0);
		engine = open_engine(NULL);
		own = load_small(engine, FA_PRECISION_FP16);
		alive = emulated_alive();
		emulated_fail(n);
		status = cuda()->pack(own, SMALL_SIDE, SMALL_SIDE, &block, &length, &error);
		if (status == FA_OK)
		{
			status = cuda()->load_packed(engine, &net, FA_PRECISION_FP16, block, length, &shared,
										 &error);
			free(block);
			cuda()->unload(shared);
		}
		assert_true(status == FA_OK || status == error.status);
		assert_int_equal(emulated_alive(), alive);
		errors += status != FA_OK;
		cuda()->unload(own);
		close_engine(engine);
		if (emulated_failed() == NULL)
			break;
	}
	assert_true(errors >= 5);
	emulated_fail(0);
	fa_net_free(&net);
}

/* --- Scaling and cutting ------------------------------------------------------------------ */

static fa_image
noise(int width, int height, uint64_t seed)
{
	fa_image image;
	fa_error error;

	assert_int_equal(fa_image_alloc(&image, width, height, &error), FA_OK);
	for (size_t i = 0; i < image.stride * (size_t) height; i++)
		image.pixels[i] = (uint8_t) random_u32(&seed);
	return image;
}

/* Bytes on the device, from an image and for a result. */
typedef struct bench
{
	cudaStream_t stream;
	fa_gpu_image image;
	uint8_t *result;
	size_t size;
} bench;

static bench
put_up(const fa_image *image, size_t size)
{
	size_t bytes = (size_t) (image->height - 1) * image->stride + 3 * (size_t) image->width;
	bench b = {.image = {NULL, image->stride, image->width, image->height}, .size = size};

	assert_int_equal(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking), cudaSuccess);
	assert_int_equal(cudaMalloc((void **) &b.image.pixels, bytes), cudaSuccess);
	assert_int_equal(cudaMalloc((void **) &b.result, size), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync((void *) b.image.pixels, image->pixels, bytes,
									 cudaMemcpyHostToDevice, b.stream),
					 cudaSuccess);
	return b;
}

static uint8_t *
take_down(bench *b)
{
	uint8_t *bytes = malloc(b->size);

	assert_int_equal(cudaMemcpyAsync(bytes, b->result, b->size, cudaMemcpyDeviceToHost, b->stream),
					 cudaSuccess);
	assert_int_equal(cudaStreamSynchronize(b->stream), cudaSuccess);
	cudaFree((void *) b->image.pixels);
	cudaFree(b->result);
	cudaStreamDestroy(b->stream);
	return bytes;
}

static void
test_letterbox(void **state)
{
	static const int sizes[][4] = {{64, 48, 32, 24}, {64, 48, 31, 23},   {37, 51, 36, 50},
								   {37, 51, 1, 1},   {5, 7, 23, 41},     {1, 1, 9, 4},
								   {50, 20, 20, 50}, {1, 40, 3, 7},      {100, 3, 7, 3},
								   {90, 70, 89, 70}, {300, 200, 13, 9},  {40, 30, 80, 60},
								   {2, 2, 3, 3},     {640, 33, 639, 32}, {33, 33, 33, 33}};

	(void) state;
	for (int i = 0; i < LENGTH(sizes); i++)
	{
		fa_image source = noise(sizes[i][0], sizes[i][1], i + 1), canvas, inner;
		fa_detect_pass pass = {.canvas_width = (sizes[i][2] + 36) / 32 * 32,
							   .canvas_height = (sizes[i][3] + 36) / 32 * 32,
							   .x = i % 4,
							   .y = i % 3,
							   .width = sizes[i][2],
							   .height = sizes[i][3],
							   .fill = 114};
		bench b = put_up(&source, 3 * (size_t) pass.canvas_width * pass.canvas_height);
		uint8_t *seen;
		fa_error error;

		assert_int_equal(fa_gpu_letterbox(&b.image, &pass, b.result, b.stream, &error), FA_OK);
		seen = take_down(&b);
		assert_int_equal(fa_image_alloc(&canvas, pass.canvas_width, pass.canvas_height, &error),
						 FA_OK);
		memset(canvas.pixels, 114, canvas.stride * (size_t) canvas.height);
		inner = canvas;
		inner.pixels += pass.y * canvas.stride + 3 * (size_t) pass.x;
		inner.width = pass.width;
		inner.height = pass.height;
		assert_int_equal(fa_letterbox(&source, pass.width, pass.height, &inner, 0, &error), FA_OK);
		for (size_t k = 0; k < b.size; k++)
			if (abs(seen[k] - canvas.pixels[k]) > 1)
				fail_msg("size %d: byte %zu is %d, not %d", i, k, seen[k], canvas.pixels[k]);
		free(seen);
		fa_image_free(&canvas);
		fa_image_free(&source);
	}
}

static fa_affine
random_map(uint64_t *seed, double least, double most)
{
	double scale = least * pow(most / least, random_u32(seed) % 1000 / 1000.0);
	double angle = random_u32(seed) % 6283 / 1000.0;

	return (fa_affine){.a = scale * cos(angle),
					   .b = -scale * sin(angle),
					   .c = (int) (random_u32(seed) % 120) - 20,
					   .d = scale * sin(angle),
					   .e = scale * cos(angle),
					   .f = random_u32(seed) % 1000 / 10.0 - 20};
}

static void
test_warp(void **state)
{
	fa_image source = noise(70, 50, 9);
	uint64_t seed = 17;

	(void) state;
	for (int i = 0; i < 40; i++)
	{
		int count = i % 2 ? 3 : 1, width = 21 + i % 5, height = 17;
		size_t each = 3 * (size_t) width * height;
		bench b = put_up(&source, count * each);
		fa_gpu_crop crops[3];
		fa_affine maps[3];
		uint8_t *seen;
		fa_error error;

		for (int k = 0; k < count; k++)
		{
			fa_affine m = maps[k] = random_map(&seed, 0.05, 5);

			crops[k] = (fa_gpu_crop){
				.source = b.image, .a = m.a, .b = m.b, .c = m.c, .d = m.d, .e = m.e, .f = m.f};
			assert_int_equal(fa_warp_samples(m, width, height, &crops[k].samples, &error), FA_OK);
		}
		assert_int_equal(fa_gpu_warp(crops, count, height, width, b.result, b.stream, &error),
						 FA_OK);
		seen = take_down(&b);
		for (int k = 0; k < count; k++)
		{
			fa_image crop;

			assert_int_equal(fa_image_alloc(&crop, width, height, &error), FA_OK);
			assert_int_equal(fa_warp(&source, maps[k], &crop, &error), FA_OK);
			for (size_t at = 0; at < each; at++)
				if (abs(seen[k * each + at] - crop.pixels[at]) > 1)
					fail_msg("warp %d, crop %d: byte %zu is %d, not %d", i, k, at,
							 seen[k * each + at], crop.pixels[at]);
			fa_image_free(&crop);
		}
		free(seen);
	}
	fa_image_free(&source);
}

/* Crops of two pictures, more than fit one part, against crops that the CPU cuts. */
#define CROPS 70

static void
test_run_warped(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);
	fa_image pictures[2] = {noise(70, 50, 9), noise(33, 90, 10)};
	uint8_t *pixels = malloc(CROPS * 3 * SMALL_SIDE * SMALL_SIDE);
	static float values[CROPS * SMALL_VALUES], expected[CROPS * SMALL_VALUES];
	fa_warped crops[CROPS];
	fa_batch batch = {CROPS, SMALL_SIDE, SMALL_SIDE, pixels};
	uint64_t seed = 3;
	fa_error error;

	(void) state;
	for (int i = 0; i < CROPS; i++)
	{
		fa_image crop = {SMALL_SIDE, SMALL_SIDE, 3 * SMALL_SIDE,
						 pixels + (size_t) i * 3 * SMALL_SIDE * SMALL_SIDE};

		crops[i] = (fa_warped){&pictures[i / 5 % 2], random_map(&seed, 0.3, 3)};
		assert_int_equal(fa_warp(crops[i].source, crops[i].map, &crop, &error), FA_OK);
	}
	assert_int_equal(cuda()->run(model, &batch, (float *[]){expected}, NULL, &error), FA_OK);
	for (int count = 1; count <= CROPS; count += 23)
		for (int turn = 0; turn < 2; turn++)
		{
			assert_int_equal(cuda()->run_warped(model, crops, count, SMALL_SIDE, SMALL_SIDE,
												(float *[]){values}, NULL, &error),
							 FA_OK);
			assert_close(values, expected, count, 2e-2); /* pixels differ by a level */
		}
	crops[2].map.c = 1e12;
	assert_int_equal(cuda()->run_warped(model, crops, 3, SMALL_SIDE, SMALL_SIDE,
										(float *[]){values}, NULL, &error),
					 FA_INVALID);
	assert_int_equal(cuda()->run_warped(model, crops, 0, SMALL_SIDE, SMALL_SIDE,
										(float *[]){values}, NULL, &error),
					 FA_INVALID);
	for (int i = 0; i < 2; i++)
		fa_image_free(&pictures[i]);
	free(pixels);
	cuda()->unload(model);
	close_engine(engine);
}

/* What only a very large picture needs is given back. */
static void
test_large_picture(void **state)
{
	fa_engine *engine = open_engine(NULL);
	fa_model *model = load_small(engine, FA_PRECISION_FP32);
	fa_image picture = {5000, 4600, 3 * 5000, calloc(4600, 3 * 5000)};
	fa_warped crop = {&picture, {.a = 1, .c = 4900, .e = 1, .f = 4500}};
	float values[SMALL_VALUES];
	fa_error error;

	(void) state;
	for (int turn = 0; turn < 2; turn++)
	{
		assert_int_equal(cuda()->run_warped(model, &crop, 1, SMALL_SIDE, SMALL_SIDE,
											(float *[]){values}, NULL, &error),
						 FA_OK);
		assert_true(engine->memory.used < 1 << 20);
	}
	free(picture.pixels);
	cuda()->unload(model);
	close_engine(engine);
}

/* --- Detection --------------------------------------------------------------------------- */

static fa_model *
load_detector(fa_engine *engine, int outputs[FA_DETECT_LEVELS][4])
{
	static const char *const kinds[4] = {"cls", "obj", "bbox", "kps"};
	fa_weights weights = {0};
	fa_model *model;
	fa_error error;
	fa_net net;

	assert_int_equal(fa_net_yunet_n(&net, &error), FA_OK);
	assert_int_equal(fa_weights_read(&weights, "weights/yunet_n.safetensors", &error), FA_OK);
	assert_int_equal(cuda()->load(engine, &net, &weights, FA_PRECISION_FP32, &model, &error),
					 FA_OK);
	for (int level = 0; level < FA_DETECT_LEVELS; level++)
		for (int k = 0; k < 4; k++)
		{
			char name[16];

			snprintf(name, sizeof(name), "%s_%d", kinds[k], 8 << level);
			outputs[level][k] = fa_net_find_output(&net, name);
		}
	fa_weights_free(&weights);
	fa_net_free(&net);
	return model;
}

/* The passes' maps by `run`, read and thinned out on the CPU. */
static int
expect_detections(fa_model *model, const fa_image *photo, const fa_detect_request *r,
				  fa_detection *found, int *candidates)
{
	int count = 0;
	fa_error error;

	for (int i = 0; i < r->pass_count; i++)
	{
		const fa_detect_pass *p = &r->passes[i];
		int cells = p->canvas_width * p->canvas_height / 64;
		float *maps[FA_MAX_OUTPUTS] = {NULL};
		fa_image canvas, inner;
		fa_batch batch = {1, p->canvas_height, p->canvas_width, NULL};

		assert_int_equal(fa_image_alloc(&canvas, p->canvas_width, p->canvas_height, &error), FA_OK);
		memset(canvas.pixels, p->fill, canvas.stride * (size_t) canvas.height);
		inner = canvas;
		inner.pixels += p->y * canvas.stride + 3 * (size_t) p->x;
		inner.width = p->width;
		inner.height = p->height;
		assert_int_equal(fa_letterbox(photo, p->width, p->height, &inner, 0, &error), FA_OK);
		batch.pixels = canvas.pixels;
		for (int k = 0; k < 12; k++)
			maps[k] = calloc((size_t) cells, 10 * sizeof(float));
		assert_int_equal(cuda()->run(model, &batch, maps, NULL, &error), FA_OK);
		for (int level = 0; level < FA_DETECT_LEVELS; level++)
			for (int cell = 0; cell < cells >> 2 * level; cell++)
				count += fa_detect_cell(p, 8 << level, cell, maps[r->outputs[level][0]][cell],
										maps[r->outputs[level][1]][cell],
										maps[r->outputs[level][2]] + 4 * (size_t) cell,
										maps[r->outputs[level][3]] + 10 * (size_t) cell,
										r->min_score, &found[count]);
		for (int k = 0; k < 12; k++)
			free(maps[k]);
		fa_image_free(&canvas);
	}
	*candidates = count;
	return fa_non_max_suppression(found, count, FA_DETECT_CANDIDATES, FA_DETECT_OVERLAP,
								  FA_DETECT_INSIDE);
}

/* Any score will do, so that there are thousands: the same detections in the same order. */
static void
test_detections(void **state)
{
	static const int sides[] = {64, 192, 480};
	static fa_detection expected[40000];
	fa_engine *engine = open_engine(NULL);
	int outputs[FA_DETECT_LEVELS][4];
	fa_model *model = load_detector(engine, outputs);

	(void) state;
	for (int i = 0; i < LENGTH(sides); i++)
	{
		/* as large as the canvas: what the network sees is the same to the last bit */
		fa_image photo = noise(sides[i], sides[i], i + 1);
		fa_detect_pass pass = {.canvas_width = sides[i],
							   .canvas_height = sides[i],
							   .width = sides[i],
							   .height = sides[i],
							   .scale = 1,
							   .photo_x = 1,
							   .photo_y = 1};
		fa_detect_request request = {&pass, 1, (const int(*)[4]) outputs, 0};
		fa_detection *found;
		int count, wanted, candidates;
		fa_error error;

		assert_int_equal(cuda()->detect(model, &photo, &request, &found, &count, NULL, &error),
						 FA_OK);
		wanted = expect_detections(model, &photo, &request, expected, &candidates);
		assert_true(i < 2 || candidates > FA_DETECT_CANDIDATES);
		assert_int_equal(count, wanted);
		for (int k = 0; k < count; k++)
		{
			assert_float_equal(found[k].preference, expected[k].preference, 1e-6);
			assert_float_equal(found[k].box.x1, expected[k].box.x1, 1e-3);
			assert_float_equal(found[k].landmarks[4][1], expected[k].landmarks[4][1], 1e-3);
		}
		free(found);
		fa_image_free(&photo);
	}
	cuda()->unload(model);
	close_engine(engine);
}

/* More than there is room for: it says so. */
static void
test_too_many_detections(void **state)
{
	fa_engine *engine = open_engine(NULL);
	int outputs[FA_DETECT_LEVELS][4];
	fa_model *model = load_detector(engine, outputs);
	fa_image photo = noise(256, 256, 1);
	fa_detect_pass passes[13];
	fa_detect_request request = {passes, LENGTH(passes), (const int(*)[4]) outputs, 0};
	fa_detection *found;
	int count;
	fa_error error;

	(void) state;
	for (int i = 0; i < LENGTH(passes); i++)
		passes[i] = (fa_detect_pass){.canvas_width = 256,
									 .canvas_height = 256,
									 .width = 256,
									 .height = 256,
									 .scale = 1,
									 .photo_x = 1,
									 .photo_y = 1};
	assert_int_equal(cuda()->detect(model, &photo, &request, &found, &count, NULL, &error), FA_OK);
	assert_int_equal(count, -1);
	assert_null(found);
	fa_image_free(&photo);
	cuda()->unload(model);
	close_engine(engine);
}

/* --- Whole pipelines ---------------------------------------------------------------------- */

static uint8_t *
read_photo(const char *name, size_t *length)
{
	char path[256];
	uint8_t *bytes = malloc(4 << 20);
	FILE *file;

	snprintf(path, sizeof(path), "demo/photos/%s", name);
	file = fopen(path, "r");
	assert_non_null(file);
	*length = fread(bytes, 1, 4 << 20, file);
	fclose(file);
	return bytes;
}

static fa_pipeline *
open_pipeline(const fa_engine_interface *interface)
{
	fa_pipeline *pipeline;
	fa_error error;

	if (fa_pipeline_open(interface, NULL, FA_PRECISION_FP32, "weights",
						 "weights/default.safetensors", &pipeline, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return pipeline;
}

static void
compare_faces(const char *name, const fa_faces *faces, const fa_faces *expected)
{
	if (faces->count != expected->count)
		fail_msg("%s: %d faces, not %d", name, faces->count, expected->count);
	for (int i = 0; i < faces->count; i++)
	{
		const fa_face *f = &faces->faces[i], *e = &expected->faces[i];

		if (fabs(f->box.x1 - e->box.x1) > 0.5 || fabs(f->box.y1 - e->box.y1) > 0.5 ||
			fabs(f->box.x2 - e->box.x2) > 0.5 || fabs(f->box.y2 - e->box.y2) > 0.5)
			fail_msg("%s: face %d is elsewhere", name, i);
		if (fabsf(f->score - e->score) > 0.01 || fabsf(f->age - e->age) > 0.5 ||
			f->gender != e->gender || f->race != e->race ||
			fabsf(f->gender_confidence - e->gender_confidence) > 0.01 ||
			fabsf(f->race_confidence - e->race_confidence) > 0.02)
			fail_msg("%s: face %d is another", name, i);
	}
}

/* The demo's photos: the CPU engine's faces; from a packed pipeline, too. */
static void
test_photos(void **state)
{
	static const char *const names[] = {"portrait.jpg", "grey.jpg",         "cat.jpg",
										"tilted.png",   "turned-phone.jpg", "close-up.jpg"};
	fa_pipeline *cpu = open_pipeline(&fa_cpu_engine), *own = open_pipeline(cuda()), *shared;
	fa_face_options options = fa_pipeline_options(cpu);
	fa_error error;
	size_t length;
	void *block;
	int found = 0;

	(void) state;
	assert_int_equal(fa_pipeline_pack(own, &block, &length, &error), FA_OK);
	assert_int_equal(
		fa_pipeline_open_packed(cuda(), NULL, FA_PRECISION_FP32, block, length, &shared, &error),
		FA_OK);
	for (int i = 0; i < LENGTH(names); i++)
	{
		uint8_t *photo = read_photo(names[i], &length);
		fa_faces expected, faces;

		assert_int_equal(fa_find_faces(cpu, photo, length, &options, true, &expected, NULL, &error),
						 FA_OK);
		for (int turn = 0; turn < (i == 0 ? 2 : 1); turn++)
		{
			if (fa_find_faces(turn ? shared : own, photo, length, &options, true, &faces, NULL,
							  &error) != FA_OK)
				fail_msg("%s: %s", names[i], error.message);
			compare_faces(names[i], &faces, &expected);
			fa_faces_free(&faces);
		}
		found += expected.count;
		fa_faces_free(&expected);
		free(photo);
	}
	assert_true(found >= 5);
	free(block);
	fa_pipeline_close(shared);
	fa_pipeline_close(own);
	fa_pipeline_close(cpu);
	assert_int_equal(emulated_alive(), 0);
}

/* --- Whichever call fails ------------------------------------------------------------------- */

/* As a detector is: maps of three levels; few convolutions, so that calls are few, too. */
static fa_model *
load_small_detector(fa_engine *engine, int outputs[FA_DETECT_LEVELS][4])
{
	static const int channels[] = {1, 4, 10};
	int op, maps[3];
	fa_weights weights;
	fa_model *model;
	fa_error error;
	fa_net net;

	op = fa_net_convolution(&net, "one", begin_net(&net), 8, 3, 2, FA_PAD_SAME, 0, true);
	op = fa_net_unary(&net, FA_OP_RELU, "relu", op);
	op = fa_net_max_pool(&net, "pool", op, 4, 4, 0, 0);
	for (int k = 0; k < 3; k++)
	{
		char name[16];

		snprintf(name, sizeof(name), "map_%d", channels[k]);
		maps[k] = fa_net_convolution(&net, name, op, channels[k], 1, 1, 0, 0, true);
	}
	maps[0] = fa_net_unary(&net, FA_OP_SIGMOID, "scores", maps[0]);
	for (int level = 0; level < FA_DETECT_LEVELS; level++)
		for (int k = 0; k < 4; k++)
		{
			int *map = &maps[k > 0 ? k - 1 : 0];
			char name[16];

			snprintf(name, sizeof(name), "%d_%d", k, 8 << level);
			if (level > 0 && k != 1)
				*map = fa_net_max_pool(&net, name, *map, 2, 2, 0, 0);
			outputs[level][k] = net.output_count;
			fa_net_output(&net, name, *map);
		}
	assert_int_equal(fa_net_finish(&net, &error), FA_OK);
	weights = random_weights(&net, 11);
	assert_int_equal(cuda()->load(engine, &net, &weights, FA_PRECISION_FP32, &model, &error),
					 FA_OK);
	fa_weights_free(&weights);
	fa_net_free(&net);
	return model;
}

/* Photos that are searched and cut, and what that gives. */
typedef struct search
{
	fa_engine *engine;
	fa_model *detector, *model;
	fa_image photos[2];
	fa_detect_request request;
	fa_detection *found;
	int count;
	float values[SMALL_VALUES];
} search;

static void
free_programs(fa_engine *engine)
{
	while (fa_gpu_make_room(engine))
		;
}

/* The error, if there was one; FA_OK: what is found is the caller's to free. */
static fa_status
detect_and_cut(search *s, int which, int n)
{
	const fa_warped crop = {&s->photos[which], {.a = 3, .e = 3, .f = which}};
	fa_error error = {0};
	fa_status status;

	s->found = (fa_detection *) s; /* neither may stay */
	s->count = -7;
	memset(s->values, 0, sizeof(s->values));
	emulated_fail(n);
	status = cuda()->detect(s->detector, &s->photos[which], &s->request, &s->found, &s->count, NULL,
							&error);
	if (status != FA_OK && (s->found != NULL || s->count != -1))
		fail_msg("call %d, %s: %d detections of a failure", n, emulated_failed(), s->count);
	if (status == FA_OK)
		status = cuda()->run_warped(s->model, &crop, 1, SMALL_SIDE, SMALL_SIDE,
									(float *[]){s->values}, NULL, &error);
	if (status != FA_OK)
		free(s->found);
	if (status != FA_OK && (status != error.status || error.message[0] == '\0'))
		fail_msg("call %d, %s: status %d without an error", n, emulated_failed(), status);
	return status;
}

static void
assert_same_search(const search *s, const search *expected, int n)
{
	if (s->count != expected->count)
		fail_msg("call %d, %s: %d detections, not %d", n, emulated_failed(), s->count,
				 expected->count);
	for (int i = 0; i < s->count; i++)
		if (!(fabs(s->found[i].preference - expected->found[i].preference) < 1e-5) ||
			!(fabs(s->found[i].box.x1 - expected->found[i].box.x1) < 1e-3) ||
			!(fabs(s->found[i].landmarks[4][1] - expected->found[i].landmarks[4][1]) < 1e-3))
			fail_msg("call %d, %s: detection %d is another", n, emulated_failed(), i);
	for (int i = 0; i < SMALL_VALUES; i++)
		if (!(fabsf(s->values[i] - expected->values[i]) < 1e-4))
			fail_msg("call %d, %s: value %d is %g, not %g", n, emulated_failed(), i,
					 (double) s->values[i], (double) expected->values[i]);
}

/*
 * Each call of detection and of a batch of crops fails once, in turn, where programs are there
 * and where they have to be made: an error, or what is right, and not what the device still has
 * of the photo before. Nothing is lost, and the engine works on.
 */
static void
fail_each(bool warm)
{
	int outputs[FA_DETECT_LEVELS][4], failures = 0, errors = 0, alive;
	fa_detect_pass pass = {.canvas_width = 32,
						   .canvas_height = 32,
						   .width = 30,
						   .height = 20,
						   .scale = 1,
						   .photo_x = 1,
						   .photo_y = 1};
	search s = {.engine = open_engine(NULL), .photos = {noise(100, 80, 1), noise(90, 85, 2)}};
	search expected[2];

	s.detector = load_small_detector(s.engine, outputs);
	s.model = load_small(s.engine, FA_PRECISION_FP32);
	s.request = (fa_detect_request){&pass, 1, (const int(*)[4]) outputs, 0.001f};
	for (int which = 0; which < 2; which++) /* the second time, everything is captured */
	{
		assert_int_equal(detect_and_cut(&s, which, 0), FA_OK);
		assert_in_range(s.count, 2, 1000);
		expected[which] = s;
	}
	assert_true(fabsf(expected[0].values[0] - expected[1].values[0]) > 1e-2);
	if (!warm)
		free_programs(s.engine);
	alive = emulated_alive();
	for (int n = 1;; n++)
	{
		int which = warm ? 0 : n % 2; /* not the one before */
		fa_status status = detect_and_cut(&s, which, n);
		const char *failed = emulated_failed();

		if (status == FA_OK)
			assert_same_search(&s, &expected[which], n);
		if (status == FA_OK)
			free(s.found);
		if (failed == NULL)
		{
			assert_int_equal(status, FA_OK);
			break;
		}
		failures++;
		errors += status != FA_OK;
		if (warm) /* the other one, with what the failure has left */
		{
			if (detect_and_cut(&s, 1 - which, 0) != FA_OK)
				fail_msg("call %d, %s: the engine does not go on", n, failed);
			assert_same_search(&s, &expected[1 - which], n);
			free(s.found);
		}
		else
			free_programs(s.engine);
		if (emulated_alive() != alive)
			fail_msg("call %d, %s: %d things, not %d", n, failed, emulated_alive(), alive);
	}
	emulated_fail(0);
	print_message("# %d failures %s, %d of them errors\n", failures,
				  warm ? "of what is ready" : "from the start", errors);
	assert_true(errors > (warm ? 15 : 50));
	for (int i = 0; i < 2; i++)
	{
		free(expected[i].found);
		fa_image_free(&s.photos[i]);
	}
	cuda()->unload(s.model);
	cuda()->unload(s.detector);
	close_engine(s.engine);
}

static void
test_failures(void **state)
{
	(void) state;
	fail_each(true);
	fail_each(false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_packed, setup),
		cmocka_unit_test_setup(test_packed_refusals, setup),
		cmocka_unit_test_setup(test_packed_failures, setup),
		cmocka_unit_test_setup(test_letterbox, setup),
		cmocka_unit_test_setup(test_warp, setup),
		cmocka_unit_test_setup(test_run_warped, setup),
		cmocka_unit_test_setup(test_large_picture, setup),
		cmocka_unit_test_setup(test_detections, setup),
		cmocka_unit_test_setup(test_too_many_detections, setup),
		cmocka_unit_test_setup(test_photos, setup),
		cmocka_unit_test_setup(test_failures, setup),
	};

	cmocka_set_test_filter(getenv("FA_TEST")); /* one alone, by name */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
