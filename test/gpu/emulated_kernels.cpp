/*
 * emulated_kernels.cpp
 *		Kernels on the emulated device; see emulation.h.
 *
 * A block's threads run one after the other. A thread that comes to a barrier is set
 * aside on its stack until all the others have come; only kernels with barriers pay for that.
 */
#include "emulation.h"

#include "races.h"

#include <memory>
#include <ucontext.h>
#include <vector>

uint3 emulated_thread, emulated_block;
dim3 emulated_block_size;

static int kernels;

#define STACK (64 << 10)

/* A stack on which threads run one after the other, until one waits at a barrier. */
struct fiber
{
	ucontext_t context;
	std::unique_ptr<char[]> stack{new char[STACK]};
};

typedef std::vector<std::unique_ptr<fiber>> fiber_list;

static ucontext_t scheduler;
static fiber_list idle;
static fiber *running; /* NULL: the last one that ran has come to the end of the block */
static unsigned next_thread;
static const std::function<void()> *body;

static void
run_threads()
{
	fiber *self = running;

	for (;;)
	{
		while (next_thread < emulated_block_size.x)
		{
			emulated_thread.x = next_thread++;
			(*body)();
		}
		running = nullptr;
		swapcontext(&self->context, &scheduler);
	}
}

void
emulated_barrier()
{
	fiber *self = running;
	unsigned thread = emulated_thread.x;

	swapcontext(&self->context, &scheduler);
	emulated_thread.x = thread;
}

/* Lets a fiber run on; it goes to those that wait, or to the idle ones. */
static void
resume(std::unique_ptr<fiber> f, fiber_list &waiting)
{
	running = f.get();
	races_stack(f->stack.get(), STACK);
	swapcontext(&scheduler, &f->context);
	(running != nullptr ? waiting : idle).push_back(std::move(f));
}

static std::unique_ptr<fiber>
take_fiber()
{
	std::unique_ptr<fiber> f;

	if (!idle.empty())
	{
		f = std::move(idle.back());
		idle.pop_back();
		return f;
	}
	f.reset(new fiber);
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack.get();
	f->context.uc_stack.ss_size = STACK;
	f->context.uc_link = nullptr;
	makecontext(&f->context, run_threads, 0);
	return f;
}

static void
run_block()
{
	fiber_list waiting;

	next_thread = 0;
	while (next_thread < emulated_block_size.x)
		resume(take_fiber(), waiting);
	while (!waiting.empty())
	{
		fiber_list next;

		if (waiting.size() != emulated_block_size.x)
			emulated_complain("only %zu threads of a block come to a barrier", waiting.size());
		for (auto &f : waiting)
			resume(std::move(f), next);
		waiting = std::move(next);
	}
}

void
emulated_launch(unsigned blocks, unsigned threads, cudaStream_t stream,
				std::function<void()> thread)
{
	if (blocks == 0 || threads == 0 || threads > 1024)
		emulated_complain("a kernel of %u blocks of %u threads", blocks, threads);
	emulated_queue(stream,
				   [=]
				   {
					   kernels++;
					   body = &thread;
					   emulated_block_size = dim3(threads);
					   for (emulated_block.x = 0; emulated_block.x < blocks; emulated_block.x++)
						   run_block();
				   });
}

int
emulated_kernels()
{
	return kernels;
}
