#!/bin/sh
# Training by the CUDA engine on an emulated device, under AddressSanitizer and UBSan.
test=${BUILD:-build}-sanitize/test/gpu/test_trainer
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
