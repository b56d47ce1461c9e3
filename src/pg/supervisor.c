/*
 * supervisor.c
 *		The background worker that starts faceattr-service, watches it, and starts it again.
 *
 * The service is a child of this worker, and a stranger to the server: it gets the descriptor of
 * the ring (ring.h), a clean environment and stderr, which leads to the server's log, and nothing
 * else (launch.c). So whatever becomes of it, the postmaster sees no child of its own crash, and no
 * session is taken down. The worker is attached to shared memory, for its latch, but runs nothing
 * that a stranger has written, and believes the ring only what can do no harm.
 *
 * The state is the worker's own. The ring's header shows it, for sessions to go by, and there the
 * service moves it in two ways only, which the worker follows when it looks.
 *
 *	STOPPED -> STARTING   postgresql.conf has asked for it, or a session, which sets `wish` and
 *	                      this worker's latch
 *	STARTING -> READY     the service itself, when its device is open
 *	-> STOPPED            the service itself, being idle; or it was told to by SIGTERM
 *	-> USELESS            it has ended with status 2: this machine lacks what it needs. It is tried
 *	                      again after ten minutes, when settings change, or when a session asks for
 *	                      less: for any device where a GPU was looked for
 *	-> WAITING            it has ended in another way, or was killed, or could not be forked. It is
 *	                      tried again after a pause, which begins with 0.1 s and doubles up to
 *	                      30 s, until one has run a batch
 *
 * In STOPPED and WAITING a process may still be there, about to end or killed: no other one is
 * started before it is gone. Otherwise these, and USELESS, are of no process. What the header shows
 * then is put right every second, since sessions that believed in a service would wait for it.
 *
 * Whichever it was: the state is changed first, so that no session begins a request; then requests
 * in flight are settled, each of which becomes one ERROR of its session.
 *
 * While it lives, the worker looks at it every second. One that is busy and whose header->beat
 * stands still for ten seconds, one that is starting and does not move for a minute, and one that
 * shows what it cannot be, is killed, and that is its death, though the kernel may take longer.
 * Slots of sessions that are no more are freed.
 *
 * The service does not outlive the worker, nor the worker the postmaster: the kernel kills the
 * service when the worker ends, however that comes. Where shared memory is made anew, after a
 * session's crash, the postmaster empties the ring before it starts anybody.
 *
 * Deaths are told in the log, one line each, up to five; from then on one line a minute, which
 * counts the others.
 */
#include "supervisor.h"

#include <math.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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
#define WANTED_AGAIN (SECOND / 10)    /* after which a session says again that it wants it */
#define EXIT_USELESS 2
#define EXIT_DEVICE_LOST 3

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
	pg_atomic_uint64 failed_at; /* when it last failed a session that can do without it; 0: never */
	pg_atomic_uint64 rests_since; /* see service_rests_since() */
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
	int64 since; /* that it is in this state */
	int64 moved; /* when its beat was last seen to have changed */
	uint64 beat, batches;
	Shown shown;   /* all zero: it was not ready yet */
	bool replaced; /* it has been told to end so that another is started */
} child;

