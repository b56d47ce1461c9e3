# Who may do what with models: every function, table and path; and what a search path,
# or a table in the extension's place, can do to others.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rights');
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# As a role, by SET ROLE: an error's SQLSTATE and message, or the result.
sub as
{
	my ($role, $sql) = @_;
	my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET ROLE $role;\n$sql");
	return $error =~ /ERROR:  (.*)/ ? $1 : $out;
}

# alice and bob may publish, carol is of alice's team, dave only predicts.
query(q{
	CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE carol IN ROLE alice; CREATE ROLE dave;
	GRANT INSERT, UPDATE, DELETE ON face_model TO alice, bob;
	GRANT SELECT ON photos TO PUBLIC;
	CREATE SCHEMA open; GRANT ALL ON SCHEMA open TO PUBLIC});
my $file = model_file('words', sub { $_[1][1]{labels} = ['man', 'woman'] });
my $other = model_file('other', sub { $_[1][1]{labels} = ['he', 'she'] });
query(qq{CREATE TABLE files AS SELECT pg_read_binary_file('$file') AS words, pg_read_binary_file('$other') AS other; GRANT SELECT ON files TO PUBLIC});
my $predict = q{SELECT (face_array(image, 'team'))[1].gender IN ('man', 'woman') FROM photos WHERE name = 'portrait.jpg'};

# --- Publishing

like(as('dave', q{SELECT face_model_import('x', words) FROM files}), qr/^42501: permission denied for table face_model/, 'publishing wants a right');
like(as('dave', q{INSERT INTO face_model (name, weights) SELECT 'x', words FROM files}), qr/^42501/, 'by INSERT, too');
is(as('alice', q{SELECT face_model_import('team', words) IS NOT NULL FROM files}), 't', 'alice publishes');
is(query(q{SELECT owner FROM face_model}), 'alice', 'and owns');
like(as('alice', q{INSERT INTO face_model (name, weights, owner) SELECT 'x', words, 'bob' FROM files}), qr/^42501: must be owner of model "x"/, 'nobody publishes in another\'s name');
like(as('alice', q{INSERT INTO face_model (name, weights, owner) SELECT 'x', words, 'nobody there' FROM files}), qr/^42501/, 'nor in nobody\'s');
is(as('carol', q{INSERT INTO face_model (name, weights, owner) SELECT 'shared', words, 'alice' FROM files RETURNING owner}), 'alice', 'a member may in her role\'s');

my $copy = temporary_path('rows.copy');
query(qq{COPY (SELECT 'copied', words, 'bob' FROM files) TO '$copy'});
$node->safe_psql('postgres', 'GRANT pg_read_server_files TO alice, dave');
my $copied = qq{COPY face_model (name, weights, owner) FROM '$copy'};
like(as('dave', $copied), qr/^42501: permission denied for table face_model/, 'COPY: dave may not');
like(as('alice', $copied), qr/^42501: must be owner of model "copied"/, 'COPY: alice not for bob');
$node->safe_psql('postgres', 'REVOKE pg_read_server_files FROM alice, dave');

# --- By path on the server

like(as('alice', qq{SELECT face_model_import('path', '$file')}), qr/^42501: permission denied to read a file of the server/, 'by path: wants pg_read_server_files');
like(as('dave', qq{SELECT face_model_read('$file')}), qr/^42501: permission denied to read/, 'so does reading alone');
like(as('dave', q{SELECT face_model_read('postgresql.conf')}), qr/^42501: permission denied to read/, 'whatever the file');
query(q{GRANT pg_read_server_files TO alice});
is(as('alice', qq{SELECT face_model_import('path', '$file') IS NOT NULL}), 't', 'with it, alice does');
query(q{REVOKE pg_read_server_files FROM alice});

# --- Predicting

is(as('dave', $predict), 't', 'dave predicts');
is(as('dave', q{SELECT name FROM face_model_version('team')}), 'team', 'and is told the version');
query(q{REVOKE SELECT ON face_model FROM PUBLIC});
like(as('dave', $predict), qr/^42501: permission denied for table face_model/, 'not without the right to read');
like(as('dave', q{SELECT face_model_version('team')}), qr/^42501/, 'nor is he told');
like(as('dave', q{SELECT face_array(image, 'nobody') FROM photos}), qr/^42501/, 'nor which models there are');
is(as('dave', q{SELECT count(*) FROM photos, face_attributes(image) WHERE name = 'portrait.jpg'}), '1', 'the shipped one is everybody\'s');
# What one role has used does not stay open for the next.
like(as('dave', "RESET ROLE; $predict; SET ROLE dave; $predict"), qr/^42501/, 'not in a session that has the model open either');
query(q{GRANT SELECT (name, sha256, weights) ON face_model TO dave});
is(as('dave', $predict), 't', 'with the right to the three columns that it takes');
query(q{GRANT SELECT ON face_model TO PUBLIC});
# Row-level security that an administrator adds holds.
query(q{CREATE POLICY hidden ON face_model FOR SELECT TO dave USING (name <> 'team'); ALTER TABLE face_model ENABLE ROW LEVEL SECURITY});
like(as('dave', $predict), qr/^42704: model "team" does not exist/, 'a policy hides a model');
is(query(q{DROP POLICY hidden ON face_model; ALTER TABLE face_model DISABLE ROW LEVEL SECURITY} . ";$predict"), 't', 'and only from whom it should');

# --- Replacing and dropping

