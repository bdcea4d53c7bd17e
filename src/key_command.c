/*
 * key_command.c
 *	  A child process that prints a key.
 *
 *	  tb_command_start()
 *	  until tb_command_over():	wait for output, at most tb_command_wait_ms()
 *	  tb_command_end()			also after an error: nothing of it stays
 *
 *	  prints --> closes its output --> ends: over
 *		 |               |
 *		 +---------------+--- its time is over, or it has printed too much: killed
 *
 * Nothing here waits but tb_command_end(), and that only for a process that has
 * been killed; nothing here throws.
 */
#include "key_command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "utils/timestamp.h"

/* Milliseconds between two looks whether a command has ended. */
#define FIRST_LOOK 1
#define LAST_LOOK 50

extern char **environ;

/*
 * tb_command_start
 *		Have the shell run a command line, for at most so many milliseconds; what it
 *		prints goes into the caller's memory.  False, with errno, if it cannot be
 *		started.
 *
 * It has a process group of its own, so that what it starts can be killed with it.
 * Signals are as they are for any program, not as the server has set them.
 */
bool
tb_command_start(KeyCommand *command, const char *line, int timeout_ms,
				 char *room, size_t size)
{
	char	   *argv[] = {"sh", "-c", unconstify(char *, line), NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t	all;
	sigset_t	none;
	int			ends[2];
	int			error;

	memset(command, 0, sizeof(KeyCommand));
	command->output = -1;
	command->status = -1;
	command->timeout_ms = timeout_ms;
	command->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	command->look_ms = FIRST_LOOK;
	command->printed = room;
	command->room = size;
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
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)

	/*
	 * tables that the server has open, and connections, are none of its
	 * business
	 */
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
#endif
#endif
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

/* Take what is there; whether there may be more later. */
static bool
read_output(KeyCommand *command)
{
	while (command->length < command->room)
	{
		ssize_t		n = read(command->output, command->printed + command->length,
							 command->room - command->length);

		if (n > 0)
			command->length += n;
		else if (n == 0)
			return false;
		else if (errno != EINTR)
			return errno == EAGAIN || errno == EWOULDBLOCK;
	}
	/* whoever prints more than that prints no key */
	return false;
}

/*
 * tb_command_over
 *		Take what it has printed, until it closes its output or there is no more room,
 *		and then its exit status.  Whether it has ended, or its time has (late).
 */
bool
tb_command_over(KeyCommand *command)
{
	pid_t		ended;

	if (command->output >= 0 && !read_output(command))
	{
		close(command->output);
		command->output = -1;
	}
	if (command->output < 0)
	{
		do
		{
			ended = waitpid(command->pid, &command->status, WNOHANG);
		} while (ended < 0 && errno == EINTR);
		if (ended != 0)
		{
			/* if it is not our child any more, somebody else has its status */
			if (ended < 0)
				command->status = -1;
			command->pid = 0;
			return true;
		}
		command->look_ms = Min(command->look_ms * 2, LAST_LOOK);
	}
	command->late = GetCurrentTimestamp() >= command->deadline;
	return command->late;
}

/*
 * tb_command_wait_ms
 *		How many milliseconds nothing has to be looked at but its output.
 */
long
tb_command_wait_ms(const KeyCommand *command)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													   command->deadline);

	return command->output < 0 ? Min(left, command->look_ms) : left;
}

/*
 * tb_command_end
 *		Whatever has become of it: nothing of it stays.
 */
void
tb_command_end(KeyCommand *command)
{
	if (command->output >= 0)
		close(command->output);
	command->output = -1;
	if (command->pid != 0)
	{
		kill(-command->pid, SIGKILL);
		while (waitpid(command->pid, &command->status, 0) < 0 && errno == EINTR)
			;
	}
	command->pid = 0;
}
