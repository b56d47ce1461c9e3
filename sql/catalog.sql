-- What CREATE EXTENSION makes: signatures, volatilities, comments.

SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS result,
       CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       proparallel AS parallel, proisstrict AS strict
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'faceattr'
ORDER BY p.oid::regprocedure::text COLLATE "C";

SELECT attname, format_type(atttypid, atttypmod) AS type
FROM pg_attribute WHERE attrelid = 'face'::regclass ORDER BY attnum;

SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null, attgenerated AS generated, attstorage AS storage
FROM pg_attribute WHERE attrelid = 'face_model'::regclass AND attnum > 0 ORDER BY attnum;
-- Everybody predicts with every model, and may publish none.
SELECT p.privilege, has_table_privilege('public', 'face_model', p.privilege) AS everybody
FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p (privilege);
SELECT 'face_model'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'faceattr';
-- Nothing runs with rights other than the caller's.
SELECT p.oid::regprocedure
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'faceattr' WHERE prosecdef;

-- Everything has a comment, and a function's names its arguments.
SELECT p.oid::regprocedure, a.name
FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'faceattr',
     unnest(p.proargnames) WITH ORDINALITY a (name, n)
WHERE a.n <= p.pronargs
AND coalesce(obj_description(p.oid, 'pg_proc') !~ (a.name || ':'), true);
SELECT attname FROM pg_attribute
WHERE attrelid IN ('face'::regclass, 'face_model'::regclass, 'faceattr_stat'::regclass, 'faceattr_stat_models'::regclass,
	'faceattr_stat_service'::regclass, 'faceattr_stat_service_models'::regclass) AND attnum > 0 AND col_description(attrelid, attnum) IS NULL;
SELECT obj_description('face'::regtype, 'pg_type') IS NOT NULL AS type_comment,
       obj_description('face_model'::regclass, 'pg_class') IS NOT NULL AS table_comment,
       obj_description('face_attributes_trigger()'::regprocedure, 'pg_proc') IS NOT NULL AS trigger_comment;

-- The functions cost what they cost: cheap predicates go first.
CREATE TABLE photos (id int, image bytea);
EXPLAIN (COSTS OFF)
SELECT id FROM photos WHERE cardinality(face_array(image, 'default')) > 1 AND id % 10 = 3 AND length(image) > 100;
DROP TABLE photos;

-- The extension lives in any schema; its functions find their type. Its array type is a
-- member, too, as shipping to foreign servers wants, and goes with it.
DROP EXTENSION faceattr;
CREATE SCHEMA elsewhere;
CREATE EXTENSION faceattr SCHEMA elsewhere;
SELECT pg_typeof(elsewhere.face_array(decode('iVBORw0KGgoAAAANSUhEUgAAACgAAAAeCAAAAAB7tgMBAAAAGklEQVR42mM8wUAcYGIYVTiqcFThqMJBrBAAVVYBBKqLwogAAAAASUVORK5CYII=', 'base64'), 'default'));
SELECT pg_describe_object(classid, objid, 0) AS member FROM pg_depend
WHERE classid = 'pg_type'::regclass AND deptype = 'e'
AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'faceattr') ORDER BY 1;
DROP EXTENSION faceattr;
SELECT to_regtype('elsewhere.face[]') IS NULL AS gone;
DROP SCHEMA elsewhere;
CREATE EXTENSION faceattr;
