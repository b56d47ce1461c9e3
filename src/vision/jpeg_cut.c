/*
 * jpeg_cut.c
 *		Cutting parts out of baseline JPEGs (ITU-T T.81); see jpeg_cut.h.
 *
 * Blocks follow each other without gaps, each DC coefficient as the difference from
 * the last one, so that the way to a part leads through all blocks before it. There
 * AC coefficients are stepped over, several at a time by table; DC differences are
 * added up. In a part, AC bits are copied as they are, and DC differences are written
 * anew, from the part's own neighbours, with a table of our own that has all sizes.
 *
 * Everything is read from a stranger's file. Whatever is unusual is FA_UNSUPPORTED:
 * the caller has libjpeg for it.
 */
#include "jpeg_cut.h"

#include <stdlib.h>
#include <string.h>

#define LOOK 12 /* bits that the tables look at */
#define MAX_COMPONENTS 4
#define MAX_BLOCKS 10 /* of an MCU: T.81, B.2.3 */
#define DC_LENGTH 5   /* of our own DC codes, for sizes 0 to 15 */

enum
{
	SOF0 = 0xc0,
	SOF1 = 0xc1,
	DHT = 0xc4,
	SOF15 = 0xcf,
	RST0 = 0xd0,
	SOI = 0xd8,
	EOI = 0xd9,
	SOS = 0xda,
	DQT = 0xdb,
	DNL = 0xdc,
	DRI = 0xdd,
	APP0 = 0xe0,
	APP14 = 0xee
};

/* A table entry: a code within the first LOOK bits. 0: there is none. */
#define SYMBOL(entry) ((entry) &255)
#define CODE_LENGTH(entry) ((entry) >> 8)

/* Of the AC coefficients whose codes lie within the first LOOK bits, together. 0: none does. */
#define STEP(bits, coefficients, is_end) ((bits) | (coefficients) << 5 | (is_end) << 12)
#define STEP_BITS(entry) ((entry) &31)
#define STEP_COEFFICIENTS(entry) ((entry) >> 5 & 127)
#define STEP_IS_END(entry) ((entry) >> 12)

typedef struct huffman
{
	bool defined;
	uint8_t counts[17]; /* of codes, by length */
	uint8_t values[256];
	int value_count;
	/* of those that the scan uses: */
	int32_t last_code[17]; /* of each length; -1: none */
	int32_t offset[17];    /* values[code + offset[length]] */
	uint16_t symbols[1 << LOOK];
	uint16_t steps[1 << LOOK];
} huffman;

typedef struct component
{
	int h, v; /* blocks of an MCU */
	const huffman *dc, *ac;
	int32_t predicted; /* the last DC coefficient */
} component;

/* A span of the file. */
typedef struct segment
{
	const uint8_t *at;
	size_t length;
} segment;

/* Small, and copied for the inner loops, so that it lives in registers there. */
typedef struct reader
{
	const uint8_t *at, *end;
	uint64_t bits; /* the next ones, from the top */
	int bit_count;
	int invented; /* of them, after the data's end */
} reader;

typedef struct cutter
{
	reader in;
	int frame_marker, width, height;
	segment frame, scan; /* contents of SOF and SOS, without their lengths */
	segment kept[32];    /* whole segments that parts need: quantisation, JFIF, Adobe */
	int kept_count;
	int restart_interval;
	component components[MAX_COMPONENTS];
	int component_count;
	int mcu_width, mcu_height, mcu_columns, mcu_rows;
	huffman dc[4], ac[4];
	fa_error *error;
} cutter;

/* A part being written. */
typedef struct sheet
{
	fa_jpeg_part *part;
	int column1, row1, column2, row2; /* MCUs */
	size_t capacity;
	uint64_t bits; /* not yet written, at the bottom */
	int bit_count;
	int32_t predicted[MAX_COMPONENTS];
} sheet;

static fa_status
unusual(const cutter *c)
{
	return fa_fail(c->error, FA_UNSUPPORTED, "JPEG image cannot be cut");
}

static fa_status
damaged(const cutter *c)
{
	return fa_fail(c->error, FA_DAMAGED, "JPEG image is damaged");
}

/* ---- Header --------------------------------------------------------------------------- */

