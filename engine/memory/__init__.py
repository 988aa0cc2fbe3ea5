"""What is remembered: the tree of a conversation, and what of it fits a budget of tokens."""
