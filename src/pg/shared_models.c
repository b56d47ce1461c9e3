/*
 * shared_models.c
 *		One copy of a model for all sessions: packed pipelines in dynamic shared memory,
 *		found in a small table in main shared memory. Preloaded only.
 *
 * A slot of the table is free, being packed, or ready. Its key is the model's (models.c:
 * bytes, not names, so two databases may give one name to two models), the engine and the
 * precision. One LWLock guards the table, and is held for a look at it, never for work.
 *
 * A backend that needs a model claims it. Where it is ready, the claim pins it, and the backend
 * maps its segment and runs from there. Where nobody has it, the backend gets the slot
 * as the packer: it loads the model for itself, packs it, makes room, creates the segment
 * and declares the slot ready. Whoever comes meanwhile sleeps on the condition variable.
 * If the packer fails, by an ERROR or by being told to exit, the slot is free again and
 * the next of those who sleep packs. (A packer killed by -9 takes the server through a restart,
 * which empties table and segments alike.)
 *
 * A pin is one running statement's: it hangs on the memory context that the executor deletes
 * with the statement, whether it ended well or not. The least recently used model without
 * a pin leaves when another needs its room. To leave is to be forgotten by the table and to
 * lose the reference that kept the segment without users; sessions that still have it mapped
 * are not disturbed, and let it go when they next look for the model and find it gone, or end.
 *
 * Segments are filled before the slot is ready and mapped for reading only afterwards.
 */
#include "faceattr.h"

#include <sys/mman.h>

#include "access/htup_details.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/dsm_impl.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define SLOTS 64

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_PACKING,
	SLOT_READY
} SlotState;

typedef struct Slot
{
	SlotState state;
	uint8 key[MODEL_KEY];
	char engine[8];
	fa_precision precision;
	char name[MODEL_NAME]; /* by which it was asked for first */
	Size size;             /* of the segment; while packing, of the room it has been promised */
	dsm_handle segment;
	int pins;    /* running statements */
	uint64 hits; /* statements that found it here */
	TimestampTz last_use;
} Slot;

typedef struct SharedModels
{
	LWLock lock; /* everything below but `packed` */
	ConditionVariable packed;
	Slot slots[SLOTS];
} SharedModels;

int faceattr_model_cache_size;

static SharedModels *shared; /* NULL: not preloaded */
static int packing = -1;     /* the slot that this backend packs */

typedef struct Pin
{
	dlist_node node;
	MemoryContextCallback callback;
	MemoryContext statement;
	int slot;
} Pin;

static dlist_head pins = DLIST_STATIC_INIT(pins); /* this backend's */

/* --- Start --------------------------------------------------------------------- */

Size
shared_models_size(void)
{
	return sizeof(SharedModels);
}

void
shared_models_attach(void *memory, bool found)
{
	shared = memory;
	if (!found)
	{
		memset(shared, 0, sizeof(*shared));
		LWLockInitialize(&shared->lock, LWLockNewTrancheId());
		ConditionVariableInit(&shared->packed);
	}
	LWLockRegisterTranche(shared->lock.tranche, "faceattr_models");
}

bool
shared_models_enabled(void)
{
	return shared != NULL;
}

/* --- The table, under its lock --------------------------------------------------- */

static int
find_slot(const uint8 *key, const Device *device)
{
	for (int i = 0; i < SLOTS; i++)
	{
		const Slot *slot = &shared->slots[i];

		if (slot->state != SLOT_FREE && slot->precision == device->precision &&
			strcmp(slot->engine, device->interface->name) == 0 &&
			memcmp(slot->key, key, MODEL_KEY) == 0)
			return i;
	}
	return -1;
}

/* The least recently used that is ready and unpinned; -1: none. */
static int
find_victim(void)
{
	int victim = -1;

	for (int i = 0; i < SLOTS; i++)
		if (shared->slots[i].state == SLOT_READY && shared->slots[i].pins == 0 &&
			(victim < 0 || shared->slots[i].last_use < shared->slots[victim].last_use))
			victim = i;
	return victim;
}

static void
evict(int i)
{
	dsm_handle segment = shared->slots[i].segment;

	shared->slots[i].state = SLOT_FREE;
	dsm_unpin_segment(segment);
}

/* A slot for a new model; -1: all are in use. */
static int
free_slot(void)
{
	int victim;

	for (int i = 0; i < SLOTS; i++)
		if (shared->slots[i].state == SLOT_FREE)
			return i;
	victim = find_victim();
	if (victim >= 0)
		evict(victim);
	return victim;
}

