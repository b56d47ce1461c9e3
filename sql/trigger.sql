-- face_attributes_trigger: what it takes, and when it acts. (No face in the
-- image: '{}' shows that the trigger has run. Faces are in test/t.)
\set png '''iVBORw0KGgoAAAANSUhEUgAAACgAAAAeCAAAAAB7tgMBAAAAGklEQVR42mM8wUAcYGIYVTiqcFThqMJBrBAAVVYBBKqLwogAAAAASUVORK5CYII='''
CREATE TABLE photos (id int PRIMARY KEY, image bytea, faces face[], biggest face, note text,
	doubled int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE png (image bytea);
INSERT INTO png VALUES (decode(:png, 'base64'));

-- Wrong uses.
SELECT face_attributes_trigger();
CREATE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'default', 'x');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('picture', 'faces');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'face');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('note', 'faces');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'note');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'ctid');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'doubled');
INSERT INTO photos VALUES (1);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'nobody');
INSERT INTO photos VALUES (1, NULL);
INSERT INTO photos SELECT 2, image FROM png;
CREATE OR REPLACE TRIGGER t AFTER INSERT ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces');
INSERT INTO photos VALUES (2);
CREATE OR REPLACE TRIGGER t BEFORE INSERT ON photos FOR EACH STATEMENT EXECUTE FUNCTION face_attributes_trigger('image', 'faces');
INSERT INTO photos VALUES (2);
CREATE OR REPLACE TRIGGER t BEFORE DELETE ON photos FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces');
DELETE FROM photos;
DROP TRIGGER t ON photos;
CREATE VIEW photos_view AS SELECT * FROM photos;
CREATE TRIGGER t INSTEAD OF INSERT ON photos_view FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces');
INSERT INTO photos_view (id) VALUES (2);
DROP VIEW photos_view;
DELETE FROM photos;

-- Right ones.
CREATE TRIGGER faces BEFORE INSERT OR UPDATE ON photos
	FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'default');
CREATE TRIGGER biggest BEFORE INSERT OR UPDATE ON photos
	FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'biggest');
INSERT INTO photos SELECT 1, image FROM png UNION ALL SELECT 2, NULL;
SELECT id, faces, biggest, doubled FROM photos ORDER BY id;

-- What an application writes into the target on INSERT does not count.
INSERT INTO photos SELECT 3, NULL, '{}'::face[] UNION ALL SELECT 4, image, NULL FROM png;
SELECT id, faces FROM photos WHERE id >= 3 ORDER BY id;

-- An UPDATE acts when the image has changed, and then only.
UPDATE photos SET faces = NULL, note = 'by hand' WHERE id = 1;
SELECT id, faces, note FROM photos WHERE id = 1;
UPDATE photos SET image = image WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;
UPDATE photos SET image = substr(image, 1) WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;
UPDATE photos SET image = image || '\x00' WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;
UPDATE photos SET image = NULL WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;
UPDATE photos SET image = (SELECT image FROM png) WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;

-- A stored image that is kept out of line is known by its address; the same bytes sent again are compared.
UPDATE photos SET image = image || (SELECT string_agg(decode(md5(i::text), 'hex'), '') FROM generate_series(1, 1000) i),
	faces = NULL WHERE id = 1;
UPDATE photos SET faces = NULL WHERE id = 1;
UPDATE photos SET note = 'kept', image = image WHERE id = 1;
SELECT id, faces, note, length(image) FROM photos WHERE id = 1;
UPDATE photos SET image = image || ''::bytea WHERE id = 1;
SELECT id, faces FROM photos WHERE id = 1;

-- ON CONFLICT, both ways.
INSERT INTO photos SELECT 2, image FROM png ON CONFLICT DO NOTHING;
SELECT id, image IS NULL AS no_image, faces FROM photos WHERE id = 2;
INSERT INTO photos SELECT 2, image FROM png
	ON CONFLICT (id) DO UPDATE SET image = EXCLUDED.image, note = EXCLUDED.faces::text;
