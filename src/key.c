/*
 * key.c
 *	  The master key that wraps the keys of the secrets.
 *
 * It is never in the database.  tokenbill.key_file names a file with it, or
 * tokenbill.key_command a command that prints it, such as one that asks a KMS.
 * It is fetched when it is needed and wiped right after.  What the command says,
 * on either output, goes into no log: it may be the key.
 */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "locked.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

/* What a key may be printed with: its digits, and some white space. */
#define ROOM 256

/* Milliseconds between two looks whether a command has ended. */
#define FIRST_LOOK 1
#define LAST_LOOK 50

extern char **environ;

static char *key_file = NULL;
static char *key_command = NULL;
static int	key_command_timeout = 10000;

/* A command that runs, and the pipe that its standard output goes to. */
typedef struct Command
{
	pid_t		pid;			/* 0: it has ended */
	int			output;			/* -1: closed */
	int			status;			/* as waitpid() has it */
	bool		woken;			/* our latch was set meanwhile */
	TimestampTz deadline;
} Command;

/*
 * tb_key_init
 *		Define the settings; called once, from _PG_init.
 */
void
tb_key_init(void)
{
	DefineCustomStringVariable("tokenbill.key_command",
							   "Command that prints the key secrets are encrypted with.",
							   "Run by the shell; it prints 64 hexadecimal digits. "
							   "Empty: there is none.",
							   &key_command,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
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
							   "It holds 64 hexadecimal digits, and nobody but the server's user, "
							   "or root, may read it. Empty: there is none.",
							   &key_file,
							   "",
							   PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}

/* The key is not to be had. */
static Refusal *
no_key(const char *detail, const char *hint, const char *message)
{
	return tb_refusal(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, detail, hint,
					  "%s", message);
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
		return no_key(tb_json("reason:s error:s", "file_unreadable", error),
					  "The server's user must be able to read the file that tokenbill.key_file names.",
					  psprintf("could not open the key file: %s", error));
	}
	if (!S_ISREG(st.st_mode) ||
		(st.st_uid != geteuid() && st.st_uid != 0) ||
		(st.st_mode & (st.st_uid == geteuid() ? 0077 : 0027)) != 0)
	{
		close(fd);
		return no_key(tb_json("reason:s mode:s", "file_rights",
							  psprintf("%04o", (unsigned) st.st_mode & 07777)),
					  "It must be a plain file of the server's user with mode 0600 or less, or of root with mode 0640 or less.",
					  "the key file may be read by others");
	}
	do
	{
		n = read(fd, buffer, ROOM);
	} while (n < 0 && errno == EINTR);
	close(fd);
	if (n < 0)
		return no_key(tb_json("reason:s", "file_unreadable"),
					  "Look at the file that tokenbill.key_file names.",
					  "could not read the key file");
	*length = n;
	return NULL;
}

/*
 * Start the command, in a process group of its own so that what it starts can be
 * killed with it.  Signals are as they are for any program, not as the server
 * has set them.  False, with errno, if it cannot be started.
 */
