# The CUDA engine in sessions: which engine answers, what happens when the GPU's library, its
# driver or the GPU itself is missing or fails, and that the server never minds. The GPU is an
# emulated one, in a library like the real one (test/gpu/emulated_library.cpp).
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

my $emulated = "$ENV{HOME}/emulated_cuda.so";
plan skip_all => 'CUDA or cuDNN is not here' if !-f $emulated;

chomp(my $libraries = qx(pg_config --pkglibdir));
my $library = "$libraries/faceattr_cuda.so";
my $real = slurp_file($library);

# Puts bytes, or a copy of a file, in the library's place; sessions that run keep what they have.
sub install
{
	my ($bytes) = @_;
	my $new = write_image('new_cuda.so', $bytes);
	unlink $library;
	move($new, $library) or die "$library: $!";
	chmod 0755, $library;
}

# What fails in sessions that load the emulated library from now on.
my $faults = $ENV{FACEATTR_EMULATED_FAULTS} = write_image('faults', '');
sub fault { return write_image('faults', "$_[0]\n") }

my $node = PostgreSQL::Test::Cluster->new('gpu');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "restart_after_crash = off\nfaceattr.gpu_device = 0\nmax_parallel_workers_per_gather = 2\nmax_worker_processes = 8");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);

# A session: what it says, and its messages.
sub session
{
	my ($sql, %options) = @_;
	my ($code, $out, $error) = ($options{node} // $node)->psql('postgres', "\\set VERBOSITY verbose\n$sql", on_error_stop => 0);
	$error =~ s/^psql:<stdin>:\d+: //mg;
	$error =~ s/^LOG: .*\n(LOCATION.*\n)?//mg;
	return ($out, $error);
}
my $auto = "SET faceattr.device = 'auto';\n";
my $gpu = "SET faceattr.device = 'gpu';\n";
my $cpu = "SET faceattr.device = 'cpu';\n";
my $ask = "SELECT round((face_array(image, 'default'))[1].age) FROM photos WHERE name = 'portrait.jpg';\n";
my $engine = "SELECT engine FROM faceattr_stat_models WHERE location <> 'packing' ORDER BY last_use DESC LIMIT 1;\n";
my ($age) = session($cpu . $ask);
like($age, qr/^\d\d$/, 'the CPU answers');

# --- Without a GPU

# Auto goes on with the CPU and says so to those who listen; gpu fails with reason and hint.
sub no_gpu
{
	my ($what, $reason, $detail, $hint) = @_;
	my ($out, $error) = session($auto . $ask . $engine);
	is("$out|$error", "$age\ncpu|", "$what: auto takes the CPU");
	($out, $error) = session("SET client_min_messages = debug1;\n$auto$ask$ask");
	my $says = () = $error =~ /DEBUG:  00000: this session has no GPU: $reason/g;
	is($says, $reason =~ /installed/ ? 0 : 1, 'says why to those who listen, where there is a library');
	($out, $error) = session($gpu . $ask . $ask . $auto . $ask);
	is($out, $age, 'gpu fails, and the session goes on');
	like($error, qr/ERROR:  55000: $reason\nDETAIL:  $detail.*\nHINT:  $hint.*\n/, 'with the reason and a hint');
	is(() = $error =~ /ERROR:/g, 2, 'each time');
}
unlink $library;
no_gpu('no library', 'the CUDA engine is not installed', 'There is no file ".*/faceattr_cuda.so"', 'Build and install it');
install($real =~ s/libcudnn\.so\.9/libabsen.so.9/gr);
no_gpu('no cuDNN', 'the CUDA engine cannot be loaded', 'libabsen.so.9: cannot open shared object file', 'A GPU, NVIDIA\'s driver and libcudnn');
install($real =~ s/fa_cuda_engine\0/fa_cuda_enginX\0/gr);
no_gpu('another version', 'the CUDA engine cannot be loaded', '.*is of another version', 'A GPU');
install('not a library');
no_gpu('a damaged library', 'the CUDA engine cannot be loaded', '.*(too short|invalid ELF)', 'A GPU');
SKIP:
{
	skip 'there is a GPU', 5 if glob '/dev/nvidia*';
	install($real);
	no_gpu('no driver', 'the GPU failed to be found: cudaError(InsufficientDriver|NoDevice)', '(CUDA driver|no CUDA)', 'A GPU');
}
install(slurp_file($emulated));
fault('device 0');
no_gpu('no device', 'the GPU failed to be found: cudaErrorNoDevice', '.*', 'A GPU');
fault('cudaGetDeviceCount 1 35');
no_gpu('an old driver', 'the GPU failed to be found: cudaErrorInsufficientDriver', '.*', 'A GPU');
fault('cudaGetDeviceCount 1 803');
no_gpu('a driver of two versions', 'the GPU failed to be found: cudaErrorSystemDriverMismatch', '.*', 'A GPU');
fault('device 61');
no_gpu('an old GPU', 'the CUDA engine was not built for a GPU of compute capability 6.1', 'It needs 7.5', 'A GPU');
fault('');

# --- With one

sub maps { my ($pid) = @_; return slurp_file("/proc/$pid/maps") }
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];

