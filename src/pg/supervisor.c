/*
 * supervisor.c
 *		The background worker that starts faceattr-service, watches it, and starts it again.
 *
 * The service is a child of this worker, and a stranger to the server: it gets the descriptor of
 * the ring (ring.h), a clean environment and stderr, which leads to the server's log, and nothing
 * else. So whatever becomes of it, the postmaster sees no child of its own crash, and no session is
 * taken down. The worker is attached to shared memory, for its latch, but runs nothing that a
 * stranger has written, and believes the ring only what can do no harm.
 *
 * States, as the ring's header shows them. Only this worker changes them, but for one change.
 *
 *	STOPPED -> STARTING   postgresql.conf has asked for it, or a session, which sets `wish` and
 *	                      this worker's latch
 *	STARTING -> READY     the service itself, when its device is open
 *	-> STOPPED            it has ended by itself, being idle, or was told to by SIGTERM
 *	-> USELESS            it has ended with status 2: this machine lacks what it needs. It is tried
 *	                      again after ten minutes, when settings change, or when a session asks for
 *	                      less: for any device where a GPU was looked for
 *	-> WAITING            it has ended in another way. It is tried again after a pause, which begins
 *	                      with 0.1 s and doubles up to 30 s, until one has run a batch
 *
 * Whichever it was: the state is changed first, so that no session begins a request; then requests
 * in flight are settled, each of which becomes one ERROR of its session.
 *
 * While it lives, the worker looks at it every second. One that is busy and whose header->beat
 * stands still for ten seconds, one that has not started within a minute, and one that shows what
 * it cannot be, is killed, and then it is like any other death. Slots of sessions that are
 * no more are freed.
 *
 * The service does not outlive the worker, nor the worker the postmaster: the kernel kills the
 * service when the worker ends, however that comes. Where shared memory is made anew, after a
 * session's crash, the postmaster empties the ring before it starts anybody.
 *
 * Deaths are told in the log, one line each, up to five; from then on one line a minute, which
 * counts the others.
 */
#include "supervisor.h"

#include <fcntl.h>
#include <math.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../nn/cuda.h"
#include "../service/client.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define PROGRAM "faceattr-service"
#define SECOND INT64CONST(1000000) /* microseconds, as all times of fa_ring_now() */
#define CHECK_INTERVAL SECOND
#define START_LIMIT (60 * SECOND)
#define BEAT_LIMIT (10 * SECOND)
#define SHORTEST_PAUSE (SECOND / 10)
#define LONGEST_PAUSE (30 * SECOND)
#define USELESS_PAUSE (600 * SECOND)
#define LOG_BURST 5
#define LOG_INTERVAL (60 * SECOND)
#define SESSION_PATIENCE (2 * SECOND) /* of a session: for a pause, or a worker not there yet */
#define EXIT_USELESS 2
#define EXIT_DEVICE_LOST 3
#define EXIT_NOT_EXECUTED 127
#define RING_FD 3

int faceattr_run_in;
int faceattr_decode_in;
int faceattr_batch_size;
double faceattr_batch_delay;
int faceattr_gpu_idle_timeout;
int faceattr_service_slots = 64;

/* Between worker and sessions, in main shared memory. */
typedef struct Supervisor
{
	pg_atomic_uint64 latch;       /* the worker's, a pointer; 0: there is no worker */
	pg_atomic_uint32 wish;        /* a ServiceWish, of sessions */
	pg_atomic_uint32 useless_for; /* the wish that the latest USELESS one was to fulfil */
	pg_atomic_uint32 has_gpus;    /* see service_has_gpus() */
	pg_atomic_uint64 next_start;  /* when WAITING or USELESS ends */
} Supervisor;

static Supervisor *shared;  /* NULL: not preloaded */
static fa_ring ring;        /* header NULL: there is none */
static fa_error ring_error; /* why */

/* What a service that is ready shows of itself, and sessions go by. */
typedef struct Shown
{
	int64 started;
	uint32 precisions, fastest;
	char engine[sizeof(((fa_ring_header *) 0)->engine)];
} Shown;

/* The worker's. */
static struct
{
	pid_t pid; /* 0: none */
	ServiceWish wish;
	int64 started, moved; /* when its beat was last seen to have changed */
	int64 stopping;       /* since when it is about to end; 0: it is not */
	uint64 beat, batches;
	Shown shown;            /* all zero: it was not ready yet */
	bool replaced;          /* it has been told to end so that another is started */
	const char *killed_for; /* what it has done; NULL: it has not been killed */
} child;