static int
big_endian_16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static fa_status
read_huffman(cutter *c, segment s)
{
	while (s.length > 0)
	{
		huffman *h;
		int total = 0;

		if (s.length < 17 || s.at[0] >> 4 > 1 || (s.at[0] & 15) > 3)
			return damaged(c);
		h = s.at[0] >> 4 == 0 ? &c->dc[s.at[0] & 15] : &c->ac[s.at[0] & 15];
		memcpy(h->counts, s.at, 17); /* counts[0] is nobody's */
		for (int i = 1; i <= 16; i++)
			total += h->counts[i];
		if (total > 256 || s.length < 17 + (size_t) total)
			return damaged(c);
		memcpy(h->values, s.at + 17, (size_t) total);
		h->value_count = total;
		h->defined = true;
		s.at += 17 + total;
		s.length -= 17 + (size_t) total;
	}
	return FA_OK;
}

static fa_status
read_frame(cutter *c, segment s)
{
	int widest = 1, highest = 1, blocks = 0;

	if (c->component_count != 0 || s.length < 6 || s.length != 6 + 3 * (size_t) s.at[5])
		return damaged(c);
	c->frame = s;
	c->height = big_endian_16(s.at + 1);
	c->width = big_endian_16(s.at + 3);
	c->component_count = s.at[5];
	if (s.at[0] != 8 || c->height == 0 || c->width == 0 || c->component_count < 1 ||
		c->component_count > MAX_COMPONENTS)
		return unusual(c);
	for (int i = 0; i < c->component_count; i++)
	{
		component *component = &c->components[i];

		component->h = s.at[6 + 3 * i + 1] >> 4;
		component->v = s.at[6 + 3 * i + 1] & 15;
		if (component->h < 1 || component->h > 4 || component->v < 1 || component->v > 4)
			return damaged(c);
		if (c->component_count == 1)
			component->h = component->v = 1; /* not interleaved: T.81, A.2.2 */
		widest = component->h > widest ? component->h : widest;
		highest = component->v > highest ? component->v : highest;
		blocks += component->h * component->v;
	}
	if (blocks > MAX_BLOCKS)
		return unusual(c);
	c->mcu_width = 8 * widest;
	c->mcu_height = 8 * highest;
	c->mcu_columns = (c->width + c->mcu_width - 1) / c->mcu_width;
	c->mcu_rows = (c->height + c->mcu_height - 1) / c->mcu_height;
	return FA_OK;
}

/* The tables of a Huffman code that has its counts and values. */
static fa_status
make_tables(const cutter *c, huffman *h)
{
	int32_t code = 0;
	int index = 0;

	memset(h->symbols, 0, sizeof(h->symbols));
	for (int length = 1; length <= 16; length++, code <<= 1)
	{
		h->offset[length] = index - code;
		if (code + h->counts[length] > 1 << length)
			return damaged(c);
		for (int i = 0; i < h->counts[length]; i++, code++, index++)
			for (int k = 0; length <= LOOK && k < 1 << (LOOK - length); k++)
				h->symbols[(code << (LOOK - length)) + k] =
					(uint16_t) (length << 8 | h->values[index]);
		h->last_code[length] = h->counts[length] > 0 ? code - 1 : -1;
	}
	for (int first = 0; first < 1 << LOOK; first++)
	{
		int bits = 0, coefficients = 0, is_end = 0;

		while (bits < LOOK && !is_end)
		{
			int entry = h->symbols[first << bits & ((1 << LOOK) - 1)];
			int symbol = SYMBOL(entry), length = CODE_LENGTH(entry);

			if (length == 0 || bits + length > LOOK || coefficients > 63)
				break;
			bits += length + (symbol & 15);
			is_end = (symbol & 15) == 0 && symbol != 0xf0;
			if (!is_end)
				coefficients += (symbol >> 4) + 1;
		}
		h->steps[first] = (uint16_t) STEP(bits, coefficients, is_end);
	}
	return FA_OK;
}

/* One scan of all components, of all coefficients at once. */
static fa_status
read_scan(cutter *c, segment s)
{
	int n = c->component_count;

	if (n == 0 || s.length < 1)
		return damaged(c);
	if (s.at[0] != n || s.length != 4 + 2 * (size_t) n || s.at[1 + 2 * n] != 0 ||
		s.at[2 + 2 * n] != 63 || s.at[3 + 2 * n] != 0)
		return unusual(c);
	c->scan = s;
	for (int i = 0; i < n; i++)
	{
		component *component = &c->components[i];
		int tables = s.at[2 + 2 * i];
		huffman *dc = &c->dc[tables >> 4 & 3], *ac = &c->ac[tables & 3];

		if (s.at[1 + 2 * i] != c->frame.at[6 + 3 * i] || (tables & 0xcc) != 0 || !dc->defined ||
			!ac->defined)
			return unusual(c);
		FA_TRY(make_tables(c, dc));
		FA_TRY(make_tables(c, ac));
		component->dc = dc;
		component->ac = ac;
	}
	return FA_OK;
}

