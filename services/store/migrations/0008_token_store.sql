-- A small vector of every token beside a text's own, for collections that ask for it.

ALTER TABLE collections ADD COLUMN token_store boolean NOT NULL DEFAULT false;
ALTER TABLE points ADD COLUMN token_vectors bytea;
ALTER TABLE passages ADD COLUMN token_vectors bytea;
-- As vectors: they do not compress.
ALTER TABLE points ALTER COLUMN token_vectors SET STORAGE EXTERNAL;
ALTER TABLE passages ALTER COLUMN token_vectors SET STORAGE EXTERNAL;