# What the library's absence or presence in a backend's memory says, asked of itself.
my $loaded = "SELECT pg_read_file('/proc/self/maps') ~ 'faceattr_cuda';\n";
my ($out, $error) = session("$loaded$cpu$ask$loaded$auto$loaded$ask$loaded$engine");
is($out, "f\n$age\nf\nf\n$age\nt\ncuda", 'the library is loaded by the first call that wants a GPU');
is($error, '', 'without a word');
unlike(maps($postmaster), qr/faceattr_cuda/, 'never by the postmaster');
is(() = (session("SET client_min_messages = debug1;\n$gpu$ask$ask"))[1] =~ /DEBUG:  00000: this session uses GPU 0\n/g, 1,
	'but to those who listen, once');
is((session("$cpu$ask$gpu$ask${cpu}${ask}SELECT images, gpu_images FROM faceattr_stat"))[0], "$age\n$age\n$age\n3|1", 'faceattr_stat counts by engine');
is((session("$gpu${ask}SELECT engine, \"precision\" FROM faceattr_stat_models"))[0], "$age\ncuda|fp16", 'fp16 is what auto means there');


# CUDA's threads must leave PostgreSQL's signals alone: SIGINT, SIGUSR1, SIGALRM, SIGTERM.
my $mask = 1 << 1 | 1 << 9 | 1 << 13 | 1 << 14;
is((session(qq{$gpu$ask SELECT count(*), bool_and(mask & $mask = $mask) FROM pg_ls_dir('/proc/self/task') AS thread,
	pg_read_file('/proc/self/task/' || thread || '/status') AS status,
	CAST(('x' || substring(status FROM 'SigBlk:\\s*(\\w+)'))::bit(64) AS bigint) AS mask
	WHERE thread <> pg_backend_pid()::text}))[0], "$age\n1|t", 'signals are blocked in its threads');

# The same answers as the CPU, within what arithmetic makes of it; pixels, years, probabilities.
sub answers
{
	my ($settings, $where) = @_;
	my ($out) = session(qq{$settings SELECT name || n, (box[0])[0], (box[0])[1], (box[1])[0], (box[1])[1], age, age_low, age_high,
		score, gender_confidence, race_confidence, gender, race
		FROM photos, face_attributes(image, 'default') WITH ORDINALITY f (box, score, landmarks, age, age_low, age_high, gender,
			gender_confidence, race, race_confidence, n) WHERE $where ORDER BY 1});
	return [map { [split /\|/] } split /\n/, $out];
}

