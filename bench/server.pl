# What a backend pays for its first call, and what calls cost beside a simple
# operator: COST of the functions in sql/. Run by bench/run in test/sandbox.
use strict;
use warnings;
my $out;
BEGIN { open $out, '>&', \*STDOUT or die }    # the next module redirects it to a log
use lib 'test/t';
use Faceattr;

my $node;
sub query { return split /\n/, $node->safe_psql('postgres', $_[0]) }
sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[@sorted / 2] }

# Elapsed time of the first and the second call in new backends, and the private
# memory that the first one adds: preloaded, with the model shared already, and not. MODEL is a file.
my $timed = q{
	DO $$ BEGIN PERFORM set_config('bench.start', clock_timestamp()::text, false); END $$;
	SELECT count(*) FROM face_attributes((SELECT image FROM photos WHERE name = 'portrait.jpg')) \g /dev/null
	SELECT extract(epoch FROM clock_timestamp() - current_setting('bench.start')::timestamptz) * 1000;};
my $memory = q{
	SELECT (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status', 0, 100000), 'RssAnon:\s+(\d+)'))[1];};
for my $preload ('', 'faceattr')
{
	$node->stop if defined $node;
	$node = new_node("bench$preload", "max_parallel_workers_per_gather = 0\nshared_preload_libraries = '$preload'");
	load_photos($node);
	my $model = 'default';
	if (defined $ENV{MODEL})
	{
		$model = 'bench';
		query("SELECT face_model_import('bench', '$ENV{MODEL}')");
	}
	my (@first, @second, @gain);
	for (0 .. 19)
	{
		my ($before, $first, $after, $second) = query("SET faceattr.model = '$model';" . $memory . $timed . $memory . $timed);
		next if $_ == 0;    # packs
		push @first, $first;
		push @second, $second;
		push @gain, $after - $before;
	}
	printf $out "new backend, %s: first call %.0f ms, second %.0f ms; private memory gained %.1f MB\n",
	  $preload ? 'preloaded' : 'not preloaded', median(@first), median(@second), median(@gain) / 1024;
}

# Nanoseconds of one more operator in a filter over many rows.
my ($few, $many) = map { my $filter = $_; median(map { (query(qq{
	EXPLAIN (ANALYZE, TIMING OFF) SELECT FROM rows WHERE $filter}))[-1] =~ /([\d.]+) ms/ } 1 .. 5) }
  ('i > 0', join ' AND ', map { "i > -$_" } 0 .. 20)
  if query('CREATE TABLE rows AS SELECT generate_series(1, 1000000) AS i; VACUUM ANALYZE rows; SELECT 1');
my $operator = ($many - $few) / 20;    # of a million rows: ns each
printf $out "an operator: %.1f ns\n", $operator;

my $photo = q{(SELECT image FROM photos WHERE name = 'portrait.jpg')};
for my $call ('face_attributes(x)', 'face_array(x, \'default\')', 'face_detect(x)', 'face_classify(x)',
	'face_classify(array_fill(x, ARRAY[10]))', 'face_embedding(x)', 'face_probabilities(x, \'race\')', 'face_annotate(x)')
{
	my ($ms) = query(qq{
		CREATE FUNCTION calls(x bytea, n int) RETURNS float8 LANGUAGE plpgsql AS \$\$
		DECLARE
			start timestamptz := clock_timestamp();
		BEGIN
			FOR i IN 1 .. n LOOP PERFORM $call; END LOOP;
			RETURN extract(epoch FROM clock_timestamp() - start) * 1000 / n;
		END \$\$;
		SELECT calls($photo, 5) \\g /dev/null
		SELECT min(calls($photo, 20)) FROM generate_series(1, 5);
		DROP FUNCTION calls});
	printf $out "%-42s %6.1f ms = %9.0f operators\n", $call, $ms, $ms * 1e6 / $operator;
}
