/*
 * annotate.c
 *		`faceattr annotate IN OUT`: boxes and labels drawn on a photo, on every file
 *		of a folder, on a video or on what a camera sees.
 *
 * What a file is goes by its first bytes. In a video, faces are looked for in every
 * N-th frame and followed in between (src/face/track.h). Ctrl-C ends a video as if
 * it had been that long; a second one ends the program at once.
 */
#include "common.h"
#include "trainer.h"
#include "video.h"

#include "../src/face/track.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the score at which a face is reported: at which one that is known already is believed. */
#define KNOWN_FACE 0.6f
#define PROGRESS 0.5 /* seconds between two lines of it */

enum
{
	OPT_EVERY = 256,
	OPT_LIVE,
	OPT_CAMERA_SIZE
};

typedef struct options
{
	fa_common common;
	int every;
	bool live;
	const char *camera_size;
	const char *in, *out;
} options;

typedef struct job
{
	const options *options;
	fa_pipeline *pipeline;
	fa_face_options face_options;
	fa_interrupt interrupt;
} job;

static const struct argp_option argp_options[] = {
	{"every", OPT_EVERY, "N", 0, "Look for faces in every N-th frame of a video (3)", 1},
	{"live", OPT_LIVE, 0, 0,
	 "Play a video at its own speed and drop the frames that come too late, as from a camera", 1},
	{"camera-size", OPT_CAMERA_SIZE, "WxH", 0, "Ask the camera for frames of this size", 1},
	{0}};

