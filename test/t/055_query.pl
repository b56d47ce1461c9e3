# The companion program on the rows of a table: `faceattr evaluate --query` and `faceattr train
# --query` against a server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('query');
delete $ENV{PGAPPNAME};
chomp($ENV{FACEATTR_WEIGHTS} = `pg_config --sharedir`);
$ENV{FACEATTR_WEIGHTS} .= '/extension/faceattr';
my $dsn = $node->connstr('postgres');
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# faceattr COMMAND ...: its exit status, standard output and error
sub faceattr
{
	my @arguments = @_;
	my ($out, $error) = ('', '');
	IPC::Run::run([ 'faceattr', @arguments ], '>', \$out, '2>', \$error);
	return ($? >> 8, $out, $error);
}

sub evaluate
{
	my ($sql, @more) = @_;
	return faceattr('evaluate', '--json', '--dsn', $dsn, '--query', $sql, @more);
}

# The figures of a query that must work, and what was said beside them.
sub figures
{
	my ($status, $out, $error) = evaluate(@_);
	is($status, 0, "evaluate $_[0]") or diag $error;
	return (decode_json($out || '{}'), $error);
}

# --- Rows and their labels

query(q{
	CREATE TYPE sex AS ENUM ('Female', 'Male');
	CREATE TABLE people (id int PRIMARY KEY, image bytea, age int, gender text, race text,
		born date, taken timestamptz, years int4range, sex sex, class smallint, box box);
	INSERT INTO people
	SELECT id, image, 37, 'FEMALE', 'White', '1959-11-19', '1997-06-01', '[30,40)', 'Female', 0, NULL
	FROM photos WHERE name IN ('portrait.jpg', 'grey.jpg', 'turned-phone.jpg')});

my ($f, $said) = figures('SELECT image, age, gender, race FROM people');
is("$f->{count} $f->{found} $f->{bad_images}", '3 3 0', 'all rows, all faces');
is($f->{race}{White}{count}, 3, 'race as text');
is($f->{gender}{female}{count}, 3, 'gender as text, in any case');
is($f->{decade}{30}{count}, 3, 'age as integer');
is(scalar @{ $f->{groups} }, 1, 'one cell of race, gender and decade');
my $mae = $f->{age_mae};
cmp_ok($mae, '<', 20, "a plausible age error: $mae");

# what the server's own model says of the same photos
my $expected = query(q{
	SELECT round(avg(abs(f.age - 37))::numeric, 3), count(*) FILTER (WHERE f.gender = 'female'), count(*) FILTER (WHERE f.race = 'White')
	FROM people, face_attributes(image) f});
my ($sql_mae, $females, $whites) = split /\|/, $expected;
cmp_ok(abs($mae - $sql_mae), '<', 0.1, "as face_attributes says: $sql_mae");
cmp_ok(abs($f->{gender_accuracy} - 100 * $females / 3), '<', 0.1, 'the same of gender');
cmp_ok(abs($f->{race_accuracy} - 100 * $whites / 3), '<', 0.1, 'the same of race');

($f) = figures('SELECT image, years AS age, sex AS gender, class AS race FROM people; ');
is($f->{race}{White}{count}, 3, 'race as smallint');
is($f->{gender}{female}{count}, 3, 'gender as an enum');
is($f->{decade}{30}{count}, 3, 'age as a range');
cmp_ok(abs($f->{age_bias} - query('SELECT avg(f.age) - 34.5 FROM people, face_attributes(image) f')), '<', 0.1,
	'of which the middle counts');

# 19 November 1959 to 1 June 1997: 37 years
($f) = figures("SELECT image, born AS birth_date, taken AS photo_date FROM people -- and a comment");
cmp_ok(abs($f->{age_mae} - $mae), '<', 0.001, 'birth date and photo date give completed years');
($f, $said) = figures("SELECT image, taken AS birth_date, born AS photo_date, gender FROM people");
is($f->{age_mae}, undef, 'a birth after the photo is no age');
like($said, qr/3 values are no label, the first is age "born after the photo"/, 'which is said');
($f) = figures("SELECT image, extract(year FROM taken) - 1960 AS age FROM people");
cmp_ok(abs($f->{age_mae} - $mae), '<', 0.001, 'numeric');
($f) = figures("SELECT image, float8 '37' AS age, NULL AS gender FROM people");
cmp_ok(abs($f->{age_mae} - $mae), '<', 0.001, 'float, and a column of NULLs');
is($f->{gender_accuracy}, undef, 'NULL is no label');

