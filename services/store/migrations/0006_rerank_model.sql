-- Which model reranks a collection's searches; empty for their stored sentences.

ALTER TABLE collections ADD COLUMN rerank_model text NOT NULL DEFAULT '';
