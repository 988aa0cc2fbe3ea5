"""Long-term memory as decisions: what a turn says, what it contradicts, what counts more."""
