/*
 * video.h
 *		A video or camera, frame by frame, and the video that is written of it. All
 *		that knows FFmpeg's libraries.
 *
 * The reader's frames come upright and as RGB, to be drawn on in place and handed
 * back; times, sound (where the new file's format can hold it as it is) and the
 * pixels' aspect go from file to file. A video belongs to one thread.
 */
#ifndef FA_VIDEO_H
#define FA_VIDEO_H

#include "../src/vision/image.h"

typedef struct fa_video fa_video;

typedef struct fa_video_options
{
	bool camera;             /* the input is a video4linux device */
	bool live;               /* play a file at its own speed: like a camera's, late frames drop */
	const char *camera_size; /* "1280x720"; NULL: what the camera is set to */
	int threads;             /* of the decoder and of the encoder */
	int64_t max_pixels;      /* larger frames are FA_TOO_LARGE; as are those beyond 8192 x 4352 */
} fa_video_options;

typedef struct fa_video_facts
{
	const char *encoder; /* "libx264" ... */
	int64_t written;     /* frames */
	int64_t dropped;     /* frames that came too late to be looked at: cameras and `live` */
	int64_t damaged;     /* packets or frames that the decoder could not read whole */
	bool ended_early;    /* the file is shorter than it says */
	bool lost_sound;     /* there is sound, and it is not, or not all, in the new file */
} fa_video_facts;

/*
 * Opens both. The new file's format goes by its name's ending; its video is H.264
 * where an encoder is there and the format holds it, else MPEG-4. Errors begin with
 * the path they are about. The interrupt is asked throughout, also while a read
 * waits; it must outlive the video.
 */
extern fa_status fa_video_open(fa_video **video, const char *in, const char *out,
							   const fa_video_options *options, const fa_interrupt *interrupt,
							   fa_error *error);

/*
 * The next frame, upright, and its time in seconds from the beginning, never before
 * the last one's. *image is the video's and NULL at the end; an input that breaks
 * off ends there (facts tell). FA_INTERRUPTED when the interrupt says so.
 */
extern fa_status fa_video_read(fa_video *video, fa_image **image, double *seconds, fa_error *error);

/* Writes that frame as it is now. */
extern fa_status fa_video_write(fa_video *video, fa_error *error);

extern const fa_video_facts *fa_video_facts_of(const fa_video *video);

/*
 * Ends the file, so that it can be played however far it came, and frees the video;
 * NULL is harmless. A file without a frame is removed. An error is the file's that
 * could not be ended.
 */
extern fa_status fa_video_close(fa_video *video, fa_error *error);

#endif
