# faceattr publish: a file into a table's row, over a connection.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('publish');
sub query { return $node->safe_psql('postgres', $_[0]) }
my $dsn = $node->connstr('postgres');
my $portrait = photo_path('portrait.jpg');
my $gender = qq{SELECT (face_array(pg_read_binary_file('$portrait'), 'utk'))[1].gender};

sub publish { my ($out, $error); my $ok = IPC::Run::run(['faceattr', 'publish', @_], '>', \$out, '2>', \$error); return ($ok, $out, $error) }
sub refused
{
	my ($expected, $name, @arguments) = @_;
	my ($ok, $out, $error) = publish(@arguments);
	ok(!$ok && $error =~ $expected, $name) or diag($error);
	return;
}

my $file = model_file('words', sub { $_[1][1]{labels} = ['man', 'woman'] });
my $metrics = write_image('metrics.json', '{"age_mae": 4.5, "note": "Größe"}');
my $hyper = write_image('hyper.json', '{"epochs": 3}');
my ($ok, $out, $error) = publish($file, '--dsn', $dsn, '--name', 'utk', '--metrics-file', $metrics, '--hyper-parameters-file', $hyper,
	'--query', q{SELECT image, age FROM "people's"}, '--rows', 4711);
ok($ok, 'publish') or diag($error);
like($out, qr/SET faceattr\.model = 'utk'/, 'says how to use it');
is( query(q{SELECT name, metrics, hyper_parameters, query, row_count, owner = current_user FROM face_model}),
	q{utk|{"note": "Größe", "age_mae": 4.5}|{"epochs": 3}|SELECT image, age FROM "people's"|4711|t}, 'with all that is known of it');
is(query(qq{SELECT weights = pg_read_binary_file('$file') FROM face_model}), 't', 'byte for byte');
like(query($gender), qr/^(wo)?man$/, 'used');
($ok) = publish(shipped_file('default'), '--dsn', $dsn, '--name', 'utk');
is(query(q{SELECT count(*), bool_and(metrics IS NULL AND query IS NULL AND row_count IS NULL) FROM face_model}), '1|t', 'published again: replaced');

# --- What goes wrong

my $detector = shipped_file('yunet_n');
refused(qr/no\.safetensors/, 'a file that is not there', '/no.safetensors', '--dsn', $dsn, '--name', 'x');
refused(qr/weights file has unusable metadata: /, 'a file that is no model: the server says why', $detector, '--dsn', $dsn, '--name', 'x');
refused(qr/model name "default" is reserved/, 'a reserved name', $file, '--dsn', $dsn, '--name', 'default');
refused(qr/could not connect/, 'no server', $file, '--dsn', 'host=/nowhere', '--name', 'x');
refused(qr/no JSON: Line 1/, 'metrics that are no JSON', $file, '--dsn', $dsn, '--name', 'x', '--metrics-file', $file);
refused(qr/no number of rows/, 'a number that is none', $file, '--dsn', $dsn, '--name', 'x', '--rows', 'many');
refused(qr/--name/, 'no name', $file, '--dsn', $dsn);
refused(qr/which file/, 'no file', '--dsn', $dsn, '--name', 'x');
$node->safe_psql('postgres', 'CREATE DATABASE bare');
refused(qr/has no extension faceattr.*CREATE EXTENSION/, 'a database without the extension', $file, '--dsn', $node->connstr . ' dbname=bare', '--name', 'x');
$node->safe_psql('bare', q{CREATE EXTENSION faceattr VERSION '0.1'});
refused(qr/version 0\.1.*ALTER EXTENSION faceattr UPDATE/, 'or with an old one', $file, '--dsn', $node->connstr . ' dbname=bare', '--name', 'x');
query(q{CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN IN ROLE alice; GRANT INSERT, UPDATE ON face_model TO alice, carol});
refused(qr/role "bob" may not publish models: Run GRANT INSERT/, 'no right', $file, '--dsn', "$dsn user=bob", '--name', 'x');
query(q{GRANT INSERT, UPDATE ON face_model TO bob});
($ok) = publish($file, '--dsn', "$dsn user=alice", '--name', 'team');
ok($ok, 'with the right');
refused(qr/model "team" belongs to role "alice"/, 'another\'s model', $file, '--dsn', "$dsn user=bob", '--name', 'team');
($ok) = publish(shipped_file('default'), '--dsn', "$dsn user=carol", '--name', 'team');
ok($ok, 'a member of its owner replaces it');
is(query(q{SELECT count(*) FROM face_model WHERE name = 'x'}), '0', 'nothing of what failed is there');

# A search path full of traps does not matter.
query(q{CREATE SCHEMA trap; CREATE FUNCTION trap.face_model_import(text, bytea, jsonb, jsonb, text, bigint) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	ALTER ROLE alice SET search_path = trap, public; GRANT USAGE ON SCHEMA trap TO PUBLIC});
($ok) = publish($file, '--dsn', "$dsn user=alice", '--name', 'team');
ok($ok, 'a hostile search path');

# --- Seen in pg_stat_activity while it waits for its turn
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe('BEGIN; LOCK face_model IN SHARE MODE');
	my $publisher = IPC::Run::start(['faceattr', 'publish', $file, '--dsn', $dsn, '--name', 'utk'], '>', \$out, '2>', \$error);
	ok( $node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity
			WHERE application_name = 'faceattr utk: publishing 7.2 MB' AND wait_event_type = 'Lock'}), 'progress in pg_stat_activity');
	$holder->query_safe('COMMIT');
	ok($publisher->finish, 'and then it is done');
	$holder->quit;
}

done_testing();
