# The supervisor of faceattr-service, where the machine or a stranger makes it hard for it: no process can be
# forked; the memory shows a service that is none.
use strict;
use warnings;
use Fcntl qw(O_RDWR SEEK_SET);
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('watch');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'faceattr'\nfaceattr.device = cpu\nfaceattr.service_slots = 4\nrestart_after_crash = off");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);
my $ask = "SET faceattr.run_in = 'service';\nSELECT face_array(image, 'default')::text FROM photos WHERE name = 'portrait.jpg';\n";
my $answer = $node->safe_psql('postgres', $ask =~ s/'service'/'backend'/r);
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
sub about { my ($pid, $what) = @_; return eval { slurp_file("/proc/$pid/$what") } // '' }
my ($supervisor) = grep { about($_, 'status') =~ /^PPid:\s+$postmaster$/m && about($_, 'cmdline') =~ /faceattr supervisor/ }
  map { m{(\d+)} } glob '/proc/[0-9]*';
sub log_after { return slurp_file($node->logfile, $_[0]) }

# --- A service that there is not

# Nobody has asked for one yet. The memory, by way of the postmaster's descriptor:
my ($descriptor) = grep { (readlink($_) // '') =~ m{^/memfd:faceattr-service} } glob "/proc/$postmaster/fd/*";
sysopen(my $memory, $descriptor, O_RDWR) or die "$descriptor: $!";
sub scribble
{
	my ($position, $bytes) = @_;
	sysseek($memory, $position, SEEK_SET) // die $!;
	syswrite($memory, $bytes) // die $!;
}
is(service($node, 'state'), 'stopped', 'there is no service');
kill 'STOP', $supervisor;
scribble(40, pack 'L<', 2);                   # fa_ring_header.state: ready
scribble(56, pack 'q<', 1);                   # started
scribble(76, pack 'L<L<', 2, 1);              # precisions, fastest: fp32
is(service($node, 'state'), 'ready', 'but the memory says so');
my $session = background($node, "SET statement_timeout = '60s'; $ask");
ok(service_becomes($node, 'queued = 1'), 'a session believes it');
kill 'CONT', $supervisor;
isnt((finish_background($session))[1], 0, 'and gets an error');
is($node->safe_psql('postgres', $ask), $answer, 'another has a real one');
is(service($node, 'state, restarts, slots_in_use'), 'ready|0|0', 'which shows');

# --- No process can be forked

SKIP:
{
	my ($limit) = slurp_file("/proc/$supervisor/limits") =~ /^Max processes\s+(\w+)/m;
	system("prlimit --pid $supervisor --nproc=1: 2>/dev/null") == 0 or skip 'there is no prlimit', 9;
	my $end = -s $node->logfile;
	kill 'KILL', service($node, 'pid');
	ok(service_becomes($node, 'restarts >= 8'), 'a fork that fails is tried again');
	is(service($node, 'state'), 'waiting', 'ever later');
	like(service($node, 'last_error'), qr/^faceattr-service could not be forked: /, 'the view says why');
	my @lines = log_after($end) =~ /(LOG:  faceattr-service .*)/g;
	is(scalar @lines, 5, 'of many failures five are told');
	like($lines[4], qr/faceattr-service could not be forked: /, 'without a process');
	unlike(log_after($end), qr/faceattr supervisor/, 'and the worker goes on');
	is(system("prlimit --pid $supervisor --nproc=$limit:"), 0, 'it may fork again');
	$node->reload;
	ok(service_becomes($node, q{state IN ('stopped', 'ready')}), 'a reload begins anew');
	is($node->safe_psql('postgres', $ask), $answer, 'and it is there again');
}
$node->stop;
done_testing();
