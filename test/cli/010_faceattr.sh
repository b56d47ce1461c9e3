#!/bin/sh
# The companion program as a user meets it: help, detection as JSON and as a table, annotation,
# evaluation, errors and exit statuses. Prints TAP.
faceattr=trainer/faceattr

. test/cli/tap

# status N COMMAND...: the command must exit with N
status()
{
	wanted=$1
	shift
	"$@" >"$dir/out" 2>"$dir/err"
	test $? -eq "$wanted"
}

count_faces() { test "$(grep -o '"box"' "$dir/out" | wc -l)" -eq "$1"; }

ok 'help names the commands' sh -c "$faceattr --help | grep -q evaluate"
ok 'version' sh -c "$faceattr --version | grep -q '^faceattr 0'"
ok 'no command is an error' status 64 $faceattr
ok 'an unknown command is an error' status 64 $faceattr frobnicate
ok 'so is an unknown option' status 64 $faceattr detect --frobnicate

ok 'detect without attributes' status 0 $faceattr detect --no-attributes demo/photos/portrait.jpg demo/photos/turned-phone.jpg
ok 'a line per photo' test "$(wc -l <"$dir/out")" -eq 2
ok 'a face in each' count_faces 2
ok 'attributes are null' grep -q '"age":null' "$dir/out"
ok 'sizes are upright' grep -q '"width":512,"height":512' "$dir/out"
ok 'as a table' status 0 $faceattr detect --tsv --no-attributes demo/photos/portrait.jpg
ok 'of six columns' sh -c "awk -F'\t' 'NF != 6 || \$6 < 0.8 { exit 1 }' $dir/out"

echo 'no image at all' >"$dir/text.jpg"
ok 'a bad photo is reported' status 1 $faceattr detect --no-attributes "$dir/text.jpg" demo/photos/portrait.jpg
ok 'as an error' grep -Eq 'text.jpg","error":"[^"]*text' "$dir/out"
ok 'and the next photo is still looked at' count_faces 1
ok 'a missing photo too' status 1 $faceattr detect --no-attributes "$dir/none.jpg"
ok 'by its name' grep -q 'none.jpg","error":' "$dir/out"
ok 'one whose name is not UTF-8 too' status 1 $faceattr detect --no-attributes "$dir/$(printf 'n\377ne.jpg')"
ok 'as far as JSON can' grep -q 'n?ne.jpg","error":"[^"]' "$dir/out"

cp demo/photos/portrait.jpg "$dir/a.jpg"
cp demo/photos/grey.jpg "$dir/b.jpg"
cp demo/photos/cat.jpg "$dir/c.jpg"
rm "$dir/text.jpg"
(cd "$dir" && tar cf photos.tar a.jpg b.jpg c.jpg)
ok 'an archive of photos' status 0 $faceattr detect --no-attributes --no-verify "$dir/photos.tar"
ok 'photo by photo' test "$(wc -l <"$dir/out")" -eq 3

ok 'the template of chips' status 0 $faceattr template --data "$dir/photos.tar"
ok 'is ten numbers' sh -c "tail -1 $dir/out | awk -F, 'NF != 10 { exit 1 }'"

if [ -f weights/default.safetensors ]; then
	ok 'attributes' status 0 $faceattr detect --json demo/photos/portrait.jpg
	ok 'have an age' sh -c "grep -Eq '\"age\":[0-9.]+,\"age_low\":[0-9.]+,\"age_high\":[0-9.]+' $dir/out"
	ok 'annotate as PNG' status 0 $faceattr annotate demo/photos/portrait.jpg "$dir/out.png"
	ok 'is PNG' sh -c "head -c 4 $dir/out.png | grep -q PNG"
	ok 'annotate as JPEG' status 0 $faceattr annotate demo/photos/tilted.png "$dir/out.jpg"
	ok 'is JPEG' status 0 $faceattr detect --no-attributes "$dir/out.jpg"
	printf 'file\tage\tgender\trace\na.jpg\t35\t1\t0\nb.jpg\t\t1\t\nc.jpg\t\t\t\n' >"$dir/photos.tsv"
	ok 'evaluate' status 0 $faceattr evaluate --data "$dir/photos.tar" --json
	ok 'counts all photos' grep -q '"count": 3' "$dir/out"
	ok 'and groups' grep -q '"White": {' "$dir/out"
	printf 'file\tage\na.jpg\tyoung\n' >"$dir/photos.tsv"
	ok 'a bad label is an error' status 1 $faceattr evaluate --data "$dir/photos.tar"
	ok 'with its line' grep -q 2 "$dir/err"
	ok 'a damaged model is an error' status 1 $faceattr detect --model "$dir/a.jpg" demo/photos/portrait.jpg
	ok 'that names the file' grep -q "$dir/a.jpg" "$dir/err"
else
	number=$((number + 1))
	echo "ok $number # SKIP no weights/default.safetensors"
fi
echo "1..$number"
