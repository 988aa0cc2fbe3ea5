-- How a collection's documents are cut, and where a passage lies.

ALTER TABLE collections ADD COLUMN chunk_strategy text NOT NULL DEFAULT 'structure'
    CHECK (chunk_strategy IN ('structure', 'semantic', 'hierarchical'));

-- The pages that a passage lies on: [[page, left, bottom, right, top], [page], ...], the second form
-- where only the page is known. NULL for passages from before this.
ALTER TABLE passages ADD COLUMN places json;

-- What a passage of a hierarchical collection is a part of; the text stands with the first of them.
ALTER TABLE passages ADD COLUMN parent_start integer;
ALTER TABLE passages ADD COLUMN parent_end integer;
ALTER TABLE passages ADD COLUMN parent_text text;
CREATE INDEX passages_by_parent ON passages (tenant, passage_set_key, parent_start)
    WHERE parent_start IS NOT NULL;
