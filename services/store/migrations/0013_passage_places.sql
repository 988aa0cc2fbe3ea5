-- The pages that a passage lies on: [[page, left, bottom, right, top], [page], ...], the second form
-- where only the page is known. NULL for passages from before this.

ALTER TABLE passages ADD COLUMN places json;
