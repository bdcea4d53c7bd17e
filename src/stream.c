/*
 * stream.c
 *	  Statements that read whole tables.
 *
 * Each row is taken as it comes, from where it lies in shared buffers: nothing is
 * copied or collected, so a statement may return any number of them.
 */
#include "stream.h"

#include "catalog/pg_type_d.h"
#include "tcop/dest.h"
#include "utils/memutils.h"

/* Memory for the values of rows is given back once for so many of them. */
#define ROWS_AT_ONCE 16

static Oid	parameter_types[STREAM_PARAMETERS] = {
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, DATEOID
};

typedef struct RowReceiver
{
	DestReceiver pub;
	Stream	   *stream;
	TakeRow		take;
	void	   *state;
} RowReceiver;

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	RowReceiver *receiver = (RowReceiver *) self;
	Stream	   *stream = receiver->stream;
	MemoryContext old = MemoryContextSwitchTo(stream->row_context);

	slot_getallattrs(slot);
	receiver->take(receiver->state, slot);
	MemoryContextSwitchTo(old);
	if (++stream->rows % ROWS_AT_ONCE == 0)
		MemoryContextReset(stream->row_context);
	return true;
}

static void
receive_start(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
receive_end(DestReceiver *self)
{
}

/*
 * tb_open_stream
 *		Make a stream, with all parameters null, in the current memory context.
 */
void
tb_open_stream(Stream *stream)
{
	stream->rows = 0;
	stream->row_context = AllocSetContextCreate(CurrentMemoryContext,
												"tokenbill rows",
												ALLOCSET_DEFAULT_SIZES);
	stream->parameters = makeParamList(STREAM_PARAMETERS);
	for (int i = 0; i < STREAM_PARAMETERS; i++)
	{
		stream->parameters->params[i].ptype = parameter_types[i];
		stream->parameters->params[i].pflags = PARAM_FLAG_CONST;
		tb_set_null(stream, i);
	}
}

/*
 * tb_set_parameter, tb_set_null
 *		Set what the statements to come find in a parameter; not copied.
 */
void
tb_set_parameter(Stream *stream, StreamParameter number, Datum value)
{
	stream->parameters->params[number].value = value;
	stream->parameters->params[number].isnull = false;
}

void
tb_set_null(Stream *stream, StreamParameter number)
{
	stream->parameters->params[number].value = (Datum) 0;
	stream->parameters->params[number].isnull = true;
}

/* Execute a statement, or a plan if there is one. */
static void
execute(Stream *stream, const char *sql, SPIPlanPtr plan, TakeRow take,
		void *state)
{
	RowReceiver receiver;
	SPIExecuteOptions options;
	int			code;

	memset(&receiver, 0, sizeof(receiver));
	receiver.pub.receiveSlot = receive_row;
	receiver.pub.rStartup = receive_start;
	receiver.pub.rShutdown = receive_end;
	receiver.pub.rDestroy = receive_end;
	receiver.pub.mydest = DestNone;
	receiver.stream = stream;
	receiver.take = take;
	receiver.state = state;

	memset(&options, 0, sizeof(options));
	options.params = stream->parameters;
	options.read_only = true;
	options.dest = &receiver.pub;
	code = plan != NULL ? SPI_execute_plan_extended(plan, &options) :
		SPI_execute_extended(sql, &options);
	if (code < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql,
			 SPI_result_code_string(code));
	MemoryContextReset(stream->row_context);
}

/*
 * tb_stream
 *		Execute a statement that only reads, in the active snapshot, and have its
 *		rows taken.  Needs SPI.
 *
 * The plan is made for the parameters as they are, and for this once: there,
 * "$1 IS NULL OR ..." is decided and the months of the ledger are chosen.
 */
void
tb_stream(Stream *stream, const char *sql, TakeRow take, void *state)
{
	execute(stream, sql, NULL, take, state);
}

/*
 * tb_stream_again
 *		The same for a statement that is executed once an account: its plan is
 *		made the first time, for any parameters, and kept until SPI_finish().
 */
void
tb_stream_again(Stream *stream, const char *sql, SPIPlanPtr *plan,
				TakeRow take, void *state)
{
	if (*plan == NULL)
		*plan = SPI_prepare_cursor(sql, STREAM_PARAMETERS,
								   parameter_types,
								   CURSOR_OPT_GENERIC_PLAN);
	if (*plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql,
			 SPI_result_code_string(SPI_result));
	execute(stream, sql, *plan, take, state);
}
