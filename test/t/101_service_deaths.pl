# faceattr-service dies, hangs, cannot start, or is given a photo that kills it: the statements that
# it was at fail once, the next ones work, and the server never minds.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $magic = "magic photo";
$ENV{FACEATTR_TEST_CRASH} = unpack 'H*', $magic;
$ENV{SECRET} = $ENV{PGSECRET} = 'secret';
my $node = PostgreSQL::Test::Cluster->new('deaths');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'faceattr'
faceattr.device = cpu
faceattr.run_in = service
faceattr.service_slots = 4
restart_after_crash = on});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);
$node->safe_psql('postgres', q{CREATE TABLE portrait AS SELECT image FROM photos WHERE name = 'portrait.jpg'});
sub query { return $node->safe_psql('postgres', $_[0]) }
# Output and errors of a session, without where in the script they were.
sub session
{
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]", on_error_stop => 0);
	$error =~ s/^psql:<stdin>:\d+: |^LOCATION:.*\n?//gm;
	return ($out, $error);
}
sub pid { service_becomes($node, q{state = 'ready'}); return service($node, 'pid') || die 'no service' }
my $up_since = query('SELECT pg_postmaster_start_time()');
my $read_there = "SET faceattr.decode_in = 'service';\n";
my $ask = "SELECT face_array(image, 'default')::text FROM portrait;\n";
my $many = "SELECT count(face_array(image, 'default')) FROM portrait, generate_series(1, 3000);\n";
# at work, or between two requests of one statement
my $lost = qr/ERROR:  58000: faceattr-service (?:ended while it had the request|is not running)\n(?:DETAIL:  .*\n)?HINT:  Repeat the statement/;
my $answer = query("SET faceattr.run_in = 'backend';\n$ask");
is(query($ask), $answer, 'it answers');

my $scripts = 0;

# A session that has it do much work; psql's messages come with its output.
sub work
{
	my ($sql) = @_;
	my $name = 'work' . ++$scripts;
	my $script = write_image($name, "SET application_name = '$name';\n$sql");
	my $connection = $node->connstr('postgres');
	open(my $out, '-|', "psql -XAt -v VERBOSITY=verbose -d '$connection' -f '$script' 2>&1") or die "psql: $!";
	$node->poll_query_until('postgres', qq{SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = '$name' AND state = 'active' AND query ~ 'series'}) or die 'no work is being done';
	my $requests = service($node, 'requests');
	service_becomes($node, "requests > $requests + 2") or die 'no work is being done';
	return { out => $out };
}
sub result { return (finish_background($_[0]))[0] }

# --- Killed in mid-batch

for my $signal ('KILL', 'TERM', 'SEGV')
{
	for my $where ('', $read_there)
	{
		my $pid = pid();
		my @sessions = map { work("$where$many$ask") } 1, 2;
		# both must be waiting for it, not reading a photo for themselves
		kill 'STOP', $pid;
		ok(service_becomes($node, 'slots_in_use >= 2'), 'both sessions wait');
		kill $signal, $pid;
		kill 'CONT', $pid;
		for my $session (@sessions)
		{
			my $out = result($session);
			like($out, $lost, "killed by SIG$signal: the statement at work fails");
			is(() = $out =~ /ERROR/g, 1, 'once');
			ok(index($out, $answer) > 0, 'and the next one works');
		}
		isnt(pid(), $pid, 'with another service');
	}
}
is(service($node, 'restarts'), 4, 'those that it did not ask for are counted');
is(service($node, 'last_error'), 'faceattr-service was terminated by signal 11: Segmentation fault', 'with their reason');
is(service($node, q{last_error_time > now() - interval '1 minute', slots_in_use}), 't|0', 'and time; no slot is lost');

# --- Not answering: cancel, timeout, termination while it is stopped

sub stopped
{
	my ($code) = @_;
	my $pid = pid();
	kill 'STOP', $pid;
	$code->($pid);
	kill 'CONT', $pid;
}
stopped(sub {
	my $start = time;
	my (undef, $error) = session("SET statement_timeout = 100;\n$ask");
	like($error, qr/ERROR:  57014: canceling statement due to statement timeout/, 'statement_timeout while it is stopped');
	cmp_ok(time - $start, '<', 1.1, 'soon');
});