/* Up to the first block. */
static fa_status
read_header(cutter *c)
{
	if (c->in.end - c->in.at < 2 || c->in.at[0] != 0xff || c->in.at[1] != SOI)
		return damaged(c);
	c->in.at += 2;
	for (;;)
	{
		const uint8_t *start = c->in.at;
		int marker;
		segment s;

		if (c->in.end - c->in.at < 4 || c->in.at[0] != 0xff)
			return damaged(c);
		marker = c->in.at[1];
		if (marker == 0xff) /* fill */
		{
			c->in.at++;
			continue;
		}
		s.length = (size_t) big_endian_16(c->in.at + 2);
		if (s.length < 2 || s.length > (size_t) (c->in.end - c->in.at) - 2)
			return damaged(c);
		s.at = c->in.at + 4;
		s.length -= 2;
		c->in.at = s.at + s.length;
		if (marker == SOF0 || marker == SOF1)
		{
			c->frame_marker = marker;
			FA_TRY(read_frame(c, s));
		}
		else if (marker == DHT)
			FA_TRY(read_huffman(c, s));
		else if (marker == DRI)
		{
			if (s.length != 2)
				return damaged(c);
			c->restart_interval = big_endian_16(s.at);
		}
		else if (marker == SOS)
			return read_scan(c, s);
		else if (marker == DQT || marker == APP0 || marker == APP14)
		{
			if (c->kept_count == (int) (sizeof(c->kept) / sizeof(c->kept[0])))
				return unusual(c);
			c->kept[c->kept_count++] = (segment){start, (size_t) (c->in.at - start)};
		}
		else if (marker < APP0 && (marker <= SOF15 || marker == DNL))
			return unusual(c);
	}
}

/* ---- Bits --------------------------------------------------------------------------------- */

static __attribute__((noinline)) reader
refill_by_bytes(reader r)
{
	r.bits &= ~(~(uint64_t) 0 >> r.bit_count);
	while (r.bit_count <= 56)
	{
		uint64_t byte = 0;

		if (r.at < r.end && *r.at != 0xff)
			byte = *r.at++;
		else if (r.end - r.at >= 2 && r.at[1] == 0) /* a stuffed 0xff */
		{
			byte = 0xff;
			r.at += 2;
		}
		else /* a marker, or the end: zeros, that nobody should need */
			r.invented += 8;
		r.bits |= byte << (56 - r.bit_count);
		r.bit_count += 8;
	}
	return r;
}

/* At least 32 bits are there afterwards: two codes, or one with what follows it. */
static inline __attribute__((always_inline)) reader
refill(reader r)
{
	uint64_t next, inverse;

	if (r.bit_count >= 32)
		return r;
	if (r.end - r.at < 8)
		return refill_by_bytes(r);
	memcpy(&next, r.at, sizeof(next));
	next = __builtin_bswap64(next);
	inverse = ~next;
	/* a byte of 0xff is one of 0 in the inverse */
	if (((inverse - 0x0101010101010101u) & next & 0x8080808080808080u) != 0)
		return refill_by_bytes(r);
	/* bits beyond bit_count are the next byte's, which sets them again */
	r.bits |= next >> r.bit_count;
	r.at += (63 - r.bit_count) / 8;
	r.bit_count |= 56;
	return r;
}

static inline reader
drop(reader r, int count)
{
	r.bits <<= count;
	r.bit_count -= count;
	return r;
}

/* n bits, 0 to 16, from the top. */
static inline uint32_t
peek(reader r, int n)
{
	return (uint32_t) (r.bits >> 1 >> (63 - n));
}

static __attribute__((noinline)) int
long_code(uint64_t bits, const huffman *h)
{
	for (int length = LOOK + 1; length <= 16; length++)
	{
		int32_t code = (int32_t) (bits >> (64 - length));

		if (code <= h->last_code[length])
			return length << 8 | h->values[code + h->offset[length]];
	}
	return 0;
}

/* The entry of the next code, as in symbols; 0: bits that no code explains. */
static inline int
next_code(reader r, const huffman *h)
{
	int entry = h->symbols[r.bits >> (64 - LOOK)];

	return entry != 0 ? entry : long_code(r.bits, h);
}

