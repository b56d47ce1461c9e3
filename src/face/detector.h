/*
 * detector.h
 *		YuNet on a photo, at two scales: once at detect_size, once much smaller for
 *		the faces that are too large for the first.
 */
#ifndef FA_DETECTOR_H
#define FA_DETECTOR_H

#include "../nn/engine.h"
#include "../vision/photo.h"
#include "nms.h"

typedef struct fa_detector fa_detector;

/* Reads yunet_n's weights from path. The engine must outlive the detector. */
extern fa_status fa_detector_open(const fa_engine_interface *interface, fa_engine *engine,
								  fa_precision precision, const char *path, fa_detector **detector,
								  fa_error *error);
/* Packed weights and a detector that runs from them: see engine.h. */
extern fa_status fa_detector_pack(fa_detector *detector, void **block, size_t *length,
								  fa_error *error);
extern fa_status fa_detector_open_packed(const fa_engine_interface *interface, fa_engine *engine,
										 fa_precision precision, const void *block, size_t length,
										 fa_detector **detector, fa_error *error);
extern void fa_detector_close(fa_detector *detector);

/* The smallest eighths at which a photo is still as large as detection wants it. */
extern int fa_detector_eighths(const fa_photo *photo, int detect_size);

/* A photo at detection. */
typedef struct fa_detected
{
	const fa_photo *photo;
	const fa_view *view;      /* all of it */
	fa_detection *detections; /* in photo coordinates, best first; malloc'ed, the caller's */
	int count;
} fa_detected;

/*
 * Detections of at least min_score in some photos, those of one shape in common batches. No
 * detections after a failure. large_pass: take the second look at small scale (off only to compare
 * with one pass).
 */
extern fa_status fa_detector_run(fa_detector *detector, fa_detected *photos, int count,
								 int detect_size, float min_score, bool large_pass,
								 const fa_interrupt *interrupt, fa_error *error);

#endif