sub same_answers
{
	my ($precision, $where, $faces, $pixels, $years, $probability) = @_;
	my $expected = answers("$cpu SET faceattr.precision = fp32;", $where);
	my $got = answers("$gpu SET faceattr.precision = $precision;", $where);
	my ($wrong, @worst) = (0, 0, 0, 0);
	my @limits = (($pixels) x 4, ($years) x 3, ($probability) x 3);
	for my $face (0 .. $#$expected)
	{
		my ($e, $g) = ($expected->[$face], $got->[$face]);
		for my $i (0 .. $#limits)
		{
			my $share = abs($e->[1 + $i] - $g->[1 + $i]) / $limits[$i];
			my $kind = $i < 4 ? 0 : $i < 7 ? 1 : 2;
			$worst[$kind] = $share if $share > ($worst[$kind] // 0);
		}
		# labels may change only where the network is undecided
		$wrong++ if $e->[0] ne $g->[0] || ($e->[11] ne $g->[11] && $e->[9] > 0.52) || ($e->[12] ne $g->[12] && $e->[10] > 0.52);
	}
	is(scalar @$expected, $faces, "$faces faces");
	is(scalar @$got, $faces, "as many on the GPU with $precision");
	is($wrong, 0, 'in the same order, with the same labels');
	cmp_ok($worst[$_], '<', 1, sprintf 'off by at most %.4f %s', $worst[$_] * ($pixels, $years, $probability)[$_], (qw(pixels years), 'of a probability')[$_])
	  for 0 .. 2;
}
same_answers('fp32', 'true', 26, 0.01, 0.01, 0.001);
same_answers('fp16', q{name <> 'sheet.jpg'}, 5, 1, 0.6, 0.03);

# Precisions that a device lacks.
like((session("${cpu}SET faceattr.precision = 'fp16';\n$ask"))[1], qr/ERROR:  0A000: processors do not compute in fp16 or tf32\nHINT:  Set faceattr.precision to auto/,
	'no fp16 on a CPU');
fault('device 75');
like((session("${gpu}SET faceattr.precision = 'bf16';\n$ask"))[1], qr/ERROR:  0A000: this GPU does not compute in bf16.*\nDETAIL:  .*8\.0\.\nHINT:  Set faceattr.precision to auto/,
	'no bf16 on an older GPU');
is((session("${gpu}$ask${engine}SET faceattr.precision = 'fp32';\n$ask"))[0], "$age\ncuda\n$age", 'but others');
my ($bf16) = session("${cpu}SET faceattr.precision = 'bf16';\n$ask$engine");
is((session("${auto}SET faceattr.precision = 'bf16';\n$ask$engine"))[0], $bf16, 'auto takes the device that has it, if one has');
fault('');

# --- Many at once

$node->safe_psql('postgres', q{
	CREATE TABLE many AS SELECT i AS id, image FROM photos, generate_series(1, 8) i WHERE name = 'portrait.jpg';
	ALTER TABLE many SET (parallel_workers = 2); ANALYZE many});
my $all = "SELECT count(*), count(DISTINCT face_array(image, 'default')::text) FROM many;\n";
my $serial = "SET max_parallel_workers_per_gather = 0;\n";
my @sessions = map { background($node, $gpu . $serial . $all) } 1 .. 2;
is((finish_background($_))[0], "8|1\n", 'one of two sessions') for @sessions;
($out) = session("${gpu}EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT face_array(image, 'default') FROM many;\nSELECT sum(gpu_images) FROM faceattr_stat;\n");
like($out, qr/Workers Launched: 2/, 'parallel workers');
is((session($gpu . "SET parallel_leader_participation = off;\n$all"))[0], '8|1', 'open the GPU for themselves');

# --- Stopping

my $start = time;
($out, $error) = session("$gpu${serial}${ask}SET statement_timeout = 700;\n${all}SET statement_timeout = 0;\n$ask$engine");
like($error, qr/ERROR:  57014: canceling statement due to statement timeout/, 'statement_timeout');
is($out, "$age\n$age\ncuda", 'and the session goes on, on the GPU');
cmp_ok(time - $start, '<', 10, 'soon');
my $busy = q{SELECT pid FROM pg_stat_activity WHERE query ~ 'FROM many' AND pid <> pg_backend_pid() AND state = 'active'};
for my $way ('cancel', 'terminate')
{
	my $session = background($node, $gpu . $serial . $all x 3);
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($busy) b WHERE pg_read_file('/proc/' || pid || '/maps') ~ 'faceattr_cuda'"), 'a session uses the GPU');
	$node->safe_psql('postgres', "SELECT pg_${way}_backend(pid) FROM ($busy) b");
	isnt((finish_background($session))[1], 0, "$way ends it");
	is($node->safe_psql('postgres', "SELECT count(*) FROM ($busy) b"), 0, 'now');
}

# --- Which GPU

sub configure
{
	my ($name, $value) = @_;
	$node->adjust_conf('postgresql.conf', $name, $value);
	$node->reload;
	ok($node->poll_query_until('postgres', "LOAD 'faceattr'; SELECT current_setting('$name') = '$value'", "LOAD\nt"), "$name = $value");
}
configure('faceattr.gpu_device', 1);
like((session($gpu . $ask))[1], qr/ERROR:  55000: there is no GPU number 1\nDETAIL:  The machine has 1, counted from 0\.\nHINT:  A GPU/, 'a GPU that is not there');
is((session($auto . $ask . $engine))[0], "$age\ncpu", 'auto takes the CPU');
configure('faceattr.gpu_device', 0);

# --- Out of memory

# Every allocation in turn. Before work has begun, auto goes on with the CPU at once; in the middle
# of it the statement fails, and the next one is for the CPU. gpu fails, and tries again.
my (%auto_did, %gpu_did);
for my $n (1 .. 12)
{
	fault("cudaMalloc $n 2");
	($out, $error) = session("$auto$ask$engine$ask$engine");
	my $warnings = () = $error =~ /WARNING:  01000: this session goes on with the CPU\nDETAIL:  the GPU failed to .*: cudaErrorMemoryAllocation\nHINT/g;
	my $errors = () = $error =~ /ERROR:  53200: the GPU failed to .*: cudaErrorMemoryAllocation\nDETAIL:  .*\nHINT:  Repeat the statement: this session goes on with the CPU for a minute/g;
	my $did = join '|', $out =~ s/\n/ /gr, $warnings, $errors;
	$auto_did{$did}++;
	($out, $error) = session("$gpu$ask$ask$engine");
	$errors = () = $error =~ /ERROR:  53200: the GPU failed to .*: cudaErrorMemoryAllocation\nDETAIL:  .*\nHINT:  Set faceattr.device to auto/g;
	$gpu_did{join '|', $out =~ s/\n/ /gr, $errors}++;
	last if $did eq "$age cuda $age cuda|0|0";
}
note explain \%auto_did, \%gpu_did;
is(delete $auto_did{"$age cuda $age cuda|0|0"}, 1, 'memory for all');
cmp_ok(delete $auto_did{"$age cpu $age cpu|1|0"}, '>', 1, 'no memory for weights: auto goes on with the CPU');
cmp_ok(delete $auto_did{"cuda $age cpu|1|1"}, '>', 0, 'no memory for a batch: an error, then the CPU');
is(join(' ', %auto_did), '', 'and nothing else');
is(delete $gpu_did{"$age $age cuda|0"}, 1, 'memory for all, again');
cmp_ok(delete $gpu_did{"$age cuda|1"}, '>', 3, 'no memory: an error, and the next statement has it');
is(join(' ', %gpu_did), '', 'and nothing else');

# --- A GPU that is lost

my $reason = 'the GPU failed to .*: cudaErrorIllegalAddress';
for my $fault (['cudaStreamSynchronize 1 700', 'loads'], ['cudnnBackendExecute 1 700', 'runs'], ['cudaGraphLaunch 1 700', 'runs again'])
{
	my ($call, $when) = @$fault;
	my $early = $when eq 'loads';
	my $first = $when eq 'runs again' ? $ask : '';    # as ever; the second run is a CUDA graph's
	my $before = $first ? "$age\n" : '';
	fault($call);
	($out, $error) = session("$auto$first$ask$ask$engine$ask");
	is($out, $before . ($early ? "$age\n$age\ncpu\n$age" : "$age\ncpu\n$age"), "lost when it $when: auto goes on with the CPU");
	is(() = $error =~ /ERROR:  58000: $reason\nDETAIL:  .*\nHINT:  Repeat the statement: this session goes on with the CPU\.\n/g, $early ? 0 : 1, 'after one error') ;
	is(() = $error =~ /ERROR:/g, $early ? 0 : 1, 'at most') ;
	is(() = $error =~ /WARNING:  01000: this session goes on with the CPU\nDETAIL:  $reason\nHINT:  A new session can use the GPU again\.\n/g, 1, 'and one warning');
	($out, $error) = session("$gpu$first$ask$ask$ask$auto$ask$engine");
	is($out, "$before$age\ncpu", 'gpu fails until auto is set');
	is(() = $error =~ /ERROR:  58000: $reason\nDETAIL:  .*\nHINT:  Reconnect/g, 1, 'in one way in the middle of a statement');
	is(() = $error =~ /ERROR:  55000: $reason\nDETAIL:  .*\nHINT:  Reconnect/g, 2, 'in another in later ones');
}
fault('');
is((session($gpu . $ask . $engine))[0], "$age\ncuda", 'a new session has it again');

# --- Preloaded, and on a standby

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'faceattr'\nfaceattr.run_in = backend");
$node->restart;
$postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
is((session("$loaded$cpu$ask$loaded$auto$ask$loaded"))[0], "f\n$age\nf\n$age\nt", 'preloaded: loaded by the first call that wants a GPU');
like(maps($postmaster), qr/faceattr\.so/, 'the postmaster has the extension');
unlike(maps($postmaster), qr/faceattr_cuda|libcudnn/, 'and not the library');
($out) = session("${gpu}SELECT faceattr_stat_reset();\n$ask$cpu$ask SELECT scope, images, gpu_images FROM faceattr_stat");
like($out, qr/^server\|2\|1$/m, 'the server counts by engine');
($out) = session("$gpu${ask}SELECT engine, \"precision\", location FROM faceattr_stat_models ORDER BY 1");
like($out, qr/^$age\ncpu\|\w+\|shared\ncuda\|fp16\|shared$/, 'each engine has its own block, which a session uploads from where it is shared');
fault('cudaMalloc 1 2');
is((session("$auto$ask$ask$engine"))[0], "$age\n$age\ncpu", 'no memory: the CPU');
fault('cudnnBackendExecute 1 700');
is((session("$auto$ask$ask$engine"))[0], "$age\ncpu", 'lost: an error and the CPU');
fault('');
is($node->safe_psql('postgres', q{SELECT sum(pins) FROM faceattr_stat_models}), 0, 'nothing stays pinned');
is((session("$gpu$all"))[0], '8|1', 'parallel workers');

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('gpu_standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is((session("$gpu$ask$engine", node => $standby))[0], "$age\ncuda", 'a standby uses its GPU');
$_->stop for $standby, $node;

unlike(slurp_file($_->logfile), qr/terminated by signal|PANIC|emulated device:/, $_->name . "'s server never minded") for $node, $standby;
done_testing();