for my $path (
	['import', q{SELECT face_model_import('team', other) FROM files}],
	['UPDATE', q{UPDATE face_model SET weights = other FROM files WHERE name = 'team'}],
	['INSERT ON CONFLICT', q{INSERT INTO face_model (name, weights) SELECT 'team', other FROM files ON CONFLICT (name) DO UPDATE SET weights = excluded.weights}],
	['UPDATE of metrics', q{UPDATE face_model SET metrics = '{}' WHERE name = 'team'}],
	['renaming', q{UPDATE face_model SET name = 'mine' WHERE name = 'team'}],
	['giving away', q{UPDATE face_model SET owner = 'bob' WHERE name = 'team'}],
	['drop', q{SELECT face_model_drop('team')}],
	['DELETE', q{DELETE FROM face_model WHERE name = 'team'}])
{
	my ($name, $sql) = @$path;
	like(as('bob', $sql), qr/^42501: must be owner of model "team"/, "$name: bob may not");
	like(as('dave', $sql), qr/^42501: permission denied for table face_model/, "$name: dave even less");
	like(as('bob', "TRUNCATE face_model; $sql"), qr/^42501: permission denied for table face_model/, "TRUNCATE, then $name");
}
is(query($predict), 't', 'the model is as it was');
like(as('alice', q{UPDATE face_model SET owner = 'bob' WHERE name = 'team'}), qr/^42501: must be owner/, 'alice cannot give it to whom she is no member of');
is(as('carol', q{SELECT face_model_import('team', other) IS NOT NULL FROM files; SELECT owner FROM face_model WHERE name = 'team'}), "t\nalice", 'carol replaces it; it stays alice\'s');
is(as('carol', q{SELECT face_model_drop('shared')}), '', 'and drops another');
query(q{CREATE ROLE distant ROLE carol; ALTER ROLE carol NOINHERIT; GRANT INSERT, UPDATE, DELETE ON face_model TO carol});
like(as('carol', q{SELECT face_model_drop('path')}), qr/^42501: must be owner/, 'a member that does not inherit has to SET ROLE') if query('SHOW server_version_num') < 160000;
query(q{UPDATE face_model SET owner = 'gone' WHERE name = 'path'});
like(as('alice', q{SELECT face_model_drop('path')}), qr/^42501: must be owner/, 'a model whose owner is gone is the administrator\'s');
is(query(q{SELECT face_model_drop('path')}), '', 'who may drop everybody\'s');

# --- Functions that run as somebody else

query(q{CREATE FUNCTION as_alice(sql text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE sql; END $$;
	ALTER FUNCTION as_alice OWNER TO alice});
is(as('dave', q{SELECT as_alice($$UPDATE face_model SET metrics = '{"a": 1}' WHERE name = 'team'$$)}), '', 'a function of alice\'s does what alice may');
is(query(q{SELECT metrics FROM face_model WHERE name = 'team'}), '{"a": 1}', 'and has done it');

# --- Search paths, and objects of the same name

query(q{
	CREATE FUNCTION open.trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE VIEW open.face_model AS SELECT 'team'::text AS name, open.trap() AS sha256, ''::bytea AS weights;
	CREATE FUNCTION open.eq(text, text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE OPERATOR open.= (LEFTARG = text, RIGHTARG = text, FUNCTION = open.eq);
	CREATE FUNCTION open.sha256(bytea) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION open.face_model_read(text) RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION open.face_model_network(bytea) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE FUNCTION open.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$});
my $trapped = 'SET search_path = open, pg_catalog, public, pg_temp;';
is(query($trapped . q{SELECT public.face_model_import('trapped', '} . $file . q{') IS NOT NULL}), 't', 'an import in a hostile search path');
is(query($trapped . q{SELECT pg_catalog.cardinality(public.face_array(image, 'trapped')) >= 0 FROM photos WHERE id OPERATOR(pg_catalog.=) 1}), 't', 'a prediction');
is(query($trapped . q{SELECT name FROM public.face_model_version('trapped')}), 'trapped', 'a version');
is(query($trapped . q{SELECT public.face_model_drop('trapped')}), '', 'a drop');
is(query(q{CREATE TEMP TABLE face_model AS SELECT 'temporary'::text AS name, ''::bytea AS sha256, ''::bytea AS weights;} . $predict =~ s/man.*woman/he', 'she/r), 't', 'a temporary table of that name');

# The extension of version 0.1 in a schema where others may create tables: a table by the
# name of ours is not taken for it.
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', q{
	CREATE SCHEMA old; GRANT ALL ON SCHEMA old TO PUBLIC; CREATE EXTENSION faceattr SCHEMA old VERSION '0.1';
	SET ROLE dave;
	CREATE FUNCTION old.trap() RETURNS bytea LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
	CREATE VIEW old.face_model AS SELECT 'team'::text AS name, old.trap() AS sha256, ''::bytea AS weights});
my ($status, $out, $error) = $node->psql('old', q{SELECT old.face_array('x', 'team')});
like($error, qr/model "team" does not exist\nHINT:  .*ALTER EXTENSION faceattr UPDATE/, 'a view in the table\'s place');

# The extension's schema may be renamed.
query(q{ALTER SCHEMA public RENAME TO renamed});
is( query(q{SET search_path = renamed; SELECT face_model_import('team', other) IS NOT NULL FROM files;} . $predict =~ s/man.*woman/he', 'she/r),
	"t\nt", 'in a renamed schema');
is( query(qq{SET search_path = renamed;} . ($predict =~ s/man.*woman/he', 'she/r) . q{; ALTER SCHEMA renamed RENAME TO again; SET search_path = again;} . $predict =~ s/man.*woman/he', 'she/r),
	"t\nt", 'renamed within a session');

done_testing();