static fa_service_state state = FA_SERVICE_STOPPED; /* of it, or of its absence */

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
		ereport(WARNING, (errmsg("%s cannot be had: %s", SERVICE_PROGRAM, ring_error.message),
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
	pg_atomic_init_u64(&shared->failed_at, 0);
	pg_atomic_init_u64(&shared->rests_since, 0);
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

int64
service_rests_since(void)
{
	return (int64) pg_atomic_read_u64(&shared->rests_since);
}

void
service_has_failed(int64 within)
{
	int64 now = fa_ring_now();
	int64 before = (int64) pg_atomic_exchange_u64(&shared->failed_at, (uint64) now);

	if (before != 0 && now - before < within)
		pg_atomic_write_u64(&shared->rests_since, (uint64) now);
}

bool
service_is_ready(void)
{
	_Atomic int64_t *wanted = &ring.header->wanted;
	int64_t now = fa_ring_now(), before = atomic_load(wanted);

	/* first, so that it either sees this or is seen to end */
	while (before != FA_RING_ENDS && now - before > WANTED_AGAIN &&
		   !atomic_compare_exchange_weak(wanted, &before, now))
		;
	return before != FA_RING_ENDS && atomic_load(&ring.header->state) == FA_SERVICE_READY;
}

void
service_ask_for(ServiceWish wish)
{
	uint32 before = pg_atomic_read_u32(&shared->wish);
	Latch *latch;

	while (before < wish && !pg_atomic_compare_exchange_u32(&shared->wish, &before, wish))
		;
	latch = (Latch *) (uintptr_t) pg_atomic_read_u64(&shared->latch);
	if (before < wish && latch != NULL) /* else it knows */
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
				if (service_is_ready())
					return true;
				break;
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
		service_ask_for(wish);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FA_RING_PATIENCE,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* --- What the header shows ------------------------------------------------------------- */

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

/* As this worker knows it, whatever somebody has written there. Nothing is left of an older one. */
static void
show_state(void)
{
	fa_ring_header *header = ring.header;

	atomic_store(&header->state, state);
	atomic_store(&header->pid, 0);
	atomic_store(&header->started, 0);
	atomic_store(&header->wanted, 0);
	memset(header->engine, 0, sizeof(header->engine));
	memset(header->device, 0, sizeof(header->device));
	memset(header->models, 0, sizeof(header->models));
}

static void
enter(fa_service_state entered)
{
	state = entered;
	child.since = fa_ring_now();
	show_state();
}

static void
wait_until(int64 when)
{
	pg_atomic_write_u64(&shared->next_start, (uint64) when);
}

static int
settle(const char *why)
{
	return fa_ring_settle(&ring, FA_DEVICE_LOST, SERVICE_PROGRAM " ended while it had the request",
						  why);
}

/* --- Death ------------------------------------------------------------------------------ */

static void
log_death(const char *how, const char *why, int requests)
{
	int64 now = fa_ring_now();
	int64 earned = (now - past.credit_since) / LOG_INTERVAL;
	char *others = "", *process = "";

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
	if (child.pid != 0)
		process = psprintf(" (PID %d)", (int) child.pid);
	ereport(LOG, (errmsg_internal("%s%s %s", SERVICE_PROGRAM, process, how),
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
	enter(FA_SERVICE_USELESS);
	fa_ring_settle(&ring, FA_DEVICE_LOST, SERVICE_PROGRAM " cannot run here", reason);
	if (strcmp(reason, past.useless) != 0)
		ereport(LOG, (errmsg_internal("%s cannot run here: %s", SERVICE_PROGRAM, reason),
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
	enter(FA_SERVICE_WAITING);
	atomic_fetch_add(&ring.header->restarts, 1);
	if (!has_told_why)
		show_error(psprintf("%s %s", SERVICE_PROGRAM, how));
	fa_ring_text(reason, sizeof(reason), ring.header->last_error, sizeof(reason));
	requests = settle(has_told_why ? reason : psprintf("It %s.", how));
	log_death(how, has_told_why ? psprintf("%s. ", reason) : "", requests);
}

/* At rest until somebody asks for it. */
static void
stopped(void)
{
	if (!child.replaced)
		pg_atomic_write_u32(&shared->wish, WISH_NONE);
	past.pause = 0;
	enter(FA_SERVICE_STOPPED);
	settle("It was told to end.");
}

static void
buried(int status)
{
	int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (state == FA_SERVICE_WAITING) /* killed: all that has been told */
	{
		settle("It was killed.");
		if (service_pause() * SECOND > past.pause)
			wait_until(fa_ring_now() + past.pause);
	}
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
bury(void)
{
	int status;

	if (child.pid == 0)
		return true;
	if (waitpid(child.pid, &status, WNOHANG) != child.pid)
		return false;
	buried(status);
	return true;
}

/*
 * Dead from now on, though the kernel may take its time, for a driver that hangs say: nobody begins
 * a request or waits for one. Nothing of it runs any more, so its slots can be settled; and no
 * other one is started before it is gone.
 */
static void
kill_service(const char *why)
{
	if (state == FA_SERVICE_WAITING)
		return; /* for the first reason */
	kill(child.pid, SIGKILL);
	crashed(why, false);
}

/* --- Start ------------------------------------------------------------------------------- */

static void
start_service(ServiceWish wish)
{
	past.device = faceattr_device;
	past.gpu_device = faceattr_gpu_device;
	past.threads = faceattr_threads;
	memset(&child, 0, sizeof(child));
	child.wish = wish;
	child.moved = fa_ring_now();
	child.batches = atomic_load(&ring.header->batches);
	show_settings();
	enter(FA_SERVICE_STARTING);
	child.pid = service_launch(&ring, wish);
	if (child.pid < 0)
	{
		child.pid = 0;
		crashed(psprintf("could not be forked: %m"), false);
		return;
	}
	atomic_store(&ring.header->pid, (uint32) child.pid);
	ereport(DEBUG1, (errmsg("%s (PID %d) has been started", SERVICE_PROGRAM, (int) child.pid)));
}

/* --- Life --------------------------------------------------------------------------------- */

/* It is ready, and has shown something else before, or nothing. */
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
	return now.started == 0 || memcmp(&child.shown, &now, sizeof(now)) != 0;
}

/* What the header shows of it can move it on; what should not be there is damage. */
static void
follow(uint32 shown)
{
	if (state != FA_SERVICE_STARTING && state != FA_SERVICE_READY)
		return;
	if (shown == FA_SERVICE_STOPPED ||
		(shown == FA_SERVICE_READY && atomic_load(&ring.header->wanted) == FA_RING_ENDS))
		enter(FA_SERVICE_STOPPED); /* by itself, being idle */
	else if (state == FA_SERVICE_STARTING && shown == FA_SERVICE_READY)
		state = FA_SERVICE_READY;
	else if (shown != state || (state == FA_SERVICE_READY && is_damaged()))
		kill_service("had damaged its memory, and was killed");
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

	fa_ring_reclaim(&ring, is_session);
	show_settings(); /* whatever has become of them */
	if (beat != child.beat || (state == FA_SERVICE_READY && !fa_ring_busy(&ring)))
		child.moved = now;
	child.beat = beat;
	follow(atomic_load(&ring.header->state));
	switch (state)
	{
		case FA_SERVICE_STARTING:
			if (now - child.moved > START_LIMIT)
				kill_service("had not started within a minute, and was killed");
			break;
		case FA_SERVICE_READY:
			if (now - child.moved > BEAT_LIMIT)
				kill_service("had stood still for ten seconds, and was killed");
			break;
		case FA_SERVICE_STOPPED:
			show_state();
			if (now - child.since > BEAT_LIMIT)
				kill_service("did not end, and was killed");
			break;
		default: /* killed: sessions need not wait for what may take long */
			show_state();
			if (now - child.since > SESSION_PATIENCE)
				wait_until(now + LONGEST_PAUSE);
	}
}

/* What postgresql.conf wishes for, without a session. */
static ServiceWish
standing_wish(void)
{
	bool has_gpus = faceattr_run_in != RUN_IN_BACKEND && faceattr_device != DEVICE_CPU &&
					service_cuda_library() != NULL;

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
	service_ask_for(standing_wish());
	if (state == FA_SERVICE_STARTING || state == FA_SERVICE_READY)
	{
		if (past.device != faceattr_device || past.gpu_device != faceattr_gpu_device ||
			past.threads != faceattr_threads)
		{
			child.replaced = true;
			enter(FA_SERVICE_STOPPED); /* it takes no more */
			kill(child.pid, SIGTERM);
		}
		return;
	}
	past.pause = 0;
	past.useless[0] = '\0';
	wait_until(0);
	if (child.pid == 0)
		enter(FA_SERVICE_STOPPED);
}

/*
 * No service lives. Who has nothing to do with it may have written to its memory all the same: that
 * is put right. Then it is started, if that is due.
 */
static void
start_if_due(void)
{
	ServiceWish wish = (ServiceWish) pg_atomic_read_u32(&shared->wish);
	bool pause_is_over = fa_ring_now() >= (int64) pg_atomic_read_u64(&shared->next_start);

	show_state();
	settle("");
	fa_ring_reclaim(&ring, is_session);
	if (state == FA_SERVICE_STOPPED ? wish != WISH_NONE
		: state == FA_SERVICE_USELESS
			? pause_is_over || wish > pg_atomic_read_u32(&shared->useless_for)
			: pause_is_over)
		start_service(wish);
}

/* Milliseconds until there is something to look at. */
static long
next_look(void)
{
	int64 left = (int64) pg_atomic_read_u64(&shared->next_start) - fa_ring_now();

	if (state != FA_SERVICE_WAITING || child.pid != 0 || left > CHECK_INTERVAL)
		left = CHECK_INTERVAL;
	return (long) (Max(left, 0) / 1000 + 1);
}

static void
child_changed(SIGNAL_ARGS)
{
	int number = errno;

	(void) postgres_signal_arg;
	SetLatch(MyLatch);
	errno = number;
}

/* Waits for its death so many hundredths of a second; false: it lives. */
static bool
bury_within(int hundredths)
{
	for (int i = 0; i < hundredths; i++)
	{
		if (bury())
			return true;
		pg_usleep(10000);
	}
	return false;
}

/*
 * Tells the service to end, and sees to it. One that the kernel cannot end does not hold up the
 * server's shutdown: it is nobody's any more, and dies when it can.
 */
static void
worker_ends(int code, Datum argument)
{
	(void) code;
	(void) argument;
	pg_atomic_write_u64(&shared->latch, 0);
	if (child.pid == 0)
		return;
	if (state != FA_SERVICE_WAITING)
		enter(FA_SERVICE_STOPPED);
	kill(child.pid, SIGTERM);
	if (bury_within(100))
		return;
	kill(child.pid, SIGKILL);
	(void) bury_within(200);
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
	enter(FA_SERVICE_STOPPED);
	before_shmem_exit(worker_ends, (Datum) 0);
	pg_atomic_write_u64(&shared->latch, (uint64) (uintptr_t) MyLatch);
	service_ask_for(standing_wish());
	show_settings();

	for (;;)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		if (ShutdownRequestPending)
			proc_exit(1); /* 0 would mean that the server can do without */
		if (ConfigReloadPending)
			reload();
		if (bury())
			start_if_due();
		else
			watch();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT, next_look(),
						 PG_WAIT_EXTENSION);
	}
}
