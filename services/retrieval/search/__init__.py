"""A search of a collection: from the request to the answer."""