/* Adds the next DC difference; false where there is none. */
static inline __attribute__((always_inline)) bool
read_dc(reader *r, const huffman *h, int32_t *predicted)
{
	int entry, size;
	uint32_t value;

	*r = refill(*r);
	entry = next_code(*r, h);
	size = SYMBOL(entry);
	if (entry == 0 || size > 15)
		return false;
	*r = drop(*r, CODE_LENGTH(entry));
	value = peek(*r, size);
	*r = drop(*r, size);
	/* T.81, F.2.2.1: the lower half stands for negative numbers */
	value -= ((value << 1 >> size) - 1) & ((1u << size) - 1);
	*predicted = (int32_t) ((uint32_t) *predicted + value);
	return true;
}

static inline __attribute__((always_inline)) bool
skip_ac(reader *r, const huffman *h)
{
	for (int k = 1; k < 64;)
	{
		int step;

		*r = refill(*r);
		step = h->steps[r->bits >> (64 - LOOK)];
		if (step != 0 && k + STEP_COEFFICIENTS(step) < 64)
		{
			*r = drop(*r, STEP_BITS(step));
			k += STEP_COEFFICIENTS(step);
			if (STEP_IS_END(step))
				break;
		}
		else
		{
			/* a long code, or coefficients up to the last and what then follows */
			int entry = next_code(*r, h), symbol = SYMBOL(entry);

			if (entry == 0)
				return false;
			*r = drop(*r, CODE_LENGTH(entry) + (symbol & 15));
			if ((symbol & 15) == 0 && symbol != 0xf0)
				break;
			k += (symbol >> 4) + 1;
		}
	}
	return true;
}

/* ---- Writing parts ------------------------------------------------------------------------ */

static fa_status
put_bytes(const cutter *c, sheet *s, const void *bytes, size_t count)
{
	fa_jpeg_part *part = s->part;

	if (count > s->capacity - part->length)
	{
		size_t capacity = 2 * s->capacity + count + 1024;
		uint8_t *larger = realloc(part->bytes, capacity);

		if (larger == NULL)
			return fa_no_memory(c->error, capacity);
		part->bytes = larger;
		s->capacity = capacity;
	}
	memcpy(part->bytes + part->length, bytes, count);
	part->length += count;
	return FA_OK;
}

/* n bits, up to 32, at the bottom of value. */
static fa_status
put_bits(const cutter *c, sheet *s, uint64_t value, int n)
{
	uint8_t bytes[16];
	size_t count = 0;

	s->bits = s->bits << n | (value & (((uint64_t) 1 << n) - 1));
	s->bit_count += n;
	while (s->bit_count >= 8)
	{
		s->bit_count -= 8;
		bytes[count] = (uint8_t) (s->bits >> s->bit_count);
		if (bytes[count++] == 0xff)
			bytes[count++] = 0;
	}
	return count > 0 ? put_bytes(c, s, bytes, count) : FA_OK;
}

static fa_status
put_segment(const cutter *c, sheet *s, int marker, const void *bytes, size_t count)
{
	uint8_t head[4] = {0xff, (uint8_t) marker, (uint8_t) ((count + 2) >> 8), (uint8_t) (count + 2)};

	FA_TRY(put_bytes(c, s, head, sizeof(head)));
	return put_bytes(c, s, bytes, count);
}

static fa_status
put_table(const cutter *c, sheet *s, int class, int id, const uint8_t *counts,
		  const uint8_t *values, int value_count)
{
	uint8_t table[17 + 256];

	table[0] = (uint8_t) (class << 4 | id);
	memcpy(table + 1, counts + 1, 16);
	memcpy(table + 17, values, (size_t) value_count);
	return put_segment(c, s, DHT, table, 17 + (size_t) value_count);
}

static fa_status
put_header(const cutter *c, sheet *s)
{
	static const uint8_t counts[17] = {[DC_LENGTH] = 16}, soi[2] = {0xff, SOI};
	static const uint8_t sizes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
	const fa_jpeg_part *p = s->part;
	int width = p->x2 - p->x1, height = p->y2 - p->y1;
	uint8_t frame[6 + 3 * MAX_COMPONENTS];

	FA_TRY(put_bytes(c, s, soi, sizeof(soi)));
	for (int i = 0; i < c->kept_count; i++)
		FA_TRY(put_bytes(c, s, c->kept[i].at, c->kept[i].length));
	memcpy(frame, c->frame.at, c->frame.length);
	frame[1] = (uint8_t) (height >> 8);
	frame[2] = (uint8_t) height;
	frame[3] = (uint8_t) (width >> 8);
	frame[4] = (uint8_t) width;
	FA_TRY(put_segment(c, s, c->frame_marker, frame, c->frame.length));
	for (int id = 0; id < 4; id++)
	{
		FA_TRY(put_table(c, s, 0, id, counts, sizes, 16));
		if (c->ac[id].defined)
			FA_TRY(
				put_table(c, s, 1, id, c->ac[id].counts, c->ac[id].values, c->ac[id].value_count));
	}
	return put_segment(c, s, SOS, c->scan.at, c->scan.length);
}

