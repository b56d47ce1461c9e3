# From a table to a published model: README's commands, what is refused before a training begins,
# its progress in pg_stat_activity, and that nothing is lost on the way.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('train');
delete $ENV{PGAPPNAME};
delete $ENV{FACEATTR_WEIGHTS};
my $dsn = $node->connstr('postgres');
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# Small and quick; the weights to start from, the detector and the template are the installed ones.
my @small = ('--size', '64', '--batch', '4', '--precision', 'fp32', '--threads', '1', '--rate', '1e-4');
my ($dir, $runs) = (undef, 0);
sub fresh { $dir = temporary_path('run') . ++$runs; return ('--output', $dir) }
sub start
{
	my @arguments = @_;
	my %run = (out => '', error => '');
	$run{run} = IPC::Run::start([ 'faceattr', 'train', '--dsn', $dsn, @small, @arguments ], '>', \$run{out}, '2>', \$run{error});
	return \%run;
}
sub train
{
	my $run = start(@_);
	$run->{run}->finish;
	return ($run->{run}->result(0), $run->{out}, $run->{error});
}

# --- README's commands, with other paths, and options that make it quick

my $readme = slurp_file("$ENV{HOME}/README.md");
my ($section) = $readme =~ /^## Models of your own\n(.*?)^## /ms;
my @sql = $section =~ /^```sql\n(.*?)^```/msg;
my ($command) = $section =~ /^    (faceattr train .*)$/m;
my $utkface = temporary_path('UTKFace');
mkdir $utkface or die $!;
my $real = "$ENV{FACEATTR_SHARED}/data/utkface-val.tar";
if (-f $real)
{
	my @names = split /\n/, `tar tf $real`;
	@names = @names[ map { $_ * 20 } 0 .. $#names / 20 ];
	system('tar', 'xf', $real, '-C', $utkface, @names) == 0 or die 'tar';
}
else
{
	for my $n (1 .. 36)
	{
		my $photo = ('portrait.jpg', 'grey.jpg', 'turned-phone.jpg')[ $n % 3 ];
		system('cp', photo_path($photo), sprintf('%s/%d_%d_%d_2017010%d.jpg', $utkface, 20 + $n, $n % 2, $n % 5, $n)) == 0 or die 'cp';
	}
}
write_image('UTKFace/readme.txt', 'no photo');
chmod 0755, $utkface;
$sql[0] =~ s{/srv/UTKFace}{$utkface}g;
query($sql[0]);
my $count = query('SELECT count(*) FROM people');
cmp_ok($count, '>=', 36, "README: a table of $count people");
ok($command =~ s/"host=db dbname=photos"/"$dsn"/, 'README: a command');
my $here = temporary_path('here');
mkdir $here;
my $typed = "cd $here && $command " . join(' ', @small) . ' --epochs 1 --head-epochs 0 --val-share 0.3';
my ($out, $error) = ('', '');
ok(IPC::Run::run([ 'sh', '-c', $typed ], '>', \$out, '2>', \$error), 'README: train') or diag $error;
like($error, qr{starts from \S*/default\.safetensors, the shipped model}, 'says what it starts from');
like($error, qr/heads of the model: age, gender, race \(/, 'and what it learns');
like($error, qr/head $_: goes on from there/, "with its head of $_") for 'age', 'gender', 'race';
like($out, qr/SET faceattr\.model = 'utk'/, 'says how to use it');
my $answer = query($sql[1]);
my @rows = split /\n/, $answer;
my $row = query(q{SELECT row_to_json(m) FROM (SELECT name, network, metrics, hyper_parameters, query, row_count,
	owner = current_user AS mine, octet_length(weights) AS bytes, encode(sha256, 'hex') AS sha256 FROM face_model) m});
my $model = JSON::PP->new->utf8->decode($row);
is("$model->{name} $model->{network} $model->{query}", 'utk mobilenet_v1 SELECT image, age, gender, race FROM people', 'published');
my ($trained, $validated) = $error =~ /(\d+) faces to train on, (\d+) to validate on/;
is($model->{row_count}, $trained, 'with the number of rows trained on');
is($model->{metrics}{count}, $validated, 'the metrics of those held back');
ok(defined $model->{metrics}{$_}, "among them $_: $model->{metrics}{$_}") for 'age_mae', 'age_interval_coverage', 'gender_accuracy', 'race_accuracy';
is($model->{hyper_parameters}{rate}, 1e-4, 'hyper-parameters: those given');
is($model->{hyper_parameters}{optimizer}, 'adamw', 'and those not');
unlike($row, qr/dbname|\bhost=/, 'but no connection string');
cmp_ok(scalar @rows, '>', 3, 'README: a query over photos, by the new model, and the models there are');
is(query(q{SET faceattr.model = 'utk'; SELECT count(*), count(f.gender), count(f.race) FROM photos, face_attributes(image) f}),
	query(q{SELECT count(*), count(*), count(*) FROM photos, face_detect(image) f}), 'it says something of every face that is found');
is(-s "$here/faceattr-utk/model.safetensors", $model->{bytes}, 'the model is a file, too');

# the same by calibrate: one way to make a model
my $calibrated = temporary_path('calibrated.safetensors');
ok( IPC::Run::run([ 'faceattr', 'calibrate', '--init', "$here/faceattr-utk/best.safetensors", '--val', "$here/faceattr-utk/val.crops",
		'--output', $calibrated ], '>', \$out, '2>', \$error), 'calibrate needs to be told nothing') or diag $error;
is(query(qq{SELECT sha256 = sha256(pg_read_binary_file('$calibrated')) FROM face_model}), 't', 'and makes the same model');

# the figures are what evaluate says of the same faces
ok( IPC::Run::run([ 'faceattr', 'evaluate', '--json', '--crops', '--precision', 'fp32', '--data', "$here/faceattr-utk/val.crops",
		'--model', $calibrated ], '>', \$out, '2>', \$error), 'evaluate') or diag $error;
cmp_ok(abs(decode_json($out)->{age_mae} - $model->{metrics}{age_mae}), '<', 0.2, 'which evaluate judges as the metrics do');

# --- Refused before it begins

query(q{
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN IN ROLE alice; CREATE ROLE dave LOGIN;
	GRANT SELECT ON people TO alice, bob, carol, dave;
	GRANT INSERT, UPDATE ON face_model TO alice, bob});
my @quick = ('--query', 'SELECT image, age FROM people', '--crops', '--epochs', '1', '--head-epochs', '0', '--val-share', '0.3');
sub refused
{
	my ($pattern, $name, @arguments) = @_;
	my ($status, $out, $error) = train(@quick, fresh(), @arguments);
	is($status, 1, "$name: an error");
	like($error, $pattern, $name);
	ok(!-e $dir, "$name: before anything is begun");
	return;
}
refused(qr/may not publish models: Run GRANT/, 'no right', '--publish', 'mine', '--dsn', "$dsn user=dave");

refused(qr/model "utk" belongs to role/, "another's model", '--publish', 'utk', '--dsn', "$dsn user=bob");
refused(qr/model name "default" is reserved/, 'a reserved name', '--publish', 'default');
refused(qr/face_model_name_check/, 'a name that is too long', '--publish', 'x' x 64);
refused(qr/face_model_name_check/, 'no name', '--publish', '');
refused(qr/has no extension faceattr/, 'no extension', '--publish', 'x', '--dsn', $node->connstr('template1'));
refused(qr/could not connect/, 'no server', '--publish', 'x', '--dsn', 'host=/nowhere');
is(query('SELECT string_agg(name, $$,$$) FROM face_model'), 'utk', 'and nothing is published');
query(q{DELETE FROM face_model});
my $status;

# wrong labels are found out before the first step, too
($status, $out, $error) = train('--query', 'SELECT image, age FROM people', '--crops', '--val-share', '0.3', '--metric', 'race', fresh());
like($error, qr/no validation image has the label that --metric chooses by/, 'a metric without labels');
unlike($error, qr/layers train/, 'is found out before the first step');
($status, $out, $error) = train('--query', 'SELECT image, id AS person FROM people', '--crops', '--val-share', '0.3', fresh());
like($error, qr/no label to train a head by/, 'so is that there is nothing to learn');

# --- One head; a member of the owner's role replaces it

($status, $out, $error) = train(@quick, fresh(), '--publish', 'years', '--dsn', "$dsn user=alice");
is($status, 0, 'only ages') or diag $error;
is(query(q{SELECT bool_and(age BETWEEN 0 AND 100), bool_and(age_low <= age AND age <= age_high), count(*) > 3, count(gender), count(gender_confidence), count(race),
	count(race_confidence) FROM photos, face_attributes(image, 'years')}), 't|t|t|0|0|0|0', 'a model of one head: the other columns are NULL');
like(($node->psql('postgres', q{SELECT face_probabilities(image, 'gender', 'years') FROM photos LIMIT 1}))[2], qr/no head "?gender/, 'it has no other');
($status, $out, $error) = train('--query', 'SELECT image, gender FROM people', '--crops', '--epochs', '1', '--head-epochs', '0', '--val-share', '0.3',
	fresh(), '--publish', 'years', '--dsn', "$dsn user=carol");
is($status, 0, 'only genders, by a member of the owner') or diag $error;
is(query(q{SELECT count(age), count(age_low), count(*) = count(gender), count(race) FROM photos, face_attributes(image, 'years')}), '0|0|t|0', 'age is NULL then');
is(query('SELECT owner FROM face_model'), 'alice', 'replaced');
($status, $out, $error) = train('--query', 'SELECT image, age, gender, race FROM people', '--crops', '--epochs', '1', '--head-epochs', '0',
	'--val-share', '0.3', '--weights', '0,0,1,0', fresh(), '--publish', 'race');
is($status, 0, 'a head whose loss weighs nothing is none') or diag $error;
is(query(q{SELECT count(age), count(gender), count(*) = count(race) FROM photos, face_attributes(image, 'race')}), '0|0|t', 'so the labels of a third one count alone');

# five races of other names are not the shipped model's five
my $five = q{SELECT image, (ARRAY['Elf', 'Dwarf', 'Human', 'Orc', 'Hobbit'])[id % 5 + 1] AS race FROM people};
($status, $out, $error) = train('--query', $five, '--crops', '--epochs', '1', '--head-epochs', '0', '--val-share', '0.3', fresh());
like($error, qr/head race: begins anew/, 'a head of other labels is not kept');

# --- FairFace's races

query(q{CREATE VIEW fair AS SELECT n AS id, image, int4range(10 * (n % 3), 10 * (n % 3) + 10) AS age, n % 2 AS gender, (ARRAY['East Asian', 'Indian', 'Black',
	'White', 'Middle Eastern', 'Latino_Hispanic', 'Southeast Asian'])[n % 7 + 1] AS race FROM photos, generate_series(1, 28) n WHERE name = 'grey.jpg'});
($status, $out, $error) = train('--query', 'SELECT * FROM fair', '--crops', '--epochs', '1', '--head-epochs', '0', '--val-share', '0.3', fresh(), '--publish', 'fair');
is($status, 0, 'seven races') or diag $error;
like($error, qr/head race: begins anew/, 'which the shipped model does not know');
like($error, qr/head gender: goes on from there/, 'while it knows the genders');
is(query(q{SELECT string_agg(label, ',' ORDER BY label), round(sum(probability)::numeric, 3)
	FROM photos, face_probabilities(image, 'race', 'fair') WHERE name = 'grey.jpg'}),
	'Black,East Asian,Indian,Latino_Hispanic,Middle Eastern,Southeast Asian,White|1.000', 'show in SQL');
is(query(q{SELECT f.race = (SELECT label FROM face_probabilities(image, 'race', 'fair') ORDER BY probability DESC LIMIT 1)
	FROM photos, face_classify(image, 'fair') f WHERE name = 'grey.jpg'}), 't', 'the likeliest is the face\'s');

# --- An embedding alone

($status, $out, $error) = train('--task', 'embed', '--query', 'SELECT image, id % 10 AS person FROM people', '--crops', '--epochs', '1',
	'--batch', '8', '--val-share', '0.4', fresh(), '--publish', 'persons');
is($status, 0, 'an embedding') or diag $error;
is(query(q{SELECT count(*) > 3, bool_and(abs(1 - (SELECT sqrt(sum(x::float8 * x)) FROM unnest(e) x)) < 1e-5 AND cardinality(e) = 1024)
	FROM photos, face_embedding(image, 'persons') e}), 't|t', 'is for face_embedding');
is(query(q{SELECT count(box) = count(*), count(score) > 3, count(age), count(gender), count(race) FROM photos, face_attributes(image, 'persons')}),
	't|t|0|0|0', 'face_attributes tells boxes and scores');
is(query(q{SELECT count(*), count(age) FROM photos, face_classify(image, 'persons')}), query('SELECT count(*), 0 FROM photos'), 'face_classify nothing');
is(query(q{SELECT bool_and(length(face_annotate(image, 'persons')) > 1000) FROM photos}), 't', 'face_annotate draws boxes');
is(query(q{SELECT (metrics ->> 'verification_accuracy')::float8 BETWEEN 0 AND 100, (metrics ->> 'count')::int > 0 FROM face_model WHERE name = 'persons'}),
	't|t', 'verification accuracy is its figure');

# --- Watched, killed and gone on with: the same model to the bit

my @long = ('--query', 'SELECT image, age, gender, race FROM people', '--crops', '--epochs', '4', '--head-epochs', '1', '--val-share', '0.3');
my $shown = q{SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name ~ '^faceattr train: epoch [1-5]/5, loss \d+\.\d+$'
	AND state = 'idle' AND xact_start IS NULL AND backend_xmin IS NULL};
my $run = start(@long, fresh(), '--publish', 'killed', '--save-every', '0');
my $killed = $dir;
ok($node->poll_query_until('postgres', $shown), 'progress in pg_stat_activity, out of any transaction');
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'faceattr train:%'});
ok($node->poll_query_until('postgres', $shown), 'which comes back when its session was ended');
my $deadline = time + 180;
sleep 1 until -f "$killed/last.safetensors" || time > $deadline;
ok($run->{run}->pumpable, 'the training goes on');
kill 'KILL', map { $_->{PID} } @{ $run->{run}{KIDS} };
$run->{run}->finish;
is($run->{run}->full_result & 127, 9, 'until it is killed');
is(query(q{SELECT count(*) FROM face_model WHERE name = 'killed'}), '0', 'nothing is published');
my $resumed = start(@long, '--output', $killed, '--resume', '--publish', 'killed');
($status, $out, $error) = train(@long, fresh(), '--publish', 'whole');
is($status, 0, 'a training without a break') or diag $error;
$resumed->{run}->finish;
is($resumed->{run}->result(0), 0, 'resumed') or diag $resumed->{error};
unlike($resumed->{error}, qr/warning/, 'as it was');
is(query(q{SELECT count(DISTINCT sha256), count(*), count(DISTINCT metrics), count(DISTINCT hyper_parameters), count(DISTINCT row_count)
	FROM face_model WHERE name IN ('killed', 'whole')}), '1|2|1|1|1', 'the same model to the bit');

# --- Publishing fails at the end: nothing is lost

my $people = q{SELECT image, age, gender, race FROM people WHERE 'it''s' <> ''};
$run = start(@quick, fresh(), '--query', $people, '--publish', 'late', '--dsn', "$dsn user=bob password=secret");
my $late = $dir;
$run->{run}->pump until $run->{error} =~ /steps an epoch/ || !$run->{run}->pumpable;
query('REVOKE INSERT ON face_model FROM bob');
$run->{run}->finish;
is($run->{run}->result(0), 1, 'a right that is lost meanwhile: an error');
like($run->{error}, qr/role "bob" may not publish models/, 'that says so');
ok(-s "$late/model.safetensors", 'the model is kept');
my ($again) = $run->{error} =~ /^(faceattr publish .*)$/m;
unlike($again // '', qr/secret/, 'the command that makes up for it has no password');
ok(!IPC::Run::run([ 'sh', '-c', $again ], '>', \$out, '2>', \$error), 'and is refused still');
query('GRANT INSERT ON face_model TO bob');
ok(IPC::Run::run([ 'sh', '-c', $again ], '>', \$out, '2>', \$error), 'until there is the right again') or diag $error;
is(query(qq{SELECT owner, query = \$\$$people\$\$, row_count, metrics IS NOT NULL, hyper_parameters ->> 'epochs',
	weights = pg_read_binary_file('$late/model.safetensors') FROM face_model WHERE name = 'late'}),
	"bob|t|" . query("SELECT row_count FROM face_model WHERE name = 'whole'") . '|t|1|t', 'with all that is known of it');
query(q{DELETE FROM face_model WHERE name = 'late'});
($status, $out, $error) = train(@quick, '--output', $late, '--query', $people, '--resume', '--publish', 'late');
is($status, 0, 'so does --resume') or diag $error;
is(query(q{SELECT count(*) FROM face_model WHERE name = 'late'}), '1', 'once more');

done_testing();
