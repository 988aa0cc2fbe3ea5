-- What is remembered of subjects, and every change of it.

-- A collection that a service keeps for itself: no list of a tenant's collections has it.
ALTER TABLE collections ADD COLUMN system boolean NOT NULL DEFAULT false;

-- A memory as it is now. `context` is what it was said to, which helps to find it. `slot` names what has one value at a time; the facts of a slot hold one
-- after the other, each from `valid_from` until `valid_to`. One that was merged into another has its
-- id in `merged_into` and is not recalled.
CREATE TABLE memories (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fact', 'preference', 'event', 'task', 'block')),
    label text COLLATE "C" NOT NULL,
    slot text COLLATE "C" NOT NULL,
    value text NOT NULL,
    text text NOT NULL,
    context text NOT NULL,
    importance real NOT NULL CHECK (importance BETWEEN 0 AND 1),
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    happens_at timestamptz,
    learned_at timestamptz NOT NULL,
    expire_time timestamptz,
    session text COLLATE "C" NOT NULL,
    message integer NOT NULL,
    span_start integer NOT NULL,
    span_end integer NOT NULL,
    merged_into text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX memories_by_subject ON memories (tenant, subject, id);
CREATE INDEX memories_by_slot ON memories (tenant, subject, slot) WHERE slot <> '';
CREATE UNIQUE INDEX memories_by_label ON memories (tenant, subject, label) WHERE label <> '';
CREATE INDEX memories_by_session ON memories (tenant, session, message, id) WHERE session <> '';
CREATE INDEX memories_by_expiry ON memories (expire_time) WHERE expire_time IS NOT NULL;

-- Every change, and what the memory was after it: null where it was gone. Rows are only added, until
-- the subject is erased.
CREATE TABLE memory_events (
    tenant text COLLATE "C" NOT NULL,
    memory text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    subject text COLLATE "C" NOT NULL,
    action text NOT NULL,
    event_time timestamptz NOT NULL,
    state json,
    PRIMARY KEY (tenant, memory, version)
);
CREATE INDEX memory_events_by_subject ON memory_events (tenant, subject, memory, version);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['memories', 'memory_events'] LOOP
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
