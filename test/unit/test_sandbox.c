/*
 * test_sandbox.c
 *		What faceattr-service can still do once it has given up the rest, tried by children of
 *		this program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../trainer/common.h"
#include "../../src/service/sandbox.h"

#define MODEL "weights/default.safetensors"
#define ENGINE "./faceattr_cuda.so"

static const char *program;

/* Only where the kernel has Landlock are files shut. */
static bool
kernel_confines_files(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* A child that tries something; its exit status, or 128 and its signal. */
static int
in_a_child(int (*try)(const void *argument), const void *argument)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(try(argument));
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool
opens(const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void
make_file(const char *directory, const char *name, const void *bytes, size_t length)
{
	char path[PATH_MAX + 32];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	fclose(file);
}

static void
copy_file(const char *from, const char *directory, const char *name)
{
	uint8_t *bytes;
	size_t length;
	fa_error error;

	assert_int_equal(fa_read_file(from, &bytes, &length, &error), FA_OK);
	make_file(directory, name, bytes, length);
	free(bytes);
}

static void *
nothing(void *argument)
{
	return argument;
}

/* --- All that it does not need -----------------------------------------------------------------
 */

/* Bits of what succeeds, in this order; 255: what it needs does not. */
static int
try_everything(const void *secret)
{
	int done = 0;
	pthread_t thread;
	void *memory;
	pid_t child;

	fa_sandbox_files(&(fa_sandbox){.readable = "weights"});
	if (fa_sandbox_calls(false) != FA_CONFINED_CALLS)
		return 255;
	memory = malloc(64 << 20);
	if (pthread_create(&thread, NULL, nothing, NULL) != 0 || memory == NULL)
		return 255;
	pthread_join(thread, NULL);
	free(memory);
	done |= opens(MODEL, O_RDONLY) ? 1 : 0;
	done |= opens(secret, O_RDONLY) ? 2 : 0;
	done |= opens(secret, O_WRONLY) ? 4 : 0;
	done |= socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 8 : 0;
	done |= kill(getppid(), 0) == 0 ? 16 : 0;
	child = fork();
	if (child == 0)
		_exit(0);
	done |= child > 0 ? 32 : 0;
	execl("/bin/true", "true", (char *) NULL);
	done |= shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) >= 0 ? 64 : 0;
	return done;
}

static void
test_what_is_given_up(void **state)
{
	char secret[] = "/tmp/faceattr-secret-XXXXXX";
	int fd = mkstemp(secret);

	(void) state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(in_a_child(try_everything, secret), kernel_confines_files() ? 1 : 1 | 2 | 4);
	unlink(secret);
}

/* --- Signals, by way of files ------------------------------------------------------------------
 */

static int
try_signals(const void *gpu)
{
	pid_t victim = getppid();
	int ends[2], done = 0;

	fa_sandbox_files(&(fa_sandbox){.readable = "weights"});
	if (pipe2(ends, 0) != 0 || fa_sandbox_calls(gpu != NULL) == 0)
		return 255;
	done |= fcntl(ends[0], F_SETOWN, victim) == 0 ? 1 : 0;
	done |= fcntl(ends[0], F_SETSIG, SIGTERM) == 0 ? 2 : 0;
	done |= fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0 ? 4 : 0;
	done |= prctl(PR_SET_PDEATHSIG, 0) == 0 ? 8 : 0;
	done |= prctl(PR_SET_DUMPABLE, 1) == 0 ? 8 : 0;
	errno = 0;
	done |= ioctl(ends[0], FIOASYNC, &(int){1}) == 0 || errno != EPERM ? 16 : 0;
	errno = 0;
	done |= ioctl(ends[0], FIOSETOWN, &victim) == 0 || errno != EPERM ? 32 : 0;
	/* a driver's own, which the file does not know */
	errno = 0;
	done |= ioctl(ends[0], _IO('F', 1)) != 0 && errno == (gpu != NULL ? ENOTTY : EPERM) ? 64 : 0;
	(void) !write(ends[1], "x", 1);
	/* which is what files are used for */
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(ends[0], F_GETFL) < 0 ||
		fcntl(ends[0], F_SETFD, FD_CLOEXEC) != 0 || fcntl(ends[0], F_DUPFD_CLOEXEC, 10) < 0 ||
		prctl(PR_SET_NAME, "a name") != 0)
		return 255;
	return done;
}

static void
test_signals(void **state)
{
	(void) state;
	assert_int_equal(in_a_child(try_signals, NULL), 64);
	assert_int_equal(in_a_child(try_signals, ""), 64);
}

/* --- Devices -----------------------------------------------------------------------------------
 */

static int
try_devices(const void *shared)
{
	int done = 0;

	if (fa_sandbox_files(&(fa_sandbox){.readable = "weights", .library = ENGINE}) == 0)
		return 255;
	done |= opens("/dev/null", O_RDWR) && opens("/dev/zero", O_RDWR) ? 1 : 0;
	done |= opens("/dev/urandom", O_RDONLY) && opens("/proc/cpuinfo", O_RDONLY) ? 2 : 0;
	done |= opens(shared, O_RDONLY) ? 4 : 0;
	done |= opens(shared, O_WRONLY) ? 8 : 0;
	done |= opens("/dev/shm", O_RDONLY | O_DIRECTORY) ? 16 : 0;
	done |= opens("/etc/passwd", O_RDONLY) ? 32 : 0;
	return done;
}

