#!/bin/sh
# A training that is killed with -9 again and again ends, resumed, as one that was not: the same
# weights, moving average and moments to the last bit, the same figures. Heads first, then everything,
# with all that draws at random. Starts from MobileNet's pretrained weights. Prints TAP.
. test/cli/training

mkdir "$dir/chips"
printf 'file\tage\tgender\trace\n' >"$dir/chips.tsv"
for i in 1 2 3 4 5 6 7 8; do
	for photo in grey.jpg portrait.jpg cat.jpg; do
		cp demo/photos/$photo "$dir/chips/$i-$photo"
	done
	printf '%d-grey.jpg\t%d\t1\t0\n%d-portrait.jpg\t40\t1\t\n%d-cat.jpg\t3\t0\t4\n' $i $((30 + i)) $i $i >>"$dir/chips.tsv"
done

# no path here has a space in it
train="$faceattr train --data $dir/chips --val $dir/chips --init $backbone --size 32 --batch 4 --hidden 16
	--threads 2 --workers 2 --head-epochs 3 --epochs 5 --rate 1e-3 --dropout 0.3 --mixup 0.3 --balance 0.5
	--freeze stage:1 --patience 1000"

figures() { sed 's/"seconds":[^,]*,//' "$1"; }
same_figures()
{
	figures "$1" >"$dir/a.part" && figures "$2" >"$dir/b.part" && test -s "$dir/a.part" && cmp "$dir/a.part" "$dir/b.part"
}

ok 'a training without a break' $train --output "$dir/whole"
ok 'of eight epochs' test "$(wc -l <"$dir/whole/history.jsonl")" -eq 8

# Killed once there is a checkpoint and as many validations: while the heads train, as they have just
# ended, and later.
resume=
for epochs in 0 3 4 6; do
	$train --output "$dir/broken" --save-every 0.001 $resume >"$dir/train.out" 2>&1 &
	pid=$!
	for i in $(seq 1200); do
		test -f "$dir/broken/last.safetensors" && test "$(cat "$dir/broken/history.jsonl" | wc -l)" -ge $epochs && break
		kill -0 $pid || break
		sleep 0.1
	done 2>/dev/null
	kill -9 $pid
	wait $pid 2>/dev/null
	ok "killed after epoch $epochs" test $? -eq 137
	resume=--resume
done
ok 'without --resume it is not touched' sh -c "! $(echo $train) --output $dir/broken"
ok 'resumed to its end' $train --output "$dir/broken" --resume
ok 'without a warning' sh -c "! grep -q warning $dir/broken/log.tsv"
ok 'the same weights, average and moments' same_tensors "$dir/whole/last.safetensors" "$dir/broken/last.safetensors"
ok 'the same best weights' cmp "$dir/whole/best.safetensors" "$dir/broken/best.safetensors"
ok 'the same figures' same_figures "$dir/whole/history.jsonl" "$dir/broken/history.jsonl"
events 'the same events, what the kills cut off voided' "$dir/broken"
ok 'by name' test "$(cd "$dir/whole" && ls best-*)" = "$(cd "$dir/broken" && ls best-*)"
# the comparison can tell: another seed is another training
ok 'another seed' $train --output "$dir/other" --seed 2
ok 'is not the same' sh -c "! cmp -s $dir/whole/best.safetensors $dir/other/best.safetensors"
echo 'nothing' >"$dir/broken/last.safetensors"
ok 'a damaged checkpoint is an error' sh -c "! $(echo $train) --output $dir/broken --resume"
echo "1..$number"
