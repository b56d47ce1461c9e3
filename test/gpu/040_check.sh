#!/bin/sh
# The program of `make gpu-check` and `make gpu-bench`, with small sizes on the emulated device; and where there is no GPU.
build=${BUILD:-build}
test -x "$build/bench/gpu" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
. test/cli/tap
emulated=$PWD/$build/test/gpu/emulated/faceattr_cuda.so

says() { "$build/bench/gpu" "$1" "$emulated" small >"$dir/out"; status=$?; cat "$dir/out"; test $status = 0 && grep -q "$2" "$dir/out"; }
no_device() { echo 'device 0' >"$dir/faults"; FACEATTR_EMULATED_FAULTS=$dir/faults "$build/bench/gpu" check "$emulated"; test $? = 77; }
no_library() { "$build/bench/gpu" check "$dir/nothing"; test $? = 77; }

ok 'everything is right on the emulated device' says check '^0 wrong'
ok '... and measured' says bench 'training resnet50'
ok 'no device: status 77' no_device
ok 'no library: the same' no_library
echo "1..$number"
