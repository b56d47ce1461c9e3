/*
 * video.c
 *		Reading and writing videos with FFmpeg's libraries; see video.h.
 *
 * Input is a stranger's: only formats that are one file are read (no playlists,
 * which may name other files and addresses), from files only, with a limit on the
 * frames' size. What a decoder cannot make sense of is counted and passed over.
 */
#include "video.h"

#include "../src/vision/photo.h"

#include <libavcodec/avcodec.h>
#include <libavdevice/avdevice.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/time.h>
#include <libswscale/swscale.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMATS                                                                                    \
	"mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,flv,ogg,asf,gif,ivf,dv,mxf,nut,"         \
	"yuv4mpegpipe,mjpeg"
#define DEFAULT_RATE 25
#define MAX_PIXELS 35651584 /* 8192 x 4352: H.264's largest level */
#define LATE 0.1            /* seconds behind the camera: the frame is dropped */
#define LONGEST_GAP 86400   /* seconds between frames; a longer one is a wrong time stamp */
#define SLACK 1.0           /* seconds that a file may be shorter than it says */
#define MPEG4_TICKS 65535   /* per second at most, of MPEG-4's time base */
#define DRAIN_FAILURES 100  /* of the decoder at the end, and it is left alone */

struct fa_video
{
	char *in_path, *out_path;
	fa_video_options options;
	const fa_interrupt *interrupt;
	fa_video_facts facts;

	/* reading */
	AVFormatContext *in;
	AVStream *source;
	AVCodecContext *decoder;
	AVPacket *packet;
	AVFrame *decoded;
	bool draining;
	int64_t start;   /* the file's first time stamp, in microseconds; AV_NOPTS_VALUE: unknown */
	AVRational rate; /* frames per second, as far as is known */
	double seconds;  /* of the last frame; negative before the first */
	double end;      /* of the last packet */
	double lag;      /* of the clock behind the frames' times; NAN before the first */

	/* from frames to pixels and back */
	int orientation; /* EXIF's */
	fa_image stored, upright;
	struct SwsContext *to_rgb, *to_yuv;
	enum AVColorSpace colorspace;

	/* writing */
	AVFormatContext *out;
	AVStream *target, *sound_source, *sound_target;
	AVCodecContext *encoder;
	AVFrame *encoded;
	bool header_written;
	int64_t last_pts;
};

static fa_status
fail(fa_error *error, const char *path, int code, const char *what)
{
	char text[AV_ERROR_MAX_STRING_SIZE];

	if (code == AVERROR(ENOMEM))
		return fa_fail(error, FA_NO_MEMORY, "out of memory");
	fa_fail(error, code == AVERROR(ENOENT) ? FA_NOT_FOUND : FA_IO, "%s: %s", path, what);
	av_strerror(code, text, sizeof(text));
	return fa_detail(error, "%s", text);
}

static int
should_stop(void *argument)
{
	const fa_video *v = argument;

	return v->interrupt != NULL && v->interrupt->should_stop(v->interrupt->argument);
}

/* ---- Opening the input -------------------------------------------------------------------- */

static fa_status
open_input(fa_video *v, fa_error *error)
{
	const AVInputFormat *format = NULL;
	AVDictionary *settings = NULL;
	/* a file by its path, whatever that looks like */
	char *url = av_asprintf(v->options.camera ? "%s" : "file:%s", v->in_path);
	int code = url == NULL ? AVERROR(ENOMEM) : 0;

	v->in = avformat_alloc_context();
	if (v->in == NULL || code != 0)
	{
		av_free(url);
		return fa_no_memory(error, sizeof(*v->in));
	}
	v->in->interrupt_callback = (AVIOInterruptCB){should_stop, v};
	if (v->options.camera)
	{
		avdevice_register_all();
		format = av_find_input_format("v4l2");
		if (format == NULL)
			code = AVERROR_DEMUXER_NOT_FOUND;
		if (v->options.camera_size != NULL)
			av_dict_set(&settings, "video_size", v->options.camera_size, 0);
	}
	else
	{
		av_dict_set(&settings, "protocol_whitelist", "file", 0);
		av_dict_set(&settings, "format_whitelist", FORMATS, 0);
	}
	if (code == 0)
		code = avformat_open_input(&v->in, url, format, &settings);
	av_dict_free(&settings);
	av_free(url);
	if (code == 0)
		code = avformat_find_stream_info(v->in, NULL);
	if (code < 0 && should_stop(v))
		return fa_check_interrupt(v->interrupt, error);
	return code < 0 ? fail(error, v->in_path, code,
						   v->options.camera ? "camera cannot be opened"
											 : "not a photo or video that can be read")
					: FA_OK;
}

