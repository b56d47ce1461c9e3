# Faceattr.pm
#		What the TAP tests share: a server with the extension, photos to ask about,
#		and images made here byte by byte. Tests run in test/sandbox.
package Faceattr;

use strict;
use warnings;
use Compress::Zlib qw(crc32 deflateInit Z_BEST_SPEED);
use Exporter 'import';
use File::Spec;
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(new_node load_photos photo_path temporary_path model_file shipped_file write_image png_bytes flat_png scan_bomb
  huge_baseline background finish_background process_ends service service_becomes);

# A started server with the extension and the function try(): what face_array
# says of an image, as values.
sub new_node
{
	my ($name, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', $conf) if defined $conf;
	$node->start;
	$node->safe_psql('postgres', q{
		CREATE EXTENSION faceattr;
		CREATE FUNCTION try(image bytea, OUT faces int, OUT code text, OUT message text,
			OUT detail text) LANGUAGE plpgsql AS $$
		BEGIN
			faces := cardinality(face_array(image, 'default'));
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
				detail = PG_EXCEPTION_DETAIL;
		END $$});
	return $node;
}

sub photo_path
{
	my ($name) = @_;
	return "$ENV{HOME}/demo/photos/$name";
}

# Table photos (id, name, image) with the demo's photos.
sub load_photos
{
	my ($node) = @_;
	my $directory = photo_path('');
	$node->safe_psql('postgres', qq{
		CREATE TABLE photos (id int PRIMARY KEY, name text, image bytea);
		INSERT INTO photos
		SELECT row_number() OVER (ORDER BY name), name, pg_read_binary_file('$directory' || name)
		FROM pg_ls_dir('$directory') name});
}

my $temporary = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir());

# Where test and server can both write.
sub temporary_path
{
	my ($name) = @_;
	return "$temporary/$name";
}

# --- Models

sub shipped_file
{
	my ($name) = @_;
	chomp(my $directory = qx(pg_config --sharedir));
	return "$directory/extension/faceattr/$name.safetensors";
}

# The shipped one with other metadata. $change gets them as a hash of strings,
# and its heads as a decoded list; the path.
sub model_file
{
	my ($name, $change) = @_;
	my $bytes = slurp_file(shipped_file('default'));
	my $length = unpack('Q<', $bytes);
	my $json = JSON::PP->new->canonical->utf8;
	my $header = $json->decode(substr($bytes, 8, $length));
	my $metadata = $header->{__metadata__};
	my $heads = $json->decode($metadata->{heads});
	$change->($metadata, $heads) if defined $change;
	$metadata->{heads} = $json->encode($heads);
	my $text = $json->encode($header);
	$text .= ' ' x (-length($text) % 8);
	return write_image("$name.safetensors", pack('Q<', length $text) . $text . substr($bytes, 8 + $length));
}

# Writes bytes where the server can read them; the path.
sub write_image
{
	my ($name, $bytes) = @_;
	my $path = temporary_path($name);
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $bytes;
	close $file or die "$path: $!";
	chmod 0644, $path;
	return $path;
}

# --- PNG

sub png_chunk
{
	my ($type, $data) = @_;
	return pack('N', length $data) . $type . $data . pack('N', crc32($type . $data));
}

# A PNG from its header's fields and already compressed data; further chunks come before those.
sub png_bytes
{
	my ($width, $height, $bits, $colour, $interlace, $data, @chunks) = @_;
	return "\x89PNG\r\n\x1a\n"
	  . png_chunk('IHDR', pack('NNCCCCC', $width, $height, $bits, $colour, 0, 0, $interlace))
	  . join('', @chunks)
	  . png_chunk('IDAT', $data)
	  . png_chunk('IEND', '');
}

# A black RGB PNG: many pixels in few bytes.
sub flat_png
{
	my ($width, $height, $interlace) = @_;
	# Adam7's passes: first column and row, and the steps between them.
	my @passes = $interlace
	  ? ([0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2])
	  : ([0, 0, 1, 1]);
	my $left = 0;
	for my $pass (@passes)
	{
		my ($x, $y, $dx, $dy) = @$pass;
		my ($columns, $rows) = (int(($width - $x + $dx - 1) / $dx), int(($height - $y + $dy - 1) / $dy));
		$left += $rows * (1 + 3 * $columns) if $columns > 0;
	}
	my ($deflate) = deflateInit(-Level => Z_BEST_SPEED);
	my $zeros = "\0" x (1 << 20);
	my $data = '';
	while ($left > 0)
	{
		my $n = $left < length $zeros ? $left : length $zeros;
		my ($out) = $deflate->deflate(substr($zeros, 0, $n));
		$data .= $out;
		$left -= $n;
	}
	my ($out) = $deflate->flush;
	return png_bytes($width, $height, 8, 2, $interlace ? 1 : 0, $data . $out);
}

