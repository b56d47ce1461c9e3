/*
 * sandbox.c
 *		faceattr-service needs no network, no other program, no file that is not a library's or
 *		a model's, and of the system calls a few: the rest it gives up for good, so that whoever
 *takes it over through a photo holds little. See sandbox.h.
 *
 * Files by Landlock (Linux 5.13), which knows directories: the server's data directory is in none
 *of those. Calls by seccomp, a list of what is allowed; others fail with EPERM. A kernel without
 * either leaves the other. clone is allowed for threads only, kill for nobody; clone3, whose flags
 * cannot be looked at, is said not to exist, and the C library then uses clone.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- Files ---------------------------------------------------------------------------------- */

#define READ_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_FILES                                                                                \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ALL_FILES                                                                                  \
	(READ_FILES | WRITE_FILES | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR |       \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK |   \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* What is not there need not be allowed. */
static void
allow_path(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = {.allowed_access = access};

	beneath.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (beneath.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
	close(beneath.parent_fd);
}

static bool
confine_files(const char *const *directories, int count, const char *writable, bool gpu)
{
	static const char *const libraries[] = {"/lib",
											"/lib64",
											"/usr/lib",
											"/usr/lib64",
											"/usr/share",
											"/usr/local/lib",
											"/usr/local/share",
											"/usr/local/cuda",
											"/opt/cuda",
											"/etc",
											"/sys",
											"/proc"};
	struct landlock_ruleset_attr handled = {.handled_access_fs = ALL_FILES};
	int ruleset = (int) syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0);
	bool done;

	if (ruleset < 0)
		return false;
	for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
		allow_path(ruleset, libraries[i], READ_FILES);
	for (int i = 0; i < count; i++)
		allow_path(ruleset, directories[i], READ_FILES);
	if (writable != NULL)
		allow_path(ruleset, writable, READ_FILES | WRITE_FILES);
	allow_path(ruleset, "/dev/null", READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE);
	if (gpu)
		allow_path(ruleset, "/dev", READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE);
	done = syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
	close(ruleset);
	return done;
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
	SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(prctl), SCMP_SYS(arch_prctl),
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* signals: to itself */
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait),
	/* files, which Landlock confines */
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(close), SCMP_SYS(read), SCMP_SYS(write),
	SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(lseek),
	SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64),
	SCMP_SYS(statx), SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
	SCMP_SYS(getcwd), SCMP_SYS(fcntl), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3),
	SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
	SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
	SCMP_SYS(flock),
	/* waiting */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2),
	SCMP_SYS(pipe2), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
	/* what the machine is */
	SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrusage), SCMP_SYS(getrandom), SCMP_SYS(getuid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid)};

static bool
allow_calls(scmp_filter_ctx filter, bool gpu)
{
	bool good = true;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		/* those that an architecture does not have are none of its rules */
		good = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0) == 0 && good;
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

static bool
confine_calls(bool gpu)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool done;

	if (filter == NULL)
		return false;
	/* threads that are there already: a driver's */
	done = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1) == 0 && allow_calls(filter, gpu) &&
		   seccomp_load(filter) == 0;
	seccomp_release(filter);
	return done;
}

unsigned
fa_sandbox_enter(const char *const *directories, int count, const char *writable, bool gpu)
{
	unsigned confined = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return 0;
	if (confine_files(directories, count, writable, gpu))
		confined |= FA_CONFINED_FILES;
	if (confine_calls(gpu))
		confined |= FA_CONFINED_CALLS;
	return confined;
}
