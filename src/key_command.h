#ifndef TOKENBILL_KEY_COMMAND_H
#define TOKENBILL_KEY_COMMAND_H

#include "tokenbill.h"

/* A command that runs, and the pipe that its standard output goes to. */
typedef struct KeyCommand
{
	pid_t		pid;			/* 0: it has ended */
	int			output;			/* -1: closed */
	int			status;			/* as waitpid() has it */
	bool		late;			/* its time was over first */
	int			timeout_ms;
	TimestampTz deadline;
	long		look_ms;		/* until the next look whether it has ended */
	char	   *printed;		/* locked memory of the caller's */
	size_t		length;
	size_t		room;
} KeyCommand;

extern bool tb_command_start(KeyCommand *command, const char *line, int timeout_ms,
							 char *room, size_t size);
extern bool tb_command_over(KeyCommand *command);
extern long tb_command_wait_ms(const KeyCommand *command);
extern void tb_command_end(KeyCommand *command);

#endif							/* TOKENBILL_KEY_COMMAND_H */
