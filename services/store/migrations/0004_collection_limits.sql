-- What a collection may be asked for, and what was learned of its searches.

-- 0 stands for what the node says.
ALTER TABLE collections
    ADD COLUMN limit_max integer NOT NULL DEFAULT 0 CHECK (limit_max >= 0),
    ADD COLUMN ef_search_max integer NOT NULL DEFAULT 0 CHECK (ef_search_max >= 0),
    ADD COLUMN upsert_points_max integer NOT NULL DEFAULT 0 CHECK (upsert_points_max >= 0),
    ADD COLUMN payload_bytes_max integer NOT NULL DEFAULT 0 CHECK (payload_bytes_max >= 0),
    ADD COLUMN filter_conditions_max integer NOT NULL DEFAULT 0
        CHECK (filter_conditions_max >= 0),
    ADD COLUMN points_max bigint NOT NULL DEFAULT 0 CHECK (points_max >= 0),
    ADD COLUMN bytes_max bigint NOT NULL DEFAULT 0 CHECK (bytes_max >= 0),
    ADD COLUMN searches_per_second double precision NOT NULL DEFAULT 0
        CHECK (searches_per_second >= 0),
    ADD COLUMN writes_per_second double precision NOT NULL DEFAULT 0
        CHECK (writes_per_second >= 0),
    ADD COLUMN recall_sample_share double precision NOT NULL DEFAULT 0.01
        CHECK (recall_sample_share BETWEEN 0 AND 1),
    ADD COLUMN recall_target double precision NOT NULL DEFAULT 0.95
        CHECK (recall_target BETWEEN 0 AND 1);

-- How wide searches by graph look, for each band of selectivity from all points down: candidates,
-- 0 for hnsw_ef_search, -1 for no graph. Nodes read them with the row, so that they answer alike.
ALTER TABLE collections
    ADD COLUMN beams integer[] NOT NULL DEFAULT '{0,0,0,0,0}' CHECK (cardinality(beams) = 5);
