/*
 * sandbox.c
 *		faceattr-service needs no network, no other program, no file that is not a library's or
 *		a model's, and of the system calls a few: the rest it gives up for good, so that whoever
 *		takes it over through a photo holds little. See sandbox.h.
 *
 * Files by Landlock (Linux 5.13). It binds the thread that asks for it and those that this one
 * starts, so it comes first of all, before a driver has threads of its own. What is allowed by then
 * is all that there will ever be, but a driver, cuDNN and oneDNN load much of themselves late, when
 * they first need it. Directories that hold nothing but libraries are allowed as a whole. Others (a
 * toolkit below /opt, a virtual environment, what LD_LIBRARY_PATH names) may have anything beside
 * or below them, the server's data for one: of those only the files that are libraries by their
 * names. Which directories they are, a child is sent to find out: it loads the engine, without any
 * confinement, and tells where everything lay and where the loader would look for more. Loading
 * may start threads, which end with the child.
 *
 * The child also starts the driver, where device files are missing: NVIDIA's makes them when it is
 * first used, by a program with root's rights, which nobody in the sandbox could start.
 *
 * Of devices there are NVIDIA's and those of memory. Not all of /dev, below which the server's
 * shared memory lies. In /proc, files that tell of another process's memory or environment are
 * kept shut by the kernel: a process in a Landlock domain traces nobody outside it, and from Linux
 * 6.12 on signals nobody there.
 *
 * Calls by seccomp, a list of what is allowed, for all threads there are; others fail with EPERM.
 * It comes last, since drivers do this and that when they start. clone is allowed for threads only,
 * kill for nobody, and nothing that makes the kernel send a signal on one's behalf: fcntl and ioctl
 * can choose whom a file's events are told by which signal. So fcntl has a list of its own, and
 * from ioctl, of which drivers have a great many, a second filter takes those of terminals, of
 * sockets and of what all files have. clone3, whose flags cannot be looked at, is said not to
 * exist, and the C library then uses clone.
 *
 * A kernel without either leaves the other.
 */
#include "sandbox.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- Where libraries are -----------------------------------------------------------------------
 */

/* What is below these is nobody's secret. */
static const char *const system_directories[] = {
	"/lib",           "/lib64",           "/usr/lib",  "/usr/lib64",      "/usr/share",
	"/usr/local/lib", "/usr/local/share", "/opt/cuda", "/usr/local/cuda", "/usr/local/nvidia"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* In the child: a line for each directory, of any length and as often as it comes. */
static void
tell(FILE *to, const char *path, size_t length)
{
	if (length > 0 && path[0] == '/')
		fprintf(to, "%.*s\n", (int) length, path);
}

static size_t
directory_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? 0 : (size_t) (slash - path);
}

/* Where the loader looks for what this library asks for. */
static void
tell_search(FILE *to, const char *library)
{
	void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
	Dl_serinfo size, *search;

	if (handle == NULL)
		return;
	search = dlinfo(handle, RTLD_DI_SERINFOSIZE, &size) == 0 ? malloc(size.dls_size) : NULL;
	if (search != NULL && dlinfo(handle, RTLD_DI_SERINFOSIZE, search) == 0 &&
		dlinfo(handle, RTLD_DI_SERINFO, search) == 0)
		for (unsigned i = 0; i < search->dls_cnt; i++)
			tell(to, search->dls_serpath[i].dls_name, strlen(search->dls_serpath[i].dls_name));
	free(search);
}

static int
tell_library(struct dl_phdr_info *info, size_t size, void *to)
{
	(void) size;
	tell(to, info->dlpi_name, directory_length(info->dlpi_name));
	return 0;
}

/* The part of cuDNN that knows where to look for NVRTC and cuBLAS. */
static int
find_cudnn(struct dl_phdr_info *info, size_t size, void *path)
{
	(void) size;
	if (strstr(info->dlpi_name, "/libcudnn.so") == NULL)
		return 0;
	snprintf(path, PATH_MAX, "%.*s/libcudnn_graph.so.9", (int) directory_length(info->dlpi_name),
			 info->dlpi_name);
	return 1;
}

static void
make_device_files(void *driver)
{
	int (*start)(unsigned flags);

	*(void **) &start = driver == NULL ? NULL : dlsym(driver, "cuInit");
	if (start != NULL &&
		(access("/dev/nvidiactl", F_OK) != 0 || access("/dev/nvidia-uvm", F_OK) != 0))
		start(0);
}

static _Noreturn void
explore(const char *library, int fd)
{
	FILE *to = fdopen(fd, "w");
	char graph[PATH_MAX] = "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (to == NULL)
		_exit(1);
	tell_search(to, NULL); /* LD_LIBRARY_PATH: of whatever is loaded later */
	if (library != NULL)
	{
		dlopen(library, RTLD_NOW | RTLD_LOCAL);
		if (dl_iterate_phdr(find_cudnn, graph) != 0)
			dlopen(graph, RTLD_LAZY | RTLD_LOCAL);
		make_device_files(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL));
		tell_search(to, library);
		tell_search(to, graph);
	}
	dl_iterate_phdr(tell_library, to);
	fflush(to);
	_exit(0);
}

