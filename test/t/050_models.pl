# Models as rows: published, used, replaced, dropped; by whom; and what is refused.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use Digest::SHA qw(sha256_hex);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('models', "max_parallel_workers_per_gather = 2\nmax_worker_processes = 8");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# SQLSTATE, message, detail and hint of what must fail.
sub refused
{
	my ($sql, $expected, $name) = @_;
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return like($error, $expected, $name);
}

# Two models that see as the shipped one does and say it in words of their own.
sub worded
{
	my ($word) = @_;
	return model_file($word, sub { $_[1][1]{labels} = ["$word-male", "$word-female"] });
}
my ($first, $second) = (worded('first'), worded('second'));
my $gender = q{SELECT (face_array(image, 'utk'))[1].gender FROM photos WHERE name = 'portrait.jpg'};
my $shipped = query(q{SELECT (face_array(image, 'default'))[1].gender FROM photos WHERE name = 'portrait.jpg'});

# --- Published, used, replaced, dropped

is( query(qq{SELECT encode(face_model_import('utk', '$first', '{"age_mae": 4.1}', '{"epochs": 3}', 'SELECT 1', 17), 'hex')}),
	sha256_hex(slurp_file($first)), 'an import says what it imported');
is( query(q{SELECT name, network, sha256 = sha256(weights), metrics, hyper_parameters, query, row_count, owner = current_user,
		now() - created < '1 hour' FROM face_model}),
	'utk|mobilenet_v1|t|{"age_mae": 4.1}|{"epochs": 3}|SELECT 1|17|t|t', 'its row');
is(query($gender), "first-$shipped", 'the model argument');
is(query(q{SET faceattr.model = 'utk'; SELECT DISTINCT split_part(gender, '-', 1) FROM photos, face_attributes(image)}), 'first', 'SET faceattr.model');
query(q{CREATE ROLE analyst LOGIN; ALTER ROLE analyst SET faceattr.model = 'utk'; GRANT SELECT ON photos TO analyst});
sub as_analyst { return $node->safe_psql('postgres', $_[0], extra_params => ['-U', 'analyst']) }
my $session = q{SELECT gender FROM photos, face_attributes(image) WHERE name = 'portrait.jpg'};
is(as_analyst($session), "first-$shipped", 'ALTER ROLE SET');
query(q{ALTER ROLE analyst RESET faceattr.model; ALTER DATABASE postgres SET faceattr.model = 'utk'});
is(as_analyst($session), "first-$shipped", 'ALTER DATABASE SET');
is(query('SELECT name, encode(sha256, \'hex\') FROM face_model_version()'), 'utk|' . sha256_hex(slurp_file($first)), 'which model the session uses');
query(q{ALTER DATABASE postgres RESET faceattr.model});
is( query('SELECT name, encode(sha256, \'hex\') FROM face_model_version()'),
	'default|' . sha256_hex(slurp_file(shipped_file('default'))), 'or the shipped one');
is( query(q{SELECT (face_model_version('utk')).sha256 = sha256 FROM face_model}), 't', 'which model a name stands for');

is( query(qq{$gender; SELECT face_model_import('utk', pg_read_binary_file('$second')) \\g /dev/null\n$gender}),
	"first-$shipped\nsecond-$shipped", 'replaced within a session: the next statement uses it');
is(query(q{SELECT metrics IS NULL AND query IS NULL AND row_count IS NULL FROM face_model}), 't', 'replaced as a whole');
is(query(qq{BEGIN; SELECT face_model_import('utk', '$first') \\g /dev/null\n$gender; ROLLBACK; $gender}),
	"first-$shipped\nsecond-$shipped", 'seen within its transaction; rolled back, never was');
is( query(qq{BEGIN; SELECT face_model_drop('utk') \\g /dev/null\nROLLBACK; $gender}), "second-$shipped", 'a drop that is rolled back');

# A statement sees one model from its beginning to its end, whatever others publish.
query(qq{CREATE TABLE waits (n int);
	CREATE FUNCTION swap(n int) RETURNS text LANGUAGE plpgsql STABLE AS \$\$
		DECLARE gender text := (SELECT (face_array(image, 'utk'))[1].gender FROM photos WHERE name = 'portrait.jpg');
		BEGIN IF n = 1 THEN PERFORM pg_advisory_lock(1); END IF; RETURN gender; END \$\$});
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $reader = background($node, q{SELECT swap(n) FROM generate_series(1, 2) n});
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) or die;
	query(qq{SELECT face_model_import('utk', '$first')});
	$holder->quit;
	my ($out) = finish_background($reader);
	is($out, "second-$shipped\nsecond-$shipped\n", 'published in the middle of a statement');
	is(query($gender), "first-$shipped", 'the next one uses it');
}

