# faceattr-service with a GPU, an emulated one: what auto makes of it, and what happens when the GPU
# is missing, fails, or the service with it.
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
my $real = slurp_file("$libraries/faceattr_cuda.so");
sub install
{
	unlink "$libraries/faceattr_cuda.so";
	copy($_[0], "$libraries/faceattr_cuda.so") or die $!;
	chmod 0755, "$libraries/faceattr_cuda.so";
}
install($emulated);

# What fails in processes that load the library from now on; where the service may read it.
my $faults = $ENV{FACEATTR_EMULATED_FAULTS} = dirname(shipped_file('default')) . '/faults';
sub fault
{
	open my $file, '>', $faults or die "$faults: $!";
	print $file "$_[0]\n";
	close $file or die $!;
}
fault('');

my $node = PostgreSQL::Test::Cluster->new('gpu_service');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'faceattr'\nrestart_after_crash = off");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }
sub session
{
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]", on_error_stop => 0);
	$error =~ s/^psql:<stdin>:\d+: |^LOCATION:.*\n?//gm;
	return ($out, $error);
}
sub configure
{
	my ($name, $value) = @_;
	$node->append_conf('postgresql.conf', "$name = $value");
	$node->reload;
	ok($node->poll_query_until('postgres', "LOAD 'faceattr'; SELECT current_setting('$name') = '$value'", "LOAD\nt"), "$name = $value");
}
sub kill_service
{
	service_becomes($node, q{state = 'ready'});
	my $pid = service($node, 'pid');
	kill 'KILL', $pid if $pid;
	# until it is buried, the view shows it as if it lived
	service_becomes($node, "pid IS DISTINCT FROM $pid") or die 'a killed service is not buried' if $pid;
}
my $age = "SELECT round((face_array(image, 'default'))[1].age) FROM photos WHERE name = 'portrait.jpg';\n";
my $cpu = "SET faceattr.device = 'cpu';\n";
my $gpu = "SET faceattr.device = 'gpu';\n";
my $service = "SET faceattr.run_in = 'service';\n";
my $expected = query($cpu . $age);

# --- Auto leaves GPUs to the service

ok(service_becomes($node, q{state = 'ready' AND engine = 'cuda'}), 'with a GPU, the service is there from the start');
my @plans = glob "$ENV{HOME}/.cache/faceattr/plans-*";
is(service($node, 'requests') . ' ' . @plans, '0 1', 'before anybody has asked, it has warmed up: plans have been tried out');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my ($supervisor) = slurp_file('/proc/' . service($node, 'pid') . '/status') =~ /^PPid:\s+(\d+)/m;
unlike(slurp_file("/proc/$_/maps"), qr/faceattr_cuda|libcudnn/, 'and has it for itself') for $postmaster, $supervisor;
isnt(service($node, 'device'), '', 'the GPU has a name');
is(query("SELECT faceattr_stat_reset(); $age SELECT images, gpu_images FROM faceattr_stat"), "\n$expected\n1|1", 'auto uses it');
is(query(q{SELECT "precision", resident, memory > 1e6, images FROM faceattr_stat_service_models}), 'fp16|t|t|1', 'its model is on the GPU');
is(query("SELECT count(*) FROM faceattr_stat_models WHERE engine = 'cuda'"), 0, 'and nowhere else');
is(query("$age SELECT pg_read_file('/proc/self/maps') ~ 'faceattr_cuda'"), "$expected\nf", 'a session does not open the GPU');
is(query("SELECT faceattr_stat_reset(); $cpu $age SELECT gpu_images FROM faceattr_stat"), "\n$expected\n0", 'cpu is the session');
is(query("SELECT faceattr_stat_reset(); $gpu $age SELECT gpu_images FROM faceattr_stat"), "\n$expected\n1", 'gpu is the service');
is(query("$gpu SET faceattr.run_in = 'backend'; $age SELECT pg_read_file('/proc/self/maps') ~ 'faceattr_cuda'"), "$expected\nt", 'or the session, where it is told to');
like((session("$service $cpu $age"))[1], qr/ERROR:  55000: faceattr-service runs on a GPU\nDETAIL:  .+\nHINT:  Set faceattr\.device to auto/, 'no CPU is to be had of it');

# --- Its memory: models leave, the least recently used first

