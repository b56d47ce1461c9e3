# Models wherever rows go: another database, a dump, a standby, a subscriber; and
# what ALTER EXTENSION UPDATE makes of version 0.1.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 'logical');
$node->start;
sub sql { my ($database, $sql) = @_; return $node->safe_psql($database, $sql) }

my $portrait = photo_path('portrait.jpg');
my $first = model_file('first', sub { $_[1][1]{labels} = ['man', 'woman'] });
my $second = model_file('second', sub { $_[1][1]{labels} = ['he', 'she'] });
my $gender = qq{SELECT (face_array(pg_read_binary_file('$portrait'), 'utk'))[1].gender};

# --- One name, two databases

for my $database ('one', 'two')
{
	my $file = $database eq 'one' ? $first : $second;
	sql('postgres', "CREATE DATABASE $database");
	sql($database, "CREATE EXTENSION faceattr; SELECT face_model_import('utk', '$file', '{\"age_mae\": 4}', NULL, 'SELECT 1', 5)");
}
like(sql('one', $gender), qr/^(wo)?man$/, 'one database has its model');
like(sql('two', $gender), qr/^s?he$/, 'the other its own of the same name');

# --- Dump and restore

# Roles, rights and rows as they are; "album" sorts before "face_model" and "zoo" after it.
sql('one', qq{
	CREATE ROLE teacher; GRANT INSERT ON face_model TO teacher; UPDATE face_model SET owner = 'teacher';
	CREATE TABLE photos (id int, image bytea, faces face[]);
	CREATE TRIGGER faces BEFORE INSERT OR UPDATE ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'utk');
	INSERT INTO photos SELECT 1, pg_read_binary_file('$portrait');
	CREATE TABLE zoo (id int, image bytea, faces face[] GENERATED ALWAYS AS (face_array(image, 'utk')) STORED);
	INSERT INTO zoo SELECT id, image FROM photos});
my $content = q{SELECT 'model', md5(row(name, network, sha256, metrics, query, row_count, owner, created, md5(weights))::text) FROM face_model
	UNION ALL SELECT 'photo', md5(p::text) FROM photos p UNION ALL SELECT 'animal', md5(z::text) FROM zoo z
	UNION ALL SELECT 'right', has_table_privilege('teacher', 'face_model', 'INSERT')::text ORDER BY 1};
my $before = sql('one', $content);
my $dump = temporary_path('dump');
$node->command_ok(['pg_dump', '-Fc', '-f', $dump, 'one'], 'dump');
sql('postgres', 'CREATE DATABASE restored');
$node->command_ok(['pg_restore', '-d', 'restored', $dump], 'restore');
is(sql('restored', $content), $before, 'models, rights, faces of a trigger, and a generated column of a table that comes later');
like(sql('restored', $gender), qr/^(wo)?man$/, 'the model is used');

# A generated column of a table that comes earlier: by the steps of the README.
sql('one', q{CREATE TABLE album (LIKE zoo INCLUDING ALL); INSERT INTO album SELECT id, image FROM photos});
$content .= q{, 2};
$content =~ s/UNION ALL SELECT 'right'/UNION ALL SELECT 'album', md5(a::text) FROM album a $&/;
$before = sql('one', $content);
$node->command_ok(['pg_dump', '-Fc', '-f', $dump, 'one'], 'dump again');
sql('postgres', 'CREATE DATABASE naive');
my ($out, $error);
IPC::Run::run(['pg_restore', '-d', $node->connstr('naive'), $dump], '>', \$out, '2>', \$error);
like($error, qr/model "utk" does not exist\nHINT: .* table public\.face_model of published ones is empty\. When a dump is being restored/, 'a plain restore says what to do');
sql('postgres', 'CREATE DATABASE careful');
my $list = temporary_path('list');
$node->command_ok(['sh', '-c', qq{set -e
	pg_restore --section=pre-data -d careful $dump
	pg_restore --data-only -t face_model -d careful $dump
	pg_restore -l $dump | grep -v 'TABLE DATA .* face_model ' >$list
	pg_restore --section=data --section=post-data -L $list -d careful $dump}], 'the steps of the README');
is(sql('careful', $content), $before, 'restore everything');

