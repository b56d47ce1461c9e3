/*
 * augment.c
 *		What happens to an image, drawn; see augment.h. The order is that of the world: things
 *		are worn and heads turned here, on the source itself; the rest is
 * src/vision/augmentation.h's.
 */
#include "augment.h"

#include "paint.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

const fa_augment_options fa_augment_defaults = {
	.strength = 1,
	.flip = 0.5,
	.shift = 0.04,
	.scale = 0.09,
	.rotate = 8,
	.far = 0.1,
	.colour = 0.6,
	.grey = 0.06,
	.gamma = 0.2,
	.blur = 0.1,
	.small = 0.2,
	.smallest = 16,
	.jpeg = 0.15,
	.noise = 0.1,
	.erase = 0.06,
	.mask = 0.03,
	.glasses = 0.03,
	.street = 0.25,
};
/* Small, turned, masked, covered. */
static const fa_augment_options in_streets = {
	.strength = 1,
	.flip = 0.5,
	.shift = 0.05,
	.scale = 0.12,
	.rotate = 10,
	.far = 0.3,
	.colour = 0.5,
	.grey = 0.04,
	.gamma = 0.2,
	.blur = 0.2,
	.small = 0.6,
	.smallest = 9,
	.jpeg = 0.3,
	.noise = 0.1,
	.erase = 0.12,
	.turn = 0.5,
	.mask = 0.65,
	.glasses = 0.15,
	.cap = 0.2,
};
const fa_augment_options fa_augment_none = {0};

/* clang-format off */
#define AT(member) {#member, offsetof(fa_augment_options, member)}
/* clang-format on */
static const struct
{
	const char *name;
	size_t offset;
} members[] = {
	AT(strength), AT(flip),  AT(shift), AT(scale),   AT(rotate),   AT(far),    AT(colour),
	AT(grey),     AT(gamma), AT(blur),  AT(small),   AT(smallest), AT(jpeg),   AT(noise),
	AT(erase),    AT(turn),  AT(mask),  AT(glasses), AT(cap),      AT(street),
};
#undef AT

static fa_status
set_member(fa_augment_options *options, const char *text, fa_error *error)
{
	const char *value = strchr(text, '=');
	double number;

	if (!fa_parse_numbers(value == NULL ? text : value + 1, &number, 1) || number < 0)
		return fa_fail(error, FA_INVALID, "\"%s\" holds no number from 0 on", text);
	if (value == NULL)
	{
		options->strength = number;
		return FA_OK;
	}
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (strncmp(members[i].name, text, (size_t) (value - text)) == 0 &&
			members[i].name[value - text] == '\0')
		{
			memcpy((char *) options + members[i].offset, &number, sizeof(number));
			return FA_OK;
		}
	return fa_fail(error, FA_INVALID, "there is no augmentation \"%.*s\"", (int) (value - text),
				   text);
}

fa_status
fa_augment_parse(fa_augment_options *options, const char *text, fa_error *error)
{
	char *copy = strdup(text), *next = NULL;
	fa_status status = copy == NULL ? fa_no_memory(error, strlen(text)) : FA_OK;

	for (char *part = copy == NULL ? NULL : strtok_r(copy, ",", &next);
		 part != NULL && status == FA_OK; part = strtok_r(NULL, ",", &next))
		status = set_member(options, part, error);
	free(copy);
	return status;
}

/* From the output square of the given size to source pixels. */
static fa_affine
frame_map(const fa_image *source, double zoom, const fa_augment_options *options, int size,
		  fa_random *random)
{
	double wide = source->width / zoom, high = source->height / zoom; /* of the frame, pixels */
	double much = options->strength * (fa_random_chance(random, options->far) ? 3 : 1);
	double flip = fa_random_chance(random, options->flip) ? -1 : 1;
	double scale = exp(much * options->scale * fa_random_between(random, -1, 1));
	double angle = much * options->rotate * fa_random_between(random, -1, 1) * M_PI / 180;
	double shift_x = much * options->shift * fa_random_between(random, -1, 1);
	double shift_y = much * options->shift * fa_random_between(random, -1, 1);
	fa_affine centre = {flip / size, 0, -flip / 2, 0, 1.0 / size, -0.5};
	fa_affine turn = {scale * cos(angle), -scale * sin(angle), shift_x,
					  scale * sin(angle), scale * cos(angle),  shift_y};

	return fa_affine_compose(
		(fa_affine){wide, 0, source->width / 2.0, 0, high, source->height / 2.0},
		fa_affine_compose(turn, centre));
}

/*
 * Turns the head by yaw radians: the frame is taken for the front of a cylinder as
 * wide as a head, whose columns move; what comes to sight from behind repeats the
 * edge. The detector's landmarks move with the face, so the face stays in the middle.
 */
