/*
 * find.h
 *		A photo on its way to faces, step by step, so that many can go together: find.c takes one
 *		through all of it, scan.c many at a time.
 */
#ifndef FA_FIND_H
#define FA_FIND_H

#include "pipeline.h"

/*
 * The second look: of faces that the view shows with too few pixels, though the file
 * has more. Each gets a part of the file of its own, or, where a file cannot be cut
 * up, all of them share a larger view.
 */
typedef struct fa_closer_look
{
	int count;            /* of faces when they were looked at */
	int *eighths;         /* per face, at which to decode its part; 0: the view will do */
	fa_photo_part *parts; /* per face; no bytes: it has none */
	fa_view shared;       /* without an image: of no face */
} fa_closer_look;

/* Zero-initialised before the first step; after any failure, too, the caller frees it. */
typedef struct fa_finding
{
	fa_photo photo; /* its bytes are the caller's */
	fa_view view;
	fa_faces faces;
	fa_closer_look closer;
	float *embeddings; /* of the faces; NULL: not asked for */
	fa_error error;    /* of this photo alone; status FA_OK: none so far */
} fa_finding;

/* Reads the header and checks limits. */
extern fa_status fa_finding_open(fa_finding *finding, const void *bytes, size_t length,
								 const fa_face_options *options, fa_error *error);
/* Bytes that its view will take. */
extern size_t fa_finding_size(const fa_finding *finding, const fa_face_options *options);
/* Decodes, as small as detection allows. Needs no pipeline: any thread may do it. */
extern fa_status fa_finding_decode(fa_finding *finding, const fa_face_options *options,
								   const fa_interrupt *interrupt, fa_error *error);
/*
 * Detects, and with `classify` looks closer; `embed`: with room for embeddings. A photo that cannot
 * be looked at closer has its error; findings that have one are passed over.
 */
extern fa_status fa_findings_detect(fa_finding *const *findings, int count, fa_pipeline *pipeline,
									const fa_face_options *options, bool classify, bool embed,
									const fa_interrupt *interrupt, fa_error *error);
/*
 * Attributes of the faces of many photos, in common batches; faces that verification drops
 * are gone then. A photo whose crops cannot be made has its error; findings that have one are
 * passed over.
 */
extern fa_status fa_findings_classify(fa_finding *const *findings, int count, fa_pipeline *pipeline,
									  const fa_face_options *options, const fa_interrupt *interrupt,
									  fa_error *error);
extern void fa_finding_free(fa_finding *finding);

/* An error that is about the photo, and not about the machine or the caller's wish to stop. */
static inline bool
fa_is_photos_own(fa_status status)
{
	return status == FA_DAMAGED || status == FA_UNSUPPORTED || status == FA_TOO_LARGE;
}

#endif
