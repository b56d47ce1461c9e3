/*
 * photos.h
 *		Photos on the device, for the kernels that make batches of them: crops, and the
 *		canvases of detection.
 */
#ifndef FA_GPU_PHOTOS_H
#define FA_GPU_PHOTOS_H

#include "kernels.h"
#include "program.h"

/* Room for the pictures of each part of a batch of crops; before anything is at work. */
extern fa_status fa_gpu_reserve_photos(fa_engine *engine, const fa_warped *crops, int count,
									   int part, fa_error *error);
/* Crops of pictures, which go up first, as a program's pixels, onto the engine's stream. */
extern fa_status fa_gpu_warp_part(fa_engine *engine, const fa_gpu_program *p,
								  const fa_warped *crops, int count, fa_error *error);

/* Gives back what only a very large picture has needed; when nothing is at work. */
extern void fa_gpu_tidy_photos(fa_engine *engine);

#endif
