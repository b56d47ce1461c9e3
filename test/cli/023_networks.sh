#!/bin/sh
# Every network from nothing to a model file that answers: trained for a few steps from random
# weights, again on its frozen backbone, calibrated, used. Prints TAP.
faceattr=trainer/faceattr
template=0.2948,0.2920,0.6840,0.2893,0.4963,0.5161,0.3226,0.6818,0.6642,0.6791

. test/cli/tap

mkdir "$dir/chips"
printf 'file\tage\tgender\trace\n' >"$dir/chips.tsv"
for i in 1 2 3 4; do
	cp demo/photos/grey.jpg "$dir/chips/grey$i.jpg"
	cp demo/photos/cat.jpg "$dir/chips/cat$i.jpg"
	printf 'grey%d.jpg\t35\t1\t0\ncat%d.jpg\t3\t0\t4\n' $i $i >>"$dir/chips.tsv"
done

# no path here has a space in it
train="$faceattr train --data $dir/chips --val $dir/chips --batch 4 --hidden 8 --precision fp32 --threads 1
	--epochs 1 --template $template"

for network in mobilenet_v1 resnet50 senet50 vgg16; do
	ok "$network: from random weights, at an odd size" $train --network $network --size 71 \
		--head-epochs 0 --init random --output "$dir/run"
	ok "$network: on the frozen backbone" $train --network $network --size 64 --init "$dir/run/best.safetensors" \
		--freeze all --new-heads --output "$dir/again"
	ok "$network: calibrate" $faceattr calibrate --init "$dir/again/best.safetensors" \
		--output "$dir/model.safetensors" --val "$dir/chips" --template $template
	ok "$network: evaluate" $faceattr evaluate --data "$dir/chips" --labels "$dir/chips.tsv" --crops \
		--model "$dir/model.safetensors"
	cp "$dir/run/best.safetensors" "$dir/other.safetensors"
	rm -r "$dir/run" "$dir/again"
done
ok 'weights of another network are refused' sh -c "! $(echo $train) --network senet50 --size 64 \
	--init $dir/other.safetensors --output $dir/run 2>$dir/error && grep -q 'lack tensor' $dir/error"
ok 'and a network that is none' sh -c "! $(echo $train) --network resnet9 --output $dir/none 2>$dir/error &&
	grep -q 'resnet9' $dir/error && grep -q 'senet50' $dir/error"
ok 'import-keras says what a file is not' sh -c "! $faceattr import-keras demo/photos/cat.jpg -o $dir/x 2>$dir/error &&
	grep -q 'demo/photos/cat.jpg: is not an HDF5 file' $dir/error"
echo "1..$number"
