#!/bin/sh
# Augmentation by the CUDA engine on an emulated device, beside the host's.
test=${BUILD:-build}-sanitize/test/gpu/test_augmentation
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