static bool
start_command(Command *command)
{
	char	   *argv[] = {"sh", "-c", key_command, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t	all;
	sigset_t	none;
	int			ends[2];
	int			error;

	if (pipe(ends) != 0)
		return false;
	fcntl(ends[0], F_SETFD, FD_CLOEXEC);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fcntl(ends[1], F_SETFD, FD_CLOEXEC);
	sigfillset(&all);
	sigemptyset(&none);

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP |
							 POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	error = posix_spawn(&command->pid, "/bin/sh", &files, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	close(ends[1]);
	if (error != 0)
	{
		close(ends[0]);
		command->pid = 0;
		errno = error;
		return false;
	}
	command->output = ends[0];
	return true;
}

/*
 * Wait for more output, or, when that has been closed, so many milliseconds.
 * False when the command's time is over.  Cancelling works meanwhile.
 */
static bool
wait_for_command(Command *command, long milliseconds)
{
	long		left = (command->deadline - GetCurrentTimestamp()) / 1000;
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int			happened;

	if (left <= 0)
		return false;
	if (command->output >= 0)
		events |= WL_SOCKET_READABLE;
	else
		left = Min(left, milliseconds);
	happened = WaitLatchOrSocket(MyLatch, events,
								 command->output >= 0 ? command->output : PGINVALID_SOCKET,
								 left, PG_WAIT_EXTENSION);
	if (happened & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		command->woken = true;
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * Take what the command prints, until it closes its output or ends or has printed
 * more than a key, and then its exit status.  False if its time was over first.
 */
static bool
follow_command(Command *command, char *buffer, size_t *length)
{
	long		look = FIRST_LOOK;

	while (command->output >= 0)
	{
		ssize_t		n = read(command->output, buffer + *length, ROOM - *length);

		if (n > 0)
			*length += n;
		else if (n < 0 && errno != EINTR)
		{
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				break;
			if (!wait_for_command(command, 0))
				return false;
		}
		if (n == 0 || *length == ROOM)
			break;
	}
	close(command->output);
	command->output = -1;

	for (;;)
	{
		pid_t		ended = waitpid(command->pid, &command->status, WNOHANG);

		if (ended == command->pid)
			break;
		if (ended < 0 && errno != EINTR)
		{
			/* somebody else has taken its status */
			command->status = -1;
			break;
		}
		if (!wait_for_command(command, look))
			return false;
		look = Min(look * 2, LAST_LOOK);
	}
	command->pid = 0;
	return true;
}

/* Whatever has become of it: nothing of it stays. */
static void
end_command(Command *command)
{
	if (command->output >= 0)
		close(command->output);
	if (command->pid != 0)
	{
		kill(-command->pid, SIGKILL);
		while (waitpid(command->pid, &command->status, 0) < 0 && errno == EINTR)
			;
	}
	/* whom we took a wake-up from still wants it */
	if (command->woken)
		SetLatch(MyLatch);
}

/*
 * Run the command, and say how it failed.
 */
static Refusal *
run_command(char *buffer, size_t *length)
{
	Command		command = {0};
	volatile bool in_time = false;
	const char *hint = "Run it by hand as the server's user; what it prints is in no log.";

	command.output = -1;
	command.status = -1;
	command.deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												   key_command_timeout);
	if (!start_command(&command))
	{
		const char *error = strerror(errno);

		return no_key(tb_json("reason:s error:s", "command_failed", error),
					  "The server needs /bin/sh, and a free process and file.",
					  psprintf("could not start tokenbill.key_command: %s", error));
	}
	PG_TRY();
	{
		in_time = follow_command(&command, buffer, length);
	}
	PG_FINALLY();
	{
		end_command(&command);
	}
	PG_END_TRY();

	if (!in_time)
		return no_key(tb_json("reason:s timeout_ms:i", "command_slow",
							  (int64) key_command_timeout),
					  "It was killed; tokenbill.key_command_timeout says how long it may take.",
					  psprintf("tokenbill.key_command took longer than %d ms", key_command_timeout));
	if (WIFEXITED(command.status) && WEXITSTATUS(command.status) == 0)
		return NULL;
	if (WIFEXITED(command.status))
		return no_key(tb_json("reason:s exit_status:i", "command_failed",
							  (int64) WEXITSTATUS(command.status)),
					  hint,
					  psprintf("tokenbill.key_command ended with exit status %d",
							   WEXITSTATUS(command.status)));
	return no_key(tb_json("reason:s signal:i", "command_failed",
						  (int64) (WIFSIGNALED(command.status) ? WTERMSIG(command.status) : 0)),
				  hint, "tokenbill.key_command was killed");
}

static int
digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* 64 hexadecimal digits, with white space around them, into bytes. */
static bool
parse_key(const char *text, size_t length, uint8 *bytes)
{
	size_t		begin = 0;

	/* there may be more behind it */
	if (length == ROOM)
		return false;
	while (begin < length && is_blank(text[begin]))
		begin++;
	while (length > begin && is_blank(text[length - 1]))
		length--;
	if (length - begin != 2 * TB_KEY_BYTES)
		return false;
	for (int i = 0; i < TB_KEY_BYTES; i++)
	{
		int			high = digit_value(text[begin + 2 * i]);
		int			low = digit_value(text[begin + 2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = high << 4 | low;
	}
	return true;
}

/*
 * A key's id: the first digits of an HMAC under it, from which nothing about the
 * key follows that trying it would not tell as well.
 */
static bool
name_key(MasterKey *key)
{
	static const char what[] = "tokenbill key id";
	uint8		digest[EVP_MAX_MD_SIZE];
	unsigned int length = 0;

	if (HMAC(EVP_sha256(), key->bytes, TB_KEY_BYTES, (const unsigned char *) what,
			 strlen(what), digest, &length) == NULL)
		return false;
	for (int i = 0; i < TB_KEY_ID_DIGITS / 2; i++)
		snprintf(key->id + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/*
 * tb_key_read
 *		Fetch the master key.  Takes as long as tokenbill.key_command does, at most
 *		its time-out; never within a transaction of the worker's.
 */
Refusal *
tb_key_read(MasterKey **key)
{
	Refusal    *refusal;
	MasterKey  *fetched;
	char	   *buffer;
	size_t		length = 0;
	bool		from_file = key_file != NULL && *key_file != '\0';
	bool		from_command = key_command != NULL && *key_command != '\0';

	if (!from_file && !from_command)
		return no_key(tb_json("reason:s", "no_key"),
					  "Make one with \"openssl rand -hex 32\", keep a copy elsewhere, and set tokenbill.key_file to a file with it or tokenbill.key_command to a command that prints it.",
					  "there is no key to encrypt secrets with");
	if (from_file && from_command)
		return no_key(tb_json("reason:s", "two_keys"),
					  "Set one of them and leave the other empty.",
					  "tokenbill.key_file and tokenbill.key_command are both set");

	buffer = tb_locked_alloc(ROOM);
	refusal = from_file ? read_file(buffer, &length) : run_command(buffer, &length);
	if (refusal != NULL)
	{
		tb_locked_free(buffer);
		return refusal;
	}
	fetched = tb_locked_alloc(sizeof(MasterKey));
	if (!parse_key(buffer, length, fetched->bytes))
		refusal = no_key(tb_json("reason:s source:s", "not_hex",
								 from_file ? "key_file" : "key_command"),
						 "A key is 64 hexadecimal digits, as \"openssl rand -hex 32\" prints it.",
						 from_file ? "what is in the key file is no key" :
						 "what tokenbill.key_command prints is no key");
	else if (!name_key(fetched))
		refusal = no_key(tb_json("reason:s", "openssl"),
						 "OpenSSL must offer HMAC and SHA-256 to the server.",
						 "could not compute the id of the key");
	tb_locked_free(buffer);
	if (refusal != NULL)
	{
		tb_locked_free(fetched);
		return refusal;
	}
	*key = fetched;
	return NULL;
}

/*
 * tb_key_wipe
 *		Forget it.
 */
void
tb_key_wipe(MasterKey *key)
{
	tb_locked_free(key);
}