# --- Greyscale JPEG whose blocks are all zero

sub jpeg_segment
{
	my ($marker, $data) = @_;
	return "\xff" . chr($marker) . pack('n', 2 + length $data) . $data;
}

sub jpeg_header
{
	my ($sof, $width, $height) = @_;
	return "\xff\xd8"
	  . jpeg_segment(0xdb, "\0" . ("\x01" x 64))
	  . jpeg_segment($sof, pack('CnnCCCC', 8, $height, $width, 1, 1, 0x11, 0));
}

# A Huffman table of one code, "0", that means $symbol.
sub jpeg_table
{
	my ($class, $symbol) = @_;
	return jpeg_segment(0xc4, pack('C', $class << 4) . "\x01" . ("\0" x 15) . chr($symbol));
}

sub jpeg_scan
{
	my ($first, $last, $high, $low, $bits) = @_;
	my $data = pack('B*', $bits . '1' x (-length($bits) % 8));
	$data =~ s/\xff/\xff\0/g;
	return jpeg_segment(0xda, pack('CCCCCC', 1, 1, 0, $first, $last, $high << 4 | $low)) . $data;
}

# Progressive, of 1 + $scans scans that each visit every block.
sub scan_bomb
{
	my ($width, $height, $scans) = @_;
	my $blocks = int(($width + 7) / 8) * int(($height + 7) / 8);
	my $end_of_bands = '0' . '1' x 14;    # the next 32,767 blocks have nothing in this band
	my $jpeg = jpeg_header(0xc2, $width, $height)
	  . jpeg_table(0, 0)
	  . jpeg_table(1, 0xe0)
	  . jpeg_scan(0, 0, 0, 0, '0' x $blocks);
	my $bits = $end_of_bands x (int($blocks / 32767) + 1);
	for my $i (0 .. $scans - 1)
	{
		# All 63 coefficients in a first, rough form, then each a bit finer.
		my ($band, $level) = (1 + $i % 63, 13 - int($i / 63));
		$jpeg .= jpeg_scan($band, $band, $level == 13 ? 0 : $level + 1, $level, $bits);
	}
	return $jpeg . "\xff\xd9";
}

sub huge_baseline
{
	my ($width, $height) = @_;
	my $blocks = int(($width + 7) / 8) * int(($height + 7) / 8);
	return jpeg_header(0xc0, $width, $height)
	  . jpeg_table(0, 0)
	  . jpeg_table(1, 0)
	  . jpeg_scan(0, 63, 0, 0, '00' x $blocks)
	  . "\xff\xd9";
}

# --- Sessions that run beside the test

sub background
{
	my ($node, $sql) = @_;
	my $pid = open(my $out, '-|', 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d',
		$node->connstr('postgres'), '-c', $sql) // die "psql: $!";
	return { pid => $pid, out => $out };
}

# Its output and exit status.
sub finish_background
{
	my ($session) = @_;
	my $out = $session->{out};
	my $text = do { local $/; <$out> };
	close $out;
	return ($text, $? >> 8);
}

# Waits for it, as long as one waits for a few instructions; who is to collect it may take longer.
sub process_ends
{
	my ($pid) = @_;
	for (1 .. 500)
	{
		open(my $file, '<', "/proc/$pid/stat") or return 1;
		return 1 if (<$file> // ') Z ') =~ /\) Z /;
		usleep(10_000);
	}
	return 0;
}

# --- faceattr-service

# Columns of faceattr_stat_service.
sub service
{
	my ($node, $columns) = @_;
	return $node->safe_psql('postgres', "SELECT $columns FROM faceattr_stat_service");
}

# Waits for a condition on them; false: it does not come true.
sub service_becomes
{
	my ($node, $condition) = @_;
	return $node->poll_query_until('postgres', "SELECT $condition FROM faceattr_stat_service");
}

1;