/* With a GPU too: the server's shared memory lies below /dev. */
static void
test_devices(void **state)
{
	char shared[] = "/dev/shm/PostgreSQL.XXXXXX";
	int fd = mkstemp(shared);

	(void) state;
	assert_true(fd >= 0);
	close(fd);
	if (kernel_confines_files())
		assert_int_equal(in_a_child(try_devices, shared), 1 | 2);
	unlink(shared);
}

/* --- Libraries that are loaded late ------------------------------------------------------------
 */

static int
try_late_library(const void *directory)
{
	char library[PATH_MAX], late[PATH_MAX], secret[PATH_MAX], below[PATH_MAX];
	int done = 0;

	snprintf(library, sizeof(library), "%s/engine.so", (const char *) directory);
	snprintf(late, sizeof(late), "%s/late.so.1", (const char *) directory);
	snprintf(secret, sizeof(secret), "%s/secret", (const char *) directory);
	snprintf(below, sizeof(below), "%s/data/secret", (const char *) directory);
	if (fa_sandbox_files(&(fa_sandbox){.readable = "weights", .library = library}) == 0)
		return 255;
	done |= dlopen(library, RTLD_NOW) != NULL ? 1 : 0;
	done |= dlopen(late, RTLD_NOW) != NULL ? 2 : 0;
	done |= opens(secret, O_RDONLY) ? 4 : 0;
	done |= opens(below, O_RDONLY) ? 8 : 0;
	done |= opens(directory, O_RDONLY | O_DIRECTORY) ? 16 : 0;
	return done;
}

/* Anywhere, and nothing else that is there. */
static void
test_late_libraries(void **state)
{
	char directory[] = "/tmp/faceattr-libraries-XXXXXX", path[PATH_MAX];
	Dl_info own;

	(void) state;
	assert_non_null(mkdtemp(directory));
	assert_int_not_equal(dladdr((void *) (uintptr_t) _cmocka_run_group_tests, &own), 0);
	copy_file(own.dli_fname, directory, "engine.so");
	copy_file(own.dli_fname, directory, "late.so.1");
	make_file(directory, "secret", "x", 1);
	snprintf(path, sizeof(path), "%s/data", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	make_file(path, "secret", "x", 1);
	if (kernel_confines_files())
		assert_int_equal(in_a_child(try_late_library, directory), 1 | 2);
	snprintf(path, sizeof(path), "rm -r %s", directory);
	assert_int_equal(system(path), 0);
}

/* As a program of its own, with LD_LIBRARY_PATH: the engine, and parts of cuDNN that come later. */
static int
try_cudnn(const char *directory)
{
	char secret[PATH_MAX];
	int done = 0;

	snprintf(secret, sizeof(secret), "%s/secret", directory);
	if (fa_sandbox_files(&(fa_sandbox){.readable = "weights", .library = ENGINE}) == 0)
		return 255;
	done |= dlopen(ENGINE, RTLD_NOW | RTLD_LOCAL) != NULL ? 1 : 0;
	done |= dlopen("libcudnn_graph.so.9", RTLD_NOW) != NULL ? 2 : 0;
	done |= dlopen("libcudnn_cnn.so.9", RTLD_NOW) != NULL ? 4 : 0;
	done |= opens(secret, O_RDONLY) ? 8 : 0;
	return done;
}

static int
run_try_cudnn(const void *directory)
{
	setenv("LD_LIBRARY_PATH", directory, 1);
	execl(program, program, directory, (char *) NULL);
	return 254;
}

static void
test_cudnn_elsewhere(void **state)
{
	static const char *const parts[] = {"libcudnn.so.9", "libcudnn_graph.so.9"};
	char directory[] = "/tmp/faceattr-cudnn-XXXXXX", path[PATH_MAX];
	void *engine = dlopen(ENGINE, RTLD_NOW | RTLD_LOCAL);
	struct link_map *map;
	void *cudnn;

	(void) state;
	cudnn = engine == NULL ? NULL : dlopen("libcudnn.so.9", RTLD_LAZY | RTLD_NOLOAD);
	if (cudnn == NULL || !kernel_confines_files())
		skip();
	assert_non_null(mkdtemp(directory));
	assert_int_equal(dlinfo(cudnn, RTLD_DI_LINKMAP, &map), 0);
	for (int i = 0; i < 2; i++)
	{
		snprintf(path, sizeof(path), "%.*s/%s", (int) (strrchr(map->l_name, '/') - map->l_name),
				 map->l_name, parts[i]);
		copy_file(path, directory, parts[i]);
	}
	make_file(directory, "secret", "x", 1);
	assert_int_equal(in_a_child(run_try_cudnn, directory), 1 | 2 | 4);
	snprintf(path, sizeof(path), "rm -r %s", directory);
	assert_int_equal(system(path), 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_given_up), cmocka_unit_test(test_signals),
		cmocka_unit_test(test_devices),          cmocka_unit_test(test_late_libraries),
		cmocka_unit_test(test_cudnn_elsewhere),
	};

	program = argv[0];
	if (argc == 2)
		return try_cudnn(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
