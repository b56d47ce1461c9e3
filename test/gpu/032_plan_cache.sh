#!/bin/sh
# Plans that the CUDA engine tries out and keeps, and its limit on memory, on an emulated device.
test=${BUILD:-build}-sanitize/test/gpu/test_plan_cache
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
