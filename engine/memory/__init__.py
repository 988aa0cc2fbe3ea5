"""Memory as decisions: conversations as trees, what they say, what contradicts what."""
