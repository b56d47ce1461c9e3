# Photos that live in tables: parallel query, indexes, generated columns, the
# trigger in all the ways that rows arrive.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('tables', "max_parallel_workers_per_gather = 2\nmax_worker_processes = 8");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# --- Parallel query

query(q{
	CREATE TABLE many AS SELECT i AS id, image FROM photos, generate_series(1, 24) i
		WHERE name = CASE WHEN i % 3 = 0 THEN 'grey.jpg' ELSE 'tilted.png' END;
	ALTER TABLE many SET (parallel_workers = 2);
	ANALYZE many});
my $in_list = q{SELECT id, face_array(image, 'default') AS faces FROM many};
like(query("EXPLAIN (COSTS OFF) $in_list"), qr/Gather/, 'calls are run by workers');
is( query("SELECT md5(string_agg(s::text, ' ' ORDER BY s::text)), count(*) FROM ($in_list) s"),
	query("SET max_parallel_workers_per_gather = 0; SELECT md5(string_agg(s::text, ' ' ORDER BY s::text)), count(*) FROM ($in_list) s"),
	'workers say what the leader says');
like(
	query("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $in_list"),
	qr/Workers Launched: [12]/, 'workers were really there');

# The planner counts a function in FROM once, not once for each photo, so it has to be told that rows are expensive.
my $workers = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET cpu_tuple_cost = 1000;';
my $sql = q{SELECT m.id, f.* FROM many m, face_attributes(m.image) f};
like(query("$workers EXPLAIN (COSTS OFF) $sql"), qr/Gather/, 'a lateral call is run by workers');
is( query("$workers SELECT md5(string_agg(s::text, ' ' ORDER BY s::text)), count(*) FROM ($sql) s"),
	query("SET max_parallel_workers_per_gather = 0; SELECT md5(string_agg(s::text, ' ' ORDER BY s::text)), count(*) FROM ($sql) s"),
	'they, too, say what the leader says');
like(
	query(q{EXPLAIN (COSTS OFF) SELECT id, (face).* FROM (SELECT id, face_attributes(image) AS face FROM many) p}),
	qr/Gather/, 'a call in a select list gets workers without being told, as the README says');
