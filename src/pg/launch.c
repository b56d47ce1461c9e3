/*
 * launch.c
 *		How faceattr-service becomes a process: what it is given, and what is taken from it between
 *		fork and exec. When and why, supervisor.c decides.
 */
#include "supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../nn/cuda.h"
#include "miscadmin.h"

#define RING_FD 3

/* --- The child, before it is the service ---------------------------------------------- */

/* What the service may know of the server's environment, by how it begins. */
static char **
clean_environment(void)
{
	static const char *const kept[] = {
		"PATH=", "HOME=", "LANG=", "LC_",   "TZ=",    "TMPDIR=", "LD_",      "ONEDNN_",
		"DNNL_", "OMP_",  "GOMP_", "CUDA_", "CUDNN_", "NVIDIA_", "FACEATTR_"};
	char **clean;
	int n = 0, all = 0;

	while (environ[all] != NULL)
		all++;
	clean = palloc(sizeof(char *) * (all + 1));
	for (int i = 0; i < all; i++)
		for (size_t k = 0; k < lengthof(kept); k++)
			if (strncmp(environ[i], kept[k], strlen(kept[k])) == 0)
			{
				clean[n++] = environ[i];
				break;
			}
	clean[n] = NULL;
	return clean;
}

/* All above RING_FD: the server's files and sockets. */
static void
close_others(void)
{
	struct rlimit limit;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, RING_FD + 1, ~0U, 0) == 0)
		return;
#endif
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		limit.rlim_cur = 65536;
	for (rlim_t fd = RING_FD + 1; fd < limit.rlim_cur; fd++)
		close((int) fd);
}

/* What is short of memory kills the service, which costs a few statements, before a session. */
static void
offer_to_oom_killer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void) !write(fd, "500", 3);
	close(fd);
}

/* Between fork and exec: only what signal handlers may call, too. All signals are blocked. */
static _Noreturn void
become_service(const fa_ring *ring, pid_t parent, char **arguments, char **environment)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	static const char failed[] = SERVICE_PROGRAM " could not be executed\n";
	sigset_t none;
	int null;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(SERVICE_NOT_EXECUTED);
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &standard, NULL);
	setpgid(0, 0);
	offer_to_oom_killer();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || chdir("/") != 0 ||
		(ring->fd == RING_FD ? fcntl(ring->fd, F_SETFD, 0) : dup2(ring->fd, RING_FD)) < 0)
		_exit(SERVICE_NOT_EXECUTED);
	close_others();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(arguments[0], arguments, environment);
	(void) !write(STDERR_FILENO, failed, sizeof(failed) - 1);
	_exit(SERVICE_NOT_EXECUTED);
}

/* --- Arguments ----------------------------------------------------------------------------- */

char *
service_cuda_library(void)
{
	char *path = psprintf("%s/%s", pkglib_path, FA_CUDA_LIBRARY);

	return access(path, R_OK) == 0 ? path : NULL;
}

/* A directory for what is known of a GPU from one start to the next; NULL: none. */
static char *
plan_cache(void)
{
	char path[MAXPGPATH];

	return fa_plan_directory(path, sizeof(path)) ? pstrdup(path) : NULL;
}

/* Where one wishes for a GPU, it is not to go on with a CPU. */
static const char *
device_argument(ServiceWish wish)
{
	if (faceattr_device == DEVICE_CPU)
		return "cpu";
	return faceattr_device == DEVICE_GPU || wish == WISH_GPU ? "gpu" : "auto";
}

static char **
service_arguments(const fa_ring *ring, ServiceWish wish)
{
	char directory[MAXPGPATH];
	const char *device = device_argument(wish);
	char *cuda = service_cuda_library();
	char **arguments = palloc0(sizeof(char *) * 20);
	int n = 0;

	strlcpy(directory, my_exec_path, sizeof(directory));
	get_parent_directory(directory);
	arguments[n++] = psprintf("%s/%s", directory, SERVICE_PROGRAM);
	arguments[n++] = "--ring";
	arguments[n++] = psprintf("%d", RING_FD);
	arguments[n++] = "--slots";
	arguments[n++] = psprintf("%d", ring->slots);
	arguments[n++] = "--weights";
	arguments[n++] = faceattr_weights_directory();
	arguments[n++] = "--device";
	arguments[n++] = pstrdup(device);
	arguments[n++] = "--gpu-device";
	arguments[n++] = psprintf("%d", faceattr_gpu_device);
	arguments[n++] = "--threads";
	arguments[n++] = psprintf("%d", faceattr_threads);
	if (strcmp(device, "cpu") != 0 && cuda != NULL)
	{
		char *plans = plan_cache();

		arguments[n++] = "--cuda";
		arguments[n++] = cuda;
		if (plans != NULL)
		{
			arguments[n++] = "--plan-cache";
			arguments[n++] = plans;
		}
	}
	return arguments;
}

/* --- The process ------------------------------------------------------------------------- */

pid_t
service_launch(const fa_ring *ring, ServiceWish wish)
{
	char **arguments = service_arguments(ring, wish);
	char **environment = clean_environment();
	pid_t parent = getpid(), child;
	sigset_t all, before;
	int number;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	child = fork();
	if (child == 0)
		become_service(ring, parent, arguments, environment);
	number = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = number;
	return child;
}
