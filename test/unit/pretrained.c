/*
 * pretrained.c
 *		Reading what lies beside the checkout; see pretrained.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pretrained.h"

fa_weights
pretrained(const char *name)
{
	const char *shared = getenv("FACEATTR_SHARED");
	char path[4096];
	fa_weights weights;
	fa_error error;

	snprintf(path, sizeof(path), "%s/pretrained/%s.safetensors",
			 shared != NULL ? shared : "../shared", name);
	if (access(path, R_OK) != 0)
	{
		print_message("%s is not here\n", path);
		skip();
	}
	if (fa_weights_read(&weights, path, &error) != FA_OK)
		fail_msg("%s: %s", error.message, error.detail);
	return weights;
}
