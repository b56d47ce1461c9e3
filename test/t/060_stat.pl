# The view faceattr_stat: counts that a query over the same photos gives, too.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('stat', "shared_preload_libraries = 'faceattr'\nmax_parallel_workers_per_gather = 2\nmax_worker_processes = 8");
load_photos($node);
sub query { return $node->safe_psql('postgres', $_[0]) }

my $counts = q{SELECT scope, images, faces, damaged, unsupported, too_large, other_errors FROM faceattr_stat};
is(query($counts), 'server|0|0|0|0|0|0', 'nothing yet');

my $faces = query(q{SELECT count(*) FROM photos, face_attributes(image)});
is(query($counts), "server|7|$faces|0|0|0|0", 'photos and faces of another session');
query(q{SELECT count(*) FROM photos, face_detect(image) WHERE name = 'portrait.jpg';
	SELECT count(*) FROM photos, face_embedding(image) WHERE name = 'portrait.jpg';
	SELECT length(face_annotate(image)) FROM photos WHERE name = 'portrait.jpg'});
is(query($counts), join('|', 'server', 10, $faces + 3, 0, 0, 0, 0), 'detect, embedding, annotate');
query(q{SELECT face_classify(image) FROM photos WHERE name = 'close-up.jpg';
	SELECT face_classify(ARRAY[image, NULL, image]) FROM photos WHERE name = 'close-up.jpg';
	SELECT face_probabilities(image, 'age') FROM photos WHERE name = 'close-up.jpg'});
is(query($counts), join('|', 'server', 14, $faces + 7, 0, 0, 0, 0), 'crops');

# Errors by kind, raised, caught or passed over.
query(q{SET faceattr.on_bad_image = 'ignore';
	SELECT face_attributes(substr(image, 1, 10000)), face_classify(substr(image, 1, 10000)) FROM photos WHERE name = 'portrait.jpg';
	SELECT face_attributes('not an image')});
query(q{SELECT try('GIF89a')});
query(q{SET faceattr.max_pixels = 1000; SELECT try(image) FROM photos WHERE name = 'portrait.jpg'});
is(query($counts), join('|', 'server', 19, $faces + 7, 2, 2, 1, 0), 'errors');

# Workers count for all. Ten photos at once: nobody's additions get lost.
query(q{SELECT faceattr_stat_reset();
	CREATE TABLE many AS SELECT i AS id, image FROM photos, generate_series(1, 24) i WHERE name = 'grey.jpg';
	ALTER TABLE many SET (parallel_workers = 2); ANALYZE many});
is(query($counts), 'server|0|0|0|0|0|0', 'reset');
like(query(q{EXPLAIN (ANALYZE, COSTS OFF) SELECT face_array(image, 'default') FROM many}), qr/Workers Launched: [12]/, 'workers');
is(query($counts), 'server|24|24|0|0|0|0', 'count');

# The parts are no more than the whole, and most of it.
my $start = time;
query(q{SELECT faceattr_stat_reset(); SET max_parallel_workers_per_gather = 0; SELECT count(face_array(image, 'default')) FROM many});
my $elapsed = 1000 * (time - $start);
my ($decode, $detect, $classify) = split /\|/, query(q{SELECT decode_time, detect_time, classify_time FROM faceattr_stat});
cmp_ok($_->[1], '>', 0, "$_->[0]: $_->[1] ms") for ['decode', $decode], ['detect', $detect], ['classify', $classify];
cmp_ok($decode + $detect + $classify, '<=', $elapsed, "all of them in $elapsed ms");
cmp_ok($detect, '>', $decode, 'finding faces takes longer than reading a small photo');
is(query(q{SELECT now() - since < '1 minute' AND since < now() FROM faceattr_stat}), 't', 'since the reset');

query(q{CREATE ROLE nobody_special});
is(query(q{SET ROLE nobody_special; SELECT images FROM faceattr_stat}), '24', 'everybody may look');
like(($node->psql('postgres', 'SET ROLE nobody_special; SELECT faceattr_stat_reset()'))[2], qr/permission denied/, 'not everybody reset');

# Counters do not outlive the server; not preloaded, they are the session's.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is( query(qq{SELECT count(face_array(image, 'default')) FROM photos WHERE name IN ('portrait.jpg', 'grey.jpg'); $counts}),
	"2\nsession|2|2|0|0|0|0", 'not preloaded: for this session');
is(query($counts), 'session|0|0|0|0|0|0', 'alone');

done_testing();
