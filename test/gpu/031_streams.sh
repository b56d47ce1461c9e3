#!/bin/sh
# Streams and events of the CUDA engine, on an emulated device that sees what is not synchronised.
test=${BUILD:-build}-sanitize/test/gpu/test_streams
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
