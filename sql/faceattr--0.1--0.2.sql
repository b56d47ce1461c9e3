/* faceattr 0.2: models as rows, counters */

\echo Use "ALTER EXTENSION faceattr UPDATE" to load this file. \quit

CREATE FUNCTION face_model_network(weights bytea) RETURNS text
AS 'MODULE_PATHNAME', 'faceattr_model_network' LANGUAGE C
IMMUTABLE STRICT PARALLEL SAFE COST 30000000;
COMMENT ON FUNCTION face_model_network(bytea) IS
'the network of a weights file, which is checked completely: what is no model is an error (weights: safetensors)';

CREATE TABLE face_model (
	name text COLLATE "C" PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 63),
	network text NOT NULL GENERATED ALWAYS AS (face_model_network(weights)) STORED,
	weights bytea NOT NULL,
	sha256 bytea NOT NULL GENERATED ALWAYS AS (sha256(weights)) STORED,
	metrics jsonb,
	hyper_parameters jsonb,
	query text,
	row_count bigint CHECK (row_count >= 0),
	owner name NOT NULL DEFAULT current_user,
	created timestamptz NOT NULL DEFAULT now());
ALTER TABLE face_model ALTER weights SET STORAGE EXTERNAL; -- does not compress

COMMENT ON TABLE face_model IS 'published models, beside those that come with the extension';
COMMENT ON COLUMN face_model.name IS 'for faceattr.model and the functions'' model arguments';
COMMENT ON COLUMN face_model.network IS 'the network that the weights belong to';
COMMENT ON COLUMN face_model.weights IS 'weights file: safetensors with metadata';
COMMENT ON COLUMN face_model.sha256 IS 'SHA-256 of the weights: what the model is, whatever its name';
COMMENT ON COLUMN face_model.metrics IS 'how well the model does';
COMMENT ON COLUMN face_model.hyper_parameters IS 'how it was trained';
COMMENT ON COLUMN face_model.query IS 'what it was trained on: the rows of this query';
COMMENT ON COLUMN face_model.row_count IS 'how many rows that were';
COMMENT ON COLUMN face_model.owner IS 'the role that may replace and drop the model, by itself or its members';
COMMENT ON COLUMN face_model.created IS 'when the model was published, or last replaced';

/* Everybody predicts with everything; who may publish is for the administrator to say. */
GRANT SELECT ON face_model TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('face_model', '');

CREATE FUNCTION face_model_guard() RETURNS trigger
AS 'MODULE_PATHNAME', 'faceattr_model_guard' LANGUAGE C;
COMMENT ON FUNCTION face_model_guard() IS
'trigger of table face_model: only a model''s owner may change it, and shipped models'' names are reserved';

CREATE TRIGGER face_model_guard BEFORE INSERT OR UPDATE OR DELETE ON face_model
FOR EACH ROW EXECUTE FUNCTION face_model_guard();
COMMENT ON TRIGGER face_model_guard ON face_model IS
'only a model''s owner may change it, and shipped models'' names are reserved';

CREATE FUNCTION face_model_read(path text) RETURNS bytea
AS 'MODULE_PATHNAME', 'faceattr_model_read' LANGUAGE C
VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION face_model_read(text) IS
'bytes of a file on the server, for those with the rights of pg_read_server_files (path: from the data directory, or absolute)';

CREATE FUNCTION face_model_import(name text, weights bytea, metrics jsonb DEFAULT NULL,
	hyper_parameters jsonb DEFAULT NULL, query text DEFAULT NULL, row_count bigint DEFAULT NULL)
RETURNS bytea
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	INSERT INTO face_model AS m (name, weights, metrics, hyper_parameters, query, row_count)
	VALUES (name, weights, metrics, hyper_parameters, query, row_count)
	ON CONFLICT (name) DO UPDATE
	SET weights = excluded.weights, metrics = excluded.metrics, hyper_parameters = excluded.hyper_parameters,
		query = excluded.query, row_count = excluded.row_count, created = now()
	RETURNING m.sha256;
END;
COMMENT ON FUNCTION face_model_import(text, bytea, jsonb, jsonb, text, bigint) IS
'publishes a model, replacing the one of that name, and gives its SHA-256 (name: new or yours; weights: safetensors; metrics: how well it does; hyper_parameters: how it was trained; query: on the rows of which query; row_count: how many)';

