# The library in the server: preloaded or not, its memory, its weights files.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('server', "shared_preload_libraries = 'faceattr'\nfaceattr.min_score = 0.6");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

is(query('SHOW faceattr.min_score'), '0.6', 'preloaded: settings from postgresql.conf');
is(query(q{SELECT count(*) FROM photos, face_attributes(image) WHERE name = 'portrait.jpg'}), '1', 'preloaded: works');
my ($status, $out, $error) = $node->psql('postgres', q{SELECT face_array('x', 'default')});
like($error, qr/image format is not supported: text/, 'preloaded: errors, too');

# --- Memory

# Private memory of the calling backend, in kB.
query(q{
	CREATE FUNCTION private_memory() RETURNS int LANGUAGE sql AS $$
		SELECT (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status', 0, 100000), 'RssAnon:\s+(\d+)'))[1]::int $$});
my ($before, $after) = split /\n/, query(q{
	SELECT private_memory();
	SELECT count(*) FROM photos, face_attributes(image) WHERE name = 'portrait.jpg' \g /dev/null
	SELECT private_memory()});
cmp_ok($after - $before, '<', 100_000, 'private memory gained by the first call: ' . ($after - $before) . ' kB');

($before, $after) = split /\n/, query(q{
	CREATE FUNCTION work(n int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		good bytea := (SELECT image FROM photos WHERE name = 'grey.jpg');
		png bytea := (SELECT image FROM photos WHERE name = 'tilted.png');
		bad bytea := substr(good, 1, 10000);
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM face_attributes(good), face_array(good, 'default'), face_classify(ARRAY[good, NULL]),
				face_embedding(good), face_probabilities(good, 'race'), face_annotate(good);
			PERFORM face_detect(png);
			BEGIN
				PERFORM face_attributes(bad);
			EXCEPTION WHEN data_exception THEN
			END;
			BEGIN
				PERFORM face_annotate(bad);
			EXCEPTION WHEN data_exception THEN
			END;
		END LOOP;
	END $$;
	SELECT work(10) \g /dev/null
	SELECT private_memory();
	SELECT work(80) \g /dev/null
	SELECT private_memory()});
cmp_ok($after - $before, '<', 1500, '720 calls more: private memory grew by ' . ($after - $before) . ' kB');

# A cancelled call gives back what it had.
my $bomb = write_image('bomb.png', flat_png(10000, 9990));
query(qq{CREATE TABLE bomb AS SELECT pg_read_binary_file('$bomb') AS image});
query(q{CREATE FUNCTION cancelled() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN PERFORM face_annotate(image) FROM bomb; EXCEPTION WHEN query_canceled THEN END $$});
my $cancelled = 'SET statement_timeout = 40; SELECT cancelled() \g /dev/null' . "\nSET statement_timeout = 0;\n";
($before, $after) = split /\n/, query('SELECT work(1) \g /dev/null' . "\n" . $cancelled x 3 . 'SELECT private_memory();' . $cancelled x 30 . 'SELECT private_memory();');
cmp_ok($after - $before, '<', 4000, '30 cancelled calls: private memory grew by ' . ($after - $before) . ' kB');

# --- Weights

# The installation is test/sandbox's and ours to damage.
my $weights = query(q{SELECT setting FROM pg_config WHERE name = 'SHAREDIR'}) . '/extension/faceattr';
{
	my $model = slurp_file("$weights/default.safetensors");
	my %damage = (
		'cut off' => substr($model, 0, length($model) / 2),
		'empty' => '',
		'of another kind' => 'PK' . substr($model, 2),
		'with a changed header' => substr($model, 0, 8) . 'x' . substr($model, 9),
	);
	for my $name (sort keys %damage)
	{
		open my $file, '>:raw', "$weights/default.safetensors" or die;
		print $file $damage{$name};
		close $file;
		($status, $out, $error) = $node->psql('postgres', q{\set VERBOSITY verbose
			SELECT face_array(image, 'default') FROM photos LIMIT 1});
		like($error, qr/ERROR:  XX001: .*default\.safetensors/, "weights $name");
	}
	unlink "$weights/default.safetensors";
	($status, $out, $error) = $node->psql('postgres', q{\set VERBOSITY verbose
		SELECT face_array(image, 'default') FROM photos LIMIT 1});
	like($error, qr/ERROR:  58P01: .*default\.safetensors/, 'weights missing');
	open my $file, '>:raw', "$weights/default.safetensors" or die;
	print $file $model;
	close $file;
	is(query(q{SELECT count(*) FROM photos, face_attributes(image) WHERE name = 'portrait.jpg'}), '1', 'weights repaired');
}

$node->stop;
done_testing();