static fa_status
put_end(const cutter *c, sheet *s)
{
	static const uint8_t eoi[2] = {0xff, EOI};

	FA_TRY(put_bits(c, s, 127, 7)); /* what of it is needed to fill the byte */
	return put_bytes(c, s, eoi, sizeof(eoi));
}

/* component i's last DC coefficient */
static fa_status
put_dc(const cutter *c, sheet *s, int i)
{
	int64_t difference = (int64_t) c->components[i].predicted - s->predicted[i];
	uint64_t magnitude = (uint64_t) (difference < 0 ? -difference : difference);
	int size = magnitude == 0 ? 0 : 64 - __builtin_clzll(magnitude);

	if (size > 15)
		return damaged(c);
	s->predicted[i] = c->components[i].predicted;
	FA_TRY(put_bits(c, s, (uint64_t) size, DC_LENGTH));
	return put_bits(c, s, (uint64_t) (difference < 0 ? difference - 1 : difference), size);
}

/* A block's AC coefficients, to all sheets as they are. */
static fa_status
copy_ac(cutter *c, const huffman *h, sheet *const *sheets, int count)
{
	for (int k = 1; k < 64;)
	{
		int entry, symbol, bits;

		c->in = refill(c->in);
		entry = next_code(c->in, h);
		symbol = SYMBOL(entry);
		bits = CODE_LENGTH(entry) + (symbol & 15);
		if (entry == 0)
			return damaged(c);
		for (int i = 0; i < count; i++)
			FA_TRY(put_bits(c, sheets[i], c->in.bits >> (64 - bits), bits));
		c->in = drop(c->in, bits);
		if ((symbol & 15) == 0 && symbol != 0xf0)
			break;
		k += (symbol >> 4) + 1;
	}
	return FA_OK;
}

/* ---- The way through the file ------------------------------------------------------------- */

static bool
skip_mcus(cutter *c, int count)
{
	reader r = c->in;
	bool good = true;

	for (; count > 0 && good; count--)
		for (int i = 0; i < c->component_count; i++)
		{
			component *component = &c->components[i];
			const huffman *dc = component->dc, *ac = component->ac;
			int32_t predicted = component->predicted;

			for (int block = component->h * component->v; block > 0 && good; block--)
				good = read_dc(&r, dc, &predicted) && skip_ac(&r, ac);
			component->predicted = predicted;
		}
	c->in = r;
	return good;
}

static fa_status
copy_mcu(cutter *c, sheet *const *sheets, int count)
{
	for (int i = 0; i < c->component_count; i++)
	{
		component *component = &c->components[i];

		for (int block = 0; block < component->h * component->v; block++)
		{
			if (!read_dc(&c->in, component->dc, &component->predicted))
				return damaged(c);
			for (int k = 0; k < count; k++)
				FA_TRY(put_dc(c, sheets[k], i));
			FA_TRY(copy_ac(c, component->ac, sheets, count));
		}
	}
	return FA_OK;
}

/* To the restart marker, which must be the next thing but some bits, and past it. */
static fa_status
restart(cutter *c, int number)
{
	reader *r = &c->in;

	if ((r->bit_count - r->invented) / 8 > 0 || r->end - r->at < 2 || r->at[0] != 0xff ||
		r->at[1] != RST0 + number % 8)
		return damaged(c);
	r->at += 2;
	r->bits = 0;
	r->bit_count = r->invented = 0;
	for (int i = 0; i < c->component_count; i++)
		c->components[i].predicted = 0;
	return FA_OK;
}

/*
 * One row of MCUs. sheets: those that have part in it; here: room for as many. Goes in
 * runs in which the same sheets, or none, take part, and which no restart interrupts.
 */
