#!/bin/sh
# Every graph of every network, asked of cuDNN. It wants a libcuda, if only the toolkit's stub.
build=${BUILD:-build}
test -x "$build/test/gpu/test_plans" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
LD_LIBRARY_PATH="$build/test/gpu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$build/test/gpu/test_plans"