# More models than a session keeps.
for my $i (1 .. 6)
{
	my $file = worded("m$i");
	query(qq{SELECT face_model_import('m$i', '$file')});
}
my $each = join ' || ', map { qq{(face_array(image, 'm$_'))[1].gender} } 1 .. 6;
is( query(qq{SELECT $each FROM photos p, generate_series(1, 2) WHERE name = 'portrait.jpg'}),
	join("\n", (join '', map { "m$_-$shipped" } 1 .. 6) x 2), 'six models in one statement, twice');

# Opening and leaving models costs no memory in the long run: the heap's fragments come and
# go by 20 MB, and a leak of 1 MB a model would show.
query(qq{CREATE FUNCTION rounds(n int) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN
		FOR i IN 1 .. n LOOP PERFORM $each FROM photos WHERE name = 'grey.jpg'; END LOOP; END \$\$;
	CREATE FUNCTION private_memory() RETURNS int LANGUAGE sql AS \$\$
		SELECT (regexp_match(pg_read_file('/proc/' || pg_backend_pid() || '/status', 0, 100000), 'RssAnon:\\s+(\\d+)'))[1]::int \$\$});
my ($before, $after) = split /\n/, query('SELECT rounds(4) \g /dev/null' . "\nSELECT private_memory();\n" . 'SELECT rounds(10) \g /dev/null' . "\nSELECT private_memory()");
cmp_ok($after - $before, '<', 40_000, '60 models opened: private memory of ' . $before . ' kB grew by ' . ($after - $before) . ' kB');
query(qq{SELECT face_model_drop('m' || i) FROM generate_series(2, 6) i});
is(query('SELECT string_agg(name, \',\' ORDER BY name) FROM face_model'), 'm1,utk', 'dropped');

# --- Workers

query(q{CREATE TABLE many AS SELECT i AS id, image FROM photos, generate_series(1, 12) i WHERE name = 'grey.jpg';
	ALTER TABLE many SET (parallel_workers = 2); ANALYZE many});
my $in_workers = q{SET parallel_leader_participation = off;
	SELECT DISTINCT (f[1]).gender ~ '^first' FROM (SELECT face_array(image, 'utk') f FROM many OFFSET 0) s};
like(query("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT face_array(image, 'utk') FROM many"), qr/Workers Launched: [12]/, 'workers');
is(query($in_workers), 't', 'use published models');
is( query(qq{BEGIN; SELECT face_model_import('utk', '$second') \\g /dev/null\n} . ($in_workers =~ s/first/second/r) . q{; ROLLBACK}),
	't', 'and those of their transaction');

# Published while workers are at it: they go on with what their statement began with.
{
	my $reader = background($node, q{SET parallel_leader_participation = off;
		SELECT count(*), count(*) FILTER (WHERE (f[1]).gender ~ '^first') FROM (
			SELECT face_array(image || decode(to_hex(i), 'escape'), 'utk') f FROM many, generate_series(1, 40) i OFFSET 0) s});
	my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'parallel worker'};
	$node->poll_query_until('postgres', "SELECT ($workers) > 0") or die;
	query(qq{SELECT face_model_import('utk', '$second')});
	cmp_ok(query($workers), '>', 0, 'published while workers run');
	my ($out) = finish_background($reader);
	is($out, "480|480\n", 'all of it by the model before');
	query(qq{SELECT face_model_import('utk', '$first')});
}

# --- Stored columns

query(q{CREATE TABLE stored (id int, image bytea, faces face[] GENERATED ALWAYS AS (face_array(image, 'utk')) STORED);
	CREATE INDEX ON stored (((face_array(image, 'm1'))[1].gender));
	CREATE FUNCTION one(image bytea) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN (face_array(image, 'utk'))[1].gender; END $$;
	ALTER TABLE stored ADD gender text GENERATED ALWAYS AS (one(image)) STORED;
	INSERT INTO stored SELECT id, image FROM photos WHERE name IN ('portrait.jpg', 'grey.jpg')});
is(query(q{SELECT DISTINCT split_part((faces[1]).gender, '-', 1), split_part(gender, '-', 1) FROM stored}), 'first|first', 'generated columns, a function between');
is( query(q{SET enable_seqscan = off; SELECT count(*) FROM stored WHERE (face_array(image, 'm1'))[1].gender IN ('m1-male', 'm1-female')}), '2', 'an index on faces');
query(q{ANALYZE stored; REINDEX TABLE stored; VACUUM FULL stored});
pass('ANALYZE, REINDEX and VACUUM compute with them');

# --- What an older model has annotated: docs/models.md's procedure

query(q{
	CREATE TABLE archive AS SELECT id, image FROM photos;
	ALTER TABLE archive RENAME TO archive_; ALTER TABLE photos RENAME TO photos_; ALTER TABLE archive_ RENAME TO photos} . ';' . documented());
