/*
 * key.c
 *	  The master key that wraps the keys of the secrets, and where it comes from.
 *
 * It is never in the database.  tokenbill.key_file names a file with it, or
 * tokenbill.key_command a command that prints it, such as one that asks a KMS.
 * Either has a key a line: the first is the present one, with which is encrypted;
 * the others were before it, and are there to read what has not been brought
 * under the present one yet (rotate_key.c).  Which of them a secret wants is said
 * by the key's id, which is stored with it.
 *
 * A session fetches keys when it needs them and wipes them right after; key_hold.c
 * has what the worker does.  What the command says, on either output, goes into no
 * log: it may be the key.
 */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "ascii.h"
#include "key_command.h"
#include "locked.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

/* What keys may be printed with: their digits, line ends, and some white space. */
#define ROOM 2048

static char *key_file = NULL;
static char *key_command = NULL;
static int	key_command_timeout = 10000;
static int	key_command_retention = 60;

/*
 * tb_key_init
 *		Define the settings; called once, from _PG_init.
 */
void
tb_key_init(void)
{
	DefineCustomStringVariable("tokenbill.key_command",
							   "Command that prints the key secrets are encrypted with.",
							   "Run by the shell; it prints 64 hexadecimal digits, and below them "
							   "keys that were before it. Empty: there is none.",
							   &key_command,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.key_command_retention",
							"How long the worker keeps what tokenbill.key_command printed.",
							"At most one hour; 0: it is wiped as soon as those "
							"who waited for it have used it.",
							&key_command_retention,
							SECS_PER_MINUTE, 0, SECS_PER_HOUR,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("tokenbill.key_command_timeout",
							"How long tokenbill.key_command may take.",
							"Between 100 milliseconds and 10 minutes; "
							"one that takes longer is killed.",
							&key_command_timeout,
							10000, 100, 600000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("tokenbill.key_file",
							   "File with the key secrets are encrypted with.",
							   "It holds 64 hexadecimal digits, and below them keys that were before "
							   "it; nobody but the server's user, or root, may read it. Empty: there "
							   "is none.",
							   &key_file,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}

/*
 * tb_key_retention
 *		How many seconds the worker keeps what a command printed.
 */
int
tb_key_retention(void)
{
	return key_command_retention;
}

/*
 * tb_key_timeout
 *		How many milliseconds a command may take.
 */
int
tb_key_timeout(void)
{
	return key_command_timeout;
}

/* The key is not to be had. */
static Refusal *
no_key(int sqlstate, const char *detail, const char *hint, const char *message)
{
	return tb_refusal(sqlstate, detail, hint, "%s", message);
}

/*
 * tb_key_source
 *		Where keys come from; TB_KEY_NONE, and why, if it is not said (55000) or said
 *		twice (F0000).
 */
KeySource
tb_key_source(Refusal **refusal)
{
	bool		from_file = key_file != NULL && *key_file != '\0';
	bool		from_command = key_command != NULL && *key_command != '\0';

	*refusal = NULL;
	if (!from_file && !from_command)
		*refusal = no_key(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						  tb_json("reason:s", "no_key"),
						  "Make one with \"openssl rand -hex 32\", keep a copy elsewhere, and set tokenbill.key_file to a file with it or tokenbill.key_command to a command that prints it.",
						  "there is no key to encrypt secrets with");
	else if (from_file && from_command)
		*refusal = no_key(ERRCODE_CONFIG_FILE_ERROR,
						  tb_json("reason:s", "two_keys"),
						  "Set one of them and leave the other empty.",
						  "tokenbill.key_file and tokenbill.key_command are both set");
	else
		return from_file ? TB_KEY_FILE : TB_KEY_COMMAND;
	return TB_KEY_NONE;
}

/*
 * Read the file.  Its rights are those PostgreSQL asks of the key of a TLS
 * certificate: nothing for group and others, but a file of root's may be readable
 * for the group.  It is looked at after it was opened, so that it cannot be
 * exchanged in between.
 */
static Refusal *
read_file(char *buffer, size_t *length)
{
	struct stat st;
	int			fd = open(key_file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t		n = -1;

	if (fd < 0 || fstat(fd, &st) != 0)
	{
		const char *error = strerror(errno);

		if (fd >= 0)
			close(fd);
		return no_key(ERRCODE_IO_ERROR,
					  tb_json("reason:s error:s", "file_unreadable", error),
					  "The server's user must be able to read the file that tokenbill.key_file names.",
					  psprintf("could not open the key file: %s", error));
	}
	if (!S_ISREG(st.st_mode) ||
		(st.st_uid != geteuid() && st.st_uid != 0) ||
		(st.st_mode & (st.st_uid == geteuid() ? 0077 : 0027)) != 0)
	{
		close(fd);
		return no_key(ERRCODE_CONFIG_FILE_ERROR,
					  tb_json("reason:s mode:s", "file_rights",
							  psprintf("%04o", (unsigned) st.st_mode & 07777)),
					  "It must be a plain file of the server's user with mode 0600 or less, or of root with mode 0640 or less.",
					  "the key file may be read by others");
	}
	*length = 0;
	do
	{
		n = read(fd, buffer + *length, ROOM - *length);
		if (n > 0)
			*length += n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0)
	{
		const char *error = strerror(errno);

		close(fd);
		return no_key(ERRCODE_IO_ERROR,
					  tb_json("reason:s error:s", "file_unreadable", error),
					  "Look at the file that tokenbill.key_file names.",
					  psprintf("could not read the key file: %s", error));
	}
	close(fd);
	return NULL;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The word for a source in DETAIL, and how a message begins. */
static const char *const source_names[] = {"", "key_file", "key_command"};
static const char *const source_texts[] = {"", "what is in the key file", "what tokenbill.key_command prints"};

/*
 * What was read is no key.  It is not repeated: it may be one but for a slip.
 */
static Refusal *
not_a_key(KeySource source, const char *reason, int line, int digits)
{
	const char *hint = "A key is 64 hexadecimal digits, as \"openssl rand -hex 32\" prints it; one a line, the present one first.";
	int			sqlstate = source == TB_KEY_FILE ? ERRCODE_CONFIG_FILE_ERROR :
		ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;

	if (strcmp(reason, "too_many_keys") == 0)
		return tb_refusal(sqlstate,
						  tb_json("reason:s source:s max_keys:i", reason,
								  source_names[source], (int64) TB_MAX_KEYS),
						  "Take the oldest away that no secret wants any more; the view tokenbill.secrets has who wants which.",
						  "%s are more than %d keys", source_texts[source], TB_MAX_KEYS);
	if (strcmp(reason, "wrong_length") == 0)
		return tb_refusal(sqlstate,
						  tb_json("reason:s source:s line:i digits:i", reason,
								  source_names[source], (int64) line, (int64) digits),
						  hint, "%s is no key: line %d has %d digits, not %d",
						  source_texts[source], line, digits, 2 * TB_KEY_BYTES);
	if (line > 0)
		return tb_refusal(sqlstate,
						  tb_json("reason:s source:s line:i", reason,
								  source_names[source], (int64) line),
						  hint, "%s is no key", source_texts[source]);
	return tb_refusal(sqlstate,
					  tb_json("reason:s source:s", reason, source_names[source]),
					  hint, "%s is no key", source_texts[source]);
}

/*
 * A key's id: the first digits of an HMAC under it, from which nothing about the
 * key follows that trying it would not tell as well.
 */
static bool
name_key(OneKey *key)
{
	static const char what[] = "tokenbill key id";
	uint8		digest[EVP_MAX_MD_SIZE];
	unsigned int length = 0;

	if (HMAC(EVP_sha256(), key->bytes, TB_KEY_BYTES, (const unsigned char *) what,
			 strlen(what), digest, &length) == NULL)
	{
		ERR_clear_error();
		return false;
	}
	for (int i = 0; i < TB_KEY_ID_DIGITS / 2; i++)
		snprintf(key->id + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/* One line, without white space around it, into the next key. */
static Refusal *
parse_line(const char *text, size_t length, KeySource source, int line, MasterKey *key)
{
	OneKey	   *next = &key->keys[key->count];

	for (size_t i = 0; i < length; i++)
	{
		if (tb_hex_value(text[i]) < 0)
			return not_a_key(source, "not_hex", line, 0);
	}
	if (length != 2 * TB_KEY_BYTES)
		return not_a_key(source, "wrong_length", line, (int) length);
	if (key->count == TB_MAX_KEYS)
		return not_a_key(source, "too_many_keys", line, 0);
	for (int i = 0; i < TB_KEY_BYTES; i++)
		next->bytes[i] = tb_hex_value(text[2 * i]) << 4 | tb_hex_value(text[2 * i + 1]);
	if (!name_key(next))
		return no_key(ERRCODE_INTERNAL_ERROR, tb_json("reason:s", "openssl"),
					  "OpenSSL must offer HMAC and SHA-256 to the server.",
					  "could not compute the id of a key");
	/* the same again changes nothing */
	if (tb_key_find(key, next->id) == NULL)
		key->count++;
	return NULL;
}

/* A key a line, empty lines left out. */
static Refusal *
parse_keys(const char *bytes, size_t length, KeySource source, MasterKey *key)
{
	const char *end = bytes + length;
	int			line = 0;

	if (length == ROOM)
		return not_a_key(source, "too_long", 0, 0);
	while (bytes < end)
	{
		const char *feed = memchr(bytes, '\n', end - bytes);
		const char *stop = feed != NULL ? feed : end;
		const char *next = feed != NULL ? feed + 1 : end;
		Refusal    *refusal;

		line++;
		while (bytes < stop && is_blank(*bytes))
			bytes++;
		while (stop > bytes && is_blank(stop[-1]))
			stop--;
		if (stop > bytes)
		{
			refusal = parse_line(bytes, stop - bytes, source, line, key);
			if (refusal != NULL)
				return refusal;
		}
		bytes = next;
	}
	return key->count == 0 ? not_a_key(source, "empty", 0, 0) : NULL;
}

/* What was read into keys; NULL and why if it is none.  The text is wiped. */
static Refusal *
take_keys(char *text, size_t length, KeySource source, MasterKey **key)
{
	MasterKey  *fetched = tb_locked_alloc(sizeof(MasterKey));
	Refusal    *refusal = parse_keys(text, length, source, fetched);

	tb_locked_free(text);
	if (refusal != NULL)
	{
		tb_locked_free(fetched);
		return refusal;
	}
	*key = fetched;
	return NULL;
}

/*
 * tb_key_from_file
 *		The keys that are in tokenbill.key_file.  58030 if it cannot be read, F0000 if
 *		it may be read by others or holds no key.
 */
Refusal *
tb_key_from_file(MasterKey **key)
{
	char	   *buffer = tb_locked_alloc(ROOM);
	size_t		length = 0;
	Refusal    *refusal = read_file(buffer, &length);

	if (refusal != NULL)
	{
		tb_locked_free(buffer);
		return refusal;
	}
	return take_keys(buffer, length, TB_KEY_FILE, key);
}

/*
 * tb_key_start_command
 *		Start tokenbill.key_command.  38000 if that is not possible.  What it prints
 *		is in memory of the current context, which has to outlive it.
 */
Refusal *
tb_key_start_command(KeyCommand *command)
{
	char	   *buffer = tb_locked_alloc(ROOM);
	const char *error;

	if (tb_command_start(command, key_command, key_command_timeout, buffer, ROOM))
		return NULL;
	error = strerror(errno);
	tb_locked_free(buffer);
	return no_key(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  tb_json("reason:s error:s", "command_failed", error),
				  "The server needs /bin/sh, and a free process and file.",
				  psprintf("could not start tokenbill.key_command: %s", error));
}

/* How a command has failed, if it has. */
static Refusal *
command_failure(const KeyCommand *command)
{
	const char *hint = "Run it by hand as the server's user; what it prints is in no log.";

	if (command->late)
		return no_key(TB_TIMED_OUT,
					  tb_json("reason:s timeout_ms:i", "command_slow",
							  (int64) command->timeout_ms),
					  "It was killed; tokenbill.key_command_timeout says how long it may take.",
					  psprintf("tokenbill.key_command took longer than %d ms", command->timeout_ms));
	if (WIFEXITED(command->status) && WEXITSTATUS(command->status) == 0)
		return NULL;
	if (WIFEXITED(command->status))
		return no_key(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
					  tb_json("reason:s exit_status:i", "command_failed",
							  (int64) WEXITSTATUS(command->status)),
					  hint,
					  psprintf("tokenbill.key_command ended with exit status %d",
							   WEXITSTATUS(command->status)));
	return no_key(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
				  tb_json("reason:s signal:i", "command_failed",
						  (int64) (WIFSIGNALED(command->status) ? WTERMSIG(command->status) : 0)),
				  hint, "tokenbill.key_command was killed");
}

/*
 * tb_key_from_command
 *		What has come of a command that is over: keys, or PT504 if it took too long,
 *		38000 if it has failed or printed something else.  Its memory is wiped.
 */
Refusal *
tb_key_from_command(KeyCommand *command, MasterKey **key)
{
	Refusal    *refusal = command_failure(command);

	if (refusal != NULL)
	{
		tb_locked_free(command->printed);
		return refusal;
	}
	return take_keys(command->printed, command->length, TB_KEY_COMMAND, key);
}

/*
 * Run the command, and wait for it.  Cancelling works meanwhile; it is killed then.
 */
static Refusal *
run_command(MasterKey **key)
{
	KeyCommand	command;
	volatile bool woken = false;
	Refusal    *refusal = tb_key_start_command(&command);

	if (refusal != NULL)
		return refusal;
	PG_TRY();
	{
		while (!tb_command_over(&command))
		{
			bool		open = command.output >= 0;
			int			happened;

			happened = WaitLatchOrSocket(MyLatch,
										 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH |
										 (open ? WL_SOCKET_READABLE : 0),
										 open ? command.output : PGINVALID_SOCKET,
										 tb_command_wait_ms(&command), PG_WAIT_EXTENSION);
			if (happened & WL_LATCH_SET)
			{
				ResetLatch(MyLatch);
				woken = true;
				CHECK_FOR_INTERRUPTS();
			}
		}
	}
	PG_FINALLY();
	{
		tb_command_end(&command);
		/* whom we took a wake-up from still wants it */
		if (woken)
			SetLatch(MyLatch);
	}
	PG_END_TRY();
	return tb_key_from_command(&command, key);
}

/*
 * tb_key_read
 *		Fetch the keys, and wait for them: as long as tokenbill.key_command takes, at
 *		most its time-out.  For sessions; the worker has key_hold.c.
 */
Refusal *
tb_key_read(MasterKey **key)
{
	Refusal    *refusal;

	switch (tb_key_source(&refusal))
	{
		case TB_KEY_FILE:
			return tb_key_from_file(key);
		case TB_KEY_COMMAND:
			return run_command(key);
		case TB_KEY_NONE:
			break;
	}
	return refusal;
}

/*
 * tb_key_find
 *		The key of that id, or NULL.
 */
const OneKey *
tb_key_find(const MasterKey *key, const char *id)
{
	for (int i = 0; i < key->count; i++)
	{
		if (strcmp(key->keys[i].id, id) == 0)
			return &key->keys[i];
	}
	return NULL;
}

/*
 * tb_key_wipe
 *		Forget them.
 */
void
tb_key_wipe(MasterKey *key)
{
	tb_locked_free(key);
}