# --- A standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sql('one', "SELECT face_model_import('later', '$second')");
$node->wait_for_catchup($standby);
is($standby->safe_psql('one', $gender), sql('one', $gender), 'a standby predicts with a published model');
like($standby->safe_psql('one', $gender =~ s/utk/later/r), qr/^s?he$/, 'and with one published since');
sql('one', "SELECT face_model_drop('later')");
$node->wait_for_catchup($standby);
like(($standby->psql('one', $gender =~ s/utk/later/r))[2], qr/model "later" does not exist/, 'until it is dropped');
$standby->stop;

# --- A subscriber

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE EXTENSION faceattr');
my $primary = $node->connstr . ' dbname=one';
sql('one', 'CREATE PUBLICATION models FOR TABLE face_model');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION models CONNECTION '$primary' PUBLICATION models");
$subscriber->wait_for_subscription_sync($node, 'models');
is($subscriber->safe_psql('postgres', $gender), sql('one', $gender), 'a subscriber gets the models there are');
sql('one', "SELECT face_model_import('later', '$first'); UPDATE face_model SET metrics = '{}' WHERE name = 'later'; SELECT face_model_import('utk', '$second')");
$node->wait_for_catchup('models');
my $rows = q{SELECT name, network, sha256, sha256(weights) = sha256, metrics FROM face_model ORDER BY name};
is($subscriber->safe_psql('postgres', $rows), sql('one', $rows), 'and what is published, changed, replaced');
like($subscriber->safe_psql('postgres', $gender), qr/^s?he$/, 'predicts with it');
sql('one', "SELECT face_model_drop('later')");
$node->wait_for_catchup('models');
is($subscriber->safe_psql('postgres', 'SELECT name FROM face_model'), 'utk', 'and loses what is dropped');
$subscriber->stop;

# --- From 0.1

# All that belongs to the extension, and all that it says of itself.
my $members = q{
	SELECT pg_describe_object(classid, objid, objsubid) AS object, obj_description(objid, classid::regclass::text) AS comment,
		CASE WHEN classid = 'pg_proc'::regclass THEN pg_get_function_arguments(objid) || ' ' || pg_get_function_result(objid) || ' ' || (SELECT row(provolatile, proparallel, proisstrict, procost, prorows, prosrc, proacl)::text FROM pg_proc WHERE oid = objid) END AS definition
	FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	UNION ALL SELECT attrelid::regclass || '.' || attname, col_description(attrelid, attnum),
		row(atttypid::regtype, attnotnull, attstorage, attgenerated, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))::text
	FROM pg_attribute WHERE attrelid IN ('face'::regclass, 'face_model'::regclass) AND attnum > 0
	UNION ALL SELECT conname, pg_get_constraintdef(oid), '' FROM pg_constraint WHERE conrelid = 'face_model'::regclass
	UNION ALL SELECT tgname, pg_get_triggerdef(oid), obj_description(oid, 'pg_trigger') FROM pg_trigger WHERE tgrelid = 'face_model'::regclass
	UNION ALL SELECT extversion, extconfig::regclass[]::text, extcondition::text FROM pg_extension WHERE extname = 'faceattr'
	ORDER BY 1, 2, 3};
sql('postgres', 'CREATE DATABASE upgraded');
is( sql('upgraded', q{CREATE EXTENSION faceattr VERSION '0.1'; SELECT to_regclass('face_model') IS NULL}), 't', 'version 0.1');
is( sql('upgraded', qq{
		CREATE TABLE kept (image bytea, faces face[] GENERATED ALWAYS AS (face_array(image, 'default')) STORED);
		INSERT INTO kept SELECT pg_read_binary_file('$portrait');
		ALTER EXTENSION faceattr UPDATE;
		SELECT extversion FROM pg_extension WHERE extname = 'faceattr'}), '0.2', 'updated');
is(sql('upgraded', $members), sql('one', 'DROP PUBLICATION models; ' . $members), 'is what CREATE EXTENSION makes');
is(sql('upgraded', "SELECT cardinality(faces) FROM kept"), '1', 'what was there still is');
like(sql('upgraded', "SELECT face_model_import('utk', '$first') \\g /dev/null\n$gender"), qr/^(wo)?man$/, 'and can publish');

$node->stop;
done_testing();
