# What `auto` makes of a faceattr-service that is not there yet, or whose GPU, an emulated one, fails without
# being lost: nobody waits, nobody fails more than once, and the GPU is used again when it works.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use File::Basename;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $emulated = "$ENV{HOME}/emulated_cuda.so";
plan skip_all => 'CUDA or cuDNN is not here' if !-f $emulated;
chomp(my $libraries = qx(pg_config --pkglibdir));
unlink "$libraries/faceattr_cuda.so";
copy($emulated, "$libraries/faceattr_cuda.so") or die $!;
chmod 0755, "$libraries/faceattr_cuda.so";

# What fails in processes that load the library from now on; where the service may read it.
my $faults = $ENV{FACEATTR_EMULATED_FAULTS} = dirname(shipped_file('default')) . '/faults';
sub fault
{
	open my $file, '>', $faults or die "$faults: $!";
	print $file "$_[0]\n";
	close $file or die $!;
}
fault('');
chomp(my $program = qx(pg_config --bindir) =~ s/\n//r . '/faceattr-service');
my $kept = temporary_path('kept');
copy($program, $kept) or die $!;
sub install
{
	unlink $program;
	copy($_[0], $program) or die "$program: $!";
	chmod 0755, $program;
}

$ENV{FACEATTR_TEST_TIME_ON_CPU} = 1;    # instead of ten minutes

my $node = PostgreSQL::Test::Cluster->new('auto');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'faceattr'\nrestart_after_crash = off");
install(write_image('slow', "#!/bin/sh\nexec sleep 600\n"));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);
sub session
{
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]", on_error_stop => 0);
	$error =~ s/^psql:<stdin>:\d+: |^LOCATION:.*\n?//gm;
	return ($out, $error);
}
# In place of the one that there is, which is asked for by auto.
sub new_service
{
	my ($condition) = @_;
	my $pid = service($node, 'coalesce(pid, 0)');
	kill 'KILL', $pid if $pid;
	return $node->poll_query_until('postgres', "SELECT $condition AND coalesce(pid, 0) <> $pid FROM faceattr_stat_service");
}
my $age = "SELECT round((face_array(image, 'default'))[1].age) FROM photos WHERE name = 'portrait.jpg';\n";
my $counted = "SELECT faceattr_stat_reset();\n$age SELECT images, gpu_images FROM faceattr_stat;\n";
my ($expected) = session("SET faceattr.device = 'cpu';\n$age");

# --- As long as it starts

is(service($node, 'state'), 'starting', 'a service that takes long to start');
my $start = time;
is(join('|', session($counted)), "\n$expected\n1|0|", 'auto goes on with the CPU');
cmp_ok(time - $start, '<', 30, 'and does not wait for it');
is(service($node, 'state'), 'starting', 'which starts all the same');
my (undef, $error) = session("SET statement_timeout = '1s'; SET faceattr.run_in = 'service';\n$age");
like($error, qr/ERROR:  57014/, 'who insists on it waits');
install($kept);
ok(new_service(q{state = 'ready' AND engine = 'cuda'}), 'when it is there');
is(join('|', session($counted)), "\n$expected\n1|1|", 'auto goes there');

# What is to come is compiled when there is nothing to do: batches of 2, 4, 8, whose plans are kept.
my $plans = '';
my $batches = service($node, 'batches');
for (1 .. 1200)
{
	$plans = join '', map { slurp_file($_) } glob "$ENV{HOME}/.cache/faceattr/*";
	last if $plans =~ /^8 /m;
	usleep(100_000);
}
like($plans, qr/^8 /m, 'plans for more than one face');
is(service($node, 'batches'), $batches, 'which nobody has asked for');

# Files are shut before a device is opened, whose threads would else go on reading them: what is said of
# faults is not seen outside the directories that are allowed.
SKIP:
{
	skip 'the kernel lacks Landlock', 2 if service($node, 'confined') !~ /files/;
	unlink $faults;
	symlink(write_image('faults', "device 0\n"), $faults) or die $!;
	ok(new_service(q{state = 'ready' AND engine = 'cuda'}), 'nothing is read elsewhere');
	is(service($node, 'confined'), 'files and calls', 'and all is given up in the end');
	unlink $faults;
}

# --- A failure that does not end it

my $failed = 'the GPU failed .*: cudaErrorEmulated';
my $once = qr/^ERROR:  XX000: $failed\nDETAIL:  .*\nHINT:  Repeat the statement: this session goes on with the CPU for a minute\.$/m;
my $told = qr/^WARNING:  01000: this session goes on with the CPU\nDETAIL:  $failed\nHINT:  It tries faceattr-service again after a minute\.$/m;
fault('cudaGraphLaunch 1 400');
ok(new_service(q{state = 'ready' AND engine = 'cuda'}), 'a service whose GPU fails once');
$start = time;
my ($out, $errors) = session("$age$age$age$counted$counted");
is(() = $errors =~ /$once/g, 1, 'a statement fails');
is(() = $errors =~ /ERROR/g, 1, 'only one');
is(() = $errors =~ /$told/g, 1, 'and the session is told, once, where it goes on');
is($out, "$expected\n$expected\n\n$expected\n1|0\n\n$expected\n1|0", 'on the CPU');
is(join('|', session($counted)), "\n$expected\n1|1|", 'another session stays with it');
is(service($node, 'failed >= 1, state'), 't|ready', 'it goes on, too');
# Sessions of one statement remember nothing: when a second one has failed within a minute, all rest.
ok(new_service(q{state = 'ready' AND engine = 'cuda'}), 'another one whose GPU fails');
like((session($age x 2))[1], $once, 'another session that fails');
SKIP:
{
	($out, $error) = session($counted);
	skip 'this machine is too slow', 1 if time - $start > 50;
	is("$out|$error", "\n$expected\n1|0|", 'and all others go on with the CPU');
}
# Memory that lacks from the start is a GPU that cannot be had.
fault('cudaMallocHost 1 2');
$node->restart;
ok(service_becomes($node, q{state = 'useless'}), 'a GPU without memory for the detector');
like(service($node, 'last_error'), qr/the GPU failed .*: cudaErrorMemoryAllocation/, 'says so');
is(join('|', session($counted)), "\n$expected\n1|0|", 'auto goes on without it');
is(join('|', session("SET faceattr.run_in = 'service';\n$age")), "$expected|", 'and who insists on the service gets the CPU there');
is(service($node, 'state, engine'), 'ready|cpu', 'which it has');
# That is no reason for auto to do without the GPU for ever.
fault('');
ok(service_becomes($node, q{state = 'stopped'}), 'idle, it gives way');
is((session($age))[0], $expected, 'auto asks for another');
ok(service_becomes($node, q{state = 'ready' AND engine = 'cuda'}), 'which has the GPU again');
$node->stop;
unlike(slurp_file($node->logfile), qr/terminated by signal (?!9)|PANIC|emulated device:/, 'the server never minded');
done_testing();