static struct
{
	int device, gpu_device, threads; /* settings by which it was started */
	int64 pause;
	int64 credit, credit_since;   /* lines that the log may have */
	int unsaid;                   /* deaths that it has not been told of */
	char useless[SERVICE_REASON]; /* the latest reason that was logged */
} past = {.credit = LOG_BURST};

/* --- Start of the server --------------------------------------------------------- */

fa_ring *
service_ring(const char **why)
{
	if (ring.header != NULL)
		return &ring;
	if (why != NULL)
		*why = ring_error.status != FA_OK
				   ? psprintf("%s: %s", ring_error.message, ring_error.detail)
				   : "The library is not in shared_preload_libraries.";
	return NULL;
}

void
supervisor_preload(void)
{
	BackgroundWorker worker = {.bgw_name = "faceattr supervisor",
							   .bgw_type = "faceattr supervisor",
							   .bgw_flags = BGWORKER_SHMEM_ACCESS,
							   .bgw_start_time = BgWorkerStart_PostmasterStart,
							   .bgw_restart_time = 1,
							   .bgw_library_name = "faceattr",
							   .bgw_function_name = "faceattr_supervisor_main"};

	if (!IsPostmasterEnvironment || IsBinaryUpgrade)
		return;
	if (fa_ring_create(faceattr_service_slots, &ring, &ring_error) != FA_OK)
	{
		ereport(WARNING, (errmsg("%s cannot be had: %s", PROGRAM, ring_error.message),
						  errdetail_internal("%s", ring_error.detail)));
		return;
	}
	ring_error.status = FA_OK;
	ReserveExternalFD();
	fa_service_use(&ring);
	RegisterBackgroundWorker(&worker);
}

Size
supervisor_shared_size(void)
{
	return sizeof(Supervisor);
}

void
supervisor_attach(void *memory, bool found)
{
	shared = memory;
	if (found)
		return;
	pg_atomic_init_u64(&shared->latch, 0);
	pg_atomic_init_u32(&shared->wish, WISH_NONE);
	pg_atomic_init_u32(&shared->useless_for, WISH_NONE);
	pg_atomic_init_u32(&shared->has_gpus, 0);
	pg_atomic_init_u64(&shared->next_start, 0);
	if (ring.header == NULL)
		return;
	/* No session lives that could own a slot, and whatever process has got its number since. */
	fa_ring_clear(&ring);
	atomic_store(&ring.header->state, FA_SERVICE_STOPPED);
}

/* --- Asked by sessions --------------------------------------------------------------- */

bool
service_has_gpus(void)
{
	return ring.header != NULL && shared != NULL && pg_atomic_read_u32(&shared->has_gpus) != 0;
}

bool
service_has_supervisor(void)
{
	return pg_atomic_read_u64(&shared->latch) != 0;
}

int
service_pause(void)
{
	int64 left = (int64) pg_atomic_read_u64(&shared->next_start) - fa_ring_now();

	return left <= 0 ? 0 : (int) ((left + SECOND - 1) / SECOND);
}

static void
ask_for(ServiceWish wish)
{
	Latch *latch = (Latch *) (uintptr_t) pg_atomic_read_u64(&shared->latch);
	uint32 before = pg_atomic_read_u32(&shared->wish);

	while (before < wish && !pg_atomic_compare_exchange_u32(&shared->wish, &before, wish))
		;
	if (latch != NULL)
		SetLatch(latch);
}

bool
service_start(ServiceWish wish)
{
	fa_ring_header *header = ring.header;
	int64 since = fa_ring_now();
	uint32 deaths = atomic_load(&header->restarts);

	for (;;)
	{
		int64 now = fa_ring_now();

		switch (atomic_load(&header->state))
		{
			case FA_SERVICE_READY:
				return true;
			case FA_SERVICE_USELESS:
				if (pg_atomic_read_u32(&shared->useless_for) >= wish)
					return false;
				break;
			case FA_SERVICE_WAITING:
				/* one death may be bad luck, or another session's photo */
				if (atomic_load(&header->restarts) - deaths > 1 ||
					(int64) pg_atomic_read_u64(&shared->next_start) - now > SESSION_PATIENCE)
					return false;
				break;
			default:
				break;
		}
		if (now - since > SESSION_PATIENCE + (service_has_supervisor() ? START_LIMIT : 0))
			return false;
		ask_for(wish);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FA_RING_PATIENCE,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

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
become_service(pid_t parent, const char *program, char **arguments, char **environment)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	static const char failed[] = PROGRAM " could not be executed\n";
	sigset_t none;
	int null;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(EXIT_NOT_EXECUTED);
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &standard, NULL);
	setpgid(0, 0);
	offer_to_oom_killer();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || chdir("/") != 0 ||
		(ring.fd == RING_FD ? fcntl(ring.fd, F_SETFD, 0) : dup2(ring.fd, RING_FD)) < 0)
		_exit(EXIT_NOT_EXECUTED);
	close_others();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(program, arguments, environment);
	(void) !write(STDERR_FILENO, failed, sizeof(failed) - 1);
	_exit(EXIT_NOT_EXECUTED);
}