# "Within 50 ms", of twenty the median; a machine with much to do has another try.
sub latency
{
	my $script = write_image('cancels', "\\timing on\n" . join '', map { 'SET statement_timeout = ' . (30 + $_) . ";\n$ask" } 1 .. 20);
	my $connection = $node->connstr('postgres');
	my $said = qx(psql -XAt -d '$connection' -f '$script' 2>&1);
	my @times = $said =~ /Time: ([\d.]+) ms/g;    # of SET and SELECT in turn
	is(() = $said =~ /ERROR:  canceling statement due to statement timeout/g, 20, 'twenty cancels');
	my @late = sort { $a <=> $b } map { $times[2 * $_ - 1] - (30 + $_) } 1 .. 20;
	return $late[10];
}
stopped(sub {
	my $late = latency();
	$late = latency() if $late >= 50;
	cmp_ok($late, '<', 50, sprintf 'a cancel is answered after %.1f ms', $late);
	cmp_ok($late, '>', -2, 'and not before');
});
is(query($ask), $answer, 'it goes on where it was');
my $busy = q{FROM pg_stat_activity WHERE application_name ~ '^work' AND state = 'active' AND query ~ 'series'};
for my $way ('cancel', 'terminate')
{
	my $pid = pid();
	my $session = work($many . $ask);
	stopped(sub {
		ok(service_becomes($node, 'slots_in_use >= 1'), 'a session waits for it');
		my $start = time;
		query("SELECT pg_${way}_backend(pid) $busy");
		ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM (SELECT pid $busy) b"), "$way");
		cmp_ok(time - $start, '<', 1, 'soon');
	});
	my $out = result($session);
	like($out, $way eq 'cancel' ? qr/ERROR:  57014: canceling statement due to user request/ : qr/FATAL:  57P01: terminating connection/, 'with its error');
	is(index($out, $answer) > 0, $way eq 'cancel', 'the session goes on, or not');
	is(pid(), $pid, 'and the service goes on');
}
ok(service_becomes($node, 'slots_in_use = 0'), 'no slot is lost');
cmp_ok(service($node, 'abandoned'), '>', 0, 'requests have been given up');

# All slots are taken, and nobody answers: others wait for one, and can be cancelled.
stopped(sub {
	my @sessions = map { background($node, "SET statement_timeout = '3s';\n$ask") } 1 .. 4;
	ok(service_becomes($node, 'slots_in_use = 4'), 'no slot is free');
	my $start = time;
	my (undef, $error) = session("SET statement_timeout = 100;\n$ask");
	like($error, qr/ERROR:  57014/, 'who waits for a slot can be cancelled');
	cmp_ok(time - $start, '<', 1.1, 'soon');
	finish_background($_) for @sessions;
});
ok(service_becomes($node, 'slots_in_use = 0'), 'all are free again');

# --- Standing still

my $still = pid();
my $session = work("$many$ask");
kill 'STOP', $still;
my $start = time;
my $out = result($session);
like($out, $lost, 'stopped in mid-batch: the statement fails');
like($out, qr/DETAIL:  It had stood still for ten seconds, and was killed\./, 'because it is killed');
ok(index($out, $answer) > 0, 'and the next one works');
ok(process_ends($still), 'the old one is gone');
my $seconds = time - $start;
ok($seconds > 9 && $seconds < 16, sprintf 'after ten seconds: %.1f', $seconds);

# --- A photo that kills its decoder

my $image = write_image('magic', $magic);
my $poison = "SELECT face_attributes(pg_read_binary_file('$image'));\n";
my $bystander = work("$many$ask");
my $bystanders_pid = query("SELECT pid $busy");
my $deaths = service($node, 'restarts');
($out, my $error) = session("$read_there$poison$ask$poison$ask" . 'SELECT pg_backend_pid() > 0;');
is(() = $error =~ /$lost/g, 2, 'a photo that crashes its decoder is an error');
like($error, qr/DETAIL:  It was terminated by signal 11/, 'with the reason');
is($out, "$answer\n$answer\nt", 'the session goes on');
is(service($node, 'restarts'), $deaths + 2, 'two deaths');
like(result($bystander), $lost, 'another session has lost a statement');
($out, $error) = session("$read_there SET faceattr.on_bad_image = 'ignore';\n$poison");
like($error, $lost, 'it is nothing to pass over');
(undef, $error) = session("SET faceattr.run_in = 'backend';\n$poison");
like($error, qr/ERROR:  0A000: image format is not supported/, 'it is the test that makes it crash');

# --- The supervisor dies

my ($supervisor) = slurp_file('/proc/' . pid() . '/status') =~ /^PPid:\s+(\d+)/m;
my $orphan = pid();
$session = work("$many$ask");
kill 'TERM', $supervisor;
$out = result($session);
like($out, $lost, 'the supervisor is told to end: the statement fails');
ok(index($out, $answer) > 0, 'the next one works');
ok(process_ends($orphan), 'the service goes with it');
is(query('SELECT pg_postmaster_start_time()'), $up_since, 'the server has been up all the time');
unlike(slurp_file($node->logfile), qr/terminating any other active server processes|PANIC/, 'and no session was taken down');

# --- A session killed by -9 while it waits takes the server through a restart, and its slot is free again

