-- The tables of ragmesh. Every key begins with the tenant, or is a random uuid of one tenant's
-- collection. Ids compare as bytes (COLLATE "C"), as Python and the indexes' pages do.
-- JSON is kept as `json`, not `jsonb`: what a caller wrote comes back as written (1.0 stays 1.0).

CREATE TABLE collections (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    uid uuid NOT NULL,
    display_name text NOT NULL,
    embedding_model text NOT NULL,
    fingerprint text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    metric text NOT NULL CHECK (metric IN ('cosine', 'dot', 'euclidean')),
    language text NOT NULL,
    chunk_tokens_max integer NOT NULL,
    chunk_overlap_tokens integer NOT NULL,
    hnsw_m integer NOT NULL,
    hnsw_ef_construction integer NOT NULL,
    hnsw_ef_search integer NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, uid)
);

-- The counter row of each collection. Whoever writes its points holds this row's lock until the
-- commit, so commits become visible in the order of their numbers. Tombstones and commits below
-- `floor` are gone: an index that stands lower starts anew.
CREATE TABLE heads (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    seq bigint NOT NULL,
    change_id uuid NOT NULL,
    floor bigint NOT NULL,
    PRIMARY KEY (tenant, collection_uid)
) WITH (fillfactor = 10);

-- One row a commit: the pair by which an index knows that the log it followed is this one.
CREATE TABLE commits (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    seq bigint NOT NULL,
    change_id uuid NOT NULL,
    commit_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, collection_uid, seq)
);

-- A point of its own has vector, text and sentences here. A document's point has none of them: it
-- names its passage, which documents with the same content share.
CREATE TABLE points (
    collection_uid uuid NOT NULL,
    seq bigint NOT NULL,
    passage_index integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    document text COLLATE "C",
    passage_set_key bytea,
    payload json NOT NULL,
    text text NOT NULL,
    vector bytea,
    sentences bytea,
    PRIMARY KEY (tenant, collection_uid, id)
) WITH (toast_tuple_target = 4080);
-- Floats do not compress, and trying costs more than writing them.
ALTER TABLE points ALTER COLUMN vector SET STORAGE EXTERNAL;
ALTER TABLE points ALTER COLUMN sentences SET STORAGE EXTERNAL;
-- The conditions, true of every row, keep statements that look for ids off these indexes: without
-- statistics both look equally good to the planner, and it would read the whole collection.
CREATE INDEX points_by_seq ON points (tenant, collection_uid, seq) WHERE seq > 0;
CREATE INDEX points_by_document ON points (tenant, collection_uid, document) WHERE document IS NOT NULL;

-- An id has a point or a tombstone, never both.
CREATE TABLE tombstones (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (tenant, collection_uid, id)
);
CREATE INDEX tombstones_by_seq ON tombstones (tenant, collection_uid, seq) WHERE seq > 0;

-- Deleted collections whose points are still to be removed, some thousands at a time.
CREATE TABLE deleted_collections (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    delete_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, collection_uid)
);

-- Files, by their hash; the bytes in pieces of 1 MiB, so that no value is ever large.
CREATE TABLE contents (
    tenant text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    size_bytes bigint NOT NULL,
    media_type text NOT NULL,
    PRIMARY KEY (tenant, sha256)
);
CREATE TABLE content_chunks (
    tenant text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL,
    chunk_index integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (tenant, sha256, chunk_index)
);
ALTER TABLE content_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- What a parser made of a file. The key is a hash of the content's hash, the parser's version and
-- the media type.
CREATE TABLE texts (
    tenant text COLLATE "C" NOT NULL,
    text_key bytea NOT NULL CHECK (octet_length(text_key) = 32),
    title text NOT NULL,
    media_type text NOT NULL,
    page_count integer NOT NULL,
    text text NOT NULL,
    blocks json NOT NULL,
    PRIMARY KEY (tenant, text_key)
);

-- One way of cutting and embedding one text. The key is a hash of the text's key, the chunking and
-- the fingerprint.
CREATE TABLE passage_sets (
    tenant text COLLATE "C" NOT NULL,
    passage_set_key bytea NOT NULL CHECK (octet_length(passage_set_key) = 32),
    fingerprint text NOT NULL,
    passages integer NOT NULL,
    PRIMARY KEY (tenant, passage_set_key)
);
CREATE TABLE passages (
    passage_index integer NOT NULL,
    span_start integer NOT NULL,
    span_end integer NOT NULL,
    page integer NOT NULL,
    tokens integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    passage_set_key bytea NOT NULL,
    heading_path json NOT NULL,
    text text NOT NULL,
    vector bytea,
    sentences bytea,
    PRIMARY KEY (tenant, passage_set_key, passage_index)
) WITH (toast_tuple_target = 4080);
ALTER TABLE passages ALTER COLUMN vector SET STORAGE EXTERNAL;
ALTER TABLE passages ALTER COLUMN sentences SET STORAGE EXTERNAL;

-- References to shared rows are checked at the commit: a document's row is written, and locked,
-- before the rows it shares.
CREATE TABLE documents (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    id text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    media_type text NOT NULL,
    source_uri text NOT NULL,
    payload json NOT NULL,
    state text NOT NULL CHECK (state IN ('ingesting', 'active', 'failed')),
    size_bytes bigint NOT NULL,
    content_sha256 bytea NOT NULL,
    text_key bytea,
    passage_set_key bytea,
    text_characters integer NOT NULL DEFAULT 0,
    passages integer NOT NULL DEFAULT 0,
    title text NOT NULL DEFAULT '',
    ingest_job text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, collection_uid, id),
    CONSTRAINT documents_collection FOREIGN KEY (tenant, collection_uid)
        REFERENCES collections (tenant, uid),
    FOREIGN KEY (tenant, content_sha256) REFERENCES contents (tenant, sha256)
        DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant, text_key) REFERENCES texts (tenant, text_key)
        DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (tenant, passage_set_key) REFERENCES passage_sets (tenant, passage_set_key)
        DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX documents_by_content ON documents (tenant, content_sha256);
CREATE INDEX documents_by_text ON documents (tenant, text_key);
CREATE INDEX documents_by_passage_set ON documents (tenant, passage_set_key);

CREATE TABLE ingest_jobs (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    collection_id text COLLATE "C" NOT NULL,
    document_id text COLLATE "C" NOT NULL,
    state text NOT NULL
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    stage text NOT NULL CHECK (stage IN ('', 'parse', 'chunk', 'embed', 'publish')),
    passages_done integer NOT NULL DEFAULT 0,
    passages_total integer NOT NULL DEFAULT 0,
    error json,
    attempts integer NOT NULL DEFAULT 0,
    lease_owner text NOT NULL DEFAULT '',
    -- Of a running job: when others may take it. Of a queued one: not before this time.
    lease_until timestamptz NOT NULL DEFAULT now(),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    finish_time timestamptz,
    watermark bigint,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX ingest_jobs_waiting ON ingest_jobs (create_time)
    WHERE state IN ('queued', 'running');
CREATE INDEX ingest_jobs_by_time ON ingest_jobs (tenant, create_time, id);
CREATE INDEX ingest_jobs_by_document ON ingest_jobs (tenant, collection_uid, document_id);

CREATE TABLE requests (
    tenant text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    method text NOT NULL,
    payload_sha256 bytea NOT NULL,
    response bytea NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, request_id)
);
CREATE INDEX requests_by_time ON requests (create_time);
