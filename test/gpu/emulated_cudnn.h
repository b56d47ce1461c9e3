/*
 * emulated_cudnn.h
 *		What the halves of the emulated cuDNN share: emulated_cudnn.cpp is its descriptors and what
 *		they mean; emulated_convolutions.cpp does what a plan says.
 */
#ifndef EMULATED_CUDNN_H
#define EMULATED_CUDNN_H

#include "emulation.h"

#include <cudnn.h>
#include <map>
#include <vector>

#define WORKSPACE 4096

struct tensor
{
	int64_t id, size[4], stride[4]; /* n, c, h, w */
	cudnnDataType_t type;
	bool is_virtual;

	size_t
	count() const
	{
		return (size_t) (size[0] * size[1] * size[2] * size[3]);
	}
};

struct operation
{
	bool convolves;
	int direction;      /* of a convolution: forward, data, filter */
	tensor x, other, y; /* other: the filter, or what is added; its count 0: nothing */
	int64_t begin[2], end[2], stride[2];
	cudnnPointwiseMode_t mode;
	double clip;
};

struct operation_graph
{
	std::vector<operation> operations;
	cudnnHandle_t handle;
};

/* The engines on offer, best first; each shows another reason to choose. */
enum engine_kind
{
	NONDETERMINISTIC, /* must not be chosen */
	TENSOR_CORES,     /* rounds fp32 to tf32 */
	PLAIN
};

typedef std::map<int64_t, void *> tensor_addresses;

extern size_t bytes_of(const tensor &t);
/* On the device: by the definition of every operation, in a stream's turn. */
extern void execute(const operation_graph &graph, engine_kind engine,
					const tensor_addresses &addresses, void *workspace);

#endif
