# The extension by PostgreSQL's own build system, from the root of the project:
# the Makefile there calls this for all, install, uninstall, installcheck and clean.

EXTENSION = faceattr
MODULE_big = faceattr
DATA = sql/faceattr--0.1.sql
OBJS = $(patsubst %.c,%.o,$(wildcard src/pg/*.c))
SHLIB_LINK = $(CORE) $(CORE_LIBS)
REGRESS = $(filter-out faceattr--%,$(basename $(notdir $(wildcard sql/*.sql))))
REGRESS_OPTS = --load-extension=faceattr

PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS = -std=gnu11 $(WARNINGS)
override with_llvm = no# nothing here that could be inlined

include $(shell $(PG_CONFIG) --pgxs)

faceattr.so: $(CORE)
$(OBJS): $(wildcard src/*.h src/*/*.h)

install: install-faceattr
install-faceattr:
	$(MKDIR_P) '$(DESTDIR)$(bindir)' '$(DESTDIR)$(datadir)/extension/faceattr'
	$(INSTALL_PROGRAM) trainer/faceattr '$(DESTDIR)$(bindir)/'
	$(INSTALL_DATA) $(wildcard weights/*.safetensors) '$(DESTDIR)$(datadir)/extension/faceattr/'

uninstall: uninstall-faceattr
uninstall-faceattr:
	rm -f '$(DESTDIR)$(bindir)/faceattr'
	rm -rf '$(DESTDIR)$(datadir)/extension/faceattr'

.PHONY: install-faceattr uninstall-faceattr
