/*
 * scan.h
 *		Many photos, in order: some are decoded ahead, in threads, while others are on the engine,
 *		and the faces of several photos share batches.
 *
 *		while there are photos, or fa_scan_count(scan) > 0:
 *			while (there are photos && fa_scan_wants(scan)) fa_scan_push(scan, photo)
 *			fa_scan_run(scan, pipeline)
 *			fa_scan_take(scan) for each of those that it says are done
 *
 * A scan and its pipeline belong to one thread; the scan's own threads decode, and touch
 * neither engine nor anything of their caller's.
 */
#ifndef FA_SCAN_H
#define FA_SCAN_H

#include "face.h"

typedef struct fa_scan fa_scan;

/* Photos of which the faces go together, and bytes that those in flight may hold. */
#define FA_SCAN_PHOTOS 16
#define FA_SCAN_BYTES ((size_t) 24 << 20)

/*
 * threads: beside the caller's; 0: it decodes itself. They inherit the caller's mask of signals.
 * The pipelines that it runs with are like this one, which is not kept: they read photos in the
 * same place.
 */
extern fa_status fa_scan_open(const fa_pipeline *pipeline, const fa_face_options *options,
							  int threads, fa_scan **scan, fa_error *error);
extern void fa_scan_close(fa_scan *scan);

/* Photos that have been pushed and not taken. */
extern int fa_scan_count(const fa_scan *scan);
/* There is room for another: always for one. */
extern bool fa_scan_wants(const fa_scan *scan);
/* A photo's bytes, which are copied. What is wrong with it, its result tells. */
extern fa_status fa_scan_push(fa_scan *scan, const void *bytes, size_t length, fa_error *error);
/*
 * Finds the faces, with attributes, of the oldest photos; *done of them can be taken. A failure is
 * of the machine or an interrupt, not of a photo, and ends the scan.
 */
extern fa_status fa_scan_run(fa_scan *scan, fa_pipeline *pipeline, int *done,
							 const fa_interrupt *interrupt, fa_error *error);
/* The oldest, which is done: its faces, or its error. Free the faces. */
extern fa_status fa_scan_take(fa_scan *scan, fa_faces *faces, fa_error *error);

#endif
