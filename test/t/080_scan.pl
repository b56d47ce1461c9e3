# face_scan: the faces in the photos that a query gives, as a stream.
use strict;
use warnings;
use lib 'test/t';
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('scan');
load_photos($node);

sub query
{
	return $node->safe_psql('postgres', $_[0]);
}

sub failure
{
	my ($sql) = @_;
	my ($out, $err);
	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err);
	return $err;
}

# Differences between a scan and face_attributes, row by row: faces that one lacks, and the
# largest of ages and boxes. Other crops in a batch change sums' order, and so last digits.
sub differences
{
	my ($settings) = @_;
	return query(qq{$settings
		WITH scanned AS (SELECT key, face, row_number() OVER (PARTITION BY key) AS n
				FROM face_scan('SELECT id, image FROM photos ORDER BY id')),
			single AS (SELECT id::text AS key, f AS face, row_number() OVER (PARTITION BY id) AS n
				FROM photos, face_attributes(image) f)
		SELECT count(*) FILTER (WHERE a.key IS NULL OR b.key IS NULL) || ' ' ||
			(max(abs((a.face).age - (b.face).age)) < 0.2) || ' ' ||
			bool_and((a.face).gender = (b.face).gender AND (a.face).box ~= (b.face).box)
		FROM scanned a FULL JOIN single b USING (key, n)});
}

for my $threads (1, 3)
{
	is(differences("SET faceattr.threads = $threads; SET faceattr.precision = fp32;"),
		'0 true true', "the faces of face_attributes, with $threads threads");
}

# --- Order, keys, NULLs

is(query(q{SELECT string_agg(DISTINCT key, ',' ORDER BY key)
		FROM face_scan('SELECT name, image FROM photos WHERE name IN (''portrait.jpg'', ''sheet.jpg'')')}),
	'portrait.jpg,sheet.jpg', 'keys are texts');