/* Sends models away until there are `size` bytes for slot i; false: no room. */
static bool
make_room(int i, Size size)
{
	Size limit = (Size) faceattr_model_cache_size * 1024 * 1024;

	for (;;)
	{
		Size used = 0;
		int victim;

		for (int k = 0; k < SLOTS; k++)
			if (k != i && shared->slots[k].state != SLOT_FREE)
				used += shared->slots[k].size;
		if (size <= limit && used <= limit - size)
			return true;
		victim = size <= limit ? find_victim() : -1;
		if (victim < 0)
			return false;
		evict(victim);
	}
}

static void
free_packing_slot(void)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	shared->slots[packing].state = SLOT_FREE;
	LWLockRelease(&shared->lock);
	packing = -1;
	ConditionVariableBroadcast(&shared->packed);
}

/* --- Pins ------------------------------------------------------------------------ */

static void
unpin(Pin *pin)
{
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	shared->slots[pin->slot].pins--;
	shared->slots[pin->slot].last_use = GetCurrentTimestamp();
	LWLockRelease(&shared->lock);
	dlist_delete(&pin->node);
	pin->slot = -1;
}

static void
statement_ended(void *argument)
{
	Pin *pin = argument;

	if (pin->slot >= 0)
		unpin(pin);
}

/* The executor's contexts are not deleted by every way to leave. */
static void
backend_ends(int code, Datum argument)
{
	(void) code;
	(void) argument;
	while (!dlist_is_empty(&pins))
		unpin(dlist_container(Pin, node, dlist_head_node(&pins)));
	if (packing >= 0)
		free_packing_slot();
}

static void
pin_slot(Pin *pin, int i, bool hit)
{
	Slot *slot = &shared->slots[i];

	slot->pins++;
	slot->hits += hit;
	slot->last_use = GetCurrentTimestamp();
	pin->slot = i;
	dlist_push_head(&pins, &pin->node);
}

/* A pin that pins nothing yet: what can fail is done before there is something to undo. */
static Pin *
new_pin(MemoryContext statement)
{
	static bool registered;
	Pin *pin = MemoryContextAllocZero(statement, sizeof(Pin));

	if (!registered)
	{
		before_shmem_exit(backend_ends, (Datum) 0);
		registered = true;
	}
	pin->slot = -1;
	pin->statement = statement;
	pin->callback.func = statement_ended;
	pin->callback.arg = pin;
	MemoryContextRegisterResetCallback(statement, &pin->callback);
	return pin;
}

bool
shared_model_pin(const SharedModel *model, MemoryContext statement)
{
	dlist_iter i;
	Pin *pin;
	bool there;

	dlist_foreach(i, &pins)
	{
		pin = dlist_container(Pin, node, i.cur);
		if (pin->statement == statement && pin->slot == model->slot)
			return true;
	}
	pin = new_pin(statement);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	there = shared->slots[model->slot].state == SLOT_READY &&
			shared->slots[model->slot].segment == dsm_segment_handle(model->segment);
	if (there)
		pin_slot(pin, model->slot, true);
	LWLockRelease(&shared->lock);
	return there;
}

/* --- Claiming and packing ---------------------------------------------------------- */

SharedClaim
shared_model_claim(const Model *model, const Device *device, MemoryContext statement,
				   SharedModel *claimed)
{
	Pin *pin = new_pin(statement);
	SharedClaim claim = SHARED_READY;
	dsm_handle segment = 0;
	int i;

	for (;;)
	{
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		i = find_slot(model->key, device);
		if (i < 0)
		{
			claim = SHARED_NO_ROOM;
			i = free_slot();
			if (i >= 0)
			{
				Slot *slot = &shared->slots[i];

				memset(slot, 0, sizeof(*slot));
				slot->state = SLOT_PACKING;
				slot->precision = device->precision;
				strlcpy(slot->engine, device->interface->name, sizeof(slot->engine));
				memcpy(slot->key, model->key, MODEL_KEY);
				strlcpy(slot->name, model->name, sizeof(slot->name));
				packing = i;
				claim = SHARED_PACK;
			}
		}
		else if (shared->slots[i].state == SLOT_READY)
		{
			pin_slot(pin, i, true);
			segment = shared->slots[i].segment;
		}
		else
		{
			LWLockRelease(&shared->lock);
			ConditionVariableSleep(&shared->packed, PG_WAIT_EXTENSION);
			continue;
		}
		LWLockRelease(&shared->lock);
		break;
	}
	ConditionVariableCancelSleep();
	claimed->slot = i;
	claimed->segment = NULL;
	if (claim == SHARED_READY)
	{
		claimed->segment = dsm_attach(segment);
		if (claimed->segment == NULL) /* pinned, it cannot have left */
			elog(ERROR, "could not map the shared copy of model \"%s\"", model->name);
		dsm_pin_mapping(claimed->segment);
	}
	return claim;
}

