# Runs pg_regress over sql/*.sql; a test here for each script there.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('regress');
$node->init;
$node->start;

my @scripts = grep { !/^faceattr--/ } map { m{([^/]+)\.sql$} } sort glob 'sql/*.sql';
my $out = PostgreSQL::Test::Utils::tempdir();
my $log = "$out/pg_regress.log";
system(qq{"$ENV{PG_REGRESS}" --inputdir=. --outputdir="$out" --bindir= --host="}
	  . $node->host . '" --port=' . $node->port
	  . qq{ --load-extension=faceattr @scripts >"$log" 2>&1});

my $result = slurp_file($log);
for my $script (@scripts)
{
	# "test NAME ... ok" until version 15, "ok 1 - NAME" since
	ok($result =~ /^(?:test\s+\Q$script\E\s+\.\.\. ok|ok \d+\s+[-+] \Q$script\E\s)/m, "pg_regress: $script");
}
my $diffs = "$out/regression.diffs";
diag(-s $diffs ? slurp_file($diffs) : $result) if !Test::More->builder->is_passing;

done_testing();