for my $n (0 .. 2)
{
	my $file = model_file("model$n", sub { $_[1][1]{labels} = ["m$n", "f$n"] });
	query("SELECT face_model_import('model$n', '$file')");
}
sub with_model { return "SELECT f.gender || round(f.age) FROM (SELECT (face_array(image, 'model$_[0]'))[1].* FROM photos WHERE name = 'portrait.jpg' OFFSET 0) f;\n" }
sub on_the_gpu { return query(q{SELECT string_agg(coalesce(name, 'default'), ' ' ORDER BY name) FROM faceattr_stat_service_models LEFT JOIN face_model ON sha256 = key WHERE resident}) }
my @answers = map { query($cpu . with_model($_)) } 0 .. 2;
sub leaves
{
	my ($n, $resident, $what) = @_;
	is(query(with_model($n)) . ': ' . on_the_gpu(), "$answers[$n]: $resident", $what);
}
query(with_model($_)) for 0, 1;
leaves(2, 'model0 model1 model2 default', 'without a limit all are there');
configure('faceattr.gpu_memory', '1MB');
my ($none, $too_little) = ('', '');
for (1 .. 50)
{
	($none, $too_little) = session(with_model(0));
	last if $too_little ne '';
	usleep 100_000;
}
like($too_little, qr/ERROR:  53200: faceattr\.gpu_memory is too small for .*\nDETAIL:  .* MB are needed/, 'where not even one fits, the setting is named');
is($none . on_the_gpu(), '', 'and none is there');

# As much as two take, with the detector and a batch: raised step by step, which the engine that is open heeds
my $room = 8;
do
{
	$room += 4;
	configure('faceattr.gpu_memory', "${room}MB");
	session(with_model($_)) for 1, 2;
} until $room >= 512 || on_the_gpu() eq 'model1 model2';
leaves(1, 'model1 model2', "two fit in $room MB");
leaves(0, 'model0 model1', 'a third one takes the place of the one not used for longest');
leaves(1, 'model0 model1', 'those that stay answer');
leaves(2, 'model1 model2', 'use counts, and not when it came');
leaves(0, 'model0 model2', 'and so on');
configure('faceattr.gpu_memory', 0);
my $all = '';
for (1 .. 30)
{
	$all = query(join('', map { with_model($_) } 0 .. 2)) . ': ' . on_the_gpu();
	last if $all =~ /: model0 model1 model2$/;
}
is($all, join("\n", @answers) . ': model0 model1 model2', 'without a limit nobody leaves');
is(service($node, 'restarts'), 0, 'the service has been up all the time');

# --- It dies

my $pid = service($node, 'pid');
my $restarts = service($node, 'restarts');
my @sessions = map { background($node, "SELECT count(face_array(image, 'default')) FROM photos, generate_series(1, 20) WHERE name = 'portrait.jpg'; $age SELECT 'over';") } 1 .. 2;
ok(service_becomes($node, 'queued + slots_in_use > 0'), 'it is at work');
kill 'KILL', $pid;
finish_background($_) for @sessions;
ok(service_becomes($node, qq{state = 'ready' AND pid <> $pid}), 'killed, it is replaced');
is(query("SELECT faceattr_stat_reset(); $age SELECT gpu_images FROM faceattr_stat"), "\n$expected\n1", 'and auto is back there');

# The GPU fails: who is at work there learns what CUDA calls it; the next one has another service.
fault('cudaGraphLaunch 4 700');
kill_service();
ok(service_becomes($node, qq{state = 'ready' AND restarts = $restarts + 2}), 'a service whose GPU will fail');
my ($asked, $failures, $right) = (0, 0, 0);
until ($failures || $asked == 10)
{
	my ($out, $error) = session($age);
	$asked++;
	$failures++ if $error =~ /ERROR:  58000: the GPU failed .*: cudaErrorIllegalAddress/;
	$right++ if $out eq $expected && $error eq '';
}
is($failures, 1, 'the statement gets an error with its name');
cmp_ok($right, '>', 0, 'there were some before');
is($right, $asked - 1, 'that had answers, the right ones');
fault('');
ok(service_becomes($node, qq{restarts = $restarts + 3}), 'the service ends, since only a new process can use the GPU');
like(service($node, 'last_error'), qr/cudaErrorIllegalAddress/, 'and says why');
kill_service();
ok(service_becomes($node, q{state = 'ready' AND engine = 'cuda'}), 'another comes');
is(query($age), $expected, 'and answers');

