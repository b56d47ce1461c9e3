/*
 * main.c
 *		The companion program: picks the subcommand.
 */
#include "trainer.h"

#include <stdio.h>
#include <string.h>

static const struct
{
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{"detect", faceattr_detect, "find the faces in photos, as JSON or a table"},
	{"annotate", faceattr_annotate, "draw boxes and labels on photos, videos, a camera's picture"},
	{"evaluate", faceattr_evaluate, "how well a model does on labelled images, by group"},
	{"train", faceattr_train,
	 "fine-tune the attribute network on labelled chips, or its embedding on persons"},
	{"calibrate", faceattr_calibrate, "turn a training's best weights into a model file"},
	{"publish", faceattr_publish, "put a model file into a database, for every session to use"},
	{"import-keras", faceattr_import_keras, "turn keras-vggface's weights into safetensors"},
	{"template", faceattr_template, "where the detector sees the landmarks of ready chips"},
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
usage(FILE *to)
{
	fprintf(to, "Usage: faceattr COMMAND [OPTION...]\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\n`faceattr COMMAND --help' tells a command's options.\n");
}

int
main(int argc, char **argv)
{
	if (argc < 2)
	{
		usage(stderr);
		return 64;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0)
	{
		usage(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0)
	{
		puts("faceattr 0.2");
		return 0;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
		{
			char name[64];

			snprintf(name, sizeof(name), "faceattr %s", argv[1]);
			argv[1] = name;
			return commands[i].run(argc - 1, argv + 1);
		}
	fprintf(stderr, "faceattr: there is no command \"%s\"\n", argv[1]);
	usage(stderr);
	return 64;
}