($f) = figures("SELECT image, CASE id % 2 WHEN 0 THEN 'Elf' ELSE 'Dwarf' END AS race FROM people");
is(join(',', sort keys %{ $f->{race} }), 'Dwarf,Elf', 'labels follow from the data');
($f, $said) = figures("SELECT image, 'Elf' AS race, gender FROM people", '--race-labels', 'White, Black');
like($said, qr/3 values are no label, the first is race "Elf"/, 'or are given');

# --- What is no good

sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($status, $out, $error) = evaluate($sql);
	is($status, 1, "$name: an error");
	like($error, $pattern, $name);
}
refused('SELECT age FROM people', qr/no column "image"/, 'no image');
refused('SELECT id AS image, age FROM people', qr/column "image" is of type integer, not bytea/, 'image of a wrong type');
refused('SELECT image, born AS age FROM people', qr/column "age" is of type date, not a number/, 'age of a wrong type');
refused('SELECT image, float8 \'1\' AS gender FROM people', qr/column "gender" is of type double precision/, 'gender of a wrong type');
refused('SELECT image, name AS box, 1 AS age FROM photos', qr/column "box" is of type text, not box/, 'box of a wrong type');
refused('SELECT image, born AS birth_date FROM people', qr/"birth_date" needs a column "photo_date"/, 'half an age');
refused('SELECT image, age, age FROM people', qr/column "age" comes twice/, 'twice the same');
refused('SELECT image FROM people', qr/no column of labels/, 'no label');
refused('SELECT image, ag FROM people', qr/column "ag" does not exist.*42703/, "the server's own errors");
refused('SELECT 1; SELECT 2', qr/cannot insert multiple commands/, 'two statements');
refused('SELECT image, age FROM people) TO PROGRAM \'touch /tmp/x\' --', qr/syntax error/, 'no way out of the brackets');
refused('DELETE FROM people RETURNING image, age', qr/refused the query/, 'nothing is deleted');
refused("SELECT image, nextval('s') AS age FROM people", qr/does not exist|read-only/, 'nothing is written');
query('CREATE SEQUENCE s');
refused("SELECT image, nextval('s') AS age FROM people", qr/cannot execute nextval\(\) in a read-only transaction/, 'nothing is written');
refused('SELECT image, 1 / (id - 3) AS age FROM photos', qr/division by zero/, 'an error in the middle');
is(query('SELECT count(*) FROM people'), '3', 'and nothing was');
my ($status, $out, $error) = faceattr('evaluate', '--dsn', 'host=/nowhere', '--query', 'SELECT 1');
is($status, 1, 'no server: an error');
like($error, qr/connection to the server failed/, 'that says so');
($f) = figures("SELECT image, current_setting('transaction_isolation') AS race, current_setting('transaction_read_only') AS gender FROM people");
is(join(',', keys %{ $f->{race} }, keys %{ $f->{gender} }), 'repeatable read,on', 'one read-only snapshot');
($f) = figures("SELECT image, current_setting('application_name') AS race FROM people");
is(join(',', keys %{ $f->{race} }), 'faceattr evaluate', 'which names itself');

# --- Bad images are counted and named

query(q{
	INSERT INTO people (id, image, age) VALUES (100, NULL, 1), (101, '', 1), (102, 'no image', 1),
		(103, (SELECT substr(image, 1, 5000) FROM photos WHERE name = 'portrait.jpg'), 1)});
($f, $said) = figures('SELECT id, image, age FROM people ORDER BY id');
is("$f->{count} $f->{bad_images}", '3 4', 'bad images are counted apart');
like($said, qr/id 100 \(row 4\): the image is NULL/, 'and named by key');
($f, $said) = figures('SELECT image, age FROM people ORDER BY id');
like($said, qr/row 6: .*text/, 'or by row');
query('DELETE FROM people WHERE id >= 100');

# --- The box says which face is meant

my $in_sql = query(qq{
	SELECT f.age FROM photos, face_attributes(image) WITH ORDINALITY
		AS f (box, score, landmarks, age, al, ah, gender, gc, race, rc, n)
	WHERE name = 'sheet.jpg' AND n = 4});
my $box = query(qq{
	SELECT f.box FROM photos, face_attributes(image) WITH ORDINALITY
		AS f (box, score, landmarks, age, al, ah, gender, gc, race, rc, n)
	WHERE name = 'sheet.jpg' AND n = 4});
($f) = figures("SELECT image, 0 AS age, box '$box' AS box FROM photos WHERE name = 'sheet.jpg'");
cmp_ok(abs($f->{age_mae} - $in_sql), '<', 0.1, 'the face in the box is looked at');
($f) = figures("SELECT image, 0 AS age, box '(10,10),(0,0)' AS box FROM photos WHERE name = 'portrait.jpg'");
is($f->{not_found}, 1, 'a box elsewhere: not found');

