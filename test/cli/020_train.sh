#!/bin/sh
# A training from nothing to a model file on a few drawn chips: interrupted, resumed, calibrated,
# used. Starts from MobileNet's pretrained weights where ../shared has them. Prints TAP.
. test/cli/training
template=0.2948,0.2920,0.6840,0.2893,0.4963,0.5161,0.3226,0.6818,0.6642,0.6791

# the same few photos under many names, with labels that differ
mkdir "$dir/chips"
printf 'file\tage\tgender\trace\n' >"$dir/chips.tsv"
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	cp demo/photos/grey.jpg "$dir/chips/grey$i.jpg"
	cp demo/photos/cat.jpg "$dir/chips/cat$i.jpg"
	printf 'grey%d.jpg\t35\t1\t0\ncat%d.jpg\t3\t0\t4\n' $i $i >>"$dir/chips.tsv"
done

# no path here has a space in it
train="$faceattr train --data $dir/chips --val $dir/chips --init $backbone --output $dir/run --size 64 --batch 4
	--hidden 8 --precision fp32 --threads 1 --template $template"

ok 'train' $train --epochs 2 --head-epochs 1 --rate 1e-3
ok 'validated' grep -q 'validation age' "$dir/run/log.tsv"
ok 'best weights kept' test -s "$dir/run/best.safetensors"
ok 'by a name that says how good they are' sh -c "cmp $dir/run/best-step*-age*-gender*-race*.safetensors $dir/run/best.safetensors"
ok 'a validation for each epoch' test "$(wc -l <"$dir/run/history.jsonl")" -eq 3
ok 'a report with pictures' grep -q 'data:image/jpeg;base64,' "$dir/run/report.html"
ok 'and nothing from elsewhere' sh -c "! grep -Eq 'https?:|<script' $dir/run/report.html"
events 'TensorBoard reads the events' "$dir/run"
ok 'checkpoint kept' test -s "$dir/run/last.safetensors"
ok 'nothing is left to do' $train --epochs 2 --head-epochs 1 --rate 1e-3 --resume
ok 'going on where it was' grep -q 'step 18' "$dir/run/log.tsv"

rm -r "$dir/run"
$train --epochs 5000 --head-epochs 0 >"$dir/train.out" 2>&1 &
pid=$!
for i in $(seq 100); do
	grep -q 'step 6,' "$dir/run/log.tsv" 2>/dev/null && break
	sleep 0.2
done
kill -INT $pid
wait $pid
ok 'an interrupt ends it with 130' test $? -eq 130
ok 'after writing a checkpoint' test -s "$dir/run/last.safetensors"
ok 'and saying how to go on' grep -q resume "$dir/train.out"

ok 'calibrate' $faceattr calibrate --init "$dir/run/best.safetensors" --output "$dir/model.safetensors" \
	--val "$dir/chips" --template $template --licence 'test only'
ok 'the model file works' $faceattr evaluate --data "$dir/chips" --labels "$dir/chips.tsv" --crops \
	--model "$dir/model.safetensors"
echo "1..$number"
