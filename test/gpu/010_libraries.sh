#!/bin/sh
# Which libraries and which device code the built files hold: CUDA in faceattr_cuda.so and
# nowhere else; there, code for every architecture and no kernel that spills registers.
. test/cli/tap

needs()
{
	readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

without_cuda()
{
	needs "$1" >"$dir/needed"
	grep -q libc.so "$dir/needed" && ! grep -iE 'cuda|cudnn|cublas|nvidia|nvrtc' "$dir/needed"
}

only_cudnn()
{
	test "$(needs faceattr_cuda.so | grep -iE 'cuda|cudnn|cublas|nvidia|nvrtc')" = libcudnn.so.9
}

one_symbol()
{
	test "$(nm -D --defined-only faceattr_cuda.so | sed 's/.* //')" = fa_cuda_engine
}

every_architecture()
{
	kernels=$(cut -d' ' -f1 "$dir/resources" | sort -u | wc -l)
	architectures=$(cut -d' ' -f2 "$dir/resources" | sort -u | wc -l)
	echo "$kernels kernels, $architectures architectures"
	test "$kernels" -ge 10 && test "$architectures" -ge 5 &&
		test "$(wc -l <"$dir/resources")" = $((kernels * architectures))
}

no_spills()
{
	! awk '$4 > 0 || $5 > 0' "$dir/resources" | grep .
}

# Another toolkit may use other registers, but has the same kernels.
in_the_table()
{
	test/gpu/resources | cut -d'|' -f2,3 >"$dir/kernels"
	sed -n '/^| kernel/,$p' docs/gpu-kernels.md | cut -d'|' -f2,3 | diff - "$dir/kernels"
}

ok 'faceattr.so does not depend on CUDA' without_cuda faceattr.so
ok 'nor does the companion program' without_cuda trainer/faceattr
if test -f faceattr_cuda.so; then
	ok 'faceattr_cuda.so needs cuDNN, and CUDA by itself' only_cudnn
	ok 'it is entered by one symbol' one_symbol
	test/gpu/resources --raw >"$dir/resources"
	ok 'every kernel is there for every architecture' every_architecture
	ok 'no kernel spills registers' no_spills
	ok 'docs/gpu-kernels.md tells of every kernel' in_the_table
	echo "# $(wc -l <"$dir/resources") kernels, at most $(cut -d' ' -f3 "$dir/resources" | sort -n | tail -1) registers"
fi
echo "1..$number"
