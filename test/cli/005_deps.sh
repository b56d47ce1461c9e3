#!/bin/sh
# What make deps asks of apt-get, on a pretended system that has none of it: which PostgreSQL above all. Prints TAP.
. test/cli/tap

mkdir "$dir/bin"
printf '#!/bin/sh\nexit 1\n' >"$dir/bin/dpkg-query"
printf '#!/bin/sh\necho "$@" >>"%s"\n' "$dir/asked" >"$dir/bin/apt-get"
printf '#!/bin/sh\necho "PostgreSQL 16.4 (Debian 16.4-1)"\n' >"$dir/bin/pg_config"
chmod +x "$dir"/bin/*

# asks_for PACKAGES [NAME=VALUE...]: these of PostgreSQL's, in one line, and everything else
asks_for()
{
	packages=$1
	shift
	rm -f "$dir/asked"
	PATH="$dir/bin:$PATH" make -s --no-print-directory SUDO= "$@" deps || return 1
	cat "$dir/asked"
	sed -n 1p "$dir/asked" | grep -qx update &&
		sed -n 2p "$dir/asked" | grep -q '^install -y --no-install-recommends gcc .* libipc-run-perl$' &&
		test "$(tr ' ' '\n' <"$dir/asked" | grep '^postgresql' | tr '\n' ' ')" = "$packages "
}

ok 'the version of pg_config' asks_for 'postgresql-16 postgresql-server-dev-16' PG_CONFIG="$dir/bin/pg_config"
ok 'without one, what the distribution has' asks_for 'postgresql postgresql-server-dev-all' PG_CONFIG="$dir/none"
ok 'the version that is chosen' asks_for 'postgresql-17 postgresql-server-dev-17' PG_CONFIG="$dir/none" PG_MAJOR=17
ok 'chosen, it comes before that of pg_config' asks_for 'postgresql-17 postgresql-server-dev-17' PG_CONFIG="$dir/bin/pg_config" PG_MAJOR=17
printf '#!/bin/sh\necho install ok installed\n' >"$dir/bin/dpkg-query"
ok 'nothing, where all is there' sh -c "PATH='$dir/bin:$PATH' make -s --no-print-directory SUDO=false deps"
echo "1..$number"
