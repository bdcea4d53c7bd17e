/*
 * token_library.c
 *	  The way from tokenbill_http to tokenbill_token, which has libjwt and jansson.
 *
 * It lies beside this one and is loaded when there is a first token to make or to
 * read; token_engine.h says why it is loaded differently.  Nothing here throws.
 */
#include "http_transfer.h"

#include <dlfcn.h>

/* Where there is none of that, the server had better not have jansson's names. */
#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0
#endif

static const TokenEngine *token_engine = NULL;

/* Its path: in the directory that this library is in.  False if that is not known. */
static bool
find_library(char *path, size_t size)
{
	Dl_info		info;
	const char *slash;

	if (dladdr(&token_engine, &info) == 0 || info.dli_fname == NULL ||
		(slash = strrchr(info.dli_fname, '/')) == NULL)
		return false;
	return snprintf(path, size, "%.*s/%s%s", (int) (slash - info.dli_fname),
					info.dli_fname, TB_TOKEN_LIBRARY, DLSUFFIX) < (int) size;
}

/*
 * tb_token_load
 *		Have it.  Returns NULL, or why it cannot be had, to be put behind "the library
 *		tokenbill_token cannot be loaded: "; then it is tried again the next time.
 */
const char *
tb_token_load(void)
{
	static const TokenMemory memory = {tb_wiped_malloc, tb_wiped_free};
	char		path[MAXPGPATH];
	void	   *library;
	TokenEngineFunction function;
	const TokenEngine *loaded;

	if (token_engine != NULL)
		return NULL;
	if (!find_library(path, sizeof(path)))
		return "the directory of tokenbill_http is not known";
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (library == NULL)
		return dlerror();
	function = (TokenEngineFunction) dlsym(library, TB_TOKEN_FUNCTION);
	if (function == NULL)
		return "it has no function " TB_TOKEN_FUNCTION;
	loaded = function(&memory);
	if (loaded->interface_number != TB_TOKEN_INTERFACE ||
		strcmp(loaded->version, TOKENBILL_VERSION) != 0)
		return "it is of another version";
	token_engine = loaded;
	return NULL;
}

/*
 * tb_token_read
 *		Take an answer apart, after tb_token_load(); false if there is no memory.  To
 *		be given back by tb_token_forget().
 */
bool
tb_token_read(const char *body, size_t length, TokenAnswer *result)
{
	return token_engine->take_apart(body, length, result);
}

/*
 * tb_token_forget
 *		Wipe all of it.
 */
void
tb_token_forget(TokenAnswer *result)
{
	tb_wiped_free(result->document);
	tb_wiped_free(result->access_token);
	tb_wiped_free(result->refresh_token);
	tb_wiped_free(result->device_code);
	memset(result, 0, sizeof(*result));
}

/*
 * tb_token_sign
 *		Sign a JSON Web Token, after tb_token_load().  Returns NULL, or why it cannot
 *		be signed.  The token is to be freed by tb_wiped_free().
 */
const char *
tb_token_sign(const JwtInput *input, char **token)
{
	return token_engine->sign(input, token);
}
