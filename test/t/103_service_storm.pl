# Storms over faceattr-service: cancels, while its settings change, and kill -9 every second under 32 sessions. Every
# statement has the right answer or one error, and the server never minds. SERVICE_STORM_SECONDS says for how long: 12, or 120 for the real thing.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{SERVICE_STORM_SECONDS} // 12;
my $node = PostgreSQL::Test::Cluster->new('storm');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'faceattr'
faceattr.device = cpu
faceattr.run_in = service
max_connections = 60
log_statement = none
log_min_error_statement = panic
restart_after_crash = off});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);

# What the session's own process says, once; then the same question over and over for some seconds.
$node->safe_psql('postgres', q{
	CREATE TABLE question AS SELECT id, image FROM photos WHERE name NOT IN ('sheet.jpg');
	SET faceattr.run_in = backend;
	ALTER TABLE question ADD answer text;
	UPDATE question SET answer = face_array(image, 'default')::text;
	RESET faceattr.run_in;
	CREATE FUNCTION ask(seconds float8, OUT answers int, OUT errors int, OUT wrong int, OUT others text, OUT longest float8) LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
		asked timestamptz;
		q question;
		got text;
	BEGIN
		answers := 0; errors := 0; wrong := 0; others := ''; longest := 0;
		WHILE clock_timestamp() < began + make_interval(secs => seconds) LOOP
			SELECT * INTO q FROM question ORDER BY random() LIMIT 1;
			asked := clock_timestamp();
			BEGIN
				SELECT face_array(q.image, 'default')::text INTO got;
				IF got = q.answer THEN
					answers := answers + 1;
				ELSE
					wrong := wrong + 1;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				errors := errors + 1;
				IF SQLERRM NOT IN ('faceattr-service ended while it had the request', 'faceattr-service is not running',
					'faceattr-service does not have the model') THEN
					others := SQLERRM;
				END IF;
			END;
			longest := greatest(longest, extract(epoch FROM clock_timestamp() - asked));
		END LOOP;
	END $$});
my $up_since = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# --- Cancels

# Statements that have 1 to 30 ms, too little for most, some a second, and then one that has time. psql's messages come with its
# output.
my ($statements, $stormers) = (30, 8);
my $over = temporary_path('over');
my $connection = $node->connstr('postgres');
my @stormers = map {
	my $stormer = $_;
	my $script = write_image("storm$stormer", "\\set VERBOSITY sqlstate\n" . ($stormer % 2 ? "SET faceattr.decode_in = 'service';\n" : '')
		. join('', map { 'SET statement_timeout = ' . (1 + int rand(rand() < 0.2 ? 1000 : 30)) . ";\nSELECT face_array(image, 'default')::text = answer FROM (SELECT * FROM question ORDER BY id OFFSET " . ($stormer + $_) % 5 . " LIMIT 1) q;\n" } 1 .. $statements)
		. "SET statement_timeout = 0;\nSELECT 'all: ' || bool_and(face_array(image, 'default')::text = answer) FROM question;\n"
		. "DO \$\$ BEGIN WHILE pg_stat_file('$over', true) IS NULL LOOP PERFORM pg_sleep(0.05); END LOOP; END \$\$;\n");
	open(my $out, '-|', "psql -XAtq -d '$connection' -f '$script' 2>&1") or die "psql: $!";
	{ out => $out }
} 1 .. $stormers;
for my $size (1, 7, 64, 2, 64)
{
	$node->append_conf('postgresql.conf', "faceattr.batch_size = $size");
	$node->reload;
	usleep(200_000);
}
# As long as they are there, nobody frees a slot for them.
ok($node->poll_query_until('postgres', "SELECT count(*) = $stormers FROM pg_stat_activity WHERE query ~ '^DO .*pg_stat_file'"), 'a storm is over');
ok(service_becomes($node, q{state = 'ready' AND slots_in_use = 0 AND queued = 0}), 'no slot is lost');
write_image('over', '');
my $said = join '', map { (finish_background($_))[0] } @stormers;
my $cancelled = $said =~ s/^psql:.*ERROR:  57014\n//gm;
my $right = $said =~ s/^t\n//gm;
note "$cancelled cancels, $right answers in time";
is($said, "all: true\n" x $stormers, 'of cancels and reloads: right answers, or that one error, and right ones afterwards');
is($cancelled + $right, $statements * $stormers, 'every statement has ended');
cmp_ok($cancelled, '>', $statements, 'many by a cancel');
is(service($node, 'restarts'), 0, 'and the service has not minded');

# --- Deaths

my @sessions = map { background($node, ($_ % 2 ? "SET faceattr.decode_in = 'service'; " : '') . "SELECT * FROM ask($seconds)") } 1 .. 32;
my ($kills, $end) = (0, time + $seconds);
for (my $next = time + 1; $next < $end; $next += 1)
{
	usleep(1e6 * ($next - time)) if $next > time;
	my $pid = service($node, 'pid');
	$kills++ if $pid ne '' && kill 'KILL', $pid;
}
my @total = (0, 0, 0);
my ($others, $longest, $died) = ('', 0, 0);
for my $session (@sessions)
{
	my ($out, $status) = finish_background($session);
	chomp $out;
	my ($answers, $errors, $wrong, $other, $time) = split /\|/, $out;
	$died++ if $status != 0;
	$total[0] += $answers // 0;
	$total[1] += $errors // 0;
	$total[2] += $wrong // 0;
	$others = $other if $other;
	$longest = $time if $time && $time > $longest;
}
note sprintf '%d seconds, %d kills: %d answers, %d errors, %d wrong; the longest statement took %.1f s', $seconds, $kills, @total, $longest;
cmp_ok($kills, '>=', $seconds / 3, "killed $kills times");
is($died, 0, 'no session ended');
cmp_ok($total[0], '>', 32, "$total[0] answers");
is($total[2], 0, 'all of them right');
cmp_ok($total[1], '>=', $kills / 2, "$total[1] errors");
is($others, '', 'and none but those that there should be');
cmp_ok($longest, '<', 30, sprintf 'no statement hung: %.1f s at most', $longest);
ok(service_becomes($node, q{state = 'ready' AND slots_in_use = 0}), 'no slot is lost');
is($node->safe_psql('postgres', 'SELECT bool_and(face_array(image, \'default\')::text = answer) FROM question'), 't', 'and all is well in the end');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $up_since, 'the server has been up all the time');
my $log = slurp_file($node->logfile);
unlike($log, qr/terminating any other active server processes|PANIC/, 'and no session was taken down');
my $lines = () = $log =~ /LOG:  faceattr-service/g;
cmp_ok($lines, '<=', 6 + $seconds / 60, "its log has $lines lines about it");
$node->stop;
done_testing();
