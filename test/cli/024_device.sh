#!/bin/sh
# faceattr train --device: without a GPU a clean error, or the CPU; on an emulated one a training that ends like the
# CPU's, and that the CPU can go on with. Prints TAP.
. test/cli/training

mkdir "$dir/chips"
printf 'file\tage\tgender\trace\n' >"$dir/chips.tsv"
for i in 1 2 3 4; do
	for photo in grey.jpg portrait.jpg; do
		cp demo/photos/$photo "$dir/chips/$i-$photo"
	done
	printf '%d-grey.jpg\t%d\t1\t0\n%d-portrait.jpg\t40\t0\t1\n' $i $((30 + i)) $i >>"$dir/chips.tsv"
done
train="$faceattr train --data $dir/chips --val $dir/chips --size 32 --batch 4 --hidden 16 --head-epochs 0 --rate 1e-4 --augment 0 --dropout 0.1 --precision fp32 --patience 1000"

# The last validation's loss of a training's history
loss() { tail -1 "$1/history.jsonl" | sed 's/.*"total":\([0-9.e+-]*\).*/\1/'; }
close_to() { awk -v a="$(loss "$1")" -v b="$(loss "$2")" 'BEGIN { print a, b; exit !(a > 0 && a - b < 0.02 * a && b - a < 0.02 * a) }'; }
fails_with()
{
	message=$1
	shift
	! "$@" >"$dir/out" 2>&1 && cat "$dir/out" && grep -q "$message" "$dir/out"
}

FACEATTR_CUDA=$dir/nothing
HOME=$dir
export FACEATTR_CUDA HOME
ok 'no library: an error that says so' fails_with 'the CUDA engine is not installed' $train --device gpu --epochs 1 --output "$dir/none"
ok '... before anything is read or written' test ! -e "$dir/none"
ok 'auto is the CPU then' $train --device auto --epochs 2 --output "$dir/cpu"
FACEATTR_CUDA=$PWD/${BUILD:-build}/test/gpu/emulated/faceattr_cuda.so
if test -f "$FACEATTR_CUDA"; then
	ok 'on a GPU' $train --device gpu --epochs 2 --output "$dir/gpu"
	ok '... whose plans are kept for the next one' grep -q '^faceattr plans' "$dir"/.cache/faceattr/plans-*
	ok '... which it tells' sh -c "$train --device auto --epochs 3 --output $dir/gpu --resume 2>&1 | grep -a 'trains on the GPU: .*CUDA'"
	ok '... a training like the CPU'"'"'s' sh -c "$train --device cpu --epochs 3 --output $dir/cpu --resume"
	ok '... which ends alike' close_to "$dir/gpu" "$dir/cpu"
	ok 'the CPU goes on with it' $train --device cpu --epochs 4 --output "$dir/gpu" --resume
	ok 'a GPU with what the CPU began' $train --device gpu --epochs 4 --output "$dir/cpu" --resume
	ok '... they end alike' close_to "$dir/gpu" "$dir/cpu"
	ok 'images augmented and blended by the CPU' $train --device cpu --augment 1 --mixup 0.4 --epochs 1 --output "$dir/host"
	ok '... and by the GPU' $train --device gpu --augment 1 --mixup 0.4 --epochs 1 --output "$dir/device"
	ok '... they end alike' close_to "$dir/device" "$dir/host"
	ok '... which is not where plain ones end' sh -c "! cmp -s '$dir/device/history.jsonl' '$dir/gpu/history.jsonl'"
fi
echo "1..$number"
