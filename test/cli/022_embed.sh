#!/bin/sh
# Training of the embedding on persons: three of them, drawn many times, are told apart. Starts from
# MobileNet's pretrained weights. Prints TAP.
. test/cli/training

mkdir "$dir/chips"
printf 'file\tperson\n' >"$dir/chips.tsv"
for i in 1 2 3 4; do
	for photo in grey.jpg portrait.jpg cat.jpg; do
		cp demo/photos/$photo "$dir/chips/$i-$photo"
	done
	printf '%d-grey.jpg\t4\n%d-portrait.jpg\t17\n%d-cat.jpg\t900\n' $i $i $i >>"$dir/chips.tsv"
done

# no path here has a space in it
train="$faceattr train --task embed --data $dir/chips --val $dir/chips --init $backbone --size 64 --batch 8
	--threads 1 --precision fp32 --epochs 3 --rate 1e-4 --output $dir/run"

ok 'a batch is of four images each' sh -c "! $(echo $train) --batch 10"
ok 'and of persons that there are' sh -c "! $(echo $train) --batch 16"
rm -rf "$dir/run"
ok 'train' $train
ok 'told apart' grep -q '100.000 % of pairs told apart' "$dir/run/log.tsv"
ok 'by name' test -s "$dir/run"/best-step*-person100.00.safetensors
ok 'a report' grep -q 'Persons told apart' "$dir/run/report.html"
events 'TensorBoard reads the events' "$dir/run"
$faceattr evaluate --json --crops --data "$dir/chips" >"$dir/persons.json"
ok 'a model tells persons apart' grep -q '"accuracy": 100' "$dir/persons.json"
ok 'all pairs of them' grep -q '"same_pairs": 18' "$dir/persons.json"
ok 'area under the curve' grep -q '"auc": 1' "$dir/persons.json"

# the margin softmax
margin="$(echo $train | sed "s|--output.*||") --embed-loss margin --scale 16 --epochs 4 --threads 2 --workers 2"
ok 'a margin softmax' $margin --output "$dir/whole"
ok 'tells them apart' grep -q '100.000 % of pairs told apart' "$dir/whole/log.tsv"
names() { perl -e 'local $/; open F, "<:raw", $ARGV[0] or die; $_ = <F>; print substr $_, 8, unpack "Q<", $_' "$1" | tr ',' '\n' | grep -o '"[^"]*": *{"dtype' | sort; }
names "$dir/run/best.safetensors" >"$dir/a.names"
names "$dir/whole/best.safetensors" >"$dir/b.names"
ok 'whose directions are in no model' sh -c "test -s $dir/a.names && cmp $dir/a.names $dir/b.names"
names "$dir/whole/last.safetensors" >"$dir/c.names"
ok 'but in the checkpoint' sh -c "grep -q '\"l.weights\"' $dir/c.names && grep -q '\"l.moment2\"' $dir/c.names"
$margin --output "$dir/broken" --save-every 0 >"$dir/train.out" 2>&1 &
pid=$!
for i in $(seq 1200); do
	test -f "$dir/broken/last.safetensors" && test "$(cat "$dir/broken/history.jsonl" | wc -l)" -ge 2 && break
	kill -0 $pid || break
	sleep 0.1
done 2>/dev/null
kill -9 $pid
wait $pid 2>/dev/null
ok 'killed after epoch 2' test $? -eq 137
ok 'resumed to its end' $margin --output "$dir/broken" --resume
ok 'the same weights, directions and moments' same_tensors "$dir/whole/last.safetensors" "$dir/broken/last.safetensors"
ok 'the triplets of another training cannot go on with it' sh -c "! $(echo $margin) --output $dir/run --resume"
ok 'it is for embeddings' sh -c "! $(echo $margin | sed 's|--task embed||') --output $dir/none"

printf 'file\tperson\tage\n' >"$dir/chips.tsv"
for i in 1 2 3 4; do
	printf '%d-grey.jpg\t4\t35\n%d-portrait.jpg\t17\t40\n' $i $i >>"$dir/chips.tsv"
done
ok 'attributes can be trained from there' $faceattr train --data "$dir/chips" --val "$dir/chips" \
	--init "$dir/run/best.safetensors" --size 64 --batch 4 --threads 1 --hidden 8 --precision fp32 --epochs 1 --output "$dir/next"
echo "1..$number"