static fa_status
walk_row(cutter *c, int row, sheet *const *sheets, int count, sheet **here)
{
	for (int column = 0, next; column < c->mcu_columns; column = next)
	{
		int64_t index = (int64_t) row * c->mcu_columns + column;
		int here_count = 0;

		next = c->mcu_columns;
		if (c->restart_interval > 0)
		{
			int64_t left = c->restart_interval - index % c->restart_interval;

			if (index > 0 && left == c->restart_interval)
				FA_TRY(restart(c, (int) ((index / c->restart_interval - 1) % 8)));
			next = left < next - column ? column + (int) left : next;
		}
		for (int i = 0; i < count; i++)
		{
			int edge = column < sheets[i]->column1 ? sheets[i]->column1 : sheets[i]->column2;

			if (column >= sheets[i]->column1 && column < sheets[i]->column2)
				here[here_count++] = sheets[i];
			next = edge > column && edge < next ? edge : next;
		}
		if (here_count == 0 && !skip_mcus(c, next - column))
			return damaged(c);
		for (int i = column; i < next && here_count > 0; i++)
			FA_TRY(copy_mcu(c, here, here_count));
		if (c->in.bit_count < c->in.invented)
			return damaged(c);
	}
	return FA_OK;
}

/* Rounds the part to MCUs, with one more on each side. */
static fa_status
place(const cutter *c, fa_jpeg_part *part, sheet *s)
{
	if (part->x1 < 0 || part->y1 < 0 || part->x1 >= part->x2 || part->y1 >= part->y2 ||
		part->x2 > c->width || part->y2 > c->height)
		return fa_fail(c->error, FA_INVALID, "the part lies outside the image");
	s->part = part;
	s->column1 = part->x1 / c->mcu_width - 1;
	s->row1 = part->y1 / c->mcu_height - 1;
	s->column2 = (part->x2 - 1) / c->mcu_width + 2;
	s->row2 = (part->y2 - 1) / c->mcu_height + 2;
	s->column1 = s->column1 < 0 ? 0 : s->column1;
	s->row1 = s->row1 < 0 ? 0 : s->row1;
	s->column2 = s->column2 > c->mcu_columns ? c->mcu_columns : s->column2;
	s->row2 = s->row2 > c->mcu_rows ? c->mcu_rows : s->row2;
	part->x1 = s->column1 * c->mcu_width;
	part->y1 = s->row1 * c->mcu_height;
	part->x2 = s->column2 * c->mcu_width < c->width ? s->column2 * c->mcu_width : c->width;
	part->y2 = s->row2 * c->mcu_height < c->height ? s->row2 * c->mcu_height : c->height;
	return FA_OK;
}

static fa_status
cut(cutter *c, fa_jpeg_part *parts, int count, sheet *sheets, sheet **active,
	const fa_interrupt *interrupt)
{
	int rows = 0;

	FA_TRY(read_header(c));
	for (int i = 0; i < count; i++)
	{
		FA_TRY(place(c, &parts[i], &sheets[i]));
		FA_TRY(put_header(c, &sheets[i]));
		rows = sheets[i].row2 > rows ? sheets[i].row2 : rows;
	}
	for (int row = 0; row < rows; row++)
	{
		int active_count = 0;

		FA_TRY(fa_check_interrupt(interrupt, c->error));
		for (int i = 0; i < count; i++)
			if (row >= sheets[i].row1 && row < sheets[i].row2)
				active[active_count++] = &sheets[i];
		FA_TRY(walk_row(c, row, active, active_count, active + count));
	}
	for (int i = 0; i < count; i++)
		FA_TRY(put_end(c, &sheets[i]));
	return FA_OK;
}

fa_status
fa_jpeg_cut(const uint8_t *bytes, size_t length, fa_jpeg_part *parts, int count,
			const fa_interrupt *interrupt, fa_error *error)
{
	cutter *c = calloc(1, sizeof(cutter));
	sheet *sheets = calloc((size_t) count + 1, sizeof(sheet));
	sheet **active = calloc(2 * (size_t) count + 1, sizeof(sheet *));
	fa_status status;

	for (int i = 0; i < count; i++)
	{
		parts[i].bytes = NULL;
		parts[i].length = 0;
	}
	if (c == NULL || sheets == NULL || active == NULL)
		status = fa_no_memory(error, sizeof(cutter) + (size_t) count * sizeof(sheet));
	else
	{
		c->in.at = bytes;
		c->in.end = bytes + length;
		c->error = error;
		status = cut(c, parts, count, sheets, active, interrupt);
	}
	for (int i = 0; i < count && status != FA_OK; i++)
	{
		free(parts[i].bytes);
		parts[i].bytes = NULL;
		parts[i].length = 0;
	}
	free(c);
	free(sheets);
	free(active);
	return status;
}
