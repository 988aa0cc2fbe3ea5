-- Conversations. Messages are never changed: a message that is edited, or an answer that is written
-- anew, is another message after the same parent. They go with their session.
CREATE TABLE sessions (
    uid uuid NOT NULL,
    messages integer NOT NULL DEFAULT 0 CHECK (messages >= 0),
    ttl_s integer NOT NULL CHECK (ttl_s >= 0),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    expire_time timestamptz,
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    payload json NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, uid)
);
CREATE INDEX sessions_by_time ON sessions (tenant, create_time, id);
CREATE INDEX sessions_by_subject ON sessions (tenant, subject, create_time, id);
CREATE INDEX sessions_by_expiry ON sessions (expire_time) WHERE expire_time IS NOT NULL;

-- `index` counts from 1 in the order of appending, `depth` from 1 along a branch. `parent` and `jump`
-- are indexes of ancestors, 0 for none: by jumps (engine/memory/tree.py) any ancestor is found in a
-- number of steps that is logarithmic in the depth.
CREATE TABLE messages (
    session_uid uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    index integer NOT NULL CHECK (index > 0),
    parent integer NOT NULL CHECK (parent >= 0 AND parent < index),
    jump integer NOT NULL CHECK (jump >= 0 AND jump <= parent),
    depth integer NOT NULL CHECK (depth > 0),
    size_bytes integer NOT NULL CHECK (size_bytes >= 0),
    role smallint NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    text text NOT NULL,
    payload json NOT NULL,
    PRIMARY KEY (tenant, session_uid, index),
    FOREIGN KEY (tenant, session_uid) REFERENCES sessions (tenant, uid) ON DELETE CASCADE
);
-- All of them; the condition keeps it from queries that do not ask by parent.
CREATE INDEX messages_by_parent ON messages (tenant, session_uid, parent, index)
    WHERE parent >= 0;

-- What a model made of the messages from the first of a branch up to `message_index`, beside them
-- and never in their place.
CREATE TABLE session_summaries (
    session_uid uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    message_index integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (tenant, session_uid, model, message_index),
    FOREIGN KEY (tenant, session_uid) REFERENCES sessions (tenant, uid) ON DELETE CASCADE
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'messages', 'session_summaries'] LOOP
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
