/*
 * supervisor.h
 *		faceattr-service, seen from the server: the worker that looks after it (supervisor.c,
 *		launch.c), and the sessions that would have it run their networks (remote.c).
 */
#ifndef FACEATTR_SUPERVISOR_H
#define FACEATTR_SUPERVISOR_H

#include "faceattr.h"

#include "../service/ring.h"

/* What a session wants of a service that it asks for. */
typedef enum ServiceWish
{
	WISH_NONE,
	WISH_GPU, /* one with a GPU, or none */
	WISH_ANY
} ServiceWish;

#define SERVICE_PROGRAM "faceattr-service"
#define SERVICE_NOT_EXECUTED 127 /* its exit status where exec failed */
#define SERVICE_REASON sizeof(((fa_ring_header *) 0)->last_error)

/*
 * The ring, which the postmaster has made and every process below it has inherited; NULL where
 * there is none, and *why tells.
 */
extern fa_ring *service_ring(const char **why);

/* In the postmaster, while it loads the library: makes the ring, registers the worker. */
extern void supervisor_preload(void);
extern Size supervisor_shared_size(void);
extern void supervisor_attach(void *memory, bool found);

/* It is ready, and has been told that it is wanted: it does not end soon. */
extern bool service_is_ready(void);
/* Asks for a service, and does not wait. */
extern void service_ask_for(ServiceWish wish);
/*
 * Asks for a service and waits, as long as it takes one to start, or to start again if that is
 * soon. False: there is none to be had; the ring's header says why.
 */
extern bool service_start(ServiceWish wish);
/* Since when it has been failing sessions that can do without it, so that none goes there; 0:
 * never. */
extern int64 service_rests_since(void);
/* It has failed one: the second time within so many microseconds, all are to let it rest. */
extern void service_has_failed(int64 within);
/* Whether GPUs are left to the service: configuration and installation say so. */
extern bool service_has_gpus(void);
/* Whether there is a worker that starts it. */
extern bool service_has_supervisor(void);
/* Seconds until the service is started again; 0: at once, or nobody knows. */
extern int service_pause(void);

/* The worker's: forks the service; -1: errno tells why not. What it allocates is for one turn. */
extern pid_t service_launch(const fa_ring *ring, ServiceWish wish);
/* The CUDA engine's, where it is installed; else NULL. */
extern char *service_cuda_library(void);

#endif