static error_t
parse_option(int key, char *text, struct argp_state *state)
{
	options *o = state->input;
	char *end;
	long number;

	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = &o->common;
			return 0;
		case OPT_EVERY:
			number = strtol(text, &end, 10);
			if (*end != '\0' || number < 1 || number > 1000)
				argp_error(state, "--every is a number from 1 to 1000");
			o->every = (int) number;
			return 0;
		case OPT_LIVE:
			o->live = true;
			return 0;
		case OPT_CAMERA_SIZE:
			o->camera_size = text;
			return 0;
		case ARGP_KEY_ARG:
			if (state->arg_num == 0)
				o->in = text;
			else if (state->arg_num == 1)
				o->out = text;
			else
				argp_usage(state);
			return 0;
		case ARGP_KEY_END:
			if (o->out == NULL)
				argp_usage(state);
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

/* ---- Photos ------------------------------------------------------------------------------- */

/* The format that a file name's ending asks for; NULL: none. */
static const fa_format *
format_of(const char *path)
{
	static const fa_format jpeg = FA_FORMAT_JPEG, png = FA_FORMAT_PNG;
	const char *ending = strrchr(path, '.');

	if (ending == NULL)
		return NULL;
	if (strcasecmp(ending, ".png") == 0)
		return &png;
	return strcasecmp(ending, ".jpg") == 0 || strcasecmp(ending, ".jpeg") == 0 ? &jpeg : NULL;
}

static fa_status
annotate_photo(const job *j, const char *in, const char *out, fa_error *error)
{
	uint8_t *bytes = NULL, *annotated = NULL;
	size_t length, annotated_length;
	fa_status status = fa_read_file(in, &bytes, &length, error);

	if (status != FA_OK)
		return status;
	status = fa_annotate(j->pipeline, bytes, length, &j->face_options, format_of(out), &annotated,
						 &annotated_length, &j->interrupt, error);
	if (status != FA_OK)
		fa_error_in(error, in);
	else
		status = fa_write_file(out, annotated, annotated_length, error);
	free(bytes);
	free(annotated);
	return status;
}

/* ---- Videos ------------------------------------------------------------------------------- */

static int
classes_of(const fa_pipeline *pipeline, const char *head)
{
	int index = fa_pipeline_find_head(pipeline, head);

	return index < 0 ? 0 : fa_pipeline_head(pipeline, index)->classes;
}

static void
print_progress(const fa_video *video, double elapsed, int faces)
{
	const fa_video_facts *facts = fa_video_facts_of(video);

	fprintf(stderr, "\r%lld frames, %.1f frames/s, %lld dropped, %d faces in view  ",
			(long long) facts->written, (double) facts->written / elapsed,
			(long long) facts->dropped, faces);
}

/* What became of the video, on standard output, and what was wrong with it, beside. */
static void
print_summary(const char *in, const char *out, const fa_video_facts *facts, double elapsed,
			  int64_t faces)
{
	printf("%s: %lld frames in %.1f s, %.1f frames/s, %lld dropped, %lld faces, %s\n", out,
		   (long long) facts->written, elapsed, (double) facts->written / elapsed,
		   (long long) facts->dropped, (long long) faces, facts->encoder);
	if (facts->damaged > 0)
		fprintf(stderr, "faceattr: warning: %s is damaged in %lld places\n", in,
				(long long) facts->damaged);
	if (facts->ended_early)
		fprintf(stderr, "faceattr: warning: %s ends before its time\n", in);
	if (facts->lost_sound)
		fprintf(stderr, "faceattr: warning: the sound of %s is not, or not all, in %s\n", in, out);
}

/* Frame by frame to the end, or until told to stop. */
static fa_status
annotate_frames(const job *j, fa_video *video, fa_tracker *tracker, fa_font *font, fa_error *error)
{
	bool terminal = isatty(STDERR_FILENO);
	fa_face_options face_options = j->face_options;
	double start = fa_seconds(), shown = start;

	face_options.min_score *= KNOWN_FACE;
	for (int64_t n = 0;; n++)
	{
		const fa_track *tracks;
		fa_image *image;
		double seconds;
		int count;

		FA_TRY(fa_video_read(video, &image, &seconds, error));
		if (image == NULL)
			break;
		if (n % j->options->every == 0)
		{
			fa_faces faces;
			fa_status status;

			FA_TRY(
				fa_find_faces_in(j->pipeline, image, &face_options, &faces, &j->interrupt, error));
			status = fa_tracker_update(tracker, &faces, seconds, error);
			fa_faces_free(&faces);
			FA_TRY(status);
		}
		count = fa_tracker_show(tracker, seconds, &tracks);
		for (int i = 0; i < count; i++)
			FA_TRY(fa_draw_face(j->pipeline, image, font, &tracks[i].face, error));
		FA_TRY(fa_video_write(video, error));
		if (terminal && fa_seconds() - shown >= PROGRESS)
		{
			shown = fa_seconds();
			print_progress(video, shown - start, count);
		}
	}
	return FA_OK;
}

static fa_status
annotate_video(const job *j, bool camera, const char *in, const char *out, fa_error *error)
{
	fa_video_options video_options = {.camera = camera,
									  .live = j->options->live,
									  .camera_size = j->options->camera_size,
									  .threads = j->options->common.threads,
									  .max_pixels = j->face_options.max_pixels};
	fa_tracker_options tracker_options = {.birth_score = j->face_options.min_score,
										  .gender_classes = classes_of(j->pipeline, "gender"),
										  .race_classes = classes_of(j->pipeline, "race")};
	fa_video *video = NULL;
	fa_tracker *tracker = NULL;
	fa_font *font = NULL;
	double start = fa_seconds();
	fa_status status = fa_tracker_open(&tracker_options, &tracker, error), ended;
	fa_error end_error;

	if (status == FA_OK)
		status = fa_font_open(NULL, &font, error);
	if (status == FA_OK)
		status = fa_video_open(&video, in, out, &video_options, &j->interrupt, error);
	if (status == FA_OK)
	{
		fa_video_facts facts;

		status = annotate_frames(j, video, tracker, font, error);
		if (isatty(STDERR_FILENO))
			fputc('\r', stderr);
		facts = *fa_video_facts_of(video);
		ended = fa_video_close(video, &end_error);
		if (status == FA_INTERRUPTED && facts.written > 0)
			status = FA_OK; /* that is how a camera's video ends */
		if (status == FA_OK && ended != FA_OK)
		{
			*error = end_error;
			status = ended;
		}
		if (status == FA_OK && facts.written == 0)
			status = fa_fail(error, FA_DAMAGED, "%s: no frame of it can be decoded", in);
		if (status == FA_OK)
			print_summary(in, out, &facts, fa_seconds() - start, fa_tracker_count(tracker));
	}
	fa_font_close(font);
	fa_tracker_close(tracker);
	return status;
}

/* ---- Files and folders -------------------------------------------------------------------- */

static bool
is_photo(const char *path)
{
	static const uint8_t jpeg[] = {0xff, 0xd8, 0xff}, png[] = {0x89, 'P', 'N', 'G'};
	uint8_t bytes[4] = {0};
	FILE *file = fopen(path, "rb");

	if (file == NULL)
		return false;
	if (fread(bytes, 1, sizeof(bytes), file) == 0)
		bytes[0] = 0;
	fclose(file);
	return memcmp(bytes, jpeg, sizeof(jpeg)) == 0 || memcmp(bytes, png, sizeof(png)) == 0;
}

static bool
is_same_file(const struct stat *facts, const char *path)
{
	struct stat other;

	return stat(path, &other) == 0 && other.st_dev == facts->st_dev &&
		   other.st_ino == facts->st_ino;
}

static bool annotate_path(const job *j, const char *in, const char *out);

static int
visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Every file in it, and below it, to the same name below `out`. One bad file does not stop it. */
static bool
annotate_folder(const job *j, const char *in, const char *out)
{
	struct dirent **entries;
	int count;
	bool good = true;

	if (mkdir(out, 0777) != 0 && errno != EEXIST)
	{
		fprintf(stderr, "faceattr: %s: %s\n", out, strerror(errno));
		return false;
	}
	count = scandir(in, &entries, visible, alphasort);
	if (count < 0)
	{
		fprintf(stderr, "faceattr: %s: %s\n", in, strerror(errno));
		return false;
	}
	for (int i = 0; i < count; i++)
	{
		char from[PATH_MAX], to[PATH_MAX];
		struct stat facts;

		snprintf(from, sizeof(from), "%s/%s", in, entries[i]->d_name);
		snprintf(to, sizeof(to), "%s/%s", out, entries[i]->d_name);
		/* a folder of results within the folder is none of it */
		if (!fa_signalled() && !(stat(from, &facts) == 0 && is_same_file(&facts, j->options->out)))
			good &= annotate_path(j, from, to);
		free(entries[i]);
	}
	free(entries);
	return good;
}

/* Whatever it is; false when something of it failed, which has been said. */
static bool
annotate_path(const job *j, const char *in, const char *out)
{
	struct stat facts;
	fa_error error;
	fa_status status;

	if (stat(in, &facts) != 0)
		status = fa_fail(&error, FA_NOT_FOUND, "%s: %s", in, strerror(errno));
	else if (is_same_file(&facts, out))
		status = fa_fail(&error, FA_INVALID, "%s: cannot be read and written at once", in);
	else if (S_ISDIR(facts.st_mode))
		return annotate_folder(j, in, out);
	else if (S_ISCHR(facts.st_mode))
		status = annotate_video(j, true, in, out, &error);
	else if (!S_ISREG(facts.st_mode))
		status = fa_fail(&error, FA_UNSUPPORTED, "%s: no file, folder or camera", in);
	else if (is_photo(in))
		status = annotate_photo(j, in, out, &error);
	else
		status = annotate_video(j, false, in, out, &error);
	if (status != FA_OK)
		fa_complain(&error);
	return status == FA_OK;
}

int
faceattr_annotate(int argc, char **argv)
{
	static const struct argp_child children[] = {{&fa_common_argp, 0, NULL, 0}, {0}};
	static const struct argp parser = {
		argp_options,
		parse_option,
		"IN OUT",
		"Draws boxes and labels on the faces of a photo, of all photos and videos of a folder, of "
		"a "
		"video file or of what a camera (/dev/video0) sees, until Ctrl-C.",
		children,
		NULL,
		NULL};
	options o = {.every = 3};
	job j = {.options = &o, .interrupt = fa_on_signal};
	fa_error error;
	bool good;

	argp_parse(&parser, argc, argv, 0, NULL, &o);
	if (fa_common_open(&o.common, &j.pipeline, &j.face_options, &error) != FA_OK)
		return fa_complain(&error);
	fa_catch_signals(true);
	good = annotate_path(&j, o.in, o.out);
	fa_pipeline_close(j.pipeline);
	return good ? 0 : 1;
}
