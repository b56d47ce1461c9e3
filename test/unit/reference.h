/*
 * reference.h
 *		The judge of all engines: networks by their definitions, in nested loops and
 *		double precision, forward and backward. Slow, and meant to be read.
 *
 * It is itself judged by test_reference.c: its gradients by differences, its
 * networks by outputs computed elsewhere.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include "../../src/nn/net.h"
#include "../../src/nn/weights.h"

typedef struct reference
{
	const fa_net *net; /* the caller's */
	int count;         /* of images */
	fa_shape *shapes;  /* per operation */

	double **tensors;   /* per operation: [count, height, width, channels] */
	double **gradients; /* the same, of the loss */

	fa_parameter *parameters;
	int parameter_count;
	double **values; /* per parameter; a test may change them */
	double **slopes; /* per parameter: the gradient */

	/* What a test may set before a forward pass: */
	bool *batch_statistics; /* per operation: batch norm of training; else running statistics */
	double momentum;        /* of the running statistics, which then follow; 0: they stay */
	const double **masks;   /* per operation: dropout's factors, of its tensor's size; NULL: 1 */

	/*
	 * After a forward pass: how near a value came to where a ReLU bends or a maximum
	 * changes hands. Nearer than the precision of an engine, gradients may differ.
	 */
	double closest_kink;
} reference;

/* Every failure is a failed assertion of the running test. */
extern reference *reference_open(const fa_net *net, const fa_weights *weights, int count,
								 int height, int width);
extern void reference_close(reference *r);
/* pixels: [count, height, width, 3], R G B */
extern void reference_forward(reference *r, const uint8_t *pixels);
/* gradients[i]: of the loss by the network's output i; NULL: zero */
extern void reference_backward(reference *r, const float *const *gradients);

/* Number of values in an operation's tensor. */
extern size_t reference_size(const reference *r, int op);
/* Index of the parameter of that name; it must exist. */
extern int reference_parameter(const reference *r, const char *name);

#endif