/* --- Start ----------------------------------------------------------------------------- */

static char *
cuda_library(void)
{
	char *path = psprintf("%s/%s", pkglib_path, FA_CUDA_LIBRARY);

	return access(path, R_OK) == 0 ? path : NULL;
}

/* A directory for what is known of a GPU from one start to the next; NULL: none. */
static char *
plan_cache(void)
{
	const char *home = getenv("HOME");
	char *path;

	if (home == NULL)
		return NULL;
	path = psprintf("%s/.cache", home);
	(void) mkdir(path, S_IRWXU);
	path = psprintf("%s/faceattr", path);
	(void) mkdir(path, S_IRWXU);
	return access(path, W_OK) == 0 ? path : NULL;
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
service_arguments(char *program, ServiceWish wish)
{
	const char *device = device_argument(wish);
	char *cuda = cuda_library();
	char **arguments = palloc0(sizeof(char *) * 20);
	int n = 0;

	arguments[n++] = program;
	arguments[n++] = "--ring";
	arguments[n++] = psprintf("%d", RING_FD);
	arguments[n++] = "--slots";
	arguments[n++] = psprintf("%d", ring.slots);
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

static void
show_settings(void)
{
	fa_ring_header *header = ring.header;

	atomic_store(&header->batch_size, (uint32) faceattr_batch_size);
	atomic_store(&header->batch_delay, (uint32) rint(faceattr_batch_delay * 1000));
	atomic_store(&header->idle_timeout, (uint32) faceattr_gpu_idle_timeout);
	atomic_store(&header->device_memory, (uint64) faceattr_gpu_memory * 1024 * 1024);
	atomic_store(&header->model_memory, (uint64) faceattr_model_cache_size * 1024 * 1024);
}

static void
show_error(const char *error)
{
	fa_ring_header *header = ring.header;

	strlcpy(header->last_error, error, sizeof(header->last_error));
	atomic_store(&header->last_error_time, (int64) time(NULL));
}

/* No service is there: nothing is left of what the latest one has shown of itself. */
static void
show_state(fa_service_state state)
{
	fa_ring_header *header = ring.header;

	atomic_store(&header->state, state);
	atomic_store(&header->pid, 0);
	atomic_store(&header->started, 0);
	memset(header->engine, 0, sizeof(header->engine));
	memset(header->device, 0, sizeof(header->device));
	memset(header->models, 0, sizeof(header->models));
}

static void
wait_until(int64 when)
{
	pg_atomic_write_u64(&shared->next_start, (uint64) when);
}

static void
start_service(ServiceWish wish)
{
	char *program, **arguments, **environment;
	char directory[MAXPGPATH];
	pid_t parent = getpid();
	sigset_t all, before;

	strlcpy(directory, my_exec_path, sizeof(directory));
	get_parent_directory(directory);
	program = psprintf("%s/%s", directory, PROGRAM);
	arguments = service_arguments(program, wish);
	environment = clean_environment();
	past.device = faceattr_device;
	past.gpu_device = faceattr_gpu_device;
	past.threads = faceattr_threads;
	memset(&child, 0, sizeof(child));
	child.wish = wish;
	child.started = child.moved = fa_ring_now();
	child.batches = atomic_load(&ring.header->batches);
	show_settings();
	show_state(FA_SERVICE_STARTING);

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	child.pid = fork();
	if (child.pid == 0)
		become_service(parent, program, arguments, environment);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (child.pid < 0)
	{
		child.pid = 0;
		ereport(ERROR, (errmsg("could not fork %s: %m", PROGRAM))); /* the worker starts again */
	}
	atomic_store(&ring.header->pid, (uint32) child.pid);
	ereport(DEBUG1, (errmsg("%s (PID %d) has been started", PROGRAM, (int) child.pid)));
}

/* --- Death ------------------------------------------------------------------------------ */

static void
log_death(const char *how, const char *why, int requests)
{
	int64 now = fa_ring_now();
	int64 earned = (now - past.credit_since) / LOG_INTERVAL;
	char *others = "";

	past.credit = Min(past.credit + earned, LOG_BURST);
	/* the minute begins where there is room for its line */
	past.credit_since = past.credit == LOG_BURST ? now : past.credit_since + earned * LOG_INTERVAL;
	if (past.credit == 0)
	{
		past.unsaid++;
		return;
	}
	past.credit--;
	if (past.unsaid > 0)
		others = psprintf(" It has ended %d more times since the message before.", past.unsaid);
	past.unsaid = 0;
	ereport(LOG, (errmsg_internal("%s (PID %d) %s", PROGRAM, (int) child.pid, how),
				  errdetail_internal("%sRequests in flight: %d. Another starts in %.1f s.%s", why,
									 requests, past.pause / (double) SECOND, others)));
}

static void
became_useless(void)
{
	char reason[SERVICE_REASON];

	fa_ring_text(reason, sizeof(reason), ring.header->last_error, sizeof(reason));
	pg_atomic_write_u32(&shared->useless_for, child.wish);
	wait_until(fa_ring_now() + USELESS_PAUSE);
	show_state(FA_SERVICE_USELESS);
	fa_ring_settle(&ring, FA_DEVICE_LOST, PROGRAM " cannot run here", reason);
	if (strcmp(reason, past.useless) != 0)
		ereport(LOG, (errmsg_internal("%s cannot run here: %s", PROGRAM, reason),
					  child.wish == WISH_GPU ? errdetail("Sessions go on with the CPU.") : 0));
	strlcpy(past.useless, reason, sizeof(past.useless));
}

/* how: "was terminated by signal 9". */
static void
crashed(const char *how, bool has_told_why)
{
	bool worked = atomic_load(&ring.header->batches) != child.batches;
	char reason[SERVICE_REASON];
	int requests;

	past.pause = worked || past.pause == 0 ? SHORTEST_PAUSE : Min(2 * past.pause, LONGEST_PAUSE);
	wait_until(fa_ring_now() + past.pause);
	show_state(FA_SERVICE_WAITING);
	atomic_fetch_add(&ring.header->restarts, 1);
	if (!has_told_why)
		show_error(psprintf("%s %s", PROGRAM, how));
	fa_ring_text(reason, sizeof(reason), ring.header->last_error, sizeof(reason));
	requests = fa_ring_settle(&ring, FA_DEVICE_LOST, PROGRAM " ended while it had the request",
							  has_told_why ? reason : psprintf("It %s.", how));
	log_death(how, has_told_why ? psprintf("%s. ", reason) : "", requests);
}

/* At rest until somebody asks for it. */
static void
stopped(void)
{
	if (!child.replaced)
		pg_atomic_write_u32(&shared->wish, WISH_NONE);
	past.pause = 0;
	show_state(FA_SERVICE_STOPPED);
	fa_ring_settle(&ring, FA_DEVICE_LOST, PROGRAM " ended while it had the request",
				   "It was told to end.");
}

static void
buried(int status)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (child.killed_for != NULL)
		crashed(child.killed_for, false);
	else if (signal == SIGTERM || code == 0)
		stopped();
	else if (code == EXIT_USELESS)
		became_useless();
	else if (signal != 0)
		crashed(psprintf("was terminated by signal %d: %s", signal, pg_strsignal(signal)), false);
	else
		crashed(psprintf("exited with exit code %d", code), code == EXIT_DEVICE_LOST);
	child.pid = 0;
}

/* false: it lives. */
static bool
bury(int options)
{
	int status;

	if (child.pid == 0)
		return true;
	if (waitpid(child.pid, &status, options) != child.pid)
		return false;
	buried(status);
	return true;
}

static void
kill_service(const char *why)
{
	if (child.killed_for == NULL)
		kill(child.pid, SIGKILL);
	child.killed_for = why;
}

/* --- Life --------------------------------------------------------------------------------- */

/* It has shown something, and shows something else now. */
static bool
is_damaged(void)
{
	const fa_ring_header *header = ring.header;
	Shown now, none;

	memset(&none, 0, sizeof(none));
	memset(&now, 0, sizeof(now));
	now.started = atomic_load(&header->started);
	now.precisions = atomic_load(&header->precisions);
	now.fastest = atomic_load(&header->fastest);
	memcpy(now.engine, header->engine, sizeof(now.engine));
	if (memcmp(&child.shown, &none, sizeof(none)) == 0)
		child.shown = now;
	return memcmp(&child.shown, &now, sizeof(now)) != 0;
}

/* Of this server: a process that has got the number of one that is no more is none. */
static bool
is_session(uint32_t pid)
{
	return BackendPidGetProc((int) pid) != NULL;
}

static void
watch(void)
{
	int64 now = fa_ring_now();
	uint64 beat = atomic_load(&ring.header->beat);
	uint32 state = atomic_load(&ring.header->state);

	fa_ring_reclaim(&ring, is_session);
	show_settings(); /* whatever has become of them */
	if (beat != child.beat || !fa_ring_busy(&ring))
		child.moved = now;
	child.beat = beat;
	child.stopping = state != FA_SERVICE_STOPPED ? 0 : child.stopping == 0 ? now : child.stopping;
	if (state == FA_SERVICE_STOPPED)
	{
		if (now - child.stopping > BEAT_LIMIT)
			kill_service("did not end, and was killed");
	}
	else if (state == FA_SERVICE_STARTING && now - child.started > START_LIMIT)
		kill_service("had not started within a minute, and was killed");
	else if (state != FA_SERVICE_STARTING && (state != FA_SERVICE_READY || is_damaged()))
		kill_service("had damaged its memory, and was killed");
	else if (now - child.moved > BEAT_LIMIT)
		kill_service("had stood still for ten seconds, and was killed");
}

/* What postgresql.conf wishes for, without a session. */
static ServiceWish
standing_wish(void)
{
	bool has_gpus = faceattr_run_in != RUN_IN_BACKEND && faceattr_device != DEVICE_CPU &&
					cuda_library() != NULL;

	pg_atomic_write_u32(&shared->has_gpus, has_gpus);
	if (faceattr_run_in == RUN_IN_SERVICE)
		return WISH_ANY;
	return has_gpus ? WISH_GPU : WISH_NONE;
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	show_settings();
	ask_for(standing_wish());
	if (child.pid != 0)
	{
		if (past.device != faceattr_device || past.gpu_device != faceattr_gpu_device ||
			past.threads != faceattr_threads)
		{
			child.replaced = true;
			atomic_store(&ring.header->state, FA_SERVICE_STOPPED); /* it takes no more */
			kill(child.pid, SIGTERM);
		}
		return;
	}
	past.pause = 0;
	past.useless[0] = '\0';
	show_state(FA_SERVICE_STOPPED);
}

/* Starts it, if that is due. Returns milliseconds until something may be due; -1: nothing. */
static long
start_if_due(void)
{
	ServiceWish wish = (ServiceWish) pg_atomic_read_u32(&shared->wish);
	int64 left = (int64) pg_atomic_read_u64(&shared->next_start) - fa_ring_now();
	bool due;

	switch (atomic_load(&ring.header->state))
	{
		case FA_SERVICE_STOPPED:
			due = wish != WISH_NONE;
			left = -1;
			break;
		case FA_SERVICE_USELESS:
			due = left <= 0 || wish > pg_atomic_read_u32(&shared->useless_for);
			break;
		default:
			due = left <= 0;
	}
	if (!due)
		return left < 0 ? -1 : (long) (left / 1000 + 1);
	start_service(wish);
	return CHECK_INTERVAL / 1000;
}

static void
child_changed(SIGNAL_ARGS)
{
	int number = errno;

	(void) postgres_signal_arg;
	SetLatch(MyLatch);
	errno = number;
}

/* Tells the service to end, and makes sure that it does. */
static void
worker_ends(int code, Datum argument)
{
	(void) code;
	(void) argument;
	pg_atomic_write_u64(&shared->latch, 0);
	if (child.pid == 0)
		return;
	kill(child.pid, SIGTERM);
	for (int i = 0; i < 100; i++)
	{
		if (bury(WNOHANG))
			return;
		pg_usleep(10000);
	}
	kill(child.pid, SIGKILL);
	(void) bury(0);
}

extern PGDLLEXPORT void faceattr_supervisor_main(Datum argument);

void
faceattr_supervisor_main(Datum argument)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "faceattr supervisor", ALLOCSET_SMALL_SIZES);

	(void) argument;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGCHLD, child_changed);
	BackgroundWorkerUnblockSignals();
	/* of a worker before this one */
	show_state(FA_SERVICE_STOPPED);
	fa_ring_settle(&ring, FA_DEVICE_LOST, PROGRAM " ended while it had the request", "");
	fa_ring_reclaim(&ring, is_session);
	before_shmem_exit(worker_ends, (Datum) 0);
	pg_atomic_write_u64(&shared->latch, (uint64) (uintptr_t) MyLatch);
	ask_for(standing_wish());
	show_settings();

	for (;;)
	{
		long timeout = CHECK_INTERVAL / 1000;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		if (ShutdownRequestPending)
			proc_exit(1); /* 0 would mean that the server can do without */
		if (ConfigReloadPending)
			reload();
		if (bury(WNOHANG))
			timeout = start_if_due();
		else
			watch();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
	}
}
