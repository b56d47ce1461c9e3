# Many sessions in two databases publish, drop and predict at once, in names that they
# share, from a cache with room for three of five models. Whatever they see must be of one
# piece. STATEMENTS says how many (1,000 on demand).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $statements = $ENV{STATEMENTS} // 200;
my $sessions = 20;
my $each = int($statements / $sessions);
my $node = new_node('storm', "shared_preload_libraries = 'faceattr'\nfaceattr.model_cache_size = 30MB\nmax_connections = 40\nmax_wal_size = 4GB\nshared_buffers = 64MB");

my @files = map { my $word = "w$_"; model_file($word, sub { $_[1][1]{labels} = ["$word-male", "$word-female"] }) } 1 .. 5;
my $portrait = photo_path('portrait.jpg');
for my $database ('one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, qq{
		CREATE EXTENSION faceattr;
		CREATE TABLE portrait AS SELECT pg_read_binary_file('$portrait') AS image;
		CREATE TABLE files AS SELECT 'w' || n AS word, pg_read_binary_file(path) AS weights FROM unnest('{@{[join ',', @files]}}'::text[]) WITH ORDINALITY u (path, n);
		SELECT face_model_import('m' || right(word, 1)::int - 1, weights, jsonb_build_object('word', word)) FROM files WHERE word <= 'w3';
		CREATE TABLE told (what text, n int);
		-- Each statement is a transaction. A word in metrics says what the model's labels must say.
		CREATE PROCEDURE storm(seed float8, n int) LANGUAGE plpgsql AS \$\$
		DECLARE
			wrong int := 0; right_ int := 0; missing int := 0; published int := 0; dropped int := 0;
			v_name text; v_word text; kind float8; said text;
		BEGIN
			PERFORM setseed(seed);
			FOR i IN 1 .. n LOOP
				v_name := 'm' || floor(random() * 3); kind := random(); v_word := 'w' || 1 + floor(random() * 5);
				BEGIN
					IF kind < 0.15 THEN
						PERFORM face_model_import(v_name, weights, jsonb_build_object('word', word)) FROM files WHERE word = v_word;
						published := published + 1;
					ELSIF kind < 0.25 THEN
						PERFORM face_model_drop(v_name);
						dropped := dropped + 1;
					ELSE
						SELECT split_part((face_array(image, m.name))[1].gender, '-', 1) || ' ' || (m.metrics->>'word') INTO said
						FROM portrait, face_model m WHERE m.name = v_name;
						IF said IS NULL THEN missing := missing + 1;
						ELSIF split_part(said, ' ', 1) = split_part(said, ' ', 2) THEN right_ := right_ + 1;
						ELSE wrong := wrong + 1;
						END IF;
					END IF;
				EXCEPTION WHEN undefined_object THEN missing := missing + 1;
				END;
				COMMIT;
			END LOOP;
			INSERT INTO told VALUES ('wrong', wrong), ('right', right_), ('missing', missing), ('published', published), ('dropped', dropped);
		END \$\$});
}

my @running = map {
	my $database = $_ % 2 ? 'one' : 'two';
	my ($out, $error) = ('', '');
	my $seed = $_ / 100;
	{ error => \$error, harness => IPC::Run::start(
		['psql', '-XAtq', '-d', $node->connstr . " dbname=$database", '-c', "CALL storm($seed, $each)"], '>', \$out, '2>', \$error) };
} 1 .. $sessions;
my $failed = 0;
for my $session (@running)
{
	next if $session->{harness}->finish;
	$failed++;
	diag(${ $session->{error} });
}
is($failed, 0, "$sessions sessions of $each statements: no error");
for my $database ('one', 'two')
{
	my %told = map { split /\|/ } split /\n/, $node->safe_psql($database, 'SELECT what, sum(n) FROM told GROUP BY what');
	note("$database: " . join ', ', map { "$told{$_} $_" } sort keys %told);
	is($told{wrong}, 0, "$database: no wrong result");
	cmp_ok($told{$_}, '>', 0, "$database: $_") for 'right', 'published', 'dropped';
}

is($node->safe_psql('one', q{SELECT sum(pins), sum(size) <= 30 * 1048576 FROM faceattr_stat_models WHERE location = 'shared'}), '0|t',
	'nobody holds a model, and the cache has kept its size');

$node->stop;
done_testing();