/*
 * A segment of that size, kept mapped; NULL where there is no shared memory for it, and
 * *why has the reason. A failure of dsm_create leaves things to its resource owner, which
 * is one of our own, for the statement goes on.
 */
static dsm_segment *
create_segment(Size size, char **why)
{
	ResourceOwner outer = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = ResourceOwnerCreate(outer, "faceattr segment");
	dsm_segment *volatile segment = NULL;

	*why = NULL;
	CurrentResourceOwner = owner;
	PG_TRY();
	{
		segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		if (segment != NULL)
			dsm_pin_mapping(segment);
	}
	PG_CATCH();
	{
		ErrorData *failure;

		MemoryContextSwitchTo(context);
		failure = CopyErrorData();
		FlushErrorState();
		*why = failure->message;
		segment = NULL;
	}
	PG_END_TRY();
	CurrentResourceOwner = outer;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, segment != NULL, false);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, segment != NULL, false);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, segment != NULL, false);
	ResourceOwnerDelete(owner);
	if (segment == NULL && *why == NULL)
		*why = pstrdup("There are too many segments.");
	return segment;
}

static void
warn_once(const char *name, const char *detail, const char *hint)
{
	static bool warned;

	if (!warned)
		ereport(WARNING, (errmsg("this session runs model \"%s\" from a copy of its own", name),
						  errdetail_internal("%s", detail), errhint("%s", hint)));
	warned = true;
}

bool
shared_model_publish(const Model *model, const void *block, Size size, MemoryContext statement,
					 SharedModel *published)
{
	Pin *pin = new_pin(statement);
	int i = packing;
	bool room;
	char *why;

	Assert(i >= 0);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	room = make_room(i, size);
	if (room)
		shared->slots[i].size = size;
	LWLockRelease(&shared->lock);
	if (!room)
	{
		shared_model_give_up();
		warn_once(model->name,
				  psprintf("It takes %zu kB, for which faceattr.model_cache_size leaves no room.",
						   size / 1024),
				  "Raise faceattr.model_cache_size.");
		return false;
	}
	published->slot = i;
	published->segment = create_segment(size, &why);
	if (published->segment == NULL)
	{
		shared_model_give_up();
		warn_once(model->name, why,
				  "Give the server more shared memory: in a container, a larger /dev/shm.");
		return false;
	}
	memcpy(dsm_segment_address(published->segment), block, size);
	dsm_pin_segment(published->segment);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	shared->slots[i].segment = dsm_segment_handle(published->segment);
	shared->slots[i].state = SLOT_READY;
	pin_slot(pin, i, false);
	LWLockRelease(&shared->lock);
	packing = -1;
	ConditionVariableBroadcast(&shared->packed);
	return true;
}

void
shared_model_give_up(void)
{
	if (packing >= 0)
		free_packing_slot();
}

/* --- The segment ------------------------------------------------------------------- */

fa_bytes
shared_model_block(const SharedModel *model)
{
	void *block = dsm_segment_address(model->segment);
	Size mapped = dsm_segment_map_length(model->segment);

	/* A segment within main shared memory shares its pages, and they come back to use. */
	if (min_dynamic_shared_memory == 0)
		(void) mprotect(block, mapped, PROT_READ); /* a safeguard: without it all works, too */
	return (fa_bytes){block, mapped};
}

void
shared_model_detach(SharedModel *model)
{
	if (model->segment != NULL)
		dsm_detach(model->segment);
	model->segment = NULL;
}

/* --- The view ------------------------------------------------------------------------ */

void
shared_models_rows(Tuplestorestate *rows, TupleDesc desc)
{
	Slot *slots;

	if (shared == NULL)
		return;
	slots = palloc(sizeof(shared->slots));
	LWLockAcquire(&shared->lock, LW_SHARED);
	memcpy(slots, shared->slots, sizeof(shared->slots));
	LWLockRelease(&shared->lock);
	for (int i = 0; i < SLOTS; i++)
		if (slots[i].state != SLOT_FREE)
		{
			ModelRow row = {.name = slots[i].name,
							.key = slots[i].key,
							.engine = slots[i].engine,
							.precision = slots[i].precision,
							.location = slots[i].state == SLOT_READY ? "shared" : "packing",
							.size = (int64) slots[i].size,
							.pins = slots[i].pins,
							.hits = (int64) slots[i].hits,
							.last_use = slots[i].last_use};

			model_row(rows, desc, &row);
		}
	pfree(slots);
}