query(q{CALL annotate_photos('utk', 2)});
my $by = q{SELECT count(*), count(DISTINCT faces_by), bool_and((faces[1]).gender ~ '^first') FROM photos WHERE faces_by = (face_model_version('utk')).sha256};
is(query($by), '7|1|t', 'all photos annotated');
query(qq{SELECT face_model_import('utk', '$second')});
is(query($by), '0|0|', 'by an older model, now');
query(q{INSERT INTO photos (id, image) SELECT 100, image FROM photos WHERE id = 1; CALL annotate_photos('utk')});
is(query($by =~ s/first/second/r), '8|1|t', 'annotated again, in batches');
query(qq{SELECT face_model_import('utk', '$first'); DROP TABLE photos; ALTER TABLE photos_ RENAME TO photos});

# The SQL of the section "Which model said so", without its last line.
sub documented
{
	my ($sql) = slurp_file("$ENV{HOME}/docs/models.md") =~ /## Which model said so.*?```sql\n(.*?)```/s or die;
	return $sql =~ s/^CALL.*//mr;
}

# --- What is refused

refused(q{SELECT face_array('x', 'nobody')}, qr/ERROR:  42704: model "nobody" does not exist\nHINT:  .*"default"; published ones are rows of table public\.face_model/, 'an unknown model');
refused(q{SELECT face_model_drop('nobody')}, qr/ERROR:  42704: model "nobody" does not exist/, 'dropping an unknown model');
refused(q{SELECT face_model_drop('default')}, qr/ERROR:  42939: model "default" comes with the extension/, 'dropping the shipped one');
refused(qq{SELECT face_model_import('default', '$first')}, qr/ERROR:  42939: model name "default" is reserved/, 'a reserved name');
refused(q{UPDATE face_model SET name = 'default' WHERE name = 'utk'}, qr/ERROR:  42939: model name "default" is reserved/, 'nor by renaming');
refused(qq{SELECT face_model_import('', '$first')}, qr/ERROR:  23514:/, 'an empty name');
refused(qq{SELECT face_model_import(repeat('x', 64), '$first')}, qr/ERROR:  23514:/, 'a name that is too long');
refused(qq{SELECT face_model_import(NULL, '$first')}, qr/ERROR:  23502:/, 'no name');
refused(q{SELECT face_model_import('x', NULL::bytea)}, qr/ERROR:  23502:/, 'no weights');
refused(q{UPDATE face_model SET sha256 = '\x00' WHERE name = 'utk'}, qr/ERROR:  428C9:/, 'a wrong SHA-256');
refused(q{SELECT face_model_import('x', '/no/such/file')}, qr/ERROR:  58P01: could not stat file "\/no\/such\/file"/, 'a file that is not there');
refused(q{SELECT face_model_import('x', '/dev/zero')}, qr/ERROR:  42809: "\/dev\/zero" is not a regular file/, 'a device');
refused(q{SELECT face_model_import('x', '.')}, qr/ERROR:  42809: "\." is not a regular file/, 'a directory');
my $detector = shipped_file('yunet_n');
my $whole = slurp_file($first);
my %bad = (
	'nothing' => ['', qr/22000: weights file is damaged\nDETAIL:  It is shorter/],
	'a photo' => [slurp_file(photo_path('portrait.jpg')), qr/22000: weights file is damaged/],
	'half a file' => [substr($whole, 0, length($whole) / 2), qr/22000: weights file is damaged/],
	'the detector' => [slurp_file($detector), qr/22000: weights file has unusable metadata/],
	'an unknown network' => [slurp_file(model_file('bad', sub { $_[0]{network} = 'perceptron' })), qr/22000: .*\nDETAIL:  Network "perceptron"/],
	'tensors of heads that it has not' => [slurp_file(model_file('bad', sub { @{ $_[1] } = () })), qr/22023: network "mobilenet_v1" has no tensor "/],
	'labels that do not fit' => [slurp_file(model_file('bad', sub { push @{ $_[1][1]{labels} }, 'third' })), qr/22023: tensor "gender.*" does not fit/],
	'not a finite number' => [substr($whole, 0, -2) . "\x00\x7c", qr/22000: /],
);
for my $name (sort keys %bad)
{
	my $path = write_image('bad.bin', $bad{$name}[0]);
	refused(qq{SELECT face_model_import('bad', '$path')}, $bad{$name}[1], "$name: by path");
	refused(qq{INSERT INTO face_model (name, weights) VALUES ('bad', pg_read_binary_file('$path'))}, $bad{$name}[1], "$name: by INSERT");
	refused(qq{UPDATE face_model SET weights = pg_read_binary_file('$path')}, $bad{$name}[1], "$name: by UPDATE");
}
is(query(q{SELECT count(*) FROM face_model WHERE name = 'bad'}) . query($gender), "0first-$shipped", 'nothing of it stays');

# A model has the heads that it has.
my $headless = model_file('ageless', sub { $_[1][0]{name} = 'years' });
refused(qq{SELECT face_model_import('ageless', '$headless')}, qr/22023: the weights lack tensor|22023: network/, 'a head without weights');

done_testing();
