"""A second index of a collection: mirrored, compared, exchanged with the first."""
