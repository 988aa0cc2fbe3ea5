-- Which sealed files an index of a collection consists of is part of its log: adopting and retiring
-- them is a commit, so two indexes that stand at the same commit have the same files.

-- Every row of the collection whose number is at most this one is in a current segment.
ALTER TABLE heads ADD COLUMN sealed_seq bigint NOT NULL DEFAULT 0;

-- A segment is one immutable file, named by its hash. It is current from commit `adopted_seq` on,
-- until commit `retired_seq`. `sealed_seq` is the collection's as the adopting commit left it.
CREATE TABLE segments (
    collection_uid uuid NOT NULL,
    adopted_seq bigint NOT NULL,
    retired_seq bigint CHECK (retired_seq > adopted_seq),
    sealed_seq bigint NOT NULL CHECK (sealed_seq < adopted_seq),
    rows bigint NOT NULL CHECK (rows >= 0),
    size_bytes bigint NOT NULL CHECK (size_bytes > 0),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    retire_time timestamptz CHECK ((retire_time IS NULL) = (retired_seq IS NULL)),
    tenant text COLLATE "C" NOT NULL,
    reason text NOT NULL CHECK (reason IN ('seal', 'merge', 'compact')),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    PRIMARY KEY (tenant, collection_uid, sha256)
);
CREATE INDEX segments_by_object ON segments (sha256);
CREATE INDEX segments_retired ON segments (retire_time) WHERE retire_time IS NOT NULL;

-- Who builds for a collection, and until when nobody else does. It saves work and decides nothing:
-- what is published is checked against the log.
CREATE TABLE builds (
    tenant text COLLATE "C" NOT NULL,
    collection_uid uuid NOT NULL,
    work text NOT NULL CHECK (work IN ('seal', 'merge')),
    owner text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant, collection_uid, work)
);

-- Objects that no segment names any more and that are about to be deleted. A segment that is here
-- is not adopted: the file may be gone in the next moment.
CREATE TABLE condemned_objects (
    sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32)
);

-- With the id beside it, which rows there are is answered without reading a row.
CREATE INDEX points_by_commit ON points (tenant, collection_uid, seq) INCLUDE (id) WHERE seq > 0;
DROP INDEX points_by_seq;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['segments', 'builds'] LOOP
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

-- An object belongs to whoever names it. Its name is no secret; condemning is for clean-up.
ALTER TABLE condemned_objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE condemned_objects FORCE ROW LEVEL SECURITY;
CREATE POLICY read_by_all ON condemned_objects
    USING (true)
    WITH CHECK ((SELECT current_setting('ragmesh.tenant', true)) = '*');