SELECT id, faces, note FROM photos WHERE id = 2;

-- COPY.
COPY photos (id, image, note) FROM STDIN;
10	\\x89504e470d0a1a0a0000000d49484452000000280000001e08000000007bb603010000001a4944415478da633cc1401c6062185538aa7054e1a8c241ac100055560104aa8bc2880000000049454e44ae426082	sound
11	\N	none
\.
SELECT id, faces, note FROM photos WHERE id >= 10 ORDER BY id;
COPY photos (id, image) FROM STDIN;
12	\\x89504e470d0a
\.
SET faceattr.on_bad_image = 'ignore';
INSERT INTO photos (id, image) VALUES (12, '\x89504e470d0a');
DROP TRIGGER faces ON photos;
INSERT INTO photos (id, image, biggest) VALUES (12, '\x89504e470d0a', NULL);
SELECT id, faces, biggest FROM photos WHERE id = 12;
RESET faceattr.on_bad_image;
DROP TABLE photos;

-- Partitions whose columns lie in other places.
CREATE TABLE uploads (id int, image bytea, faces face[]) PARTITION BY LIST (id);
CREATE TABLE uploads_1 PARTITION OF uploads FOR VALUES IN (1);
CREATE TABLE uploads_2 (dropped int, faces face[], id int, image bytea);
ALTER TABLE uploads_2 DROP COLUMN dropped;
ALTER TABLE uploads ATTACH PARTITION uploads_2 FOR VALUES IN (2);
CREATE TRIGGER faces BEFORE INSERT OR UPDATE ON uploads
	FOR EACH ROW EXECUTE FUNCTION face_attributes_trigger('image', 'faces', 'default');
INSERT INTO uploads SELECT i, image FROM png, generate_series(1, 2) i;
COPY uploads (id, image) FROM STDIN;
1	\N
2	\\x89504e470d0a1a0a0000000d49484452000000280000001e08000000007bb603010000001a4944415478da633cc1401c6062185538aa7054e1a8c241ac100055560104aa8bc2880000000049454e44ae426082
\.
INSERT INTO uploads_2 (id, image) SELECT 2, image FROM png;
SELECT tableoid::regclass, id, image IS NOT NULL AS image, faces FROM uploads ORDER BY 1, 2, 3;
-- A row that changes partition.
UPDATE uploads SET id = 2, image = (SELECT image FROM png) WHERE image IS NULL;
SELECT tableoid::regclass, count(*), count(faces) FROM uploads GROUP BY 1 ORDER BY 1;
DROP TABLE uploads;

-- Instead of a trigger: generated columns, and an index on what is computed.
CREATE TABLE photos (id int, image bytea,
	faces face[] GENERATED ALWAYS AS (face_array(image, 'default')) STORED,
	face_count int GENERATED ALWAYS AS (cardinality(face_array(image, 'default'))) STORED);
CREATE INDEX ON photos (cardinality(face_array(image, 'default')));
INSERT INTO photos SELECT i, CASE WHEN i < 3 THEN image END FROM png, generate_series(1, 3) i;
SELECT id, faces, face_count FROM photos ORDER BY id;
UPDATE photos SET image = (SELECT image FROM png) WHERE id = 3;
SELECT id, faces, face_count FROM photos ORDER BY id;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM photos WHERE cardinality(face_array(image, 'default')) = 0;
SELECT id FROM photos WHERE cardinality(face_array(image, 'default')) = 0 ORDER BY id;
RESET enable_seqscan;
INSERT INTO photos VALUES (4, 'not an image');
-- The forms that follow the session's settings are not for that.
CREATE INDEX ON photos ((face_classify(image)));
ALTER TABLE photos ADD COLUMN crop face GENERATED ALWAYS AS (face_classify(image)) STORED;
DROP TABLE photos, png;
