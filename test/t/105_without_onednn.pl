# A machine without oneDNN: the server starts, preloaded or not, and the call that needs it says so.
use strict;
use warnings;
use lib 'test/t';
use Faceattr;
use PostgreSQL::Test::Utils;
use Test::More;

# a library of its name that is none, before the real one
my $directory = temporary_path('nothing');
mkdir $directory or die "$directory: $!";
my ($name) = map { m{/(libdnnl\.so\.\d+)$} ? $1 : () } glob '/usr/lib/*/libdnnl.so.? /usr/lib64/libdnnl.so.? /usr/local/lib/libdnnl.so.?';
plan skip_all => 'oneDNN is not where it usually is' unless defined $name;
PostgreSQL::Test::Utils::append_to_file("$directory/$name", '');
for my $preload ('', 'faceattr')
{
	my $node;
	{
		local $ENV{LD_LIBRARY_PATH} = $directory;
		$node = new_node("without$preload", "shared_preload_libraries = '$preload'\nfaceattr.device = cpu");
	}
	load_photos($node);
	for (1, 2)
	{
		my ($out, $error);
		$node->psql('postgres', 'SELECT face_attributes(image) FROM photos', stdout => \$out, stderr => \$error);
		like($error, qr/ERROR:  oneDNN cannot be loaded\nDETAIL:  .*\Q$name\E/, 'an error that says what is missing');
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM face_model_version()'), '1', 'what needs no network works');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM photos'), '7', 'the server goes on');
	$node->stop;
}
my ($out, $error) = ('', '');
{
	local $ENV{LD_LIBRARY_PATH} = $directory;
	IPC::Run::run(['faceattr', 'detect', photo_path('portrait.jpg')], '>', \$out, '2>', \$error);
}
like($error, qr/oneDNN cannot be loaded/, 'the companion program says it, too');
done_testing();
