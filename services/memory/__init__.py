"""The memory service: what was said, word by word, and what of it a question needs."""
