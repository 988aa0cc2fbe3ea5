"""One chain for every call, whether it came by socket or from a sibling in this process."""
