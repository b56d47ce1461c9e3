/*
 * support.c
 *		What the planner is told of the functions whose only collatable argument
 *		is a model's name: that its collation does not matter.
 *
 * Without this, postgres_fdw computes them here, over photos that have travelled:
 * it ships a call that depends on a collation only where the collation is that of a
 * remote column, and a constant's never is.
 */
#include "faceattr.h"

#include "nodes/makefuncs.h"
#include "nodes/supportnodes.h"

/* face_support(internal) returns internal: the support function of face_array and others */
PG_FUNCTION_INFO_V1(faceattr_support);
Datum
faceattr_support(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	FuncExpr *call, *simpler;

	if (!IsA(request, SupportRequestSimplify))
		PG_RETURN_POINTER(NULL);
	call = castNode(SupportRequestSimplify, request)->fcall;
	if (!OidIsValid(call->inputcollid))
		PG_RETURN_POINTER(NULL);
	simpler = makeFuncExpr(call->funcid, call->funcresulttype, call->args, call->funccollid,
						   InvalidOid, call->funcformat);
	simpler->funcvariadic = call->funcvariadic;
	simpler->location = call->location;
	PG_RETURN_POINTER(simpler);
}
