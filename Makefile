# faceattr: faces in stored photos, inside PostgreSQL.
#
#   make          the extension and the companion program trainer/faceattr
#   make install  PGXS's
#   make check    all tests        make demo   the main job on sample photos
#
# The core (vision, nn, face) is built once, as a static library, and linked
# into faceattr.so and into the companion program.

EXTENSION = faceattr
MODULE_big = faceattr
DATA = sql/faceattr--0.1.sql

CORE_SOURCES = $(wildcard src/*.c src/vision/*.c src/nn/*.c src/face/*.c)
PG_SOURCES = $(wildcard src/pg/*.c)
TRAINER_SOURCES = $(wildcard trainer/*.c)
UNIT_SOURCES = $(wildcard test/unit/test_*.c)
UNIT_HELPERS = $(filter-out $(UNIT_SOURCES),$(wildcard test/unit/*.c))

BUILD ?= build
SANITIZE ?=
WARNINGS = -Wall -Wextra -Werror
CORE_CFLAGS = -std=gnu11 -O3 -g -fPIC -fopenmp -fvisibility=hidden -pthread $(WARNINGS) $(SANITIZE) \
	$(shell pkg-config --cflags freetype2)
CORE_LIBS = -ldnnl -lgomp -ljpeg -lpng -lfreetype -ljansson -lm -lpthread
TRAINER_LIBS = -larchive $(CORE_LIBS)

CORE = $(BUILD)/libfaceattr.a
CORE_OBJECTS = $(CORE_SOURCES:%.c=$(BUILD)/%.o)
UNIT_TESTS = $(UNIT_SOURCES:test/unit/%.c=$(BUILD)/test/unit/%)

OBJS = $(PG_SOURCES:.c=.o)
SHLIB_LINK = $(CORE) $(CORE_LIBS)

all: trainer/faceattr

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CORE_CFLAGS) -MMD -MP -c -o $@ $<

$(CORE): $(CORE_OBJECTS)
	rm -f $@
	ar rcs $@ $^

trainer/faceattr: $(TRAINER_SOURCES:%.c=$(BUILD)/%.o) $(CORE)
	$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $^ $(TRAINER_LIBS)

$(BUILD)/test/unit/test_%: $(BUILD)/test/unit/test_%.o $(UNIT_HELPERS:%.c=$(BUILD)/%.o) $(CORE)
	$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $^ -lcmocka $(TRAINER_LIBS)

unit: $(UNIT_TESTS)
	@set -e; for t in $(UNIT_TESTS); do echo "$$t"; $$t; done

core: $(CORE)

format:
	clang-format -i $(wildcard src/*.[ch] src/*/*.[ch] trainer/*.[ch] test/*/*.[ch])

.PHONY: core unit format
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

ifneq ($(PG_SOURCES),)
PG_CONFIG ?= pg_config
include $(shell $(PG_CONFIG) --pgxs)
faceattr.so: $(CORE)
endif
