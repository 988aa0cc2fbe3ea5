-- What answers of language models may cost: of a whole tenant (no session), or of one session.
-- Money is counted in billionths of the currency of the price file.
CREATE TABLE budgets (
    uid uuid NOT NULL,
    limit_nanos bigint NOT NULL CHECK (limit_nanos >= 0),
    limit_tokens bigint NOT NULL CHECK (limit_tokens >= 0),
    spent_nanos bigint NOT NULL DEFAULT 0 CHECK (spent_nanos >= 0),
    spent_tokens bigint NOT NULL DEFAULT 0 CHECK (spent_tokens >= 0),
    reserved_nanos bigint NOT NULL DEFAULT 0 CHECK (reserved_nanos >= 0),
    reserved_tokens bigint NOT NULL DEFAULT 0 CHECK (reserved_tokens >= 0),
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX budgets_by_session ON budgets (tenant, session);

-- What is held for an answer that is being written, a row for each budget that it counts in. A node
-- that dies leaves its rows; when their time is over they are settled as if all had been used.
CREATE TABLE budget_reservations (
    uid uuid NOT NULL,
    budget_uid uuid NOT NULL,
    nanos bigint NOT NULL CHECK (nanos >= 0),
    tokens bigint NOT NULL CHECK (tokens >= 0),
    expire_time timestamptz NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, uid, budget_uid)
);
CREATE INDEX budget_reservations_by_end ON budget_reservations (expire_time);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['budgets', 'budget_reservations'] LOOP
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
