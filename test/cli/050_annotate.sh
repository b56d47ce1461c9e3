#!/bin/sh
# `faceattr annotate` on folders, videos and what is none, judged by FFmpeg's own programs. The clips
# are the demo's photos, panned and zoomed. Prints TAP.
faceattr=trainer/faceattr

. test/cli/tap

if [ ! -f weights/default.safetensors ]; then
	echo "1..0 # SKIP no weights/default.safetensors"
	exit
fi

# status N COMMAND...: the command must exit with N
status()
{
	wanted=$1
	shift
	"$@" >"$dir/out" 2>"$dir/err"
	test $? -eq "$wanted"
}

make_video() { ffmpeg -nostdin -v error -y "$@"; }

# probe FILE ENTRIES: a line per value
probe() { ffprobe -v error -select_streams v -count_frames -show_entries "stream=$2" -of csv=p=0:nk=1 "$1" | tr ',' '\n'; }

frames() { probe "$1" nb_read_frames; }
size() { probe "$1" width,height | tr '\n' x; }

# psnr FILE FILE: how alike their first frames are, in whole decibels
psnr()
{
	ffmpeg -nostdin -i "$1" -i "$2" -frames:v 1 -lavfi '[0]format=rgb24[a];[1]format=rgb24[b];[a][b]psnr' -f null - 2>&1 |
		sed -n 's/.*average:\([0-9]*\|inf\).*/\1/p'
}

# --- Photos and folders

mkdir -p "$dir/photos/more"
cp demo/photos/portrait.jpg demo/photos/tilted.png "$dir/photos"
cp demo/photos/grey.jpg "$dir/photos/more"
echo 'no image at all' >"$dir/photos/text.jpg"
ok 'a folder with a bad file in it' status 1 $faceattr annotate "$dir/photos" "$dir/photos/results"
ok 'which is named' grep -q 'photos/text.jpg: ' "$dir/err"
ok 'and is no result' test ! -e "$dir/photos/results/text.jpg"
ok 'the others are' test -s "$dir/photos/results/portrait.jpg" -a -s "$dir/photos/results/tilted.png" -a \
	-s "$dir/photos/results/more/grey.jpg"
ok 'and results are not annotated again' test ! -e "$dir/photos/results/results"
$faceattr annotate demo/photos/portrait.jpg "$dir/one.jpg"
ok 'as one by one' cmp "$dir/one.jpg" "$dir/photos/results/portrait.jpg"
ok 'a photo is not its own result' status 1 $faceattr annotate "$dir/one.jpg" "$dir/one.jpg"
ok 'and stays' cmp "$dir/one.jpg" "$dir/photos/results/portrait.jpg"

# --- A video: a face that moves and grows, with sound

make_video -loop 1 -i demo/photos/portrait.jpg -f lavfi -i sine=440 -t 2 -r 25 \
	-vf "scale=-2:720,crop=480:360:x='40+30*t':y='20*t',scale=640:480" -pix_fmt yuv420p -c:a aac "$dir/clip.mp4"
ok 'a video' status 0 $faceattr annotate --every 4 "$dir/clip.mp4" "$dir/out.mp4"
ok 'says what it did' grep -Eq 'out.mp4: 50 frames in [0-9.]+ s, [0-9.]+ frames/s, 0 dropped, 1 faces, ' "$dir/out"
ok 'without complaints' test ! -s "$dir/err"
ok 'has all frames' test "$(frames "$dir/out.mp4")" = 50
ok 'of the same size' test "$(size "$dir/out.mp4")" = 640x480x
ok 'and all of the sound' test "$(ffmpeg -nostdin -v error -i "$dir/out.mp4" -vn -f md5 - 2>&1)" = \
	"$(ffmpeg -nostdin -v error -i "$dir/clip.mp4" -vn -f md5 - 2>&1)"
make_video -i "$dir/clip.mp4" -frames:v 1 "$dir/first.png"
$faceattr annotate "$dir/first.png" "$dir/first-annotated.png"
ok 'its first frame is the annotated photo' test "$(psnr "$dir/first-annotated.png" "$dir/out.mp4")" -ge 34
ok 'which is not the photo' test "$(psnr "$dir/first.png" "$dir/out.mp4")" -lt 26
ok 'as Matroska' status 0 $faceattr annotate "$dir/clip.mp4" "$dir/out.mkv"
ok 'has all frames, too' test "$(frames "$dir/out.mkv")" = 50
ok 'an ending that is none' status 1 $faceattr annotate "$dir/clip.mp4" "$dir/out.xyz"
ok 'is an error that says what to use' grep -q 'mp4' "$dir/err"
ok 'wrong arguments are errors' status 64 $faceattr annotate --every 0 "$dir/clip.mp4" "$dir/out.mp4"

