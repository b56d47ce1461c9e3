# The GPU in SQL: the CPU's answers, and how many photos a second. Run by bench/gpu-run in test/sandbox.
use strict;
use warnings;
my $out;
BEGIN { open $out, '>&', \*STDOUT or die }    # the next module redirects it to a log
use lib 'test/t';
use Faceattr;
use Time::HiRes qw(time);

my $what = $ARGV[0];
my $node = new_node('gpu', "shared_preload_libraries = 'faceattr'");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }
my $failed = 0;
for my $where ('backend', 'service')
{
	my $gpu = "SET faceattr.device = gpu; SET faceattr.run_in = $where;";
	if ($what eq 'check')
	{
		my $answer = query(qq{SET faceattr.device = cpu; SET faceattr.precision = fp32;
			CREATE TEMP TABLE cpu AS SELECT id, face_attributes(image) f FROM photos;
			RESET faceattr.precision; $gpu
			CREATE TEMP TABLE gpu AS SELECT id, face_attributes(image) f FROM photos;
			SELECT count(*) = (SELECT count(*) FROM cpu) AND bool_and(EXISTS (SELECT FROM cpu c WHERE c.id = g.id
				AND abs((c.f).age - (g.f).age) < 1 AND (c.f).gender = (g.f).gender AND abs((c.f).score - (g.f).score) < 0.05))
			FROM gpu g});
		$failed ||= $answer ne 't';
		printf $out "SQL, %s: %s\n", $where, $answer eq 't' ? 'the CPU\'s faces' : '**other faces than the CPU\'s**';
	}
	else
	{
		my $scan = "$gpu SET faceattr.threads = 8; SELECT count(*) FROM face_scan('SELECT n, image FROM photos, generate_series(1, 500) n')";
		query($scan);
		my $start = time;
		query($scan);
		printf $out "| SQL, %s: face_scan of the demo's photos | %.0f photos/s | | |\n", $where, 3500 / (time - $start);
	}
}
exit $failed;
