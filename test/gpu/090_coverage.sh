#!/bin/sh
# How many lines of gpu/ the tests on the emulated device, which have run before this one, have reached:
# nine in ten, of C files and kernels together. A number that falls says that code came without tests.
build=${BUILD:-build}-sanitize
test -x "$build/test/gpu/test_emulated" || { echo '1..0 # SKIP CUDA or cuDNN is not here'; exit; }
command -v gcov >/dev/null || { echo '1..0 # SKIP gcov is not here'; exit; }
data=$(find "$build/gpu" "$build/test/gpu" -name '*.gcda')
test -n "$data" || { echo '1..0 # SKIP the tests on the emulated device have not run'; exit; }
# Launching functions aside, a template counts once, whatever types it is made for.
LC_ALL=C gcov -n $data 2>/dev/null | awk -v FS="'" '
	/^File / { file = $2; next }
	/^Lines executed:/ && file ~ /^gpu\/.*\.(c|cu|cuh)$/ {
		split($0, part, /[:% ]+/)
		share = part[3] / 100; lines = part[5]
		if (share * lines > reached[file]) reached[file] = share * lines
		total[file] = lines
		file = "" }
	END {
		for (f in total) { printf "# %-32s %5.1f %% of %d lines\n", f, 100 * reached[f] / total[f], total[f] | "sort"; all += total[f]; got += reached[f] }
		close("sort")
		good = all > 1500 && got >= 0.9 * all
		printf "%sok 1 - %.1f %% of %d lines of gpu/ are reached, at least 90\n1..1\n", good ? "" : "not ", 100 * got / all, all }'
