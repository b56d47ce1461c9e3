# One copy of a model for all sessions: who packs it, who finds it, who holds it, when it
# leaves, and what happens where there is no room or somebody dies over it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $preload = "shared_preload_libraries = 'faceattr'\nfaceattr.model_cache_size = 256MB\nrestart_after_crash = on\nmax_parallel_workers_per_gather = 2\nmax_worker_processes = 8";
my $node = PostgreSQL::Test::Cluster->new('shared');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $preload);
$node->start;
my $portrait = photo_path('portrait.jpg');
my @files = map { my $n = $_; model_file("model$n", sub { $_[1][1]{labels} = ["m$n", "f$n"] }) } 0 .. 3;
for my $database ('one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{
		CREATE EXTENSION faceattr;
		CREATE TABLE portrait AS SELECT pg_read_binary_file('$portrait') AS image});
}
sub sql { my ($database, $sql, %options) = @_; return $node->safe_psql($database, $sql, %options) }
sub psql { return $node->psql(@_) }
sub loaded { return sql('one', qq{SELECT model, location, pins, hits FROM faceattr_stat_models ORDER BY $_[0]}) }
my $gender = sub { "SELECT (face_array(image, '$_[0]'))[1].gender FROM portrait" };

# --- One copy

is(loaded('model'), '', 'nothing is loaded before it is asked for');
my $answer = sql('one', 'SELECT face_array(image, \'default\') FROM portrait');
is(loaded('model'), 'default|shared|0|0', 'the first statement packs');
is(sql('one', 'SELECT face_array(image, \'default\') FROM portrait'), $answer, 'another session says the same');
is(sql('two', 'SELECT face_array(image, \'default\') FROM portrait; SELECT face_array(image, \'default\') FROM portrait'),
	"$answer\n$answer", 'in another database, too, and again from the same mapping');
is(loaded('model'), 'default|shared|0|3', 'three statements found it');
is(sql('one', q{SELECT size BETWEEN 6e6 AND 2e7 AND last_use BETWEEN now() - interval '1 minute' AND now() FROM faceattr_stat_models}),
	't', 'its size and its last use');
sql('one', 'SET faceattr.precision = fp32; SELECT face_array(image, \'default\') FROM portrait');
is(sql('one', 'SELECT count(*), count(DISTINCT "precision") FROM faceattr_stat_models WHERE location = \'shared\''),
	sql('one', 'SELECT count(*), count(*) FROM (SELECT DISTINCT "precision" FROM faceattr_stat_models) p'), 'a copy for each precision');
my $private = new_node('private');
$private->safe_psql('postgres', "CREATE TABLE portrait AS SELECT pg_read_binary_file('$portrait') AS image");
is($private->safe_psql('postgres', q{SELECT face_array(image, 'default') FROM portrait;
	SELECT model, location, pins, hits FROM faceattr_stat_models}), "$answer\ndefault|private|0|0", 'not preloaded: the same answer from a copy of its own');
like(($private->psql('postgres', q{SET client_min_messages = debug1; SELECT face_array(image, 'default') FROM portrait}))[2],
	qr/HINT:  With shared_preload_libraries = 'faceattr' all sessions share one copy/, 'and a hint');
$private->stop;

# Bytes, not names, are what is shared.
sql($_->[0], "SELECT face_model_import('utk', '$files[$_->[1]]')") for ['one', 0], ['two', 1];
like(sql('one', $gender->('utk')), qr/^[mf]0$/, 'a name in one database');
like(sql('two', $gender->('utk')), qr/^[mf]1$/, 'the same name in another');
is(sql('one', q{SELECT count(*) FROM faceattr_stat_models l JOIN face_model m ON m.sha256 = l.key}), 1, 'the view names what is whose');

# --- Pins

# A session of its own that runs SQL beside the test; finish gives what it said.
sub start
{
	my ($database, $sql) = @_;
	my %session = (out => '', error => '');
	$session{run} = IPC::Run::start(['psql', '-XAtq', '-d', $node->connstr($database), '-c', $sql], '>', \$session{out}, '2>', \$session{error});
	return \%session;
}

