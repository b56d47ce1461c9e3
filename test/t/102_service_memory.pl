# The memory that sessions share with faceattr-service, scribbled over by a stranger: no session and
# no server comes to harm, nothing impossible is reported as a face, and all is well again when he stops.
use strict;
use warnings;
use Fcntl qw(O_RDWR SEEK_SET);
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('memory');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'faceattr'
faceattr.device = cpu
faceattr.run_in = service
faceattr.service_slots = 4
restart_after_crash = off});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);

# Asks the same over and over, for some seconds; counts answers and errors, and says what is no face
# of the photo.
$node->safe_psql('postgres', q{
	CREATE TABLE portrait AS SELECT image FROM photos WHERE name = 'portrait.jpg';
	CREATE FUNCTION ask(seconds float8, OUT answers int, OUT errors int, OUT hangs int, OUT nonsense text) LANGUAGE plpgsql AS $$
	DECLARE
		photo bytea := (SELECT image FROM portrait);
		began timestamptz := clock_timestamp();
		f face;
	BEGIN
		answers := 0; errors := 0; hangs := 0; nonsense := '';
		WHILE clock_timestamp() < began + make_interval(secs => seconds) LOOP
			BEGIN
				FOR f IN SELECT * FROM face_attributes(photo, 'default') LOOP
					IF (f.box[1])[0] < 0 OR (f.box[1])[1] < 0 OR (f.box[0])[0] > 512 OR (f.box[0])[1] > 512
						OR NOT f.score BETWEEN 0 AND 1 OR NOT f.age BETWEEN 0 AND 100 OR NOT f.age_low BETWEEN 0 AND 100
						OR NOT f.age_high BETWEEN 0 AND 100 OR f.gender NOT IN ('male', 'female')
						OR NOT f.gender_confidence BETWEEN 0 AND 1 OR NOT f.race_confidence BETWEEN 0 AND 1 THEN
						nonsense := f::text;
					END IF;
				END LOOP;
				answers := answers + 1;
			EXCEPTION
				WHEN query_canceled THEN hangs := hangs + 1;
				WHEN OTHERS THEN
					errors := errors + 1;
					PERFORM pg_sleep(0.01);
			END;
		END LOOP;
	END $$});
my $up_since = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my $ask = q{SELECT face_array(image, 'default')::text FROM portrait};
my $answer = $node->safe_psql('postgres', "SET faceattr.run_in = 'backend'; $ask");
is($node->safe_psql('postgres', $ask), $answer, 'it answers');
my $read_there = "SET faceattr.decode_in = 'service';";
is($node->safe_psql('postgres', "$read_there $ask"), $answer, 'and reads');

# The memory, by way of the postmaster's descriptor.
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my ($descriptor) = grep { (readlink($_) // '') =~ m{^/memfd:faceattr-service} } glob "/proc/$postmaster/fd/*";
ok(defined $descriptor, 'a memory without a name in a file system');
sysopen(my $memory, $descriptor, O_RDWR) or die "$descriptor: $!";
my $size = -s $memory;
my $head = $size % 2**31;    # then two areas of 2^30 bytes for each slot
ok(!truncate($memory, 0), 'nobody can make it shorter');
is(-s $memory, $size, 'or shorter by a bit');

sub scribble
{
	my ($position, $bytes) = @_;
	sysseek($memory, $position, SEEK_SET) // die $!;
	syswrite($memory, $bytes) // die $!;
}

# Who insists on the service does not read a photo for himself when it dies while it is looked at: it
# is ready then, and of no time. The supervisor, which would find that odd, does not look.
my ($supervisor) = slurp_file('/proc/' . service($node, 'pid') . '/status') =~ /^PPid:\s+(\d+)/m;
kill 'STOP', $supervisor;
scribble(56, pack 'q<', 0);    # fa_ring_header.started
my (undef, $out, $error) = $node->psql('postgres', "SET faceattr.run_in = 'auto'; $read_there $ask");
is($out, '', 'no answer of the session itself');
like($error, qr/ERROR:  faceattr-service is not running\n(?:DETAIL.*\n)?HINT:  Repeat the statement/, 'but an error');
kill 'CONT', $supervisor;
ok(service_becomes($node, q{restarts = 1 AND state = 'ready'}), 'the supervisor does find it odd');
sub noise { return join '', map { chr rand 256 } 1 .. $_[0] }
my $seed = $ENV{SEED} // time ^ $$;
srand $seed;
note "SEED=$seed";

my $slots = 4096;    # where they begin
my $reply = 2**30;
my @floats = map { pack('f<', $_) } 9**9**9, -sin(9**9**9), 1e30, -1, 0.5, 200;
my %attack = (
	'all ones' => sub { scribble(0, "\xff" x $head) },
	'all zeros' => sub { scribble(0, "\0" x $head) },
	'noise, once' => sub { scribble(0, noise($head)) },
	'noise in the header' => sub { scribble(rand($slots - 64), noise(1 + rand 64)) },
	'noise in slots' => sub { scribble($slots + rand($head - $slots - 64), noise(1 + rand 64)) },
	'states' => sub { scribble($slots + 64 * int(rand(($head - $slots) / 64)), chr rand 7) },
	'noise in requests' => sub { scribble($head + int(rand 4) * 2**31, noise(4096)) },
	'noise in replies' => sub { scribble($head + $reply + int(rand 20) * 2**31, noise(4096)) },
	'floats in replies' => sub { scribble($head + $reply + int(rand 20) * 2**31, join '', map { $floats[rand @floats] } 1 .. 1024) });
for my $name (sort keys %attack)
{
	my $once = $name =~ /^all|once/;
	my @sessions = map { background($node, "SET statement_timeout = '25s'; " . ($_ % 2 ? $read_there : '') . 'SELECT * FROM ask(3)') } 1 .. 4;
	usleep(500_000);
	my $end = time + ($once ? 0 : 2);
	do { $attack{$name}->(); usleep(1000) } while time < $end;
	my @results = map { [finish_background($_)] } @sessions;
	is(join(' ', map { $_->[1] } @results), '0 0 0 0', "$name: sessions live");
	is(join('', map { (split /\|/, $_->[0])[3] } @results), "\n" x 4, 'and report no face that cannot be');
	my ($answers, $hangs) = (0, 0);
	for my $result (@results)
	{
		my @counts = split /\|/, $result->[0];
		$answers += $counts[0];
		$hangs += $counts[2];
	}
	is($hangs, 0, 'wait for nothing in vain');
	cmp_ok($answers, '>', 0, 'and have had answers');
	note join ' ', map { my $text = $_->[0]; chomp $text; $text } @results;
	# After many deaths the pause before the next start is up to 30 s, of which sessions are told at once.
	my ($good, $until) = (0, time + 60);
	until ($good || time > $until)
	{
		my ($status, $out) = $node->psql('postgres', "SET statement_timeout = '1s'; $ask");
		$good = $status == 0 && $out eq $answer;
		usleep(100_000) unless $good;
	}
	ok($good, 'soon all is well again');
	ok(service_becomes($node, q{state = 'ready' AND slots_in_use = 0}), 'no slot is lost');
	like(service($node, 'last_error, engine, device'), qr/^[ -~]*$/, 'what it shows is text');
}
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $up_since, 'the server has been up all the time');
unlike(slurp_file($node->logfile), qr/terminating any other active server processes|PANIC/, 'and no session was taken down');
note join '', grep { /faceattr-service/ } split /^/, slurp_file($node->logfile);
$node->stop;
done_testing();
