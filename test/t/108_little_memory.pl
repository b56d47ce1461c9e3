# Too little memory, or no threads, for a network in a session: an error or an answer, and never the end of the server.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('little', 'restart_after_crash = off');
load_photos($node);
my $expected = $node->safe_psql('postgres', "SELECT face_array(image, 'default')::text FROM photos WHERE name = 'portrait.jpg'");

# A backend whose address space ends so many MB beyond what it has when it has the library.
my ($memory_errors, $answers, @else) = (0, 0);
for (my $room = 0; $room <= 224; $room += 16)
{
	my ($result, $out, $error) = $node->psql('postgres', qq{
		LOAD 'faceattr';
		COPY (SELECT 1) TO PROGRAM 'prlimit --pid \$PPID --as=\$((\$(awk ''/VmSize/ {{print \$2}}'' /proc/\$PPID/status) * 1024 + $room * 1048576))';
		SELECT face_array(image, 'default')::text FROM photos WHERE name = 'portrait.jpg'});
	if ($out eq $expected) { $answers++ }
	elsif ($error =~ /ERROR:  .*(?:memory|oneDNN cannot be loaded)/) { $memory_errors++ }
	else { push @else, "$room MB: $error" }
}
is(join("\n", @else), '', 'with little memory: an answer, or an error that says so');
cmp_ok($memory_errors, '>', 2, 'there was too little');
cmp_ok($answers, '>', 2, 'and enough');

# No thread more: fewer do.
is( $node->safe_psql('postgres', qq{
		LOAD 'faceattr';
		COPY (SELECT 1) TO PROGRAM 'prlimit --pid \$PPID --nproc=1';
		SET faceattr.threads = 4;
		SELECT face_array(image, 'default')::text FROM photos WHERE name = 'portrait.jpg'}),
	$expected, 'without another thread: an answer');

is($node->safe_psql('postgres', 'SELECT 1'), 1, 'the server is there');
unlike(slurp_file($node->logfile), qr/was terminated by signal|Thread creation failed/, 'and has lost nobody');
done_testing();
