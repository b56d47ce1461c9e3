/*
 * settings.c
 *		The settings faceattr.*, and the library's entry point.
 *
 * They steer the forms without a model argument; those with one follow the
 * model's metadata, and heed here only what changes speed (device, precision, threads)
 * and the safety limit max_pixels. The library may be loaded by the postmaster:
 * nothing but the definitions happens here, and shared memory is asked for (preload.c).
 */
#include "faceattr.h"

#include <limits.h>

#include "utils/guc.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "faceattr", .version = "0.2");
#else
PG_MODULE_MAGIC;
#endif

char *faceattr_model;
int faceattr_precision;
int faceattr_threads;
int faceattr_detect_size;
double faceattr_min_score;
int faceattr_min_face;
bool faceattr_verify;
int faceattr_max_pixels;
int faceattr_on_bad_image;

static const struct config_enum_entry precisions[] = {
	{"auto", FA_PRECISION_AUTO, false},
	{"fp32", FA_PRECISION_FP32, false},
	{"bf16", FA_PRECISION_BF16, false},
	{"fp16", FA_PRECISION_FP16, false},
	{NULL, 0, false},
};

static const struct config_enum_entry devices[] = {
	{"auto", DEVICE_AUTO, false},
	{"cpu", DEVICE_CPU, false},
	{"gpu", DEVICE_GPU, false},
	{NULL, 0, false},
};

static const struct config_enum_entry bad_images[] = {
	{"error", BAD_IMAGE_ERROR, false},
	{"warning", BAD_IMAGE_WARNING, false},
	{"ignore", BAD_IMAGE_IGNORE, false},
	{NULL, 0, false},
};

static void
define_settings(void)
{
	fa_face_options shipped = fa_default_options();

	DefineCustomStringVariable("faceattr.model", "Model of the forms without a model argument.",
							   NULL, &faceattr_model, "default", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("faceattr.device", "Where the networks run.",
							 "\"auto\" is a GPU that works, else the CPU.", &faceattr_device,
							 DEVICE_AUTO, devices, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("faceattr.gpu_device", "Which GPU, counted from 0.", NULL,
							&faceattr_gpu_device, 0, 0, 1023, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("faceattr.gpu_memory",
							"Most GPU memory that weights and batches of images take.",
							"For each session. 0: no limit.", &faceattr_gpu_memory, 0, 0,
							MAX_KILOBYTES / 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"faceattr.precision", "Arithmetic of the networks.",
		"\"auto\" is fp16 on a GPU, bf16 where the processor computes it natively, else fp32.",
		&faceattr_precision, FA_PRECISION_AUTO, precisions, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("faceattr.threads", "Threads of a session's networks.",
							"Parallel query scales better than more threads.", &faceattr_threads, 1,
							1, 256, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"faceattr.detect_size", "Longer side, in pixels, at which faces are looked for.", NULL,
		&faceattr_detect_size, shipped.detect_size, 160, 4096, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("faceattr.min_score", "Faces of a lower score are not reported.", NULL,
							 &faceattr_min_score, shipped.min_score, 0, 1, PGC_USERSET, 0, NULL,
							 NULL, NULL);
	DefineCustomIntVariable(
		"faceattr.min_face", "Faces with a shorter side of fewer pixels are not reported.", NULL,
		&faceattr_min_face, (int) shipped.min_face, 1, 65535, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"faceattr.verify", "Lets the attribute model judge whether it is shown a face at all.",
		NULL, &faceattr_verify, shipped.verify, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"faceattr.max_pixels", "Images of more pixels, width times height, are refused.",
		"Checked in the header, before anything is decoded, by every function.",
		&faceattr_max_pixels, (int) shipped.max_pixels, 1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"faceattr.on_bad_image",
		"What forms without a model argument do about an image that is damaged, "
		"too large or of another format.",
		NULL, &faceattr_on_bad_image, BAD_IMAGE_ERROR, bad_images, PGC_USERSET, 0, NULL, NULL,
		NULL);

	DefineCustomIntVariable(
		"faceattr.model_cache_size", "Most memory that shared models take.",
		"Where the library is preloaded. 0: every session has copies of its own.",
		&faceattr_model_cache_size, 256, 0, MAX_KILOBYTES / 1024, PGC_SIGHUP, GUC_UNIT_MB, NULL,
		NULL, NULL);

#if PG_VERSION_NUM >= 150000
	MarkGUCPrefixReserved("faceattr");
#else
	EmitWarningsOnPlaceholders("faceattr");
#endif
}

/* NOLINTNEXTLINE(bugprone-reserved-identifier): PostgreSQL's name */
extern PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	define_settings();
	stat_init();
	preload();
}
