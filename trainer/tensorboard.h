/*
 * tensorboard.h
 *		Writes TensorBoard's event files: scalars, histograms and images by step, as
 *		protocol buffers (event.proto) in TensorFlow's record framing.
 *
 * One writer is one file of one run: a folder. Each call appends a whole record and
 * flushes it.
 */
#ifndef FA_TENSORBOARD_H
#define FA_TENSORBOARD_H

#include "../src/vision/image.h"

typedef struct fa_board fa_board;

/*
 * A new file in `folder`, which is made. TensorBoard drops what earlier files of the run
 * have from the first step on: what a killed training did after its checkpoint.
 */
extern fa_status fa_board_open(fa_board **board, const char *folder, int64_t first_step,
							   fa_error *error);
extern void fa_board_close(fa_board *board);

/* Nothing is written for a value that is not finite. */
extern fa_status fa_board_scalar(fa_board *board, const char *tag, int64_t step, double value,
								 fa_error *error);
/* Of `count` finite values. */
extern fa_status fa_board_histogram(fa_board *board, const char *tag, int64_t step,
									const float *values, size_t count, fa_error *error);
extern fa_status fa_board_image(fa_board *board, const char *tag, int64_t step,
								const fa_image *image, fa_error *error);

/* CRC-32C (Castagnoli): polynomial 0x1EDC6F41, reflected. */
extern uint32_t fa_crc32c(const void *bytes, size_t length);

#endif
