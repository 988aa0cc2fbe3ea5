-- A collection's migration: a second index of it, made with another embedding model or other HNSW
-- settings. It is a collection of its own that no name leads to, `{id}/second`, with a log and
-- segments of its own; a mirror writes to it what the log of the collection has. Flipping exchanges
-- the two under the name, and the mirror runs the other way from then on.

SELECT set_config('ragmesh.tenant', '*', true);

-- What documents, jobs and snapshots belong to: it stays when the index under the name is exchanged.
-- In those tables it is still called `collection_uid`.
ALTER TABLE collections ADD COLUMN home_uid uuid;
UPDATE collections SET home_uid = uid;
ALTER TABLE collections ALTER COLUMN home_uid SET NOT NULL;
ALTER TABLE collections ADD CONSTRAINT collections_home UNIQUE (tenant, home_uid);
ALTER TABLE documents DROP CONSTRAINT documents_collection;
ALTER TABLE documents ADD CONSTRAINT documents_collection FOREIGN KEY (tenant, collection_uid)
    REFERENCES collections (tenant, home_uid);

-- Until when a log takes nothing but what the mirror writes: a moment while a migration is flipped,
-- or for good for a second index.
ALTER TABLE heads ADD COLUMN closed_until timestamptz NOT NULL DEFAULT '-infinity';

-- What was before a passage when it was embedded; null for passages from before this was kept.
ALTER TABLE passages ADD COLUMN context text;

-- One row a collection that has a second index. `source_uid` is what the name leads to, `target_uid`
-- what is mirrored to. What the source has up to the two places, of points and of tombstones, the
-- target has.
CREATE TABLE index_migrations (
    tenant text COLLATE "C" NOT NULL,
    home_uid uuid NOT NULL,
    source_uid uuid NOT NULL,
    target_uid uuid NOT NULL,
    points_seq bigint NOT NULL DEFAULT 0,
    points_id text COLLATE "C" NOT NULL DEFAULT '',
    tombstones_seq bigint NOT NULL DEFAULT 0,
    tombstones_id text COLLATE "C" NOT NULL DEFAULT '',
    mirrored_seq bigint NOT NULL DEFAULT 0,
    ready boolean NOT NULL DEFAULT false,
    flipped boolean NOT NULL DEFAULT false,
    problem text NOT NULL DEFAULT '',
    queries integer NOT NULL DEFAULT 0,
    overlap double precision NOT NULL DEFAULT 0,
    recall_before double precision NOT NULL DEFAULT 0,
    recall_after double precision NOT NULL DEFAULT 0,
    lease_owner text NOT NULL DEFAULT '',
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, home_uid)
);
ALTER TABLE index_migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE index_migrations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_only ON index_migrations USING (
    tenant = (SELECT current_setting('ragmesh.tenant', true))
    OR (SELECT current_setting('ragmesh.tenant', true)) = '*');
