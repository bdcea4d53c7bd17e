# tokenbill: prepaid billing for AI APIs, inside PostgreSQL.
#
# As with every PGXS extension: make, make install, make installcheck,
# make PG_CONFIG=/path/to/pg_config, make DESTDIR=/some/where install.
# WERROR=1 turns every warning on and into an error, as the tests do.
#
# What needs no PostgreSQL on the machine yet, because it installs it first:
#   make demo            a throw-away server with the extension in it, at work
#   make check           every test, on private servers
#   make bench           the tables of ratios in docs/performance.md
#   make bench-redact    what masking the log costs and masks in vain
#   make bench-growth    the same with 100 thousand and 10 million ledger lines
#   make check-memory    the SQL tests under valgrind, ASan and UBSan
#   make check-versions  the SQL tests on PostgreSQL 17 and 18
#   make check-contracts what the worker asks, against vendors' specifications
#   make fuzz            what reads bytes of others, at random: an hour for each
#   make soak            the worker with a thousand providers, for ten minutes
#   make check-style     how the source looks

TASKS = demo check bench bench-growth bench-redact check-memory check-versions check-contracts fuzz \
	soak check-style

ifneq (,$(filter $(TASKS),$(MAKECMDGOALS)))

# PGXS stays out of these: it is not there on a fresh machine, and it has a
# check target of its own that does nothing.
ifneq (,$(filter-out $(TASKS),$(MAKECMDGOALS)))
$(error run '$(filter $(TASKS),$(MAKECMDGOALS))' and '$(filter-out $(TASKS),$(MAKECMDGOALS))' one after the other)
endif

.PHONY: $(TASKS)

demo:
	@test/install-packages demo
	@test/private-server with demo/run

bench:
	@test/install-packages bench
	@test/private-server with bench/run
	@test/private-server with bench/rating

bench-redact:
	@test/install-packages bench
	@test/private-server with bench/redact

bench-growth:
	@test/install-packages bench
	@test/private-server with bench/growth

check check-memory check-versions:
	@test/$@

check-contracts:
	@test/check contracts

fuzz:
	@test/fuzz/run

soak:
	@test/check soak

check-style:
	@test/check-style --pgindent

else # everything else is PGXS

EXTENSION = tokenbill
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" tokenbill.control)
MODULE_big = tokenbill
OBJS = $(filter-out $(HTTP_OBJS) $(TOKEN_OBJS),$(patsubst %.c,%.o,$(sort $(wildcard src/*.c))))

# chain.c hashes with OpenSSL, error_body.c reads JSON with jansson
SHLIB_LINK += -lcrypto -ljansson

# A second library, which the worker loads when it has a request to make: what
# needs libcurl. No session is to load that before its first charge.
HTTP_OBJS = $(patsubst %,src/%.o,http http_failure http_guard http_loop http_memory \
	http_receive http_setup token_library)
HTTP_LIBRARY = tokenbill_http$(DLSUFFIX)

# And a third one, which that loads when it has a token to make or to read: what
# needs libjwt and jansson, whose json_object() must not be taken for the server's.
TOKEN_OBJS = $(patsubst %,src/%.o,jwt token_read)
TOKEN_LIBRARY = tokenbill_token$(DLSUFFIX)

DATA = $(sort $(wildcard sql/upgrade/tokenbill--*--*.sql))
DATA_built = tokenbill--$(EXTVERSION).sql
# the worker works in databases that have this version only
PG_CPPFLAGS += -DTOKENBILL_VERSION='"$(EXTVERSION)"'
SQL_PARTS = $(sort $(wildcard sql/*.sql))

# pg_regress and the isolation tester look for expected/ below --outputdir
# first, which is where we keep it; PGXS sends the latter elsewhere.
REGRESS = $(sort $(notdir $(basename $(wildcard test/sql/*.sql))))
REGRESS_OPTS = --inputdir=test --load-extension=pgtap --load-extension=tokenbill
ISOLATION = $(sort $(notdir $(basename $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=tokenbill

# The TAP tests want PgBouncer and PostgREST beside the server: make check
# brings them; on a machine that has them, make installcheck TAP_TESTS=1.
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = tokenbill--*.sql tokenbill--*.sql.part $(HTTP_OBJS) $(HTTP_LIBRARY) \
	$(TOKEN_OBJS) $(TOKEN_LIBRARY)

PG_CONFIG = pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq (,$(PGXS))
$(error no PGXS from '$(PG_CONFIG)': install postgresql-server-dev-15, or say make PG_CONFIG=/path/to/pg_config)
endif

ifdef WERROR
# Every SQL-callable function has the parameter fcinfo, used or not. The
# server's headers are named a second time as system headers, which takes
# their own -Wextra warnings out.
PG_CFLAGS += -Wall -Wextra -Werror -Wno-unused-parameter
PG_CPPFLAGS += -isystem $(shell $(PG_CONFIG) --includedir-server)
ifneq (,$(findstring clang,$(CC)))
# pg_config hands out the flags of the compiler that built the server, and
# the headers its attributes: those of gcc
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument \
	-Wno-ignored-attributes
endif
endif

# A server built with LLVM wants bitcode beside the library. It only serves
# inlining, so a machine without that clang builds without it.
PGXS_CLANG := $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)
ifeq (,$(shell command -v $(firstword $(PGXS_CLANG) none) 2>/dev/null))
override with_llvm = no
endif

include $(PGXS)

# The SQL tests store secrets, and so want a key for them: installcheck lends one to
# a server that has none.
pg_regress_installcheck := $(subst && ,&& PATH='$(bindir):'"$$PATH" test/with-key ,$(pg_regress_installcheck))

# Debian's PGXS does not track headers
$(OBJS) $(HTTP_OBJS) $(TOKEN_OBJS): $(wildcard src/*.h)

# PGXS makes one library; the other ones are made, installed and taken away in the
# same way. They have no functions for SQL, so there is nothing to inline and no
# bitcode.
$(HTTP_LIBRARY): $(HTTP_OBJS)
	$(LINK.shared) -o $@ $(HTTP_OBJS) $(LDFLAGS) $(LDFLAGS_SL) $(SHLIB_LINK) -lcurl

$(TOKEN_LIBRARY): $(TOKEN_OBJS)
	$(LINK.shared) -o $@ $(TOKEN_OBJS) $(LDFLAGS) $(LDFLAGS_SL) $(SHLIB_LINK) -ljwt -ljansson

all: $(HTTP_LIBRARY) $(TOKEN_LIBRARY)

install: install-http
install-http: $(HTTP_LIBRARY) $(TOKEN_LIBRARY) installdirs
	$(INSTALL_SHLIB) $(HTTP_LIBRARY) $(TOKEN_LIBRARY) '$(DESTDIR)$(pkglibdir)/'

uninstall: uninstall-http
uninstall-http:
	rm -f '$(DESTDIR)$(pkglibdir)/$(HTTP_LIBRARY)' '$(DESTDIR)$(pkglibdir)/$(TOKEN_LIBRARY)'

.PHONY: install-http uninstall-http

# The directory is named too: its time moves when a part is taken away
tokenbill--$(EXTVERSION).sql: $(SQL_PARTS) sql tokenbill.control Makefile
	{ printf '%s\n' \
		'/* $@: joined from sql/ by make, not to be edited */' \
		'\echo Use "CREATE EXTENSION tokenbill" to load this file. \quit'; \
	  cat /dev/null $(SQL_PARTS); } > $@.part
	mv $@.part $@

endif