# --- Ctrl-C cancels the query

sub cancels
{
	my ($name, $sql, @command) = @_;
	my ($out, $error) = ('', '');
	my $run = IPC::Run::start([ 'faceattr', @command, '--dsn', $dsn, '--query', $sql ], '>', \$out, '2>', \$error);
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name LIKE 'faceattr %' AND state = 'active'"),
		"$name: running");
	$run->signal('INT');
	$run->finish;
	is($run->result(0), 130, "$name: ends with 130");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'faceattr %'"),
		"$name: so does the query");
}
cancels('evaluate', 'SELECT image, age FROM people, pg_sleep(600)', 'evaluate');

# --- Training

my $init = "$ENV{FACEATTR_SHARED}/pretrained/mobilenet_v1_vggface2.safetensors";
SKIP:
{
	skip 'no pretrained weights', 1 if !-f $init;
	my ($dir, $runs) = (temporary_path('training'), 0);
	# a training begins in a folder of its own, and goes on in the last one's
	my $fresh = sub { $dir = temporary_path('training') . ++$runs; return ('--output', $dir) };
	my @train = ('train', '--init', $init, '--size', '64', '--batch', '4', '--hidden', '8',
		'--precision', 'fp32', '--threads', '1', '--rate', '1e-3', '--head-epochs', '0');
	my @share = ('--val-share', '0.4');
	my @query = (@train, @share, '--dsn', $dsn, '--query');

	query(q{
		CREATE TABLE faces AS
		SELECT n * 10 + p.id AS id, image, CASE WHEN n % 3 > 0 THEN 30 + n END AS age,
			CASE name WHEN 'grey.jpg' THEN 'male' WHEN 'tilted.png' THEN 'female' END AS gender, 'White' AS race, n AS person
		FROM photos p, generate_series(1, 8) n WHERE name IN ('portrait.jpg', 'grey.jpg', 'tilted.png');
		INSERT INTO faces SELECT 200 + id, image, 20, NULL, NULL, 100 FROM photos WHERE name IN ('sheet.jpg', 'cat.jpg');
		INSERT INTO faces VALUES (300, 'bad', 1, NULL, NULL, 101)});
	($status, $out, $error) = faceattr(@query, 'SELECT * FROM faces ORDER BY id', '--epochs', '1', $fresh->());
	is($status, 0, 'train from a query') or diag $error;
	like($error, qr/27 images: \d+ faces to train on, \d+ to validate on; left out: 1 bad images, \d photos without a face, [12] with several/,
		'what was left out is counted');
	my ($for_training, $for_validation) = $error =~ /(\d+) faces to train on, (\d+) to validate on/;
	like($error, qr/id 300 \(row 27\) skipped: .*text/, 'and named');
	like($error, qr/skipped: there are \d+ faces, and no box says which is meant/, 'with the reason');
	ok(-s "$dir/best.safetensors", 'weights are kept');
	is((stat "$dir/train.crops")[2] & 0777, 0600, "the cache is the owner's alone");
	ok(!-e "$dir/train.crops.part", 'and whole');

	# resumed from the cache: neither table nor server is needed
	query('DROP TABLE faces');
	($status, $out, $error) = faceattr(@train, @share, '--dsn', 'host=/nowhere', '--query', 'SELECT * FROM faces ORDER BY id',
		'--epochs', '2', '--resume', '--output', $dir);
	is($status, 0, 'resume without the table') or diag $error;
	like($error, qr/$for_training faces, $for_validation to validate on/, 'on the same faces');
	($status, $out, $error) = faceattr(@train, '--dsn', $dsn, '--query', 'SELECT 1', '--epochs', '3', '--resume', '--output', $dir);
	isnt($status, 0, 'resume with another query: an error');
	like($error, qr/made from another query/, 'that says so');
	my $caches = $dir;
	($status, $out, $error) = faceattr(@train, '--data', "$caches/train.crops", '--val', "$caches/val.crops", '--epochs', '1', $fresh->());
	is($status, 0, 'the caches are data, too') or diag $error;
	($status, $out, $error) = faceattr('evaluate', '--json', '--crops', '--data', "$caches/val.crops");
	is($status, 0, 'to evaluate on as well') or diag $error;
	is(decode_json($out)->{count}, $for_validation, 'all of it');

	# The middle of a cached crop is what the network sees of the photo: the shipped model says the same.
	query(q{CREATE TABLE portraits AS SELECT n AS id, image, 0 AS age, n AS person
		FROM photos, generate_series(1, 8) n WHERE name IN ('portrait.jpg', 'close-up.jpg')});
	my @large = @query;
	s/^64$/224/ for @large;
	($status, $out, $error) = faceattr(@large, 'SELECT * FROM portraits', '--epochs', '1', $fresh->());
	is($status, 0, 'crops of the size that is in use') or diag $error;
	($status, $out, $error) = faceattr('evaluate', '--json', '--crops', '--data', "$dir/train.crops");
	is($status, 0, 'and the shipped model on them') or diag $error;
	my $of_crops = decode_json($out)->{age_mae};
	my $of_photos = query('SELECT avg(f.age) FROM portraits, face_attributes(image) f');
	cmp_ok(abs($of_crops - $of_photos), '<', 1, "its ages of crops are those of photos: $of_crops, $of_photos");

	# other sets of labels: FairFace's races, from the query to the model file
	my $fair = q{SELECT n AS id, image, int4range(10 * (n % 3), 10 * (n % 3) + 10) AS age, n % 2 AS gender, (ARRAY['East Asian', 'Indian', 'Black',
		'White', 'Middle Eastern', 'Latino_Hispanic', 'Southeast Asian'])[n % 7 + 1] AS race FROM photos, generate_series(1, 28) n WHERE name = 'grey.jpg'};
	($status, $out, $error) = faceattr(@query, $fair, '--crops', '--epochs', '1', $fresh->());
	is($status, 0, 'train seven races') or diag $error;
	($status, $out, $error) = faceattr('calibrate', '--init', "$dir/best.safetensors", '--val', "$dir/val.crops", '--output', "$dir/model.safetensors");
	is($status, 0, 'calibrate them') or diag $error;
	($f, $said) = figures($fair, '--model', "$dir/model.safetensors", '--crops');
	is(join(',', sort keys %{ $f->{race} }), 'Black,East Asian,Indian,Latino_Hispanic,Middle Eastern,Southeast Asian,White', 'evaluate them');
	unlike($said, qr/does not know/, 'the model knows them all');
	($f, $said) = figures($fair, '--crops');
	like($said, qr/the model does not know the race "East Asian"/, 'the shipped one does not');

	# a directory of photos, labelled by a table
	my $photos = temporary_path('photos');
	mkdir $photos or die $!;
	for my $i (1 .. 4)
	{
		write_image("photos/$_$i.jpg", slurp_file(photo_path("$_.jpg"))) for 'grey', 'close-up';
	}
	write_image('photos/all.jpg', slurp_file(photo_path('sheet.jpg')));
	write_image('photos.tsv', join "\n", "file\tage\tgender", map { ("grey$_.jpg\t30-39\tmale", "close-up$_.jpg\t20\tFemale") } 1 .. 4);
	($status, $out, $error) = faceattr(@train, '--data', $photos, '--val', $photos, '--photos', '--epochs', '1', $fresh->());
	is($status, 0, 'train on a directory of photos') or diag $error;
	like($error, qr/9 images: 8 faces to train on, 0 to validate on; left out: 0 bad images, 0 photos without a face, 1 with several/,
		'detected and aligned');

	# ready chips; the transaction is over when training begins
	query('CREATE TABLE chips AS SELECT id * 10 + n AS key, image, n AS age FROM photos, generate_series(1, 4) n');
	my ($out, $error) = ('', '');
	my $run = IPC::Run::start([ 'faceattr', @query, 'SELECT key, image, age FROM chips', '--crops', '--epochs', '100000', $fresh->() ],
		'>', \$out, '2>', \$error);
	$run->pump_nb until $error =~ /steps an epoch/ || !$run->pumpable;
	like($error, qr/28 images: \d+ faces to train on/, 'chips are taken as they are');
	is(query(q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'faceattr %'}), '0', 'no session is left while it trains');
	$run->signal('INT');
	$run->finish;
	is($run->result(0), 130, 'an interrupt ends it');

	query('INSERT INTO chips SELECT 1000 + n, image, n FROM photos, generate_series(1, 20) n');
	($status, $out, $error) = faceattr(@query, 'SELECT image, age FROM chips', '--crops', '--cache-size', '1', $fresh->());
	is($status, 1, 'a cache that is too small: an error');
	like($error, qr/cache of crops is full: It holds \d+ faces and at most 1 MB/, 'with the numbers');
	ok(!-e "$dir/train.crops.part", 'nothing half is left');
	cancels('train', 'SELECT image, 1 AS age FROM photos, pg_sleep(600)', @train, $fresh->());
}

done_testing();
