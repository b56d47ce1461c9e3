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
my $faults = $ENV{EMULATED_FAULTS} = write_image('faults', '');
sub fault { return write_image('faults', "$_[0]\n") }

my $node = PostgreSQL::Test::Cluster->new('gpu');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "restart_after_crash = off\nmax_parallel_workers_per_gather = 2\nmax_worker_processes = 8");
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
no_gpu('an old driver', 'the GPU failed to be found: cudaErrorInsufficientDriver', '.*', 'A GPU') if 0;
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
is((session("SET client_min_messages = debug1;\n$gpu$ask$ask"))[1] =~ s/(LOCATION|HINT|DEBUG:  00000: this session loads).*\n//gr,
	"DEBUG:  00000: this session uses GPU 0\n", 'once in a session');
is((session("$cpu$ask$gpu$ask${cpu}${ask}SELECT images, gpu_images FROM faceattr_stat"))[0], "$age\n$age\n$age\n3|1", 'faceattr_stat counts by engine');
is((session("$gpu${ask}SELECT engine, \"precision\" FROM faceattr_stat_models"))[0], "$age\ncuda|fp16", 'fp16 is what auto means there');

# The same answers as the CPU, faces in the same order.
sub answers
{
	my ($settings, $where) = @_;
	my ($out) = session(qq{$settings SELECT name || '#' || n, round((f.box)[0][0]::numeric, 3), round((f.box)[1][1]::numeric, 3),
		f.score, f.age, f.age_low, f.age_high, f.gender, f.gender_confidence, f.race, f.race_confidence
		FROM photos, face_attributes(image, 'default') WITH ORDINALITY f (box, score, landmarks, age, age_low, age_high, gender, gender_confidence, race, race_confidence, n) WHERE $where ORDER BY 1});
	return map { my ($key, @values) = split /\|/; ($key, \@values) } split /\n/, $out;
}
done_testing();
