-- Behind every WHERE: a transaction sees the rows of the tenant it named, and none without one.
-- '*' is for the index tailers, the job queue and clean-up. The subselects are evaluated once a
-- statement instead of once a row.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'collections', 'heads', 'commits', 'points', 'tombstones', 'deleted_collections',
        'contents', 'content_chunks', 'texts', 'passage_sets', 'passages', 'documents',
        'ingest_jobs', 'requests'
    ] LOOP
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