my $ids = query(q{SELECT string_agg(key, ' ') FROM face_scan('
	SELECT n * 100 + id, image FROM photos, generate_series(1, 9) n WHERE name LIKE ''p%'' ORDER BY n DESC, id')});
is($ids, join(' ', sort { $b <=> $a } split / /, $ids), 'in the order of the query');
ok((() = $ids =~ / /g) >= 8, '... of more photos than go together');
is(query(q{SELECT key IS NULL, (face).age > 0 FROM face_scan('SELECT NULL::int, image FROM photos WHERE name = ''portrait.jpg''')}),
	't|t', 'a key may be NULL');
is(query(q{SELECT count(*) FROM face_scan('SELECT 1, NULL::bytea FROM generate_series(1, 100)')}),
	'0', 'NULL images have no faces');
is(query(q{SELECT count(*) FROM face_scan('SELECT 1, image FROM photos WHERE false')}), '0', 'no rows');
is(query(q{SELECT count(*) > 0 FROM face_scan('SELECT 1, image FROM photos;  ')}), 't', 'a semicolon');
is(query(q{SELECT count(*) > 0 FROM face_scan('SELECT 1, image FROM photos -- all')}), 't', 'a comment');
is(query(q{SELECT count(*) > 0 FROM face_scan(' /* these */ SELECT 1, image FROM photos; -- all')}), 't', '... behind a semicolon');
is(query(q{SELECT count(*) FROM face_scan('VALUES (1, NULL::bytea)')}), '0', 'VALUES');

# --- Queries that will not do

like(failure(q{SELECT face_scan('SELECT 1')}), qr/two columns, a key and an image, not 1/, 'one column');
like(failure(q{SELECT face_scan('SELECT 1, 2')}), qr/second column is of type integer, not bytea/, 'no image');
like(failure(q{SELECT face_scan('')}), qr/one statement that returns rows/, 'nothing');
like(failure(q{SELECT face_scan('SELECT 1, NULL::bytea; SELECT 2')}), qr/one statement that returns rows/, 'two statements');
like(failure(q{SELECT face_scan('DELETE FROM photos RETURNING id, image')}), qr/must be a SELECT or VALUES/, 'no writing');
like(failure(q{PREPARE p AS SELECT id, image FROM photos; SELECT face_scan('EXECUTE p')}), qr/must be a SELECT or VALUES/, 'nothing prepared');
like(failure(q{SELECT face_scan('DROP TABLE photos')}), qr/one statement that returns rows/, 'no DDL');
like(failure(q{SELECT face_scan(NULL)}), qr/must not be NULL/, 'NULL');
like(failure(q{SELECT face_scan('SELECT 1, image FROM photos', 'nobody')}), qr/model "nobody" does not exist/, 'a model that is not there');
is(query('SELECT count(*) FROM photos'), query('SELECT 7'), 'everything is still there');

# --- Bad images

my $bad = q{SELECT n, CASE WHEN n = 3 THEN 'nothing'::bytea ELSE image END
	FROM photos, generate_series(1, 5) n WHERE name = 'portrait.jpg' ORDER BY n};
my $quoted = "\$\$$bad\$\$";
my ($out, $err) = ('', '');
like(failure("SELECT key FROM face_scan($quoted)"), qr/CONTEXT:.*key "3"/s, 'an error tells the key');
$node->psql('postgres', "\\set SHOW_CONTEXT always\nSET faceattr.on_bad_image = warning; SELECT key FROM face_scan($quoted)",
	stdout => \$out, stderr => \$err);
is($out, "1\n2\n4\n5", 'a bad image passed over');
like($err, qr/WARNING.*key "3"/s, '... with a warning');
is(query("SET faceattr.on_bad_image = ignore; SELECT count(*) FROM face_scan($quoted, 'default')"),
	'4', '... or none');
is(query("SELECT string_agg(key, ' ') FROM (SELECT (s).key FROM (SELECT face_scan($quoted) AS s OFFSET 0) x LIMIT 2) y"),
	'1 2', 'rows before it are there first');
is(query("SELECT count(*) FROM pg_cursors"), '0', 'no cursor is left');

# --- The end comes early

is(query(q{BEGIN; SELECT (s).key FROM (SELECT face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n
		WHERE name = ''portrait.jpg''') AS s OFFSET 0) x LIMIT 3;
	SELECT count(*) FROM pg_cursors; COMMIT}), "1\n2\n3\n0", 'LIMIT ends a scan of a million rows');
is(query(q{SET statement_timeout = '60s'; SELECT key FROM face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n
		WHERE name = ''portrait.jpg''') LIMIT 3}), "1\n2\n3", '... in FROM, too');
is(query(q{SET statement_timeout = '60s'; SELECT key FROM face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n
		WHERE name = ''portrait.jpg''', 'default') WHERE (face).age > 0 AND key::int % 2 = 0 LIMIT 2}), "2\n4", '... where rows are chosen');
like(failure(q{SET statement_timeout = 500; SELECT count(*) FROM face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n')}),
	qr/statement timeout/, 'a time-out');
is(query(q{SELECT count(*) > 0 FROM face_scan('SELECT 1, image FROM photos')}), 't', '... and another scan');
is(query(q{
	CREATE FUNCTION first_key() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE r record;
	BEGIN
		FOR r IN SELECT (s).key FROM (SELECT face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n') AS s OFFSET 0) x LOOP
			RETURN r.key;
		END LOOP;
	END $$;
	SELECT first_key(); SELECT first_key(); SELECT count(*) FROM pg_cursors}), "1\n1\n0", 'a loop that is left');
is(query(q{
	CREATE FUNCTION caught() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM count(*) FROM face_scan('SELECT n, CASE WHEN n < 20 THEN image ELSE ''x''::bytea END FROM photos, generate_series(1, 20) n WHERE name = ''portrait.jpg''');
		RETURN 'no error';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLERRM;
	END $$;
	SELECT caught() FROM generate_series(1, 3); SELECT count(*) FROM pg_cursors}),
	join("\n", ('image format is not supported: text') x 3, 0), 'errors caught within a transaction');

# Which cursor COMMIT comes to first follows from their names.
is(query(join('', map { qq{
	BEGIN; DECLARE $_ CURSOR WITH HOLD FOR SELECT (s).key FROM (SELECT face_scan('SELECT n, image FROM photos, generate_series(1, 20) n
		WHERE name = ''portrait.jpg''') AS s OFFSET 0) x;
	MOVE $_; COMMIT; MOVE 18 FROM $_; FETCH ALL FROM $_; CLOSE $_;} } 'a' .. 'f')),
	join("\n", (20) x 6), 'a cursor that outlives its transaction');
is(query(q{BEGIN; DECLARE c CURSOR FOR SELECT face_scan('SELECT n, image FROM photos, generate_series(1, 1000000) n');
	MOVE 3 FROM c; COMMIT; SELECT count(*) FROM pg_cursors}), '0', '... and one of a million rows that does not');
is(query(q{BEGIN; DECLARE c CURSOR FOR SELECT (s).key FROM (SELECT face_scan('SELECT n, image FROM photos, generate_series(1, 20) n
		WHERE name = ''portrait.jpg''') AS s OFFSET 0) x;
	MOVE c; SAVEPOINT s; MOVE 17 FROM c; ROLLBACK TO s; FETCH ALL FROM c; COMMIT}), "19\n20", 'read on in a subtransaction');

# --- Several at once

is(query(q{SELECT count(*) FROM (SELECT face_scan('SELECT id, image FROM photos ORDER BY id') a, face_scan('SELECT id, image FROM photos ORDER BY id', 'default') b) x
	WHERE (a).key IS DISTINCT FROM (b).key}), '0', 'two scans in step');
is(query(q{SELECT count(*) = sum(n) FROM photos, LATERAL (SELECT count(*) AS n FROM face_scan(format('SELECT id, image FROM photos WHERE id = %s', id))) f WHERE name = 'portrait.jpg'}),
	't', 'a scan for every row');
is(query(q{SELECT count(*) > 5 FROM face_scan('SELECT (face).age, image FROM face_scan(''SELECT id, image FROM photos'') s, photos WHERE name = ''portrait.jpg''')}),
	't', 'a scan within a scan');
is(query(q{PREPARE p(text) AS SELECT count(*) > 0 FROM face_scan($1);
	EXECUTE p('SELECT 1, image FROM photos'); EXECUTE p('SELECT 2, image FROM photos')}), "t\nt", 'prepared');

# --- Rights

$node->safe_psql('postgres', 'CREATE ROLE visitor LOGIN');
like(failure(q{SET ROLE visitor; SELECT count(*) FROM face_scan('SELECT id, image FROM photos')}),
	qr/permission denied for table photos/, 'the query runs with its caller\'s rights');
$node->safe_psql('postgres', 'GRANT SELECT ON photos TO visitor');
is(query(q{SET ROLE visitor; SELECT count(*) > 0 FROM face_scan('SELECT id, image FROM photos')}), 't', '... which may be granted');

# --- Memory

# What the backend holds after so many large photos, in MB.
sub memory_of
{
	my ($photos, $threads) = @_;
	my $kilobytes = query(qq{SET faceattr.threads = $threads;
		SELECT count(*) > 0 FROM face_scan('SELECT n, image FROM photos, generate_series(1, $photos) n WHERE name = ''turned-phone.jpg''');
		SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmHWM:\\s+(\\d+)')});
	return (split /\n/, $kilobytes)[-1] / 1024;
}

for my $threads (1, 3)
{
	my ($few, $many) = (memory_of(40, $threads), memory_of(240, $threads));
	cmp_ok($many - $few, '<', 15, "six times the photos take no more memory, with $threads threads")
	  or diag("$few MB, $many MB");
}

unlike(slurp_file($node->logfile), qr/ leak/, 'nothing that the server would have to clean up');
done_testing();