my $waiting = work("$read_there$many");
my $waiter = query("SELECT pid $busy");
kill 'STOP', pid();
kill 'KILL', $waiter;
result($waiting);
ok($node->poll_query_until('postgres', 'SELECT true'), 'the server comes back');
is(query($ask), $answer, 'and so does the service');
ok(service_becomes($node, 'slots_in_use = 0'), 'no slot is lost');

# --- A service that cannot start

chomp(my $program = qx(pg_config --bindir) =~ s/\n//r . '/faceattr-service');
sub install
{
	my ($from) = @_;
	unlink $program;
	copy($from, $program) or die "$program: $!";
	chmod 0755, $program;
}
my $kept = temporary_path('kept');
copy($program, $kept) or die $!;
sub script { return write_image('script', "#!/bin/sh\n$_[0]\n") }
sub log_after { return slurp_file($node->logfile, $_[0]) }
sub log_end { return -s $node->logfile }

# One that ends at once, time and again: pauses, and few lines in the log.
install(script("echo started >>$ENV{HOME}/starts; exit 1"));
my $end = log_end();
my $first_death = service($node, 'restarts');
kill 'KILL', pid();
ok(service_becomes($node, "restarts >= $first_death + 7"), 'one that dies at once is tried again');
like(slurp_file("$ENV{HOME}/starts"), qr/^(started\n){6,9}$/, 'again');
my @lines = log_after($end) =~ /(LOG:  faceattr-service .*\n.*DETAIL:  .*)/g;
is(scalar @lines, 5, 'of many deaths five are told');
like($lines[0], qr/was terminated by signal 9: Killed\n.*DETAIL:  Requests in flight: 0\. Another starts in 0\.1 s/, 'why, and when it starts again');
like($lines[4], qr/exited with exit code 1\n.*DETAIL:  .*in 1\.6 s\.$/, 'ever later');
(undef, $error) = session($ask);
like($error, qr/ERROR:  55000: faceattr-service is not running\nDETAIL:  faceattr-service exited with exit code 1\nHINT:  It starts again in \d+ s\./, 'sessions learn why');
is((session("SET faceattr.run_in = 'auto';\n$ask"))[0], $answer, 'auto goes on without');
is(service($node, 'state'), 'waiting', 'which the view says, too');

# One that says what it lacks, after a look at what it has been given.
my $given = "$ENV{HOME}/given";
install(script(qq{(echo "arguments \$*"; pwd; ls -l /proc/\$\$/fd; grep Sig /proc/\$\$/status; cat /proc/\$\$/oom_score_adj; env) >$given; exit 2}));
$node->reload;
ok(service_becomes($node, "state = 'useless'"), 'one that cannot run here is not tried again');
$given = slurp_file($given);
like($given, qr{^arguments --ring 3 --slots 4 --weights /\S+/faceattr --device cpu --gpu-device 0 --threads 1\n/\n}, 'it gets these arguments');
like($given, qr{ 0 -> /dev/null\n.* 1 -> /dev/null\n.* 2 -> \S+\n.* 3 -> /memfd:faceattr-service}s, 'the ring, and a way to the log');
unlike($given, qr{pgdata|socket:}, "none of the server's files and sockets");
# 32 and 33 are the C library's own: whoever started the server may have ignored them
like($given, qr{SigBlk:\s+0+\nSigIgn:\s+0*(?:180000000)?\n}, 'signals as ever');
like($given, qr{^500\n}m, "what is short of memory takes it first");
unlike($given, qr{secret|PGDATA}i, 'and no secrets of the environment');
like($given, qr{^FACEATTR_TEST_CRASH=}m, 'but what is its own');
$start = time;
(undef, $error) = session("$ask");
like($error, qr/ERROR:  55000: faceattr-service is not running\n(DETAIL.*\n)?HINT:  It is tried again in (5\d\d|600) s/, 'sessions learn that at once');
cmp_ok(time - $start, '<', 2, 'without waiting');
is((session("SET faceattr.run_in = 'auto';\n$ask"))[0], $answer, 'auto goes on without');

# None at all; and one again.
unlink $program;
$node->reload;
ok(service_becomes($node, "state = 'waiting'"), 'one that is not installed');
like(slurp_file($node->logfile), qr/faceattr-service could not be executed/, 'says so');
install($kept);
$node->reload;
ok(service_becomes($node, "state = 'ready'"), 'and one that works again');
is(query($ask), $answer, 'answers');

# It does not hold up a shutdown.
my $last = pid();
kill 'STOP', $last;
$start = time;
$node->stop;
cmp_ok(time - $start, '<', 5, 'a service that is stopped by a signal does not hold up the shutdown');
ok(process_ends($last), 'and ends with it');
done_testing();
