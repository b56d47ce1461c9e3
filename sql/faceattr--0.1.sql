/* faceattr 0.1 */

\echo Use "CREATE EXTENSION faceattr" to load this file. \quit

CREATE TYPE face AS (
	box box,
	score real,
	landmarks point[],
	age real,
	age_low real,
	age_high real,
	gender text,
	gender_confidence real,
	race text,
	race_confidence real);

COMMENT ON TYPE face IS 'a face in a photo, and what the network says of it';
COMMENT ON COLUMN face.box IS 'around the face, in pixels of the upright photo, the origin at its top left';
COMMENT ON COLUMN face.score IS 'how sure it is that this is a face: 0 to 1';
COMMENT ON COLUMN face.landmarks IS 'right eye, left eye, tip of the nose, right and left corner of the mouth (the person''s own right), in pixels of the upright photo; NULL for a ready crop';
COMMENT ON COLUMN face.age IS 'apparent age in years: expected value of the age distribution';
COMMENT ON COLUMN face.age_low IS 'lower end of the interval that holds the age with a probability of 80 %';
COMMENT ON COLUMN face.age_high IS 'upper end of that interval';
COMMENT ON COLUMN face.gender IS 'the gender that the network sees';
COMMENT ON COLUMN face.gender_confidence IS 'calibrated probability of that gender: 0 to 1';
COMMENT ON COLUMN face.race IS 'the race that the network sees';
COMMENT ON COLUMN face.race_confidence IS 'calibrated probability of that race: 0 to 1';

/*
 * postgres_fdw ships only what belongs to the extension, and in older versions
 * of PostgreSQL a type's array does not by itself.
 */
DO $$
BEGIN
	IF NOT EXISTS (
		SELECT FROM pg_catalog.pg_depend
		WHERE classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND deptype = 'e'
		AND objid = (SELECT typarray FROM pg_catalog.pg_type WHERE oid = 'face'::pg_catalog.regtype))
	THEN
		ALTER EXTENSION faceattr ADD TYPE face[];
	END IF;
END $$;

/*
 * Costs are in units of cpu_operator_cost, measured by bench/server.pl. All
 * functions read the image in the first call, whatever the number of rows.
 */

CREATE FUNCTION face_support(internal) RETURNS internal
AS 'MODULE_PATHNAME', 'faceattr_support' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION face_support(internal) IS
'planner support: a model''s name has no collation, so that calls can be shipped to foreign servers';

CREATE FUNCTION face_attributes(image bytea) RETURNS SETOF face
AS 'MODULE_PATHNAME', 'faceattr_attributes' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 2400000 ROWS 2;
COMMENT ON FUNCTION face_attributes(bytea) IS
'faces in a photo with their attributes, largest first, by the session''s settings (image: JPEG or PNG)';

CREATE FUNCTION face_attributes(image bytea, model text) RETURNS SETOF face
AS 'MODULE_PATHNAME', 'faceattr_attributes' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 2400000 ROWS 2;
COMMENT ON FUNCTION face_attributes(bytea, text) IS
'faces in a photo with their attributes, largest first, as the model says (image: JPEG or PNG; model: its name)';

CREATE FUNCTION face_array(image bytea, model text) RETURNS face[]
AS 'MODULE_PATHNAME', 'faceattr_array' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 2400000
SUPPORT face_support;
COMMENT ON FUNCTION face_array(bytea, text) IS
'the rows of face_attributes as an array, for generated columns, indexes and foreign servers (image: JPEG or PNG; model: its name)';

CREATE FUNCTION face_detect(image bytea) RETURNS SETOF face
AS 'MODULE_PATHNAME', 'faceattr_detect' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 1400000 ROWS 2;
COMMENT ON FUNCTION face_detect(bytea) IS
'faces in a photo, largest first, attributes NULL: the detector alone (image: JPEG or PNG)';

CREATE FUNCTION face_classify(crop bytea) RETURNS face
AS 'MODULE_PATHNAME', 'faceattr_classify' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION face_classify(bytea) IS
'attributes of a ready crop, which is not searched for faces, by the session''s settings (crop: JPEG or PNG, one face filling it)';

