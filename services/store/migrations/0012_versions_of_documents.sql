-- A document that is ingested again stays searchable as it was until its new version is there whole;
-- long texts are kept in sections; and what a stage of an ingestion made is kept as it goes, so that
-- whoever takes the job next goes on from there.

SELECT set_config('ragmesh.tenant', '*', true);

-- The version of a document that is being ingested, its first one or a newer one, and what its
-- stages have made so far. It goes when it is published; when its job fails it stays, to be tried
-- again.
CREATE TABLE document_versions (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    document_id text COLLATE "C" NOT NULL,
    ingest_job text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    media_type text NOT NULL,
    source_uri text NOT NULL,
    payload json NOT NULL,
    size_bytes bigint NOT NULL,
    content_sha256 bytea NOT NULL,
    text_key bytea,
    passage_set_key bytea,
    PRIMARY KEY (tenant, collection_uid, document_id),
    FOREIGN KEY (tenant, collection_uid, document_id)
        REFERENCES documents (tenant, collection_uid, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant, content_sha256) REFERENCES contents (tenant, sha256)
        DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant, text_key) REFERENCES texts (tenant, text_key)
        DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant, passage_set_key) REFERENCES passage_sets (tenant, passage_set_key)
        DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX document_versions_by_content ON document_versions (tenant, content_sha256);
CREATE INDEX document_versions_by_text ON document_versions (tenant, text_key);
CREATE INDEX document_versions_by_passage_set ON document_versions (tenant, passage_set_key);
INSERT INTO document_versions (tenant, collection_uid, document_id, ingest_job, display_name,
    media_type, source_uri, payload, size_bytes, content_sha256)
SELECT tenant, collection_uid, id, ingest_job, display_name, media_type, source_uri, payload,
    size_bytes, content_sha256
FROM documents WHERE state <> 'active';

-- Passages are numbered within their document for good: `next_number` was never given to one.
ALTER TABLE documents ADD COLUMN next_number integer NOT NULL DEFAULT 0;
UPDATE documents SET next_number = passages;

-- A piece of a text: the characters from `start` on, and its blocks. A text is `complete` once its
-- last section is there.
CREATE TABLE text_sections (
    section_index integer NOT NULL,
    start integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    text_key bytea NOT NULL,
    text text NOT NULL,
    blocks json NOT NULL,
    PRIMARY KEY (tenant, text_key, section_index)
);
INSERT INTO text_sections (section_index, start, tenant, text_key, text, blocks)
SELECT 0, 0, tenant, text_key, text, blocks FROM texts;
ALTER TABLE texts ADD COLUMN characters integer NOT NULL DEFAULT 0;
ALTER TABLE texts ADD COLUMN sections integer NOT NULL DEFAULT 0;
ALTER TABLE texts ADD COLUMN complete boolean NOT NULL DEFAULT false;
UPDATE texts SET characters = length(text), sections = 1, complete = true;
ALTER TABLE texts DROP COLUMN text;
ALTER TABLE texts DROP COLUMN blocks;

-- Of a set that is being made, `passages` are those of its first `sections` sections of the text.
ALTER TABLE passage_sets ADD COLUMN sections integer NOT NULL DEFAULT 0;
ALTER TABLE passage_sets ADD COLUMN complete boolean NOT NULL DEFAULT false;
UPDATE passage_sets SET sections = 1, complete = true;

-- A hash of all that the model was given and of the model: equal passages are embedded once. Null
-- for passages from before it was kept.
ALTER TABLE passages ADD COLUMN passage_key bytea;
CREATE INDEX passages_by_key ON passages (tenant, passage_key) WHERE passage_key IS NOT NULL;

-- Whose turn it is: tenants whose documents wait are served in turns, and what a person waits for
-- goes before bulk.
ALTER TABLE ingest_jobs ADD COLUMN bulk boolean NOT NULL DEFAULT false;
DROP INDEX ingest_jobs_waiting;
CREATE INDEX ingest_jobs_waiting ON ingest_jobs (tenant, bulk, create_time)
    WHERE state IN ('queued', 'running');
CREATE TABLE ingest_turns (
    tenant text COLLATE "C" PRIMARY KEY,
    last_time timestamptz NOT NULL
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['document_versions', 'text_sections', 'ingest_turns'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant_only ON %I USING ('
            'tenant = (SELECT current_setting(''ragmesh.tenant'', true)) '
            'OR (SELECT current_setting(''ragmesh.tenant'', true)) = ''*'')',
            name
        );
    END LOOP;
END
$$;
