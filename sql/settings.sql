-- The settings: defaults, contexts, limits.
LOAD 'faceattr';

SELECT name, setting, boot_val, min_val, max_val, enumvals, context
FROM pg_settings WHERE name LIKE 'faceattr.%' ORDER BY name COLLATE "C";

SET faceattr.precision = 'fp64';
SET faceattr.threads = 0;
SET faceattr.detect_size = 100;
SET faceattr.detect_size = 5000;
SET faceattr.min_score = 1.5;
SET faceattr.min_face = 0;
SET faceattr.max_pixels = 0;
SET faceattr.on_bad_image = 'maybe';
SET faceattr.run_in = 'gpu';
SET faceattr.batch_size = 8;
SET faceattr.no_such_setting = 1;

-- The safety limit is not for everybody to lift.
CREATE ROLE regress_faceattr;
SET ROLE regress_faceattr;
SET faceattr.max_pixels = 1000000000;
SET faceattr.decode_in = 'service';
SET faceattr.min_score = 0.4;
RESET ROLE;
RESET faceattr.min_score;
DROP ROLE regress_faceattr;