sub finish
{
	my ($session) = @_;
	eval { $session->{run}->finish };
	return ($session->{out} =~ s/\n\z//r, $session->{error});
}

# Runs a statement that ends in pg_sleep; what is to be done meanwhile gets the backend's pid.
sub while_running
{
	my ($database, $statement, $then) = @_;
	my $session = start($database, $statement);
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'}), 'a statement is under way');
	$then->(sql('postgres', q{SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'}));
	finish($session);
}
my $pinned = sub { sql('one', q{SELECT sum(pins) FROM faceattr_stat_models}) };
my $hold = q{SELECT face_array(image, 'default'), pg_sleep(100) FROM portrait};
for my $end (['pg_cancel_backend', 'cancelled'], ['pg_terminate_backend', 'terminated'])
{
	while_running('two', $hold, sub {
		my ($pid) = @_;
		is($pinned->(), 1, 'a running statement holds a pin');
		sql('postgres', "SELECT $end->[0]($pid)");
		ok($node->poll_query_until('one', q{SELECT sum(pins) = 0 FROM faceattr_stat_models}), "none when it has been $end->[1]");
	});
}
psql('one', q{SELECT face_array(image, 'default'), 1 / length(substr(image, 1, 0)) FROM portrait});
psql('one', q{SELECT face_array('nonsense', 'default')});
is($pinned->(), 0, 'none after an error');
sql('one', q{CREATE TABLE many AS SELECT image FROM portrait, generate_series(1, 40); ALTER TABLE many SET (parallel_workers = 2); ANALYZE many});
is(sql('one', q{SELECT count(*), count(DISTINCT face_array(image, 'default')::text) FROM many}), '40|1', 'a parallel query');
is($pinned->(), 0, 'its workers leave none');

# --- Transactions

is(sql('one', qq{BEGIN; SELECT face_model_import('draft', '$files[2]') \\g /dev/null
	@{[$gender->('draft')]}; ROLLBACK}) =~ /^[mf]2$/, 1, 'published, predicted with, ...');
like((psql('one', $gender->('draft')))[2], qr/model "draft" does not exist/, '... rolled back: nobody can name it');
my $before = sql('one', q{SELECT sum(hits) FROM faceattr_stat_models});
sql('one', "SELECT face_model_import('final', '$files[2]')");
like(sql('one', $gender->('final')), qr/^[mf]2$/, 'what is published in the end finds the copy that is there');
cmp_ok(sql('one', q{SELECT sum(hits) FROM faceattr_stat_models}), '>', $before, 'and counts as found');

# A statement never sees two models, nor do its workers.
my $query = start('one', q{SELECT string_agg(DISTINCT (face_array(image, 'utk'))[1].gender, ',') FROM many});
sql('one', "SELECT face_model_import('utk', '$files[3]')");
like((finish($query))[0], qr/^[mf][03]$/, 'one of both while it is replaced during a parallel query');
like(sql('one', $gender->('utk')), qr/^[mf]3$/, 'the new one afterwards');

# --- A standby

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
like($standby->safe_psql('one', $gender->('utk')), qr/^[mf]3$/, 'a standby predicts');
is($standby->safe_psql('one', q{SELECT model, location FROM faceattr_stat_models}), 'utk|shared', 'from a shared copy of its own');
$standby->stop;

# --- Little room

my $size = sql('one', q{SELECT ceil(max(size) / 1048576.0 * 1.5)::int FROM faceattr_stat_models WHERE "precision" = (SELECT "precision" FROM faceattr_stat_models ORDER BY size LIMIT 1)});
$node->adjust_conf('postgresql.conf', 'faceattr.model_cache_size', "${size}MB");
$node->restart;
sql('one', $gender->($_)) for 'default', 'final';
is(loaded('model'), 'final|shared|0|0', 'the least recently used leaves');
is(sql('one', q{SELECT face_array(image, 'default') FROM portrait}), $answer, 'and comes back');
is(loaded('model'), 'default|shared|0|0', 'in place of the other');
while_running('one', $hold, sub {
	my ($pid) = @_;
	my ($code, $out, $error) = psql('one', $gender->('final') . ';' . $gender->('utk'));
	like($out, qr/^[mf]2\n[mf]3$/, 'what is pinned stays, others run from copies of their own');
	is(() = $error =~ /WARNING:  this session runs model "final" from a copy of its own/g, 1, 'with a warning');
	is(() = $error =~ /WARNING/g, 1, 'once');
	is(loaded('model'), 'default|shared|1|1', 'pinned');
	sql('postgres', "SELECT pg_cancel_backend($pid)");
});
# A session whose mapped model has left takes the new copy.
is(sql('one', qq{SELECT face_array(image, 'default') FROM portrait; @{[$gender->('final')]} \\g /dev/null
	SELECT face_array(image, 'default') FROM portrait}), "$answer\n$answer", 'a session that uses two in turns');
$node->adjust_conf('postgresql.conf', 'faceattr.model_cache_size', '0');
$node->reload;
is(sql('two', q{SELECT face_array(image, 'default') FROM portrait; SELECT location FROM faceattr_stat_models WHERE location = 'private'}),
	"$answer\nprivate", 'a cache of nothing');
$node->adjust_conf('postgresql.conf', 'faceattr.model_cache_size', '256MB');
$node->restart;

# --- Death of a packer

# A watcher does something to whoever packs, as soon as the table shows it.
sub on_packing
{
	my ($do) = @_;
	$node->restart;    # nothing is loaded
	my $watcher = start('two', qq{DO \$\$ DECLARE packer int; deadline timestamptz := clock_timestamp() + interval '20 s'; BEGIN
		WHILE clock_timestamp() < deadline LOOP
			IF EXISTS (SELECT FROM faceattr_stat_models WHERE location = 'packing') THEN
				SELECT pid INTO STRICT packer FROM pg_stat_activity WHERE application_name = 'packer';
				$do
				EXIT;
			END IF;
		END LOOP; END \$\$});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^DO' AND state = 'active'}), 'a watcher waits');
	my $packer = start('one', q{SET application_name = 'packer'; SELECT face_array(image, 'default') FROM portrait});
	return ($watcher, $packer);
}
my ($watcher, $packer, $said);
for (1 .. 3)    # a watcher that has no processor just then comes too late
{
	($watcher, $packer) = on_packing('PERFORM pg_terminate_backend(packer);');
	$said = (finish($packer))[1];
	finish($watcher);
	last if $said ne '';
}
like($said, qr/terminating connection|closed the connection/, 'a packer is terminated');
is(sql('one', q{SELECT face_array(image, 'default') FROM portrait}), $answer, 'the next one packs');
like(loaded('model'), qr/^default\|shared\|0\|[01]$/, 'for all');    # 1: the first was told to go too late

my $segments = sub { my @of = glob('/dev/shm/PostgreSQL.*'); return scalar @of };
my $few = $segments->();
for (1 .. 3)
{
	($watcher, $packer) = on_packing(q{EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || packer);});
	$said = (finish($packer))[1];
	finish($watcher);
	last if $said ne '';
}
ok($node->poll_query_until('one', 'SELECT true'), 'the server comes back after kill -9 of a packer');
is(loaded('model'), '', 'with an empty table');
is(sql('one', q{SELECT face_array(image, 'default') FROM portrait}), $answer, 'and predicts');
cmp_ok($segments->(), '<=', $few, 'and no segment is left over');

# Ten sessions at once: one packs, the others wait and find it.
$node->restart;
my @sessions = map { start('one', q{SELECT face_array(image, 'default') FROM portrait}) } 1 .. 10;
is((finish($_))[0], $answer, 'one of ten at once') for @sessions;
is(loaded('model'), 'default|shared|0|9', 'nine found what one had packed');
$node->stop;

# --- No shared memory: files may not grow beyond 4 MB, and segments are files

SKIP:
{
	skip 'prlimit is missing', 5 if system('prlimit --version >/dev/null 2>&1') != 0;
	my $small = PostgreSQL::Test::Cluster->new('small');
	$small->init(extra => ['--wal-segsize=1']);
	$small->append_conf('postgresql.conf', "$preload\ndynamic_shared_memory_type = mmap"); # files wherever it runs
	system('prlimit', '--fsize=4194304:', '--pid', $$) == 0 or die 'prlimit';
	$small->start;
	system('prlimit', '--fsize=unlimited:', '--pid', $$) == 0 or die 'prlimit';
	$small->safe_psql('postgres', 'CREATE EXTENSION faceattr');
	my ($code, $out, $error) = $small->psql('postgres', qq{SELECT face_array(pg_read_binary_file('$portrait'), 'default');
		SELECT face_array(pg_read_binary_file('$portrait'), 'default');
		SELECT model, location FROM faceattr_stat_models});
	is($out, "$answer\n$answer\ndefault|private", 'without shared memory a session has a copy of its own');
	is(() = $error =~ /WARNING:  this session runs model "default" from a copy of its own/g, 1, 'and one warning');
	like($error, qr/shared memory.*\n?.*HINT:  Give the server more shared memory/s, 'that says why');
	is($small->safe_psql('postgres', 'SELECT state, last_error FROM faceattr_stat_service'),
		"none|the service's memory cannot be had: ftruncate: File too large.", 'faceattr-service has no memory, either');
	like(slurp_file($small->logfile), qr/WARNING:  faceattr-service cannot be had/, 'which the log says');
	$small->stop;
}

done_testing();
