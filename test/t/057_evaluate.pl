# face_evaluate: its figures against the same ones from SQL over face_attributes, and against
# the companion program's; labels in all forms; queries and rows that cannot be used.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('evaluate', "default_transaction_isolation = 'read committed'");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }
sub fails { my ($code, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]"); return $error }

# Labels that are true and false in turns; two photos without a face.
my $plain = write_image('plain.png', flat_png(200, 200, 0));
query(qq{
	CREATE TABLE people (id int, image bytea, age int, gender text, race text, born date, taken timestamptz, years int4range, class int);
	INSERT INTO people
	SELECT n, image, 5 * n, (ARRAY['male', 'FEMALE'])[1 + n % 2], (ARRAY['White', 'Asian', 'Black'])[1 + n % 3],
		'2020-01-01'::date - 365 * 5 * n - 200, '2020-01-01', int4range(5 * n, 5 * n + 5), n % 2
	FROM photos, generate_series(1, 9) n WHERE name IN ('portrait.jpg', 'close-up.jpg', 'grey.jpg');
	INSERT INTO people SELECT 100, pg_read_binary_file('$plain'), 30, 'male', 'White', NULL, NULL, NULL, 0;
	INSERT INTO people VALUES (101, NULL, 30, 'male', 'White')});
my $labelled = 'SELECT image, age, gender, race FROM people';

# The same figures, from the faces themselves.
my $judged = q{
	judged AS (SELECT p.age, lower(p.gender) AS gender, p.race, p.age / 10 * 10 AS decade, f.age AS said, f.age_low, f.age_high,
		f.gender AS said_gender, f.race AS said_race
		FROM people p LEFT JOIN LATERAL (SELECT * FROM face_attributes(p.image) LIMIT 1) f ON true WHERE p.image IS NOT NULL)};
my $figures = q{count(*) AS count, count(*) FILTER (WHERE said IS NULL) AS not_found, round(avg(abs(said - age))::numeric, 4) AS age_mae,
	round(avg(said - age)::numeric, 4) AS age_bias, round(avg((age BETWEEN age_low AND age_high)::int) FILTER (WHERE said IS NOT NULL), 4) AS coverage,
	round(avg((said_gender = gender)::int), 4) AS gender_right, round(avg((said_race = race)::int), 4) AS race_right,
	round(avg((said >= 18)::int) FILTER (WHERE age < 18), 4) AS adult_18, round(avg((said >= 21)::int) FILTER (WHERE age < 21), 4) AS adult_21};
my $ours = q{count, not_found, round(age_mae::numeric, 4), round(age_bias::numeric, 4), round(age_interval_coverage::numeric, 4),
	round(gender_accuracy::numeric, 4), round(race_accuracy::numeric, 4), round(false_adult_rate_18::numeric, 4), round(false_adult_rate_21::numeric, 4)};
my $expected = query("WITH $judged SELECT race, gender, decade, $figures FROM judged
	GROUP BY GROUPING SETS ((), (race), (gender), (decade), (race, gender, decade)) ORDER BY 1, 2, 3");
is(query("SELECT race, gender, decade, $ours FROM face_evaluate('$labelled') ORDER BY 1, 2, 3"), $expected, 'every group');
cmp_ok(() = $expected =~ /\n/g, '>', 15, 'of which there are many');

# Wilson's interval by its formula, the bootstrap's about the mean.
is(query(q{
	WITH e AS (SELECT *, count - not_found AS n, 1.959963984540054 AS z FROM face_evaluate($$} . $labelled . q{$$))
	SELECT count(*) FROM e WHERE n > 0 AND (
		abs(gender_accuracy_low - ((gender_accuracy + z*z/(2*n) - z * sqrt(gender_accuracy * (1 - gender_accuracy) / n + z*z/(4.0*n*n))) / (1 + z*z/n))) > 1e-6
		OR abs(race_accuracy_high - ((race_accuracy + z*z/(2*n) + z * sqrt(race_accuracy * (1 - race_accuracy) / n + z*z/(4.0*n*n))) / (1 + z*z/n))) > 1e-6
		OR NOT age_mae BETWEEN age_mae_low AND age_mae_high)}), 0, 'intervals');
# The calibration error from its definition: 15 bins of confidence, in each the difference of its mean and of what is right.
my $bins = sub { my ($what) = @_; return qq{
	SELECT sum(abs(d)) / sum(n) FROM (
		SELECT sum(f.${what}_confidence::float8 - (lower(f.$what) = lower(p.$what))::int) AS d, count(*) AS n
		FROM people p, LATERAL (SELECT * FROM face_attributes(p.image) LIMIT 1) f
		GROUP BY least(width_bucket(f.${what}_confidence::float8, 0, 1, 15), 15)) b} };
is(query("SELECT abs(e.${_}_calibration_error - (" . $bins->($_) . ")) < 1e-5 FROM face_evaluate('$labelled') e WHERE bad_images IS NOT NULL"), 't', "calibration: $_")
  for 'gender', 'race';
is(query(qq{SELECT bad_images FROM face_evaluate('$labelled') WHERE bad_images IS NOT NULL}), '0', 'bad images are in the total');

# The companion program says the same of the same rows.
chomp($ENV{FACEATTR_WEIGHTS} = `pg_config --sharedir`);
$ENV{FACEATTR_WEIGHTS} .= '/extension/faceattr';
IPC::Run::run(['faceattr', 'evaluate', '--json', '--dsn', $node->connstr('postgres'), '--query', "$labelled WHERE image IS NOT NULL"], '>', \my $json) or die;
my $program = decode_json($json);
my @total = split /\|/, query(qq{SELECT count, not_found, age_mae, 100 * gender_accuracy, 100 * gender_calibration_error, 100 * race_calibration_error,
	100 * false_adult_rate_18 FROM face_evaluate('$labelled') WHERE bad_images IS NOT NULL});
my @theirs = map { ref $_ ? $_->{value} // $_->[0] : $_ } @$program{qw(count not_found age_mae gender_accuracy gender_calibration_error race_calibration_error false_adult_rate_18)};
ok(abs($total[$_] - $theirs[$_]) < 1e-3 * (1 + abs $theirs[$_]), "the program's: $total[$_], $theirs[$_]") for 0 .. $#total;

# --- Labels in other forms, models, crops

my $age = sub { return query("SELECT round(age_mae::numeric, 3) FROM face_evaluate('$_[0]') WHERE bad_images IS NOT NULL") };
is($age->('SELECT image, born AS birth_date, taken AS photo_date FROM people -- a comment'), $age->('SELECT image, age FROM people;'), 'dates');
cmp_ok(abs($age->('SELECT image, years AS age FROM people') - $age->('SELECT image, age + 2 AS age FROM people')), '<', 0.001, 'ranges');
is(query(q{SELECT count(*) FROM face_evaluate('SELECT image, class AS gender FROM people') WHERE gender = 'female'}), 1, 'classes');
query("SELECT face_model_import('other', '@{[model_file('other', sub { $_[1][1]{labels} = ['boy', 'girl'] })]}')");
my ($code, $out, $error) = $node->psql('postgres', qq{SELECT gender_accuracy IS NULL, race_accuracy > 0 FROM face_evaluate('$labelled', 'other') WHERE bad_images IS NOT NULL});
is($out, 't|t', 'a model with other labels');
like($error, qr/WARNING:  the model does not know the gender "male".*HINT:  It knows "boy", "girl"/s, 'is told');
is(query(q{SELECT round(gender_accuracy::numeric, 4) FROM face_evaluate('SELECT image, gender FROM people WHERE id < 100', crops => true) WHERE bad_images IS NOT NULL}),
	query(q{SELECT round(avg(((face_classify(image)).gender = lower(gender))::int), 4) FROM people WHERE id < 100}), 'crops');
is(query(q{SELECT not_found FROM face_evaluate('SELECT image, age, box(point(0, 0), point(9, 9)) FROM people WHERE id = 1') WHERE bad_images IS NOT NULL}), 3, 'a box where no face is');
is(query(q{SELECT count(*) FROM face_evaluate('SELECT image, age FROM people WHERE false')}), 1, 'no rows: the total of nothing');
is(query(q{SELECT count FROM face_evaluate('SELECT image, (face_array(image, ''other''))[1].age FROM people WHERE id = 1') WHERE bad_images IS NOT NULL}), 3, 'a query that predicts, too');

# --- What cannot be used

like(fails(q{SELECT face_evaluate('SELECT 1 AS age')}), qr/42703: the query has no column "image"/, 'no image');
like(fails(q{SELECT face_evaluate('SELECT image FROM people')}), qr/42703: the query has no column of labels.*HINT/s, 'no label');
like(fails(q{SELECT face_evaluate('SELECT image::text, age FROM people')}), qr/42804: column "image" of the query is of type text, not bytea/, 'a wrong type');
like(fails(q{SELECT face_evaluate('SELECT image, age, born AS birth_date FROM people')}), qr/42703: .* belong together/, 'half of the dates');
like(fails(q{SELECT face_evaluate('DELETE FROM people')}), qr/22023: the query must be one statement that returns rows/, 'no query');
like(fails(q{SELECT face_evaluate('SELECT image, age FROM people; DROP TABLE people')}), qr/22023: the query must be one statement/, 'two statements');
like(fails(q{SELECT face_evaluate('DELETE FROM people RETURNING image, age')}), qr/ERROR/, 'one that writes');
is(query('SELECT count(*) FROM people'), 29, 'which did not');
query(q{CREATE SEQUENCE s; CREATE TABLE log (t text);
	CREATE FUNCTION logged(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES ($1); RETURN $1; END $$});
like(fails(q{SELECT face_evaluate('SELECT image, nextval(''s'') AS age FROM people')}), qr/25006: cannot execute nextval\(\) in a read-only transaction/, 'nor may what it calls: nextval');
like(fails(q{SELECT face_evaluate('SELECT image, logged(age) AS age FROM people')}), qr/25006: cannot execute INSERT in a read-only transaction/, 'a function that writes');
like(fails(q{SELECT face_evaluate('SELECT image, age FROM people FOR UPDATE')}), qr/0A000/, 'a lock');
is(query(q{BEGIN; SELECT count(*) FROM face_evaluate('SELECT image, age FROM people WHERE false'); INSERT INTO log VALUES ('still'); COMMIT;
	SELECT string_agg(t, ',') FROM log}), "1\nstill", 'the transaction itself stays as it was');
like(fails(q{SELECT face_evaluate('SELECT image, age FROM nowhere')}), qr/42P01/, 'its own errors');
like(fails(q{SELECT face_evaluate(NULL)}), qr/22004: argument "query" must not be NULL/, 'NULL');
like(fails(q{SELECT face_evaluate('SELECT image, age FROM people', 'nobody')}), qr/42704: model "nobody" does not exist/, 'no such model');
like(fails(q{CREATE ROLE guest; SET ROLE guest; SELECT face_evaluate('SELECT image, age FROM people')}), qr/42501: permission denied for table people/, 'rights are the caller\'s');
like(fails(q{SELECT face_evaluate($$SELECT image, 'old' AS age FROM people WHERE id = 1$$)}), qr/3 values are no label.*The first is age "old"/s, 'values that are no label');
query(q{INSERT INTO people SELECT 200, substr(image, 1, 20000), 30, 'male', 'White' FROM photos WHERE name = 'portrait.jpg'});
my $good = query(q{SELECT count(*) FROM people WHERE image IS NOT NULL AND id <> 200});
like(fails("SELECT face_evaluate('$labelled')"), qr/22000|22P0|damaged/, 'a damaged image is an error, ...');
is(query("SET faceattr.on_bad_image = 'ignore'; SELECT count, bad_images FROM face_evaluate('$labelled') WHERE bad_images IS NOT NULL"), "$good|1", '... or counted');
like(fails(q{SET statement_timeout = 300; SELECT face_evaluate('SELECT image, age FROM people, generate_series(1, 1000) WHERE id < 100')}), qr/57014/, 'cancelled');

done_testing();
