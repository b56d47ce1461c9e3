# Real photos: what is found in them, and that all ways to ask agree.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('faces');
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

# In every form of the portrait there is the one face, where we know it to be: in
# the 512 x 512 original it spans (175, 70) to (275, 190).
my %expected = (
	'portrait.jpg' => [175, 70, 275, 190],
	'turned-phone.jpg' => [175, 70, 275, 190],
	'grey.jpg' => [75, 70, 175, 190],
	'close-up.jpg' => [150, 330, 750, 1050],
);
for my $name (sort keys %expected)
{
	my ($x1, $y1, $x2, $y2) = @{ $expected{$name} };
	is( query(qq{
		SELECT count(*), bool_and(area(f.box # b.box) / (area(f.box) + area(b.box) - area(f.box # b.box)) > 0.5)
		FROM photos, face_attributes(image) f, (SELECT box '($x1,$y1),($x2,$y2)') b (box)
		WHERE name = '$name'}),
		'1|t', "$name: one face, where it is");
}

# Landmarks lie where the face's parts are: in the portrait at eyes (202, 100) and
# (247, 104), nose (223, 120), mouth (205, 143) and (240, 147), to 8 pixels.
is( query(q{
	SELECT bool_and(l <-> e < 8) FROM photos, face_detect(image) f,
		unnest(f.landmarks, ARRAY[point(202,100), point(247,104), point(223,120), point(205,143), point(240,147)]) u (l, e)
	WHERE name = 'portrait.jpg'}),
	't', 'landmarks of the portrait');

# A tilted head: the line between the eyes says how much.
is( query(q{
	SELECT count(*), bool_and(abs(degrees(atan2((landmarks[1])[1] - (landmarks[2])[1],
		(landmarks[2])[0] - (landmarks[1])[0])) - 16) < 8)
	FROM photos, face_detect(image) WHERE name = 'tilted.png'}),
	'1|t', 'tilted.png: one face, tilted');

# The sheet's 29 faces: one to a tile, largest first. (Its last row of 8 has
# faces of 17 pixels and is not counted on.)
my $sheet = query(q{
	WITH tiles AS (
		SELECT box(point((2*i + 1) * 640 / n - w * 0.3, y + w * 1.125 * 0.25), point((2*i + 1) * 640 / n + w * 0.3, y + w * 1.125 * 0.9)) AS tile
		FROM (VALUES (400, 3, 16), (180, 5, 476), (110, 6, 688), (64, 7, 821)) AS r (w, n, y),
			generate_series(0, n - 1) i),
	found AS (SELECT f.* FROM photos, face_attributes(image) f WHERE name = 'sheet.jpg')
	SELECT (SELECT count(*) FROM tiles), (SELECT count(*) FROM found),
		(SELECT count(*) FROM tiles WHERE (SELECT count(*) FROM found WHERE tile @> (@@ box)) = 1)});
my ($tiles, $found, $once) = split /\|/, $sheet;
cmp_ok($once, '>=', $tiles - 2, "sheet.jpg: $once of $tiles larger faces found, once each");
cmp_ok($found, '<=', 29, "sheet.jpg: $found faces in all, of 29");
is(query(q{
	SELECT bool_and(area >= next) FROM (
		SELECT area(box), lead(area(box)) OVER (ORDER BY n) AS next
		FROM photos, face_attributes(image) WITH ORDINALITY
			AS f (box, score, landmarks, age, al, ah, gender, gc, race, rc, n)
		WHERE name = 'sheet.jpg') s}),
	't', 'largest first');

# All ways to ask give the same faces.
is( query(q{
	SELECT count(*), sum(faces), bool_and(same) FROM (
		SELECT (SELECT array_agg(f)::text FROM face_attributes(image) f) IS NOT DISTINCT FROM nullif(face_array(image, 'default')::text, '{}')
			AND (SELECT array_agg(f)::text FROM face_attributes(image, 'default') f) IS NOT DISTINCT FROM nullif(face_array(image, 'default')::text, '{}')
			AS same, cardinality(face_array(image, 'default')) AS faces FROM photos) s}) =~ s/\|\d+\|/||/r,
	'7||t', 'rows and array agree, session and model');
is( query(q{
	SELECT count(*) FROM photos,
		(SELECT 1) one, LATERAL (SELECT count(*) AS n FROM face_embedding(image)) e, LATERAL (SELECT count(*) AS n FROM face_attributes(image)) f
	WHERE e.n <> f.n}),
	'0', 'an embedding for each face');
is( query(q{
	SELECT bool_and(abs(1 - norm) < 1e-4), count(DISTINCT n) FROM (
		SELECT sqrt(sum(v::float8 * v)) AS norm, count(*) AS n
		FROM photos, face_embedding(image, 'default') WITH ORDINALITY AS e (vector, i), unnest(vector) v
		GROUP BY id, i) s}),
	't|1', 'embeddings are of unit length, and one dimension');

# The same person at the same pose is nearer than the same person's other photo is to nothing at all.
is( query(q{
	WITH e AS (SELECT name, vector FROM photos, face_embedding(image) vector WHERE name IN ('portrait.jpg', 'turned-phone.jpg')),
	s AS (SELECT sum(a.v::float8 * b.v) AS cosine FROM (SELECT * FROM e WHERE name = 'portrait.jpg') x, (SELECT * FROM e WHERE name = 'turned-phone.jpg') y,
		unnest(x.vector, y.vector) AS u (a, b), LATERAL (SELECT a) a (v), LATERAL (SELECT b) b (v))
	SELECT cosine > 0.97 FROM s}),
	't', 'an orientation tag does not change who it is');

# Values make sense and belong together.
is( query(q{
	SELECT bool_and(age BETWEEN age_low AND age_high AND age_low >= 0 AND age_high <= 100
		AND score BETWEEN 0.5 AND 1 AND gender_confidence BETWEEN 0.5 AND 1 AND race_confidence BETWEEN 0.2 AND 1
		AND gender IN ('male', 'female') AND race IN ('White', 'Black', 'Asian', 'Indian', 'Other'))
	FROM photos, face_attributes(image)}),
	't', 'ranges of all columns');
is( query(q{
	SELECT bool_and(age IS NULL AND age_low IS NULL AND gender IS NULL AND race_confidence IS NULL AND score >= 0.5)
	FROM photos, face_detect(image)}),
	't', 'face_detect leaves attributes NULL');
is( query(q{
	SELECT abs((f).age - (SELECT sum(label::int * probability) FROM face_probabilities(image, 'age'))) < 0.1
		AND abs((f).gender_confidence - (SELECT max(probability) FROM face_probabilities(image, 'gender'))) < 0.001
		AND (f).race = (SELECT label FROM face_probabilities(image, 'race') ORDER BY probability DESC LIMIT 1)
	FROM (SELECT image, face_classify(image) f FROM photos WHERE name = 'close-up.jpg') s}),
	't', 'a crop\'s attributes follow from its probabilities');
is( query(q{
	SELECT bool_and(abs((one).age - (many).age) < 0.05 AND (one).gender = (many).gender AND (one).box ~= (many).box)
	FROM (SELECT array_agg(image ORDER BY id) AS images FROM photos) a,
		unnest(images) WITH ORDINALITY AS i (image, n), LATERAL (SELECT face_classify(image)) o (one),
		LATERAL (SELECT f FROM face_classify(images) WITH ORDINALITY AS g (box, score, landmarks, age, al, ah, gender, gc, race, rc, m),
			LATERAL (SELECT g.box, g.age, g.gender) f WHERE m = n) m (many)}),
	't', 'a batch says what single calls say');

# Settings steer the forms without a model, and those only.
my $all = query(q{SELECT count(*) FROM photos, face_detect(image) WHERE name = 'sheet.jpg'});
for my $setting (['min_face', 60], ['min_score', 0.9], ['detect_size', 320])
{
	my ($name, $value) = @$setting;
	my $fewer = query(qq{SET faceattr.$name = $value;
		SELECT count(*) FROM photos, face_detect(image) WHERE name = 'sheet.jpg'});
	cmp_ok($fewer, '<', $all, "faceattr.$name = $value: $fewer instead of $all faces");
	cmp_ok($fewer, '>', 0, "faceattr.$name = $value: not none");
	is( query(qq{SET faceattr.$name = $value;
		SELECT cardinality(face_array(image, 'default')) FROM photos WHERE name = 'sheet.jpg'}),
		query(q{SELECT cardinality(face_array(image, 'default')) FROM photos WHERE name = 'sheet.jpg'}),
		"faceattr.$name does not touch a form with a model");
}
is( query(q{SET faceattr.min_face = 60; SELECT bool_and(least(width(box), height(box)) >= 60) FROM photos, face_detect(image)}),
	't', 'no face smaller than min_face');

# Precision and threads change speed, and answers in the last digits at most.
is( query(q{
	CREATE TEMP TABLE usual AS SELECT id, f.age, f.gender, f.box FROM photos, face_attributes(image) f WHERE name <> 'sheet.jpg';
	SET faceattr.precision = fp32;
	SET faceattr.threads = 2;
	SELECT count(*) = (SELECT count(*) FROM usual),
		bool_and(abs(u.age - f.age) < 1 AND (@@ u.box) <-> (@@ f.box) < 3 AND u.gender = f.gender)
	FROM photos p JOIN usual u USING (id), face_attributes(image) f}),
	't|t', 'fp32 and two threads say the same');

# What is drawn is still the photo, upright, in the format asked for.
is( query(q{
	SELECT encode(substr(a, 1, 3), 'hex'), encode(substr(b, 1, 4), 'hex'), encode(substr(b, 17, 8), 'hex')
	FROM (SELECT face_annotate(image) a, face_annotate(image, 'default', 'png') b FROM photos WHERE name = 'turned-phone.jpg') s}),
	'ffd8ff|89504e47|0000020000000200', 'annotated as JPEG and as PNG of 512 x 512');
is( query(q{
	SELECT f.box # g.box IS NOT NULL AND (@@ f.box) <-> (@@ g.box) < 5
	FROM photos, face_detect(image) f, face_detect(face_annotate(image)) g WHERE name = 'turned-phone.jpg'}),
	't', 'the face is still found there');

# The companion program, installed beside the server's, finds the installed weights from anywhere.
my ($out, $err) = run_command([ 'faceattr', 'detect', '--no-attributes', photo_path('portrait.jpg') ]);
like($out, qr/"faces":\[\{"box"/, 'faceattr works where it is installed') or diag($err);

done_testing();
