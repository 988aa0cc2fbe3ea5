-- A sparse vector beside a point's own: indices, then values.

ALTER TABLE points ADD COLUMN sparse_vector bytea;
-- As vectors: they hardly compress.
ALTER TABLE points ALTER COLUMN sparse_vector SET STORAGE EXTERNAL;