CREATE FUNCTION face_model_import(name text, path text, metrics jsonb DEFAULT NULL,
	hyper_parameters jsonb DEFAULT NULL, query text DEFAULT NULL, row_count bigint DEFAULT NULL)
RETURNS bytea
LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT face_model_import(name, face_model_read(path), metrics, hyper_parameters, query, row_count);
END;
COMMENT ON FUNCTION face_model_import(text, text, jsonb, jsonb, text, bigint) IS
'the same from a file on the server, for those with the rights of pg_read_server_files (name: new or yours; path: of safetensors; metrics: how well it does; hyper_parameters: how it was trained; query: on the rows of which query; row_count: how many)';

CREATE FUNCTION face_model_drop(name text) RETURNS void
AS 'MODULE_PATHNAME', 'faceattr_model_drop' LANGUAGE C
VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION face_model_drop(text) IS 'drops a published model (name: yours)';

CREATE FUNCTION face_model_version(OUT name text, OUT sha256 bytea)
AS 'MODULE_PATHNAME', 'faceattr_model_version' LANGUAGE C
STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION face_model_version() IS
'which model the session''s settings name, to the bit';

CREATE FUNCTION face_model_version(model text, OUT name text, OUT sha256 bytea)
AS 'MODULE_PATHNAME', 'faceattr_model_version' LANGUAGE C
STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION face_model_version(text) IS
'which model a name stands for, to the bit (model: its name)';

CREATE FUNCTION face_evaluate(query text, model text DEFAULT NULL, crops boolean DEFAULT false,
	OUT race text, OUT gender text, OUT decade int, OUT count bigint, OUT not_found bigint, OUT bad_images bigint,
	OUT age_mae float8, OUT age_mae_low float8, OUT age_mae_high float8, OUT age_bias float8, OUT age_interval_coverage float8,
	OUT gender_accuracy float8, OUT gender_accuracy_low float8, OUT gender_accuracy_high float8, OUT gender_calibration_error float8,
	OUT race_accuracy float8, OUT race_accuracy_low float8, OUT race_accuracy_high float8, OUT race_calibration_error float8,
	OUT false_adult_rate_18 float8, OUT false_adult_rate_18_low float8, OUT false_adult_rate_18_high float8,
	OUT false_adult_rate_21 float8, OUT false_adult_rate_21_low float8, OUT false_adult_rate_21_high float8)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'faceattr_evaluate' LANGUAGE C
VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100
SET transaction_read_only = on; -- nothing that the query calls may write
COMMENT ON FUNCTION face_evaluate(text, text, boolean) IS
'how well a model does on labelled images, in total and by group (query: gives image, age, gender and race; model: its name, or NULL for faceattr.model; crops: the images are ready face crops)';

CREATE FUNCTION faceattr_scan(query text, model text, OUT key text, OUT face face)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'faceattr_scan' LANGUAGE C
VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 100000;
COMMENT ON FUNCTION faceattr_scan(text, text) IS 'the rows of face_scan (query: its query; model: its model)';

-- The server keeps all rows of a C function in FROM before it goes on, but puts a STABLE SQL function's query in its place:
-- so rows come one by one, and LIMIT ends the scan.
CREATE FUNCTION face_scan(query text, model text DEFAULT NULL) RETURNS TABLE (key text, face face)
LANGUAGE SQL STABLE PARALLEL UNSAFE COST 1000000 ROWS 100000
BEGIN ATOMIC
	SELECT (s.found).key, (s.found).face FROM (SELECT faceattr_scan(query, model) AS found OFFSET 0) AS s;
END;
COMMENT ON FUNCTION face_scan(text, text) IS
'the faces in the photos that a query gives, in its order, as a stream (query: gives a key and an image; model: its name, or NULL for faceattr.model)';

CREATE FUNCTION faceattr_stat_counters(OUT scope text, OUT since timestamptz, OUT images bigint, OUT gpu_images bigint, OUT faces bigint,
	OUT damaged bigint, OUT unsupported bigint, OUT too_large bigint, OUT other_errors bigint,
	OUT decode_time float8, OUT detect_time float8, OUT classify_time float8)
