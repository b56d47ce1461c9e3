/*
 * device.h
 *		What a training runs on: --device.
 */
#ifndef FA_DEVICE_H
#define FA_DEVICE_H

#include "../src/nn/engine.h"

typedef enum fa_device
{
	FA_DEVICE_AUTO, /* a GPU that works, else the CPU */
	FA_DEVICE_CPU,
	FA_DEVICE_GPU
} fa_device;

/*
 * Opens it. Under AUTO *error says why it is the CPU, where faceattr_cuda.so is installed; its
 * status is FA_OK otherwise.
 */
extern fa_status fa_device_open(fa_device device, int threads,
								const fa_engine_interface **interface, fa_engine **engine,
								fa_error *error);

#endif
