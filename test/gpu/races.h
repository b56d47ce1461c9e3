/*
 * races.h
 *		What the emulated device knows of its memory: which bytes have been written, and
 *		by whom every byte was read and written last, so that two streams, or a stream and
 *		the host, at the same byte are found out whenever nothing makes one wait for the other.
 *
 * Order is told by vector clocks (Fidge 1988, Mattern 1989): actor 0 is the host, the others
 * are streams, and clock[a] is how much of actor a's work is known to be done. What work touches
 * is collected while it runs and judged when it ends. The kernels are compiled with GCC's
 * -fsanitize=thread, whose calls at every access end here in place of its own library.
 *
 * All that only in the programs with AddressSanitizer. The library for tests on servers is watched
 * by nobody: there the server is on trial, and watching takes half of the time.
 */
#ifndef RACES_H
#define RACES_H

#include <cstddef>
#include <cstdint>
#include <vector>

typedef std::vector<uint64_t> vector_clock;

extern void clock_join(vector_clock &to, const vector_clock &from);
extern uint64_t clock_of(const vector_clock &clock, int actor);

/* A block of memory comes; pinned: the host's, which may have written all of it. */
extern void races_add(void *address, size_t bytes, bool pinned);
/* It goes; all that streams did with it must be known to the host. */
extern void races_remove(void *address, const vector_clock &host);
/* The work that runs reads or writes; what is not in a block must at least be alive. */
extern void races_touch(const void *address, size_t bytes, bool writes);
/* The stack that kernels run on: theirs alone. */
extern void races_stack(const void *stack, size_t bytes);
/* The work of an actor ends. */
extern void races_settle(int actor, const vector_clock &clock);

#endif