AS 'MODULE_PATHNAME', 'faceattr_stat_counters' LANGUAGE C
VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION faceattr_stat_counters() IS 'the row of view faceattr_stat';

CREATE VIEW faceattr_stat AS SELECT * FROM faceattr_stat_counters();
GRANT SELECT ON faceattr_stat TO PUBLIC;
COMMENT ON VIEW faceattr_stat IS 'what has been done so far';
COMMENT ON COLUMN faceattr_stat.scope IS 'server: everything since it started or the counters were reset; session, where the library is not preloaded: by this session alone';
COMMENT ON COLUMN faceattr_stat.since IS 'when counting began';
COMMENT ON COLUMN faceattr_stat.images IS 'photos and crops looked at, bad ones too';
COMMENT ON COLUMN faceattr_stat.gpu_images IS 'those of them that a GPU has looked at; the CPU the others';
COMMENT ON COLUMN faceattr_stat.faces IS 'faces reported';
COMMENT ON COLUMN faceattr_stat.damaged IS 'images that were damaged';
COMMENT ON COLUMN faceattr_stat.unsupported IS 'images of a format that is not read';
COMMENT ON COLUMN faceattr_stat.too_large IS 'images with more than faceattr.max_pixels';
COMMENT ON COLUMN faceattr_stat.other_errors IS 'images that failed for another reason, such as memory';
COMMENT ON COLUMN faceattr_stat.decode_time IS 'milliseconds spent on reading, scaling and aligning';
COMMENT ON COLUMN faceattr_stat.detect_time IS 'milliseconds spent on finding faces';
COMMENT ON COLUMN faceattr_stat.classify_time IS 'milliseconds spent on their attributes';

