"""From the contract's messages to results, and from arguments to messages."""