like(
	query(q{SET max_parallel_workers_per_gather = 0; EXPLAIN (COSTS OFF) SELECT id FROM many
		WHERE cardinality(face_array(image, 'default')) > 1 AND id % 5 = 1}),
	qr/Filter: \(\(\(id % 5\) = 1\) AND \(cardinality\(face_array/, 'the planner puts the cheap predicate first');

# The session's settings travel to the workers.
is(query("$workers SET parallel_leader_participation = off; SET faceattr.min_face = 2000; $sql"), '', 'settings hold in workers');

# --- Expression index on the number of faces, generated columns

query(q{CREATE INDEX many_faces ON many (cardinality(face_array(image, 'default')))});
is( query(q{SET enable_seqscan = off; SET enable_bitmapscan = off; SET max_parallel_workers_per_gather = 0;
		EXPLAIN (COSTS OFF) SELECT count(*) FROM many WHERE cardinality(face_array(image, 'default')) = 1}) =~ /Index.* Scan using many_faces/,
	1, 'the index is used');
is( query(q{SET enable_seqscan = off; SELECT count(*) FROM many WHERE cardinality(face_array(image, 'default')) = 1}),
	'24', 'and finds the rows');
query(q{
	CREATE TABLE generated (id int, image bytea, faces face[] GENERATED ALWAYS AS (face_array(image, 'default')) STORED);
	INSERT INTO generated SELECT id, image FROM photos});
is( query(q{SELECT count(*) FROM generated JOIN photos USING (id) WHERE faces::text IS DISTINCT FROM face_array(photos.image, 'default')::text}),
	'0', 'generated column');
is( query(q{SELECT name, (faces[1]).box = f.box FROM generated JOIN photos p USING (id), face_attributes(p.image) f WHERE name = 'portrait.jpg'}),
	'portrait.jpg|t', 'a field of a stored face');

# --- The trigger

query(q{
	CREATE TABLE uploads (id int PRIMARY KEY, image bytea, faces face[], biggest face) PARTITION BY RANGE (id);
	CREATE TABLE uploads_low PARTITION OF uploads FOR VALUES FROM (0) TO (4);
	CREATE TABLE uploads_high (biggest face, gone int, faces face[], image bytea, id int NOT NULL);
	ALTER TABLE uploads_high DROP COLUMN gone;
	ALTER TABLE uploads ATTACH PARTITION uploads_high FOR VALUES FROM (4) TO (100);
	CREATE TRIGGER faces BEFORE INSERT OR UPDATE ON uploads
		FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'default');
	CREATE TRIGGER biggest BEFORE INSERT OR UPDATE ON uploads
		FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'biggest', 'default')});
my $wrong = q{SELECT count(*) FROM uploads
	WHERE faces::text IS DISTINCT FROM face_array(image, 'default')::text OR biggest::text IS DISTINCT FROM (face_array(image, 'default'))[1]::text};
query(q{INSERT INTO uploads SELECT id, image FROM photos});
is(query($wrong), '0', 'INSERT into both partitions');
my $file = temporary_path('uploads.copy');
query(qq{COPY (SELECT id + 10, image FROM photos) TO '$file'; COPY uploads (id, image) FROM '$file'});
is(query(q{SELECT count(*) FROM uploads}) . query($wrong), '140', 'COPY');
query(q{UPDATE uploads u SET image = p.image FROM photos p WHERE u.id IN (1, 2, 11) AND p.name = 'grey.jpg'});
is(query($wrong), '0', 'UPDATE');
query(q{INSERT INTO uploads SELECT 5, image FROM photos WHERE name = 'close-up.jpg'
	ON CONFLICT (id) DO UPDATE SET image = EXCLUDED.image});
is(query($wrong), '0', 'ON CONFLICT DO UPDATE');
query(q{UPDATE uploads SET id = 50, image = (SELECT image FROM photos WHERE name = 'tilted.png') WHERE id = 1});
is(query($wrong), '0', 'a row that moves to the other partition');
is( query(q{UPDATE uploads SET faces = '{}' WHERE id = 5; UPDATE uploads SET image = image WHERE id = 5; SELECT faces FROM uploads WHERE id = 5}),
	'{}', 'an unchanged photo is not looked at again');
is( query(q{MERGE INTO uploads u USING photos p ON u.id = p.id + 20 WHEN NOT MATCHED THEN INSERT (id, image) VALUES (p.id + 20, p.image);} . $wrong),
	'1', 'MERGE, and the one row set by hand') if $node->pg_version >= 15;

# What a trigger cannot see, as docs/trigger.md says.
is( query(q{SET session_replication_role = replica; INSERT INTO uploads SELECT 60, image FROM photos WHERE name = 'grey.jpg';
	SELECT faces IS NULL FROM uploads WHERE id = 60}),
	't', 'not fired in a replica session');
query(q{ALTER TABLE uploads ENABLE ALWAYS TRIGGER faces});
is( query(q{SET session_replication_role = replica; INSERT INTO uploads SELECT 61, image FROM photos WHERE name = 'grey.jpg';
	SELECT cardinality(faces), biggest IS NULL FROM uploads WHERE id = 61}),
	'1|t', 'fired there once enabled ALWAYS');

# --- Dump and restore brings generated columns and triggers along

$node->command_ok(['pg_dump', '--format=custom', '--file', "$file.dump", 'postgres'], 'pg_dump');
query('CREATE DATABASE restored');
$node->command_ok(['pg_restore', '--exit-on-error', '--dbname', $node->connstr('restored'), "$file.dump"], 'pg_restore');
is( $node->safe_psql('restored', q{SELECT (SELECT count(*) FROM generated), (SELECT count(*) FROM uploads),
	(SELECT count(*) FROM generated WHERE faces::text IS DISTINCT FROM face_array(image, 'default')::text)}),
	query(q{SELECT (SELECT count(*) FROM generated), (SELECT count(*) FROM uploads), 0}), 'all there');

done_testing();
