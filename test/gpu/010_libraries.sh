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

# Of these, those that the toolkit knows, as the Makefile finds it.
architectures()
{
	for nvcc in "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" "$(command -v nvcc)" /usr/local/cuda/bin/nvcc /usr/lib/nvidia-cuda-toolkit/bin/nvcc; do
		test -x "$nvcc" && break
	done
	"$nvcc" --list-gpu-arch >"$dir/known"
	for architecture in 75 80 86 89 90 100 120; do
		grep -x "compute_$architecture" "$dir/known" | sed 's/compute_//'
	done
}

# In the library itself: each file of kernels for each of them, and PTX of the last, for those to come.
every_architecture()
{
	architectures >"$dir/architectures"
	test "$(wc -l <"$dir/architectures")" -ge 5 || return 1
	for file in $(seq 0 $(($(ls gpu/*.cu | wc -l) - 1))); do
		sed "s/^/$file cubin /" "$dir/architectures"
		echo "$file ptx $(tail -1 "$dir/architectures")"
	done | sort >"$dir/wanted"
	test/gpu/fatbin faceattr_cuda.so | sort | diff "$dir/wanted" -
}

every_kernel()
{
	kernels=$(cut -d' ' -f1 "$dir/resources" | sort -u | wc -l)
	echo "$kernels kernels, by architecture:"
	cut -d' ' -f2 "$dir/resources" | sort | uniq -c
	test "$kernels" -ge 10 && cut -d' ' -f2 "$dir/resources" | sort -u | diff - "$dir/names" &&
		test "$(wc -l <"$dir/resources")" = $((kernels * $(wc -l <"$dir/names")))
}

no_spills()
{
	! awk '$4 > 0 || $5 > 0' "$dir/resources" | grep .
}

# The assembler's words are of when it ran: kernels, architectures, registers and stacks of what has been linked. Local
# memory is where spills would go.
as_linked()
{
	cuobjdump --dump-resource-usage faceattr_cuda.so | awk '
		/^arch = / { architecture = $3 }
		/^ Function / { kernel = $2; sub(/:$/, "", kernel) }
		/^ *REG:/ { gsub(/[A-Z]+:/, ""); print kernel, architecture, $1, $2, $4 }' | sort >"$dir/linked"
	awk '{ print $1, $2, $3, $4, 0 }' "$dir/resources" | sort | diff - "$dir/linked"
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
	ok 'it has code for every architecture that the toolkit knows, and PTX of the last' every_architecture
	sed 's/^/sm_/' "$dir/architectures" | sort >"$dir/names"
	ok 'every kernel is there for every architecture' every_kernel
	ok 'no kernel spills registers' no_spills
	if command -v cuobjdump >"$dir/shown"; then
		ok 'the library holds what the assembler made' as_linked
	fi
	ok 'docs/gpu-kernels.md tells of every kernel' in_the_table
	echo "# $(wc -l <"$dir/resources") kernels, at most $(cut -d' ' -f3 "$dir/resources" | sort -n | tail -1) registers"
fi
echo "1..$number"