CREATE FUNCTION faceattr_stat_loaded(OUT model text, OUT key bytea, OUT engine text, OUT "precision" text, OUT location text, OUT size bigint,
	OUT pins int, OUT hits bigint, OUT last_use timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'faceattr_stat_loaded' LANGUAGE C
VOLATILE STRICT PARALLEL RESTRICTED ROWS 4;
COMMENT ON FUNCTION faceattr_stat_loaded() IS 'the rows of view faceattr_stat_models';

CREATE VIEW faceattr_stat_models AS SELECT * FROM faceattr_stat_loaded();
GRANT SELECT ON faceattr_stat_models TO PUBLIC;
COMMENT ON VIEW faceattr_stat_models IS 'models in memory: those that all sessions share, and this session''s own copies';
COMMENT ON COLUMN faceattr_stat_models.model IS 'name by which it was asked for first; another database may know it by another';
COMMENT ON COLUMN faceattr_stat_models.key IS 'what it is: SHA-256 of a published model''s weights, as in face_model; of a shipped one, identity and time of its file';
COMMENT ON COLUMN faceattr_stat_models.engine IS 'that it is for: cpu, or cuda, on a GPU';
COMMENT ON COLUMN faceattr_stat_models."precision" IS 'arithmetic that its weights are packed for';
COMMENT ON COLUMN faceattr_stat_models.location IS 'shared; packing: about to be shared; private: this session''s own copy, as the library is not preloaded or there was no room';
COMMENT ON COLUMN faceattr_stat_models.size IS 'bytes of shared memory, or of the private copy''s file';
COMMENT ON COLUMN faceattr_stat_models.pins IS 'running statements that use the shared copy';
COMMENT ON COLUMN faceattr_stat_models.hits IS 'statements that found it in memory (private: calls)';
COMMENT ON COLUMN faceattr_stat_models.last_use IS 'when a statement last began or ended to use it';

CREATE FUNCTION faceattr_service_state(OUT state text, OUT pid int, OUT engine text, OUT device text, OUT confined text,
	OUT started timestamptz, OUT slots int, OUT slots_in_use int, OUT queued int, OUT requests bigint, OUT images bigint,
	OUT batches bigint, OUT batch_sizes bigint[], OUT wait_time float8, OUT run_time float8, OUT abandoned bigint, OUT failed bigint,
	OUT restarts bigint, OUT last_error text, OUT last_error_time timestamptz)
AS 'MODULE_PATHNAME', 'faceattr_service_state' LANGUAGE C
VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION faceattr_service_state() IS 'the row of view faceattr_stat_service';

CREATE VIEW faceattr_stat_service AS SELECT * FROM faceattr_service_state();
GRANT SELECT ON faceattr_stat_service TO PUBLIC;
COMMENT ON VIEW faceattr_stat_service IS 'faceattr-service: whether it runs, and what it has done since the server started';
COMMENT ON COLUMN faceattr_stat_service.state IS 'stopped: nobody has asked for it, or it was idle; starting; ready; waiting: it has died and starts again soon; useless: this machine lacks what it needs; none: the library is not preloaded';
COMMENT ON COLUMN faceattr_stat_service.pid IS 'its process';
COMMENT ON COLUMN faceattr_stat_service.engine IS 'cpu or cuda';
COMMENT ON COLUMN faceattr_stat_service.device IS 'the processor, or the GPU and its driver';
COMMENT ON COLUMN faceattr_stat_service.confined IS 'what the kernel keeps it from: files, calls, both or none';
COMMENT ON COLUMN faceattr_stat_service.started IS 'when it became ready';
COMMENT ON COLUMN faceattr_stat_service.slots IS 'requests that sessions may have in it at once';
COMMENT ON COLUMN faceattr_stat_service.slots_in_use IS 'those that they have';
COMMENT ON COLUMN faceattr_stat_service.queued IS 'those of them that it has not taken up yet';
COMMENT ON COLUMN faceattr_stat_service.requests IS 'requests taken up';
COMMENT ON COLUMN faceattr_stat_service.images IS 'images run through a network: photos at detection, and crops';
COMMENT ON COLUMN faceattr_stat_service.batches IS 'batches run through a network';
COMMENT ON COLUMN faceattr_stat_service.batch_sizes IS 'batches of 1 image, of 2, of 3 to 4, of 5 to 8, and so on';
COMMENT ON COLUMN faceattr_stat_service.wait_time IS 'milliseconds that requests have waited for their batch, all together';
COMMENT ON COLUMN faceattr_stat_service.run_time IS 'milliseconds that batches have run, all together';
COMMENT ON COLUMN faceattr_stat_service.abandoned IS 'requests that sessions gave up: cancelled, say';
COMMENT ON COLUMN faceattr_stat_service.failed IS 'requests that it answered with an error';
COMMENT ON COLUMN faceattr_stat_service.restarts IS 'how often it has died';
COMMENT ON COLUMN faceattr_stat_service.last_error IS 'why it died last, or what failed last';
COMMENT ON COLUMN faceattr_stat_service.last_error_time IS 'and when that was';

CREATE FUNCTION faceattr_service_models(OUT key bytea, OUT "precision" text, OUT resident boolean, OUT memory bigint,
	OUT images bigint, OUT last_use timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'faceattr_service_models' LANGUAGE C
VOLATILE STRICT PARALLEL RESTRICTED ROWS 4;
COMMENT ON FUNCTION faceattr_service_models() IS 'the rows of view faceattr_stat_service_models';

CREATE VIEW faceattr_stat_service_models AS SELECT * FROM faceattr_service_models();
GRANT SELECT ON faceattr_stat_service_models TO PUBLIC;
COMMENT ON VIEW faceattr_stat_service_models IS 'models that faceattr-service has';
COMMENT ON COLUMN faceattr_stat_service_models.key IS 'what it is: as in faceattr_stat_models';
COMMENT ON COLUMN faceattr_stat_service_models."precision" IS 'arithmetic that it is loaded for';
COMMENT ON COLUMN faceattr_stat_service_models.resident IS 'on the device; else only its file is kept';
COMMENT ON COLUMN faceattr_stat_service_models.memory IS 'bytes on the device';
COMMENT ON COLUMN faceattr_stat_service_models.images IS 'crops that went through it';
COMMENT ON COLUMN faceattr_stat_service_models.last_use IS 'when a batch of it last ran';

CREATE FUNCTION faceattr_stat_reset() RETURNS void
AS 'MODULE_PATHNAME', 'faceattr_stat_reset' LANGUAGE C
VOLATILE STRICT PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION faceattr_stat_reset() FROM PUBLIC;
COMMENT ON FUNCTION faceattr_stat_reset() IS 'sets the counters of faceattr_stat to zero';