/* Of the matrix that phones store: which EXIF orientation says the same. */
static int
orientation_of(const int32_t matrix[9])
{
	/* upright x = a x + c y, upright y = b x + d y, shifted; the nearest quarter turn counts */
	static const int straight[2][2] = {{1, 2}, {4, 3}}, swapped[2][2] = {{5, 8}, {6, 7}};
	double a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];

	if (fabs(b) + fabs(c) > fabs(a) + fabs(d))
		return swapped[c < 0][b < 0];
	return straight[d < 0][a < 0];
}

static const int32_t *
display_matrix(const AVStream *stream)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
	const AVPacketSideData *data =
		av_packet_side_data_get(stream->codecpar->coded_side_data,
								stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);

	return data != NULL && data->size >= 36 ? (const int32_t *) data->data : NULL;
#else
	size_t size;
	const uint8_t *data = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);

	return data != NULL && size >= 36 ? (const int32_t *) data : NULL;
#endif
}

/* Pixels for the converter, which may touch some bytes beyond a row. */
static fa_status
alloc_image(fa_image *image, int width, int height, fa_error *error)
{
	size_t stride = ((size_t) width * 3 + 63 + 32) / 64 * 64, bytes;

	if (!fa_multiply(stride, (size_t) height + 1, &bytes))
		return fa_fail(error, FA_TOO_LARGE, "frame is too large");
	*image = (fa_image){width, height, stride, aligned_alloc(64, bytes)};
	return image->pixels == NULL ? fa_no_memory(error, bytes) : FA_OK;
}