make_video -i "$dir/clip.mp4" -c:v copy -c:a pcm_s16le "$dir/pcm.mkv"
ok 'sound that MP4 does not hold' status 0 $faceattr annotate "$dir/pcm.mkv" "$dir/silent.mp4"
ok 'is left out with a warning' grep -q 'sound' "$dir/err"

# --- What phones and screen recorders write

make_video -i "$dir/clip.mp4" -c copy -metadata:s:v:0 rotate=90 "$dir/turned.mp4"
ok 'a turned video' status 0 $faceattr annotate "$dir/turned.mp4" "$dir/upright.mp4"
ok 'comes out upright' test "$(size "$dir/upright.mp4")" = 480x640x
ok 'and is not turned again' sh -c "! ffprobe -v error -show_streams $dir/upright.mp4 | grep -qi rotation"

stamps() { ffprobe -v error -select_streams v -show_entries frame=best_effort_timestamp_time -of csv=p=0 "$1" | grep -o '^[0-9.]*'; }
make_video -i "$dir/clip.mp4" -vf "select='not(mod(n,3))+lt(n,10)'" -vsync vfr "$dir/vfr.mp4"
$faceattr annotate "$dir/vfr.mp4" "$dir/vfr-out.mp4" >"$dir/out"
stamps "$dir/vfr.mp4" >"$dir/times"
stamps "$dir/vfr-out.mp4" >"$dir/times-out"
ok 'frames at uneven times' test "$(wc -l <"$dir/times")" -eq 23
ok 'stay at their times' sh -c "paste $dir/times $dir/times-out |
	awk 'NF != 2 || \$1 - \$2 > 0.001 || \$2 - \$1 > 0.001 { exit 1 }'"

# --- Stopping

make_video -loop 1 -i demo/photos/grey.jpg -t 60 -r 25 -vf scale=160:-2 -pix_fmt yuv420p "$dir/long.mp4"
$faceattr annotate --live "$dir/long.mp4" "$dir/stopped.mp4" >"$dir/out" 2>"$dir/err" &
program=$!
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	[ -e "$dir/stopped.mp4" ] && break
	sleep 1
done
sleep 2
kill -INT $program
ok 'Ctrl-C is no error' wait $program
ok 'and leaves a video that plays' test "$(frames "$dir/stopped.mp4")" -ge 5
ok 'of the time till then' test "$(frames "$dir/stopped.mp4")" -lt 1000

# --- What is none, or half a video

cut() { head -c $(($(wc -c <"$1") * $2 / 100)) "$1" >"$3"; }
cut "$dir/clip.mp4" 60 "$dir/cut.mp4"
ok 'a file without its index' status 1 $faceattr annotate "$dir/cut.mp4" "$dir/none.mp4"
ok 'is named' grep -q 'cut.mp4: ' "$dir/err"
ok 'and leaves nothing' test ! -e "$dir/none.mp4"
make_video -i "$dir/clip.mp4" -c copy -movflags faststart "$dir/fast.mp4"
cut "$dir/fast.mp4" 60 "$dir/half.mp4"
ok 'half a file' status 0 $faceattr annotate "$dir/half.mp4" "$dir/part.mp4"
ok 'comes with a warning' grep -q 'warning: .*half.mp4' "$dir/err"
ok 'as far as it goes' sh -c "n=$(frames "$dir/part.mp4"); test \$n -gt 5 -a \$n -lt 50"
ok 'a text' status 1 $faceattr annotate "$dir/photos/text.jpg" "$dir/none.mp4"
ok 'a sound' sh -c "ffmpeg -nostdin -v error -y -i $dir/clip.mp4 -vn -c copy $dir/sound.mp4; ! $faceattr annotate $dir/sound.mp4 $dir/none.mp4"
ok 'no camera' status 1 $faceattr annotate /dev/null "$dir/none.mp4"
ok 'is said to be none' grep -q '/dev/null: camera cannot be opened' "$dir/err"
ok 'nothing at all' status 1 $faceattr annotate "$dir/nothing" "$dir/none.mp4"
ok 'none of which leave a file' test ! -e "$dir/none.mp4"

echo "1..$number"
