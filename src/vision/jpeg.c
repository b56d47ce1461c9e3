/*
 * jpeg.c
 *		Reading JPEG with libjpeg-turbo, called by photo.c.
 *
 * libjpeg reports errors by a function that must not return. The functions
 * named *_guarded call setjmp and every jump ends there; what must be released
 * after a jump lives in the reader, which their callers own.
 *
 * The bytes are handed to libjpeg in slices, and each slice asks whether to
 * stop, as do each row and each step over a progressive file's scans.
 */
#include "codec.h"
#include "exif.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/*
 * Encoders write about ten scans, exhaustive optimisers some more. Every scan
 * may touch every pixel, so a file of a few hundred kilobytes could otherwise
 * keep a core busy for hours.
 */
#define MAX_SCANS 100

#define SLICE_BYTES 65536		/* between two questions while parsing */
#define SKIPPED_PIXELS (1 << 20) /* between two questions while skipping rows */
#define MAX_PADDING 64			/* stray bytes that some cameras write before the end */

typedef struct jpeg_reader
{
	struct jpeg_decompress_struct codec;
	struct jpeg_error_mgr errors;
	struct jpeg_source_mgr source;
	struct jpeg_progress_mgr progress;
	jmp_buf on_error;
	const uint8_t *bytes;
	size_t length;
	size_t given; /* bytes handed to libjpeg */
	size_t limit; /* of the header while that is read */
	const fa_interrupt *interrupt;
	fa_error *error;
} jpeg_reader;

/*
 * Warnings after which pixels are wrong or missing. libjpeg goes on and paints
 * grey; we don't. The others leave every pixel as it was meant:
 * JWRN_ADOBE_XFORM (an unknown code means the usual transform),
 * JWRN_JFIF_MAJOR (nothing depends on the version), JWRN_NOT_SEQUENTIAL
 * (parameters that a baseline scan doesn't use), and JWRN_EXTRANEOUS_DATA in
 * the cases that is_damage lets pass.
 */
static const int damaging_warnings[] = {
	JWRN_BOGUS_PROGRESSION, /* a refinement of what no scan has sent: a scan is lost */
	JWRN_HIT_MARKER,		/* a segment ended before its blocks did */
	JWRN_HUFF_BAD_CODE,		/* bits that no table explains */
	JWRN_ARITH_BAD_CODE,
	JWRN_JPEG_EOF,			/* the file ended first */
	JWRN_MUST_RESYNC,		/* restart markers out of order: blocks are lost */
};

static bool
is_damage(const struct jpeg_error_mgr *errors, const struct jpeg_decompress_struct *codec)
{
	if (errors->msg_code == JWRN_EXTRANEOUS_DATA)
	{
		int stray = errors->msg_parm.i[0], marker = errors->msg_parm.i[1];

		/*
		 * Between the segments of the header: nobody's data. Before a restart
		 * marker: its blocks ended too early. After the last block: padding,
		 * unless there is so much that the decoder must have lost its place.
		 */
		return codec->global_state > 202 /* DSTATE_READY */ &&
			   ((marker >= JPEG_RST0 && marker <= JPEG_RST0 + 7) || stray > MAX_PADDING);
	}
	for (size_t i = 0; i < sizeof(damaging_warnings) / sizeof(damaging_warnings[0]); i++)
		if (errors->msg_code == damaging_warnings[i])
			return true;
	return false;
}