static fa_status
open_decoder(fa_video *v, fa_error *error)
{
	const AVCodec *codec;
	const int32_t *matrix;
	const AVCodecParameters *p;
	int index = av_find_best_stream(v->in, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0), code;

	if (index < 0 || (v->in->streams[index]->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0)
		return fa_fail(error, FA_UNSUPPORTED, "%s: there is no video in it that can be decoded",
					   v->in_path);
	v->source = v->in->streams[index];
	p = v->source->codecpar;
	if (v->options.max_pixels > MAX_PIXELS)
		v->options.max_pixels = MAX_PIXELS;
	if (p->width < 1 || p->height < 1 || (int64_t) p->width * p->height > v->options.max_pixels)
		return fa_fail(error, FA_TOO_LARGE, "%s: its frames have %d x %d pixels", v->in_path,
					   p->width, p->height);
	index = av_find_best_stream(v->in, AVMEDIA_TYPE_AUDIO, -1, v->source->index, NULL, 0);
	if (index >= 0)
		v->sound_source = v->in->streams[index];
	for (unsigned i = 0; i < v->in->nb_streams; i++)
		if (v->in->streams[i] != v->source && v->in->streams[i] != v->sound_source)
			v->in->streams[i]->discard = AVDISCARD_ALL;

	v->decoder = avcodec_alloc_context3(codec);
	v->packet = av_packet_alloc();
	v->decoded = av_frame_alloc();
	if (v->decoder == NULL || v->packet == NULL || v->decoded == NULL)
		return fa_no_memory(error, sizeof(*v->decoder));
	code = avcodec_parameters_to_context(v->decoder, p);
	v->decoder->pkt_timebase = v->source->time_base;
	v->decoder->max_pixels = v->options.max_pixels;
	v->decoder->thread_count = v->options.threads;
	if (code == 0)
		code = avcodec_open2(v->decoder, codec, NULL);
	if (code < 0)
		return fail(error, v->in_path, code, "its video cannot be decoded");

	v->start = v->in->start_time;
	v->rate = av_guess_frame_rate(v->in, v->source, NULL);
	if (v->rate.num <= 0 || v->rate.den <= 0)
		v->rate = (AVRational){DEFAULT_RATE, 1};
	matrix = display_matrix(v->source);
	v->orientation = matrix == NULL ? 1 : orientation_of(matrix);
	FA_TRY(alloc_image(&v->stored, p->width, p->height, error));
	if (v->orientation == 1)
		return FA_OK;
	return alloc_image(&v->upright, v->orientation >= 5 ? p->height : p->width,
					   v->orientation >= 5 ? p->width : p->height, error);
}

static fa_image *
picture(fa_video *v)
{
	return v->orientation == 1 ? &v->stored : &v->upright;
}

/* ---- Opening the output ------------------------------------------------------------------- */

/* Sizes are rounded up to even ones: the chroma planes have half as many pixels. */
static int
even(int size)
{
	return (size + 1) / 2 * 2;
}

static int
open_encoder(fa_video *v, const AVCodec *codec)
{
	const AVCodecContext *d = v->decoder;
	const AVOutputFormat *format = v->out->oformat;
	AVCodecContext *e = avcodec_alloc_context3(codec);
	AVDictionary *settings = NULL;
	int code;

	if (e == NULL)
		return AVERROR(ENOMEM);
	e->width = even(picture(v)->width);
	e->height = even(picture(v)->height);
	e->pix_fmt = AV_PIX_FMT_YUV420P;
	e->color_range = AVCOL_RANGE_MPEG;
	e->color_primaries = d->color_primaries;
	e->color_trc = d->color_trc;
	e->colorspace = d->colorspace == AVCOL_SPC_RGB ? AVCOL_SPC_SMPTE170M : d->colorspace;
	e->sample_aspect_ratio = av_guess_sample_aspect_ratio(v->in, v->source, NULL);
	if (v->orientation >= 5 && e->sample_aspect_ratio.num > 0)
		e->sample_aspect_ratio = av_inv_q(e->sample_aspect_ratio);
	e->framerate = v->rate;
	e->time_base = v->source->time_base;
	if (strcmp(format->name, "avi") == 0)
	{
		/* its frames have numbers, not times, in the order in which they are decoded */
		e->time_base = av_inv_q(v->rate);
		e->max_b_frames = 0;
	}
	if (codec->id == AV_CODEC_ID_MPEG4 && e->time_base.den > MPEG4_TICKS)
		av_reduce(&e->time_base.num, &e->time_base.den, e->time_base.num, e->time_base.den,
				  MPEG4_TICKS);
	if (e->time_base.num <= 0)
		e->time_base = (AVRational){1, MPEG4_TICKS};
	e->thread_count = v->options.threads;
	if (format->flags & AVFMT_GLOBALHEADER)
		e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
	if (codec->id == AV_CODEC_ID_MPEG4)
	{
		e->flags |= AV_CODEC_FLAG_QSCALE;
		e->global_quality = 3 * FF_QP2LAMBDA;
	}
	av_dict_set(&settings, "preset", "veryfast", 0);
	av_dict_set(&settings, "crf", "20", 0);
	code = avcodec_open2(e, codec, &settings);
	av_dict_free(&settings);
	if (code < 0)
		avcodec_free_context(&e);
	v->encoder = e;
	return code;
}

/* The first encoder whose codec the format holds and that opens: one may want a device we lack. */
static int
choose_encoder(fa_video *v)
{
	static const char *const names[] = {"libx264", "libopenh264", "mpeg4"};
	int code = AVERROR_ENCODER_NOT_FOUND;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		const AVCodec *codec = avcodec_find_encoder_by_name(names[i]);

		/* negative: the format does not know */
		if (codec == NULL ||
			avformat_query_codec(v->out->oformat, codec->id, FF_COMPLIANCE_NORMAL) == 0)
			continue;
		code = open_encoder(v, codec);
		v->facts.encoder = names[i];
		if (code == 0)
			break;
	}
	return code;
}

