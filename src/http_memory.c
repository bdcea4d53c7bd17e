/*
 * http_memory.c
 *	  Memory that is wiped before it is freed.
 *
 * A request's URL and headers hold keys.  libcurl copies both, and frees its
 * copies without wiping them; so it is given these functions instead of malloc's
 * own.  They are the only ones that may free what they have made.  OpenSSL has
 * an allocator of its own, whose buffers hold what is sent for as long as it
 * takes to send it.
 *
 * Threads of libcurl's resolver call these too: they use nothing of the server's.
 */
#include "http_transfer.h"

/* What stands before each piece of memory: its size, and room to align it */
typedef union Prefix
{
	size_t		size;
	max_align_t aligned;
} Prefix;

/*
 * tb_wiped_malloc
 *		As malloc; NULL if there is no memory.
 */
void *
tb_wiped_malloc(size_t size)
{
	Prefix	   *prefix;

	if (size > SIZE_MAX - sizeof(Prefix))
		return NULL;
	prefix = malloc(sizeof(Prefix) + size);
	if (prefix == NULL)
		return NULL;
	prefix->size = size;
	return prefix + 1;
}

/*
 * tb_wiped_calloc
 *		As calloc.
 */
void *
tb_wiped_calloc(size_t count, size_t size)
{
	void	   *memory;

	if (size > 0 && count > SIZE_MAX / size)
		return NULL;
	memory = tb_wiped_malloc(count * size);
	if (memory != NULL)
		memset(memory, 0, count * size);
	return memory;
}

/*
 * tb_wiped_free
 *		As free, but nothing of what was in there stays behind.
 */
void
tb_wiped_free(void *memory)
{
	Prefix	   *prefix;

	if (memory == NULL)
		return;
	prefix = (Prefix *) memory - 1;
	explicit_bzero(memory, prefix->size);
	free(prefix);
}

/*
 * tb_wiped_realloc
 *		As realloc.  Always moves: realloc itself would leave the old place as it
 *		was.
 */
void *
tb_wiped_realloc(void *old, size_t size)
{
	void	   *new = tb_wiped_malloc(size);

	if (new == NULL || old == NULL)
		return new;
	memcpy(new, old, Min(((Prefix *) old - 1)->size, size));
	tb_wiped_free(old);
	return new;
}

/*
 * tb_wiped_copy
 *		A copy of some bytes, with a zero behind them.
 */
void *
tb_wiped_copy(const void *data, size_t size)
{
	char	   *copy;

	if (size == SIZE_MAX)
		return NULL;
	copy = tb_wiped_malloc(size + 1);
	if (copy == NULL)
		return NULL;
	if (size > 0)
		memcpy(copy, data, size);
	copy[size] = '\0';
	return copy;
}

/*
 * tb_wiped_strdup
 *		As strdup.
 */
char *
tb_wiped_strdup(const char *text)
{
	return tb_wiped_copy(text, strlen(text));
}
