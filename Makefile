# faceattr: faces in stored photos, inside PostgreSQL.
#
#   make            the extension and the companion program, trainer/faceattr, and
#                   where CUDA and cuDNN are, the CUDA engine, faceattr_cuda.so
#   make install    both, with the shipped weights, into the PostgreSQL of PG_CONFIG
#   make demo       the main job on sample photos, in a throw-away server
#   make check      all tests; the last line counts them
#   make deps       installs what these need from Debian's packages
#   make gpu-check  whether the CUDA engine is right on the GPU that is here    make gpu-bench  how fast it is
#   make bench      measurements     make torture    20,000 damaged photos through SQL
#   make fuzz       hours of it      make lint       cppcheck and clang-tidy
#   make format     clang-format
#
# The core (vision, nn, face) is built once, as a static library, and linked
# into faceattr.so, into the companion program and, what it needs of it, into
# faceattr_cuda.so.

# a session's side of the service, and the rest, which is the program's
CLIENT_SOURCES = $(patsubst %,src/service/%.c,ring exchange client reader)
SERVICE_SOURCES = $(filter-out $(CLIENT_SOURCES),$(wildcard src/service/*.c))
CORE_SOURCES = $(wildcard src/*.c src/vision/*.c src/nn/*.c src/face/*.c) $(CLIENT_SOURCES)
PG_SOURCES = $(wildcard src/pg/*.c)
TRAINER_SOURCES = $(wildcard trainer/*.c)
UNIT_SOURCES = $(wildcard test/unit/test_*.c)
UNIT_HELPERS = $(filter-out $(UNIT_SOURCES),$(wildcard test/unit/*.c))
FUZZ_SOURCES = $(wildcard test/fuzz/fuzz_*.c)
BENCH_HELPERS = bench/gpu_paths.c
BENCH_SOURCES = $(filter-out $(BENCH_HELPERS),$(wildcard bench/*.c))

BUILD ?= build
comma = ,
JOBS ?= $(shell nproc)
SANITIZE ?=
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
WARNINGS = -Wall -Wextra -Werror
CORE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O3 -g -fPIC -fopenmp -fvisibility=hidden -pthread $(WARNINGS) $(SANITIZE) \
	$(shell pkg-config --cflags freetype2 libpq 2>/dev/null)
# oneDNN is loaded when it is needed (src/nn/libdnnl.h). LeakSanitizer, though, stumbles over the threads' storage of
# libraries that come late.
CORE_LIBS = $(if $(SANITIZE),-Wl$(comma)--no-as-needed -ldnnl) -lgomp -ljpeg -lpng -lfreetype -ljansson -lm -ldl -lpthread
HDF5_CFLAGS = $(shell pkg-config --cflags hdf5-serial 2>/dev/null)
HDF5_LIBS = $(or $(shell pkg-config --libs hdf5-serial 2>/dev/null),-lhdf5)
TRAINER_LIBS = -larchive -lpq -lprotobuf-c -lavdevice -lavformat -lavcodec -lswscale -lavutil $(HDF5_LIBS) $(CORE_LIBS)

GPU_SOURCES = $(wildcard gpu/*.c)
GPU_KERNELS = $(wildcard gpu/*.cu)

CORE = $(BUILD)/libfaceattr.a
# the companion program without its main(), for its tests
TRAINER = $(BUILD)/libtrainer.a
# what includes the messages of trainer/event.proto
TRAINER_EVENTS = $(BUILD)/trainer/tensorboard.o $(BUILD)/test/unit/test_tensorboard.o
UNIT_TESTS = $(UNIT_SOURCES:%.c=$(BUILD)/%)
BENCHES = $(BENCH_SOURCES:%.c=$(BUILD)/%)

PG_CONFIG ?= pg_config
PGXS = $(MAKE) -s --no-print-directory -f extension.mk PG_CONFIG='$(PG_CONFIG)' CORE='$(CORE)' CORE_LIBS='$(CORE_LIBS)' \
	WARNINGS='$(WARNINGS)'

all: trainer/faceattr faceattr-service extension cuda
extension: $(CORE)
	@test -f "$$($(PG_CONFIG) --pgxs)" || { echo "PostgreSQL's server headers are missing: 'make deps' installs them" >&2; false; }
	@echo '  PGXS faceattr.so'
	+@$(PGXS) all
install: all
	+@$(PGXS) install
uninstall installcheck:
	+@$(PGXS) $@
clean:
	rm -rf $(BUILD) $(BUILD)-sanitize trainer/faceattr faceattr-service faceattr_cuda.so
	+@test ! -f "$$($(PG_CONFIG) --pgxs 2>/dev/null)" || $(PGXS) clean

# --- The core, the companion program, unit tests and benchmarks

# told apart from faults in the code, once
HEADERS = stdio.h seccomp.h dnnl.h jpeglib.h png.h ft2build.h jansson.h archive.h libpq-fe.h
$(BUILD)/libraries:
	@mkdir -p $(@D)
	@printf '#include <%s>\n' $(HEADERS) | $(CC) $(CORE_CFLAGS) -fsyntax-only -x c - || \
		{ echo "The compiler or a library is missing: 'make deps' installs them" >&2; false; }
	@touch $@


$(BUILD)/%.o: %.c | $(BUILD)/libraries
	@mkdir -p $(@D)
	@echo '  CC $@'
	@$(CC) $(CORE_CFLAGS) -MMD -MP -c -o $@ $<

# Where `make install` puts the weights and libraries, seen from the program beside PostgreSQL's:
# compiled in, and again when PG_CONFIG is another's.
$(BUILD)/share-dir.h: FORCE
	@mkdir -p $(@D)
	@dir=$$(realpath -m --relative-to="$$($(PG_CONFIG) --bindir)" "$$($(PG_CONFIG) --sharedir)/extension/faceattr") 2>/dev/null; \
		lib=$$(realpath -m --relative-to="$$($(PG_CONFIG) --bindir)" "$$($(PG_CONFIG) --pkglibdir)") 2>/dev/null; \
		printf '#define FA_SHARE_DIR "%s"\n#define FA_LIBRARY_DIR "%s"\n' "$$dir" "$$lib" >$@.new; cmp -s $@.new $@ || cp $@.new $@; rm $@.new
$(BUILD)/trainer/common.o: $(BUILD)/share-dir.h
$(BUILD)/trainer/common.o: private CORE_CFLAGS += -include $(BUILD)/share-dir.h

$(CORE): $(CORE_SOURCES:%.c=$(BUILD)/%.o)
	@rm -f $@
	@ar rcs $@ $^

# TensorBoard's messages, from their description
$(BUILD)/trainer/event.pb-c.c $(BUILD)/trainer/event.pb-c.h &: trainer/event.proto
	@mkdir -p $(@D)
	@echo '  PROTOC $@'
	@protoc-c --c_out=$(BUILD)/trainer --proto_path=trainer event.proto

$(BUILD)/trainer/event.pb-c.o: $(BUILD)/trainer/event.pb-c.c
	@$(CC) $(CORE_CFLAGS) -c -o $@ $<

$(TRAINER_EVENTS): $(BUILD)/trainer/event.pb-c.h
$(TRAINER_EVENTS): CORE_CFLAGS += -I$(BUILD)/trainer

$(TRAINER): $(BUILD)/trainer/event.pb-c.o $(patsubst %.c,$(BUILD)/%.o,$(filter-out trainer/main.c,$(TRAINER_SOURCES)))
	@rm -f $@
	@ar rcs $@ $^

trainer/faceattr: $(BUILD)/trainer/main.o $(TRAINER) $(CORE)
	@echo '  LD $@'
	@$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $^ $(TRAINER_LIBS)

faceattr-service: $(SERVICE_SOURCES:%.c=$(BUILD)/%.o) $(CORE)
	@echo '  LD $@'
	@$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $^ -lseccomp $(CORE_LIBS)

$(UNIT_TESTS): %: %.o $(UNIT_HELPERS:%.c=$(BUILD)/%.o) $(TRAINER) $(CORE)
	@echo '  LD $@'
	@$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $^ -lcmocka -lseccomp $(TRAINER_LIBS)
$(BUILD)/test/unit/test_sandbox: $(BUILD)/src/service/sandbox.o

$(BENCHES): %: %.o $(CORE)
	@echo '  LD $@'
	@$(CC) $(SANITIZE) -pthread -fopenmp -o $@ $(filter-out $(CORE),$^) $(CORE) $(CORE_LIBS)
$(BUILD)/bench/gpu: $(BUILD)/bench/gpu_paths.o

# what reads HDF5
$(BUILD)/trainer/import_keras.o $(BUILD)/test/unit/test_import_keras.o: CORE_CFLAGS += $(HDF5_CFLAGS)

core: $(CORE)
unit: $(UNIT_TESTS)
benches: $(BENCHES)

# --- The CUDA engine, where CUDA (12 and later) and cuDNN (9) are at hand

NVCC := $(firstword $(if $(CUDA_HOME),$(wildcard $(CUDA_HOME)/bin/nvcc)) $(shell command -v nvcc) \
	$(wildcard /usr/local/cuda/bin/nvcc /usr/lib/nvidia-cuda-toolkit/bin/nvcc))
# NVIDIA's layout has everything below one folder; Debian's lies where compilers look anyway (-isystem /usr/include
# would hide the C library's headers from C++'s)
CUDA_ROOT := $(filter-out / /usr,$(if $(NVCC),$(abspath $(dir $(realpath $(NVCC)))..)))
CUDA_CFLAGS = $(addprefix -isystem ,$(patsubst %/cuda_runtime_api.h,%,$(wildcard $(CUDA_ROOT)/include/cuda_runtime_api.h)))
CUDA_LIBS = $(foreach d,$(wildcard $(CUDA_ROOT)/lib64 $(CUDA_ROOT)/lib),-L$(d) -Wl,-rpath,$(d)) -lcudnn -lcudart_static -lstdc++ -ldl -lrt -lpthread
HAS_CUDA := $(if $(NVCC),$(shell echo 'int enough[CUDART_VERSION >= 12000 && CUDNN_MAJOR >= 9 ? 1 : -1];' | \
	$(CC) $(CUDA_CFLAGS) -include cuda_runtime_api.h -include cudnn.h -fsyntax-only -x c - 2>/dev/null && echo yes))
# real code for those that the toolkit knows, and for later ones PTX of the last
CUDA_ARCHITECTURES = $(filter $(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch)),75 80 86 89 90 100 120)
NVCC_FLAGS = -O3 -g -std=c++17 -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
	$(foreach a,$(CUDA_ARCHITECTURES),-gencode arch=compute_$(a),code=sm_$(a)) \
	$(foreach a,$(lastword $(CUDA_ARCHITECTURES)),-gencode arch=compute_$(a),code=compute_$(a))
GPU_OBJECTS = $(GPU_SOURCES:%.c=$(BUILD)/%.o)

EMULATED_TESTS = test_emulated test_trainer test_streams test_plan_cache test_on_device test_augmentation test_resident_models

ifeq ($(HAS_CUDA),yes)
cuda: faceattr_cuda.so
gpu-tests: $(addprefix $(BUILD)/test/gpu/,$(if $(SANITIZE),$(EMULATED_TESTS),test_plans emulated/faceattr_cuda.so)) $(if $(SANITIZE),,$(BUILD)/bench/gpu)
else
cuda gpu-tests:
	@echo 'Without faceattr_cuda.so: CUDA 12 and cuDNN 9 are not here (CUDA_HOME tells where they are)'
endif

# how much of the engine the tests on the emulated device reach (test/gpu/090_coverage.sh)
COVERAGE = $(if $(SANITIZE),--coverage)
$(GPU_OBJECTS) $(BUILD)/test/gpu/%.o: CORE_CFLAGS += $(CUDA_CFLAGS)
$(GPU_OBJECTS): private CORE_CFLAGS += $(COVERAGE)

$(BUILD)/gpu/%.cu.o: gpu/%.cu | $(BUILD)/libraries
	@mkdir -p $(@D)
	@echo '  NVCC $@'
	@$(NVCC) $(NVCC_FLAGS) -Xptxas -v -MMD -MP -c -o $@ $< 2>$(@:.o=.log) || { cat $(@:.o=.log) >&2; rm -f $@; false; }
	@grep -vE '^ptxas info|bytes stack frame' $(@:.o=.log) >&2 || :

faceattr_cuda.so: $(GPU_OBJECTS) $(GPU_KERNELS:%=$(BUILD)/%.o) $(CORE)
	@echo '  LD $@'
	@$(CC) -shared -Wl,-z,defs -Wl,--exclude-libs,ALL -o $@ $^ $(CUDA_LIBS) -lm

# what cuDNN would plan, asked of cuDNN, which wants a libcuda: the toolkit's stub will do
$(BUILD)/test/gpu/test_plans: $(BUILD)/test/gpu/test_plans.o $(GPU_OBJECTS) $(GPU_KERNELS:%=$(BUILD)/%.o) $(CORE)
	@echo '  LD $@'
	@$(CC) $(SANITIZE) -o $@ $^ $(CUDA_LIBS) $(CORE_LIBS)
	@$(foreach s,$(wildcard $(CUDA_ROOT)/lib64/stubs/libcuda.so),ln -sf $(s) $(@D)/libcuda.so.1)

# the same engine on a device that is a program
EMULATED = $(patsubst %,$(BUILD)/test/gpu/emulated_%.o,runtime streams kernels races cudnn convolutions) \
	$(GPU_KERNELS:gpu/%.cu=$(BUILD)/test/gpu/%.emulated.o)
# of kernels every access is seen, in the programs that watch (test/gpu/races.h)
SEEN_FLAGS = $(if $(SANITIZE),-fno-sanitize=address -fsanitize=thread --param tsan-instrument-func-entry-exit=0)
EMULATED_FLAGS = -std=c++17 -O3 -g -fPIC $(WARNINGS) $(SANITIZE) $(CUDA_CFLAGS) -MMD -MP

$(BUILD)/test/gpu/%.o: test/gpu/%.cpp
	@mkdir -p $(@D)
	@echo '  CXX $@'
	@$(CXX) $(EMULATED_FLAGS) -c -o $@ $<

$(BUILD)/test/gpu/%.emulated.o: gpu/%.cu
	@mkdir -p $(@D)
	@echo '  CXX $@'
	@$(CXX) $(EMULATED_FLAGS) $(SEEN_FLAGS) $(COVERAGE) -include test/gpu/emulation.h -c -o $@ -x c++ $<

$(EMULATED_TESTS:%=$(BUILD)/test/gpu/%): %: %.o $(BUILD)/test/gpu/device_test.o $(EMULATED) $(GPU_OBJECTS) \
		$(patsubst %,$(BUILD)/test/unit/%.o,random_net reference pictures) $(CORE)
	@echo '  LD $@'
	@$(CXX) $(SANITIZE) $(COVERAGE) -pthread -fopenmp -o $@ $(filter-out $(CORE),$^) $(CORE) -lcmocka $(CORE_LIBS)
$(BUILD)/test/gpu/test_resident_models: $(BUILD)/src/service/models.o

# and as a library, for tests on servers; it is never installed
$(BUILD)/test/gpu/emulated/faceattr_cuda.so: $(BUILD)/test/gpu/emulated_library.o $(EMULATED) $(GPU_OBJECTS) $(CORE)
	@mkdir -p $(@D)
	@echo '  LD $@'
	@$(CXX) -shared -Wl,-z,defs -Wl,-Bsymbolic -Wl,--exclude-libs,ALL -pthread -o $@ $^ -lm

# --- Fuzz targets: the parsers alone, by clang

CLANG ?= clang
FUZZED = src/fa.c $(wildcard src/vision/*.c) src/nn/safetensors.c src/nn/weights.c src/nn/net.c trainer/copy_binary.c
FUZZ_CFLAGS = -std=gnu11 -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined $(WARNINGS) -Wno-unknown-pragmas \
	$(shell pkg-config --cflags freetype2 2>/dev/null)
FUZZERS = $(FUZZ_SOURCES:test/fuzz/%.c=$(BUILD)/fuzz/%)

$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo '  CLANG $@'
	@$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(FUZZERS): $(BUILD)/fuzz/%: $(BUILD)/fuzz/test/fuzz/%.o $(FUZZED:%.c=$(BUILD)/fuzz/%.o)
	@echo '  LD $@'
	@$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $^ -ljpeg -lpng -lfreetype -ljansson -lm -lpthread

fuzzers: $(FUZZERS)

FUZZ_SECONDS ?= 3600
fuzz: fuzzers
	set -e; for f in $(FUZZERS); do FUZZ_SECONDS=$(FUZZ_SECONDS) test/fuzz/run $$f; done

# --- Packages

# PostgreSQL of the version that pg_config is of, or that PG_MAJOR=17 chooses; else the one that the distribution has
PG_MAJOR ?= $(shell $(PG_CONFIG) --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
POSTGRESQL = $(foreach v,$(PG_MAJOR),postgresql-$v postgresql-server-dev-$v)
PACKAGES = gcc libc6-dev pkg-config libdnnl-dev libjpeg62-turbo-dev libpng-dev libfreetype-dev libseccomp-dev \
	fonts-dejavu-core libjansson-dev libarchive-dev libpq-dev libprotobuf-c-dev protobuf-c-compiler libhdf5-dev \
	libavdevice-dev libavformat-dev libavcodec-dev libswscale-dev libavutil-dev ffmpeg \
	$(or $(POSTGRESQL),postgresql postgresql-server-dev-all) clang libclang-rt-dev libcmocka-dev perl libipc-run-perl
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

deps:
	@missing=$$(for p in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing || \
		{ echo 'Root can install what is missing: apt-get install' $$missing >&2; false; }; \
	fi

# --- Everything that runs. PGXS is looked for again once packages are there.

check: deps
	$(MAKE) -j$(JOBS) all unit gpu-tests fuzzers
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-sanitize SANITIZE="$(SANITIZERS)" unit gpu-tests
	BUILD=$(BUILD) PG_CONFIG=$(PG_CONFIG) test/check

demo: deps
	$(MAKE) -j$(JOBS) all
	OUT=demo PG_CONFIG=$(PG_CONFIG) test/sandbox demo/run
	@test -s demo/annotated.jpg

torture: deps
	$(MAKE) -j$(JOBS) all
	TRIES=20000 PG_CONFIG=$(PG_CONFIG) test/sandbox perl test/t/030_torture.pl

bench: deps
	$(MAKE) -j$(JOBS) all benches
	BUILD=$(BUILD) PG_CONFIG=$(PG_CONFIG) bench/run

# on the GPU that is here (bench/results); status 77 where there is none
gpu-check gpu-bench: deps
	$(MAKE) -j$(JOBS) all $(BUILD)/bench/gpu
	BUILD=$(BUILD) PG_CONFIG=$(PG_CONFIG) bench/gpu-run $(@:gpu-%=%)

C_FILES = $(wildcard src/*.[ch] src/*/*.[ch] trainer/*.[ch] test/*/*.[ch] bench/*.[ch] \
	gpu/*.[ch] gpu/*.cu gpu/*.cuh test/gpu/*.cpp)

format:
	clang-format -i $(C_FILES)

LINTED = $(CORE_SOURCES) $(SERVICE_SOURCES) $(PG_SOURCES) $(TRAINER_SOURCES) $(BENCH_SOURCES) $(BENCH_HELPERS) $(UNIT_SOURCES) \
	$(UNIT_HELPERS) $(FUZZ_SOURCES) $(if $(HAS_CUDA),$(GPU_SOURCES))

lint: $(BUILD)/trainer/event.pb-c.h
	cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -j $(JOBS) \
		--enable=warning,portability,performance --suppress=missingIncludeSystem $(LINTED)
	clang-tidy --quiet $(LINTED) -- -std=gnu11 -D_GNU_SOURCE \
		-isystem $$($(PG_CONFIG) --includedir-server) -isystem $(BUILD)/trainer \
		$(shell pkg-config --cflags freetype2 libpq 2>/dev/null) $(HDF5_CFLAGS) $(CUDA_CFLAGS)

.PHONY: all cuda gpu-tests extension install uninstall installcheck clean core unit benches fuzzers fuzz deps \
	check demo torture bench gpu-check gpu-bench format lint FORCE
.SECONDARY:

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