static fa_status
add_streams(fa_video *v, fa_error *error)
{
	const AVCodecParameters *sound = v->sound_source == NULL ? NULL : v->sound_source->codecpar;

	v->target = avformat_new_stream(v->out, NULL);
	v->encoded = av_frame_alloc();
	if (v->target == NULL || v->encoded == NULL ||
		avcodec_parameters_from_context(v->target->codecpar, v->encoder) < 0)
		return fa_no_memory(error, sizeof(*v->target));
	v->target->time_base = v->encoder->time_base;
	v->target->avg_frame_rate = v->rate;
	v->target->sample_aspect_ratio = v->encoder->sample_aspect_ratio;
	v->encoded->format = v->encoder->pix_fmt;
	v->encoded->width = v->encoder->width;
	v->encoded->height = v->encoder->height;
	if (av_frame_get_buffer(v->encoded, 0) < 0)
		return fa_no_memory(error, (size_t) v->encoded->width * v->encoded->height);
	if (sound == NULL)
		return FA_OK;
	if (v->options.live ||
		avformat_query_codec(v->out->oformat, sound->codec_id, FF_COMPLIANCE_NORMAL) != 1)
	{
		v->facts.lost_sound = true;
		return FA_OK;
	}
	v->sound_target = avformat_new_stream(v->out, NULL);
	if (v->sound_target == NULL || avcodec_parameters_copy(v->sound_target->codecpar, sound) < 0)
		return fa_no_memory(error, sizeof(*v->target));
	v->sound_target->codecpar->codec_tag = 0; /* the old format's */
	v->sound_target->time_base = v->sound_source->time_base;
	return FA_OK;
}

static fa_status
open_output(fa_video *v, fa_error *error)
{
	const AVOutputFormat *format = av_guess_format(NULL, v->out_path, NULL);
	char *url;
	int code;

	if (format == NULL || format->video_codec == AV_CODEC_ID_NONE || (format->flags & AVFMT_NOFILE))
	{
		fa_fail(error, FA_INVALID, "%s: no video format has this ending", v->out_path);
		return fa_detail(error, "Use .mp4, .mkv, .mov or .avi");
	}
	url = av_asprintf("file:%s", v->out_path);
	code =
		url == NULL ? AVERROR(ENOMEM) : avformat_alloc_output_context2(&v->out, format, NULL, url);
	if (code >= 0)
		code = choose_encoder(v);
	if (code < 0)
	{
		av_free(url);
		return fail(error, v->out_path, code, "no encoder for such a file");
	}
	if (add_streams(v, error) != FA_OK)
	{
		av_free(url);
		return error->status;
	}
	code = avio_open(&v->out->pb, url, AVIO_FLAG_WRITE);
	av_free(url);
	if (code >= 0)
		code = avformat_write_header(v->out, NULL);
	v->header_written = code >= 0;
	return code < 0 ? fail(error, v->out_path, code, "cannot be written") : FA_OK;
}

fa_status
fa_video_open(fa_video **video, const char *in, const char *out, const fa_video_options *options,
			  const fa_interrupt *interrupt, fa_error *error)
{
	fa_video *v = calloc(1, sizeof(fa_video));
	fa_error ignored;
	fa_status status;

	*video = NULL;
	if (v == NULL)
		return fa_no_memory(error, sizeof(fa_video));
	av_log_set_level(AV_LOG_QUIET); /* what goes wrong comes back as a value */
	v->in_path = strdup(in);
	v->out_path = strdup(out);
	v->options = *options;
	v->interrupt = interrupt;
	v->seconds = -1;
	v->lag = NAN;
	v->last_pts = INT64_MIN;
	if (v->in_path == NULL || v->out_path == NULL)
		status = fa_no_memory(error, strlen(in) + strlen(out));
	else
		status = open_input(v, error);
	if (status == FA_OK)
		status = open_decoder(v, error);
	if (status == FA_OK)
		status = open_output(v, error);
	if (status != FA_OK)
	{
		fa_video_close(v, &ignored);
		return status;
	}
	*video = v;
	return FA_OK;
}

