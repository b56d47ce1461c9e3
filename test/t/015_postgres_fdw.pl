# postgres_fdw with "extensions 'faceattr'": the array form with a named model is
# evaluated where the photos are, and photos can be sharded over servers.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my ($near, $far) = (new_node('near'), new_node('far'));
load_photos($far);
load_photos($near);

my ($host, $port) = ($far->host, $far->port);
my $user = $near->safe_psql('postgres', 'SELECT current_user');
$near->safe_psql('postgres', qq{
	CREATE EXTENSION postgres_fdw;
	CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '$host', port '$port', dbname 'postgres', extensions 'faceattr');
	CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '$user');
	CREATE FOREIGN TABLE far_photos (id int, name text, image bytea) SERVER far OPTIONS (table_name 'photos')});

sub remote_sql
{
	my ($sql) = @_;
	return join "\n", grep { /Remote SQL/ } split /\n/, $near->safe_psql('postgres', "EXPLAIN (VERBOSE, COSTS OFF) $sql");
}

my $where = q{SELECT name FROM far_photos WHERE cardinality(face_array(image, 'default')) > 0};
like(remote_sql($where), qr/WHERE .*cardinality\(public\.face_array\(image, 'default'/, 'a condition is pushed down');
unlike(remote_sql($where), qr/SELECT [^W]*image/, 'and photos stay where they are');
like(
	remote_sql(q{SELECT sum(cardinality(face_array(image, 'default'))) FROM far_photos}),
	qr/sum\(cardinality\(public\.face_array\(image, 'default'/, 'an aggregate is pushed down');
unlike(
	remote_sql(q{SELECT name FROM far_photos WHERE (face_classify(image)).age > 30}),
	qr/face_classify/, 'a form that follows the session is not');

is( $near->safe_psql('postgres', "$where ORDER BY name"),
	$near->safe_psql('postgres', q{SELECT name FROM photos WHERE cardinality(face_array(image, 'default')) > 0 ORDER BY name}),
	'the answer is the same');

# What is not pushed down is computed near, from photos that travel.
is( $near->safe_psql('postgres', q{SELECT array_agg(f::text ORDER BY id, f::text) FROM far_photos, face_attributes(image) f}),
	$far->safe_psql('postgres', q{SELECT array_agg(f::text ORDER BY id, f::text) FROM photos, face_attributes(image) f}),
	'faces of foreign photos');

# A view there: what is asked of it is computed there, and nothing else.
$far->safe_psql('postgres', q{CREATE VIEW photo_faces AS SELECT id, name, face_array(image, 'default') AS faces FROM photos});
$near->safe_psql('postgres', q{CREATE FOREIGN TABLE photo_faces (id int, name text, faces face[]) SERVER far});
my $faces = q{SELECT id, faces FROM photo_faces WHERE name LIKE 'p%'};
like(remote_sql($faces), qr/SELECT id, faces FROM public\.photo_faces WHERE/, 'a view hands over faces instead of photos');
is( $near->safe_psql('postgres', "$faces ORDER BY id"),
	$near->safe_psql('postgres', q{SELECT id, face_array(image, 'default') FROM photos WHERE name LIKE 'p%' ORDER BY id}),
	'... the same faces');

# Shards: a partitioned table, one partition here and one there.
$near->safe_psql('postgres', q{
	CREATE TABLE shards (id int, name text, image bytea) PARTITION BY HASH (id);
	CREATE TABLE shard_0 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 0)});
$far->safe_psql('postgres', q{CREATE TABLE shard_1 (id int, name text, image bytea)});
$near->safe_psql('postgres', q{
	CREATE FOREIGN TABLE shard_1 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 1) SERVER far;
	INSERT INTO shards SELECT * FROM photos});
is( $near->safe_psql('postgres', q{SELECT count(*), (SELECT count(*) > 0 FROM shard_0), (SELECT count(*) > 0 FROM shard_1) FROM shards}),
	'7|t|t', 'photos on both shards');
my $sharded = q{SELECT name FROM shards WHERE cardinality(face_array(image, 'default')) = 1};
like(remote_sql($sharded), qr/face_array/, 'each shard looks at its own');
is( $near->safe_psql('postgres', "$sharded ORDER BY name"),
	$near->safe_psql('postgres', q{SELECT name FROM photos WHERE cardinality(face_array(image, 'default')) = 1 ORDER BY name}),
	'together they give the whole answer');

done_testing();