CREATE FUNCTION face_classify(crop bytea, model text) RETURNS face
AS 'MODULE_PATHNAME', 'faceattr_classify' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 1000000
SUPPORT face_support;
COMMENT ON FUNCTION face_classify(bytea, text) IS
'attributes of a ready crop, which is not searched for faces (crop: JPEG or PNG, one face filling it; model: its name)';

CREATE FUNCTION face_classify(crops bytea[]) RETURNS SETOF face
AS 'MODULE_PATHNAME', 'faceattr_classify_array' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 10000000 ROWS 10;
COMMENT ON FUNCTION face_classify(bytea[]) IS
'attributes of ready crops in batches, in the same order, NULL for NULL, by the session''s settings (crops: JPEG or PNG, one face filling each)';

CREATE FUNCTION face_classify(crops bytea[], model text) RETURNS SETOF face
AS 'MODULE_PATHNAME', 'faceattr_classify_array' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 10000000 ROWS 10;
COMMENT ON FUNCTION face_classify(bytea[], text) IS
'attributes of ready crops in batches, in the same order, NULL for NULL (crops: JPEG or PNG, one face filling each; model: its name)';

CREATE FUNCTION face_embedding(image bytea) RETURNS SETOF real[]
AS 'MODULE_PATHNAME', 'faceattr_embedding' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 2400000 ROWS 2;
COMMENT ON FUNCTION face_embedding(bytea) IS
'a vector of unit length for each face of face_attributes, in its order, by the session''s settings (image: JPEG or PNG)';

CREATE FUNCTION face_embedding(image bytea, model text) RETURNS SETOF real[]
AS 'MODULE_PATHNAME', 'faceattr_embedding' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 2400000 ROWS 2;
COMMENT ON FUNCTION face_embedding(bytea, text) IS
'a vector of unit length for each face of face_attributes, in its order, as the model says (image: JPEG or PNG; model: its name)';

CREATE FUNCTION face_probabilities(crop bytea, head text) RETURNS TABLE (label text, probability real)
AS 'MODULE_PATHNAME', 'faceattr_probabilities' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 1000000 ROWS 10;
COMMENT ON FUNCTION face_probabilities(bytea, text) IS
'calibrated probability of every label of a head for a ready crop, by the session''s settings (crop: JPEG or PNG, one face filling it; head: age, gender, race, face or another of the model''s)';

CREATE FUNCTION face_probabilities(crop bytea, head text, model text) RETURNS TABLE (label text, probability real)
AS 'MODULE_PATHNAME', 'faceattr_probabilities' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 1000000 ROWS 10;
COMMENT ON FUNCTION face_probabilities(bytea, text, text) IS
'calibrated probability of every label of a head for a ready crop (crop: JPEG or PNG, one face filling it; head: age, gender, race, face or another of the model''s; model: its name)';

CREATE FUNCTION face_annotate(image bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'faceattr_annotate' LANGUAGE C
STABLE STRICT PARALLEL SAFE COST 3200000;
COMMENT ON FUNCTION face_annotate(bytea) IS
'the upright photo with boxes and labels drawn, in its own format, by the session''s settings (image: JPEG or PNG)';

CREATE FUNCTION face_annotate(image bytea, model text) RETURNS bytea
AS 'MODULE_PATHNAME', 'faceattr_annotate' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 3200000
SUPPORT face_support;
COMMENT ON FUNCTION face_annotate(bytea, text) IS
'the upright photo with boxes and labels drawn, in its own format (image: JPEG or PNG; model: its name)';

CREATE FUNCTION face_annotate(image bytea, model text, format text) RETURNS bytea
AS 'MODULE_PATHNAME', 'faceattr_annotate' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 3200000
SUPPORT face_support;
COMMENT ON FUNCTION face_annotate(bytea, text, text) IS
'the upright photo with boxes and labels drawn (image: JPEG or PNG; model: its name; format: jpeg or png)';

CREATE FUNCTION face_attributes_trigger() RETURNS trigger
AS 'MODULE_PATHNAME', 'faceattr_trigger' LANGUAGE C PARALLEL SAFE;
COMMENT ON FUNCTION face_attributes_trigger() IS
'keeps a column of faces in step with a column of photos: BEFORE INSERT OR UPDATE, FOR EACH ROW (image_column, target_column [, model]; the target is of type face[] for all faces or face for the largest)';