static fa_status
turn_head(fa_image *image, double zoom, double yaw, fa_error *error)
{
	double radius = 0.5 * image->width / zoom, middle = image->width / 2.0;
	size_t row_bytes = (size_t) image->width * 3;
	uint8_t *row = malloc(row_bytes);
	float *from = malloc((size_t) image->width * sizeof(float));

	if (row == NULL || from == NULL || image->width < 2)
	{
		bool failed = row == NULL || from == NULL;

		free(row);
		free(from);
		return failed ? fa_no_memory(error, row_bytes) : FA_OK;
	}
	for (int x = 0; x < image->width; x++)
	{
		double u = (x + 0.5 - middle) / radius + 0.85 * sin(yaw);

		if (u >= -1 && u <= 1) /* not beside the head */
			u = sin(fmax(-M_PI / 2, fmin(M_PI / 2, asin(u) - yaw)));
		from[x] = (float) fmin(image->width - 1.001, fmax(0, u * radius + middle - 0.5));
	}
	for (int y = 0; y < image->height; y++)
	{
		uint8_t *out = image->pixels + (size_t) y * image->stride;

		memcpy(row, out, row_bytes);
		for (int x = 0; x < image->width; x++)
		{
			const uint8_t *in = row + 3 * (size_t) from[x];
			float part = from[x] - floorf(from[x]);

			for (int c = 0; c < 3; c++)
				out[3 * x + c] = (uint8_t) (in[c] + part * (in[3 + c] - in[c]) + 0.5f);
		}
	}
	free(row);
	free(from);
	return FA_OK;
}

/*
 * Brightness, contrast, saturation and white balance as one linear map of
 * colours, then gamma as a table, in fixed point.
 */
static void
draw_colours(const fa_augment_options *options, fa_random *random, fa_augmentation *how)
{
	bool colour = fa_random_chance(random, options->colour * options->strength);
	bool grey = fa_random_chance(random, options->grey * options->strength);
	bool gamma = fa_random_chance(random, options->gamma * options->strength);
	static const double luma[3] = {0.299, 0.587, 0.114};
	double s = options->strength, saturation = grey ? 0 : 1, contrast = 1, offset = 0;
	double balance[3] = {1, 1, 1}, power = 1;

	how->recolours = colour || grey || gamma;
	if (colour)
	{
		if (!grey)
			saturation = exp(s * fa_random_between(random, -0.45, 0.35));
		contrast = exp(s * fa_random_between(random, -0.35, 0.3));
		offset = s * fa_random_between(random, -35, 35);
		for (int c = 0; c < 3; c++)
			balance[c] = exp(s * fa_random_between(random, -0.1, 0.1));
	}
	if (gamma)
		power = exp(s * fa_random_between(random, -0.45, 0.45));
	for (int i = 0; i < 256; i++)
		how->tones[i] = (uint8_t) (255 * pow(i / 255.0, power) + 0.5);
	for (int o = 0; o < 3; o++)
		for (int i = 0; i < 3; i++)
			how->colours[o][i] =
				(int32_t) lround(65536 * contrast * balance[o] *
								 (saturation * (o == i) + (1 - saturation) * luma[i]));
	how->offset = (int32_t) lround(65536 * (offset + 128 * (1 - contrast) + 0.5));
}

static void
paint(fa_image *source, double zoom, const double (*landmark_template)[2],
	  const fa_augment_options *options, fa_random *random)
{
	double s = options->strength;
	fa_frame frame = {.width = source->width / zoom, .height = source->height / zoom};

	frame.left = (source->width - frame.width) / 2;
	frame.top = (source->height - frame.height) / 2;
	if (fa_random_chance(random, s * options->glasses))
		fa_paint_glasses(source, frame, landmark_template, random);
	if (fa_random_chance(random, s * options->cap))
		fa_paint_cap(source, frame, landmark_template, random);
	if (fa_random_chance(random, s * options->mask))
		fa_paint_mask(source, frame, landmark_template, random);
	if (fa_random_chance(random, s * options->erase))
		fa_paint_patch(source, frame, random);
}

/* What light, lens, sensor and file do to an image of its final number of pixels. */
static void
draw_photograph(const fa_augment_options *options, fa_random *random, fa_augmentation *how)
{
	double s = options->strength;

	draw_colours(options, random, how);
	if (fa_random_chance(random, s * options->blur))
		how->blur = fa_random_log_between(random, 0.4, fmax(0.5, 0.012 * how->pixels));
	if (fa_random_chance(random, s * options->noise))
	{
		how->noise = s * fa_random_log_between(random, 1.5, 14);
		how->noise_key = fa_random_bits(random);
	}
	if (fa_random_chance(random, s * options->jpeg))
		how->quality = 10 + fa_random_below(random, 80);
}

fa_status
fa_augment(fa_augmented *image, double zoom, const double (*landmark_template)[2],
		   const fa_augment_options *options, fa_random *random, int size, fa_error *error)
{
	fa_augment_options street = in_streets;

	image->how = (fa_augmentation){.pixels = size};
	if (fa_random_chance(random, options->strength * options->street))
	{
		street.strength = options->strength;
		options = &street;
	}
	if (fa_random_chance(random, options->small * options->strength) && options->smallest < size)
		image->how.pixels = (int) fa_random_log_between(random, options->smallest, size / 1.5);
	paint(&image->source, zoom, landmark_template, options, random);
	if (fa_random_chance(random, options->turn * options->strength))
		FA_TRY(turn_head(&image->source, zoom, fa_random_between(random, -1.2, 1.2), error));
	image->how.frame = frame_map(&image->source, zoom, options, image->how.pixels, random);
	draw_photograph(options, random, &image->how);
	return FA_OK;
}
