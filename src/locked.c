/*
 * locked.c
 *	  Memory for what must not be left behind: keys, and secrets in plain text.
 *
 * Pages of their own, straight from the kernel: not swapped out where the limit
 * on locked memory allows it (RLIMIT_MEMLOCK; where it does not they are used all
 * the same), not in core dumps where the kernel can leave them out (Linux), and
 * overwritten before they are given back.
 *
 * A block belongs to the memory context that was current when it was made, and is
 * wiped with it.  So an error on the way leaves nothing behind, and nobody needs
 * a PG_TRY for that.
 */
#include "locked.h"

#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "utils/memutils.h"

/* Lives in the context; what it guards lies outside of it. */
typedef struct Guard
{
	MemoryContextCallback callback;
	struct Block *block;		/* NULL once it is gone */
} Guard;

typedef struct Block
{
	Guard	   *guard;
	size_t		size;			/* of all of it, whole pages */
} Block;

/* What users get begins here. */
#define BLOCK_HEAD MAXALIGN(sizeof(Block))

static void
discard(Guard *guard)
{
	Block	   *block = guard->block;

	if (block == NULL)
		return;
	guard->block = NULL;
	OPENSSL_cleanse((char *) block + BLOCK_HEAD, block->size - BLOCK_HEAD);
	munmap(block, block->size);
}

/* The context is reset or deleted, after success or after an error. */
static void
context_ends(void *arg)
{
	discard((Guard *) arg);
}

/*
 * tb_locked_alloc
 *		So many bytes, all zero, until tb_locked_free() or until the current memory
 *		context is reset.
 */
void *
tb_locked_alloc(size_t size)
{
	size_t		page = sysconf(_SC_PAGESIZE);
	Guard	   *guard = MemoryContextAllocZero(CurrentMemoryContext, sizeof(Guard));
	Block	   *block;

	size = (size + BLOCK_HEAD + page - 1) / page * page;
	block = mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block == MAP_FAILED)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail_internal("{\"bytes\": %zu}", size),
				 errhint("The server's machine has no memory left.")));
	/* either may be refused: then it is memory like any other */
	(void) mlock(block, size);
#ifdef MADV_DONTDUMP
	(void) madvise(block, size, MADV_DONTDUMP);
#endif
	block->guard = guard;
	block->size = size;
	guard->block = block;
	guard->callback.func = context_ends;
	guard->callback.arg = guard;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &guard->callback);
	return (char *) block + BLOCK_HEAD;
}

/*
 * tb_locked_free
 *		Wipe it and give it back.  Its context must not have been reset yet.
 */
void
tb_locked_free(void *memory)
{
	Block	   *block = (Block *) ((char *) memory - BLOCK_HEAD);

	discard(block->guard);
}
