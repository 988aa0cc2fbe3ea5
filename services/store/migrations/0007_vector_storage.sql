-- How the segments of a collection keep its vectors. `points` and `passages` keep them as they came.
ALTER TABLE collections
    ADD COLUMN vector_storage text NOT NULL DEFAULT 'float32'
        CHECK (vector_storage IN ('float32', 'float16', 'int8'));
