#!/bin/sh
# Which of the service's models stay on an emulated device of little memory.
test=${BUILD:-build}-sanitize/test/gpu/test_resident_models
test -x "$test" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
exec test/unit/run "$test"
