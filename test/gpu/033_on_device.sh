#!/bin/sh
# Whole pipelines on the CUDA engine, on an emulated device: packed weights, photos in and faces out.
test=${BUILD:-build}-sanitize/test/gpu/test_on_device
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
