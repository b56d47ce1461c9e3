#!/bin/sh
# Where make finds CUDA, on pretended installations: by CUDA_HOME, on the PATH, as NVIDIA and as Debian lay it out; which
# versions it takes, and for which architectures it then compiles.
. test/cli/tap

# nvcc FILE ARCHITECTURE...: a compiler that knows these
nvcc()
{
	file=$1
	shift
	mkdir -p "$(dirname "$file")"
	printf '#!/bin/sh\nprintf "compute_%%s\\n" %s\n' "$*" >"$file"
	chmod +x "$file"
}

# headers FOLDER CUDA CUDNN: the versions
headers()
{
	mkdir -p "$1"
	echo "#define CUDART_VERSION $2" >"$1/cuda_runtime_api.h"
	echo "#define CUDNN_MAJOR $3" >"$1/cudnn.h"
}

# seen VARIABLE [NAME=VALUE...]: what it is to make
seen()
{
	variable=$1
	shift
	env CUDA_HOME= "$@" make -s --no-print-directory --eval='seen: ; @echo $('"$variable"')' seen
}

# finds FOLDER [NAME=VALUE...]: the compiler in there, and all that it needs
finds()
{
	folder=$1
	shift
	found="$(seen NVCC "$@") $(seen HAS_CUDA "$@")"
	echo "$found"
	test "$found" = "$folder/nvcc yes"
}

refuses()
{
	test -z "$(seen HAS_CUDA "$@")" &&
		env CUDA_HOME= "$@" make -s --no-print-directory cuda | grep -c 'Without faceattr_cuda.so' | grep -qx 1
}

by_home()
{
	finds "$dir/home/bin" CUDA_HOME="$dir/home" PATH="$dir/path/bin:$PATH" &&
		test "$(seen CUDA_CFLAGS CUDA_HOME="$dir/home")" = "-isystem $dir/home/include" &&
		seen CUDA_LIBS CUDA_HOME="$dir/home" | grep -q -- "-L$dir/home/lib64 "
}

on_the_path()
{
	finds "$dir/path/bin" PATH="$dir/path/bin:$PATH"
}

# headers and libraries are those of the version that the link leads to
by_links()
{
	finds "$dir/links/cuda/bin" CUDA_HOME="$dir/links/cuda" &&
		test "$(seen CUDA_ROOT CUDA_HOME="$dir/links/cuda")" = "$dir/home"
}

# nothing lies beside the compiler, everything where compilers look anyway
debian()
{
	finds "$dir/debian/usr/bin" PATH="$dir/debian/usr/bin:$PATH" CPATH="$dir/debian/headers" &&
		test -z "$(seen CUDA_CFLAGS PATH="$dir/debian/usr/bin:$PATH")" &&
		test -z "$(seen CUDA_ROOT MAKEFLAGS=NVCC=/usr/bin/env)"
}

architectures()
{
	test "$(seen CUDA_ARCHITECTURES CUDA_HOME="$dir/home")" = '75 80 86 89 90 100 120' &&
		test "$(seen CUDA_ARCHITECTURES CUDA_HOME="$dir/twelve")" = '75 80 86 89 90' &&
		seen NVCC_FLAGS CUDA_HOME="$dir/twelve" | grep -q 'arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90'
}

nvcc "$dir/home/bin/nvcc" 75 80 86 87 88 89 90 100 103 110 120 121
headers "$dir/home/include" 13000 9
mkdir "$dir/home/lib64" "$dir/links"
ln -s "$dir/home" "$dir/links/cuda"
nvcc "$dir/path/bin/nvcc" 75
headers "$dir/path/include" 12040 9
nvcc "$dir/debian/usr/bin/nvcc" 75
headers "$dir/debian/headers" 12040 9
nvcc "$dir/twelve/bin/nvcc" 50 52 53 60 61 62 70 72 75 80 86 87 89 90
headers "$dir/twelve/include" 12000 9
nvcc "$dir/eleven/bin/nvcc" 75
headers "$dir/eleven/include" 11080 9
nvcc "$dir/eight/bin/nvcc" 75
headers "$dir/eight/include" 12000 8
ok 'CUDA_HOME comes first' by_home
ok 'nvcc on the PATH' on_the_path
ok 'links, as NVIDIA makes them' by_links
ok 'as Debian lays it out' debian
ok 'code for the architectures that the toolkit knows, and PTX of the last' architectures
ok 'CUDA 11 is too old: one line says so' refuses CUDA_HOME="$dir/eleven"
ok 'cuDNN 8 is too old' refuses CUDA_HOME="$dir/eight"
ok 'no compiler at all' refuses MAKEFLAGS='NVCC='
echo "1..$number"
