-- Files of documents lie in the object store; a row here names the object. Those from before are
-- still in `content_chunks`, and have no object: nodes move them, one at a time, while they serve.

-- `scheme` says how the object's bytes are the file's: as they are, for now.
ALTER TABLE contents ADD COLUMN object bytea CHECK (octet_length(object) = 32);
ALTER TABLE contents ADD COLUMN scheme text NOT NULL DEFAULT 'plain' CHECK (scheme IN ('plain'));
CREATE INDEX contents_by_object ON contents (object) WHERE object IS NOT NULL;
CREATE INDEX contents_to_move ON contents (tenant, sha256) WHERE object IS NULL;

-- Objects that no file is in any more and that are about to be deleted. Whoever names one again
-- takes it off this list first, and waits where it is being deleted.
CREATE TABLE condemned_files (
    sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32)
);
-- A name is a hash of tenant and file, so it tells nothing; who deletes a document condemns.
ALTER TABLE condemned_files ENABLE ROW LEVEL SECURITY;
ALTER TABLE condemned_files FORCE ROW LEVEL SECURITY;
CREATE POLICY all_tenants ON condemned_files USING (true);