const fa_video_facts *
fa_video_facts_of(const fa_video *video)
{
	return &video->facts;
}

/* ---- Reading ------------------------------------------------------------------------------ */

/* A time stamp of a stream, counted from the file's beginning. */
static int64_t
from_start(const fa_video *v, int64_t stamp, AVRational base)
{
	if (stamp == AV_NOPTS_VALUE || v->start == AV_NOPTS_VALUE)
		return stamp;
	return av_sat_sub64(stamp, av_rescale_q(v->start, AV_TIME_BASE_Q, base));
}

/* Sound goes over as it is. A file whose sound cannot be written still has its pictures. */
static void
copy_sound(fa_video *v)
{
	AVPacket *p = v->packet;

	if (v->sound_target == NULL)
		return;
	p->pts = from_start(v, p->pts, v->sound_source->time_base);
	p->dts = from_start(v, p->dts, v->sound_source->time_base);
	av_packet_rescale_ts(p, v->sound_source->time_base, v->sound_target->time_base);
	p->stream_index = v->sound_target->index;
	p->pos = -1;
	if (av_interleaved_write_frame(v->out, p) < 0)
	{
		v->facts.lost_sound = true;
		v->sound_target = NULL;
	}
}

/* Did the file end before the time that its header promises? */
static bool
is_short(const fa_video *v)
{
	double promised = (double) v->in->duration / AV_TIME_BASE;

	if (v->in->duration <= 0 || v->in->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE)
		return false;
	if (v->source->duration > 0)
		promised = fmin(promised, v->source->duration * av_q2d(v->source->time_base));
	return v->end + SLACK < promised;
}

static void
decode_packet(fa_video *v)
{
	const AVPacket *p = v->packet;
	int64_t stamp;

	if (v->start == AV_NOPTS_VALUE && p->pts != AV_NOPTS_VALUE)
		v->start = av_rescale_q(p->pts, v->source->time_base, AV_TIME_BASE_Q);
	stamp = from_start(v, p->pts, v->source->time_base);

	if (stamp != AV_NOPTS_VALUE)
		v->end = fmax(v->end, ((double) stamp + p->duration) * av_q2d(v->source->time_base));
	if (avcodec_send_packet(v->decoder, p) < 0)
		v->facts.damaged++;
}

/* One packet from the file to where it belongs. At the end the decoder is told so. */
static fa_status
feed_decoder(fa_video *v, fa_error *error)
{
	int code = av_read_frame(v->in, v->packet);

	FA_TRY(fa_check_interrupt(v->interrupt, error));
	if (code == AVERROR(EAGAIN))
		return FA_OK;
	if (code < 0)
	{
		v->facts.ended_early = code != AVERROR_EOF;
		v->draining = true;
		avcodec_send_packet(v->decoder, NULL);
		return FA_OK;
	}
	if (v->sound_source != NULL && v->packet->stream_index == v->sound_source->index)
		copy_sound(v);
	else if (v->packet->stream_index == v->source->index)
		decode_packet(v);
	av_packet_unref(v->packet);
	return FA_OK;
}

/* The next frame into v->decoded; *ended when there is none. */
static fa_status
decode(fa_video *v, bool *ended, fa_error *error)
{
	int failures = 0;

	*ended = false;
	for (;;)
	{
		int code = avcodec_receive_frame(v->decoder, v->decoded);

		if (code == 0)
			break;
		if (code == AVERROR_EOF || failures > DRAIN_FAILURES)
		{
			*ended = true;
			v->facts.ended_early |= is_short(v);
			return FA_OK;
		}
		if (code == AVERROR(EAGAIN))
			FA_TRY(feed_decoder(v, error));
		else
		{
			v->facts.damaged++;
			failures += v->draining;
		}
	}
	if (v->decoded->decode_error_flags != 0 || (v->decoded->flags & AV_FRAME_FLAG_CORRUPT) != 0)
		v->facts.damaged++;
	return FA_OK;
}