/* --- Files -------------------------------------------------------------------------------------
 */

/* What later kernels have, by their own numbers: headers may be older. */
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)  /* version 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* version 5 */
#define SCOPED UINT64_C(3)                   /* version 6: abstract sockets, signals */

typedef struct ruleset_attributes
{
	uint64_t files, network, scoped;
} ruleset_attributes;

#define READ_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define READ_AND_WRITE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE)
#define WRITE_FILES                                                                                \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                                 \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | ACCESS_TRUNCATE)
#define ALL_FILES                                                                                  \
	(READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                    \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK |   \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

typedef struct ruleset
{
	int fd;
	uint64_t handled; /* what is not cannot be allowed, and need not be */
} ruleset;

/* What is not there need not be allowed. */
static void
allow_path(const ruleset *r, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = {.allowed_access = access & r->handled};

	beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (beneath.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, r->fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
}

static void
allow_libraries(const ruleset *r, const char *directory)
{
	char real[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
	DIR *open;

	if (realpath(directory, real) == NULL)
		return;
	for (size_t i = 0; i < COUNT(system_directories); i++)
	{
		size_t length = strlen(system_directories[i]);

		if (strncmp(real, system_directories[i], length) == 0 &&
			(real[length] == '/' || real[length] == '\0'))
			return;
	}
	open = opendir(real);
	for (const struct dirent *entry; open != NULL && (entry = readdir(open)) != NULL;)
		if (strstr(entry->d_name, ".so") != NULL)
		{
			snprintf(path, sizeof(path), "%s/%s", real, entry->d_name);
			allow_path(r, path, LANDLOCK_ACCESS_FS_READ_FILE);
		}
	if (open != NULL)
		closedir(open);
}

/* Of this program, and of `library` (or NULL) and all that it may load. */
static void
allow_all_libraries(const ruleset *r, const char *library)
{
	char line[PATH_MAX + 1], latest[PATH_MAX + 1] = "";
	int ends[2];
	pid_t child;
	FILE *from;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return;
	child = fork();
	if (child == 0)
		explore(library, ends[1]);
	close(ends[1]);
	from = fdopen(ends[0], "r");
	while (from != NULL && fgets(line, sizeof(line), from) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, latest) != 0)
			allow_libraries(r, line);
		strcpy(latest, line);
	}
	if (from != NULL)
		fclose(from);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	for (size_t i = 0; i < COUNT(system_directories); i++)
		allow_path(r, system_directories[i], READ_FILES);
}

static void
allow_gpus(const ruleset *r)
{
	const char *mps = getenv("CUDA_MPS_PIPE_DIRECTORY");
	glob_t found;

	/* nvidia0, nvidiactl, nvidia-uvm, nvidia-caps/; the last: of Windows's Linux */
	if (glob("/dev/nvidia*", 0, NULL, &found) == 0)
	{
		for (size_t i = 0; i < found.gl_pathc; i++)
			allow_path(r, found.gl_pathv[i], READ_AND_WRITE | ACCESS_IOCTL_DEV);
		globfree(&found);
	}
	allow_path(r, "/dev/nvidia-caps", READ_FILES | READ_AND_WRITE | ACCESS_IOCTL_DEV);
	allow_path(r, "/dev/dxg", READ_AND_WRITE | ACCESS_IOCTL_DEV);
	/* by which processes share a GPU, where its administrator wants them to */
	allow_path(r, mps == NULL ? "/tmp/nvidia-mps" : mps, READ_FILES | READ_AND_WRITE);
}

unsigned
fa_sandbox_files(const fa_sandbox *allowed)
{
	static const char *const readable[] = {"/etc/ld.so.cache",
										   "/etc/ld.so.conf",
										   "/etc/ld.so.conf.d",
										   "/etc/ld.so.preload",
										   "/etc/localtime",
										   "/etc/fonts",
										   "/etc/nvidia",
										   "/sys",
										   "/proc",
										   "/dev/urandom",
										   "/dev/random"};
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	ruleset_attributes attributes = {.files = ALL_FILES | (version >= 3 ? ACCESS_TRUNCATE : 0) |
											  (version >= 5 ? ACCESS_IOCTL_DEV : 0),
									 .scoped = version >= 6 ? SCOPED : 0};
	ruleset r = {.handled = attributes.files};
	bool done;

	if (version < 1)
		return 0;
	/* a kernel wants no more of it than it knows, or zeros */
	r.fd = (int) syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
	if (r.fd < 0)
		return 0;
	allow_all_libraries(&r, allowed->library);
	/* of a file, reading is all that can be allowed */
	for (size_t i = 0; i < COUNT(readable); i++)
	{
		allow_path(&r, readable[i], READ_FILES);
		allow_path(&r, readable[i], LANDLOCK_ACCESS_FS_READ_FILE);
	}
	allow_path(&r, "/dev/null", READ_AND_WRITE);
	allow_path(&r, "/dev/zero", READ_AND_WRITE);
	allow_path(&r, allowed->readable, READ_FILES);
	if (allowed->writable != NULL)
		allow_path(&r, allowed->writable, READ_FILES | WRITE_FILES);
	if (allowed->library != NULL)
	{
		allow_path(&r, allowed->library, LANDLOCK_ACCESS_FS_READ_FILE);
		allow_gpus(&r);
	}
	done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
		   syscall(SYS_landlock_restrict_self, r.fd, 0) == 0;
	close(r.fd);
	return done ? FA_CONFINED_FILES : 0;
}

/* --- System calls ------------------------------------------------------------------------------
 */

static const int calls[] = {
	/* memory */
	SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(mremap),
	SCMP_SYS(madvise), SCMP_SYS(mlock), SCMP_SYS(munlock), SCMP_SYS(mincore), SCMP_SYS(mbind),
	SCMP_SYS(set_mempolicy), SCMP_SYS(get_mempolicy), SCMP_SYS(membarrier),
	/* threads and time */
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(set_tid_address),
	SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity),
	SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler), SCMP_SYS(getcpu), SCMP_SYS(gettid),
	SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(arch_prctl), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday),
	SCMP_SYS(time), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
	/* signals: to itself */
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait),
	/* files, which Landlock confines */
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(close), SCMP_SYS(read), SCMP_SYS(write),
	SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(lseek),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64),
	SCMP_SYS(statx), SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
	SCMP_SYS(getcwd), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fsync),
	SCMP_SYS(fdatasync), SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(rename),
	SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(flock),
	/* waiting */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2),
	SCMP_SYS(pipe2), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
	/* what the machine is */
	SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrusage), SCMP_SYS(getrandom), SCMP_SYS(getuid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid)};

