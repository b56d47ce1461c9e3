# face_scan beside row-by-row calls, on CHIPS chips (20,000) of a tar file (CHIPS_TAR), repeated as often as it
# takes: rows a second, turn about, and the most memory that a backend held. Run in test/sandbox.
use strict;
use warnings;
my $out;
BEGIN { open $out, '>&', \*STDOUT or die }    # the next module redirects it to a log
use lib 'test/t';
use Archive::Tar;
use Faceattr;
use Time::HiRes qw(time);

my $tar = $ENV{CHIPS_TAR} // "$ENV{FACEATTR_SHARED}/data/utkface-val.tar";
my $rows = $ENV{CHIPS} // 20000;
my $rounds = $ENV{ROUNDS} // 1;
-r $tar or do { print $out "face_scan: there is no $tar\n"; exit };
my $node = new_node('scanbench', "max_parallel_workers_per_gather = 0\nshared_preload_libraries = 'faceattr'\njit = off");
$node->safe_psql('postgres', 'CREATE TABLE chips (id int, image bytea); ALTER TABLE chips ALTER image SET STORAGE external');
my ($id, $copy) = (0, "COPY chips FROM stdin;\n");
for my $file (Archive::Tar->new($tar)->get_files)
{
	next if $file->name !~ /\.jpg$/;
	last if $id == 2500;
	$copy .= $id++ . "\t\\\\x" . unpack('H*', $file->get_content) . "\n";
}
$node->safe_psql('postgres', "$copy\\.\n");
my $chips = "SELECT row_number() OVER (), image FROM (SELECT image FROM generate_series(0, $rows / $id) r, chips LIMIT $rows) c";
my %calls = (
	'row by row' => "SELECT sum((f).age) FROM ($chips) c, face_attributes(c.image) f",
	'face_scan' => "SELECT sum((s.face).age) FROM face_scan('$chips') s");
my (%seconds, %memory);
for (1 .. $rounds)
{
	for my $call ('row by row', 'face_scan')
	{
		my $start = time;
		my $peak = $node->safe_psql('postgres', "$calls{$call};
			SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmHWM:\\s+(\\d+)')");
		push @{ $seconds{$call} }, time - $start;
		$memory{$call} = (split /\n/, $peak)[-1] / 1024;
	}
}
my %best = map { my @s = sort { $a <=> $b } @{ $seconds{$_} }; $_ => $s[@s / 2] } keys %seconds;
printf $out "%s: %.0f rows/s, at most %.0f MB\n", $_, $rows / $best{$_}, $memory{$_} for sort keys %best;
printf $out "face_scan over row by row: %.2fx, %d rows, median of %d\n", $best{'row by row'} / $best{face_scan}, $rows, $rounds;