/* When the frame is shown: after the last one, whatever its stamp says. */
static void
set_time(fa_video *v)
{
	int64_t stamp = from_start(v, v->decoded->best_effort_timestamp, v->source->time_base);
	double seconds = stamp == AV_NOPTS_VALUE ? NAN : (double) stamp * av_q2d(v->source->time_base);

	if (v->seconds < 0)
		v->seconds = seconds > 0 && seconds < LONGEST_GAP ? seconds : 0;
	else if (seconds > v->seconds && seconds < v->seconds + LONGEST_GAP)
		v->seconds = seconds;
	else
		v->seconds += 1 / av_q2d(v->rate);
}

/* Is the frame too old to be worth work? One of a file that comes too early waits. */
static fa_status
keep_pace(fa_video *v, bool *late, fa_error *error)
{
	for (;;)
	{
		double lag = av_gettime_relative() * 1e-6 - v->seconds;

		if (isnan(v->lag) || (v->options.camera && lag < v->lag))
			v->lag = lag;
		*late = lag > v->lag + LATE;
		if (lag >= v->lag)
			return FA_OK;
		FA_TRY(fa_check_interrupt(v->interrupt, error));
		av_usleep((unsigned) (fmin(v->lag - lag, 0.05) * 1e6) + 1);
	}
}

/* A converter between a frame's colours and full-range RGB. */
static struct SwsContext *
converter(struct SwsContext *old, int width, int height, int from, int to_width, int to_height,
		  int to, enum AVColorSpace colorspace, bool full_range)
{
	struct SwsContext *c = sws_getCachedContext(old, width, height, from, to_width, to_height, to,
												SWS_BILINEAR, NULL, NULL, NULL);
	const int *matrix = sws_getCoefficients((int) colorspace);
	bool reading = to == AV_PIX_FMT_RGB24;

	if (c != NULL)
		sws_setColorspaceDetails(c, matrix, reading ? full_range : 1, matrix,
								 reading ? 1 : full_range, 0, 1 << 16, 1 << 16);
	return c;
}

static bool
is_full_range(const AVFrame *f)
{
	return f->color_range == AVCOL_RANGE_JPEG || f->format == AV_PIX_FMT_YUVJ420P ||
		   f->format == AV_PIX_FMT_YUVJ422P || f->format == AV_PIX_FMT_YUVJ444P;
}

static fa_status
convert_to_rgb(fa_video *v, fa_error *error)
{
	const AVFrame *f = v->decoded;
	uint8_t *planes[4] = {v->stored.pixels};
	int strides[4] = {(int) v->stored.stride};

	v->colorspace = f->colorspace == AVCOL_SPC_RGB ? AVCOL_SPC_SMPTE170M : f->colorspace;
	v->to_rgb = converter(v->to_rgb, f->width, f->height, f->format, v->stored.width,
						  v->stored.height, AV_PIX_FMT_RGB24, v->colorspace, is_full_range(f));
	if (v->to_rgb == NULL || sws_scale(v->to_rgb, (const uint8_t *const *) f->data, f->linesize, 0,
									   f->height, planes, strides) < 0)
		return fa_fail(error, FA_UNSUPPORTED, "%s: its pixels cannot be converted", v->in_path);
	if (v->orientation == 1)
		return FA_OK;
	return fa_turn_upright(&v->stored, v->orientation, &v->upright, v->interrupt, error);
}

fa_status
fa_video_read(fa_video *v, fa_image **image, double *seconds, fa_error *error)
{
	bool late = false;

	*image = NULL;
	*seconds = v->seconds;
	do
	{
		bool ended;

		v->facts.dropped += late;
		FA_TRY(decode(v, &ended, error));
		if (ended)
			return FA_OK;
		set_time(v);
		if (v->options.camera || v->options.live)
			FA_TRY(keep_pace(v, &late, error));
	} while (late);
	FA_TRY(convert_to_rgb(v, error));
	*image = picture(v);
	*seconds = v->seconds;
	return FA_OK;
}

