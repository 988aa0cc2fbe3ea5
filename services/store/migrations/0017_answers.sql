-- Answers, kept for a day. One that is streamed is a log of events, numbered from 1 by ones; its row
-- says who writes it, until when that node has it, and until when somebody on another node reads.
-- `request` and `answer` are messages of the contract; `answer` is null until it is finished.
CREATE TABLE answers (
    last_event_id integer NOT NULL CHECK (last_event_id >= 0),
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    read_until timestamptz NOT NULL DEFAULT '-infinity',
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    finish_time timestamptz,
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    owner text NOT NULL DEFAULT '',
    state text NOT NULL CHECK (state IN ('running', 'finished', 'failed', 'cancelled')),
    request bytea NOT NULL,
    answer bytea,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX answers_running ON answers (owner) WHERE state = 'running';
CREATE INDEX answers_by_age ON answers (create_time);

-- An event without its number, which is the column's.
CREATE TABLE answer_events (
    event_id integer NOT NULL CHECK (event_id > 0),
    tenant text COLLATE "C" NOT NULL,
    answer_id text COLLATE "C" NOT NULL,
    event bytea NOT NULL,
    PRIMARY KEY (tenant, answer_id, event_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['answers', 'answer_events'] LOOP
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