/* Locks, flags and copies of descriptors: nothing that would tell anybody of events. */
static const int fcntl_commands[] = {
	F_DUPFD,  F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,      F_GETFL,     F_GETLK,    F_SETLK,
	F_SETLKW, F_OFD_GETLK,     F_OFD_SETLK, F_OFD_SETLKW, F_GET_SEALS, F_ADD_SEALS};

/* PR_SET_VMA: names for memory, by the C library. Not PR_SET_PDEATHSIG, PR_SET_DUMPABLE. */
static const int prctl_options[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_CAPBSET_READ,
									0x53564d41};

/* The kernel looks at the lower half of these arguments. */
#define LOWER_HALF UINT64_C(0xffffffff)

static bool
allow_calls(scmp_filter_ctx filter, bool gpu)
{
	bool good = true;

	for (size_t i = 0; i < COUNT(calls); i++)
		/* those that an architecture does not have are none of its rules */
		good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0) == 0 && good;
	for (size_t i = 0; i < COUNT(fcntl_commands); i++)
		good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
								SCMP_A1(SCMP_CMP_MASKED_EQ, LOWER_HALF,
										(scmp_datum_t) fcntl_commands[i])) == 0 &&
			   good;
	good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 2,
							SCMP_A1(SCMP_CMP_MASKED_EQ, LOWER_HALF, F_SETFL),
							SCMP_A2(SCMP_CMP_MASKED_EQ, O_ASYNC, 0)) == 0 &&
		   good;
	for (size_t i = 0; i < COUNT(prctl_options); i++)
		good = seccomp_rule_add(
				   filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				   SCMP_A0(SCMP_CMP_MASKED_EQ, LOWER_HALF, (scmp_datum_t) prctl_options[i])) == 0 &&
			   good;
	good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
							SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) == 0 &&
		   good;
	good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0 && good;
	/* abort() and raise() */
	good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
							SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid())) == 0 &&
		   good;
	/* reading limits, not setting them */
	good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
							SCMP_A2(SCMP_CMP_EQ, 0)) == 0 &&
		   good;
	if (gpu)
	{
		good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 0) == 0 && good;
		good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(memfd_create), 0) == 0 && good;
	}
	return good;
}

/* FIOASYNC, TIOCSTI, FIOSETOWN, SIOCSPGRP and their like, by the kind in their second byte. */
static bool
refuse_ioctls(scmp_filter_ctx filter)
{
	bool good = true;

	for (int i = 0; i < 2; i++)
		good = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
								SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, i == 0 ? 'T' << 8 : 0x8900)) ==
				   0 &&
			   good;
	return good;
}

/* Of two filters the stricter one decides; the one that allows the other to come is first. */
unsigned
fa_sandbox_calls(bool gpu)
{
	bool done = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;

	for (int i = gpu ? 0 : 1; i < 2 && done; i++)
	{
		scmp_filter_ctx filter = seccomp_init(i == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));

		done = filter != NULL && seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 &&
			   (i == 0 ? refuse_ioctls(filter) : allow_calls(filter, gpu)) &&
			   seccomp_load(filter) == 0;
		seccomp_release(filter);
	}
	return done ? FA_CONFINED_CALLS : 0;
}
