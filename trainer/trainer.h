/*
 * trainer.h
 *		The subcommands of the companion program `faceattr`. Each parses its own
 *		arguments and returns the process's exit status.
 */
#ifndef FA_TRAINER_H
#define FA_TRAINER_H

extern int faceattr_train(int argc, char **argv);
extern int faceattr_calibrate(int argc, char **argv);
extern int faceattr_evaluate(int argc, char **argv);
extern int faceattr_detect(int argc, char **argv);
extern int faceattr_annotate(int argc, char **argv);
extern int faceattr_publish(int argc, char **argv);
extern int faceattr_template(int argc, char **argv);
extern int faceattr_import_keras(int argc, char **argv);

#endif
