# The extension by PostgreSQL's own build system. The Makefile calls this for all,
# install, uninstall, installcheck and clean, and can itself be read without PostgreSQL.

EXTENSION = faceattr
MODULE_big = faceattr
DATA = $(wildcard sql/faceattr--*.sql)
OBJS = $(patsubst %.c,%.o,$(wildcard src/pg/*.c))
SHLIB_LINK = $(CORE) $(CORE_LIBS)
REGRESS = $(filter-out faceattr--%,$(basename $(notdir $(wildcard sql/*.sql))))
REGRESS_OPTS = --load-extension=faceattr

PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server)
PG_CFLAGS = -std=gnu11 $(WARNINGS)
override with_llvm = no# nothing here that could be inlined

PGXS := $(shell $(PG_CONFIG) --pgxs)
WEIGHTS ?= weights# a directory

include $(PGXS)

faceattr.so: $(CORE)
$(OBJS): $(wildcard src/*.h src/*/*.h)

install: install-faceattr
install-faceattr:
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(INSTALL) -d -m 755 '$(DESTDIR)$(datadir)/extension/faceattr'
	$(INSTALL_PROGRAM) trainer/faceattr faceattr-service '$(DESTDIR)$(bindir)/'
	$(if $(wildcard faceattr_cuda.so),$(INSTALL_SHLIB) faceattr_cuda.so '$(DESTDIR)$(pkglibdir)/')
	$(INSTALL_DATA) $(wildcard $(WEIGHTS)/*.safetensors) '$(DESTDIR)$(datadir)/extension/faceattr/'

uninstall: uninstall-faceattr
uninstall-faceattr:
	rm -f '$(DESTDIR)$(bindir)/faceattr' '$(DESTDIR)$(bindir)/faceattr-service' '$(DESTDIR)$(pkglibdir)/faceattr_cuda.so'
	rm -rf '$(DESTDIR)$(datadir)/extension/faceattr'

.PHONY: install-faceattr uninstall-faceattr
