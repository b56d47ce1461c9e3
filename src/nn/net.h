/*
 * net.h
 *		A network is a list of operations, built by a short function with a name.
 *		Engines compile the list; they know no networks. Operation i writes tensor
 *		i; operation 0 is the input. Tensors are NHWC.
 *
 * A network says nothing of batch or image size: shapes follow from the input's
 * size, so that one list serves a detector at any size.
 */
#ifndef FA_NET_H
#define FA_NET_H

#include "../fa.h"

#define FA_NAME_LENGTH 64 /* of an operation or a parameter, with the final NUL */
#define FA_MAX_OUTPUTS 16

/*
 * As pad_begin: TensorFlow's SAME. The output has ceil(size / stride) rows and columns,
 * and what padding that takes follows from the input's size, the odd one at the end;
 * pad_end is unused.
 */
#define FA_PAD_SAME (-1)

typedef enum fa_op_kind
{
	FA_OP_INPUT,       /* channels: 3 */
	FA_OP_CONVOLUTION, /* kernel, stride, padding; weight [out, in, k, k], bias [out] */
	FA_OP_DEPTHWISE,   /* one filter a channel; weight [channels, 1, k, k], bias [channels] */
	FA_OP_BATCH_NORM,  /* weight, bias, running_mean, running_var [channels] */
	FA_OP_RELU,        /* max(0, x) */
	FA_OP_RELU6,       /* min(6, max(0, x)) */
	FA_OP_SIGMOID,     /* 1 / (1 + exp(-x)) */
	FA_OP_MAX_POOL,    /* kernel, stride, padding */
	FA_OP_GLOBAL_AVERAGE_POOL, /* [N, H, W, C] -> [N, 1, 1, C] */
	FA_OP_DROPOUT,             /* rate; identity in inference */
	FA_OP_DENSE,               /* [N, 1, 1, in] -> [N, 1, 1, out]; weight [out, in], bias [out] */
	FA_OP_ADD,                 /* two inputs of one shape */
	FA_OP_UPSAMPLE,            /* nearest neighbour, twice as high and wide */
	FA_OP_SCALE, /* [N, H, W, C] times [N, 1, 1, C]: channels by factors of their own */
} fa_op_kind;

typedef struct fa_op
{
	fa_op_kind kind;
	char name[FA_NAME_LENGTH]; /* parameters are "<name>.weight", "<name>.bias", ... */
	int input[2];              /* operations whose tensors it reads; -1: none */
	int channels;              /* of its output */
	int kernel, stride;        /* square windows */
	int pad_begin, pad_end;    /* zeros above and left, below and right; or see FA_PAD_SAME */
	bool bias;                 /* convolution, depthwise, dense: has a bias parameter */
	float epsilon;             /* batch norm */
	float rate;                /* dropout: share of values set to zero */
} fa_op;

typedef struct fa_net
{
	char name[FA_NAME_LENGTH];
	fa_op *ops; /* owned */
	int op_count, op_capacity;
	struct
	{
		char name[FA_NAME_LENGTH];
		int op;
	} outputs[FA_MAX_OUTPUTS];
	int output_count;
	/* what the first operation does to bytes 0 ... 255: (value - mean) * scale */
	bool bgr;                /* the network wants blue first; images are R G B */
	float mean[3], scale[3]; /* in the network's channel order */
	bool failed;             /* the builder ran out of memory or room: fa_net_finish says so */
} fa_net;

typedef struct fa_shape
{
	int height, width, channels;
} fa_shape;

/*
 * Builders of lists: each appends one operation and returns its index, or -1
 * after a failure (every builder accepts -1 as input and passes it on).
 */
extern void fa_net_begin(fa_net *net, const char *name);
extern int fa_net_input(fa_net *net, bool bgr, const float mean[3], const float scale[3]);
extern int fa_net_convolution(fa_net *net, const char *name, int input, int channels, int kernel,
							  int stride, int pad_begin, int pad_end, bool bias);
extern int fa_net_depthwise(fa_net *net, const char *name, int input, int kernel, int stride,
							int pad_begin, int pad_end, bool bias);
extern int fa_net_batch_norm(fa_net *net, const char *name, int input, float epsilon);
/* relu, relu6, sigmoid, upsample, global average pool */
extern int fa_net_unary(fa_net *net, fa_op_kind kind, const char *name, int input);
extern int fa_net_max_pool(fa_net *net, const char *name, int input, int kernel, int stride,
						   int pad_begin, int pad_end);
extern int fa_net_dropout(fa_net *net, const char *name, int input, float rate);
extern int fa_net_dense(fa_net *net, const char *name, int input, int channels);
extern int fa_net_sum(fa_net *net, const char *name, int left, int right);
/* factors: a tensor of 1 x 1 pixels with as many channels as input's */
extern int fa_net_scale(fa_net *net, const char *name, int input, int factors);
extern void fa_net_output(fa_net *net, const char *name, int op);
extern fa_status fa_net_finish(fa_net *net, fa_error *error);
extern void fa_net_free(fa_net *net);
extern fa_status fa_net_copy(fa_net *to, const fa_net *from, fa_error *error);

/* Index of the output of that name, or -1. */
extern int fa_net_find_output(const fa_net *net, const char *name);

/* Rows of zeros above (columns left of) an input of so many rows (columns). */
extern int fa_op_padding(const fa_op *op, int size);

/*
 * The shape of every operation's tensor for an input of height x width;
 * shapes has op_count elements. FA_INVALID where a window does not fit or two
 * inputs of a sum or product do not go together.
 */
extern fa_status fa_net_shapes(const fa_net *net, int height, int width, fa_shape *shapes,
							   fa_error *error);

/* --- Parameters ------------------------------------------------------------- */

typedef struct fa_parameter
{
	char name[FA_NAME_LENGTH];
	int op;
	int rank;
	int shape[4];
	size_t count;   /* product of shape */
	bool trainable; /* not so the running statistics */
	bool decay;     /* weight decay applies: weights of two or more dimensions */
} fa_parameter;

/*
 * The parameters in the order of the operations; *parameters is malloc'ed, the
 * caller frees it.
 */
extern fa_status fa_net_parameters(const fa_net *net, fa_parameter **parameters, int *count,
								   fa_error *error);

/* --- The detector; the classifiers are in networks.h --------------------------- */

/*
 * YuNet "n" (Wu, Peng, Yu 2023): anchor-free face detector, input sides
 * multiples of 32, BGR 0 ... 255. Outputs "cls_8", "obj_8", "bbox_8", "kps_8",
 * the same with 16 and 32: maps of 1, 1, 4 and 10 channels, cls and obj after
 * their sigmoid.
 */
extern fa_status fa_net_yunet_n(fa_net *net, fa_error *error);

#endif
