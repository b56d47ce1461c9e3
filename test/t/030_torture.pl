# Damaged images through SQL: each sample cut off, then bit flips, overwritten
# stretches and random bytes until TRIES images were tried. With 20,000 of them
# (make torture) the samples are cut off at every byte position, else at every sixth.
# Nothing may crash; a cut-off image is always an error.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $tries = $ENV{TRIES} // 4000;
my $step = $tries < 20000 ? 6 : 1;
my $seed = $ENV{SEED} // 8;
srand $seed;
my $node = new_node('torture');
my $server = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

my @paths = sort glob "$ENV{HOME}/test/t/images/*";
# An interlaced PNG, and tables of contents that point at themselves.
push @paths, write_image('interlaced.png', flat_png(9, 7, 1));
my $loop = "II*\0\x08\0\0\0" . pack('v', 1) . pack('vvVV', 0x8769, 4, 1, 8) . pack('V', 8);
my $baseline = slurp_file("$ENV{HOME}/test/t/images/baseline.jpg");
push @paths, write_image('exif-loop.jpg',
	substr($baseline, 0, 2) . "\xff\xe1" . pack('n', 8 + length $loop) . "Exif\0\0$loop" . substr($baseline, 2));
my $rows = join ', ', map { "(pg_read_binary_file('$_'))" } @paths;
$node->safe_psql('postgres', qq{
	CREATE TABLE samples (id int GENERATED ALWAYS AS IDENTITY, image bytea);
	INSERT INTO samples (image) VALUES $rows;
	CREATE TABLE outcomes (kind text, code text, message text, n bigint)});
is($node->safe_psql('postgres', 'SELECT count(*) FROM samples, try(image) t WHERE t.code IS NOT NULL'),
	'0', scalar(@paths) . ' samples are sound');

my $tried = 0;
sub try_all
{
	my ($kind, $images) = @_;
	my $n = $node->safe_psql('postgres', qq{
		WITH t AS MATERIALIZED (SELECT t.* FROM ($images) i (image), try(image) t),
		o AS (INSERT INTO outcomes SELECT '$kind', code, message, count(*) FROM t GROUP BY code, message)
		SELECT count(*) FROM t});
	$tried += $n;
	return $n;
}

try_all('cut', qq{SELECT substr(image, 1, n) FROM samples, generate_series(id % $step, length(image) - 1, $step) n});
is( $node->safe_psql('postgres', q{SELECT coalesce(sum(n), 0) FROM outcomes WHERE kind = 'cut' AND code IS NULL}),
	'0', "$tried images cut off at every " . ($step > 1 ? "${step}th " : '') . "byte position: all are errors");

# How an image is damaged follows from random numbers made here, so that a seed repeats a run.
while ($tried < $tries)
{
	my @damaged;
	for (1 .. 200)
	{
		my $kind = rand;
		if ($kind < 0.1)
		{
			my $bytes = join '', map { sprintf '%02x', int rand 256 } 1 .. int rand 300;
			my $magic = ('', 'ffd8ff', '89504e470d0a1a0a', 'ffd8ffe100ff457869660000')[int rand 4];
			push @damaged, "SELECT '\\x$magic$bytes'::bytea";
			next;
		}
		my $image = 'image';
		for (0 .. int rand 4)
		{
			my ($where, $value) = (rand, int rand 8);
			$image = $kind < 0.7
			  ? "set_bit($image, least(8 * floor($where * length(image))::bigint + $value, 8 * length(image) - 1), 1 - get_bit(image, 8 * floor($where * length(image))::bigint + $value))"
			  : "overlay($image PLACING '\\x" . join('', map { sprintf '%02x', int rand 256 } 0 .. $value)
			  . "'::bytea FROM 1 + floor($where * length(image))::int)";
		}
		push @damaged, "SELECT $image FROM samples WHERE id = " . (1 + int rand @paths);
	}
	try_all('damaged', join ' UNION ALL ', @damaged);
}
is($node->safe_psql('postgres', 'SELECT sum(n) FROM outcomes'), $tried, "$tried images tried (seed $seed)");
is( $node->safe_psql('postgres', q{SELECT string_agg(DISTINCT code || ' ' || message, ', ') FROM outcomes
	WHERE code NOT IN ('22000', '0A000', '54000')}),
	'', 'errors are about damage, kind or size only');
note $node->safe_psql('postgres', q{SELECT kind, coalesce(code, 'read'), message, sum(n) FROM outcomes GROUP BY 1, 2, 3 ORDER BY 1, 4 DESC});

is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $server, 'the server is the one we started');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|invalid memory|corrupt/, 'crashes: 0');

done_testing();
