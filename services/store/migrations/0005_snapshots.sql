-- A snapshot is a collection as it was at a commit: the sealed files of that commit, and one file of
-- its own with which of their rows lived then and with the rows that were in no file yet. It goes
-- with its collection.
CREATE TABLE snapshots (
    collection_uid uuid NOT NULL,
    uid uuid NOT NULL,
    seq bigint NOT NULL,
    change_id uuid NOT NULL,
    points bigint NOT NULL CHECK (points >= 0),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    settings json NOT NULL,
    PRIMARY KEY (tenant, collection_uid, id)
);
CREATE UNIQUE INDEX snapshots_by_uid ON snapshots (tenant, uid);

-- What snapshots need of the object store. Rows stay for a while after their snapshot, until
-- clean-up has condemned what nothing else names.
CREATE TABLE snapshot_objects (
    snapshot_uid uuid NOT NULL,
    rows bigint NOT NULL CHECK (rows >= 0),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    own boolean NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    PRIMARY KEY (tenant, snapshot_uid, sha256)
);
CREATE INDEX snapshot_objects_by_object ON snapshot_objects (sha256);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['snapshots', 'snapshot_objects'] LOOP
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
