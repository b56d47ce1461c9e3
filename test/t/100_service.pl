# faceattr-service at work: the same answers as the session's own process gives, for every function,
# database, precision and way to decode; when it is started, how long it stays; its settings, its views.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('service');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'faceattr'
faceattr.device = cpu
faceattr.service_slots = 4
max_connections = 100
max_worker_processes = 8
max_parallel_workers_per_gather = 2
restart_after_crash = off});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION faceattr');
load_photos($node);
my $path = photo_path('portrait.jpg');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', "CREATE EXTENSION faceattr; CREATE TABLE photos AS SELECT 'portrait.jpg' AS name, pg_read_binary_file('$path') AS image");
sub query { return $node->safe_psql($_[1] // 'postgres', $_[0]) }
sub errors { return ($node->psql('postgres', $_[0], on_error_stop => 0))[2] =~ s/^psql:<stdin>:\d+: //gmr }
my $here = "SET faceattr.run_in = 'backend';\n";
my $there = "SET faceattr.run_in = 'service';\n";
my $wholly = "${there}SET faceattr.decode_in = 'service';\n";

# --- Nobody has asked for it

is(service($node, 'state, pid, slots, slots_in_use, requests, restarts'), 'stopped||4|0|0|0', 'at rest until somebody asks for it');
query("${here}SELECT count(*) FROM photos, face_attributes(image)");
query("SELECT count(*) FROM photos, face_attributes(image)");
is(service($node, 'state'), 'stopped', 'which backend and, without a GPU, auto do not');

# --- The same answers

# What one can ask, each as one text.
my %ask = (
	attributes => q{SELECT string_agg(name || f::text, ' ' ORDER BY name, f::text) FROM photos, face_attributes(image) f},
	named => q{SELECT string_agg(name || face_array(image, 'default')::text, ' ' ORDER BY name) FROM photos},
	detect => q{SELECT string_agg(name || f::text, ' ' ORDER BY name, f::text) FROM photos, face_detect(image) f},
	embedding => q{SELECT md5(string_agg(f::text, ' ')) FROM photos, face_embedding(image) f WHERE name = 'portrait.jpg'},
	classify => q{SELECT face_classify(image)::text FROM photos WHERE name = 'close-up.jpg'},
	batch => q{SELECT string_agg(f::text, ' ') FROM face_classify((SELECT array_agg(image ORDER BY name) || NULL::bytea FROM photos, generate_series(1, 12))) f},
	probabilities => q{SELECT string_agg(label || probability, ' ') FROM photos, face_probabilities(image, 'age') WHERE name = 'close-up.jpg'},
	scan => q{SELECT string_agg(key || face::text, ' ') FROM face_scan('SELECT name, image FROM photos ORDER BY name')},
	annotate => q{SELECT md5(face_annotate(image, 'default', 'png')) FROM photos WHERE name = 'portrait.jpg'},
	'small faces' => q{SET faceattr.detect_size = 1600; SET faceattr.min_face = 8;
		SELECT string_agg(name || f::text, ' ' ORDER BY name, f::text) FROM photos, face_attributes(image) f});
for my $what (sort keys %ask)
{
	my $expected = query($here . $ask{$what});
	cmp_ok(length $expected, '>', 30, "$what: there is an answer");
	ok(query($there . $ask{$what}) eq $expected, "$what: the service says the same");
	ok(query($wholly . $ask{$what}) eq $expected, "$what: and where it reads the photos, too");
}
for my $precision ('fp32', 'bf16')
{
	my $set = "SET faceattr.precision = '$precision';\n";
	ok(query("$set$there$ask{attributes}") eq query("$set$here$ask{attributes}"), "in $precision");
}
is(query($there . q{SELECT face_array(image, 'default')::text FROM photos}, 'other'),
	query($here . q{SELECT face_array(image, 'default')::text FROM photos}, 'other'), 'another database');

# A scan whose photos are read there has as many in the service at a time as there are threads.
my $scan = q{SELECT count(*), min((face).score), max((face).score) FROM face_scan('SELECT n, image FROM photos, generate_series(1, 40) n WHERE name = ''portrait.jpg''')};
my $shared = 'SELECT sum(n) FROM faceattr_stat_service, unnest(batch_sizes[2:]) n';
my ($batches, $alone) = (query($shared), query("SET faceattr.threads = 1;\n$wholly$scan"));
is(query($shared), $batches, 'one photo of one face after the other: batches of one');
is(query("SET faceattr.threads = 4;\n$wholly$scan"), $alone, 'several at a time: the same faces');
cmp_ok(query($shared), '>', $batches, '... in common batches');
ok(query("SET faceattr.threads = 4;\n$wholly$ask{scan}") eq query($here . $ask{scan}), '... each with its key');
like(errors("${there}BEGIN; DECLARE c CURSOR FOR SELECT * FROM face_scan('SELECT n, image FROM photos, generate_series(1, 40) n');\nMOVE c; SET LOCAL faceattr.decode_in = 'service'; MOVE ALL FROM c"),
	qr/where photos are read has changed during a scan/, 'and who reads them stays the same');

# A model of one's own, by its bytes: two databases, one name.
my @models = map { my $n = $_; model_file("model$n", sub { $_[1][1]{labels} = ["m$n", "f$n"] }) } 0, 1;
query("SELECT face_model_import('mine', '$models[0]')");
query("SELECT face_model_import('mine', '$models[1]')", 'other');
my $gender = q{SELECT (face_array(image, 'mine'))[1].gender FROM photos WHERE name = 'portrait.jpg'};
like(query($there . $gender), qr/^[mf]0$/, 'a published model');
like(query($there . $gender, 'other'), qr/^[mf]1$/, 'and one of the same name elsewhere');
is(query(q{SELECT count(*) FROM faceattr_stat_service_models s JOIN face_model m ON m.sha256 = s.key}), 1, 'each is itself');
is(query(q{SELECT count(*), bool_and(resident), bool_and(memory > 1e6), bool_and(images > 0), bool_and(last_use > now() - interval '1 minute')
	FROM faceattr_stat_service_models WHERE "precision" = (SELECT "precision" FROM faceattr_stat_service_models s JOIN face_model m ON m.sha256 = s.key)}),
	'3|t|t|t|t', 'what the view knows of models');

# Errors about images are the same, too, and no reason for it to end.
my @bad = ("'not an image'::bytea", q{(SELECT substr(image, 1, 10000) FROM photos WHERE name = 'portrait.jpg')});
for my $bad (@bad)
{
	my $sql = "SELECT face_attributes($bad);\nSELECT face_classify($bad)";
	my $expected = errors("SET faceattr.max_pixels = 1000000; $here$sql");
	like($expected, qr/ERROR.*HINT.*ERROR/s, 'a bad image');
	is(errors("SET faceattr.max_pixels = 1000000; $there$sql"), $expected, 'is bad to the service');
	is(errors("SET faceattr.max_pixels = 1000000; $wholly$sql"), $expected, 'wherever it is read');
	is(query("${wholly}SET faceattr.on_bad_image = 'ignore';\nSELECT count(*) FROM face_attributes($bad)"), 0, 'and can be passed over');
}
is(errors("${wholly}SET faceattr.max_pixels = 1000; SELECT face_detect(image) FROM photos WHERE name = 'portrait.jpg'") =~ /image is too large/, 1, 'max_pixels');

# --- What it shows of itself

is(service($node, q{state, pid > 1, engine, device <> '', started BETWEEN pg_postmaster_start_time() AND now(), slots, slots_in_use, queued, restarts}),
	'ready|t|cpu|t|t|4|0|0|0', 'the service');
is(service($node, q{requests > 100, images > 100, batches BETWEEN 50 AND images, wait_time > 0, run_time > 0, abandoned, failed > 0}),
	't|t|t|t|t|0|t', 'what it has done');
is(service($node, '(SELECT sum(b) FROM unnest(batch_sizes) b) = batches AND cardinality(batch_sizes) = 12 AND batch_sizes[4] + batch_sizes[5] + batch_sizes[6] > 0'), 't', 'sizes of batches');
is(query($there . q{SELECT count(*) FROM photos, face_attributes(image); SELECT count(*) FROM faceattr_stat_models WHERE location = 'private' OR pins > 0}), "26\n0", 'a session has no model of its own');
like(errors("SET faceattr.threads = 4;\n${wholly}SET statement_timeout = 700;\n" . $scan =~ s/40/100000/r), qr/statement timeout/, 'a scan with several photos there is cancelled');
ok($node->poll_query_until('postgres', 'SELECT slots_in_use = 0 AND abandoned > 0 FROM faceattr_stat_service'), '... and leaves no slot');
my $pid = service($node, 'pid');
my ($parent) = slurp_file("/proc/$pid/status") =~ /^PPid:\s+(\d+)/m;
like(slurp_file("/proc/$parent/cmdline"), qr/faceattr supervisor/, "the supervisor's child");
my $status = slurp_file("/proc/$pid/status");
like($status, qr/^NoNewPrivs:\s+1$/m, 'without privileges');
ok(!open(my $maps, '<', "/proc/$pid/maps"), 'and its memory, with photos in it, is for nobody to look at');

# --- Settings that it heeds

sub configure
{
	my ($name, $value) = @_;
	$node->append_conf('postgresql.conf', "$name = $value");
	$node->reload;
	ok($node->poll_query_until('postgres', "LOAD 'faceattr'; SELECT current_setting('$name') = '$value'", "LOAD\nt"), "$name = $value");
}
configure('faceattr.batch_delay', '20ms');
# Batches of more than one image that come of eight sessions with one crop each at a time.
sub batches_of_many
{
	my $many = 'batches - batch_sizes[1]';
	my $before = service($node, $many);
	my @sessions = map { background($node, "$there SELECT count(face_classify(image, 'default')) FROM photos, generate_series(1, 30) WHERE name = 'close-up.jpg'") } 1 .. 8;
	is(join('', map { (finish_background($_))[0] } @sessions), "30\n" x 8, 'eight sessions');
	return service($node, $many) - $before;
}
cmp_ok(batches_of_many(), '>', 10, 'what several sessions ask for at once goes together');
configure('faceattr.batch_size', 1);
usleep(300_000); # the service heeds it at once, and sessions may be told before the supervisor is
is(batches_of_many(), 0, 'unless batches are of one image');
configure('faceattr.batch_size', 64);
configure('faceattr.batch_delay', '250us');
is(service($node, 'pid'), $pid, 'a reload does not end it');
configure('faceattr.threads', 2);
ok(service_becomes($node, "state = 'stopped' OR pid <> $pid"), 'but another number of threads does');
my $again = query($there . $ask{attributes});
isnt(service($node, 'pid'), $pid, 'and another has them');
$pid = service($node, 'pid');
like(slurp_file("/proc/$pid/cmdline") =~ tr/\0/ /r, qr/--threads 2 /, 'as an argument');
is($again, query($here . $ask{attributes}), 'and says the same');

# Idle, it ends; and comes back.
configure('faceattr.gpu_idle_timeout', '1s');
ok(service_becomes($node, "state = 'stopped' AND pid IS NULL"), 'idle, it ends');
is(service($node, 'restarts, last_error IS NULL'), '0|t', 'and that is no error');
is(query(q{SELECT count(*) FROM faceattr_stat_service_models}), 0, 'nothing is left of it');
is(query($there . $ask{attributes}), $again, 'it comes back when it is needed');
configure('faceattr.gpu_idle_timeout', '0');

# --- Many sessions, few slots; parallel workers

my $portrait = q{SELECT count(*), count(DISTINCT face_array(image, 'default')::text) FROM photos, generate_series(1, 3) WHERE name = 'portrait.jpg'};
my @sessions = map { background($node, ($_ % 3 == 0 ? $wholly : $there) . $portrait) } 1 .. 64;
is(join(' ', map { my ($out, $status) = finish_background($_); chomp $out; "$out" } @sessions), join(' ', ('3|1') x 64), '64 sessions share 4 slots');
cmp_ok(service($node, 'slots_in_use'), '==', 0, 'and give them back');
query(q{CREATE TABLE many AS SELECT i AS id, image FROM photos, generate_series(1, 12) i WHERE name = 'portrait.jpg';
	ALTER TABLE many SET (parallel_workers = 2); ANALYZE many});
my $all = "SELECT count(*), count(DISTINCT face_array(image, 'default')::text) FROM many";
like(query("${there}EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT face_array(image, 'default') FROM many"), qr/Workers Launched: 2/, 'parallel workers');
is(query("${there}$all"), '12|1', 'ask it, too');

# --- Where it cannot be had

is(errors($wholly . $here . $ask{classify}) , "ERROR:  faceattr.decode_in is service, but faceattr.run_in is backend\nHINT:  Set faceattr.run_in to auto or service.",
	'who decides where to decode is not got around');
is(query("SET faceattr.decode_in = 'service';\nSELECT count(*) FROM photos, face_attributes(image)"), 26, 'under auto, decode_in brings networks there');
is(query('SELECT count(*) FROM photos, face_attributes(image)'), 26, 'auto answers without a GPU, too');
is(query('SELECT count(*) FROM faceattr_stat_models WHERE pins >= 0'), query('SELECT count(*) FROM faceattr_stat_models'), 'by itself');
like(errors("${there}SET faceattr.device = 'gpu'; $ask{classify}"), qr/ERROR:  faceattr-service runs on a CPU\n.*HINT:  Set faceattr.device to auto/s, 'not on the device that one insists on');
like(errors("${there}SET faceattr.precision = 'fp16'; $ask{classify}"), qr/ERROR:  the device of faceattr-service does not compute in that precision\n.*HINT:  Set faceattr.precision/s, 'nor in the precision');
my $plain = new_node('plain');
my $error = ($plain->psql('postgres', "${there}SELECT face_detect('x')"))[2];
like($error, qr/ERROR:  faceattr-service is not running\n.*DETAIL:  The library is not in shared_preload_libraries\.\n.*HINT:  Put faceattr/s, 'not preloaded: none');
is($plain->safe_psql('postgres', 'SELECT state, last_error FROM faceattr_stat_service; SELECT count(*) FROM faceattr_stat_service_models'),
	"none|The library is not in shared_preload_libraries.\n0", 'which the view says, too');
$plain->append_conf('postgresql.conf', "shared_preload_libraries = 'faceattr'\nmax_worker_processes = 0");
$plain->restart;
$error = ($plain->psql('postgres', "${there}SELECT face_detect('x')"))[2];
like($error, qr/ERROR:  faceattr-service is not running\n.*DETAIL:  .*worker.*does not run.*\n.*HINT:  Raise max_worker_processes/, 'nor without a worker to start it');
$plain->stop;

# --- From the start, and on a standby

configure("faceattr.run_in", "service");
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
ok(service_becomes($standby, "state = 'ready'"), 'asked for by postgresql.conf, it is there from the start');
is($standby->safe_psql('postgres', $ask{named}), query($here . $ask{named}), 'a standby is served');
isnt(service($standby, 'pid'), service($node, 'pid'), 'by its own');
$standby->stop;

# --- The end

sub ends
{
	my ($mode) = @_;
	ok(service_becomes($node, "state = 'ready'"), 'a service');
	my $service = service($node, 'pid');
	$node->stop($mode);
	ok(process_ends($service), "$mode shutdown ends it");
	$node->start;
}
$node->restart;
ends($_) for 'smart', 'fast', 'immediate';
ok(service_becomes($node, "state = 'ready'"), 'a service');
my $service = service($node, 'pid');
$node->kill9;
ok(process_ends($service), 'nor does it outlive a postmaster that is killed');
unlike(slurp_file($node->logfile), qr/terminated by signal|PANIC|could not/, 'and all was quiet');
done_testing();