# Memory for usual photos and none for a large one, for good: one error, then the CPU; gpu has its error each time.
fault('memory 16000000');
kill_service();
ok(service_becomes($node, q{state = 'ready' AND engine = 'cuda'}), 'a GPU with little memory');
my $large = "SET faceattr.detect_size = 1600; SET faceattr.min_face = 8;\nSELECT count(*) FROM photos, face_detect(image) WHERE name = 'sheet.jpg';\n";
my $faces = query("$cpu$large");
my ($out, $error) = session("$age$large$large$age");
my $short = 'ERROR:  53200: the GPU failed to give memory for a batch: cudaErrorMemoryAllocation\nDETAIL:  .*\n';
is($out, "$expected\n$faces\n$expected", 'auto has answers to all but one');
is(() = $error =~ /ERROR/g, 1, 'which fails');
like($error, qr/^${short}HINT:  Repeat the statement: this session goes on with the CPU/m, 'with a hint');
($out, $error) = session("$gpu$large$large$age");
is($out, $expected, 'gpu has answers to what has room');
is(() = $error =~ /$short/g, 2, 'and errors to what has none');
is(() = $error =~ /${short}HINT:  Set faceattr.device to auto to go on with the CPU/g, 2, 'with a hint');
is(service($node, 'state'), 'ready', 'the service goes on');
fault('');
kill_service();

# --- It is gone, for a while or for good

configure('faceattr.gpu_idle_timeout', '1s');
ok(service_becomes($node, q{state = 'stopped'}), 'idle, it gives the GPU back');
is(query($age), $expected, 'auto goes on with the CPU');
ok(service_becomes($node, q{state = 'ready'}), 'and has asked for it');
is(query("SELECT faceattr_stat_reset(); $age SELECT gpu_images FROM faceattr_stat"), "\n$expected\n1", 'auto has it back');
configure('faceattr.gpu_idle_timeout', 0);

fault('device 0');
kill_service();
ok(service_becomes($node, q{state = 'useless'}), 'no GPU any more');
($out, $error) = session("SELECT faceattr_stat_reset(); $age SELECT images, gpu_images FROM faceattr_stat");
is("$out|$error", "\n$expected\n1|0|", 'auto goes on with the CPU, without a word');
like((session("$gpu $age"))[1], qr/ERROR:  55000: the GPU failed to be found: cudaErrorNoDevice\nDETAIL:  .*\nHINT:  A GPU/, 'gpu says what is missing');
like((session("$service $gpu $age"))[1], qr/ERROR:  55000: faceattr-service is not running\nDETAIL:  the GPU failed to be found: cudaErrorNoDevice.*\nHINT:  It is tried again/, 'of the service, too');

# Other reasons, each found out at a reload.
for my $case (['an old driver', 'cudaGetDeviceCount 1 35', undef, 'the GPU failed to be found: cudaErrorInsufficientDriver'],
	['no cuDNN', '', $real =~ s/libcudnn\.so\.9/libabsen.so.9/gr, 'the CUDA engine cannot be loaded'])
{
	my ($what, $fault, $library, $reason) = @$case;
	fault($fault);
	install(write_image('other_cuda.so', $library)) if defined $library;
	$node->reload;
	ok(service_becomes($node, "state = 'useless' AND last_error LIKE '$reason%'"), "$what: no GPU for the service");
	is(join('|', session("SELECT faceattr_stat_reset(); $age SELECT images, gpu_images FROM faceattr_stat")), "\n$expected\n1|0|", 'auto goes on with the CPU, without a word');
	like((session("$gpu $age"))[1], qr/^ERROR:  55000: $reason\nDETAIL:  .*\nHINT:  A GPU, NVIDIA's driver and libcudnn/, 'gpu says what is missing');
	like((session("$service $gpu $age"))[1], qr/^ERROR:  55000: faceattr-service is not running\nDETAIL:  $reason.*\nHINT:  It is tried again/, 'of the service, too');
}
install($emulated);
fault('device 0');

is((session("$service $age"))[0], $expected, 'a session that insists on the service only gets one with a CPU');
is(service($node, 'state, engine'), 'ready|cpu', 'which it is');
is((session("SELECT faceattr_stat_reset(); $age SELECT images, gpu_images FROM faceattr_stat"))[0], "\n$expected\n1|0", 'but auto does not go there');
my $log = slurp_file($node->logfile);
is(() = $log =~ /LOG:  faceattr-service cannot run here: the GPU failed to be found: cudaErrorNoDevice.*\n.*DETAIL:  Sessions go on with the CPU/g, 1, 'one line in the log says why');
fault('');
configure('faceattr.device', 'gpu');
ok(service_becomes($node, q{state = 'ready' AND engine = 'cuda'}), 'another device in postgresql.conf is another service');
configure('faceattr.device', 'cpu');
ok(service_becomes($node, q{state <> 'ready' OR engine = 'cpu'}), 'and cpu ends it');
$node->stop;
unlike(slurp_file($node->logfile), qr/terminated by signal (?!9)|PANIC|emulated device:/, 'the server never minded');
done_testing();
