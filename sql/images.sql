-- What functions make of images good and bad; no face in any of them.
\set png '''iVBORw0KGgoAAAANSUhEUgAAACgAAAAeCAAAAAB7tgMBAAAAGklEQVR42mM8wUAcYGIYVTiqcFThqMJBrBAAVVYBBKqLwogAAAAASUVORK5CYII='''
CREATE TABLE images (id int PRIMARY KEY, what text, image bytea);
INSERT INTO images VALUES
	(1, 'grey PNG of 40 x 30', decode(:png, 'base64')),
	(2, 'NULL', NULL);

-- No face and no image give no row; an array tells them apart.
SELECT id, f.* FROM images, face_attributes(image) f;
SELECT id, f.* FROM images, face_attributes(image, 'default') f;
SELECT id, f.* FROM images, face_detect(image) f;
SELECT id, f FROM images, face_embedding(image) f;
SELECT id, f FROM images, face_embedding(image, 'default') f;
SELECT id, face_array(image, 'default') FROM images;
SELECT id, face_attributes(image) FROM images;
SELECT face_array(image, NULL) IS NULL AS null_model FROM images WHERE id = 1;

-- A ready crop is classified, whatever it shows: its box is the whole of it.
SELECT id, (f).box, (f).landmarks, (f).age BETWEEN 0 AND 120 AS age,
       (f).age BETWEEN (f).age_low AND (f).age_high AS inside,
       (f).gender IN ('male', 'female') AS gender, (f).race IS NOT NULL AS race,
       (f).score BETWEEN 0 AND 1 AS score
FROM (SELECT id, face_classify(image) AS f FROM images) s ORDER BY id;
SELECT face_classify(image)::text IS NOT DISTINCT FROM face_classify(image, 'default')::text AS same FROM images;

-- A batch keeps its order; NULL in, NULL out.
SELECT n, box IS NOT NULL AS classified
FROM images, face_classify(ARRAY[NULL, image, NULL, image, image]) WITH ORDINALITY
	AS f (box, score, landmarks, age, age_low, age_high, gender, gc, race, rc, n) WHERE id = 1;
SELECT count(*) FROM face_classify('{}'::bytea[]);
SELECT count(*) FROM face_classify(NULL::bytea[]);
SELECT count(*), count(DISTINCT gender) AS genders, max(age) - min(age) < 0.1 AS same_age
FROM images, face_classify(array_fill(image, ARRAY[15, 10]), 'default') WHERE id = 1;

-- Probabilities: every label once, in sum 1.
SELECT head, count(*), round(sum(probability)::numeric, 3) AS sum, min(probability) >= 0 AS none_negative
FROM images, unnest(ARRAY['age', 'gender', 'race', 'face']) head, face_probabilities(image, head)
WHERE id = 1 GROUP BY head ORDER BY head;
SELECT label FROM images, face_probabilities(image, 'gender', 'default') WHERE id = 1;
SELECT * FROM images, face_probabilities(image, 'eyes') WHERE id = 1;

-- Nothing is drawn on a photo without faces; its size stays.
SELECT substr(face_annotate(image), 1, 4) AS png, substr(face_annotate(image, 'default'), 1, 4) AS png,
       substr(face_annotate(image, 'default', 'JPEG'), 1, 3) AS jpeg,
       substr(face_annotate(image, 'default', 'png'), 17, 8) AS width_height
FROM images WHERE id = 1;
SELECT face_annotate(image, 'default', 'gif') FROM images WHERE id = 1;

-- Bad images.
INSERT INTO images VALUES
	(10, 'empty', ''),
	(11, 'text', 'hello, world'),
	(12, 'GIF', 'GIF89a....................'),
	(13, 'WebP', '\x524946462000000057454250565038200a000000'),
	(14, 'HEIC', '\x0000001866747970686569630000000068656963'),
	(15, 'random', '\x9f8e7d6c5b4a39281706f5e4d3c2b1a0'),
	(16, 'PNG without its end', (SELECT substr(image, 1, 60) FROM images WHERE id = 1)),
	(17, 'PNG with a wrong CRC', (SELECT set_byte(image, 29, 1) FROM images WHERE id = 1)),
	(18, 'JPEG of one marker', '\xffd8'),
	(19, 'JPEG of 65,500 x 65,500', '\xffd8ffc0000b08ffdcffdc01011100ffda0008010100003f00ffd9'),
	(20, 'PNG of 65,500 x 65,500', '\x89504e470d0a1a0a0000000d494844520000ffdc0000ffdc0800000000b63c49c70000000149444154');

CREATE FUNCTION try(image bytea, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM face_array(image, 'default');
	message := 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
\x on
-- (What a decoder says of damage is its own affair, and its version's.)
SELECT what, code, message, CASE WHEN code <> '22000' THEN detail END AS detail, hint
FROM images, try(image) WHERE id >= 10 ORDER BY id;
\x off

-- The session decides what becomes of a bad image, where no model is named ...
SET faceattr.on_bad_image = 'warning';
SELECT face_attributes(image) FROM images WHERE id = 12;
SET faceattr.on_bad_image = 'ignore';
SELECT id, f.* FROM images, face_attributes(image) f ORDER BY id;
SELECT id, f.* FROM images, face_detect(image) f ORDER BY id;
SELECT id, f FROM images, face_embedding(image) f ORDER BY id;
SELECT id, face_annotate(image) IS NULL AS annotate, face_classify(image) IS NULL AS classify
FROM images WHERE id = 1 OR id > 15 ORDER BY id;
SELECT count(*), count(f.box) FROM face_classify((SELECT array_agg(image ORDER BY id) FROM images)) f;
SELECT id, f.* FROM images, face_probabilities(image, 'gender') f WHERE id > 15;
-- ... and not where one is: that answer is the same for everybody.
SELECT id, f.* FROM images, face_attributes(image, 'default') f WHERE id = 12;
SELECT face_classify(image, 'default') FROM images WHERE id = 12;
RESET faceattr.on_bad_image;

-- The safety limit holds for all.
SET faceattr.max_pixels = 1199;
SELECT face_array(image, 'default') FROM images WHERE id = 1;
SELECT face_classify(image) FROM images WHERE id = 1;
SET faceattr.max_pixels = 1200;
SELECT face_array(image, 'default') FROM images WHERE id = 1;
RESET faceattr.max_pixels;

-- A model that does not exist, by argument and by setting.
SELECT face_attributes(image, 'nobody') FROM images WHERE id = 1;
SELECT face_attributes(image, '../default') FROM images WHERE id = 1;
SET faceattr.model = 'nobody';
SELECT face_attributes(image) FROM images WHERE id = 1;
RESET faceattr.model;

-- Another precision or number of threads, in the middle of a session.
SET faceattr.precision = 'fp32';
SET faceattr.threads = 2;
SELECT face_array(image, 'default') FROM images WHERE id = 1;
SET faceattr.threads = 1;
SELECT face_array(image, 'default') FROM images WHERE id = 1;
RESET faceattr.precision;
SELECT face_array(image, 'default') FROM images WHERE id = 1;

-- A type that is no longer ours.
BEGIN;
ALTER TYPE face ADD ATTRIBUTE mood text;
SELECT face_classify(image) FROM images WHERE id = 1;
ROLLBACK;

DROP FUNCTION try;
DROP TABLE images;