/* ---- Writing ------------------------------------------------------------------------------ */

/* What the encoder has ready, into the file. */
static fa_status
write_packets(fa_video *v, fa_error *error)
{
	for (;;)
	{
		int code = avcodec_receive_packet(v->encoder, v->packet);

		if (code == AVERROR(EAGAIN) || code == AVERROR_EOF)
			return FA_OK;
		if (code == 0)
		{
			av_packet_rescale_ts(v->packet, v->encoder->time_base, v->target->time_base);
			v->packet->stream_index = v->target->index;
			code = av_interleaved_write_frame(v->out, v->packet);
		}
		if (code < 0)
			return fail(error, v->out_path, code, "cannot be written");
	}
}

/* The last column and row again, where the size was odd. Chroma rounds up by itself. */
static void
pad_luma(AVFrame *frame, int width, int height)
{
	uint8_t *luma = frame->data[0];
	int stride = frame->linesize[0];

	if (frame->width > width)
		for (int y = 0; y < height; y++)
			luma[y * stride + width] = luma[y * stride + width - 1];
	if (frame->height > height)
		memcpy(luma + (ptrdiff_t) height * stride, luma + (ptrdiff_t) (height - 1) * stride,
			   (size_t) frame->width);
}

fa_status
fa_video_write(fa_video *v, fa_error *error)
{
	const fa_image *image = picture(v);
	const uint8_t *planes[4] = {image->pixels};
	int strides[4] = {(int) image->stride};
	int code = av_frame_make_writable(v->encoded); /* the encoder may still hold the last one */

	if (code < 0)
		return fail(error, v->out_path, code, "cannot be written");
	v->to_yuv = converter(v->to_yuv, image->width, image->height, AV_PIX_FMT_RGB24, image->width,
						  image->height, AV_PIX_FMT_YUV420P, v->colorspace, false);
	if (v->to_yuv == NULL || sws_scale(v->to_yuv, planes, strides, 0, image->height,
									   v->encoded->data, v->encoded->linesize) < 0)
		return fa_fail(error, FA_UNSUPPORTED, "%s: pixels cannot be converted", v->out_path);
	pad_luma(v->encoded, image->width, image->height);

	v->encoded->pts = llrint(fmin(v->seconds / av_q2d(v->encoder->time_base), 1e18));
	if (v->encoded->pts <= v->last_pts)
		v->encoded->pts = v->last_pts + 1;
	v->last_pts = v->encoded->pts;
	code = avcodec_send_frame(v->encoder, v->encoded);
	if (code < 0)
		return fail(error, v->out_path, code, "cannot be encoded");
	v->facts.written++;
	return write_packets(v, error);
}

static fa_status
end_file(fa_video *v, fa_error *error)
{
	int code;

	avcodec_send_frame(v->encoder, NULL);
	FA_TRY(write_packets(v, error));
	code = av_write_trailer(v->out);
	return code < 0 ? fail(error, v->out_path, code, "cannot be ended") : FA_OK;
}

fa_status
fa_video_close(fa_video *v, fa_error *error)
{
	fa_status status = FA_OK;

	if (v == NULL)
		return FA_OK;
	if (v->header_written)
		status = end_file(v, error);
	if (v->out != NULL && v->out->pb != NULL)
	{
		int code = avio_closep(&v->out->pb);

		if (code < 0 && status == FA_OK)
			status = fail(error, v->out_path, code, "cannot be ended");
		if (v->facts.written == 0)
			unlink(v->out_path);
	}
	avformat_free_context(v->out);
	avformat_close_input(&v->in);
	avcodec_free_context(&v->decoder);
	avcodec_free_context(&v->encoder);
	av_packet_free(&v->packet);
	av_frame_free(&v->decoded);
	av_frame_free(&v->encoded);
	sws_freeContext(v->to_rgb);
	sws_freeContext(v->to_yuv);
	fa_image_free(&v->stored);
	fa_image_free(&v->upright);
	free(v->in_path);
	free(v->out_path);
	free(v);
	return status;
}
