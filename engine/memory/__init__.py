"""Memory as decisions: conversations as trees, what they say, what that contradicts, what counts."""
